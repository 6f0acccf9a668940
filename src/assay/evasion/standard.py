"""The standard evaluation: the composition of AutoAttack, each part on the survivors of those before.

Linf, L2: APGD-CE, then APGD-T (9 targets), FAB-T (9 targets), Square (5000 queries).
L1: APGD-CE with five restarts and APGD-T with five targets, both through larger radii
first, then FAB-T and Square. With fewer classes there are fewer targets, and below
four classes the margin stands in for the difference-of-logits ratio.
"""

from __future__ import annotations

from ..core.methods import MethodCard
from ..core.settings import option, settings
from ..search.threat import ThreatModel
from .apgd import AUTOATTACK, ApgdCE, ApgdDLR, ApgdTargeted
from .fab import FabTargeted
from .square import Square
from .stages import Stage

CARD = MethodCard(
    name="standard",
    kind="attack",
    title="Standard evaluation (AutoAttack's composition)",
    summary="APGD on the cross-entropy, targeted APGD, targeted FAB and Square, each on the survivors of those before.",
    settings="Standard",
    citation=AUTOATTACK,
    norms=("linf", "l2", "l1"),
    mode="ensemble",
    members=("apgd-ce", "apgd-t", "fab-t", "square"),
)
CARD_RAND = MethodCard(
    name="rand",
    kind="attack",
    title="Evaluation of randomised models (AutoAttack's composition)",
    summary="APGD on the cross-entropy and on the difference-of-logits ratio, with gradients averaged over 20 answers.",
    settings="Rand",
    citation=AUTOATTACK,
    norms=("linf", "l2", "l1"),
    mode="ensemble",
    members=("apgd-ce", "apgd-dlr"),
)


@settings
class Standard:
    """Settings of the standard evaluation; the defaults are the published ones."""

    steps: int = option(default=100, help="steps of APGD and FAB", at_least=1)
    targets: int = option(default=9, help="target classes; never more than there are wrong classes", at_least=1)
    queries: int = option(default=5000, help="queries of Square", at_least=1)

    def stages(self, threat: ThreatModel, num_classes: int) -> list[Stage]:
        """The four parts in order."""
        sparse = threat.norm == "l1"
        parts = (
            ApgdCE(steps=self.steps, restarts=5 if sparse else 1),
            ApgdTargeted(steps=self.steps, targets=min(self.targets, 5) if sparse else self.targets),
            FabTargeted(steps=self.steps, targets=self.targets),
            Square(queries=self.queries),
        )
        return [stage for part in parts for stage in part.stages(threat, num_classes)]


@settings
class Rand:
    """Settings of the evaluation of randomised models."""

    steps: int = option(default=100, help="steps of APGD", at_least=1)
    eot: int = option(default=20, help="answers averaged at every step (expectation over transformation)", at_least=1)

    def stages(self, threat: ThreatModel, num_classes: int) -> list[Stage]:
        """The two parts in order."""
        parts = (ApgdCE(steps=self.steps), ApgdDLR(steps=self.steps))
        return [stage for part in parts for stage in part.stages(threat, num_classes)]
