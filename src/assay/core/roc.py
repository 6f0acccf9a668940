"""Receiver operating characteristic: how well a score tells positives from negatives, with intervals.

A sample is flagged where its score is at least a threshold t. The true positive rate is
``TPR(t) = P(X >= t)`` over positives X, the false positive rate ``FPR(t) = P(Y >= t)`` over negatives Y, and

    AUC = P(X > Y) + P(X = Y) / 2.

Samples that share a score are flagged together, so that ties are never broken in anybody's favour.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import ndtri

from .errors import InputError, did_you_mean
from .estimates import Estimate, clopper_pearson, quantile
from .probes import Figure, Finding, Mark, Series

AUC_METHODS = ("bootstrap", "newcombe")
TPR_METHODS = ("exact", "bootstrap")
_GRID = 97
_LARGEST = 1e300  # stands for infinite scores where only their order matters


@dataclass(frozen=True, kw_only=True, eq=False)
class Roc:
    """Scores of positives and negatives, and what follows from them; made by :func:`roc`.

    Args:
        positives: [P] scores in ascending order, without NaN; larger means more like a positive.
        negatives: [N] likewise.
        nan_positives: positives left out because their score is NaN.
        nan_negatives: negatives left out likewise.
    """

    positives: np.ndarray
    negatives: np.ndarray
    nan_positives: int = 0
    nan_negatives: int = 0

    @functools.cached_property
    def auc(self) -> float:
        """Area under the curve: the chance that a positive scores above a negative, ties counting half."""
        below = np.searchsorted(self.negatives, self.positives, side="left").sum(dtype=np.float64)
        up_to = np.searchsorted(self.negatives, self.positives, side="right").sum(dtype=np.float64)
        return float((below + up_to) / 2 / (len(self.positives) * len(self.negatives)))

    def threshold(self, fpr: float, strict: bool = False) -> float:
        """The largest score that is not flagged when as many are flagged as ``fpr`` allows.

        Samples with a score *above* it are flagged; -inf if even negatives of score -inf may be.

        Args:
            fpr: largest share of negatives that may be flagged, in [0, 1].
            strict: that share must lie below ``fpr``, not at it.
        """
        allowed = self._allowed(fpr, strict)
        return -math.inf if allowed >= len(self.negatives) else float(self.negatives[-1 - allowed])

    def tpr_at(self, fpr: float, strict: bool = False) -> float:
        """The largest share of positives that is flagged while at most ``fpr`` of the negatives are.

        Args:
            fpr: in [0, 1].
            strict: the share of negatives must lie below ``fpr``, not at it.
        """
        if self._allowed(fpr, strict) >= len(self.negatives):
            return 1.0
        above = len(self.positives) - np.searchsorted(self.positives, self.threshold(fpr, strict), side="right")
        return float(above / len(self.positives))

    def curve(self) -> tuple[np.ndarray, np.ndarray]:
        """All corners of the curve: FPR and TPR, ascending from (0, 0) to (1, 1), one for each distinct score."""
        scores = np.unique(np.concatenate([self.positives, self.negatives]))[::-1]
        found = []
        for group in (self.negatives, self.positives):
            flagged = len(group) - np.searchsorted(group, scores, side="left")
            found.append(np.concatenate([[0.0], flagged / len(group)]))
        return found[0], found[1]

    def interval(
        self,
        what: str | float,
        *,
        strict: bool = False,
        level: float = 0.95,
        method: str = "",
        resamples: int = 2000,
        seed: int = 0,
    ) -> Estimate:
        """The AUC, or the TPR at a false positive rate, with its interval.

        ``"bootstrap"`` draws positives and negatives anew, each from their own, and takes percentiles. Where all
        draws agree it knows nothing, and the AUC is given Newcombe's interval in its place.

        ``"newcombe"`` (AUC): all areas A with ``|A - AUC| <= z sqrt(V(A))`` and
        ``V(A) = A (1 - A) (1 + (M - 1) ((1 - A) / (2 - A) + A / (1 + A))) / (P N)``, M the mean of P and N
        (Newcombe, Statistics in Medicine, 2006). It has a width also for an AUC of 1.

        ``"exact"`` (TPR): the threshold lies between two order statistics of the negatives, and at each of them
        the flagged share of positives has a Clopper-Pearson interval, all with half of the error. It covers at
        least ``level``. Where the negatives are too few to bound the threshold from above, its lower end is 0.

        Args:
            what: ``"auc"``, or a false positive rate in (0, 1).
            strict: as in :meth:`tpr_at`.
            level: nominal coverage, in (0, 1).
            method: of the AUC ``"bootstrap"`` (default) or ``"newcombe"``; of a TPR ``"exact"`` (default) or
                ``"bootstrap"``.
            resamples: draws of the bootstrap.
            seed: of the draws.

        Returns:
            The estimate; n counts positives and negatives for the AUC, positives for a TPR.

        Cost: the bootstrap sorts nothing; each draw takes time linear in the samples.
        """
        if not 0 < level < 1:
            raise InputError(f"level is {level}; a number between 0 and 1 is needed, such as 0.95.")
        if what == "auc":
            return self._auc_interval(_method(method, AUC_METHODS), level, resamples, seed)
        fpr = self._inner(what)
        if _method(method, TPR_METHODS) == "exact":
            return self._exact_tpr(fpr, strict, level)
        lo, hi = _bootstrap(self, lambda pos, neg: _tpr_of(pos, neg, fpr, strict), level, resamples, seed)
        return self._estimate(self.tpr_at(fpr, strict), lo, hi, "stratified bootstrap", level, both=False)

    def too_few(self, fpr: float) -> bool:
        """Whether there are fewer than ``1 / fpr`` negatives, so that one false positive is more than ``fpr``."""
        return len(self.negatives) * fpr < 1 - 1e-9

    def findings(self, fprs: Sequence[float] = ()) -> list[Finding]:
        """What to know before trusting this curve: scores that are NaN, and too few negatives for these rates."""
        found = []
        missing = self.nan_positives + self.nan_negatives
        if missing:
            found.append(
                Finding(
                    code="scores-left-out",
                    severity="warning",
                    message=f"{self.nan_positives} positives and {self.nan_negatives} negatives have a score that is "
                    "not a number; they are left out.",
                    remedy="Find out why; a detector that gives no score on hard samples looks better than it is.",
                    value=float(missing),
                )
            )
        short = sorted(fpr for fpr in fprs if self.too_few(fpr))
        if short:
            rates = " and ".join(f"{fpr:g}" for fpr in reversed(short))
            found.append(
                Finding(
                    code="few-negatives",
                    severity="warning",
                    message=f"There are {len(self.negatives):,} negatives; a true positive rate at a false positive "
                    f"rate of {rates} is taken here at no false positive at all.",
                    remedy=f"Give at least {math.ceil(1 / short[-1] - 1e-9):,} negatives"
                    + (f", {math.ceil(1 / short[0] - 1e-9):,} for {short[0]:g}" if len(short) > 1 else "")
                    + ", or use scores that are p-values.",
                    value=float(len(self.negatives)),
                )
            )
        return found

    def _allowed(self, fpr: float, strict: bool) -> int:
        """The number of negatives that may be flagged: the largest k with k / N <= fpr, or < fpr."""
        if not 0 <= fpr <= 1:
            raise InputError(f"fpr is {fpr}; a rate between 0 and 1 is needed, such as 0.001.")
        count = len(self.negatives)
        allowed = min(count, int(fpr * count) + 1)
        while allowed > 0 and (allowed / count > fpr or (strict and allowed / count >= fpr)):
            allowed -= 1
        return allowed

    def _inner(self, what: str | float) -> float:
        if isinstance(what, str) or not 0 < what < 1:
            hint = did_you_mean(what, ["auc"]) if isinstance(what, str) else ""
            raise InputError(f"what is {what!r}; 'auc' or a false positive rate between 0 and 1 is needed.{hint}")
        return float(what)

    def _auc_interval(self, method: str, level: float, resamples: int, seed: int) -> Estimate:
        if method == "bootstrap":
            lo, hi = _bootstrap(self, _auc_of, level, resamples, seed)
            if lo < hi:
                return self._estimate(self.auc, lo, hi, "stratified bootstrap", level)
        lo, hi = newcombe(self.auc, len(self.positives), len(self.negatives), level)
        return self._estimate(self.auc, lo, hi, "newcombe", level)

    def _exact_tpr(self, fpr: float, strict: bool, level: float) -> Estimate:
        ends = quantile(np.clip(self.negatives, -_LARGEST, _LARGEST), 1 - fpr, level=(1 + level) / 2)
        positives = np.clip(self.positives, -_LARGEST, _LARGEST)
        n, inner = len(positives), (1 + level) / 2
        value = self.tpr_at(fpr, strict)
        sure = int(n - np.searchsorted(positives, ends.hi, side="right"))
        most = int(n - np.searchsorted(positives, ends.lo, side="left"))
        lo, hi = clopper_pearson(sure, n, inner)[0], clopper_pearson(most, n, inner)[1]
        return self._estimate(value, min(lo, value), max(hi, value), "exact", level, both=False)

    def _estimate(
        self, value: float, lo: float, hi: float, method: str, level: float, *, both: bool = True
    ) -> Estimate:
        n = len(self.positives) + (len(self.negatives) if both else 0)
        return Estimate(value=value, lo=lo, hi=hi, n=n, method=method, level=level)


def roc(scores: ArrayLike, positive: ArrayLike) -> Roc:
    """Compare the scores of positives with those of negatives.

    Args:
        scores: [N]; larger means more like a positive. Infinite scores are ordered, NaN are counted and left out.
        positive: [N] booleans.

    Returns:
        The curve, with its area, rates and intervals.

    Raises:
        InputError: shapes differ, or there is no positive or no negative with a score.

    Cost: one sort.

    >>> curve = roc([0.1, 0.4, 0.35, 0.8], [False, False, True, True])
    >>> curve.auc, curve.tpr_at(0.0), curve.tpr_at(0.5)
    (0.75, 0.5, 1.0)
    """
    values, mask = np.asarray(scores, dtype=np.float64), np.asarray(positive)
    if values.ndim != 1 or values.shape != mask.shape or mask.dtype != bool:
        raise InputError(
            f"scores are {values.shape} and positive is {mask.dtype} {mask.shape}; numbers [N] and booleans [N], over "
            "the same samples, are needed."
        )
    known = ~np.isnan(values)
    groups = [np.sort(values[chosen & known]) for chosen in (mask, ~mask)]
    missing = [int((chosen & ~known).sum()) for chosen in (mask, ~mask)]
    for name, group, lost in zip(("positives", "negatives"), groups, missing, strict=True):
        if not len(group):
            because = f" ({lost} have a score that is not a number)" if lost else ""
            raise InputError(f"There are no {name} with a score{because}; at least one is needed.")
    return Roc(positives=groups[0], negatives=groups[1], nan_positives=missing[0], nan_negatives=missing[1])


def roc_figure(
    curves: Mapping[str, Roc],
    *,
    name: str = "roc",
    title: str = "ROC",
    fprs: Sequence[float] = (),
    level: float = 0.95,
    y_scale: str = "linear",
    chance: bool = False,
    sides: tuple[str, str] = ("positives", "negatives"),
) -> Figure:
    """A figure of one or more curves: TPR against FPR on a logarithmic axis, with bands.

    The band of a curve holds its exact interval at every false positive rate for itself. The axis begins at
    ``1 / N``, the lowest rate that the negatives can show; so does a logarithmic axis of the true positive rate.

    Args:
        curves: label -> curve.
        name: file name of the figure.
        title: heading.
        fprs: false positive rates that are marked by a line, where the axis reaches them.
        level: of the bands.
        y_scale: of the true positive rate, ``"linear"`` or ``"log"``.
        chance: draw the line TPR = FPR of scores that know nothing.
        sides: what positives and negatives are, in words.
    """
    series, smallest = [], 1.0
    for label, curve in curves.items():
        lowest = 1 / len(curve.negatives)
        smallest = min(smallest, lowest)
        grid = np.unique(np.append(np.geomspace(lowest, 1, _GRID)[:-1], 1.0))
        rates = [curve.interval(float(fpr), level=level) for fpr in grid[:-1]]
        series.append(
            Series(
                label=label,
                x=tuple(map(float, grid)),
                y=(*(rate.value for rate in rates), 1.0),
                lo=(*(rate.lo for rate in rates), 1.0),
                hi=(*(rate.hi for rate in rates), 1.0),
            )
        )
    edge = " Rates of 0 lie on the lower edge." if y_scale == "log" else ""
    counts = sorted({(len(curve.positives), len(curve.negatives)) for curve in curves.values()})
    sizes = "; ".join(f"{p:,} {sides[0]}, {n:,} {sides[1]}" for p, n in counts)
    if chance:
        series.append(_chance(smallest, y_scale))
    return Figure(
        name=name,
        title=title,
        caption=f"True positive rate against false positive rate, measured on {sizes}. Bands: exact {level:.0%} "
        f"intervals of each point, which hold the uncertainty of the threshold too. Left of 1/{sides[1]} nothing can "
        f"be measured.{edge}",
        kind="line",
        x_label="false positive rate",
        y_label="true positive rate",
        series=tuple(series),
        y_limits=(0.0 if y_scale == "linear" else min(smallest, 0.5), 1.0),
        x_limits=(smallest, 1.0) if smallest < 1 else None,
        x_scale="log",
        y_scale=y_scale,
        marks=tuple(Mark(axis="x", value=fpr, label=f"{fpr:g}") for fpr in fprs if smallest <= fpr < 1),
    )


def _chance(smallest: float, y_scale: str) -> Series:
    """The diagonal: straight between its ends on two logarithmic axes, else through many points."""
    places = np.geomspace(smallest, 1, 2 if y_scale == "log" else _GRID) if smallest < 1 else np.array([1.0])
    rates = (smallest, *map(float, places[1:-1]), 1.0) if smallest < 1 else (1.0,)
    return Series(label="chance", x=rates, y=rates)


def _method(given: str, allowed: Sequence[str]) -> str:
    if given and given not in allowed:
        raise InputError(f"method is {given!r}.{did_you_mean(given, allowed)}")
    return given or allowed[0]


def newcombe(auc: float, positives: int, negatives: int, level: float) -> tuple[float, float]:
    """The ends of Newcombe's interval of an area (:meth:`Roc.interval`), by bisection on both sides of it."""
    z = float(ndtri((1 + level) / 2))
    half = (positives + negatives) / 2 - 1

    def inside(area: float) -> bool:
        spread = area * (1 - area) * (1 + half * ((1 - area) / (2 - area) + area / (1 + area)))
        return (auc - area) ** 2 <= z * z * spread / (positives * negatives)

    ends = []
    for outer in (0.0, 1.0):
        within, without = auc, outer
        for _ in range(60):
            middle = (within + without) / 2
            within, without = (middle, without) if inside(middle) else (within, middle)
        ends.append((within + without) / 2)
    return ends[0], ends[1]


def _bootstrap(
    curve: Roc,
    statistic: Callable[[np.ndarray, np.ndarray], float],
    level: float,
    resamples: int,
    seed: int,
) -> tuple[float, float]:
    """Percentiles of a statistic of counts by distinct score, ascending, of drawn positives and negatives."""
    if resamples < 2:
        raise InputError(f"resamples is {resamples}; at least 2 are needed (2000 is usual).")
    scores = np.unique(np.concatenate([curve.positives, curve.negatives]))
    places = [np.searchsorted(scores, group) for group in (curve.positives, curve.negatives)]
    rng = np.random.default_rng(abs(seed) * 2 + (seed < 0))
    found = np.empty(resamples)
    for index in range(resamples):
        drawn = [
            np.bincount(group[rng.integers(len(group), size=len(group))], minlength=len(scores)) for group in places
        ]
        found[index] = statistic(drawn[0], drawn[1])
    lo, hi = np.quantile(found, [(1 - level) / 2, (1 + level) / 2])
    return float(lo), float(hi)


def _auc_of(positives: np.ndarray, negatives: np.ndarray) -> float:
    below = np.cumsum(negatives) - negatives / 2
    return float(positives @ below / (positives.sum() * negatives.sum()))


def _tpr_of(positives: np.ndarray, negatives: np.ndarray, fpr: float, strict: bool) -> float:
    flagged = np.cumsum(negatives[::-1]) / negatives.sum()
    good = np.flatnonzero(flagged < fpr if strict else flagged <= fpr)
    return float(positives[::-1][: good[-1] + 1].sum() / positives.sum()) if len(good) else 0.0
