"""What a private training said of itself: ``privacy.json`` of its run folder, read and checked."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..core.errors import InputError, ModelError, RunError
from ..core.files import read_json

if TYPE_CHECKING:
    from .clipping import ClipRule
    from .ledger import Ledger

FILE, RUN = "privacy.json", "run.json"
SCHEMA = 1
CLIP_SETTINGS = ("clip_norm", "upper_norm", "tau", "z_rate", "count_noise", "centred")


@dataclass(frozen=True)
class Snapshot:
    """Weights kept during training.

    Args:
        step: steps taken before.
        file: the weights.
        clip_state: state of the clip rule at that step.
        learning_rate: of that step.
    """

    step: int
    file: Path
    clip_state: dict[str, Any]
    learning_rate: float


@dataclass(frozen=True)
class PrivacyRecord:
    """The record of a private training.

    Args:
        folder: of the run.
        content: the file as it is.
        ledger: every mechanism that was charged.
        delta: δ.
        population: number of training samples, taken as public.
        expected_batch_size: public B.
        sample_rate: q.
        noise_multiplier: σ on the gradients alone.
        sampling: ``"poisson"`` or ``"shuffled"``.
        secure: whether sampling and noise came from the operating system's entropy.
        groups: ``"label"`` or ``"group"``: what the groups of the clip rule were.
        statement: plain sentences on the guarantee.
        snapshots: weights kept during training.
    """

    folder: Path
    content: dict[str, Any]
    ledger: Ledger
    delta: float
    population: int
    expected_batch_size: float
    sample_rate: float
    noise_multiplier: float
    sampling: str
    secure: bool
    groups: str
    statement: tuple[str, ...]
    snapshots: tuple[Snapshot, ...]

    @property
    def steps(self) -> int:
        """Steps charged."""
        return self.ledger.steps

    def rule(self, state: dict[str, Any] | None = None) -> ClipRule:
        """The clip rule as it was when ``state`` was taken; default: at the end of the training."""
        from .rules import clip_rule

        about = self.content["clip"]
        state = about.get("state", {}) if state is None else state
        given = {name: about[name] for name in CLIP_SETTINGS if about.get(name) is not None}
        return clip_rule(str(about["clip"]), **given).with_state(state)


def read_privacy(folder: str | Path | None) -> PrivacyRecord | None:
    """The privacy record of a run folder; ``None`` if the run was no private training.

    Raises:
        ModelError: the file is damaged, or of another version.
    """
    if folder is None or not (Path(folder) / FILE).is_file():
        return None
    path = Path(folder) / FILE
    content = _json(path)
    if not isinstance(content, dict) or content.get("schema") != SCHEMA:
        found = content.get("schema") if isinstance(content, dict) else type(content).__name__
        raise ModelError(
            f"{str(path)!r} is not a privacy record of schema {SCHEMA} (found: {found!r}). "
            "Repeat the 'assay train' command to write it again."
        )
    try:
        record = _record(Path(folder), content)
        record.rule()
    except (KeyError, TypeError, ValueError, InputError) as error:
        reason = f"it lacks {error}" if isinstance(error, KeyError) else str(error)
        raise ModelError(
            f"{str(path)!r} is damaged: {reason}. Nothing can be said of the privacy of this model until the "
            "'assay train' command is repeated."
        ) from error
    return record


def read_training(folder: str | Path) -> dict[str, Any]:
    """The record of the training itself, ``run.json``; empty where there is none.

    Raises:
        ModelError: the file is damaged.
    """
    path = Path(folder) / RUN
    content = _json(path) if path.is_file() else {}
    return content if isinstance(content, dict) else {}


def _json(path: Path) -> Any:
    """A JSON file of a run folder. Its damage is the model's: an audit goes on with its other probes."""
    try:
        return read_json(path)
    except RunError as error:
        raise ModelError(str(error)) from error


def _record(folder: Path, content: dict[str, Any]) -> PrivacyRecord:
    from .ledger import Ledger

    snapshots = tuple(
        Snapshot(int(item["step"]), folder / item["file"], dict(item["clip_state"]), float(item["learning_rate"]))
        for item in content["snapshots"]
    )
    rate, population = float(content["sample_rate"]), int(content["population"])
    record = PrivacyRecord(
        folder=folder,
        content=content,
        ledger=Ledger.from_dict(content["ledger"]),
        delta=float(content["delta"]),
        population=population,
        expected_batch_size=float(content.get("expected_batch_size", rate * population)),
        sample_rate=rate,
        noise_multiplier=float(content["noise_multiplier"]),
        sampling=str(content["sampling"]),
        secure=bool(content["secure"]),
        groups=str(content["groups"]),
        statement=tuple(str(sentence) for sentence in content["statement"]),
        snapshots=snapshots,
    )
    numbers = (record.delta, rate, record.noise_multiplier, record.expected_batch_size)
    if not all(math.isfinite(value) for value in numbers) or not (0 < record.delta < 1 and 0 < rate <= 1):
        raise ValueError(
            f"delta {record.delta}, sample rate {rate}, noise multiplier {record.noise_multiplier} are out of range"
        )
    return record
