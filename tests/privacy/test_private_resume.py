"""A private training that is stopped loses no bit and no budget: what was charged stays charged."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from assay.core.errors import Incomplete, RunError
from assay.core.runs import Run, load_run
from assay.core.settings import build
from assay.data import Dataset, load_data
from assay.privacy import LedgerFile
from assay.privacy.dp_sgd import DPSGD
from assay.privacy.mechanism import PrivateGradient
from assay.subjects import load_target
from assay.training import TrainSettings, train
from assay.training.recipe import Halted
from assay.training.state import TrainState

STEPS = 3 * 5
SETTINGS = {"epochs": 8, "batch_size": 10, "ema": 0.9, "augment": "crop-flip", "checkpoint_every": 3}
RECIPE = {"clip": "global-adapt", "noise_multiplier": 1.0, "delta": 1e-3, "backend": "layers", "snapshots": 5}
PROGRAM = f"""
import sys
from assay.data import load_data
from assay.privacy.dp_sgd import DPSGD
from assay.training import TrainSettings, train

data = load_data(sys.argv[1], split="train")
print("ready", flush=True)
train(DPSGD(**{RECIPE}), data=data, out=sys.argv[2], settings=TrainSettings(**{SETTINGS}))
"""
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}
ENVIRONMENT["PYTHONPATH"] = os.pathsep.join([str(Path(__file__).parents[2] / "src"), os.environ.get("PYTHONPATH", "")])


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return load_data("digits", split="train").head(100)


def short_training(out: Path, data: Dataset, recipe: dict[str, object] | None = None) -> Run:
    """3 epochs of 5 steps, with checkpoints after 4, 5, 8, 10, 12 and 15."""
    settings = {"epochs": 3, "batch_size": 20, "learning_rate": 0.5, "checkpoint_every": 4}
    chosen = {"clip": "global-adapt", "backend": "layers", "delta": 1e-3, "snapshots": 4, **(recipe or {})}
    return train(build(DPSGD, chosen), data=data, network="mlp", out=out, settings=build(TrainSettings, settings))


@pytest.fixture
def go(digits: Dataset):
    return lambda out, recipe=None: short_training(out, digits, recipe)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, digits: Dataset) -> Path:
    """The training that nothing interrupts."""
    out = tmp_path_factory.mktemp("whole")
    short_training(out, digits)
    return out


def stop_at(monkeypatch: pytest.MonkeyPatch, step: int, where: str) -> None:
    """Die at a step: once it is charged, or once it is computed but not yet applied."""

    def dead(*args: object) -> None:
        raise OSError("the machine is gone")

    if where == "computed":
        apply = TrainState.apply
        monkeypatch.setattr(
            TrainState, "apply", lambda state, scalars: dead() if state.step == step else apply(state, scalars)
        )
    else:
        release = PrivateGradient.step
        monkeypatch.setattr(
            PrivateGradient,
            "step",
            lambda self, *batch: dead() if self.steps == step else release(self, *batch),
        )


def spent(out: Path) -> int:
    return LedgerFile(out / "ledger.jsonl").spent().steps


def same(first: Path, second: Path) -> bool:
    names = sorted(str(path.relative_to(first)) for path in first.glob("snapshots/*"))
    names += ["model.safetensors", "history.jsonl", "privacy.json"]
    return all((first / name).read_bytes() == (second / name).read_bytes() for name in names)


@pytest.mark.parametrize("where", ["charged", "computed"])
@pytest.mark.parametrize("step", [0, 4, 9, STEPS - 1])
def test_a_crash_changes_no_bit_and_is_charged_once(
    go, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int, where: str
) -> None:
    with monkeypatch.context() as context:
        stop_at(context, step, where)
        with pytest.raises(OSError, match="gone"):
            go(tmp_path / "halved")
    assert spent(tmp_path / "halved") == step + 1
    run = go(tmp_path / "halved")
    assert same(whole, tmp_path / "halved")
    assert spent(tmp_path / "halved") == STEPS
    assert run.metric("epsilon@rdp").value == load_run(whole).metric("epsilon@rdp").value


def test_fresh_noise_is_charged_again(go, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The last checkpoint is that of the epoch, after 5 steps; the two after it are taken twice."""
    with monkeypatch.context() as context:
        stop_at(context, 6, "computed")
        with pytest.raises(OSError, match="gone"):
            go(tmp_path, {"secure": True})
    assert spent(tmp_path) == 7
    run = go(tmp_path, {"secure": True})
    found = json.loads((tmp_path / "privacy.json").read_text())
    assert found["steps"] == spent(tmp_path) == STEPS + 2
    assert found["ledger"]["events"][0]["steps"] == STEPS + 2
    assert found["secure"]
    assert run.metric("epsilon@rdp").value == found["epsilon"]["rdp"]


def test_a_spent_budget_ends_the_training_and_keeps_the_model(
    go, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, digits: Dataset
) -> None:
    recipe = {"secure": True, "epsilon": 3.0}
    with monkeypatch.context() as context:
        stop_at(context, 6, "computed")
        with pytest.raises(OSError, match="gone"):
            go(tmp_path, recipe)
    for _ in range(2):  # repeating the command spends nothing
        with pytest.raises(Halted, match=r"budget is spent before step 14 of 15: 15 steps were charged") as caught:
            go(tmp_path, recipe)
        assert caught.value.exit_code == 2
        assert spent(tmp_path) == STEPS
    assert load_run(tmp_path).status == "failed"
    target = load_target(f"run:{tmp_path}", image_shape=digits.shape)
    assert target.predict(torch.from_numpy(digits.images())).shape == (100, 10)
    found = json.loads((tmp_path / "privacy.json").read_text())
    assert found["steps"] == STEPS
    assert found["epsilon"]["rdp"] <= 3.0


def test_a_lost_ledger_is_written_again_from_the_checkpoint(
    go, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as context:
        stop_at(context, 9, "computed")
        with pytest.raises(OSError, match="gone"):
            go(tmp_path)
    (tmp_path / "ledger.jsonl").unlink()
    go(tmp_path)
    assert spent(tmp_path) == STEPS


def test_other_privacy_settings_are_refused_by_name(go, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as context:
        stop_at(context, 9, "computed")
        with pytest.raises(OSError, match="gone"):
            go(tmp_path)
    with pytest.raises(RunError, match=r"recipe\.noise_multiplier was None and is 0\.5"):
        go(tmp_path, {"noise_multiplier": 0.5})
    with pytest.raises(RunError, match=r"recipe\.delta was 0\.001 and is 0\.0001"):
        go(tmp_path, {"delta": 1e-4})
    assert spent(tmp_path) == 10


def test_ctrl_c_keeps_threshold_backend_and_ledger(go, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The backend that was chosen is used again, although another would be chosen now."""
    from assay.tensors.gradients import engine

    go(tmp_path / "whole", {"backend": "vmap"})
    apply = TrainState.apply
    with monkeypatch.context() as context:
        context.setattr(engine, "choose", lambda *_: "vmap")
        context.setattr(
            TrainState,
            "apply",
            lambda state, scalars: (
                signal.raise_signal(signal.SIGINT) if state.step == 6 else None,
                apply(state, scalars),
            )[1],
        )
        with pytest.raises(Incomplete):
            go(tmp_path / "halved", {"backend": "auto"})
    saved = torch.load(tmp_path / "halved/checkpoint.pt", weights_only=True)["state"]["companion"]
    assert (saved["backend"], saved["charged"]) == ("vmap", 7)
    assert saved["rule"]["z"] != 50.0
    monkeypatch.setattr(engine, "choose", lambda *_: pytest.fail("it was chosen again"))
    go(tmp_path / "halved", {"backend": "auto"})
    for name in ("model.safetensors", "history.jsonl"):
        assert (tmp_path / "halved" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    assert json.loads((tmp_path / "halved/privacy.json").read_text())["backend"] == "vmap"


def test_killed_trainings_end_with_the_same_bytes_and_the_same_ledger(tmp_path: Path, digits: Dataset) -> None:
    source = tmp_path / "digits.npz"
    np.savez(source, x_train=digits.images(), y_train=digits.labels, x_test=digits.images(), y_test=digits.labels)

    def start(out: Path) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", PROGRAM, str(source), str(out)]
        process = subprocess.Popen(command, env=ENVIRONMENT, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        return process

    def finish(process: subprocess.Popen[str]) -> int:
        with process:
            return process.wait(timeout=100)

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    settings, data = build(TrainSettings, SETTINGS), load_data(str(source), split="train")
    train(build(DPSGD, RECIPE), data=data, out=tmp_path / "whole", settings=settings)
    torch.set_num_threads(threads)
    moments, killed, out = random.Random(0), 0, tmp_path / "killed"
    while killed < 2:
        process = start(out)
        ledger = out / "ledger.jsonl"
        before = spent(out)
        size = ledger.stat().st_size if ledger.exists() else 0
        while process.poll() is None and (not ledger.exists() or ledger.stat().st_size == size):
            time.sleep(0.002)
        time.sleep(moments.uniform(0, 0.05))
        process.send_signal(signal.SIGKILL)
        if finish(process) == 0:
            break
        killed += 1
        assert spent(out) > before
    assert killed
    if not (out / "model.safetensors").exists():
        assert finish(start(out)) == 0
    assert same(tmp_path / "whole", out)
    assert spent(out) == spent(tmp_path / "whole") == 80
