"""Global threshold: one threshold on the logit-scaled confidence for all records.

    score = mean over queries of φ* = z_y − log Σ_{c≠y} exp z_c

It orders the answers to one query as the loss does, and needs no reference model. Over several queries it
averages another scale, on which sure answers differ more.
"""

from __future__ import annotations

from ...core.methods import Citation, MethodCard
from ...core.settings import option, settings
from ..signals import Answers, Scored

CARD = MethodCard(
    name="global-threshold",
    kind="inference",
    title="Global threshold",
    summary="Calls the records with the largest logit-scaled confidence members, all by one threshold.",
    settings="GlobalThreshold",
    citation=Citation(
        key="carlini2022membership",
        title="Membership Inference Attacks From First Principles",
        authors="Carlini, Nicholas and Chien, Steve and Nasr, Milad and Song, Shuang and Terzis, Andreas and "
        "Tramer, Florian",
        year=2022,
        venue="IEEE Symposium on Security and Privacy",
        arxiv="2112.03570",
    ),
)


@settings
class GlobalThreshold:
    """Settings of the global threshold."""

    signal: str = option(default="confidence", help="what is compared", choices=("confidence", "hinge", "probability"))

    def score(self, answers: Answers) -> Scored:
        """The target's signal, averaged over queries."""
        return Scored(
            scores=answers.signal(self.signal).target.mean(axis=1),
            findings=[],
            about=f"Global threshold on the {self.signal}, mean over {answers.queries} queries; no reference models.",
        )
