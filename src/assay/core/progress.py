"""Progress: description, bar, count, elapsed and left time on a terminal; silence elsewhere."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.progress import Progress as Bars
    from rich.progress import TaskID


class Task:
    """One stage of work: ``advance`` as it goes on, ``done`` (or leave its ``with``) at its end."""

    def __init__(self, progress: Progress, description: str, total: int | None) -> None:
        self.description = description
        self.total = total
        self.completed = 0
        self._progress = progress
        self._finished = False
        self._started = time.monotonic()
        self._bars = progress.bars
        self._id: TaskID | None = self._bars.add_task(description, total=total) if self._bars else None

    def advance(self, n: int = 1) -> None:
        """``n`` more units are finished."""
        self.completed += n
        if self._bars is not None and self._id is not None:
            self._bars.advance(self._id, n)

    def describe(self, description: str) -> None:
        """Say what is under way now."""
        self.description = description
        if self._bars is not None and self._id is not None:
            self._bars.update(self._id, description=description)

    def done(self) -> None:
        """The stage has ended; calling it twice does no harm."""
        if self._finished:
            return
        self._finished = True
        if self._bars is not None and self._id is not None:
            self._bars.update(self._id, total=max(self.completed, 1), completed=max(self.completed, 1))
            self._bars.stop_task(self._id)
        elif self._progress.verbose:
            seconds = time.monotonic() - self._started
            print(f"{self.description}: {self.completed} in {seconds:.1f} s", file=sys.stderr, flush=True)

    def __enter__(self) -> Task:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error is None:
            self.done()


class Progress:
    """Shows the stages of long work on standard error.

    On a terminal every stage has its bar, count, elapsed time and time left.
    Elsewhere nothing is printed, or one line a finished stage if ``verbose``.

    Args:
        enabled: ``False`` keeps silent.
        verbose: without a terminal, print one plain line for every finished stage.

    >>> with Progress(enabled=False) as progress, progress.task("APGD-CE", total=512) as task:
    ...     task.advance(8)
    >>> task.completed
    8
    """

    def __init__(self, enabled: bool = True, verbose: bool = False) -> None:
        self.enabled = enabled
        self.bars: Bars | None = None
        self.verbose = verbose and enabled

    def task(self, description: str, total: int | None = None) -> Task:
        """Begin a stage of ``total`` units (``None``: not known)."""
        return Task(self, description, total)

    def say(self, text: str) -> None:
        """A line above the bars, or among the plain lines if ``verbose``."""
        if self.bars is not None:
            self.bars.console.print(text, markup=False, highlight=False)
        elif self.verbose:
            print(text, file=sys.stderr, flush=True)

    def __enter__(self) -> Progress:
        if self.enabled and sys.stderr.isatty():
            self.bars = _bars()
            self.bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self.bars is not None:
            self.bars.stop()
            self.bars = None


def _bars() -> Bars:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("elapsed"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        console=Console(stderr=True),
    )
