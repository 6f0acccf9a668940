"""Adversarial training with projected gradient descent (PGD-AT)."""

from __future__ import annotations

from torch import Tensor

from ..core.methods import Citation, MethodCard
from ..core.settings import option, settings
from .batches import Batch
from .inner import InnerProblem
from .losses import cross_entropy
from .state import TrainState

CITATION = Citation(
    key="madry2018towards",
    title="Towards Deep Learning Models Resistant to Adversarial Attacks",
    authors="Aleksander Madry and Aleksandar Makelov and Ludwig Schmidt and Dimitris Tsipras and Adrian Vladu",
    year=2018,
    venue="International Conference on Learning Representations",
    arxiv="1706.06083",
)

CARD = MethodCard(
    name="adversarial",
    kind="recipe",
    title="Adversarial training (PGD-AT)",
    summary="Cross-entropy on images perturbed by projected gradient descent against the current model.",
    settings="Adversarial",
    citation=CITATION,
    norms=("linf", "l2"),
)


@settings
class Adversarial(InnerProblem):
    """min_θ mean_b max_{||δ|| <= ε} CE(z(x_b + δ), y_b) (Madry et al., arXiv 1706.06083).

    The inner problem starts at a random point of the ball and returns its last iterate.

    Cost: steps + 1 forward and backward passes a sample and step.
    """

    label_smoothing: float = option(default=0.0, help="share spread over all classes", at_least=0, below=1)

    def step(self, state: TrainState, batch: Batch) -> dict[str, Tensor]:
        """Attack, then one forward and backward pass on what it found."""
        if self.burning_in(state):
            return self.plain_step(state, batch)
        points = self.attack(state, batch)
        losses = cross_entropy(state.logits(points), batch.labels, self.label_smoothing)
        loss = batch.mean(losses)
        state.backward(loss, len(losses))
        return {"loss": loss}
