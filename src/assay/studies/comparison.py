"""Two models, or one model twice, on the same samples: which differences are more than chance.

Rows are paired by sample id. For a yes-or-no column (correct, robust at a
budget) the p-value is McNemar's exact test; for a column of distances, signed
ones too, it is the exact sign test on which of the two is larger, which needs
no finite values. Both count the pairs that differ, b one way and c the other,
and ask how often Binomial(b + c, 1/2) is as lopsided. Holm's correction covers
all comparisons of one call; the difference has a paired bootstrap interval.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ..core.errors import RunError
from ..core.estimates import Estimate, holm, mcnemar, paired_difference
from ..core.runs import Run, find_runs

YES_OR_NO = "share"
DISTANCE = "distance"
DISTANCES = ("distance", "signed_margin")
SHOWN_IDS = 3


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """One column of one probe, over the samples both sides have.

    Args:
        probe: name of the method.
        column: name of the per-sample column.
        first: mean of the first over the pairs; the median for distances.
        second: the same of the second.
        difference: mean of first minus second, over the pairs where both are finite.
        only_first: pairs where only the first holds, or where the first is larger.
        only_second: the other way round.
        p_value: two-sided.
        adjusted: p-value after Holm's correction.
        pairs: samples both sides have.
    """

    probe: str
    column: str
    first: float
    second: float
    difference: Estimate
    only_first: int
    only_second: int
    p_value: float
    adjusted: float
    pairs: int


def compare(first: str | Path, second: str | Path, *, seed: int = 0) -> list[Comparison]:
    """Compare two runs, or all matching runs of two studies.

    Args:
        first: a run folder or the folder of an audit.
        second: the same.
        seed: of the bootstrap.

    Returns:
        One entry a column that both sides measured by the same method, version and settings.

    Raises:
        RunError: a side has no finished run, no two runs match, or no sample is shared.
    """
    pairs = _matching(_finished(first), _finished(second))
    if not pairs:
        raise RunError(
            f"{first} and {second} have no finished runs of the same method, version and settings, so nothing can be "
            "compared. Run the same suite on both."
        )
    found = [comparison for one, other in pairs for comparison in _columns(one, other, seed)]
    if not found:
        raise RunError(f"{first} and {second} match, but their runs hold no per-sample column that can be compared.")
    found = _distinct(found)
    adjusted = holm([comparison.p_value for comparison in found])
    return [replace(item, adjusted=float(value)) for item, value in zip(found, adjusted, strict=True)]


def _distinct(found: Sequence[Comparison]) -> list[Comparison]:
    """Each comparison once: probes that keep the same column of the same samples ask one question, not several."""
    unique: dict[tuple[Any, ...], Comparison] = {}
    for item in found:
        unique.setdefault((item.column, item.pairs, item.first, item.second, item.only_first, item.only_second), item)
    return list(unique.values())


def _finished(path: str | Path) -> list[Run]:
    runs = [run for run in find_runs(path) if run.status == "ok"]
    if not runs:
        raise RunError(f"{path} holds no finished run. Let its command run to the end first.")
    return runs


def _matching(first: Sequence[Run], second: Sequence[Run]) -> list[tuple[Run, Run]]:
    def question(run: Run) -> tuple[Any, ...]:
        return (run.method.get("name"), run.method.get("version"), sorted(run.settings.items(), key=str))

    pairs = []
    for one in first:
        matches = [other for other in second if question(other) == question(one)]
        if len(matches) > 1:
            names = ", ".join(run.id for run in matches)
            raise RunError(
                f"{len(matches)} runs of {one.method.get('name')} could be meant: {names}. "
                "Name the run folders to compare."
            )
        pairs += [(one, other) for other in matches]
    return pairs


def _columns(first: Run, second: Run, seed: int) -> list[Comparison]:
    rows, others = _shared_rows(first, second)
    found = []
    for column in first.samples.column_names:
        kind = _kind(column, first)
        if not kind or column not in second.samples.column_names:
            continue
        a = _values(first, column)[rows]
        b = _values(second, column)[others]
        known = ~(np.isnan(a) | np.isnan(b))
        if known.any():
            found.append(_comparison(str(first.method["name"]), column, kind, a[known], b[known], seed))
    return found


def _comparison(probe: str, column: str, kind: str, a: np.ndarray, b: np.ndarray, seed: int) -> Comparison:
    test = mcnemar(a > b, b > a)
    finite = np.isfinite(a) & np.isfinite(b)
    centre = np.mean if kind == YES_OR_NO else np.median
    return Comparison(
        probe=probe,
        column=column,
        first=float(centre(a)),
        second=float(centre(b)),
        difference=paired_difference(a[finite], b[finite], seed=seed),
        only_first=test.only_first,
        only_second=test.only_second,
        p_value=test.p_value,
        adjusted=test.p_value,
        pairs=len(a),
    )


def _kind(column: str, run: Run) -> str:
    """``share`` for booleans, ``distance`` for columns of distances, ``""`` for what is not compared."""
    import pyarrow

    kind = run.samples.schema.field(column).type
    if pyarrow.types.is_boolean(kind):
        return YES_OR_NO
    return DISTANCE if pyarrow.types.is_floating(kind) and column.startswith(DISTANCES) else ""


def _values(run: Run, column: str) -> np.ndarray:
    return run.samples[column].to_numpy().astype(np.float64)


def _shared_rows(first: Run, second: Run) -> tuple[np.ndarray, np.ndarray]:
    """Positions of the samples both runs have, in the same order."""
    one, other = first.record["data"], second.record["data"]
    ids, others = (run.samples["sample_id"].to_numpy() for run in (first, second))
    shared, rows, other_rows = np.intersect1d(ids, others, return_indices=True)
    if one.get("digest") != other.get("digest"):
        same_source = all(one.get(key) == other.get(key) for key in ("source", "split", "shape", "classes"))
        if not same_source or not len(shared):
            raise RunError(
                f"The runs {first.id} and {second.id} examined different data ({_name(one)} and {_name(other)}) and "
                "share no sample, so they cannot be paired. Run both on the same data."
            )
        _same_labels(first, second, rows, other_rows, shared)
    return rows, other_rows


def _same_labels(first: Run, second: Run, rows: np.ndarray, others: np.ndarray, shared: np.ndarray) -> None:
    if "label" not in first.samples.column_names or "label" not in second.samples.column_names:
        return
    differ = first.samples["label"].to_numpy()[rows] != second.samples["label"].to_numpy()[others]
    if differ.any():
        named = ", ".join(str(row) for row in shared[differ][:SHOWN_IDS])
        raise RunError(
            f"The runs {first.id} and {second.id} share {len(shared)} sample ids, but {int(differ.sum())} of these "
            f"have different labels (sample {named}), so they are not the same samples. Run both on the same data."
        )


def _name(data: dict[str, Any]) -> str:
    return f"{data.get('name')} {data.get('split')}, n={data.get('n')}"
