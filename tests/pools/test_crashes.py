"""kill -9 of workers and of their parent: what was finished is untouched, and the models are those of a quiet day."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from assay import load_data
from assay.core.progress import Progress, Task
from assay.pools import Pool
from assay.training import TrainSettings

MODELS = 8
PARENT = """
import sys
from assay.core.progress import Progress, Task
from assay.pools import Pool

advance = Task.advance
def told(self, n=1):
    advance(self, n)
    print(self.completed, flush=True)
Task.advance = told
Pool.open(sys.argv[1]).train("local", workers=2)
"""


def plan(folder: Path, epochs: int = 6) -> Pool:
    return Pool.plan(
        folder,
        data=load_data("digits", limit=160),
        network="mlp",
        settings=TrainSettings(epochs=epochs, batch_size=32),
        models=MODELS,
        method="sequential",
    )


def weights(pool: Pool) -> list[bytes]:
    return [(pool.path(m) / "model.safetensors").read_bytes() for m in range(len(pool))]


def traces(pool: Pool) -> dict[str, tuple[int, bytes]]:
    """When every file of the finished models was written, and what is in it."""
    files = [path for m in range(len(pool)) if pool.is_finished(m) for path in pool.path(m).rglob("*")]
    return {str(path): (path.stat().st_mtime_ns, path.read_bytes()) for path in files if path.is_file()}


def workers_of(process: psutil.Process) -> list[psutil.Process]:
    found = []
    for child in process.children():
        with suppress(psutil.ZombieProcess, psutil.NoSuchProcess):
            found += [child] * ("assay.pools.worker" in child.cmdline())
    return found


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    return weights(plan(tmp_path_factory.mktemp("reference")).train("in-process"))


class Killer(Progress):
    """Kills one of this process's workers whenever one of the given numbers of models is finished."""

    def __init__(self, pool: Pool, at: list[int], chance: random.Random) -> None:
        super().__init__(enabled=False)
        self.pool, self.at, self.chance = pool, at, chance
        self.kept: dict[str, tuple[int, bytes]] = {}
        self.killed = 0

    def task(self, description: str, total: int | None = None) -> Task:
        killer = self

        class Told(Task):
            def advance(self, n: int = 1) -> None:
                super().advance(n)
                if killer.at and self.completed >= killer.at[0]:
                    killer.at.pop(0)
                    killer.kill()

        return Told(self, description, total)

    def kill(self) -> None:
        victims = workers_of(psutil.Process())
        if victims:
            self.chance.choice(victims).kill()
            self.killed += 1
            self.kept |= traces(self.pool)


@pytest.mark.parametrize("seed", [0])
def test_killed_workers_cost_nothing(seed: int, tmp_path: Path, reference: list[bytes]) -> None:
    chance, pool = random.Random(seed), plan(tmp_path)
    killer = Killer(pool, sorted(chance.sample(range(1, MODELS), 2)), chance)
    pool.train("local", workers=2, progress=killer)
    assert killer.killed == 2
    assert weights(pool) == reference
    now = traces(pool)
    assert killer.kept
    assert all(now[name] == trace for name, trace in killer.kept.items())
    assert not list(tmp_path.rglob("*.tmp"))


def test_a_killed_parent_takes_its_workers_along(tmp_path: Path, reference: list[bytes]) -> None:
    pool = plan(tmp_path)
    words = [sys.executable, "-c", PARENT, str(tmp_path)]
    parent = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert parent.stdout is not None
    while parent.stdout.readline() not in (b"2\n", b""):
        pass
    workers = workers_of(psutil.Process(parent.pid))
    parent.kill()
    _, complaint = parent.communicate(timeout=60)
    assert parent.returncode == -signal.SIGKILL, complaint.decode()
    assert len(workers) == 2
    assert not psutil.wait_procs(workers, timeout=60)[1]
    kept = traces(pool)
    assert 2 <= pool.finished.sum() < MODELS
    assert weights(pool.train("in-process")) == reference
    now = traces(pool)
    assert all(now[name] == trace for name, trace in kept.items())


def test_a_worker_saves_its_state_at_the_end_of_its_orders(tmp_path: Path) -> None:
    pool = plan(tmp_path, epochs=100_000)
    worker = subprocess.Popen(
        [sys.executable, "-m", "assay.pools.worker", str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert worker.stdin is not None
    assert worker.stdout is not None
    worker.stdin.write(b"[3]\n")
    worker.stdin.flush()
    history = pool.path(3) / "history.jsonl"
    while worker.poll() is None and not history.exists():
        time.sleep(0.02)
    worker.stdin.close()
    told = [json.loads(line) for line in worker.stdout.read().splitlines()]
    worker.stdout.close()
    assert worker.wait(timeout=60) == 3
    assert told == [{"event": "ready"}, {"event": "stopped"}]
    assert json.loads((pool.path(3) / "run.json").read_text())["status"] == "incomplete"
    assert (pool.path(3) / "checkpoint.pt").exists()
