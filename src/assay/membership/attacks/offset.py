"""Offset attack: the target's confidence less what is usual for the record.

    both   mean over queries of φ* − ½ (c_in + c_out)
    out    mean over queries of φ* − c_out
    in     mean over queries of φ* − c_in

with φ the logit-scaled confidence and c its centres over reference models with (IN) and without (OUT) the record. It is
LiRA with one spread for all, taken off; ``out`` needs no model that saw the record.
"""

from __future__ import annotations

from ...core.methods import Citation, MethodCard
from ...core.settings import option, settings
from ..signals import Answers, Scored
from .differences import SIDES, difference

CARD = MethodCard(
    name="offset",
    kind="inference",
    title="Offset attack",
    summary="The target's confidence less its centre over reference models, with one threshold for all records.",
    settings="Offset",
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
class Offset:
    """Settings of the offset attack."""

    side: str = option(default="both", help="reference models whose centres are taken off", choices=SIDES)
    centre: str = option(default="median", help="over models", choices=("median", "mean"))
    signal: str = option(default="confidence", help="what is compared", choices=("confidence", "hinge", "probability"))

    def score(self, answers: Answers) -> Scored:
        """The differences, averaged over queries."""
        scores, findings = difference(answers.signal(self.signal), self.side, self.centre)
        models = "IN and OUT" if self.side == "both" else self.side.upper()
        return Scored(
            scores=scores,
            findings=findings,
            about=f"Offset attack: {self.signal} less its {self.centre} over {models} models, mean over "
            f"{answers.queries} queries, {answers.models} reference models.",
        )
