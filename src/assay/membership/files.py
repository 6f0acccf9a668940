"""Answers and scores in files, written by whoever could ask the models; plain numbers only, nothing is unpickled.

An ``.npz`` archive holds what reference models and a target answered to N records, K queries each (K may be left out):

    reference_logits [M, N, K, C]   in_mask [M, N]   target_logits [N, K, C]   labels [N]
    member [N]                      where the truth is known
    population_reference_logits [M, Z, K, C], population_target_logits [Z, K, C], population_labels [Z]   for RMIA
    groups [N], class_names [C], sample_ids [N]                                                          for the report

or ``_probabilities`` in the place of ``_logits``, or ``_predictions``: the predicted classes alone, without the axis
C. A ``.csv`` file, or an archive without answers, holds finished scores: numbers [N], larger for members.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..core.errors import DataError, did_you_mean
from ..data.request import listed, shown
from .tables import Table, numbers, open_table, truths

if TYPE_CHECKING:
    from .signals import Answers

KINDS = ("logits", "probabilities", "predictions")
BESIDE = ("member", "labels", "groups", "class_names", "sample_ids")
_POPULATION = ("population_reference", "population_target")


@dataclass(frozen=True, kw_only=True, eq=False)
class Precomputed:
    """What a file of answers or scores holds.

    Args:
        name: of the file.
        kind: ``"logits"``, ``"probabilities"``, ``"predictions"`` or ``"scores"``.
        answers: of reference models and target; None where there are finished scores.
        scores: float64 [N] by name, larger means member; empty where there are answers.
        member: bool [N], the truth; None where the file does not hold it.
        labels: int64 [N], classes of the records, or None.
        groups: text [N], or None.
        class_names: one a class, or none.
        sample_ids: int64 [N], or None.
    """

    name: str
    kind: str
    answers: Answers | None = None
    scores: Mapping[str, np.ndarray] = field(default_factory=dict)
    member: np.ndarray | None = None
    labels: np.ndarray | None = None
    groups: np.ndarray | None = None
    class_names: tuple[str, ...] = ()
    sample_ids: np.ndarray | None = None

    def __len__(self) -> int:
        if self.answers is not None:
            return len(self.answers.labels)
        return len(next(iter(self.scores.values())))


@dataclass(frozen=True, kw_only=True)
class TargetAnswers:
    """Answers of a model that nobody here holds.

    Args:
        members, nonmembers: logits or probabilities [n, C] or [n, K, C], or predicted classes [n] or [n, K].
        kind: ``"logits"``, ``"probabilities"`` or ``"labels"``.
        name: of the file.
    """

    members: np.ndarray
    nonmembers: np.ndarray
    kind: str
    name: str


def read_precomputed(path: str | Path, *, member: str | None = None) -> Precomputed:
    """Read answers of reference models and a target, or finished scores.

    Args:
        path: an .npz archive, or a .csv or .tsv table, as the module describes them.
        member: array or column that tells the truth, or another file that holds it; default: ``member``, if it
            is there.

    Raises:
        DataError: the file is damaged, hostile or too large, or arrays do not fit together.
    """
    with open_table(path) as table:
        truth = _truth(table, member)
        kind = _kind_of(table)
        beside = _beside(table, without=member)
        if kind is None:
            scores = _scores(table, without=member)
            found = Precomputed(name=table.name, kind="scores", scores=scores, member=truth, **beside)
        else:
            answers = _answers(table, kind)
            found = Precomputed(name=table.name, kind=kind, answers=answers, member=truth, **beside)
    for name, values in {"member": truth, **beside}.items():
        if values is not None and name != "class_names" and len(values) != len(found):
            raise DataError(
                f"{shown(path)}: {name} tells of {len(values):,} records, and there are {len(found):,} of them."
            )
    return found


def read_target_answers(path: str | Path, members: int, nonmembers: int) -> TargetAnswers:
    """Read what a model answered to the members' records and to the others.

    Args:
        path: an .npz archive with ``logits``, ``probabilities`` or ``labels`` (predicted classes) of the members'
            records followed by the others, or each in an array of its own: ``member_logits``,
            ``nonmember_logits``; or a .csv table with columns ``logit_0``, ``logit_1`` ..., ``probability_0`` ..., or
            ``label``, a row for each record.
        members: how many records of members there are.
        nonmembers: how many others.

    Raises:
        DataError: the file is damaged or hostile, or does not fit the records.
    """
    with open_table(path) as table:
        kind, parts = _named_answers(table)
        arrays = [_class_numbers(table, part) if kind == "labels" else numbers(table, part) for part in parts]
    wanted = members + nonmembers
    if len(arrays) == 1:
        if not arrays[0].ndim or len(arrays[0]) != wanted:
            raise DataError(
                f"{table.where}: there are {kind} for {_rows(arrays[0]):,} records, and {wanted:,} are needed: "
                f"{members:,} of --data, then {nonmembers:,} of --nonmembers, in their order."
            )
        arrays = [arrays[0][:members], arrays[0][members:]]
    for array, number, role in zip(arrays, (members, nonmembers), ("members", "non-members"), strict=True):
        if _rows(array) != number:
            raise DataError(
                f"{table.where}: there are {kind} for {_rows(array):,} {role}, and {number:,} of their records."
            )
    return TargetAnswers(members=arrays[0], nonmembers=arrays[1], kind=kind, name=table.name)


def _rows(array: np.ndarray) -> int:
    return len(array) if array.ndim else 1


def _named_answers(table: Table) -> tuple[str, list[str | list[str]]]:
    """The kind of answers of a target alone, and the arrays that hold them: one for all, or members and others."""
    columns = {
        kind: table.numbered(f"{singular}_")
        for kind, singular in (("logits", "logit"), ("probabilities", "probability"))
    }
    for kind in ("logits", "probabilities", "labels"):
        if f"member_{kind}" in table and f"nonmember_{kind}" in table:
            return kind, [f"member_{kind}", f"nonmember_{kind}"]
        if kind in table:
            return kind, [kind]
        if columns.get(kind):
            return kind, [columns[kind]]
    if "label" in table:
        return "labels", ["label"]
    raise DataError(
        f"{table.where} holds no answers: logits, probabilities or labels (predicted classes) are needed, or "
        f"member_logits and nonmember_logits. It has {listed(table.names)}."
    )


def _kind_of(table: Table) -> str | None:
    """The kind of answers that an archive holds, or None for finished scores."""
    found = [kind for kind in KINDS if f"reference_{kind}" in table or f"target_{kind}" in table]
    if len(found) > 1:
        raise DataError(f"{table.where} holds answers of two kinds, {found[0]} and {found[1]}. Keep one of them.")
    if found:
        for name in (f"reference_{found[0]}", "in_mask", f"target_{found[0]}", "labels"):
            table.need(name, "answers of reference models and a target")
        return found[0]
    near = [name for name in table.names if name.startswith(("reference", "target", "population"))]
    if near:
        known = [f"{role}_{kind}" for role in ("reference", "target") for kind in KINDS]
        raise DataError(f"{table.where} has an array {near[0]!r}.{did_you_mean(near[0], known)}")
    return None


def _answers(table: Table, kind: str) -> Answers:
    from . import signals

    read = _class_numbers if kind == "predictions" else numbers
    reference, mask, target = read(table, f"reference_{kind}"), truths(table, "in_mask"), read(table, f"target_{kind}")
    population: dict[str, Any] = {}
    if kind != "predictions":
        population = {role: numbers(table, f"{role}_{kind}") for role in _POPULATION if f"{role}_{kind}" in table}
        if "population_labels" in table:
            population["population_labels"] = _class_numbers(table, "population_labels")
    labels = _class_numbers(table, "labels")
    try:
        if kind == "predictions":
            return signals.answers_from_labels(reference, mask, target, labels)
        make = signals.answers_from if kind == "logits" else signals.answers_from_probabilities
        return make(reference, mask, target, labels, **population)
    except DataError as error:
        raise DataError(f"{table.where}: {error}") from None


def _class_numbers(table: Table, name: str | list[str]) -> np.ndarray:
    values = numbers(table, name)
    if values.size and (not np.isfinite(values).all() or (values != np.floor(values)).any() or values.min() < 0):
        raise DataError(f"{table.where} [{name}] must hold class numbers: 0, 1, 2 ...")
    if values.size and values.max() >= 1_000_000:
        raise DataError(f"{table.where} [{name}] holds the class number {values.max():.0f}, which is too large.")
    return values.astype(np.int64)


def _truth(table: Table, member: str | None) -> np.ndarray | None:
    if member is None:
        return truths(table, "member") if "member" in table else None
    if member in table:
        return truths(table, member)
    if Path(member).is_file():
        with open_table(member) as other:
            name = "member" if "member" in other else other.only("the truth on membership", "member")
            return truths(other, name)
    raise DataError(
        f"{table.where} has no {member!r} (--member), and there is no file of that name."
        f"{did_you_mean(member, table.names)} It has {listed(table.names)}."
    )


def _beside(table: Table, *, without: str | None) -> dict[str, Any]:
    """Labels, groups and names, as far as they are there."""
    found: dict[str, Any] = {}
    label = next((name for name in ("labels", "label") if name in table and name != without), None)
    if label:
        found["labels"] = _class_numbers(table, label)
    group = next((name for name in ("groups", "group") if name in table and name != without), None)
    if group:
        found["groups"] = table.text(group)
    ids = next((name for name in ("sample_ids", "sample_id", "id") if name in table and name != without), None)
    if ids:
        found["sample_ids"] = _whole_numbers_or_none(table, ids)
    if "class_names" in table:
        found["class_names"] = tuple(table.text("class_names").tolist())
    return found


def _whole_numbers_or_none(table: Table, name: str) -> np.ndarray | None:
    """int64 [N], or None where samples have names of another kind."""
    values = table.get(name)
    if values.dtype.kind not in "iuf" or values.ndim != 1:
        return None
    whole = values.astype(np.int64) if np.isfinite(values).all() and (np.abs(values) < 2**53).all() else values
    return whole if whole is not values and (whole == values).all() else None


def _scores(table: Table, *, without: str | None) -> dict[str, np.ndarray]:
    """Every column of numbers that is not known to be something else."""
    aside = {*BESIDE, "label", "group", "sample_id", "id", without}
    names = [name for name in table.names if name not in aside]
    found = {}
    for name in names:
        values = numbers(table, name) if table.is_numeric(name) else None
        if values is None:
            continue
        if values.ndim != 1 or not values.size:
            raise DataError(
                f"{table.where} [{name}] has the shape {list(values.shape)}; a score for each record, [N], is needed."
            )
        found[name] = values.astype(np.float64)
    if not found:
        raise DataError(
            f"{table.where} holds neither answers nor scores. Needed are reference_logits, in_mask, target_logits and "
            f"labels, or columns of numbers, one for each attack. It has {listed(table.names)}."
        )
    lengths = {name: len(values) for name, values in found.items()}
    if len(set(lengths.values())) > 1:
        text = ", ".join(f"{name}: {length:,}" for name, length in lengths.items())
        raise DataError(f"{table.where}: the scores are of different lengths ({text}).")
    return found
