"""Evidence: how well a membership score tells members from non-members, with intervals that hold.

Scores are larger for likelier members. A record is flagged where its score lies *above* a threshold. The true positive
rate (TPR) is the share of members that is flagged, the false positive rate (FPR) the share of non-members.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import ndtri
from scipy.stats import rankdata

from ..core.estimates import Estimate
from ..core.probes import Figure, Finding
from ..core.roc import Roc, newcombe
from ..core.roc import roc_figure as core_figure
from .leakage import Bound, epsilon_lower_bound, positive_predictive_value, predictive_figure
from .one_run import GuessBound, epsilon_from_guesses
from .resampling import tpr_interval, two_way
from .sides import cluster_labels, curve_of, draws, generator, pair, rate

__all__ = [
    "Bound",
    "GuessBound",
    "NullArea",
    "auc_interval",
    "epsilon_from_guesses",
    "epsilon_lower_bound",
    "null_auc",
    "positive_predictive_value",
    "predictive_figure",
    "rate_name",
    "roc",
    "roc_figure",
    "shared_references",
    "small_sets",
    "tpr_interval",
    "two_way",
]

FEWEST_FALSE_POSITIVES = 10


def roc(scores: ArrayLike, member: ArrayLike) -> Roc:
    """Compare the scores of members with those of non-members.

    Args:
        scores: [N]; larger means more likely a member. NaN are counted and left out.
        member: [N] booleans.

    Returns:
        The curve, with ``.auc``, ``.tpr_at(fpr, strict=False)``, ``.threshold`` and ``.interval("auc")`` or
        ``.interval(0.01)``; its positives are the members.

    Raises:
        InputError: shapes differ, or there is no member or no non-member with a score.

    Cost: one sort.

    >>> curve = roc([0.1, 0.4, 0.35, 0.8], [False, False, True, True])
    >>> curve.auc, curve.tpr_at(0.0), curve.tpr_at(0.5)
    (0.75, 0.5, 1.0)
    """
    return curve_of(*pair(scores, member))


def auc_interval(
    scores: ArrayLike,
    member: ArrayLike,
    clusters: ArrayLike | None = None,
    *,
    level: float = 0.95,
) -> Estimate:
    """The AUC with the interval of DeLong, or of Obuchowski where records come in clusters.

    With ``V10(X_i)`` the share of non-members below member i (ties half), ``V01(Y_j)`` the share of members above
    non-member j, and ``A_c``, ``D_c`` their sums over cluster c minus what the AUC expects,

        Var = I10 / (I10 - 1) Σ A_c² / m² + I01 / (I01 - 1) Σ D_c² / n² + 2 I / (I - 1) Σ A_c D_c / (m n),

    I10, I01 and I being the clusters with a member, with a non-member, and all. The interval is symmetric on the
    logit of the AUC (DeLong et al., Biometrics, 1988; Obuchowski, Biometrics, 1997). Where that variance says nothing
    (all pairs in order, constant scores, one cluster), Newcombe's interval takes its place, and ``method`` says so:
    the bootstrap has no width there either.

    Args:
        scores: [N]; larger means more likely a member; NaN are left out.
        member: [N] booleans.
        clusters: [N] labels of records that belong together, such as those of one person; ``None``: each its own.
        level: nominal coverage, in (0, 1).

    Cost: three sorts.

    >>> str(auc_interval([0.1, 0.4, 0.35, 0.8, 0.7, 0.2], [False, False, True, True, True, False]))
    '0.889 [0.261, 0.995], n=6'
    """
    values, mask = pair(scores, member)
    rate("level", level, ends=False)
    curve = roc(values, mask)
    labels = np.arange(len(values)) if clusters is None else cluster_labels(clusters, len(values))
    known = ~np.isnan(values)
    area, name = curve.auc, "DeLong" if clusters is None else "Obuchowski"
    spread, sides = _area_variance(curve, values[known], mask[known], labels[known])
    n = int(known.sum())
    if 0 < area < 1 and spread > 0:
        logit = math.log(area / (1 - area))
        half = float(ndtri((1 + level) / 2)) * math.sqrt(spread) / (area * (1 - area))
        lo, hi = (1 / (1 + math.exp(-end)) if end > -700 else 0.0 for end in (logit - half, logit + half))
        return Estimate(value=area, lo=lo, hi=hi, n=n, method=f"{name}, logit", level=level)
    lo, hi = newcombe(area, *sides, level)
    return Estimate(value=area, lo=lo, hi=hi, n=n, method=f"newcombe, for {name}'s variance is 0", level=level)


@dataclass(frozen=True, kw_only=True)
class NullArea:
    """The AUC, and what it would be if the labels said nothing.

    Args:
        value: the AUC of the true labels.
        shuffled: mean AUC over shuffled labels; ``lo`` and ``hi`` hold the share ``level`` of them.
        p_value: share of labellings, the true one included, whose AUC is at least as far from 1/2.
    """

    value: float
    shuffled: Estimate
    p_value: float

    @property
    def inside(self) -> bool:
        """Whether the AUC lies within what shuffled labels give."""
        return self.shuffled.lo <= self.value <= self.shuffled.hi


def null_auc(
    scores: ArrayLike, member: ArrayLike, permutations: int = 1000, *, level: float = 0.95, seed: int = 0
) -> NullArea:
    """The AUC under shuffled membership labels: the attack that knows nothing.

    Args:
        scores: [N]; larger means more likely a member; NaN are left out.
        member: [N] booleans.
        permutations: how often the labels are shuffled.
        level: share of shuffled areas between the ends.
        seed: of the shuffles.

    Cost: one sort, and ``permutations`` shuffles of N numbers.
    """
    values, mask = pair(scores, member)
    rate("level", level, ends=False)
    area = roc(values, mask).auc
    known = ~np.isnan(values)
    ranks, members = rankdata(values[known]), int(mask[known].sum())
    others, rng = len(ranks) - members, generator(seed)
    found = np.empty(draws("permutations", permutations))
    for index in range(permutations):
        chosen = rng.permutation(ranks)[:members]
        found[index] = (chosen.sum() - members * (members + 1) / 2) / (members * others)
    lo, hi = np.quantile(found, [(1 - level) / 2, (1 + level) / 2])
    far = np.abs(found - 0.5) >= abs(area - 0.5) - 1e-12
    middle = Estimate(
        value=float(found.mean()), lo=float(lo), hi=float(hi), n=len(ranks), method="shuffled labels", level=level
    )
    return NullArea(value=area, shuffled=middle, p_value=float((far.sum() + 1) / (permutations + 1)))


def roc_figure(
    curves: Mapping[str, Roc],
    *,
    name: str = "roc",
    title: str = "How well members are told from non-members",
    fprs: Sequence[float] = (0.001, 0.01),
    level: float = 0.95,
) -> Figure:
    """The ROC on two logarithmic axes, with exact bands and the line of chance.

    Args:
        curves: label -> curve of :func:`roc`.
        name: file name of the figure.
        title: heading.
        fprs: false positive rates that are marked by a line, where the axis reaches them.
        level: of the bands.
    """
    return core_figure(
        curves,
        name=name,
        title=title,
        fprs=fprs,
        level=level,
        y_scale="log",
        chance=True,
        sides=("members", "non-members"),
    )


def rate_name(fpr: float, non_members: int) -> str:
    """The name of a TPR that says what it is: ``"TPR at FPR 1%"``, or at no false positive where fewer cannot be seen.

    Args:
        fpr: the false positive rate.
        non_members: how many non-members were looked at.

    >>> rate_name(0.01, 500), rate_name(0.001, 500)
    ('TPR at FPR 1%', 'TPR at zero false positives')
    """
    return "TPR at zero false positives" if non_members * fpr < 1 - 1e-9 else f"TPR at FPR {100 * fpr:g}%"


def small_sets(curve: Roc, fprs: Sequence[float] = (0.001, 0.01)) -> list[Finding]:
    """What the size of the sets does not allow to be said, in plain words.

    Args:
        curve: of :func:`roc`.
        fprs: false positive rates at which the TPR is reported.
    """
    found = _left_out(curve)
    n = len(curve.negatives)
    for fpr in sorted(fprs):
        expected, needed = n * fpr, math.ceil(1 / fpr - 1e-9)
        rate_text = f"{100 * fpr:g} %"
        if curve.too_few(fpr):
            found.append(
                Finding(
                    code="no-false-positive-allowed",
                    severity="warning",
                    message=f"With {n:,} non-members, one wrong accusation is already more than {rate_text}. What is "
                    f"given for {rate_text} is the share of members found without any wrong accusation.",
                    remedy=f"Give at least {needed:,} non-members to speak of {rate_text}.",
                    value=float(n),
                )
            )
        elif expected < FEWEST_FALSE_POSITIVES - 1e-9:
            found.append(
                Finding(
                    code="few-false-positives",
                    severity="info",
                    message=f"At {rate_text}, {expected:g} of the {n:,} non-members decide where the line is drawn; "
                    "another set of non-members could move it a good deal.",
                    remedy=f"Read the interval, not the number; {math.ceil(FEWEST_FALSE_POSITIVES / fpr - 1e-9):,} "
                    "non-members would make it firm.",
                    value=expected,
                )
            )
    return found


def shared_references() -> Finding:
    """What no interval over records shows, where one set of reference models judged them all."""
    return Finding(
        code="one-set-of-references",
        severity="info",
        message="One set of reference models judged all records. The intervals hold the chance of the records, not "
        "that of these reference models.",
        remedy="Repeat the audit with an independent pool, and compare the records that are found.",
    )


def _left_out(curve: Roc) -> list[Finding]:
    missing = curve.nan_positives + curve.nan_negatives
    if not missing:
        return []
    return [
        Finding(
            code="records-left-out",
            severity="warning",
            message=f"{curve.nan_positives:,} members and {curve.nan_negatives:,} non-members have no score; they are "
            "left out.",
            remedy="Find out why: what cannot be judged may be what is most exposed.",
            value=float(missing),
        )
    ]


def _area_variance(
    curve: Roc, values: np.ndarray, member: np.ndarray, labels: np.ndarray
) -> tuple[float, tuple[int, int]]:
    """Obuchowski's variance of the area, 0 where it is not defined, and how many clusters each side has."""
    area, m, n = curve.auc, len(curve.positives), len(curve.negatives)
    excess = np.empty(len(values))
    for side, others, sign in ((member, curve.negatives, 1), (~member, curve.positives, -1)):
        own = values[side]
        below = (np.searchsorted(others, own, side="left") + np.searchsorted(others, own, side="right")) / 2
        share = below / len(others)
        excess[side] = (share if sign > 0 else 1 - share) - area
    _, units = np.unique(labels, return_inverse=True)
    count = int(units.max()) + 1
    a = np.bincount(units, weights=np.where(member, excess, 0.0), minlength=count) / m
    d = np.bincount(units, weights=np.where(member, 0.0, excess), minlength=count) / n
    sides = (len(np.unique(units[member])), len(np.unique(units[~member])))
    if min(sides) < 2:
        return 0.0, sides
    factors = [clusters / (clusters - 1) for clusters in (*sides, count)]
    return float(factors[0] * a @ a + factors[1] * d @ d + 2 * factors[2] * a @ d), sides
