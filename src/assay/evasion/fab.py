"""Fast adaptive boundary attack: the nearest adversarial example, not just one within a budget.

Each iteration steps onto the linearised decision boundary within the box and is
pulled towards the clean input; see ``assay.search.boundary``. The untargeted form
works against the nearest class at each point, and costs one backward pass a
class; the targeted form fixes one class a row. Under a fixed budget a sample
counts as broken when the nearest point, moved to the boundary by bisection,
lies inside the ball.
"""

from __future__ import annotations

from ..core.methods import Citation, MethodCard
from ..core.settings import option, settings
from ..search.boundary import BoundaryWalk
from ..search.objectives import margin, targeted_margin
from ..search.threat import ThreatModel
from .stages import Stage

FAB_PAPER = Citation(
    key="croce2020minimally",
    title="Minimally distorted Adversarial Examples with a Fast Adaptive Boundary Attack",
    authors="Croce, Francesco and Hein, Matthias",
    year=2020,
    venue="International Conference on Machine Learning",
    arxiv="1907.02044",
)

CARD = MethodCard(
    name="fab",
    kind="attack",
    title="Fast adaptive boundary attack",
    summary="Walks along the decision boundary against the class that is nearest, linearised, at each point.",
    settings="FAB",
    citation=FAB_PAPER,
    norms=("linf", "l2", "l1"),
    mode="minimum",
)
CARD_TARGETED = MethodCard(
    name="fab-t",
    kind="attack",
    title="Targeted fast adaptive boundary attack",
    summary="Walks along the linearised decision boundary towards each of the best-ranked wrong classes.",
    settings="FabTargeted",
    citation=FAB_PAPER,
    norms=("linf", "l2", "l1"),
    mode="minimum",
)

SCOUTING = 10


@settings
class FAB:
    """Settings of the untargeted form, against the nearest class at each point; its cost grows with the classes."""

    steps: int = option(default=100, help="iterations", at_least=1)
    restarts: int = option(default=1, help="random starts", at_least=1)

    def stages(self, threat: ThreatModel, num_classes: int) -> list[Stage]:
        """From noise of half the budget, as its restarts do."""
        rule = BoundaryWalk(steps=self.steps, start_radius=threat.eps / 2)
        return [Stage(name="fab", rule=rule, objective=margin, restarts=self.restarts, nearest_class=True, refine=True)]


@settings
class FabTargeted:
    """Settings of the targeted form."""

    steps: int = option(default=100, help="iterations", at_least=1)
    targets: int = option(default=9, help="target classes; never more than there are wrong classes", at_least=1)

    def stages(self, threat: ThreatModel, num_classes: int) -> list[Stage]:
        """From the clean input, all targets side by side."""
        return [
            Stage(
                name="fab-t",
                rule=BoundaryWalk(steps=self.steps),
                objective=targeted_margin,
                targets=min(self.targets, num_classes - 1),
                refine=True,
            )
        ]
