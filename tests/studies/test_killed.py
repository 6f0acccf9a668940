"""kill -9 at any moment: the same command goes on, and the flags are those of an undisturbed audit."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from assay import load_data
from assay.core.runs import Run
from assay.studies import audit
from assay.studies.suite import parse_suite_text

from .conftest import nearest_mean

SUITE = """
probes:
  - clean-accuracy
  - robust-accuracy: {norm: linf, eps: [4/255, 16/255], attack: apgd-ce, steps: 30}
  - robust-accuracy: {norm: l2, eps: [0.5], attack: apgd-t, steps: 20}
"""

PROGRAM = """
import sys, torch
from torch import nn
from assay import Classification, Target, load_data
from assay.studies import audit
from assay.studies.suite import parse_suite_text

torch.set_num_threads(1)
model = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
model.load_state_dict(torch.load(sys.argv[1], weights_only=True))
audit(Target(model, task=Classification(10)), load_data("digits", limit=36), parse_suite_text(sys.argv[2]),
      out=sys.argv[3], batch_size=int(sys.argv[4]))
"""


def start(weights: Path, out: Path, batch_size: int) -> subprocess.Popen[bytes]:
    words = [sys.executable, "-c", PROGRAM, str(weights), SUITE, str(out), str(batch_size)]
    return subprocess.Popen(words, stderr=subprocess.PIPE)


def pieces(out: Path) -> int:
    """How much is on disk: shards and records."""
    return len(list(out.glob("runs/*/shards/*.npz"))) + len(list(out.glob("runs/*/run.json")))


def killed_at(process: subprocess.Popen[bytes], out: Path, wanted: int, delay: float) -> bool:
    """Kill -9 a moment after ``wanted`` pieces are there; False if the audit ended before."""
    while process.poll() is None and pieces(out) < wanted:
        time.sleep(0.002)
    time.sleep(delay)
    process.send_signal(signal.SIGKILL)
    _, complaint = process.communicate(timeout=60)
    assert process.returncode in (0, -signal.SIGKILL), complaint.decode()
    return process.returncode != 0


def answers(runs: list[Run]) -> list[dict[str, object]]:
    """Every column that says what held and what broke, by run."""
    columns = [name for run in runs for name in run.samples.column_names]
    chosen = {
        name for name in columns if name.split("@")[0] in ("sample_id", "correct", "prediction", "robust", "broken_by")
    }
    return [
        {name: run.samples[name].to_pylist() for name in run.samples.column_names if name in chosen} for run in runs
    ]


@pytest.mark.parametrize("seed", [0])
def test_killed_and_resumed_gives_the_same_flags(seed: int, tmp_path: Path) -> None:
    import torch

    from assay import Classification, Target

    model = nearest_mean()
    torch.save(model.state_dict(), tmp_path / "weights.pt")
    target = Target(model, task=Classification(10))
    undisturbed = audit(
        target, load_data("digits", limit=36), parse_suite_text(SUITE), out=tmp_path / "a", batch_size=36
    )
    chance = random.Random(seed)
    out = tmp_path / "b"
    kills = 0
    for _ in range(2):
        process = start(tmp_path / "weights.pt", out, batch_size=9)
        kills += killed_at(process, out, pieces(out) + chance.randrange(1, 8), chance.random() * 0.05)
    assert kills >= 1
    resumed = audit(target, load_data("digits", limit=36), parse_suite_text(SUITE), out=out, batch_size=9)
    assert resumed.status == "ok"
    assert [run.id for run in resumed.runs] == [run.id for run in undisturbed.runs]
    assert answers(resumed.runs) == answers(undisturbed.runs)
    assert any(not all(flags["robust@l2:0.5"]) for flags in answers(resumed.runs) if "robust@l2:0.5" in flags)
    assert not list(out.rglob("*.tmp"))
    assert json.loads((out / "audit.json").read_text())["status"] == "ok"
