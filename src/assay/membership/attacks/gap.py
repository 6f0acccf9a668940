"""Gap attack: a record that the target gets right is called a member; for black boxes that give labels alone.

    score = share of queries that are right − share that OUT models get right

The first term is the attack of Yeom et al.: its advantage is the gap between training and test accuracy. The second
takes off what models that never saw the record get right, so that easy records do not pass for members; with
``calibrate=false`` it is left out, and no reference model is needed. The score takes few values, so that low false
positive rates are out of reach unless there are many queries.
"""

from __future__ import annotations

from ...core.methods import Citation, MethodCard
from ...core.settings import option, settings
from ..signals import Answers, Scored
from .differences import difference

CARD = MethodCard(
    name="gap",
    kind="inference",
    title="Gap attack",
    summary="Calls records that are classified rightly members, less how often models without them are right.",
    settings="Gap",
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
class Gap:
    """Settings of the gap attack."""

    calibrate: bool = option(default=True, help="take off what OUT models get right; needs reference models")

    def score(self, answers: Answers) -> Scored:
        """Shares of right answers, calibrated by those of OUT models."""
        signals = answers.signal("correct")
        queries = f"share of {answers.queries} queries that are right"
        if not self.calibrate:
            return Scored(
                scores=signals.target.mean(axis=1),
                findings=[],
                about=f"Gap attack: {queries}; labels only, no reference models.",
            )
        scores, findings = difference(signals, "out", "mean")
        return Scored(
            scores=scores,
            findings=findings,
            about=f"Gap attack: {queries}, less the share that OUT models get right, {answers.models} reference "
            "models; labels only.",
        )
