"""Faster forms of a network's parts, on a private copy: BatchNorm folded part by part, patches by one product.

A network whose own forward pass cannot be traced (encoders return two things and check sizes)
still has parts that can, such as residual blocks; their BatchNorm is folded in place. A
convolution whose windows do not overlap, as a patch embedding is, is a linear map of every
window: as a matrix product its gradient by the image costs 3 to 5 times less on a CPU.
"""

from __future__ import annotations

from collections import Counter

import torch
from torch import Tensor, fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from .fusion import Convolution, Pair, without_batch_norm

_MOST_CHANNELS = 4  # with many channels the convolution is as fast


def quicken(model: nn.Module) -> int:
    """Give the parts of a network their faster forms; how many were changed.

    Answers are the same up to rounding; names and shapes of parameters outside folded pairs stay.

    Args:
        model: a private copy in evaluation mode; changed in place.
    """
    paths = Counter(id(module) for _, module in model.named_modules(remove_duplicate=False))
    return _fold(model, paths) + _patches_by_product(model)


def _fold(part: nn.Module, paths: Counter[int]) -> int:
    """Fold the pairs of the largest parts that can be traced."""
    pairs: list[tuple[str, str]] = []

    def note(traced: fx.GraphModule, pair: Pair) -> None:
        before, convolution, normalisation = pair
        name = next(name for name, module in part.named_modules() if module is normalisation)
        if paths[id(convolution)] == paths[id(normalisation)] == 1:
            pairs.append((str(before.target), name))

    if without_batch_norm(part, note) is None:
        return sum(_fold(child, paths) for child in part.children())
    for convolution, normalisation in pairs:
        before, after = part.get_submodule(convolution), part.get_submodule(normalisation)
        assert isinstance(before, Convolution)
        assert isinstance(after, nn.modules.batchnorm._BatchNorm)
        _put(part, convolution, fuse_conv_bn_eval(before, after).requires_grad_(False))
        _put(part, normalisation, nn.Identity())
    return len(pairs)


def _put(part: nn.Module, path: str, module: nn.Module) -> None:
    parent, _, leaf = path.rpartition(".")
    setattr(part.get_submodule(parent), leaf, module)


class _Patches(nn.Conv2d):
    """A convolution with stride = kernel and no padding, computed window by window."""

    def forward(self, images: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, D, H // h, W // w]."""
        height, width = self.kernel_size
        if images.ndim != 4 or images.shape[2] < height or images.shape[3] < width:
            return super().forward(images)
        count, channels = images.shape[:2]
        rows, columns = images.shape[2] // height, images.shape[3] // width
        whole = images[:, :, : rows * height, : columns * width]
        windows = whole.reshape(count, channels, rows, height, columns, width).permute(0, 2, 4, 1, 3, 5)
        flat, weight = windows.reshape(count * rows * columns, -1), self.weight.flatten(1).t()
        answer = flat @ weight if self.bias is None else torch.addmm(self.bias, flat, weight)
        return answer.reshape(count, rows, columns, self.out_channels).permute(0, 3, 1, 2)


def _patches_by_product(model: nn.Module) -> int:
    found = [module for module in model.modules() if type(module) is nn.Conv2d and _lies_apart(module)]
    for module in found:
        module.__class__ = _Patches
    return len(found)


def _lies_apart(convolution: nn.Conv2d) -> bool:
    return (
        convolution.in_channels <= _MOST_CHANNELS
        and convolution.groups == 1
        and tuple(convolution.stride) == tuple(convolution.kernel_size) != (1, 1)
        and convolution.padding in ((0, 0), 0, "valid")
        and tuple(convolution.dilation) == (1, 1)
    )
