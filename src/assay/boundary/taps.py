r"""Speeds of all points together with their slopes, and split by layer, from one backward pass.

Where every parameter belongs to a layer that is linear in its parameters, with inputs a_l and outputs u_l,

    ∇_θ φ_i · θ' = Σ_l ⟨δ_l,i , u_l(a_l,i ; θ'_l)⟩,    δ_l,i = ∂φ_i / ∂u_l,i

and the backward pass that finds ∇_x φ meets every δ_l,i on its way. Each layer is given a tap: it
evaluates the layer with θ'_l in the place of its parameters, and takes the inner product when δ_l passes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .folding import FoldedConvolution

Moved = dict[str, Tensor]


class CannotTap(Exception):
    """The model has a layer, or a layout, that taps do not cover."""


class Taps:
    """The layers of a module that a direction moves, each with its part of the direction.

    Args:
        module: in evaluation mode while it is used.
        direction: by the names of ``module.named_parameters()``.

    Raises:
        CannotTap: something that moves is no parameter of a layer that is known to be linear in it.
    """

    def __init__(self, module: nn.Module, direction: Moved) -> None:
        names = {id(value): name for name, value in module.named_parameters()}
        self.layers: dict[str, tuple[nn.Module, Moved]] = {}
        covered = set()
        for name, layer in module.named_modules():
            if isinstance(module.get_submodule(name.rpartition(".")[0]), FoldedConvolution):
                continue  # a part of the layer above
            parameters = layer.named_parameters(recurse=isinstance(layer, FoldedConvolution))
            own = {short: names[id(value)] for short, value in parameters}
            moved = {short: direction[full] for short, full in own.items() if full in direction}
            if not moved:
                continue
            if type(layer) not in (*_WITH_WEIGHTS, FoldedConvolution) or not name:
                raise CannotTap(type(layer).__name__)
            if getattr(layer, "running_mean", 0) is None:
                raise CannotTap("statistics of the batch")
            self.layers[name] = (layer, moved)
            covered |= set(own.values())
        if set(direction) - covered:
            raise CannotTap("buffers")

    def derivatives(self, value: Callable[[Tensor], Tensor], points: Tensor) -> tuple[Tensor, Tensor]:
        """What each layer adds to ∇_θ φ · θ' [b, layers], and ∇_x φ [b, ...], of ``value(points) -> φ [b]``.

        Cost: 1 forward and 1 backward pass, and the layers' own work once more.
        """
        with torch.enable_grad():
            leaf = points.detach().requires_grad_()
            strengths = {name: points.new_zeros(len(points), requires_grad=True) for name in self.layers}
            with self._open(strengths, len(points)):
                values = value(leaf)
            found = torch.autograd.grad(values.sum(), [leaf, *strengths.values()], allow_unused=True)
        if found[0] is None:
            raise CannotTap("no path to the input")
        parts = [torch.zeros_like(values) if part is None else part for part in found[1:]]
        return torch.stack(parts, 1), found[0]

    @contextmanager
    def _open(self, strengths: Moved, rows: int) -> Iterator[None]:
        handles = [
            layer.register_forward_hook(_hook(moved, strengths[name], rows))
            for name, (layer, moved) in self.layers.items()
        ]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()


class _Tap(torch.autograd.Function):
    """Passes the output on as it is; its derivative by ``strength`` is that of adding ``strength * change``."""

    @staticmethod
    def forward(ctx: Any, output: Tensor, change: Tensor, strength: Tensor) -> Tensor:
        ctx.save_for_backward(change)
        ctx.mark_dirty(output)
        return output

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, Tensor]:
        (change,) = ctx.saved_tensors
        return gradients[0], None, _sums(gradients[0] * change)


def _sums(values: Tensor) -> Tensor:
    # In float64 a row's sum does not depend on how many rows there are.
    return values.flatten(1).sum(1, dtype=torch.float64).to(values.dtype)


def _hook(moved: Moved, strength: Tensor, rows: int) -> Callable[[nn.Module, Any, Any], Tensor]:
    def hook(layer: nn.Module, inputs: Any, output: Any) -> Tensor:
        # With three dimensions the batch may be any of them.
        if len(inputs) != 1 or output.ndim == 3 or len(output) != rows:
            raise CannotTap("layout")
        with torch.no_grad():
            if isinstance(layer, FoldedConvolution):
                change = layer.change(inputs[0], moved)
            else:
                change = _WITH_WEIGHTS[type(layer)](layer, inputs[0], moved.get("weight"), moved.get("bias"))
        passed: Tensor = _Tap.apply(output, change, strength)
        return passed

    return hook


def _convolution(layer: Any, inputs: Tensor, weight: Tensor | None, bias: Tensor | None) -> Tensor:
    changed: Tensor = layer._conv_forward(inputs, torch.zeros_like(layer.weight) if weight is None else weight, bias)
    return changed


def _linear(layer: Any, inputs: Tensor, weight: Tensor | None, bias: Tensor | None) -> Tensor:
    return F.linear(inputs, torch.zeros_like(layer.weight) if weight is None else weight, bias)


def _batch_norm(layer: Any, inputs: Tensor, weight: Tensor | None, bias: Tensor | None) -> Tensor:
    weight = torch.zeros_like(layer.running_var) if weight is None else weight
    return F.batch_norm(inputs, layer.running_mean, layer.running_var, weight, bias, eps=layer.eps)


def _group_norm(layer: Any, inputs: Tensor, weight: Tensor | None, bias: Tensor | None) -> Tensor:
    weight = torch.zeros_like(layer.weight) if weight is None else weight
    return F.group_norm(inputs, layer.num_groups, weight, bias, layer.eps)


def _layer_norm(layer: Any, inputs: Tensor, weight: Tensor | None, bias: Tensor | None) -> Tensor:
    weight = torch.zeros_like(layer.weight) if weight is None else weight
    return F.layer_norm(inputs, layer.normalized_shape, weight, bias, layer.eps)


_WITH_WEIGHTS: dict[type, Callable[[Any, Tensor, Tensor | None, Tensor | None], Tensor]] = {
    nn.Linear: _linear,
    nn.Conv2d: _convolution,
    nn.Conv3d: _convolution,
    nn.BatchNorm1d: _batch_norm,
    nn.BatchNorm2d: _batch_norm,
    nn.BatchNorm3d: _batch_norm,
    nn.GroupNorm: _group_norm,
    nn.LayerNorm: _layer_norm,
}
"""Layers whose output is linear in (weight, bias), evaluated with others in their place."""
