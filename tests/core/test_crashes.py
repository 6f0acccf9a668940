"""kill -9 at any moment: what was finished is kept, and the same command ends with the same result."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from assay.core.runs import Run, load_run

from .recording import run_to_the_end

ROOT = Path(__file__).resolve().parents[2]
CHILD = (
    "import sys, tests.core.recording as r\n"
    "from assay.core.shards import Shards\n"
    "put = Shards.put\n"
    "def told(self, key, /, **arrays):\n"
    "    put(self, key, **arrays)\n"
    "    print(key, flush=True)\n"
    "Shards.put = told\n"
    "r.run_to_the_end(sys.argv[1])\n"
)


def result(run: Run) -> tuple[object, ...]:
    """What must not depend on how often a run was stopped."""
    keep = ("id", "settings", "metrics", "findings", "figures", "files", "status")
    return tuple(json.dumps(run.record[name], sort_keys=True) for name in keep)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> tuple[object, ...]:
    folder = tmp_path_factory.mktemp("undisturbed")
    run_to_the_end(folder)
    return result(load_run(folder))


def test_a_run_killed_at_each_of_its_writes(tmp_path: Path, undisturbed: tuple[object, ...]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.core.crash", str(tmp_path)], capture_output=True, text=True, cwd=ROOT, check=False
    )
    assert done.returncode == 0, done.stderr
    # record, 5 shards, samples, 2 figure files, 2 gallery files, record: fsync, rename and fsync each
    assert json.loads(done.stdout)["killed"] >= 30
    for folder in tmp_path.iterdir():
        assert result(load_run(folder)) == undisturbed


def test_a_run_killed_at_random_moments(tmp_path: Path, undisturbed: tuple[object, ...]) -> None:
    chance = random.Random(0)
    kept: set[str] = set()
    for wanted in (1, 2, 1):
        child = subprocess.Popen(
            [sys.executable, "-c", CHILD, str(tmp_path)], stdout=subprocess.PIPE, text=True, cwd=ROOT
        )
        assert child.stdout is not None
        told = [child.stdout.readline().strip() for _ in range(wanted)]
        time.sleep(chance.uniform(0, 0.002))
        child.send_signal(signal.SIGKILL)
        told += child.stdout.read().split()
        child.stdout.close()
        child.wait()
        # what was announced once is never computed again
        assert not kept & set(told)
        kept |= set(filter(None, told))
    run_to_the_end(tmp_path)
    assert result(load_run(tmp_path)) == undisturbed


def test_a_lock_ends_with_its_process(tmp_path: Path) -> None:
    script = (
        "import sys, time, tests.core.recording as r\n"
        "writer = r.open_run(sys.argv[1])\n"
        "print('open', flush=True)\n"
        "time.sleep(60)\n"
    )
    child = subprocess.Popen([sys.executable, "-c", script, str(tmp_path)], stdout=subprocess.PIPE, text=True, cwd=ROOT)
    assert child.stdout is not None
    assert child.stdout.readline().strip() == "open"
    blocked = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True, cwd=ROOT, check=False
    )
    child.kill()
    child.wait()
    child.stdout.close()
    assert "Another process is writing" in blocked.stderr
    run_to_the_end(tmp_path)
    assert np.all(load_run(tmp_path).samples["sample_id"].to_numpy() == np.arange(20))
