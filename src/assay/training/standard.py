"""Standard training: cross-entropy on clean images."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..core.methods import MethodCard
from ..core.settings import option, settings
from .losses import cross_entropy
from .recipe import Recipe

if TYPE_CHECKING:
    from torch import Tensor

    from .batches import Batch
    from .state import TrainState

CARD = MethodCard(
    name="standard",
    kind="recipe",
    title="Standard training",
    summary="Cross-entropy on clean images, with label smoothing where wanted.",
    settings="Standard",
)


@settings
class Standard(Recipe):
    """min_θ mean_b CE(z(x_b), q_b) with q = (1 - s) e_y + s / K.

    Cost: 1 forward and 1 backward pass a sample and step.
    """

    label_smoothing: float = option(default=0.0, help="share s spread over all classes", at_least=0, below=1)

    def step(self, state: TrainState, batch: Batch) -> dict[str, Tensor]:
        """One forward and one backward pass."""
        losses = cross_entropy(state.logits(batch.images), batch.labels, self.label_smoothing)
        loss = batch.mean(losses)
        state.backward(loss, len(losses))
        return {"loss": loss}
