"""Two processes that talk over gloo release what one process releases, up to the order of sums."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from assay.data import load_data

PROGRAM = """
import sys
from assay.data import load_data
from assay.privacy.dp_sgd import DPSGD
from assay.training import TrainSettings, train

source, out = sys.argv[1:]
recipe = DPSGD(clip="per-group", count_noise=1, noise_multiplier=0.5, delta=1e-3, backend="layers", snapshots=2)
settings = TrainSettings(epochs=3, batch_size=6, learning_rate=0.2, schedule="constant", augment="crop-flip")
data = load_data(source, split="train")
run = train(recipe, data=data, validation=load_data(source), network="mlp", out=out, settings=settings)
print(run.status, run.id, flush=True)
"""
ROOT = Path(__file__).parents[2]


def launch(data: Path, out: Path, world: int) -> list[tuple[int, str]]:
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
        command = [sys.executable, "-c", PROGRAM, str(data), str(out)]
        processes.append(subprocess.Popen(command, env={**common, **place}, stdout=subprocess.PIPE, text=True))
    answers = []
    for process in processes:
        with process:
            output, _ = process.communicate(timeout=100)
        answers.append((process.returncode, output.strip()))
    return answers


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """40 digits: with 6 expected samples in a batch, a process often has one or none."""
    path = tmp_path_factory.mktemp("data") / "digits.npz"
    train, test = load_data("digits", split="train").head(40), load_data("digits", split="test").head(20)
    np.savez(path, x_train=train.images(), y_train=train.labels, x_test=test.images(), y_test=test.labels)
    return path


def test_two_processes_release_what_one_does(tmp_path: Path, source: Path) -> None:
    """With a rule whose noisy counts have to be agreed on before anyone clips."""
    (alone,) = launch(source, tmp_path / "one", 1)
    pair = launch(source, tmp_path / "two", 2)
    assert [code for code, _ in (alone, *pair)] == [0, 0, 0]
    assert len({output for _, output in (alone, *pair)}) == 1
    for name in ("model.safetensors", "snapshots/step-20.safetensors"):
        one, two = load_file(tmp_path / "one" / name), load_file(tmp_path / "two" / name)
        for key, value in one.items():
            assert torch.allclose(value, two[key], atol=1e-4), (name, key)
    one, two = (json.loads((tmp_path / name / "privacy.json").read_text()) for name in ("one", "two"))
    assert one["ledger"] == two["ledger"]
    assert one["ledger"]["events"][0]["steps"] == 21
    assert one["statement"] == two["statement"]
    for key, value in one["clip"]["state"].items():
        assert two["clip"]["state"][key] == pytest.approx(value, rel=1e-4)
