"""What has been spent: a ledger of private steps, and its file, which is written before a step is computed."""

from __future__ import annotations

import json
import math
import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any

from ..core.errors import RunError, SettingError, Unsupported, did_you_mean
from ..core.files import read_bytes, storage_error
from ..core.settings import number
from .accountants import Steps
from .accounting import check_rate, composed

SCHEMA = 1
SAMPLINGS = ("poisson", "shuffled")
_FIELDS = ("mechanism", "noise_multiplier", "sample_rate", "sampling", "steps")
_TICK = re.compile(rb"(\d{1,18}|-) (fresh|again)")


@dataclass(frozen=True)
class Event:
    """Steps of one kind.

    Args:
        noise_multiplier: the **effective** σ >= 0 of all that a step releases, see ``effective_noise``.
        sample_rate: q in (0, 1].
        sampling: ``poisson``; or ``shuffled``, for which no epsilon is known here.
        steps: how many, at least 0.
        mechanism: ``gaussian``, the only one so far.
    """

    noise_multiplier: float
    sample_rate: float
    sampling: str = "poisson"
    steps: int = 1
    mechanism: str = "gaussian"

    def __post_init__(self) -> None:
        check_rate(self.sample_rate)
        noise, steps = number(self.noise_multiplier, name="noise_multiplier"), number(self.steps, name="steps")
        if noise < 0 or math.isinf(noise):
            raise SettingError(f"Event.noise_multiplier is {noise:g}; allowed: a finite number, at least 0.")
        if steps < 0 or not steps.is_integer():
            raise SettingError(f"Event.steps is {self.steps!r}; allowed: a whole number, at least 0.")
        for field, value, allowed in (
            ("sampling", self.sampling, SAMPLINGS),
            ("mechanism", self.mechanism, ("gaussian",)),
        ):
            if value not in allowed:
                hint = did_you_mean(str(value), allowed)
                raise SettingError(f"Event.{field} is {value!r}; allowed: {', '.join(allowed)}.{hint}")
        object.__setattr__(self, "noise_multiplier", noise)
        object.__setattr__(self, "sample_rate", float(self.sample_rate))
        object.__setattr__(self, "steps", int(steps))


class Ledger:
    """The events of a training, and what they cost together.

    Equal events are kept as one with the sum of their steps: composition does not depend on order.

    >>> ledger = Ledger()
    >>> ledger.charge(Event(noise_multiplier=1.0, sample_rate=0.01), steps=1000)
    >>> round(ledger.epsilon(1e-5), 2)
    2.1
    """

    def __init__(self) -> None:
        self._steps: dict[Event, int] = {}

    @property
    def events(self) -> tuple[Event, ...]:
        """What was charged, in the order of first appearance."""
        return tuple(replace(event, steps=count) for event, count in self._steps.items())

    @property
    def steps(self) -> int:
        """All steps together."""
        return sum(self._steps.values())

    def charge(self, event: Event, steps: int = 1) -> None:
        """Add an event, ``steps`` times."""
        if steps < 0:
            raise SettingError(f"steps is {steps!r}; allowed: at least 0. What is spent cannot be taken back.")
        if event.steps * steps:
            kind = replace(event, steps=1)
            self._steps[kind] = self._steps.get(kind, 0) + event.steps * steps

    def epsilon(self, delta: float, accountant: str = "rdp") -> float:
        """ε of all events together at δ; 0 for an empty ledger, ``inf`` if a step had no noise.

        Raises:
            Unsupported: some batches were not Poisson samples, or ``prv`` cannot compose the steps.
            SettingError, MissingExtra: as ``assay.privacy.epsilon``.
        """
        for event in self.events:
            if event.sampling != "poisson":
                raise Unsupported(
                    f"No epsilon holds for this ledger: {event.steps} steps took {event.sampling} batches. "
                    "The accounting assumes Poisson sampling, where each record takes part by a coin of its own; "
                    "for shuffled batches of fixed size the figure would be wrong. Train with sampling='poisson'."
                )
        steps = [Steps(event.noise_multiplier, event.sample_rate, event.steps) for event in self.events]
        return composed(steps, delta, accountant)

    def as_dict(self) -> dict[str, Any]:
        """Plain values for a record or checkpoint."""
        events = [{field: getattr(event, field) for field in _FIELDS} for event in self.events]
        return {"schema": SCHEMA, "events": events}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Ledger:
        """The ledger that ``as_dict`` wrote.

        Raises:
            RunError: not such a record.
        """
        ledger = cls()
        try:
            if values["schema"] != SCHEMA:
                raise RunError(
                    f"The privacy ledger has the schema {values['schema']!r}; this version of Assay reads {SCHEMA}. "
                    "Read it with the version that wrote it."
                )
            for entry in values["events"]:
                ledger.charge(Event(**entry))
        except (KeyError, TypeError, SettingError) as error:
            raise RunError(f"The privacy ledger is damaged ({error}). Restore it from a copy.") from error
        return ledger

    def __eq__(self, other: object) -> bool:
        return self._steps == other._steps if isinstance(other, Ledger) else NotImplemented

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"Ledger({list(self.events)!r})"


class LedgerFile:
    """A ledger on disk that is charged **before** a step is computed, so that no crash forgets a step.

    ``charge`` appends one line by one write to the operating system; what it wrote survives the death of
    the process (kill -9 included). Against a loss of power, call ``sync`` when a checkpoint is made:
    a later step that the disk lost was lost together with all that came of it.

    **Steps that are taken twice.** After a crash, training goes on from its last checkpoint and repeats the
    steps since. With noise from a seed the repeated step is the same computation on the same weights: the
    same numbers are released again, which tells nobody anything new, and it is counted once per
    (event, stream, step). With fresh noise (``fresh=True``, what a secure source needs) a second look at
    the same batch is a second release, and counts again. Charge as fresh, too, where the repetition is not
    exact: another number of threads or another device changes the last bits of the sums, and the difference
    of two releases with the same noise has no noise. When in doubt, leave the default.

    Lines: a JSON object states the event that the following lines are charged with; ``12 again`` is step 12
    with repeatable noise, ``12 fresh`` with noise of its own, ``- fresh`` a step without a number. A line that
    cannot be read (a write cut short) counts as one more step of the event before it.

    Args:
        path: the file; its folder must exist. Created at the first charge.
        stream: what names the noise, such as the seed; repeats count once only within one stream.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with LedgerFile(folder + "/ledger") as file:
    ...         for step in (0, 1, 1):
    ...             file.charge(Event(1.0, 0.01), step=step, fresh=False)
    ...     file.spent().steps
    2
    """

    def __init__(self, path: str | Path, stream: str = "") -> None:
        self.path = Path(path)
        self.stream = stream
        self._descriptor = -1
        self._current: Event | None = None

    def charge(self, event: Event, *, step: int | None = None, fresh: bool = True) -> None:
        """Write down one step, before it is computed.

        Args:
            event: with ``steps`` 1.
            step: its number; needed unless fresh.
            fresh: the noise is drawn anew if this step is repeated.

        Raises:
            SettingError: more than one step at once, or a repeatable step without a number.
            RunError: the disk refused; the step must not be computed.

        Cost: one system call, about 5 µs.
        """
        if event.steps != 1:
            raise SettingError(f"The event has {event.steps} steps; a ledger file is charged step by step.")
        if not fresh and step is None:
            raise SettingError("A repeatable step needs its number: give step, or charge it as fresh.")
        if step is not None and step < 0:
            raise SettingError(f"step is {step}; allowed: at least 0.")
        line = f"{'-' if step is None else step} {'fresh' if fresh else 'again'}\n"
        if event != self._current:
            kind = {field: getattr(event, field) for field in _FIELDS if field != "steps"}
            line = f"{json.dumps({**kind, 'stream': self.stream}, sort_keys=True)}\n{line}"
        self._append(line.encode())
        self._current = event

    def sync(self) -> None:
        """Make all that was charged survive a loss of power. Cost: one fsync, milliseconds."""
        if self._descriptor >= 0:
            try:
                os.fsync(self._descriptor)
            except OSError as error:
                raise storage_error(error, self.path) from error

    def spent(self) -> Ledger:
        """All that is on disk; an empty ledger where there is no file.

        Raises:
            RunError: the file cannot be read, or steps stand in it without the event that they belong to.
        """
        ledger = Ledger()
        if self.path.exists():
            charged = Counter(self._lines())
            for (event, _, step), times in charged.items():
                ledger.charge(event, times if step is None else 1)
        return ledger

    def close(self) -> None:
        """Sync and let go of the file; charging again opens it again."""
        if self._descriptor >= 0:
            try:
                self.sync()
            finally:
                os.close(self._descriptor)
                self._descriptor, self._current = -1, None

    def __enter__(self) -> LedgerFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _append(self, data: bytes) -> None:
        try:
            if self._descriptor < 0:
                self._descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
                data = b"\n" + data  # ends a line that a dead writer may have left without its end
            while data:
                data = data[os.write(self._descriptor, data) :]
        except OSError as error:
            if self._descriptor >= 0:
                os.close(self._descriptor)  # what was written in part is ended like a dead writer's
            self._descriptor, self._current = -1, None
            raise storage_error(error, self.path) from error

    def _lines(self) -> Iterator[tuple[Event, str, int | None]]:
        """(event, stream, step) of each charge; step None: counts by itself."""
        known: tuple[Event, str] | None = None
        cut = False
        for line in read_bytes(self.path).split(b"\n"):
            if not line:
                continue
            tick = _TICK.fullmatch(line)
            stated = _stated(line)
            if stated is not None:
                known, cut = stated, False
            elif tick is not None and (known is None or cut):
                raise RunError(
                    f"{str(self.path)!r} is damaged: it lists steps without saying what they were. "
                    "What was spent is not known any more; restore the file from a copy, or train in a new folder."
                )
            elif known is not None:
                cut = cut or line.startswith(b"{")
                again = tick is not None and tick[2] == b"again"
                yield (*known, int(line.split()[0]) if again else None)
            # else: cut short before any event stood there, so charge had not returned and no step was computed


def _stated(line: bytes) -> tuple[Event, str] | None:
    """The event and stream that a line states, if it does."""
    if not line.startswith(b"{"):
        return None
    try:
        values = json.loads(line)
        stream = str(values.pop("stream"))
        return Event(**values), stream
    except (ValueError, TypeError, KeyError):
        return None
