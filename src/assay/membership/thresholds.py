"""Thresholds that were fixed on reference models alone, and what they achieve on the real target."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from ..core.errors import InputError
from ..core.estimates import Estimate, proportion
from ..core.probes import Finding
from ..core.roc import Roc
from ..core.roc import roc as core_roc
from .leakage import positive_predictive_value
from .sides import pair, rate


@dataclass(frozen=True, kw_only=True)
class Calibrated:
    """A threshold from reference models that played the target, and what it does to the real one.

    Args:
        threshold: records with a score above it are flagged.
        asked: the false positive rate it was made for.
        strict: whether the mock targets' rate lies below ``asked``, or at most at it.
        fpr: share of flagged non-members of the real target, with the interval of Clopper and Pearson.
        tpr: share of flagged members of the real target, likewise.
        mock_fpr: share of flagged non-members of the mock targets.
        mock_tpr: share of flagged members of the mock targets.
        targets: how many mock targets there were.
        non_members: how many scores of their non-members decided.
    """

    threshold: float
    asked: float
    strict: bool
    fpr: Estimate
    tpr: Estimate
    mock_fpr: float
    mock_tpr: float
    targets: int
    non_members: int

    def __str__(self) -> str:
        """One plain sentence, with the convention."""
        most = "fewer than" if self.strict else "at most"
        return (
            f"The line was drawn on {self.targets} reference models that played the target, so that {most} "
            f"{100 * self.asked:g} % of their non-members score above it. On the real model "
            f"{100 * self.tpr.value:.3g} % of {self.tpr.n:,} members "
            f"({100 * self.tpr.lo:.3g} to {100 * self.tpr.hi:.3g} %) and {100 * self.fpr.value:.3g} % of "
            f"{self.fpr.n:,} non-members ({100 * self.fpr.lo:.3g} to {100 * self.fpr.hi:.3g} %) do."
        )

    def predictive_value(self, prior: float, level: float = 0.95) -> Estimate:
        """The chance that a flagged record is a member, where a share ``prior`` of all records is."""
        inner = (1 + level) / 2
        rates = [proportion(round(one.value * one.n), one.n, level=inner) for one in (self.tpr, self.fpr)]
        return positive_predictive_value(rates[0], rates[1], prior)

    def findings(self) -> list[Finding]:
        """Whether there was enough to draw the line, and whether it kept its promise on the real target."""
        found = []
        if self.asked * self.non_members < 1 - 1e-9:
            found.append(
                Finding(
                    code="few-mock-non-members",
                    severity="warning",
                    message=f"The reference models have {self.non_members:,} scores of non-members, too few to draw a "
                    f"line at {100 * self.asked:g} %: it was drawn at the highest of them.",
                    remedy="Let more reference models play the target, or ask for a higher rate.",
                    value=float(self.non_members),
                )
            )
        if self.fpr.lo > self.asked:
            found.append(self._not_kept())
        return found

    def _not_kept(self) -> Finding:
        return Finding(
            code="threshold-not-kept",
            severity="warning",
            message=f"The line drawn on the reference models for {100 * self.asked:g} % wrong accusations gives "
            f"{100 * self.fpr.value:.3g} % on the real model ({self.fpr.n:,} non-members).",
            remedy="The reference models differ from the real one: train them by its recipe, on data like its own.",
            value=self.fpr.value,
        )


def threshold_of(scores: ArrayLike, member: ArrayLike, fpr: float, *, strict: bool = False) -> float:
    """The threshold at which at most ``fpr`` of the mock targets' non-members are flagged, all targets pooled.

    Args:
        scores: [T, N] of N records in T models that play the target; NaN are left out.
        member: [T, N] booleans.
        fpr: largest share of non-members above the threshold, in [0, 1].
        strict: that share lies below ``fpr``, not at it.

    >>> threshold_of([[0.1, 0.2, 0.3, 0.9]], [[False, False, False, True]], fpr=0.4)
    0.2
    """
    values, mask = pair(scores, member, dimensions=2)
    return _pooled(values, mask).threshold(fpr, strict)


def calibrated(
    mock_scores: ArrayLike,
    mock_member: ArrayLike,
    scores: ArrayLike,
    member: ArrayLike,
    fpr: float = 0.01,
    *,
    strict: bool = False,
    level: float = 0.95,
) -> Calibrated:
    """A threshold fixed on mock targets, and the rates that it achieves on the real one.

    Args:
        mock_scores: [T, N] of N records in T reference models that played the target.
        mock_member: [T, N] booleans.
        scores: [N'] of the real target.
        member: [N'] booleans.
        fpr: false positive rate asked for, in [0, 1].
        strict: the mock targets' rate must lie below it, not at it.
        level: of the two intervals, each for itself.
    """
    mock, mock_mask = pair(mock_scores, mock_member, dimensions=2)
    values, mask = pair(scores, member)
    pooled = _pooled(mock, mock_mask)
    threshold = pooled.threshold(rate("fpr", fpr), strict)
    known = ~np.isnan(values)
    flagged = values > threshold
    achieved = {}
    for name, side in (("members", mask & known), ("non-members", ~mask & known)):
        if not side.any():
            raise InputError(f"The target has no {name} with a score; give at least one of each side.")
        achieved[name] = proportion(int(flagged[side].sum()), int(side.sum()), level=level)
    return Calibrated(
        threshold=threshold,
        asked=float(fpr),
        strict=strict,
        fpr=achieved["non-members"],
        tpr=achieved["members"],
        mock_fpr=float(np.mean(pooled.negatives > threshold)),
        mock_tpr=float(np.mean(pooled.positives > threshold)),
        targets=len(mock),
        non_members=len(pooled.negatives),
    )


def _pooled(values: np.ndarray, member: np.ndarray) -> Roc:
    known = ~np.isnan(values)
    for name, side in (("members", member & known), ("non-members", ~member & known)):
        if not side.any():
            raise InputError(f"The mock targets have no {name} with a score; give at least one of each side.")
    return core_roc(values.reshape(-1), member.reshape(-1))
