"""kill -9 at random moments, the same command again: the same bytes."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

from assay.training.snapshots import files

PROGRAM = """
import sys
import assay
from assay.data import load_data
from assay.training import Trades, TrainSettings, train

data, held_out = load_data(sys.argv[1], split="train"), load_data(sys.argv[1])
settings = TrainSettings(
    epochs=6, batch_size=8, ema=0.9, augment="crop-flip", checkpoint_every=2, select="loss", watch=5
)
print("ready", flush=True)
train(Trades(steps=3), data=data, validation=held_out, out=sys.argv[2], settings=settings)
"""
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}
ENVIRONMENT["PYTHONPATH"] = os.pathsep.join([str(Path(__file__).parents[2] / "src"), os.environ.get("PYTHONPATH", "")])


def start(data: Path, out: Path) -> subprocess.Popen[str]:
    """The training in a process of its own, past its imports."""
    command = [sys.executable, "-c", PROGRAM, str(data), str(out)]
    process = subprocess.Popen(command, env=ENVIRONMENT, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def finish(process: subprocess.Popen[str]) -> int:
    """Wait for the end."""
    with process:
        return process.wait(timeout=100)


def test_killed_trainings_end_with_the_same_bytes(tmp_path: Path, digits_file: Path) -> None:
    assert finish(start(digits_file, tmp_path / "whole")) == 0
    moments, killed = random.Random(0), 0
    while killed < 2:
        process = start(digits_file, tmp_path / "killed")
        checkpoint, seen = tmp_path / "killed/checkpoint.pt", None
        before = checkpoint.stat().st_ino if checkpoint.exists() else None
        while process.poll() is None and seen == before:
            time.sleep(0.002)
            seen = checkpoint.stat().st_ino if checkpoint.exists() else before
        time.sleep(moments.uniform(0, 0.1))
        process.send_signal(signal.SIGKILL)
        if finish(process) == 0:
            break
        killed += 1
    assert killed
    if not (tmp_path / "killed/model.safetensors").exists():
        assert finish(start(digits_file, tmp_path / "killed")) == 0
    moments_kept = {f"moments/{path.name}" for path in (tmp_path / "whole/moments").iterdir()}
    assert moments_kept == set(files(5, 78))
    assert {f"moments/{path.name}" for path in (tmp_path / "killed/moments").iterdir()} == moments_kept
    for name in ("model.safetensors", "history.jsonl", "samples.parquet", *moments_kept):
        assert (tmp_path / "killed" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    assert not list((tmp_path / "killed").glob(".*.tmp"))
