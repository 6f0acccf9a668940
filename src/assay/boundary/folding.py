r"""BatchNorm folded into the convolution before it, inside the function that is differentiated.

BN(W x + b) = W̃ x + b̃ with W̃ = W γ/σ and b̃ = (b - μ) γ/σ + β, computed from W, b, γ, β on every call. The fold is a
part of the function of the weights, so derivatives by all of them are exact, and the kernels on whole images
are those of a convolution alone.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, fx, nn

from ..subjects.fusion import Pair, without_batch_norm


class FoldedConvolution(nn.Module):
    """A convolution and the BatchNorm behind it, in evaluation mode, as one convolution."""

    def __init__(self, convolution: Any, normalisation: Any) -> None:
        super().__init__()
        self.convolution, self.normalisation = convolution, normalisation

    def forward(self, inputs: Tensor) -> Tensor:
        """The output of both."""
        c, n = self.convolution, self.normalisation
        spread = (n.running_var + n.eps).sqrt()
        scale = 1 / spread if n.weight is None else n.weight / spread
        weight = c.weight * scale.reshape(-1, *[1] * (c.weight.ndim - 1))
        shift = -n.running_mean * scale if c.bias is None else (c.bias - n.running_mean) * scale
        answer: Tensor = c._conv_forward(inputs, weight, shift if n.bias is None else shift + n.bias)
        return answer

    def change(self, inputs: Tensor, moved: dict[str, Tensor]) -> Tensor:
        """The derivative of the output along a movement of weights and biases, at fixed inputs."""
        c, n = self.convolution, self.normalisation
        shape = (-1, *[1] * (c.weight.ndim - 1))
        spread = (n.running_var + n.eps).sqrt()
        scale = 1 / spread if n.weight is None else n.weight / spread
        weight, shift = torch.zeros_like(c.weight), torch.zeros_like(n.running_mean)
        if "convolution.weight" in moved:
            weight = weight + moved["convolution.weight"] * scale.reshape(shape)
        if "convolution.bias" in moved:
            shift = shift + moved["convolution.bias"] * scale
        if "normalisation.weight" in moved:
            turned = moved["normalisation.weight"] / spread
            weight = weight + c.weight * turned.reshape(shape)
            shift = shift + ((0 if c.bias is None else c.bias) - n.running_mean) * turned
        if "normalisation.bias" in moved:
            shift = shift + moved["normalisation.bias"]
        changed: Tensor = c._conv_forward(inputs, weight, shift)
        return changed


def fold(module: nn.Module) -> nn.Module | None:
    """The same function with folded pairs, on the same parameters; None where there is nothing to fold.

    Args:
        module: in evaluation mode; it is left as it is.
    """

    def replace(traced: fx.GraphModule, pair: Pair) -> None:
        before, convolution, normalisation = pair
        name = f"folded_{str(before.target).replace('.', '_')}"
        traced.add_submodule(name, FoldedConvolution(convolution, normalisation))
        before.target = name

    return without_batch_norm(module, replace)
