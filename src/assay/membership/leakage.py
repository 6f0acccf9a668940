"""What a membership attack proves: a lower bound on ε, and how often a flagged record is a member."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import betaincinv

from ..core.errors import InputError
from ..core.estimates import Estimate, proportion
from ..core.probes import Figure, Series
from .sides import generator, pair, rate

DIRECTIONS = ("flagged", "not flagged")
PRIORS = tuple(float(prior) for prior in np.geomspace(1e-4, 0.5, 33))


@dataclass(frozen=True, kw_only=True)
class Bound:
    """A lower bound on ε of (ε, δ)-differential privacy, and what it rests on.

    Args:
        epsilon: the bound; 0 where nothing can be shown.
        threshold: records with a score above it are flagged.
        tpr: share of flagged members; its lower end enters the bound.
        fpr: share of flagged non-members; its upper end enters the bound. Both ends hold together at ``level``.
        delta: δ.
        level: confidence of the bound.
        choice: how the threshold came about, in words.
        candidates: how many thresholds the error was divided among.
        direction: ``"flagged"`` if the flagged records show it, ``"not flagged"`` if the others do, ``""`` if none.
    """

    epsilon: float
    threshold: float
    tpr: Estimate
    fpr: Estimate
    delta: float
    level: float
    choice: str
    candidates: int
    direction: str

    def __float__(self) -> float:
        return self.epsilon

    def __str__(self) -> str:
        """One plain sentence."""
        if self.epsilon == 0:
            return (
                f"These scores show no lower bound on ε above 0 at {self.level:.0%} confidence (threshold: "
                f"{self.choice}); that is no proof of privacy."
            )
        return (
            f"ε is at least {self.epsilon:.3g} at δ = {self.delta:g} with {self.level:.0%} confidence (threshold: "
            f"{self.choice}), if the trials are independent."
        )


def epsilon_lower_bound(
    scores: ArrayLike,
    member: ArrayLike,
    threshold: float | Sequence[float] | None = None,
    delta: float = 0.0,
    level: float = 0.95,
    *,
    seed: int = 0,
) -> Bound:
    """The largest ε that the attack disproves: ``ε >= log((TPR - δ) / FPR)`` and ``log((1 - FPR - δ) / (1 - TPR))``.

    An (ε, δ)-private training flags a member at most ``e^ε`` times as often as it flags the same record when it is
    not one, plus δ; and likewise for not flagging. TPR enters with its lower and FPR with its upper end, each the end
    of Clopper and Pearson at half of the error, so that all four terms hold together.

    The threshold must not come from the records that measure it. One number was fixed beforehand (such as on
    reference models). Several numbers, fixed beforehand, share the error (Bonferroni), and the largest bound counts.
    Without one, a random half of the records chooses it and the other half measures.

    It takes the scores as independent trials, as of one audited record in each of many models. Records of one model are
    not quite that; :func:`assay.membership.one_run.epsilon_from_guesses` needs no such assumption, but fair coins.

    Args:
        scores: [N]; larger means more likely a member; NaN are left out.
        member: [N] booleans.
        threshold: records above it are flagged; one number, several, or ``None``.
        delta: δ, in [0, 1).
        level: confidence, in (0, 1).
        seed: of the halves.

    >>> bound = epsilon_lower_bound([1.0] * 90 + [0.0] * 110, [True] * 100 + [False] * 100, threshold=0.5)
    >>> round(bound.epsilon, 2), bound.direction
    (3.12, 'flagged')
    """
    values, mask = pair(scores, member)
    known = ~np.isnan(values)
    values, mask = values[known], mask[known]
    rate("level", level, ends=False)
    if not 0 <= delta < 1:
        raise InputError(f"delta is {delta}; a number from 0 to below 1 is needed, such as 1e-5.")
    _two_sides(mask, 1)
    if threshold is None:
        _two_sides(mask, 2)
        first = _half(mask, generator(seed))
        best = _best_threshold(values[first], mask[first], delta, level)
        return _bound(values[~first], mask[~first], [best], delta, level, "chosen on one half, measured on the other")
    candidates = [float(one) for one in np.atleast_1d(np.asarray(threshold, dtype=np.float64))]
    if not candidates or any(math.isnan(one) for one in candidates):
        raise InputError(f"threshold is {threshold!r}; one number, several, or None is needed.")
    choice = "fixed beforehand" if len(candidates) == 1 else f"best of {len(candidates)} fixed beforehand"
    return _bound(values, mask, candidates, delta, level, choice)


def positive_predictive_value(tpr: float | Estimate, fpr: float | Estimate, prior: float) -> Estimate:
    """The chance that a flagged record is a member: ``TPR π / (TPR π + FPR (1 - π))``.

    It grows with TPR and falls with FPR, so its ends are those of the lowest TPR with the highest FPR, and the reverse.
    Errors add up (Bonferroni): two rates at 97.5 % give a value at 95 %.

    Args:
        tpr: share of members that is flagged, with or without interval.
        fpr: share of non-members that is flagged.
        prior: π, the share of members among the records that are looked at, in [0, 1].

    Returns:
        The estimate; NaN where nobody is flagged.

    >>> positive_predictive_value(0.2, 0.001, prior=0.01).value.__round__(3)
    0.669
    """
    true, false = (_as_estimate(name, value) for name, value in (("tpr", tpr), ("fpr", fpr)))
    share = rate("prior", prior)
    level = max(0.0, true.level + false.level - 1)
    lo, hi = _predictive(true.lo, false.hi, share), _predictive(true.hi, false.lo, share)
    return Estimate(
        value=_predictive(true.value, false.value, share),
        lo=0.0 if math.isnan(lo) else lo,
        hi=1.0 if math.isnan(hi) else hi,
        n=true.n + false.n,
        method=f"from {true.method}, Bonferroni" if true.method else "",
        level=level,
    )


def predictive_figure(
    attacks: Mapping[str, tuple[float | Estimate, float | Estimate]],
    *,
    priors: Sequence[float] = PRIORS,
    name: str = "predictive-value",
    title: str = "How often a flagged record is a member",
) -> Figure:
    """A figure of the positive predictive value against the share of members.

    Args:
        attacks: label -> (TPR, FPR).
        priors: shares of members, ascending, above 0.
        name: file name of the figure.
        title: heading.
    """
    series = []
    for label, (tpr, fpr) in attacks.items():
        found = [positive_predictive_value(tpr, fpr, prior) for prior in priors]
        series.append(
            Series(
                label=label,
                x=tuple(priors),
                y=tuple(one.value for one in found),
                lo=tuple(one.lo for one in found),
                hi=tuple(one.hi for one in found),
            )
        )
    return Figure(
        name=name,
        title=title,
        caption="Share of members among flagged records, against their share among all records that are looked at. "
        "Where members are rare, most flags are false.",
        kind="line",
        x_label="share of members among the records",
        y_label="share of members among flagged",
        series=tuple(series),
        y_limits=(0.0, 1.0),
        x_scale="log",
    )


def _predictive(tpr: float, fpr: float, prior: float) -> float:
    flagged = tpr * prior + fpr * (1 - prior)
    return tpr * prior / flagged if flagged > 0 else math.nan


def _as_estimate(name: str, value: float | Estimate) -> Estimate:
    if isinstance(value, Estimate):
        return value
    known = rate(name, value)
    return Estimate(value=known, lo=known, hi=known, n=0, method="", level=1.0)


def _two_sides(member: np.ndarray, fewest: int) -> None:
    for name, count in (("members", int(member.sum())), ("non-members", int((~member).sum()))):
        if count < fewest:
            raise InputError(
                f"There are {count} {name} with a score; at least {fewest} are needed"
                + (", half of them to choose the threshold. Or give a threshold." if fewest > 1 else ".")
            )


def _half(member: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A random half of the members and of the non-members. [N] booleans."""
    chosen = np.zeros(len(member), dtype=bool)
    for side in (member, ~member):
        places = rng.permutation(np.flatnonzero(side))
        chosen[places[: len(places) // 2]] = True
    return chosen


def _best_threshold(values: np.ndarray, member: np.ndarray, delta: float, level: float) -> float:
    """The score that gives the largest bound when it is the threshold; that bound itself would not be valid."""
    candidates = np.unique(values)
    flagged = [len(own) - np.searchsorted(np.sort(own), candidates, side="right") for own in _sides(values, member)]
    sizes = [len(own) for own in _sides(values, member)]
    error = (1 - level) / 2
    tpr_lo, fpr_hi = _lower(flagged[0], sizes[0], error), 1 - _lower(sizes[1] - flagged[1], sizes[1], error)
    return float(candidates[int(np.argmax(_terms(tpr_lo, fpr_hi, delta).max(axis=0)))])


def _sides(values: np.ndarray, member: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return values[member], values[~member]


def _lower(successes: np.ndarray, n: int, error: float) -> np.ndarray:
    """The one-sided lower ends of Clopper and Pearson."""
    return np.where(successes > 0, betaincinv(np.maximum(successes, 1), n - successes + 1, error), 0.0)


def _terms(tpr_lo: ArrayLike, fpr_hi: ArrayLike, delta: float) -> np.ndarray:
    """The two bounds on ε, from flagged records and from those that are not flagged. [2, ...]."""
    low, high = np.asarray(tpr_lo, dtype=np.float64), np.asarray(fpr_hi, dtype=np.float64)
    with np.errstate(divide="ignore"):
        return np.stack(
            [
                np.log(np.maximum(low - delta, 0.0)) - np.log(high),
                np.log(np.maximum(1 - high - delta, 0.0)) - np.log(1 - low),
            ]
        )


def _bound(
    values: np.ndarray, member: np.ndarray, candidates: Sequence[float], delta: float, level: float, choice: str
) -> Bound:
    inner = 1 - (1 - level) / len(candidates)
    found = [(*_measure(values, member, one, delta, inner), one) for one in candidates]
    epsilon, direction, tpr, fpr, threshold = max(found, key=lambda one: one[0])
    return Bound(
        epsilon=epsilon,
        threshold=threshold,
        tpr=tpr,
        fpr=fpr,
        delta=delta,
        level=level,
        choice=choice,
        candidates=len(candidates),
        direction=direction,
    )


def _measure(
    values: np.ndarray, member: np.ndarray, threshold: float, delta: float, level: float
) -> tuple[float, str, Estimate, Estimate]:
    """The bound at a threshold, which records show it, and the two rates."""
    members, others = _sides(values, member)
    tpr = proportion(int((members > threshold).sum()), len(members), level=level)
    fpr = proportion(int((others > threshold).sum()), len(others), level=level)
    terms = _terms(tpr.lo, fpr.hi, delta)
    best = int(np.argmax(terms))
    return (float(terms[best]), DIRECTIONS[best], tpr, fpr) if terms[best] > 0 else (0.0, "", tpr, fpr)
