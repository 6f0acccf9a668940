"""Per-sample gradients of convolutions: windows as strided views of the input, then products over positions."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .products import OuterProducts
from .rules import Direct, Rule

Convolution = nn.Conv1d | nn.Conv2d | nn.Conv3d


class ConvolutionWeight(OuterProducts):
    """A convolution is a linear map applied to the window under each of L output positions: T = V L, K = C k / G."""

    def __init__(self, layer: Convolution, inputs: Tensor, grads: Tensor, samples: int) -> None:
        self._layer = layer
        self._x, self._e = channels_last(padded(layer, inputs)), channels_last(grads)  # [N, *size, C], [N, *out, O]
        self._views = len(inputs) // samples
        self._buffer: Tensor | None = None
        self._size = len(layer.kernel_size)
        # Rows of a window that are short are dear to copy; then positions, not channels, come last.
        run = layer.kernel_size[-1] * (layer.in_channels // layer.groups)
        self._short = self._views == 1 and run < 8 and run < grads.shape[-1]
        positions = self._views * math.prod(grads.shape[2:])
        window = layer.in_channels // layer.groups * math.prod(layer.kernel_size)
        super().__init__(samples, layer.groups, positions, window, layer.out_channels // layer.groups, inputs)

    def factors(self, first: int, last: int) -> tuple[Tensor, Tensor]:
        rows = slice(first * self._views, last * self._views)
        count = last - first
        windows = self._windows(self._x[rows])
        if self.groups > 1:  # [N, *out, *kernel, C] -> [N, G, *out, *kernel, C / G]
            windows = windows.unflatten(-1, (self.groups, -1)).movedim(-2, 1)
        if self._views > 1 and self.groups > 1:
            windows = windows.unflatten(0, (count, self._views)).transpose(1, 2)
        if self._short:  # [N, ..., *out, *kernel, C] -> [N, ..., *kernel, C, *out]
            windows = windows.movedim(tuple(range(-1 - self._size, 0)), tuple(range(-1 - 2 * self._size, -self._size)))
        # Blocks share one buffer: fresh memory for each costs more than the copy itself.
        if self._buffer is None or len(self._buffer) < len(windows):
            self._buffer = torch.empty_like(windows, memory_format=torch.contiguous_format)
        a = self._buffer[: len(windows)].copy_(windows)
        e = self._e[rows].reshape(count, self.positions, self.groups, self.outputs)
        e = e.squeeze(2) if self.groups == 1 else e.transpose(1, 2).flatten(0, 1)
        if self._short:
            return a.view(count * self.groups, self.inputs, self.positions).transpose(1, 2), e
        return a.view(count * self.groups, self.positions, self.inputs), e

    def _windows(self, x: Tensor) -> Tensor:
        """The window under every output position, [N, *out, *kernel, C]: a view of the input."""
        layer, (row, *steps, channel) = self._layer, x.stride()
        return x.as_strided(
            (len(x), *self._e.shape[1:-1], *layer.kernel_size, layer.in_channels),
            (
                row,
                *(step * stride for step, stride in zip(steps, layer.stride, strict=True)),
                *(step * dilation for step, dilation in zip(steps, layer.dilation, strict=True)),
                channel,
            ),
            x.storage_offset(),
        )

    def summed(self) -> Tensor:
        """Σ_t e_it: the gradient of the bias, [B, O]."""
        return self._e.view(self.samples, self.positions, -1).sum(1)

    def weighted_product(self, factors: Tensor) -> Tensor:
        layer = self._layer
        none = [0] * len(layer.kernel_size)
        each = factors.repeat_interleave(self._views).view(-1, *[1] * (self._e.ndim - 1))
        _, weight, _ = torch.ops.aten.convolution_backward(
            (self._e * each).movedim(-1, 1),
            self._x.movedim(-1, 1),
            layer.weight.detach(),
            None,
            layer.stride,
            none,
            layer.dilation,
            False,
            none,
            layer.groups,
            [False, True, False],
        )
        found: Tensor = weight
        return found

    def shaped(self, product: Tensor) -> Tensor:
        layer = self._layer
        product = product.reshape(len(product), layer.out_channels, *layer.kernel_size, -1)
        return product.movedim(-1, 2).contiguous()


def convolution(layer: nn.Module, inputs: Tensor, grads: Tensor, samples: int) -> dict[str, Rule]:
    """Weight and bias of ``torch.nn.Conv1d``, ``Conv2d`` and ``Conv3d``."""
    assert isinstance(layer, Convolution)
    weight = ConvolutionWeight(layer, inputs, grads, samples)
    return {"weight": weight, "bias": Direct(weight.summed())}


def padded(layer: Convolution, inputs: Tensor) -> Tensor:
    """The input with the borders that the layer gives it."""
    if isinstance(layer.padding, str):
        reach = [d * (k - 1) for d, k in zip(layer.dilation, layer.kernel_size, strict=True)]
        total = reach if layer.padding == "same" else [0] * len(reach)
        sides = [(amount // 2, amount - amount // 2) for amount in total]
    else:
        sides = [(amount, amount) for amount in layer.padding]
    if not any(map(any, sides)):
        return inputs
    border = [amount for side in reversed(sides) for amount in side]
    return F.pad(inputs, border, "constant" if layer.padding_mode == "zeros" else layer.padding_mode)


def channels_last(values: Tensor) -> Tensor:
    """[N, C, *size] -> [N, *size, C] without gaps in memory; a copy only if the values lie otherwise."""
    return values.movedim(1, -1).contiguous()


def stored_channels_last(rows: Tensor) -> Tensor:
    """Images [N, C, H, W] and volumes with channels last in memory; other inputs as they are."""
    if rows.ndim not in (4, 5) or not rows.is_floating_point():
        return rows
    rows = channels_last(rows)
    # One channel lies the same way in both layouts; only explicit strides tell the layers which one is meant.
    strides = [math.prod(rows.shape[place + 1 :]) for place in range(rows.ndim)]
    return rows.as_strided(rows.shape, strides).movedim(-1, 1)
