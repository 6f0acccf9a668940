"""Views of images: random crops and colours, drawn for each sample from its own stream.

A view is a function of the image, the sample's seed and the number of the view,
whatever batch the sample comes in.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ...tensors.random import uniform

STREAM = 16
"""Stream of a sample's seed for view 0; view v draws from ``STREAM + v``."""

RATIO = math.log(4 / 3)
LUMA = (0.299, 0.587, 0.114)
SHARPEST, SOFTEST = 0.1 / 224, 2 / 224
"""Blur, as a share of the side."""

# Luminance and the two axes of colour (YIQ); a turn of the two changes the hue alone.
TO_YIQ = ((0.299, 0.587, 0.114), (0.5959, -0.2746, -0.3213), (0.2115, -0.5227, 0.3112))


@dataclass(frozen=True)
class Look:
    """How views differ from their image.

    Args:
        area: smallest and largest share of the image's area in a crop.
        jitter: brightness, contrast and saturation change by up to this share, the hue by up to a quarter of
            it, as a share of the full turn; for 4 of 5 samples.
        grey: share of samples that lose their colour.
        blur: share of samples that are blurred.
        solarize: share of samples whose bright half is inverted.
    """

    area: tuple[float, float] = (0.25, 1.0)
    jitter: float = 0.4
    grey: float = 0.2
    blur: float = 0.5
    solarize: float = 0.0


def view(images: Tensor, seeds: Tensor, number: int, look: Look, size: tuple[int, int]) -> Tensor:
    """A random view of each image, in [0, 1].

    Crop of random area and aspect ratio (3/4 to 4/3) resized to ``size``, mirror
    image of every second one, colours, blur; the augmentations of SimCLR
    (arXiv 2002.05709, Appendix A). Images without three channels keep their colours, but for
    brightness and contrast.

    Args:
        images: [B, C, H, W] in [0, 1].
        seeds: one stream a sample [B].
        number: which view.
        look: how far it goes.
        size: (height, width) of the view.
    """
    draws = uniform(seeds, (16,), STREAM + number).T
    found = _crop(images, draws[:6], look.area, size)
    found = _colours(found, draws[6:12], look)
    found = _blur(found, draws[12:14], look.blur)
    if look.solarize:
        found = torch.where(_column(draws[14] < look.solarize) & (found >= 0.5), 1 - found, found)
    return found


def _crop(images: Tensor, draws: Tensor, area: tuple[float, float], size: tuple[int, int]) -> Tensor:
    """One bilinear sampling: crop, resize, mirror. ``draws`` [6, B]."""
    low, high = area
    share, ratio = low + (high - low) * draws[0], torch.exp((2 * draws[1] - 1) * RATIO)
    width, height = ((share * ratio).sqrt().clamp(max=1), (share / ratio).sqrt().clamp(max=1))
    right, down = ((2 * draws[2] - 1) * (1 - width), (2 * draws[3] - 1) * (1 - height))
    mirror = torch.where(draws[4] < 0.5, 1.0, -1.0)
    zero = torch.zeros_like(width)
    places = torch.stack([torch.stack([width * mirror, zero, right], 1), torch.stack([zero, height, down], 1)], 1)
    grid = F.affine_grid(places, [len(images), images.shape[1], *size], align_corners=False)
    return F.grid_sample(images, grid, padding_mode="border", align_corners=False)


def _colours(images: Tensor, draws: Tensor, look: Look) -> Tensor:
    """Brightness, contrast, saturation, hue, grey. ``draws`` [6, B]."""
    jittered = draws[0] < 0.8
    change = torch.where(jittered, (2 * draws[1:5] - 1) * look.jitter, 0.0)
    bright, contrast, saturation, hue = (_column(part) for part in change)
    images = (images * (1 + bright)).clamp(0, 1)
    middle = luma(images).mean((2, 3), keepdim=True)
    images = (middle + (images - middle) * (1 + contrast)).clamp(0, 1)
    if images.shape[1] != 3:
        return images
    grey = luma(images)
    keep = torch.where(_column(draws[5] < look.grey), 0.0, 1 + saturation)
    return turn_hue(grey + (images - grey) * keep, hue / 4).clamp(0, 1)


def luma(images: Tensor) -> Tensor:
    """Perceived brightness of [B, 3, H, W], or the mean of other channels: [B, 1, H, W]."""
    if images.shape[1] != 3:
        return images.mean(1, keepdim=True)
    weights = torch.tensor(LUMA, device=images.device).reshape(1, 3, 1, 1)
    return (images * weights).sum(1, keepdim=True)


def turn_hue(images: Tensor, turn: Tensor) -> Tensor:
    """The hue of RGB images moved along the circle, luminance kept; ``turn`` [B, 1, 1, 1] is a share of the circle."""
    there = torch.tensor(TO_YIQ, device=images.device)
    angle = 2 * math.pi * turn.flatten()
    cos, sin, zero, one = angle.cos(), angle.sin(), torch.zeros_like(angle), torch.ones_like(angle)
    rows = [(one, zero, zero), (zero, cos, -sin), (zero, sin, cos)]
    rotation = torch.stack([torch.stack(row, 1) for row in rows], 1)
    whole = torch.linalg.inv(there) @ rotation @ there
    return torch.einsum("bij,bjhw->bihw", whole, images)


def _blur(images: Tensor, draws: Tensor, share: float) -> Tensor:
    """A Gaussian of random width for a share of the images. ``draws`` [2, B]."""
    side = min(images.shape[-2:])
    radius = min(math.ceil(3 * SOFTEST * side), side - 1)
    if not share or not radius:
        return images
    sigma = side * (SHARPEST + (SOFTEST - SHARPEST) * draws[1])
    steps = torch.arange(-radius, radius + 1, device=images.device)
    kernel = torch.exp(-0.5 * (steps / sigma[:, None]) ** 2)
    identity = (steps == 0).to(kernel.dtype)
    kernel = torch.where((draws[0] < share)[:, None], kernel / kernel.sum(1, keepdim=True), identity)
    count, channels, height, width = images.shape
    kernel = kernel.repeat_interleave(channels, 0)[:, None, :, None]
    flat = images.reshape(1, count * channels, height, width)
    for form, pad in ((kernel, (0, 0, radius, radius)), (kernel.transpose(2, 3), (radius, radius, 0, 0))):
        flat = F.conv2d(F.pad(flat, pad, mode="reflect"), form, groups=count * channels)
    return flat.reshape(count, channels, height, width)


def _column(values: Tensor) -> Tensor:
    """[B] -> [B, 1, 1, 1]."""
    return values.reshape(-1, 1, 1, 1)
