"""Units: trained under a lock, to the same bits whatever happens on the way; and the worker process around them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import pytest
import torch

from assay.core.errors import Incomplete
from assay.core.settings import as_dict
from assay.pools.folder import locked, unit_folder
from assay.pools.units import Busy, do_unit
from assay.training import TrainSettings, train
from assay.training.interrupts import Interrupts

from .conftest import BRIEF, weights

LONG = TrainSettings(epochs=30, batch_size=2)
PATIENCE = 300.0


def test_a_unit_is_the_training_of_its_subset(plan, digits, tmp_path):
    pool = plan()
    told = []
    do_unit(pool, (2,), advance=told.append)
    job = pool.job(2)
    earlier = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        run = train(
            "standard",
            data=digits.subset(pool.in_mask[2]),
            out=tmp_path / "alone",
            network="linear",
            settings=BRIEF,
            seed=job.seed,
        )
    finally:
        torch.set_num_threads(earlier)
    assert weights(pool, 2) == [(tmp_path / "alone/model.safetensors").read_bytes()]
    assert json.loads((pool.path(2) / "run.json").read_text())["id"] == run.id
    assert run.settings["training"] == as_dict(BRIEF)
    assert told == [1]
    assert not (pool.path(2) / "checkpoint.pt").exists()
    do_unit(pool, (2,), advance=told.append)
    assert told == [1]


def test_a_unit_that_is_held_is_busy_and_left_alone(plan):
    pool = plan()
    with locked(unit_folder(pool.folder, (1,))):
        with pytest.raises(Busy, match="Another process"):
            do_unit(pool, (1,))
        do_unit(pool, (0,))
    do_unit(pool, (1,))
    assert pool.finished.tolist() == [True, True, False, False]


def test_waiting_for_a_lock_ends_when_it_is_free(tmp_path):
    with locked(tmp_path):
        pass
    with locked(tmp_path, patience=5):
        started = time.monotonic()
        with pytest.raises(Busy), locked(tmp_path, patience=0.3):
            pass
        assert time.monotonic() - started >= 0.3


@pytest.mark.parametrize("fails", [False, True])
def test_threads_are_those_asked_for_and_come_back(plan, monkeypatch, fails):
    pool, seen = plan(), []

    def look(*arguments, **keywords):
        seen.append(torch.get_num_threads())
        if fails:
            raise RuntimeError("broken")
        return train(*arguments, **keywords)

    monkeypatch.setattr("assay.pools.units.train", look)
    before = torch.get_num_threads()
    if fails:
        with pytest.raises(RuntimeError):
            do_unit(pool, (0,), threads=3)
    else:
        do_unit(pool, (0,), threads=3)
    assert (seen, torch.get_num_threads()) == ([3], before)
    with locked(unit_folder(pool.folder, (0,))):
        pass


def test_an_interrupted_unit_goes_on_to_the_same_bits(plan, monkeypatch):
    whole, pool = plan("whole"), plan("stopped")
    asked = iter([False, False, True])
    with monkeypatch.context() as patch:
        patch.setattr(Interrupts, "requested", lambda self, accelerator: next(asked, True))
        with pytest.raises(Incomplete):
            do_unit(pool, (0,))
    assert not pool.is_finished(0)
    for m in range(4):
        do_unit(whole, (m,))
        do_unit(pool, (3 - m,))
    assert weights(pool) == weights(whole)


class Worker:
    """A worker process and its reports."""

    def __init__(self, folder):
        words = [sys.executable, "-m", "assay.pools.worker", str(folder)]
        self.process = subprocess.Popen(
            words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env={**os.environ, "OMP_NUM_THREADS": "1"}
        )

    def tell(self, *unit):
        self.process.stdin.write(json.dumps(unit).encode() + b"\n")
        self.process.stdin.flush()

    def hear(self):
        return json.loads(self.process.stdout.readline())

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.stdin.close()
        self.process.stdout.close()
        self.process.wait()


def wait_for(path):
    ends = time.monotonic() + PATIENCE
    while not path.exists():
        assert time.monotonic() < ends, f"{path} did not come"
        time.sleep(0.01)


def test_a_worker_trains_what_it_is_told_and_ends_with_its_input(plan):
    pool, alone = plan(), plan("alone")
    pool.path(3).parent.mkdir(exist_ok=True)
    pool.path(3).write_text("a file in the way")
    with Worker(pool.folder) as worker:
        assert worker.hear() == {"event": "ready"}
        worker.tell(1)
        assert [worker.hear(), worker.hear()] == [{"event": "advance", "models": 1}, {"event": "done"}]
        worker.tell(3)
        failed = worker.hear()
        assert failed["event"] == "failed"
        assert "0003" in failed["cause"]
        with locked(unit_folder(pool.folder, (2,))):
            worker.tell(2)
            assert worker.hear() == {"event": "busy"}
        worker.process.stdin.close()
        assert worker.process.wait(PATIENCE) == 0
    do_unit(alone, (1,))
    assert weights(pool, 1) == weights(alone, 1)


def test_a_worker_without_a_pool_says_why(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "assay.pools.worker", str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert "holds no pool" in done.stderr


@pytest.mark.parametrize("way", ["kill", "end of input"])
def test_a_worker_that_goes_in_the_middle_loses_nothing(plan, way):
    pool, whole = (plan(name, settings=LONG, models=2) for name in ("pool", "whole"))
    with Worker(pool.folder) as worker:
        assert worker.hear() == {"event": "ready"}
        worker.tell(0)
        wait_for(pool.path(0) / "history.jsonl")
        if way == "kill":
            worker.process.send_signal(signal.SIGKILL)
            assert worker.process.wait(PATIENCE) == -signal.SIGKILL
        else:
            worker.process.stdin.close()
            assert worker.process.wait(PATIENCE) == 3
    assert not pool.is_finished(0)
    assert (pool.path(0) / "checkpoint.pt").exists()
    do_unit(pool, (0,))
    do_unit(whole, (0,))
    assert weights(pool, 0) == weights(whole, 0)
