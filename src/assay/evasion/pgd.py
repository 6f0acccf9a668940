"""Projected gradient descent on the input.

x_0 uniform in the ball, x_{k+1} = Π(x_k + a s(∇L(x_k))), s the direction of
steepest ascent in the norm of the threat model; a sample leaves at its first
confirmed success.
"""

from __future__ import annotations

from ..core.methods import Citation, MethodCard
from ..core.settings import option, settings
from ..search.ascent import ProjectedGradient
from ..search.objectives import cross_entropy, difference_of_logits_ratio, margin
from ..search.threat import ThreatModel
from .stages import Stage

CARD = MethodCard(
    name="pgd",
    kind="attack",
    title="Projected gradient descent",
    summary="Plain gradient steps, projected onto ball and box; fast, and not enough on its own for a claim.",
    settings="PGD",
    citation=Citation(
        key="madry2018",
        title="Towards Deep Learning Models Resistant to Adversarial Attacks",
        authors="Madry, Aleksander and Makelov, Aleksandar and Schmidt, Ludwig and Tsipras, Dimitris and Vladu, Adrian",
        year=2018,
        venue="International Conference on Learning Representations",
        arxiv="1706.06083",
    ),
    norms=("linf", "l2", "l1"),
    mode="fixed",
)

OBJECTIVES = {"ce": cross_entropy, "margin": margin, "dlr": difference_of_logits_ratio}


@settings
class PGD:
    """Settings of projected gradient descent."""

    steps: int = option(default=20, help="gradient steps", at_least=1)
    step_size: float | None = option(default=None, help="length of a step; 2.5 * eps / steps if not given", above=0)
    restarts: int = option(default=1, help="random starts", at_least=1)
    random_start: bool = option(default=True, help="start from a random point of the ball")
    loss: str = option(default="ce", help="what is pushed up", choices=("ce", "margin", "dlr"))

    def stages(self, threat: ThreatModel, num_classes: int) -> list[Stage]:
        """One untargeted search."""
        size = 2.5 * threat.eps / self.steps if self.step_size is None else self.step_size
        rule = ProjectedGradient(steps=self.steps, step_size=size, random_start=self.random_start)
        return [Stage(name="pgd", rule=rule, objective=OBJECTIVES[self.loss], restarts=self.restarts)]
