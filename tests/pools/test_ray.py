"""Pools on a real local Ray of two workers: the models of the other executors, whatever dies."""

from __future__ import annotations

import os
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest

from assay import load_data
from assay.core.errors import Incomplete, InputError, MissingExtra, RunError
from assay.core.files import storage_error
from assay.core.progress import Progress, Task
from assay.pools import Pool
from assay.pools.executors import ray as executor
from assay.pools.executors import tally
from assay.pools.folder import locked, unit_folder
from assay.training import TrainSettings

MODELS = 6


def plan(folder: Path) -> Pool:
    return Pool.plan(
        folder,
        data=load_data("digits", limit=160),
        network="mlp",
        settings=TrainSettings(epochs=2, batch_size=32),
        models=MODELS,
        method="sequential",
    )


def weights(pool: Pool) -> list[bytes]:
    return [(pool.path(m) / "model.safetensors").read_bytes() for m in range(len(pool))]


@pytest.fixture(scope="module")
def ray() -> Iterator[Any]:
    """One Ray for all tests of this file: it takes seconds to start."""
    ray = pytest.importorskip("ray", reason="ray is not installed: pip install 'assay-ml[ray]'")
    handler = signal.getsignal(signal.SIGTERM)
    with executor._connected(ray, 2, 1):
        yield ray
    assert not ray.is_initialized()
    assert signal.getsignal(signal.SIGTERM) is handler


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Pool:
    return plan(tmp_path_factory.mktemp("reference")).train("in-process")


@pytest.fixture(scope="module")
def reference(finished: Pool) -> list[bytes]:
    return weights(finished)


def files(pool: Pool) -> set[str]:
    found = {str(path.relative_to(pool.path(0))) for path in pool.path(0).rglob("*") if path.is_file()}
    return found - {".lock"}


class Watched(Progress):
    """Progress that calls back when models are finished."""

    def __init__(self, at: Callable[[int], None]) -> None:
        super().__init__(enabled=False)
        self.at = at

    def task(self, description: str, total: int | None = None) -> Task:
        watched = self

        class Told(Task):
            def advance(self, n: int = 1) -> None:
                super().advance(n)
                watched.at(self.completed)

        return Told(self, description, total)


def test_ray_stays_on_this_machine_and_silent(ray: Any) -> None:
    found = psutil.Process().children(recursive=True)
    servers = [
        item.laddr.ip for child in found for item in child.net_connections("inet") if item.status == psutil.CONN_LISTEN
    ]
    assert servers
    assert {ip.removeprefix("::ffff:") for ip in servers} <= {"127.0.0.1", "::1"}
    assert "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER" not in os.environ
    assert ray._private.ray_constants.ENABLE_RAY_CLUSTER


def test_ray_and_this_process_make_the_same_models(ray: Any, tmp_path: Path, finished: Pool) -> None:
    counts: list[int] = []
    pool = plan(tmp_path).train("ray", workers=2, progress=Watched(counts.append))
    assert weights(pool) == weights(finished)
    assert files(pool) == files(finished)
    assert counts == list(range(MODELS + 1))


def test_a_worker_killed_in_the_middle(ray: Any, tmp_path: Path, reference: list[bytes]) -> None:
    pool, killed = plan(tmp_path), list[int]()
    kept: dict[Path, int] = {}

    def kill(done: int) -> None:
        working = [child for child in psutil.Process().children(recursive=True) if "train_unit" in child.name()]
        if done >= 1 and working and not killed:
            kept.update({path: path.stat().st_mtime_ns for path in tmp_path.glob("models/*/*") if path.is_file()})
            working[-1].send_signal(signal.SIGKILL)
            killed.append(working[-1].pid)

    pool.train("ray", workers=2, progress=Watched(kill))
    assert killed
    assert not psutil.pid_exists(killed[0])
    assert weights(pool) == reference
    assert kept
    assert all(path.stat().st_mtime_ns == then for path, then in kept.items())


def test_a_unit_that_kills_its_workers_is_given_up(
    ray: Any, tmp_path: Path, reference: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = executor.train_unit

    def dying(plan: dict[str, Any], unit: tuple[int, ...], threads: int) -> Any:
        import os
        import signal

        if unit == (2,):
            os.kill(os.getpid(), signal.SIGKILL)
        return honest(plan, unit, threads)

    pool = plan(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(executor, "train_unit", dying)
        patch.setattr(executor, "ATTEMPTS", 1)
        with pytest.raises(RunError, match=r"1 of 6 models .*: 2\. .*at model 2: its worker died \("):
            pool.train("ray", workers=2)
    assert pool.finished.tolist() == [True, True, False, True, True, True]
    assert weights(pool.train("in-process")) == reference


def test_what_breaks_in_a_task_is_told(ray: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(plan: dict[str, Any], unit: tuple[int, ...], threads: int) -> Any:
        return {"models": {}, "cause": "it cannot be" if unit == (0,) else str(1 // (unit[0] - 1)), "stopped": False}

    monkeypatch.setattr(executor, "train_unit", broken)
    with pytest.raises(InputError, match=r"6 of 6 models .*at model [01]: (it cannot be|.*division)") as caught:
        plan(tmp_path).train("ray", workers=1)
    assert not isinstance(caught.value, RunError)


def test_a_full_disk_keeps_what_is_finished(
    ray: Any, tmp_path: Path, reference: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    pool, honest = plan(tmp_path), executor.write_atomic

    def full(path: Path, content: bytes) -> None:
        if path.name == "run.json" and pool.finished.sum() >= 2:
            raise storage_error(OSError(28, "No space left on device"), path)
        honest(path, content)

    with monkeypatch.context() as patch:
        patch.setattr(executor, "write_atomic", full)
        with pytest.raises(InputError, match=r"4 of 6 models .*No space left"):
            pool.train("ray", workers=2)
    assert pool.finished.sum() == 2
    assert weights(pool.train("ray", workers=2)) == reference


def test_a_signal_cancels_what_is_under_way(
    ray: Any, tmp_path: Path, reference: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    pool, before = plan(tmp_path), signal.getsignal(signal.SIGINT)
    with pytest.raises(Incomplete, match=r"[1-5] of 6 models"):
        pool.train(
            "ray", workers=1, progress=Watched(lambda done: signal.raise_signal(signal.SIGINT) if done == 1 else None)
        )
    assert signal.getsignal(signal.SIGINT) is before
    assert 1 <= pool.finished.sum() < MODELS
    assert weights(pool.train("ray", workers=2)) == reference


def test_a_unit_of_another_command_is_waited_for(
    ray: Any, tmp_path: Path, reference: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tally, "SHORTEST", 0.05)
    pool = plan(tmp_path)
    other = locked(unit_folder(pool.folder, (0,)))
    other.__enter__()

    def release(done: int) -> None:
        if done == MODELS - 1:
            assert not pool.is_finished(0)
            other.__exit__(None, None, None)

    assert weights(pool.train("ray", workers=2, progress=Watched(release))) == reference


def test_a_task_needs_its_arguments_alone(tmp_path: Path, finished: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    answer = executor.train_unit(executor.parcel(finished), (3,), 1)
    assert answer == {"models": {3: answer["models"][3]}, "cause": "", "stopped": False}
    assert list(answer["models"][3])[-1] == "run.json"
    assert answer["models"][3]["model.safetensors"] == weights(finished)[3]

    for error, cause, stopped in ((InputError("no"), "no", False), (Incomplete("later"), "", True)):

        def failing(*_: Any, error: Exception = error, **__: Any) -> None:
            raise error

        monkeypatch.setattr(executor, "do_unit", failing)
        answer = executor.train_unit(executor.parcel(finished), (3,), 1)
        assert answer == {"models": {}, "cause": cause, "stopped": stopped}
    assert not list(tmp_path.iterdir())


def test_without_ray(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingExtra, match=r"pip install 'assay-ml\[ray\]'"):
        plan(tmp_path).train("ray")


def test_a_cluster_that_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def init(address: str, **_: Any) -> None:
        raise ConnectionError(f"nothing answers at {address}\nand more")

    absent = SimpleNamespace(is_initialized=lambda: False, init=init, shutdown=lambda: None)
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    with (
        pytest.raises(RunError, match=r"RAY_ADDRESS='10.0.0.1:6379' cannot be reached: nothing answers at 10.0.0.1"),
        executor._connected(absent, 2, 1),
    ):
        pass


def test_a_cluster_of_others_gives_what_it_has() -> None:
    cluster = SimpleNamespace(cluster_resources=lambda: {"CPU": 9.0, "GPU": 2.0})
    assert executor._room(cluster, None, 2) == executor._Room(8, 0.5)
    assert executor._room(cluster, 3, 2) == executor._Room(3, 0.6666)
    assert executor._room(SimpleNamespace(cluster_resources=dict), 1, 1) == executor._Room(1, 0.0)
