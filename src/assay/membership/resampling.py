"""Bootstraps of the ROC: over clusters of records, and over records and target models at once."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import ndtr, stdtrit

from ..core.errors import InputError, did_you_mean
from ..core.estimates import Estimate, clopper_pearson
from .sides import cluster_labels, curve_of, draws, generator, pair, rate

_CELLS = 400_000  # a block of weights that stays in the cache


def tpr_interval(
    scores: ArrayLike,
    member: ArrayLike,
    fpr: float,
    clusters: ArrayLike | None = None,
    *,
    strict: bool = False,
    level: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> Estimate:
    """The TPR at a false positive rate, with the uncertainty of the threshold in its interval.

    Independent records have the exact interval of :class:`assay.core.roc.Roc`. Where records come in clusters, whole
    clusters are drawn with replacement, separately those of members alone, of non-members alone, and of both; each
    draw finds its own threshold, and the ends are percentiles. Where all draws agree, the end is that of Clopper and
    Pearson for as many records as there are clusters with members.

    Args:
        scores: [N]; larger means more likely a member; NaN are left out.
        member: [N] booleans.
        fpr: false positive rate, in (0, 1).
        clusters: [N] labels of records that belong together; ``None``: each its own.
        strict: the share of flagged non-members must lie below ``fpr``, not at it.
        level: nominal coverage, in (0, 1).
        resamples: draws of clusters.
        seed: of the draws.

    Cost: ``resamples`` passes over the records with clusters, one sort without.
    """
    values, mask = pair(scores, member)
    rate("level", level, ends=False)
    rate("fpr", fpr, ends=False)
    curve = curve_of(values, mask)
    if clusters is None:
        return curve.interval(fpr, strict=strict, level=level)
    known = ~np.isnan(values)
    labels = cluster_labels(clusters, len(values))[known]
    ladder = Ladder(values[known], mask[known])
    rng = generator(seed)
    found = []
    strata = cluster_strata(labels, mask[known])
    for rows in _blocks(draws("resamples", resamples), len(labels)):
        weights = np.zeros((rows, len(strata)))
        for kind in np.unique(strata):
            places = np.flatnonzero(strata == kind)
            weights[:, places] = counts(rng, rows, len(places))
        found.append(ladder.tpr(weights[:, labels], fpr, strict))
    value = curve.tpr_at(fpr, strict)
    lo, hi = _ends(np.concatenate(found), value, level, len(np.unique(labels[mask[known]])))
    return Estimate(value=value, lo=lo, hi=hi, n=len(curve.positives), method="clustered bootstrap", level=level)


def two_way(
    scores: ArrayLike,
    member: ArrayLike,
    statistic: str | float = "auc",
    *,
    strict: bool = False,
    resamples: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> Estimate:
    """The mean over target models of the AUC, or of the TPR at a rate, drawing models and records anew.

    Target models and records are drawn with replacement, independently of each other; a cell counts as often as its
    model times as often as its record. That covers both at once, and rather too much than too little (Owen, Annals of
    Applied Statistics, 2007). Percentiles are widened for few models as in :func:`assay.core.estimates.bootstrap`.
    One target model leaves the records alone. What the interval cannot show is the choice of the reference models,
    where all targets were judged by the same.

    Args:
        scores: [T, N] of N records in each of T target models; NaN where there is none.
        member: [T, N] booleans: whether the model was trained on the record.
        statistic: ``"auc"``, or a false positive rate in (0, 1).
        strict: as in :func:`tpr_interval`.
        resamples: draws.
        level: nominal coverage, in (0, 1).
        seed: of the draws.

    Returns:
        The estimate; n counts the scores behind it.

    Raises:
        InputError: shapes differ, no model has both members and non-members, or fewer than 2 draws.

    Cost: T sorts, and ``resamples`` passes over T N scores.
    """
    values, mask = pair(scores, member, dimensions=2)
    rate("level", level, ends=False)
    fpr = _statistic(statistic)
    ladders = [(t, Ladder(row, own)) for t, (row, own) in enumerate(zip(values, mask, strict=True))]
    usable = [(t, ladder) for t, ladder in ladders if ladder.both]
    if not usable:
        raise InputError("No target model has scores of members and of non-members; give at least one of each.")
    models, records = len(usable), values.shape[1]
    one = np.ones((1, records))
    value = float(np.mean([ladder.statistic(one, fpr, strict)[0] for _, ladder in usable]))
    rng, found = generator(seed), []
    for rows in _blocks(draws("resamples", resamples), records):
        weights = counts(rng, rows, records)
        chosen = counts(rng, rows, models) if models > 1 else np.ones((rows, 1))
        each = np.stack([ladder.statistic(weights, fpr, strict) for _, ladder in usable], axis=1)
        chosen = np.where(np.isnan(each), 0.0, chosen)
        with np.errstate(invalid="ignore"):
            found.append(np.nansum(each * chosen, axis=1) / chosen.sum(axis=1))
    drawn = np.concatenate(found)
    drawn = drawn[~np.isnan(drawn)]
    tail = (1 - level) / 2
    if models > 1:
        tail = float(ndtr(math.sqrt(models / (models - 1)) * stdtrit(models - 1, tail)))
    lo, hi = np.quantile(drawn, [tail, 1 - tail]) if len(drawn) else (math.nan, math.nan)
    method = f"two-way bootstrap over {models} target models and {records:,} records"
    if models == 1:
        method = f"bootstrap over {records:,} records of one target model"
    n = int(sum(ladder.known for _, ladder in usable))
    return Estimate(value=value, lo=min(float(lo), value), hi=max(float(hi), value), n=n, method=method, level=level)


class Ladder:
    """Scores of one model in order, so that weighted statistics of many draws are two cumulative sums.

    Args:
        scores: [N]; NaN are left out.
        member: [N] booleans.
    """

    def __init__(self, scores: np.ndarray, member: np.ndarray) -> None:
        known = np.flatnonzero(~np.isnan(scores))
        self.order = known[np.argsort(-scores[known], kind="stable")]
        ranked = scores[self.order]
        self.last = np.flatnonzero(np.append(ranked[1:] != ranked[:-1], True)) if len(ranked) else np.zeros(0, int)
        self.members = member[self.order].astype(np.float64)
        self.known = len(known)
        self.both = bool(0 < self.members.sum() < self.known)

    def statistic(self, weights: np.ndarray, fpr: float | None, strict: bool) -> np.ndarray:
        """The AUC, or the TPR at ``fpr``, of each row of weights [B, N]; NaN without members or non-members. [B]."""
        return self.auc(weights) if fpr is None else self.tpr(weights, fpr, strict)

    def auc(self, weights: np.ndarray) -> np.ndarray:
        """The area under the curve of each row of weights, ties counting half. [B]."""
        true, false = self._corners(weights)
        steps = np.diff(false, axis=1, prepend=0.0)
        before = np.concatenate([np.zeros((len(true), 1)), true[:, :-1]], axis=1)
        with np.errstate(invalid="ignore"):
            return np.einsum("bg,bg->b", steps, (true + before) / 2) / (true[:, -1] * false[:, -1])

    def tpr(self, weights: np.ndarray, fpr: float, strict: bool) -> np.ndarray:
        """The largest weight of members that is flagged while non-members are at most ``fpr`` of theirs. [B]."""
        true, false = self._corners(weights)
        with np.errstate(invalid="ignore"):
            share = false / false[:, -1:]
            flagged = (share < fpr if strict else share <= fpr).sum(axis=1)
            reached = np.where(flagged > 0, true[np.arange(len(true)), np.maximum(flagged, 1) - 1], 0.0)
            return np.where(false[:, -1] > 0, reached / true[:, -1], np.nan)

    def _corners(self, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Cumulative weights of members and of non-members down to each distinct score. [B, G] each."""
        ordered = weights[:, self.order]
        both = np.cumsum(ordered, axis=1)
        true = np.cumsum(ordered * self.members, axis=1)
        if len(self.last) < self.known:
            both, true = both[:, self.last], true[:, self.last]
        return true, both - true


def counts(rng: np.random.Generator, rows: int, n: int) -> np.ndarray:
    """How often each of n units is drawn in n draws with replacement, for many rows. [rows, n] float64."""
    drawn = rng.integers(n, size=(rows, n))
    drawn += np.arange(rows)[:, None] * n
    return np.bincount(drawn.reshape(-1), minlength=rows * n).reshape(rows, n).astype(np.float64)


def cluster_strata(labels: np.ndarray, member: np.ndarray) -> np.ndarray:
    """For each cluster 1 if it holds members alone, 2 if non-members alone, 3 if both, 0 if nothing. [I]."""
    count = int(labels.max()) + 1
    with_members = np.bincount(labels, weights=member, minlength=count) > 0
    with_others = np.bincount(labels, weights=~member, minlength=count) > 0
    return with_members + 2 * with_others


def _blocks(resamples: int, columns: int) -> Iterator[int]:
    """Sizes of blocks of draws."""
    rows = max(1, _CELLS // max(1, columns))
    for start in range(0, resamples, rows):
        yield min(rows, resamples - start)


def _statistic(statistic: str | float) -> float | None:
    if statistic == "auc":
        return None
    if isinstance(statistic, str) or not 0 < statistic < 1:
        hint = did_you_mean(statistic, ["auc"]) if isinstance(statistic, str) else ""
        raise InputError(f"statistic is {statistic!r}; 'auc' or a false positive rate between 0 and 1 is needed.{hint}")
    return float(statistic)


def _ends(drawn: np.ndarray, value: float, level: float, units: int) -> tuple[float, float]:
    lo, hi = (float(end) for end in np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2]))
    if lo == hi:
        lo = clopper_pearson(math.floor(value * units), units, level)[0]
        hi = clopper_pearson(math.ceil(value * units), units, level)[1]
    return min(lo, value), max(hi, value)
