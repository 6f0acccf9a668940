"""The caller's loss, evaluated for one sample at a time."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.func import vmap

from ...core.errors import InputError
from .values import SampleLoss


class SampleLosses:
    """losses_i = loss(outputs_i [1, ...], labels_i [1, ...]) for every sample: by ``torch.func.vmap``, or by a loop.

    A loss that ``vmap`` cannot run (control flow that depends on values, for
    instance) is run sample by sample, from then on.
    """

    def __init__(self, loss: SampleLoss) -> None:
        self.loss = loss
        self._loop = False

    def __call__(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """[B, ...], [B, ...] -> [B], differentiable with respect to ``outputs``."""
        if not self._loop:
            try:
                return vmap(self.one, randomness="different")(outputs, labels)
            except InputError:
                raise
            except Exception:  # whatever the caller's code raises under vmap, the loop shows it as it is
                losses = self.looped(outputs, labels)
                self._loop = True
                return losses
        return self.looped(outputs, labels)

    def looped(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """The same, one call of the loss for each sample."""
        return torch.stack([self.one(output, label) for output, label in zip(outputs, labels, strict=True)])

    def one(self, output: Tensor, label: Tensor) -> Tensor:
        """The loss of one sample, a scalar."""
        value = self.loss(output[None], label[None])
        if not isinstance(value, Tensor) or value.numel() != 1:
            found = f"shape {list(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
            raise InputError(
                f"The loss of one sample must be one number (a scalar or a tensor of shape [1]), not {found}. "
                "It is called as loss(outputs [1, ...], labels [1, ...])."
            )
        return value.reshape(())
