"""Two processes that talk over gloo train the model that one process trains, up to the order of sums."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from assay.training.snapshots import read_moments

PROGRAM = """
import sys
from assay.core.errors import AssayError
from assay.data import load_data
from assay.training import Adversarial, TrainSettings, train

source, out, rate = sys.argv[1], sys.argv[2], float(sys.argv[3])
data = load_data(source, split="train").head(65)
settings = TrainSettings(
    epochs=2, batch_size=16, learning_rate=rate, ema=0.9, augment="crop-flip", select="loss", watch=4
)
try:
    run = train(
        Adversarial(eps=0.1, steps=3), data=data, validation=load_data(source).head(41), out=out, settings=settings
    )
except AssayError as error:
    print(type(error).__name__, error, flush=True)
    sys.exit(error.exit_code)
print(run.status, run.id, flush=True)
"""
ROOT = Path(__file__).parents[2]


def launch(data: Path, out: Path, world: int, rate: float = 0.05) -> list[tuple[int, str]]:
    """Run the program as torchrun would, with ``world`` processes: exit code and output of each."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    source = os.pathsep.join([str(ROOT / "src"), os.environ.get("PYTHONPATH", "")])
    common = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": source}
    if world > 1:
        common |= {"WORLD_SIZE": str(world), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    processes = []
    for rank in range(world):
        place = {"RANK": str(rank), "LOCAL_RANK": str(rank), "LOCAL_WORLD_SIZE": str(world)} if world > 1 else {}
        command = [sys.executable, "-c", PROGRAM, str(data), str(out), str(rate)]
        processes.append(subprocess.Popen(command, env={**common, **place}, stdout=subprocess.PIPE, text=True))
    answers = []
    for process in processes:
        with process:
            output, _ = process.communicate(timeout=100)
        answers.append((process.returncode, output.strip()))
    return answers


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory, digits_file: Path) -> tuple[Path, Path]:
    """The same training by one process and by two; of 65 samples the last batch gives one process none."""
    folder = tmp_path_factory.mktemp("processes")
    (alone,) = launch(digits_file, folder / "one", 1)
    pair = launch(digits_file, folder / "two", 2)
    assert [code for code, _ in (alone, *pair)] == [0, 0, 0]
    assert len({output for _, output in (alone, *pair)}) == 1
    return folder / "one", folder / "two"


def test_the_weights_agree_up_to_the_order_of_sums(runs: tuple[Path, Path]) -> None:
    one, two = (load_file(path / "model.safetensors") for path in runs)
    assert one.keys() == two.keys()
    for name in one:
        assert torch.allclose(one[name], two[name], atol=2e-4, rtol=1e-3), name


def test_the_moments_agree(runs: tuple[Path, Path]) -> None:
    one, two = (read_moments(path) for path in runs)
    assert [moment.step for moment in one] == [moment.step for moment in two] == [0, 4, 8, 10]
    for first, second in zip(one, two, strict=True):
        weights, others = load_file(first.file), load_file(second.file)
        assert all(torch.allclose(weights[name], others[name], atol=2e-4, rtol=1e-3) for name in weights)


def test_the_history_agrees(runs: tuple[Path, Path]) -> None:
    one, two = ([json.loads(line) for line in (path / "history.jsonl").read_text().splitlines()] for path in runs)
    for first, second in zip(one, two, strict=True):
        assert first == pytest.approx(second, rel=1e-3)


def test_settings_are_refused_in_every_process(runs: tuple[Path, Path], digits_file: Path) -> None:
    for code, output in launch(digits_file, runs[1], 2, rate=0.01):
        assert code == 2
        assert "RunError" in output
        assert "learning_rate was 0.05 and is 0.01" in output
