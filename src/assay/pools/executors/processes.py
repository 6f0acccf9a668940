"""Trains a pool in worker processes of this machine.

The parent hands out units and waits for what the workers say; it neither trains nor polls. A worker that is killed is
replaced, and its unit repeated. Closing a worker's standard input is how it is told to stop, and what it sees when
the parent has been killed: a training under way saves its state, and the worker ends.
"""

from __future__ import annotations

import json
import os
import selectors
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from ...core.errors import RunError
from ...core.files import make_folder, storage_error
from ...core.progress import Progress
from ..units import Unit
from . import in_process
from .tally import ATTEMPTS, Tally

if TYPE_CHECKING:
    from ...training.interrupts import Interrupts
    from ..pool import Pool

WORKER = (sys.executable, "-P", "-m", "assay.pools.worker")
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
MEMORY = {
    "MALLOC_TRIM_THRESHOLD_": str(1 << 30),
    "MALLOC_MMAP_THRESHOLD_": str(1 << 25),
    "MALLOC_TOP_PAD_": str(1 << 26),
}
"""Told to glibc: a worker keeps the memory that it frees. Returned and taken again at every step it costs page faults,
which took a third of the time of small convolutional networks."""
LOGS = "logs"
LAST_LINES = 5
"""Lines of a log that go into an error."""


def cores() -> int:
    """Processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def run(pool: Pool, *, workers: int | None = None, threads: int = 1, progress: Progress | None = None) -> None:
    """Train what is left of a pool in several processes; in this one where one worker is wanted.

    Units that another command trains, on this machine or another, come last.

    Args:
        pool: the pool.
        workers: processes; by default as many as the cores carry with ``threads`` each.
        threads: torch threads of each.
        progress: where progress is shown; nowhere by default.

    Raises:
        Incomplete: stopped by Ctrl-C or SIGTERM; the workers have saved their states.
        InputError: models cannot be trained; the others are finished. RunError where workers died over them.
    """
    from ...training.interrupts import Interrupts

    wanted = workers or max(1, cores() // threads)
    if wanted == 1:
        in_process.run(pool, threads=threads, progress=progress)
        return
    with (
        Tally(pool, progress or Progress(enabled=False)) as tally,
        Interrupts() as interrupts,
        _alarm() as alarm,
        _Crew(tally, wanted, threads, interrupts, alarm) as crew,
    ):
        crew.work()
    tally.settle()


@dataclass(eq=False)
class _Worker:
    """One process and what it is doing."""

    process: subprocess.Popen[bytes]
    orders: IO[bytes]
    reports: IO[bytes]
    log: Path
    log_begins: int
    ready: bool = False
    unit: Unit | None = None
    heard: bytearray = field(default_factory=bytearray)

    def tell(self, unit: Unit) -> None:
        """Hand out a unit; a worker that has just died is noticed when its reports end."""
        self.unit = unit
        with suppress(OSError):
            self.orders.write(json.dumps(unit).encode() + b"\n")

    def release(self) -> None:
        """End its input, which tells it to stop."""
        with suppress(OSError):
            self.orders.close()

    def news(self) -> list[dict[str, Any]] | None:
        """The events that have come; None at the end of the worker."""
        piece = os.read(self.reports.fileno(), 1 << 16)
        if not piece:
            return None
        self.heard += piece
        *lines, rest = self.heard.split(b"\n")
        self.heard = bytearray(rest)
        return [json.loads(line) for line in lines]

    def close(self) -> int:
        """Take leave of a process that has ended or is ending; its exit code."""
        self.release()
        self.reports.close()
        return self.process.wait()

    def last_words(self) -> str:
        """The end of what this worker wrote to its log."""
        with suppress(OSError), self.log.open("rb") as log:
            log.seek(self.log_begins)
            return " | ".join(log.read().decode(errors="replace").strip().splitlines()[-LAST_LINES:])
        return ""


class _Crew:
    """The workers of one command."""

    def __init__(
        self, tally: Tally, wanted: int, threads: int, interrupts: Interrupts, alarm: socket.socket | None
    ) -> None:
        self._tally = tally
        self._wanted = wanted
        self._threads = threads
        self._interrupts = interrupts
        self._alarm = alarm
        self._workers: list[_Worker] = []
        self._started = 0
        self._stillborn = 0
        self._selector = selectors.DefaultSelector()
        if alarm is not None:
            self._selector.register(alarm, selectors.EVENT_READ)

    def __enter__(self) -> _Crew:
        return self

    def __exit__(self, *_: object) -> None:
        """End all workers, whatever they are doing."""
        for worker in self._workers:
            if worker.unit is not None or not worker.ready:
                worker.process.kill()
        for worker in self._workers:
            worker.close()
        self._selector.close()

    def work(self) -> None:
        """Until nothing is left; Incomplete if asked to stop."""
        while self._outstanding():
            if self._interrupts.noted:
                self._stop()
            self._tally.call_back()
            self._hire()
            self._hand_out()
            self._listen(self._tally.patience())
        if self._interrupts.noted:
            self._stop()

    def _outstanding(self) -> int:
        """Units that wait, are under way here, or are under way elsewhere."""
        under_way = sum(worker.unit is not None for worker in self._workers)
        return len(self._tally.waiting) + under_way + len(self._tally.elsewhere)

    def _hire(self) -> None:
        while len(self._workers) < min(self._wanted, self._outstanding()):
            self._workers.append(self._start())
            self._selector.register(self._workers[-1].reports, selectors.EVENT_READ, self._workers[-1])

    def _start(self) -> _Worker:
        folder = self._tally.pool.folder.resolve()
        self._started += 1
        path = make_folder(folder / LOGS) / f"{socket.gethostname()}-{self._started}.txt"
        try:
            log = path.open("ab")
        except OSError as error:
            raise storage_error(error, path) from error
        with log:
            try:
                process = subprocess.Popen(
                    [*WORKER, str(folder), "--threads", str(self._threads)],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=log,
                    bufsize=0,
                    env={**MEMORY, **os.environ, **dict.fromkeys(THREADS, str(self._threads))},
                    start_new_session=True,  # Ctrl-C in the terminal reaches the parent alone, which tells the workers
                )
            except OSError as error:
                raise RunError(
                    f"A worker process cannot be started: {error.strerror}. Use fewer workers, or 'in-process'."
                ) from error
            assert process.stdin is not None
            assert process.stdout is not None
            return _Worker(process, process.stdin, process.stdout, path, log.tell())

    def _hand_out(self) -> None:
        for worker in self._workers:
            if worker.ready and worker.unit is None and self._tally.waiting:
                worker.tell(self._tally.waiting.popleft())
                self._tally.begins(worker.unit or ())

    def _listen(self, patience: float | None = None) -> None:
        """Wait for news of a worker, for a signal, or until there is something to try again."""
        for key, _ in self._selector.select(patience):
            if isinstance(key.data, _Worker):
                self._hear(key.data)
            elif self._alarm is not None:
                self._alarm.recv(64)

    def _hear(self, worker: _Worker) -> None:
        news = worker.news()
        for item in news or ():
            self._note(worker, **item)
        if news is None:
            self._bury(worker)

    def _note(self, worker: _Worker, event: str, models: int = 0, cause: str = "") -> None:
        """One event of a worker."""
        unit, tally = worker.unit, self._tally
        if event == "ready":
            worker.ready, self._stillborn = True, 0
        if unit is None:
            return
        if event == "advance":
            tally.advance(unit, models)
            return
        if event == "done":
            tally.done(unit)
        elif event == "failed":
            tally.failed(unit, f"{cause} (log: {worker.log})")
        elif event == "busy":
            tally.busy(unit)
        if event in ("done", "failed", "busy"):
            worker.unit = None

    def _bury(self, worker: _Worker) -> None:
        """A worker has ended: its unit waits again, and another takes its place."""
        self._workers.remove(worker)
        self._selector.unregister(worker.reports)
        cause = _ending(worker.close())
        words = worker.last_words()
        cause += f"; its last words: {words}" * bool(words)
        if worker.unit is not None and not self._interrupts.noted:
            self._tally.died(worker.unit, cause)
        elif not worker.ready:
            self._stillborn += 1
            if self._stillborn >= ATTEMPTS:
                raise RunError(
                    f"{ATTEMPTS} workers in a row ended before they could begin: {cause}. Their log is {worker.log}. "
                    "Train with the executor 'in-process' to see the cause, or with fewer workers."
                )

    def _stop(self) -> None:
        """Tell every worker to save and end, wait until they have, and raise Incomplete; a second Ctrl-C kills them."""
        for worker in self._workers:
            worker.release()
            if not worker.ready:
                worker.process.kill()
        while self._workers:
            self._listen()
        raise self._tally.stopped()


def _ending(code: int) -> str:
    """How a process ended, in words.

    >>> _ending(-9)
    'killed by SIGKILL, as a system does that runs out of memory'
    """
    if code >= 0:
        return f"exit code {code}"
    word = signal.Signals(-code).name if -code in set(signal.Signals) else f"signal {-code}"
    return f"killed by {word}" + ", as a system does that runs out of memory" * (word == "SIGKILL")


@contextmanager
def _alarm() -> Iterator[socket.socket | None]:
    """A socket that can be read when a signal has come, so that waiting for workers ends; None off the main thread."""
    if threading.current_thread() is not threading.main_thread():
        yield None
        return
    heard, rings = socket.socketpair()
    with heard, rings:
        heard.setblocking(False)
        rings.setblocking(False)
        earlier = signal.set_wakeup_fd(rings.fileno(), warn_on_full_buffer=False)
        try:
            yield heard
        finally:
            signal.set_wakeup_fd(earlier, warn_on_full_buffer=False)
