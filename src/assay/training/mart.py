"""MART: adversarial training that weighs samples by how wrongly they are classified."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ..core.methods import Citation, MethodCard
from ..core.settings import option, settings
from .batches import Batch
from .inner import InnerProblem
from .losses import cross_entropy, kl_divergence
from .state import TrainState

CITATION = Citation(
    key="wang2020improving",
    title="Improving Adversarial Robustness Requires Revisiting Misclassified Examples",
    authors="Yisen Wang and Difan Zou and Jinfeng Yi and James Bailey and Xingjun Ma and Quanquan Gu",
    year=2020,
    venue="International Conference on Learning Representations",
)

CARD = MethodCard(
    name="mart",
    kind="recipe",
    title="MART",
    summary="A boosted cross-entropy on perturbed images plus a divergence weighted by the clean error.",
    settings="Mart",
    citation=CITATION,
    norms=("linf", "l2"),
)


@settings
class Mart(InnerProblem):
    """min_θ mean_b BCE(x'_b) + β mean_b (1 - P_y) KL(P || P'), with P = p(x), P' = p(x') (Wang et al., 2020).

    BCE = -log P'_y - log(1 - max_{k≠y} P'_k). Gradients flow through every term,
    the weight 1 - P_y included. The inner problem maximises the cross-entropy
    from x + 0.001 N(0, I), with the model in evaluation mode.

    Cost: steps + 2 forward and backward passes a sample and step.
    """

    beta: float = option(default=6.0, help="weight of the divergence", at_least=0)

    def step(self, state: TrainState, batch: Batch) -> dict[str, Tensor]:
        """Attack, then one backward pass through clean and perturbed images."""
        if self.burning_in(state):
            return self.plain_step(state, batch)
        start = self.small_start(batch)
        points = self.maximise(state, batch, lambda logits: cross_entropy(logits, batch.labels), start)
        clean, perturbed = state.logits(batch.images), state.logits(points)
        boosted = batch.mean(boosted_cross_entropy(perturbed, batch.labels))
        doubt = 1.0000001 - F.softmax(clean, dim=1).gather(1, batch.labels[:, None])[:, 0]
        divergence = batch.mean(doubt * kl_divergence(clean, perturbed))
        loss = boosted + self.beta * divergence
        state.backward(loss, 2 * len(points))
        return {"loss": loss, "boosted_loss": boosted, "divergence": divergence}


def boosted_cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """-log P_y - log(1.0001 - max_{k≠y} P_k): [B, K], [B] -> [B]. The constant is the published one."""
    log_p = F.log_softmax(logits, dim=1)
    own = log_p.gather(1, labels[:, None])[:, 0]
    rival = log_p.scatter(1, labels[:, None], -torch.inf).amax(1).exp()
    return -own - torch.log(1.0001 - rival + 1e-12)
