"""What the engine takes and gives: the loss of one sample, norms of single gradients, clipped sums."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

SampleLoss = Callable[[Tensor, Tensor], Tensor]
"""``loss(outputs [1, ...], labels [1, ...]) -> [1] or scalar``: it sees one sample, so samples cannot be coupled."""


@dataclass
class SampleNorms:
    """Norms of the gradients of single samples.

    Attributes:
        names: parameters that take part, in the order of ``model.named_parameters()``; P of them.
        squares: squared L2 norm of each parameter's gradient, [B, P].
        losses: [B].
    """

    names: tuple[str, ...]
    squares: Tensor
    losses: Tensor

    @property
    def total(self) -> Tensor:
        """L2 norm over all parameters together: [B]."""
        return self.squares.sum(1).sqrt()


@dataclass
class ClippedSum:
    """Σ_i f_i g_i.

    Attributes:
        gradients: name -> tensor of the parameter's shape.
        norms: of the gradients before they were weighted.
    """

    gradients: dict[str, Tensor]
    norms: SampleNorms
