"""TRADES: trade accuracy for stability by the divergence between clean and perturbed answers."""

from __future__ import annotations

import torch
from torch import Tensor

from ..core.methods import Citation, MethodCard
from ..core.settings import option, settings
from .batches import Batch
from .inner import InnerProblem
from .losses import cross_entropy, kl_divergence
from .state import TrainState

CITATION = Citation(
    key="zhang2019theoretically",
    title="Theoretically Principled Trade-off between Robustness and Accuracy",
    authors="Hongyang Zhang and Yaodong Yu and Jiantao Jiao and Eric Xing and Laurent El Ghaoui and Michael I. Jordan",
    year=2019,
    venue="International Conference on Machine Learning",
    arxiv="1901.08573",
)

CARD = MethodCard(
    name="trades",
    kind="recipe",
    title="TRADES",
    summary="Cross-entropy on clean images plus the divergence between clean and perturbed predictions.",
    settings="Trades",
    citation=CITATION,
    norms=("linf", "l2"),
)


@settings
class Trades(InnerProblem):
    """min_θ mean_b CE(z(x_b), y_b) + β mean_b max_{||δ|| <= ε} KL(p(x_b) || p(x_b + δ)) (arXiv 1901.08573).

    Gradients flow through both arguments of the divergence. The inner problem
    starts at x + 0.001 N(0, I) and holds p(x) constant. Both means are over the
    real batch, and the model is in evaluation mode during the inner problem.

    Cost: steps + 3 forward and steps + 2 backward passes a sample and step.
    """

    beta: float = option(default=6.0, help="weight of the divergence", at_least=0)

    def step(self, state: TrainState, batch: Batch) -> dict[str, Tensor]:
        """Maximise the divergence, then one backward pass through clean and perturbed images."""
        if self.burning_in(state):
            return self.plain_step(state, batch)
        points = self._perturb(state, batch)
        clean = state.logits(batch.images)
        natural = batch.mean(cross_entropy(clean, batch.labels))
        divergence = batch.mean(kl_divergence(clean, state.logits(points)))
        loss = natural + self.beta * divergence
        state.backward(loss, 2 * len(points))
        return {"loss": loss, "natural_loss": natural, "divergence": divergence}

    def _perturb(self, state: TrainState, batch: Batch) -> Tensor:
        with torch.no_grad(), state.evaluating():
            clean = state.logits(batch.images)
        return self.maximise(state, batch, lambda logits: kl_divergence(clean, logits), self.small_start(batch))
