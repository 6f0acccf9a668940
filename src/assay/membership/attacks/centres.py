"""Centres and spreads of what reference models answered, over the models that were trained with a record or without.

All statistics run over the models that are chosen for a record and have an answer; others count for nothing. A record
with no such model takes the mean of the centres of the other records, query by query.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from ...core.errors import DataError
from ...core.probes import Finding

_BLOCK = 1 << 20


@dataclass(frozen=True, eq=False, kw_only=True)
class Group:
    """The answers of one side, IN or OUT, and their centres.

    Args:
        values: [M, N, K], NaN where an answer is missing.
        chosen: bool [M, N], the models of this side.
        name: ``"IN"`` or ``"OUT"``.
        centre: [N, K], without NaN.
        count: int [N, K], answers behind each centre.
    """

    values: np.ndarray
    chosen: np.ndarray
    name: str
    centre: np.ndarray
    count: np.ndarray

    def blocks(self) -> Iterator[tuple[slice, np.ndarray, np.ndarray]]:
        """Records by records: their place, values [M, n, K], and which of these count."""
        yield from _blocks(self.values, self.chosen)

    def std(self, *, residual: bool) -> float:
        """The standard deviation (divisor n) of all values together, as they are or less their centres."""
        total, count = 0.0, int(self.count.sum())
        sums = [self._less(place, values, residual)[present].sum() for place, values, present in self.blocks()]
        mean = float(np.sum(sums)) / count
        for place, values, present in self.blocks():
            total += float(((self._less(place, values, residual)[present] - mean) ** 2).sum())
        return float(np.sqrt(total / count))

    def record_std(self) -> np.ndarray:
        """The standard deviation (divisor n) around the mean for each record and query, [N, K]; NaN without values."""
        found = np.full(self.centre.shape, np.nan)
        for place, values, present in self.blocks():
            n = self.count[place]
            kept = np.where(present, values, 0.0)
            with np.errstate(invalid="ignore", divide="ignore"):
                mean = kept.sum(axis=0) / n
                apart = np.where(present, values - mean, 0.0)
                found[place] = np.sqrt((apart * apart).sum(axis=0) / n)
        return found

    def findings(self) -> list[Finding]:
        """Records that fewer than two models of this side answered."""
        fewest = self.count.min(axis=1)
        none, one = int((fewest == 0).sum()), int((fewest == 1).sum())
        if not none + one:
            return []
        rest = f"; {none:,} of them have none and take the mean centre of the other records" if none else ""
        return [
            Finding(
                code=f"few-{self.name.lower()}-models",
                severity="warning",
                message=f"{none + one:,} of {len(fewest):,} records have fewer than two {self.name} models{rest}. "
                "Their scores say little.",
                remedy="Train more reference models, each on a random half of the records.",
                value=float(none + one),
            )
        ]

    def _less(self, place: slice, values: np.ndarray, residual: bool) -> np.ndarray:
        return values - self.centre[place] if residual else values


def group(values: np.ndarray, chosen: np.ndarray, name: str, centre: str = "median") -> Group:
    """One side of the reference models, with the centre of each record and query.

    Args:
        values: [M, N, K], NaN where an answer is missing.
        chosen: bool [M, N], the models of this side.
        name: ``"IN"`` or ``"OUT"``.
        centre: ``"median"`` or ``"mean"``.

    Raises:
        DataError: there are no reference models, or no record has one of this side.

    Cost: medians sort all values once, along the models.
    """
    if not len(values):
        raise DataError("This attack needs reference models, and there is none. Use 'loss' or 'global-threshold'.")
    found = np.empty(values.shape[1:])
    count = np.empty(values.shape[1:], dtype=np.int64)
    for place, block, present in _blocks(values, chosen):
        count[place] = present.sum(axis=0)
        found[place] = (_median if centre == "median" else _mean)(block, present, count[place])
    empty = count == 0
    if empty.all(axis=0).any():
        meaning = "trained with" if name == "IN" else "trained without"
        raise DataError(
            f"No record has an answer of an {name} model, one {meaning} it: {len(values)} reference models were given. "
            + (
                "Use the offline mode, which needs OUT models only."
                if name == "IN"
                else "Give models that were trained without some of the records."
            )
        )
    if empty.any():
        usual = np.nanmean(np.where(empty, np.nan, found), axis=0)
        found = np.where(empty, usual, found)
    return Group(values=values, chosen=chosen, name=name, centre=found, count=count)


def _blocks(values: np.ndarray, chosen: np.ndarray) -> Iterator[tuple[slice, np.ndarray, np.ndarray]]:
    models, records, queries = values.shape
    step = max(1, _BLOCK // max(1, models * queries))
    for start in range(0, records, step):
        place = slice(start, start + step)
        block = values[:, place]
        yield place, block, chosen[:, place, None] & ~np.isnan(block)


def _median(block: np.ndarray, present: np.ndarray, count: np.ndarray) -> np.ndarray:
    ordered = np.where(present, block, np.inf)
    ordered.sort(axis=0)
    low = np.take_along_axis(ordered, np.maximum(count - 1, 0)[None] // 2, axis=0)[0]
    high = np.take_along_axis(ordered, np.minimum(count // 2, len(block) - 1)[None], axis=0)[0]
    return np.asarray((low + high) / 2)


def _mean(block: np.ndarray, present: np.ndarray, count: np.ndarray) -> np.ndarray:
    return np.asarray(np.where(present, block, 0.0).sum(axis=0) / np.maximum(count, 1))
