"""Executors: the same models whoever trains them; what fails, dies or stops costs nothing that was finished."""

from __future__ import annotations

import errno
import json
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from assay import load_data
from assay.core.errors import Incomplete, InputError, RunError
from assay.core.files import storage_error
from assay.core.progress import Progress, Task
from assay.pools import Pool
from assay.pools.executors import in_process, processes, tally
from assay.pools.folder import locked, unit_folder
from assay.training import TrainSettings
from assay.training import folder as training_folder
from assay.training.interrupts import Interrupts

MODELS = 6


def plan(folder: Path) -> Pool:
    return Pool.plan(
        folder,
        data=load_data("digits", limit=120),
        network="linear",
        settings=TrainSettings(epochs=2, batch_size=32),
        models=MODELS,
        method="sequential",
    )


def weights(pool: Pool) -> list[bytes]:
    return [(pool.path(m) / "model.safetensors").read_bytes() for m in range(len(pool))]


class Watched(Progress):
    """Progress that calls back when models are finished, and remembers what it was told."""

    def __init__(self, at: Callable[[int], None] = lambda done: None) -> None:
        super().__init__(enabled=False)
        self.at = at
        self.said: list[str] = []
        self.seen: list[str] = []
        self.tasks: list[Task] = []

    def say(self, text: str) -> None:
        self.said.append(text)

    def task(self, description: str, total: int | None = None) -> Task:
        watched = self

        class Told(Task):
            def advance(self, n: int = 1) -> None:
                super().advance(n)
                watched.at(self.completed)

            def describe(self, description: str) -> None:
                super().describe(description)
                watched.seen.append(description)

        self.tasks.append(Told(self, description, total))
        return self.tasks[-1]


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    return weights(plan(tmp_path_factory.mktemp("reference")).train("in-process"))


def test_in_process_shows_every_model(tmp_path: Path, reference: list[bytes]) -> None:
    counts: list[int] = []
    progress = Watched(counts.append)
    assert weights(plan(tmp_path).train("in-process", progress=progress)) == reference
    assert counts == [0, 1, 2, 3, 4, 5, 6]
    assert progress.tasks[0].total == MODELS
    assert progress.seen == [*(f"models (now model {m})" for m in range(MODELS)), "models"]


def test_one_worker_is_this_process(tmp_path: Path, reference: list[bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "WORKER", ("there-is-no-such-program",))
    assert weights(plan(tmp_path).train("local", workers=1)) == reference


def test_a_model_that_fails_does_not_stop_the_others(
    tmp_path: Path, reference: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    pool, honest = plan(tmp_path), in_process.do_unit

    def failing(pool: Pool, unit: tuple[int, ...], **words: Any) -> None:
        if unit == (1,):
            raise InputError("The loss became NaN.")
        if unit == (4,):
            raise ZeroDivisionError("division by zero")
        honest(pool, unit, **words)

    with monkeypatch.context() as patch:
        patch.setattr(in_process, "do_unit", failing)
        with pytest.raises(
            InputError, match=r"2 of 6 models .*: 1, 4\. .*at model 1: The loss became NaN\. "
        ) as caught:
            pool.train("in-process")
    assert str(tmp_path) in str(caught.value)
    assert np.array_equal(np.flatnonzero(~pool.finished), [1, 4])
    assert weights(pool.train("in-process")) == reference


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_between_two_models(number: int, tmp_path: Path, reference: list[bytes]) -> None:
    pool, before = plan(tmp_path), signal.getsignal(number)
    progress = Watched(lambda done: signal.raise_signal(number) if done == 2 else None)
    with pytest.raises(Incomplete, match="2 of 6 models"):
        pool.train("in-process", progress=progress)
    assert signal.getsignal(number) is before
    assert pool.finished.sum() == 2
    assert weights(pool.train("in-process")) == reference


def test_a_signal_inside_a_training_is_known_outside() -> None:
    with Interrupts() as outer:
        with Interrupts() as inner:
            signal.raise_signal(signal.SIGTERM)
        assert (inner.noted, outer.noted) == (True, True)
        with Interrupts() as later:
            signal.raise_signal(signal.SIGTERM)
        assert later.noted


def test_a_unit_of_another_command_is_waited_for(
    tmp_path: Path, reference: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    pool = plan(tmp_path)
    other = locked(unit_folder(pool.folder, (0,)))
    other.__enter__()
    slept: list[float] = []

    def sleep(seconds: float) -> None:
        assert pool.finished.tolist() == [False] + [True] * 5
        slept.append(seconds)
        other.__exit__(None, None, None)
        monkeypatch.undo()

    monkeypatch.setattr(time, "sleep", sleep)
    assert weights(pool.train("in-process")) == reference
    assert len(slept) == 1


def test_a_full_disk_keeps_what_is_finished(
    tmp_path: Path, reference: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    pool, honest = plan(tmp_path), training_folder.write_atomic

    def full(path: Path, content: bytes | str) -> None:
        if pool.finished.sum() >= 3 and path.name == "model.safetensors":
            raise storage_error(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), path)
        honest(path, content)

    with monkeypatch.context() as patch:
        patch.setattr(training_folder, "write_atomic", full)
        with pytest.raises(InputError, match=r"3 of 6 models .*No space left on device"):
            pool.train("in-process")
    assert pool.finished.tolist() == [True] * 3 + [False] * 3
    kept = [path.stat().st_mtime_ns for path in sorted(tmp_path.glob("models/000[012]/*"))]
    assert weights(pool.train("in-process")) == reference
    assert kept == [path.stat().st_mtime_ns for path in sorted(tmp_path.glob("models/000[012]/*"))]


# What the parent of worker processes does is tried with workers that only say that they train.

ACTOR = """
import json, os, signal, sys, time
from pathlib import Path

folder = Path(sys.argv[1])
parts = json.loads((folder / "parts.json").read_text())
(folder / f"started-{os.getpid()}").write_text(os.environ["OMP_NUM_THREADS"] + " " + " ".join(sys.argv[2:]))
if "stillborn" in parts:
    print("no such library", file=sys.stderr)
    sys.exit(1)

def tell(**event):
    print(json.dumps(event), flush=True)

def once(name):
    try:
        (folder / name).touch(exist_ok=False)
    except FileExistsError:
        return False
    return True

tell(event="ready")
for line in sys.stdin:
    unit = json.loads(line)
    part = parts.get(str(unit[0]), "done")
    print(part, file=sys.stderr, flush=True)
    if part == "fail":
        tell(event="failed", cause="it cannot be")
    elif part == "die" or part == "die-once" and once(f"died-{unit[0]}"):
        os.kill(os.getpid(), signal.SIGKILL)
    elif part == "busy-once" and once(f"busy-{unit[0]}"):
        tell(event="busy")
    elif part == "last":
        sys.stdin.read()
        (folder / f"saved-{unit[0]}").touch()
        tell(event="stopped")
        sys.exit(3)
    else:
        for m in unit:
            (folder / f"model-{m}").touch()
        tell(event="advance", models=1)
        tell(event="done")
"""


class Stage:
    """A pool for actors: a model is finished when its file is there."""

    def __init__(self, folder: Path, models: int = 6, group: int = 1, **parts: str) -> None:
        self.folder, self.models, self.group = folder, models, group
        (folder / "parts.json").write_text(json.dumps({name.strip("m"): part for name, part in parts.items()}))
        (folder / "actor.py").write_text(ACTOR)

    def __len__(self) -> int:
        return self.models

    def units(self) -> list[tuple[int, ...]]:
        return [tuple(range(k, k + self.group)) for k in range(0, self.models, self.group)]

    @property
    def finished(self) -> np.ndarray:
        return np.array([(self.folder / f"model-{m}").exists() for m in range(self.models)])

    @property
    def hired(self) -> int:
        return len(list(self.folder.glob("logs/*")))

    def run(self, monkeypatch: pytest.MonkeyPatch, workers: int | None = 2, **words: Any) -> Watched:
        monkeypatch.setattr(processes, "WORKER", (sys.executable, "-I", str(self.folder / "actor.py")))
        progress = words.pop("progress", Watched())
        pool: Any = self
        processes.run(pool, workers=workers, progress=progress, **words)
        return progress


def test_the_parent_hands_out_every_unit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stage = Stage(tmp_path, models=7)
    (tmp_path / "model-3").touch()
    progress = stage.run(monkeypatch, threads=3)
    assert stage.finished.all()
    assert progress.tasks[0].completed == 7
    assert sorted(word for word in progress.seen if "now" in word) == [
        f"models (now model {m})" for m in (0, 1, 2, 4, 5, 6)
    ]
    assert stage.hired == 2
    assert {path.read_text() for path in tmp_path.glob("started-*")} == {"3 --threads 3"}


def test_no_more_workers_than_units(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stage = Stage(tmp_path, models=4, group=2)
    progress = stage.run(monkeypatch, workers=8)
    assert stage.hired == 2
    assert progress.tasks[0].completed == 4
    assert stage.run(monkeypatch).tasks[0].completed == 4
    assert stage.hired == 2


def test_a_worker_that_dies_is_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stage = Stage(tmp_path, m2="die-once")
    progress = stage.run(monkeypatch)
    assert stage.finished.all()
    assert 2 <= stage.hired <= 3  # the other worker may have done all else in the meantime, and take it
    assert len(progress.said) == 1
    assert "died over model 2 (killed by SIGKILL" in progress.said[0]


def test_a_unit_that_kills_its_workers_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stage = Stage(tmp_path, m1="die")
    with pytest.raises(RunError, match=r"1 of 6 models .*: 1\. .*SIGKILL.*last words: .*die, 3 times in all"):
        stage.run(monkeypatch)
    assert stage.finished.tolist() == [True, False, True, True, True, True]
    assert 3 <= stage.hired <= 5


def test_a_unit_that_fails_is_told_in_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stage = Stage(tmp_path, m0="fail", m5="fail")
    with pytest.raises(InputError, match=r"2 of 6 models .*: 0, 5\. .*at model [05]: it cannot be \(log: ") as caught:
        stage.run(monkeypatch)
    assert not isinstance(caught.value, RunError)
    assert stage.finished.tolist() == [False, True, True, True, True, False]
    assert stage.hired == 2


def test_a_busy_unit_comes_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tally, "SHORTEST", 0.01)
    stage = Stage(tmp_path, m0="busy-once")
    progress = stage.run(monkeypatch)
    assert stage.finished.all()
    assert progress.seen.count("models (now model 0)") == 2


def test_workers_that_cannot_begin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stage = Stage(tmp_path, stillborn="")
    with pytest.raises(RunError, match=r"3 workers in a row .*exit code 1.*no such library"):
        stage.run(monkeypatch)
    assert 3 <= stage.hired <= 5
    monkeypatch.setattr(processes, "WORKER", (str(tmp_path / "nothing"),))
    pool: Any = stage
    with pytest.raises(RunError, match="cannot be started: No such file"):
        processes.run(pool, workers=2)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_workers_save_when_the_parent_is_told_to_stop(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage, before = Stage(tmp_path, m2="last", m3="last"), signal.getsignal(number)
    honest = tally.Tally.begins

    def begins(self: tally.Tally, unit: tuple[int, ...]) -> None:
        honest(self, unit)
        if unit == (3,):
            signal.raise_signal(number)

    monkeypatch.setattr(tally.Tally, "begins", begins)
    with pytest.raises(Incomplete, match="2 of 6 models"):
        stage.run(monkeypatch)
    assert {path.name for path in tmp_path.glob("saved-*")} == {"saved-2", "saved-3"}
    assert signal.getsignal(number) is before
    assert signal.set_wakeup_fd(-1) == -1


def test_a_second_signal_does_not_wait(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stage = Stage(tmp_path, m0="last", m1="last")
    (tmp_path / "actor.py").write_text(ACTOR.replace("sys.stdin.read()", "time.sleep(600)"))
    stopping = processes._Crew._stop

    def stop(self: Any) -> None:
        signal.raise_signal(signal.SIGINT)
        stopping(self)

    monkeypatch.setattr(processes._Crew, "_stop", stop)
    monkeypatch.setattr(tally.Tally, "begins", lambda self, unit: unit == (1,) and signal.raise_signal(signal.SIGINT))
    with pytest.raises(KeyboardInterrupt):
        stage.run(monkeypatch)


def test_the_default_number_of_workers(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(processes, "cores", lambda: 7)
    stage = Stage(tmp_path, models=12)
    stage.run(monkeypatch, workers=None, threads=2)
    assert stage.hired == 3
