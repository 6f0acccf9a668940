"""Calibrated loss: how much smaller is the loss than that of models that never saw the record?

    score = mean over queries of [ mean_{s in OUT} loss_s − loss* ]

A record that is easy for every model no longer passes for a member (difficulty calibration). With ``centre=median`` the
mean over models is a median.
"""

from __future__ import annotations

from ...core.methods import Citation, MethodCard
from ...core.settings import option, settings
from ..signals import Answers, Scored
from .differences import SIDES, difference

CARD = MethodCard(
    name="calibrated-loss",
    kind="inference",
    title="Calibrated loss",
    summary="The loss of models that never saw the record less the target's loss.",
    settings="CalibratedLoss",
    citation=Citation(
        key="watson2022importance",
        title="On the Importance of Difficulty Calibration in Membership Inference Attacks",
        authors="Watson, Lauren and Guo, Chuan and Cormode, Graham and Sablayrolles, Alexandre",
        year=2022,
        venue="International Conference on Learning Representations",
        arxiv="2111.08440",
    ),
)


@settings
class CalibratedLoss:
    """Settings of the calibrated loss."""

    side: str = option(default="out", help="reference models whose loss is compared", choices=SIDES)
    centre: str = option(default="mean", help="over models", choices=("mean", "median"))

    def score(self, answers: Answers) -> Scored:
        """The differences, averaged over queries."""
        scores, findings = difference(answers.signal("log-probability"), self.side, self.centre)
        models = "IN and OUT" if self.side == "both" else self.side.upper()
        return Scored(
            scores=scores,
            findings=findings,
            about=f"Calibrated loss: {self.centre} loss of {models} models less the target's, mean over "
            f"{answers.queries} queries, {answers.models} reference models.",
        )
