"""Losses and gradients of single samples."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad_and_value, vmap

SampleLoss = Callable[[Tensor, Tensor], Tensor]


@dataclass
class SampleNorms:
    """Squared gradient norms of each parameter and sample [B, P], and losses [B]."""

    names: tuple[str, ...]
    squares: Tensor
    losses: Tensor

    @property
    def total(self) -> Tensor:
        """Norm over all parameters together: [B]."""
        return self.squares.sum(1).sqrt()


@dataclass
class ClippedSum:
    """Σ_i f_i g_i by parameter, and the norms behind it."""

    gradients: dict[str, Tensor]
    norms: SampleNorms


class PerSample:
    """Losses and gradients of single samples of one module (interim: vmap only)."""

    def __init__(
        self,
        model: nn.Module,
        loss: SampleLoss,
        *,
        backend: str = "auto",
        microbatch: int | None = None,
        views: bool = False,
    ) -> None:
        self.model, self.loss, self.backend, self.views = model, loss, backend, views
        self.microbatch = microbatch
        self.chosen: str | None = "vmap"

    def _both(self, inputs: Tensor, labels: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        trained = {name: value.detach() for name, value in self.model.named_parameters() if value.requires_grad}
        rest = {name: value.detach() for name, value in self.model.named_parameters() if not value.requires_grad}
        buffers = dict(self.model.named_buffers())

        def one(parameters: dict[str, Tensor], x: Tensor, y: Tensor) -> Tensor:
            output: Any = functional_call(self.model, {**parameters, **rest, **buffers}, (x if self.views else x[None],))
            return self.loss(output[None] if self.views else output, y[None]).sum()

        if not len(inputs):
            empty = {name: value.new_zeros((0, *value.shape)) for name, value in trained.items()}
            return empty, inputs.new_zeros(0)
        gradients, losses = vmap(grad_and_value(one), (None, 0, 0), randomness="different")(trained, inputs, labels)
        return gradients, losses

    def gradients(self, inputs: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """name -> [B, *shape]."""
        return self._both(inputs, labels)[0]

    def norms(self, inputs: Tensor, labels: Tensor) -> SampleNorms:
        """Norms and losses."""
        return self._norms(*self._both(inputs, labels))

    def clipped_sum(self, inputs: Tensor, labels: Tensor, weigh: Callable[[SampleNorms], Tensor]) -> ClippedSum:
        """Σ_i f_i g_i; ``weigh`` is called once and returns [B] or [B, P]."""
        gradients, losses = self._both(inputs, labels)
        norms = self._norms(gradients, losses)
        factors = weigh(norms)
        columns = factors[:, None].expand(-1, len(norms.names)) if factors.ndim == 1 else factors
        total = {
            name: torch.einsum("b,b...->...", columns[:, i], gradients[name]) for i, name in enumerate(norms.names)
        }
        return ClippedSum(total, norms)

    @staticmethod
    def _norms(gradients: dict[str, Tensor], losses: Tensor) -> SampleNorms:
        squares = torch.stack([value.flatten(1).square().sum(1) for value in gradients.values()], 1)
        return SampleNorms(tuple(gradients), squares, losses)


def per_sample_gradients(
    model: nn.Module, loss_per_sample: SampleLoss, inputs: Tensor, labels: Tensor, backend: str = "auto"
) -> dict[str, Tensor]:
    """name -> [B, *shape]."""
    return PerSample(model, loss_per_sample, backend=backend).gradients(inputs, labels)
