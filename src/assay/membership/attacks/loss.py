"""Loss attack: records that the target fits well are called members.

    score = mean over queries of log p_y(x | θ*) = −mean loss

It needs no reference model, and cannot tell an easy record from one that was learnt. The largest TPR − FPR over its
thresholds is the membership advantage of Yeom et al.
"""

from __future__ import annotations

from ...core.methods import Citation, MethodCard
from ...core.settings import settings
from ..signals import Answers, Scored

CARD = MethodCard(
    name="loss",
    kind="inference",
    title="Loss attack",
    summary="Calls the records with the smallest loss members; the baseline without reference models.",
    settings="Loss",
    citation=Citation(
        key="yeom2018privacy",
        title="Privacy Risk in Machine Learning: Analyzing the Connection to Overfitting",
        authors="Yeom, Samuel and Giacomelli, Irene and Fredrikson, Matt and Jha, Somesh",
        year=2018,
        venue="IEEE Computer Security Foundations Symposium",
        arxiv="1709.01604",
    ),
)


@settings
class Loss:
    """Settings of the loss attack: there are none."""

    def score(self, answers: Answers) -> Scored:
        """log p_y of the target, averaged over queries."""
        signals = answers.signal("log-probability")
        return Scored(
            scores=signals.target.mean(axis=1),
            findings=[],
            about=f"Loss attack: log-probability of the true class, mean over {answers.queries} queries; "
            "no reference models.",
        )
