"""Members and non-members of a model under examination, as far as its record and the data at hand tell."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..core.errors import AssayError, DataError, Incomplete, SettingError
from ..core.probes import Finding
from .asking import plan_pool
from .trained_as import BUILT_IN, Training, same_data, trained_as, training_data
from .universe import Universe, join

if TYPE_CHECKING:
    from ..core.progress import Progress
    from ..data.dataset import Dataset
    from ..pools.pool import Pool
    from ..subjects.examination import Examination

QUICK = 30.0  # seconds of one processor, below which starting other processes costs more than it saves
LARGER = "assay members audit --model MODEL --data TRAINING-DATA --nonmembers OTHER-DATA"


@dataclass(frozen=True, eq=False, kw_only=True)
class Sides:
    """What an attack on an examined model works on.

    Args:
        universe: members and non-members.
        training: how the model was trained.
        findings: where the records come from.
        expected: seconds of one processor that shadow models take, by the record of the model's own training.
    """

    universe: Universe
    training: Training
    findings: list[Finding] = field(default_factory=list)
    expected: float = 0.0

    def pool(self, root: Path, *, shadows: int, design: str, seed: int, progress: Progress) -> Pool:
        """The pool of shadow models, trained; one model after another, so that no timing decides about their weights.

        Raises:
            KeyboardInterrupt: it was stopped; finished models are kept.
        """
        pool = plan_pool(
            root, self.universe, self.training, shadows=shadows, design=design, seed=seed, method="sequential"
        )
        train_pool(pool, executor="in-process" if self.expected < QUICK else "local", progress=progress)
        return pool


def train_pool(pool: Pool, *, progress: Progress | None = None, **how: Any) -> None:
    """Train what is missing of a pool; an interruption stays one, so that a study keeps its work and stops."""
    try:
        pool.train(progress=progress, **how)
    except Incomplete as error:
        raise KeyboardInterrupt from error


def sides_of(
    examination: Examination,
    members: str | None,
    members_split: str,
    *,
    shadows: int,
    seconds: float | None = None,
    command: str = LARGER,
) -> Sides | str:
    """Members and non-members of the examined model, or why there are none, as the end of a sentence.

    Args:
        examination: of the model.
        members: the training data as ``--data`` takes them; None: as the record of the training names them.
        members_split: which split of them.
        shadows: models that are to be trained.
        seconds: what they may take of one processor, judged by the record of the model's own training; None: any.
        command: that does the same with everything named, for the reasons.
    """
    training = trained_as(examination.target.folder)
    if isinstance(training, str):
        return _not_known(training, command)
    known = training_data(training) if members is None else _load(members, members_split)
    if known is None:
        return _not_known(
            f"the training data ({training.data.get('name', 'unknown')!r}) are not built in, and nobody said where "
            "they are (set members to the file or folder)",
            command,
        )
    others = _nonmembers(examination.data, known)
    try:
        universe = join(known, others)
    except DataError as error:
        return f"members and other records cannot be compared: {error}"
    expected = shadows * len(universe) / 2 / max(1, len(known)) * training.seconds
    if seconds is not None and expected > seconds:
        return (
            f"by the record of the model's own training ({training.seconds:,.0f} s), {shadows} shadow models would "
            f"take about {expected:,.0f} s of one processor, and {seconds:,.0f} s are granted here. "
            f"Use: {command} --shadows {shadows}"
        )
    findings = [_who(examination.data, others), *_remarks(training, known)]
    return Sides(universe=universe, training=training, findings=findings, expected=expected)


@contextmanager
def work_folder(examination: Examination) -> Iterator[Path]:
    """Where pools are kept; a folder that goes away where the examination names none."""
    if examination.work is not None:
        yield examination.work
        return
    with tempfile.TemporaryDirectory(prefix="assay-pools-") as folder:
        yield Path(folder)


def _not_known(reason: str, command: str) -> str:
    return (
        f"{reason}, and an attack can only be judged by records whose truth is known. Name the training data and data "
        f"that were not used: {command} --recipe RECIPE"
    )


def _load(spec: str, split: str) -> Dataset:
    from ..data import load_data

    try:
        return load_data(spec, split=split)
    except DataError as error:
        if "not divided into splits" not in str(error):
            raise
        return load_data(spec)


def pinned(spec: str, split: str, digest: str | None, *, name: str) -> str:
    """Checksum of the data that a setting names; SettingError where it is not the one that is asked for."""
    seen = _load(spec, split).digest
    if digest not in (None, seen):
        raise SettingError(
            f"{name}_digest is {digest!r}, but the data in {spec!r} have {seen!r}: these are other "
            "data. Leave the digest out to take them as they are."
        )
    return seen


def _nonmembers(data: Dataset, members: Dataset) -> Dataset:
    """The examined data; where they are the first part of a built-in split, all of that split."""
    from ..data import load_data

    if data.source not in BUILT_IN or data.split == members.split:
        return data
    try:
        whole = load_data(data.source, split=data.split)
    except AssayError:
        return data
    known = len(whole) > len(data) and whole.head(len(data)).digest == data.digest
    return whole if known else data


def _who(data: Dataset, nonmembers: Dataset) -> Finding:
    more = f", the {len(data):,} that the rest of the audit examined among them" if len(nonmembers) > len(data) else ""
    return Finding(
        code="non-members",
        severity="info",
        message=f"{len(nonmembers):,} records of {nonmembers.name!r} ({nonmembers.split}) serve as those that were not "
        f"used in training{more}.",
        value=float(len(nonmembers)),
    )


def _remarks(training: Training, members: Dataset) -> list[Finding]:
    found = [Finding(code="shadows-differ", severity="info", message=remark) for remark in training.remarks]
    if training.data and not same_data(members, training.data):
        found.append(
            Finding(
                code="other-training-data",
                severity="warning",
                message=f"The record of the training names {training.data.get('n', 0):,} records of "
                f"{training.data.get('name')!r} with another checksum than the {len(members):,} that were given as "
                "members: some of these may be no members, which makes the attack look weaker than it is.",
                remedy="Give the data that the model was trained on, in the same form.",
            )
        )
    return found
