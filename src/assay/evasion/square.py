"""Square attack: black box, by random square patches and the model's answers alone.

It asks no gradient, so it also works where gradients are masked; when it breaks
samples that gradient attacks left standing, the evaluation says so. The step rule
is in ``assay.search.patches``.
"""

from __future__ import annotations

from ..core.methods import Citation, MethodCard
from ..core.settings import option, settings
from ..search.objectives import margin
from ..search.patches import Patches
from ..search.threat import ThreatModel
from .stages import Stage

CARD = MethodCard(
    name="square",
    kind="attack",
    title="Square attack",
    summary="Random square patches kept when the margin falls; needs the model's answers and nothing else.",
    settings="Square",
    citation=Citation(
        key="andriushchenko2020square",
        title="Square Attack: a query-efficient black-box adversarial attack via random search",
        authors="Andriushchenko, Maksym and Croce, Francesco and Flammarion, Nicolas and Hein, Matthias",
        year=2020,
        venue="European Conference on Computer Vision",
        arxiv="1912.00049",
    ),
    norms=("linf", "l2", "l1"),
    mode="fixed",
)


@settings
class Square:
    """Settings of the Square attack."""

    queries: int = option(default=5000, help="model calls a sample", at_least=1)
    initial: float = option(default=0.8, help="share of the image in the first patch", above=0, at_most=1)
    restarts: int = option(default=1, help="random starts", at_least=1)

    def stages(self, threat: ThreatModel, num_classes: int) -> list[Stage]:
        """One untargeted search."""
        rule = Patches(queries=self.queries, initial=self.initial)
        return [Stage(name="square", rule=rule, objective=margin, restarts=self.restarts)]
