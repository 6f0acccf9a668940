"""Auto-PGD: a projected gradient attack whose step size needs no tuning.

L ∈ {cross-entropy, difference-of-logits ratio}; the targeted form runs the
best-ranked wrong classes side by side and succeeds when the model says anything
but the label. The step rules are in ``assay.search.momentum``.
"""

from __future__ import annotations

from ..core.methods import Citation, MethodCard
from ..core.settings import option, settings
from ..search.engine import StepRule
from ..search.momentum import Momentum, SparseSteps
from ..search.objectives import (
    cross_entropy,
    difference_of_logits_ratio,
    targeted_difference_of_logits_ratio,
)
from ..search.threat import ThreatModel
from .stages import Stage

AUTOATTACK = Citation(
    key="croce2020reliable",
    title="Reliable evaluation of adversarial robustness with an ensemble of diverse parameter-free attacks",
    authors="Croce, Francesco and Hein, Matthias",
    year=2020,
    venue="International Conference on Machine Learning",
    arxiv="2003.01690",
)

CARD_CE = MethodCard(
    name="apgd-ce",
    kind="attack",
    title="Auto-PGD on the cross-entropy",
    summary="Momentum steps that halve when progress stalls, pushing up the cross-entropy.",
    settings="ApgdCE",
    citation=AUTOATTACK,
    norms=("linf", "l2", "l1"),
    mode="fixed",
)
CARD_DLR = MethodCard(
    name="apgd-dlr",
    kind="attack",
    title="Auto-PGD on the difference-of-logits ratio",
    summary="Momentum steps that halve when progress stalls, with a loss that ignores the scale of the logits.",
    settings="ApgdDLR",
    citation=AUTOATTACK,
    norms=("linf", "l2", "l1"),
    mode="fixed",
)
CARD_TARGETED = MethodCard(
    name="apgd-t",
    kind="attack",
    title="Targeted Auto-PGD",
    summary="Auto-PGD towards each of the best-ranked wrong classes, side by side.",
    settings="ApgdTargeted",
    citation=AUTOATTACK,
    norms=("linf", "l2", "l1"),
    mode="fixed",
)


def step_rule(threat: ThreatModel, steps: int, rho: float) -> StepRule:
    """The step rule of the norm; L1 has its own (arXiv 2103.01208)."""
    return SparseSteps(steps=steps) if threat.norm == "l1" else Momentum(steps=steps, rho=rho)


@settings
class ApgdCE:
    """Settings of Auto-PGD on the cross-entropy."""

    steps: int = option(default=100, help="gradient steps", at_least=1)
    restarts: int = option(default=1, help="random starts", at_least=1)
    rho: float = option(default=0.75, help="share of steps that must improve to keep the step size", above=0, below=1)

    def stages(self, threat: ThreatModel, num_classes: int) -> list[Stage]:
        """One untargeted search."""
        rule = step_rule(threat, self.steps, self.rho)
        return [Stage(name="apgd-ce", rule=rule, objective=cross_entropy, restarts=self.restarts)]


@settings
class ApgdDLR:
    """Settings of Auto-PGD on the difference-of-logits ratio."""

    steps: int = option(default=100, help="gradient steps", at_least=1)
    restarts: int = option(default=1, help="random starts", at_least=1)
    rho: float = option(default=0.75, help="share of steps that must improve to keep the step size", above=0, below=1)

    def stages(self, threat: ThreatModel, num_classes: int) -> list[Stage]:
        """One untargeted search."""
        rule = step_rule(threat, self.steps, self.rho)
        return [Stage(name="apgd-dlr", rule=rule, objective=difference_of_logits_ratio, restarts=self.restarts)]


@settings
class ApgdTargeted:
    """Settings of targeted Auto-PGD."""

    steps: int = option(default=100, help="gradient steps", at_least=1)
    targets: int = option(default=9, help="target classes; never more than there are wrong classes", at_least=1)
    restarts: int = option(default=1, help="random starts", at_least=1)
    rho: float = option(default=0.75, help="share of steps that must improve to keep the step size", above=0, below=1)

    def stages(self, threat: ThreatModel, num_classes: int) -> list[Stage]:
        """One targeted search, all targets side by side."""
        return [
            Stage(
                name="apgd-t",
                rule=step_rule(threat, self.steps, self.rho),
                objective=targeted_difference_of_logits_ratio,
                targets=min(self.targets, num_classes - 1),
                restarts=self.restarts,
            )
        ]
