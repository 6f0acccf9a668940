"""Burn-in: plain training at the start of a recipe that would not find its footing on random weights."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..core.settings import option, settings
from .losses import cross_entropy
from .recipe import Recipe

if TYPE_CHECKING:
    from torch import Tensor

    from .batches import Batch
    from .state import TrainState


@settings
class BurnIn(Recipe):
    """A recipe that begins with the cross-entropy of clean images; recipes inherit this setting.

    A small network under a strong adversary can stay at a constant answer for ever; from weights that
    already tell the classes apart it does not.
    """

    burn_in: float = option(
        default=0.0, help="share of the epochs, at the start, that train on clean images alone", at_least=0, below=1
    )

    def burning_in(self, state: TrainState) -> bool:
        """Whether the step about to be taken is one of plain training."""
        return state.step < self.burn_in_steps(state.total_steps)

    def burn_in_steps(self, total: int) -> int:
        """How many of ``total`` steps are plain training."""
        return round(self.burn_in * total)

    def plain_step(self, state: TrainState, batch: Batch) -> dict[str, Tensor]:
        """One forward and one backward pass on the clean images."""
        losses = cross_entropy(state.logits(batch.images), batch.labels)
        loss = batch.mean(losses)
        state.backward(loss, len(losses))
        return {"loss": loss}
