"""Two attacks on the same records of the same targets, and the mean curve of one."""

from __future__ import annotations

import math

import numpy as np
from scipy.special import ndtr, stdtrit

from assay.core.estimates import Estimate
from assay.core.roc import roc
from assay.membership.resampling import Ladder, counts

GRID = np.unique(np.concatenate([np.geomspace(1e-3, 1, 31), [0.01, 0.1]]))
DRAWS, BLOCK = 1000, 100


def two_way_difference(
    first: np.ndarray, second: np.ndarray, member: np.ndarray, statistic: str | float, *, level: float = 0.95
) -> Estimate:
    """The mean over targets of a statistic of the first scores minus that of the second.

    Targets and records are drawn anew independently of each other, as :func:`assay.membership.resampling.two_way`
    does, and both attacks get the same draws.

    Args:
        first, second: [T, N].
        member: [T, N] booleans.
        statistic: ``"auc"``, or a false positive rate.
        level: nominal coverage.
    """
    fpr = None if statistic == "auc" else float(statistic)
    ladders = [(Ladder(a, own), Ladder(b, own)) for a, b, own in zip(first, second, member, strict=True)]
    models, records = first.shape
    one = np.ones((1, records))
    value = float(np.mean([_gap(pair, one, fpr)[0] for pair in ladders]))
    rng, found = np.random.default_rng(0), []
    for _ in range(DRAWS // BLOCK):
        weights = counts(rng, BLOCK, records)
        chosen = counts(rng, BLOCK, models)
        each = np.stack([_gap(pair, weights, fpr) for pair in ladders], axis=1)
        found.append((each * chosen).sum(axis=1) / chosen.sum(axis=1))
    tail = (1 - level) / 2
    if models > 1:
        tail = float(ndtr(math.sqrt(models / (models - 1)) * stdtrit(models - 1, tail)))
    lo, hi = np.quantile(np.concatenate(found), [tail, 1 - tail])
    method = f"paired two-way bootstrap over {models} target models and {records:,} records"
    return Estimate(value=value, lo=min(float(lo), value), hi=max(float(hi), value), n=models, method=method)


def _gap(pair: tuple[Ladder, Ladder], weights: np.ndarray, fpr: float | None) -> np.ndarray:
    first, second = (ladder.statistic(weights, fpr, False) for ladder in pair)
    return first - second


def curve(scores: np.ndarray, member: np.ndarray) -> list[list[float]]:
    """The mean over targets of the TPR at every false positive rate of ``GRID``: [[fpr, tpr], ...]."""
    curves = [roc(row, own) for row, own in zip(scores, member, strict=True)]
    return [
        [round(float(fpr), 6), round(float(np.mean([one.tpr_at(float(fpr)) for one in curves])), 5)] for fpr in GRID
    ]
