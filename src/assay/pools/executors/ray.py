"""Trains a pool on a Ray cluster, or on a local Ray that is started for it.

Plan and data go into Ray's object store once. A unit is a task: it lays out a pool of its own in a temporary folder,
trains, and returns the files of the finished models, which the driver writes; no shared disk is needed. A killed
worker repeats its unit and nothing else.
"""

from __future__ import annotations

import logging
import os
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ...core.errors import Incomplete, MissingExtra, RunError
from ...core.files import make_folder, read_bytes, read_json, write_atomic
from ...core.progress import Progress
from ...core.runs import RECORD as RUN_RECORD
from ..folder import DATA, MEMBERSHIP, RECORD, UNITS, locked, unit_folder
from ..pool import Pool
from ..units import Busy, Unit, do_unit
from .processes import cores
from .tally import ATTEMPTS, Tally, why

if TYPE_CHECKING:
    from ...training.interrupts import Interrupts

WAIT = 1.0
"""Seconds after which a signal is noticed at the latest."""

GRACE = 10.0
"""Seconds that cancelled tasks have to end by themselves."""


def run(pool: Pool, *, workers: int | None = None, threads: int = 1, progress: Progress | None = None) -> None:
    """Train what is left of a pool through Ray.

    Uses the Ray that this process is connected to; else the cluster that ``RAY_ADDRESS`` names; else a local one on
    the loopback interface, which is started and shut down here. Every node needs Assay, and no shared disk.

    Args:
        pool: the pool.
        workers: models trained at a time; by default as many as the cores of the cluster carry.
        threads: torch threads of each, and Ray's CPUs of a task.
        progress: where progress is shown; nowhere by default.

    Raises:
        MissingExtra: Ray is not installed.
        Incomplete: stopped by Ctrl-C or SIGTERM; the tasks under way are cancelled.
        InputError: models cannot be trained; the others are finished. RunError where workers died over them, or
            the cluster cannot be reached.
    """
    from ...training.interrupts import Interrupts

    try:
        import ray
    except ImportError:
        raise MissingExtra("ray", "ray", "The executor 'ray'") from None
    with Tally(pool, progress or Progress(enabled=False)) as tally:
        if tally.waiting:
            with _connected(ray, workers, threads) as room, Interrupts() as interrupts:
                try:
                    _Driver(ray, tally, room, threads, interrupts).work()
                except ray.exceptions.RayError as error:
                    raise RunError(
                        f"The Ray cluster failed: {_first_line(error)}. Finished models are kept in "
                        f"{str(pool.folder)!r}; repeat the command when the cluster works again."
                    ) from error
    tally.settle()


@dataclass(frozen=True)
class _Room:
    """What a cluster has to offer.

    Args:
        tasks: how many to have under way, those included that Ray has not begun.
        gpus: share of a GPU for each; 0 where the cluster has none.
    """

    tasks: int
    gpus: float


@contextmanager
def _connected(ray: Any, workers: int | None, threads: int) -> Iterator[_Room]:
    """A connection to Ray; what was begun here ends here."""
    if ray.is_initialized():
        yield _room(ray, workers, threads)
        return
    main = threading.current_thread() is threading.main_thread()
    handler = signal.getsignal(signal.SIGTERM)  # Ray puts its own there
    try:
        _connect(ray, workers or max(1, cores() // threads), threads)
        yield _room(ray, workers if os.environ.get("RAY_ADDRESS") else None, threads)
    finally:
        ray.shutdown()
        if main and handler is not None:
            signal.signal(signal.SIGTERM, handler)


def _connect(ray: Any, workers: int, threads: int) -> None:
    """Join the cluster of ``RAY_ADDRESS``, or start a Ray of one's own."""
    address = os.environ.get("RAY_ADDRESS", "")
    quiet = {"log_to_driver": False, "logging_level": logging.ERROR}
    try:
        if address:
            ray.init(address=address, **quiet)
        else:
            with _alone(ray):
                ray.init(address="local", num_cpus=workers * threads, include_dashboard=False, **quiet)
    except Exception as error:  # Ray raises the bare class where its processes are late
        where = f"The Ray cluster at RAY_ADDRESS={address!r} cannot be reached" if address else "Ray cannot be started"
        raise RunError(
            f"{where}: {_first_line(error)}. Check the address and that Ray runs there, or train with executor='local'."
        ) from error


def _room(ray: Any, workers: int | None, threads: int) -> _Room:
    """As many tasks as are wanted; else two for each that fits, so that no core waits for the driver."""
    resources = ray.cluster_resources()
    fits = workers or max(1, int(resources.get("CPU", 1)) // threads)
    gpus = min(1.0, int(1e4 * resources.get("GPU", 0) / fits) / 1e4)
    return _Room(workers or 2 * fits, gpus)


@contextmanager
def _alone(ray: Any) -> Iterator[None]:
    """Inside, Ray starts without reports to its makers, and with servers that listen on 127.0.0.1 alone.

    The latter is its own switch for systems on which it forms no clusters; no argument of ``ray.init`` does it.
    """
    switches = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
    earlier = {name: os.environ.get(name) for name in switches}
    constants = ray._private.ray_constants
    clusters = getattr(constants, "ENABLE_RAY_CLUSTER", None)
    os.environ.update(switches)
    constants.ENABLE_RAY_CLUSTER = False
    try:
        yield
    finally:
        constants.ENABLE_RAY_CLUSTER = clusters
        for name, value in earlier.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


class _Driver:
    """Hands out units as tasks, and writes the models that come back."""

    def __init__(self, ray: Any, tally: Tally, room: _Room, threads: int, interrupts: Interrupts) -> None:
        self._ray = ray
        self._tally = tally
        self._room = room
        self._threads = threads
        self._interrupts = interrupts
        self._plan = ray.put(parcel(tally.pool))
        options = {"num_cpus": threads, "num_gpus": room.gpus, "max_retries": ATTEMPTS - 1}
        self._task = ray.remote(**options)(train_unit)
        self._under_way: dict[Any, tuple[Unit, Callable[[], object]]] = {}

    def work(self) -> None:
        """Until nothing is left; Incomplete if asked to stop."""
        tally = self._tally
        try:
            while tally.waiting or self._under_way or tally.elsewhere:
                if self._interrupts.noted:
                    raise tally.stopped()
                tally.call_back()
                while tally.waiting and len(self._under_way) < self._room.tasks:
                    self._submit(tally.waiting.popleft())
                self._await()
            if self._interrupts.noted:
                raise tally.stopped()
        finally:
            self._cancel()

    def _submit(self, unit: Unit) -> None:
        """Begin a task; the unit's lock is held here until its models are written."""
        with ExitStack() as stack:
            try:
                stack.enter_context(locked(unit_folder(self._tally.pool.folder, unit)))
            except Busy:
                self._tally.busy(unit)
                return
            left = tuple(m for m in unit if not self._tally.pool.is_finished(m))
            if not left:
                self._tally.done(unit)
                return
            self._tally.begins(unit)
            reference = self._task.remote(self._plan, left, self._threads)
            self._under_way[reference] = (unit, stack.pop_all().close)

    def _await(self) -> None:
        """Take what has come, or return after a while."""
        patience = self._tally.patience()
        timeout = WAIT if patience is None else min(WAIT, patience)
        if not self._under_way:
            time.sleep(timeout)
            return
        ready, _ = self._ray.wait(list(self._under_way), num_returns=1, timeout=timeout)
        for reference in ready:
            unit, release = self._under_way.pop(reference)
            try:
                self._take(unit, reference)
            finally:
                release()

    def _take(self, unit: Unit, reference: Any) -> None:
        """What came of a task."""
        tally, errors = self._tally, self._ray.exceptions
        try:
            answer = self._ray.get(reference)
        except errors.RayTaskError as error:
            tally.failed(unit, _first_line(error.cause or error))
            return
        except errors.RayError as error:
            tally.lost(unit, f"{_first_line(error)}; tried {ATTEMPTS} times")
            return
        try:
            for model, files in answer["models"].items():
                bring_home(tally.pool, model, files)
                tally.advance(unit)
        except RunError as error:
            tally.failed(unit, why(error))
            return
        if answer["stopped"]:
            tally.died(unit, "stopped by a signal")
        elif answer["cause"]:
            tally.failed(unit, answer["cause"])
        else:
            tally.done(unit)

    def _cancel(self) -> None:
        """End the tasks under way: politely, then not."""
        if not self._under_way:
            return
        tasks = list(self._under_way)
        try:
            with suppress(self._ray.exceptions.RayError):
                for task in tasks:
                    self._ray.cancel(task)
                _, late = self._ray.wait(tasks, num_returns=len(tasks), timeout=GRACE)
                for task in late:
                    self._ray.cancel(task, force=True)
        finally:
            for _, release in self._under_way.values():
                release()
            self._under_way.clear()


def parcel(pool: Pool) -> dict[str, np.ndarray]:
    """The plan and the data of a pool: name in its folder -> bytes, uint8 [size]."""
    names = [RECORD, MEMBERSHIP, UNITS, *(f"{DATA}/{path.name}" for path in sorted((pool.folder / DATA).glob("*.*")))]
    found = {}
    for name in names:
        path = pool.folder / name
        if path.is_file() and path.stat().st_size and not path.name.startswith("."):
            found[name] = np.asarray(np.memmap(path, dtype=np.uint8, mode="r"))
    return found


def train_unit(plan: dict[str, np.ndarray], unit: Unit, threads: int) -> dict[str, Any]:
    """Train a unit in a folder of its own: the task that Ray runs.

    Returns:
        ``models``: model -> name -> bytes of its run, for each that was finished; ``cause``: why others were not, or
        ``""``; ``stopped``: whether a signal ended it.
    """
    with tempfile.TemporaryDirectory(prefix="assay-pool-", ignore_cleanup_errors=True) as place:
        for name, content in plan.items():
            path = Path(place, name)
            path.parent.mkdir(parents=True, exist_ok=True)
            content.tofile(path)
        cause, stopped = "", False
        pool = Pool.open(place)
        try:
            do_unit(pool, unit, threads=threads)
        except Incomplete:
            stopped = True
        except Exception as error:
            cause = why(error)
        models = {m: _files(pool.path(m)) for m in unit if pool.is_finished(m)}
        return {"models": models, "cause": cause, "stopped": stopped}


def _files(folder: Path) -> dict[str, bytes]:
    """The files of a finished run, the record last."""
    names = [*read_json(folder / RUN_RECORD)["files"], RUN_RECORD]
    return {name: read_bytes(folder / name) for name in names}


def bring_home(pool: Pool, model: int, files: dict[str, bytes]) -> None:
    """Write a model that was trained elsewhere into its folder, in the order given: the record comes last.

    Raises:
        RunError: the disk is full; the model counts as finished only when it is whole.
    """
    for name, content in files.items():
        path = pool.path(model) / name
        make_folder(path.parent)
        write_atomic(path, content)


def _first_line(error: BaseException) -> str:
    """The gist of an error of Ray, whose texts are long."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[0] if lines else type(error).__name__).rstrip(".")
