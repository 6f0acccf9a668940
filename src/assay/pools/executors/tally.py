"""What is left of a pool, what was finished, and what failed: the same account for every executor."""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING

from ...core.errors import AssayError, Incomplete, InputError, RunError
from ...core.progress import Progress
from ..units import Unit

if TYPE_CHECKING:
    from ..pool import Pool

ATTEMPTS = 3
"""How often a unit may lose its process before it is given up."""

SHORTEST, LONGEST = 1.0, 30.0
"""Seconds between two looks at a unit that another command trains."""

NAMED = 10
"""How many models an error lists by number."""


@dataclass(frozen=True)
class Failure:
    """A unit that could not be trained.

    Args:
        unit: its models.
        cause: why, as a sentence.
        died: whether its process died, rather than saying what is wrong.
    """

    unit: Unit
    cause: str
    died: bool = False


class Tally:
    """The units that wait, and what became of the others; a context manager that shows progress.

    Args:
        pool: the pool; its finished models count from the start.
        progress: where progress is shown.

    Attributes:
        waiting: units to train, in order.
        elsewhere: units that another command trains, with the time when to look again.
    """

    def __init__(self, pool: Pool, progress: Progress) -> None:
        finished = pool.finished
        self.pool = pool
        self.progress = progress
        self.models = len(pool)
        self.waiting: deque[Unit] = deque(unit for unit in pool.units() if not finished[list(unit)].all())
        self.elsewhere: dict[Unit, float] = {}
        self.failures: list[Failure] = []
        self._counted = {unit: sum(bool(finished[m]) for m in unit) for unit in self.waiting}
        self._deaths: dict[Unit, int] = {}
        self._pauses: dict[Unit, float] = {}
        self._task = progress.task("models", total=self.models)
        self._task.advance(int(sum(finished)))

    def __enter__(self) -> Tally:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._task.describe("models")
        self._task.done()

    def begins(self, unit: Unit) -> None:
        """A unit is taken up."""
        self._task.describe(f"models (now {name(unit)})")

    def advance(self, unit: Unit, models: int = 1) -> None:
        """``models`` more of a unit are finished."""
        models = min(models, len(unit) - self._counted[unit])
        self._counted[unit] += models
        if models:
            self._task.advance(models)

    def done(self, unit: Unit) -> None:
        """All models of a unit are finished, here or elsewhere."""
        self.advance(unit, len(unit))

    def failed(self, unit: Unit, cause: str) -> None:
        """A unit cannot be trained; the others go on."""
        self.failures.append(Failure(unit, cause))
        self.progress.say(f"{name(unit).capitalize()} cannot be trained: {cause}")

    def busy(self, unit: Unit) -> None:
        """Another command has the unit: it is looked at again after a while, which grows from look to look."""
        pause = self._pauses.get(unit, SHORTEST)
        self._pauses[unit] = min(LONGEST, 2 * pause)
        self.elsewhere[unit] = time.monotonic() + pause

    def call_back(self) -> None:
        """Units that another command has had for a while wait again."""
        for unit, due in list(self.elsewhere.items()):
            if due <= time.monotonic():
                del self.elsewhere[unit]
                self.waiting.append(unit)

    def patience(self) -> float | None:
        """Seconds until a unit is to be called back; None where none is elsewhere."""
        return max(0.0, min(self.elsewhere.values()) - time.monotonic()) if self.elsewhere else None

    def died(self, unit: Unit, cause: str) -> bool:
        """A process died over a unit: whether the unit waits again, first in the row, or is given up."""
        self._deaths[unit] = self._deaths.get(unit, 0) + 1
        if self._deaths[unit] < ATTEMPTS:
            self.waiting.appendleft(unit)
            self.progress.say(f"A worker died over {name(unit)} ({cause}); it is repeated by another.")
            return True
        self.lost(unit, f"{cause}, {ATTEMPTS} times in all")
        return False

    def lost(self, unit: Unit, cause: str) -> None:
        """A unit is given up because its processes die."""
        self.failures.append(Failure(unit, f"its worker died ({cause})", died=True))
        self.progress.say(f"{name(unit).capitalize()} is given up: its worker died ({cause}).")

    def stopped(self) -> Incomplete:
        """The error of a pool that was asked to stop."""
        return Incomplete(
            f"Stopped with {int(sum(self.pool.finished))} of {self.models} models finished; they are kept in "
            f"{str(self.pool.folder)!r}. Repeat the same command to go on."
        )

    def settle(self) -> None:
        """Raise InputError if models could not be trained: how many, which, and the first cause."""
        if not self.failures:
            return
        missing = sorted(m for failure in self.failures for m in failure.unit if not self.pool.finished[m])
        first = self.failures[0]
        listed = ", ".join(map(str, missing[:NAMED])) + ", ..." * (len(missing) > NAMED)
        kind = RunError if first.died else InputError
        raise kind(
            f"{len(missing)} of {self.models} models could not be trained: {listed}. The first cause, at "
            f"{name(first.unit)}: {first.cause.rstrip('.')}. The other models are finished and kept in "
            f"{str(self.pool.folder)!r}; remove the cause and repeat the same command."
        )


def name(unit: Unit) -> str:
    """A unit in words.

    >>> name((7,)), name((4, 5, 6))
    ('model 7', 'models 4 to 6')
    """
    return f"model {unit[0]}" if len(unit) == 1 else f"models {unit[0]} to {unit[-1]}"


def why(error: Exception) -> str:
    """An error as a sentence: what Assay says of its own, and the class and text of any other."""
    return str(error) if isinstance(error, AssayError) else f"{type(error).__name__}: {error}"
