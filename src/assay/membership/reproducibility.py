"""Whether the same records are exposed again: by an independent pool, and in other target models."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import ndtri
from scipy.stats import hypergeom, rankdata

from ..core.errors import InputError
from ..core.estimates import Estimate, clopper_pearson
from ..core.roc import Roc
from .sides import draws, generator, pair, rate


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """How far independent pools agree on who is exposed.

    Args:
        spearman: rank correlation of the scores, the mean over pairs of pools.
        top: how many most exposed records were compared.
        overlap: share of them that two pools have in common, the mean over pairs.
        chance: the same if the pools had nothing in common; lo and hi hold the share ``level`` of such cases.
        pools: how many.
        records: with a score in every pool.
        left_out: records without.
    """

    spearman: Estimate
    top: int
    overlap: Estimate
    chance: Estimate
    pools: int
    records: int
    left_out: int


@dataclass(frozen=True, kw_only=True, eq=False)
class Identified:
    """How often each record is identified as a member.

    Args:
        share: [N] share of the models trained on the record in which it is flagged; NaN if none was.
        trials: [N] int, those models.
        false_share: [N] share of the other models in which it is flagged all the same; NaN if there is none.
        false_trials: [N] int, those models.
        thresholds: [T], of every target model.
        fpr: false positive rate of the thresholds.
    """

    share: np.ndarray
    trials: np.ndarray
    false_share: np.ndarray
    false_trials: np.ndarray
    thresholds: np.ndarray
    fpr: float


def agreement(
    scores: ArrayLike, top: int | None = None, *, level: float = 0.95, resamples: int = 1000, seed: int = 0
) -> Agreement:
    """Whether independent pools find the same records exposed: rank correlation, and what their tops share.

    The interval of the correlation ρ is that of Fisher's z with the variance ``(1 + ρ²/2) / (N - 3)`` (Bonett and
    Wright, Psychometrika, 2000); that of the overlap is Clopper and Pearson's, each of the ``top`` records of one
    pool being found by the other or not. Without anything in common the overlap of two pools is hypergeometric; of
    more pools it is simulated. Records tied at the edge of a top belong to it by their share of its last places.

    Args:
        scores: [P, N] of the same N records, by P >= 2 independent pools; larger means more exposed. Records with a
            NaN are left out.
        top: how many of the most exposed are compared; a tenth of the records by default, at least 1.
        level: nominal coverage, in (0, 1).
        resamples: simulations of chance, for more than two pools.
        seed: of these.

    Raises:
        InputError: fewer than two pools, fewer than two records with a score in all, or more ``top`` than records.

    Cost: P sorts, and P² products of N numbers.

    >>> found = agreement([[1.0, 2.0, 3.0, 4.0, 5.0], [1.0, 3.0, 2.0, 4.0, 9.0]], top=2)
    >>> round(found.spearman.value, 3), found.overlap.value, found.chance.value
    (0.9, 1.0, 0.4)
    """
    values = np.asarray(scores, dtype=np.float64)
    if values.ndim != 2 or len(values) < 2:
        raise InputError(f"scores are {values.shape}; [P, N] of at least 2 pools, over the same records, are needed.")
    rate("level", level, ends=False)
    known = ~np.isnan(values).any(axis=0)
    values, n = values[:, known], int(known.sum())
    if n < 2:
        raise InputError(f"There are {n} records with a score in every pool; at least 2 are needed.")
    top = max(1, n // 10) if top is None else top
    if not 1 <= top <= n:
        raise InputError(f"top is {top}; a number from 1 to {n}, the records with a score in every pool, is needed.")
    pairs = list(itertools.combinations(range(len(values)), 2))
    tops = np.stack([_in_top(row, top) for row in values])
    shared = float(np.mean([tops[a] @ tops[b] for a, b in pairs]))
    least, most = math.floor(shared + 1e-9), math.ceil(shared - 1e-9)
    return Agreement(
        spearman=_spearman(values, pairs, level),
        top=top,
        overlap=Estimate(
            value=shared / top,
            lo=clopper_pearson(least, top, level)[0],
            hi=clopper_pearson(most, top, level)[1],
            n=top,
            method="clopper-pearson",
            level=level,
        ),
        chance=_chance(n, top, len(values), level, draws("resamples", resamples), seed),
        pools=len(values),
        records=n,
        left_out=int((~known).sum()),
    )


def identified(
    scores: ArrayLike,
    member: ArrayLike,
    fpr: float = 0.01,
    *,
    strict: bool = False,
    thresholds: ArrayLike | None = None,
) -> Identified:
    """In what share of the target models a record is identified as a member.

    Args:
        scores: [T, N] of N records in T target models; NaN where there is none.
        member: [T, N] booleans.
        fpr: false positive rate of each model's threshold, on its own non-members.
        strict: as in :meth:`assay.core.roc.Roc.threshold`.
        thresholds: [T] fixed beforehand, in place of those.

    Raises:
        InputError: shapes differ, or a model has no non-member with a score and there are no thresholds.

    Cost: T sorts.

    >>> found = identified([[0.9, 0.1], [0.8, 0.2]], [[True, False], [True, False]])
    >>> found.share.tolist(), found.trials.tolist()
    ([1.0, nan], [2, 0])
    """
    values, mask = pair(scores, member, dimensions=2)
    rate("fpr", fpr)
    known = ~np.isnan(values)
    if thresholds is None:
        others = [row[side & there] for row, side, there in zip(values, ~mask, known, strict=True)]
        lines = np.array([_threshold(own, t, fpr, strict) for t, own in enumerate(others)])
    else:
        lines = np.asarray(thresholds, dtype=np.float64)
        if lines.shape != (len(values),):
            raise InputError(f"thresholds are {lines.shape} for {len(values)} target models; one a model is needed.")
    flagged = values > lines[:, None]
    shares = []
    for side in (mask & known, ~mask & known):
        trials = side.sum(axis=0)
        hits = (flagged & side).sum(axis=0)
        shares.append((np.where(trials > 0, hits / np.maximum(trials, 1), np.nan), trials))
    (share, trials), (false_share, false_trials) = shares
    return Identified(
        share=share,
        trials=trials,
        false_share=false_share,
        false_trials=false_trials,
        thresholds=lines,
        fpr=float(fpr),
    )


def _threshold(others: np.ndarray, target: int, fpr: float, strict: bool) -> float:
    if not len(others):
        raise InputError(
            f"Target model {target} has no non-member with a score, so that its false positives cannot be counted; "
            "give thresholds, or leave it out."
        )
    ordered = np.sort(others)
    return Roc(positives=ordered, negatives=ordered).threshold(fpr, strict)


def _in_top(values: np.ndarray, top: int) -> np.ndarray:
    """1 for records in the top, 0 for others, and the share of the last places for those tied at its edge. [N]."""
    edge = np.partition(values, len(values) - top)[len(values) - top]
    above, tied = values > edge, values == edge
    return above + tied * ((top - above.sum()) / tied.sum())


def _spearman(values: np.ndarray, pairs: list[tuple[int, int]], level: float) -> Estimate:
    """The mean rank correlation over pairs; its interval is that of one pair, which is too wide rather than narrow."""
    ranks = rankdata(values, axis=1)
    ranks -= ranks.mean(axis=1, keepdims=True)
    norms = np.sqrt((ranks**2).sum(axis=1))
    n, method = values.shape[1], "Fisher z (Bonett and Wright)"
    if not norms.all():
        return Estimate(value=math.nan, lo=-1.0, hi=1.0, n=n, method=method, level=level)
    found = [float(np.clip(ranks[a] @ ranks[b] / (norms[a] * norms[b]), -1, 1)) for a, b in pairs]
    rho = float(np.mean(found))
    if n <= 3:
        return Estimate(value=rho, lo=-1.0, hi=1.0, n=n, method=method, level=level)
    most = 1 - 12 / (n * (n * n - 1))  # two neighbours have changed places
    half = float(ndtri((1 + level) / 2)) * math.sqrt((1 + rho * rho / 2) / (n - 3))
    lo, hi = (math.tanh(math.atanh(min(max(rho, -most), most)) + sign * half) for sign in (-1, 1))
    return Estimate(value=rho, lo=min(lo, rho), hi=max(hi, rho), n=n, method=method, level=level)


def _chance(n: int, top: int, pools: int, level: float, resamples: int, seed: int) -> Estimate:
    """The overlap of tops that have nothing in common."""
    tails = ((1 - level) / 2, (1 + level) / 2)
    if pools == 2:
        lo, hi = (float(hypergeom.ppf(tail, n, top, top)) / top for tail in tails)
        return Estimate(value=top / n, lo=lo, hi=hi, n=top, method="hypergeometric", level=level)
    rng, found = generator(seed), np.empty(resamples)
    for index in range(resamples):
        times = np.zeros(n)
        for _ in range(pools):
            times[rng.choice(n, top, replace=False)] += 1
        found[index] = (times * (times - 1)).sum() / (pools * (pools - 1)) / top
    lo, hi = (float(end) for end in np.quantile(found, tails))
    return Estimate(value=top / n, lo=lo, hi=hi, n=top, method=f"{resamples:,} simulations", level=level)
