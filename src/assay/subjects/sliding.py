"""Sliding windows: a model made for crops of one size answers for images of any size.

Windows start at 0, s, 2s, ..., and at the end of the image; where they overlap, their answers are averaged.
Logits are averaged, never probabilities: a loss on averaged probabilities would apply softmax twice. Every window
passes through the model once. Cost: (windows down) x (windows across) passes on crops for every image.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..core.errors import ModelError, SettingError
from .backbones import Backbone, Features

Pair = tuple[int, int]
FIELDS = ("logits", "predicted_depth")


class SlidingWindow(nn.Module):
    """A segmentation or depth model over overlapping crops.

    Args:
        module: preprocessed crops [B, C, h, w] -> logits [B, K, h', w'], or depths [B, h', w']; another size than
            the crop's is resized bilinearly.
        crop: side of a window in pixels, or (height, width). Smaller images are padded with zeros at the
            bottom and the right, and the answer is cut back.
        stride: pixels between windows, at most the crop.
        at_once: windows in one call of the module.

    Raises:
        SettingError: sizes that cannot be used.

    >>> SlidingWindow(nn.Conv2d(3, 5, 1), crop=16, stride=12)(torch.zeros(2, 3, 20, 33)).shape
    torch.Size([2, 5, 20, 33])
    """

    def __init__(self, module: nn.Module, crop: int | Pair, stride: int | Pair, *, at_once: int = 4) -> None:
        super().__init__()
        self.crop, self.stride, self.at_once = _checked(crop, stride, at_once)
        self.module = module
        self.training = module.training

    def forward(self, images: Tensor) -> Tensor:
        """Images [B, C, H, W] -> averaged answers [B, K, H, W], or [B, H, W] for depths."""
        size = images.shape[-2:]
        whole = _padded(images, self.crop)
        places = windows(whole.shape[-2:], self.crop, self.stride)
        answers = (self._answer(crops) for crops in _calls(whole, places, self.crop, self.at_once))
        mean = averaged(answers, places, whole.shape[-2:], self.crop, len(images))
        mean = mean[..., : size[0], : size[1]]
        return mean

    def _answer(self, crops: Tensor) -> Tensor:
        raw = self.module(crops)
        found = next((getattr(raw, field) for field in FIELDS if isinstance(getattr(raw, field, None), Tensor)), raw)
        if not isinstance(found, Tensor) or found.ndim not in (3, 4):
            shape = tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__
            raise ModelError(
                f"The model returned {shape} for a window; logits [B, K, h, w] or depths [B, h, w] are needed."
            )
        if found.shape[-2:] == self.crop:
            return found
        flat = found[:, None] if found.ndim == 3 else found
        flat = F.interpolate(flat, size=self.crop, mode="bilinear", align_corners=False)
        return flat[:, 0] if found.ndim == 3 else flat

    def extra_repr(self) -> str:
        """Crop and stride, for records."""
        return f"crop={self.crop}, stride={self.stride}"


class SlidingBackbone(Backbone):
    """An encoder over overlapping crops: patch maps are averaged patch by patch, embeddings over the windows.

    Images whose sides are no multiples of the patch are padded with zeros at the bottom and the right, so that the
    map has the rounded-up number of patches.

    Args:
        backbone: what is asked for every window.
        crop, stride: in pixels, multiples of the backbone's patch.
        at_once: windows in one call.
    """

    def __init__(self, backbone: Backbone, crop: int | Pair, stride: int | Pair, *, at_once: int = 4) -> None:
        super().__init__()
        self.crop, self.stride, self.at_once = _checked(crop, stride, at_once)
        self.backbone = backbone
        self.training = backbone.training
        self.dim, self.patch_dim, self.patch = backbone.dim, backbone.patch_dim, backbone.patch
        self.in_channels = backbone.origin.get("in_channels", getattr(backbone, "in_channels", None))
        if not self.patch_dim:
            raise ModelError(
                "A sliding window needs an encoder with a patch map; this one returns one vector an image."
            )
        backbone.grid(*self.crop)
        for name, sides in (("crop", self.crop), ("stride", self.stride)):
            if any(side % self.patch for side in sides):
                below = tuple(max(1, side // self.patch) * self.patch for side in sides)
                raise SettingError(
                    f"{name} is {sides}; allowed: multiples of the encoder's patch of {self.patch} pixels, "
                    f"such as {below}."
                )
        if backbone.origin:
            self.origin = {
                "sliding": {"crop": list(self.crop), "stride": list(self.stride)},
                "of": dict(backbone.origin),
                "in_channels": self.in_channels,
            }

    def grid(self, height: int, width: int) -> Pair:
        """Patches (rows, columns) of an image of any size."""
        return -(-height // self.patch), -(-width // self.patch)

    def forward(self, images: Tensor) -> Features:
        """Images [B, C, H, W] -> embedding [B, D], patches [B, D', ceil(H / patch), ceil(W / patch)]."""
        rows, columns = self.grid(*images.shape[-2:])
        whole = _padded(images, (max(self.crop[0], rows * self.patch), max(self.crop[1], columns * self.patch)))
        places = windows(whole.shape[-2:], self.crop, self.stride)
        embeddings: list[Tensor] = []

        def maps() -> Iterator[Tensor]:
            for crops in _calls(whole, places, self.crop, self.at_once):
                found: Features = self.backbone(crops)
                embeddings.append(found.embedding)
                yield found.patches

        side = self.patch
        mean = averaged(
            maps(),
            [(top // side, left // side) for top, left in places],
            (whole.shape[-2] // side, whole.shape[-1] // side),
            (self.crop[0] // side, self.crop[1] // side),
            len(images),
        )
        embedding = torch.cat(embeddings).reshape(len(places), len(images), -1).mean(0)
        return Features(embedding, mean[..., :rows, :columns])

    def extra_repr(self) -> str:
        """Crop and stride, for records."""
        return f"crop={self.crop}, stride={self.stride}"


def windows(size: Sequence[int], crop: Pair, stride: Pair) -> list[Pair]:
    """(top, left) of every window, row by row; together they cover an image of at least the crop's size.

    >>> windows((20, 16), (16, 16), (12, 12))
    [(0, 0), (4, 0)]
    """
    starts = []
    for whole, part, step in zip(size, crop, stride, strict=True):
        last = whole - part
        starts.append([*range(0, last, step), last])
    return [(top, left) for top in starts[0] for left in starts[1]]


def averaged(answers: Iterator[Tensor], places: Sequence[Pair], size: Sequence[int], crop: Pair, batch: int) -> Tensor:
    """The mean over all windows that cover a place: [B, ..., *size].

    Args:
        answers: [n B, ..., *crop] for the next n windows, window by window.
        places: (top, left) of every window.
        size, crop: of the whole and of a window.
        batch: B.
    """
    total, counts, done = None, torch.zeros(tuple(size)), 0
    for answer in answers:
        if total is None:
            total = answer.new_zeros(batch, *answer.shape[1:-2], *size)
        for part in answer.split(batch):
            top, left = places[done]
            total[..., top : top + crop[0], left : left + crop[1]] += part
            counts[top : top + crop[0], left : left + crop[1]] += 1
            done += 1
    assert total is not None
    return total / counts.to(total.device, total.dtype)


def _calls(images: Tensor, places: Sequence[Pair], crop: Pair, at_once: int) -> Iterator[Tensor]:
    """Crops [n B, C, h, w] for ``at_once`` windows after the other."""
    for start in range(0, len(places), at_once):
        chosen = places[start : start + at_once]
        yield torch.cat([images[..., top : top + crop[0], left : left + crop[1]] for top, left in chosen])


def _padded(images: Tensor, least: Sequence[int]) -> Tensor:
    down, right = (max(0, want - have) for want, have in zip(least, images.shape[-2:], strict=True))
    return F.pad(images, (0, right, 0, down)) if down or right else images


def _checked(crop: Any, stride: Any, at_once: int) -> tuple[Pair, Pair, int]:
    pairs = []
    for name, value in (("crop", crop), ("stride", stride)):
        sides = (value, value) if isinstance(value, int) else tuple(value)
        if len(sides) != 2 or any(isinstance(side, bool) or not isinstance(side, int) or side < 1 for side in sides):
            raise SettingError(f"{name} is {value!r}; allowed: whole pixels from 1 up, one side or (height, width).")
        pairs.append((sides[0], sides[1]))
    if any(step > side for step, side in zip(pairs[1], pairs[0], strict=True)):
        raise SettingError(f"stride is {pairs[1]} and crop {pairs[0]}; pixels between the windows would never be seen.")
    if at_once < 1:
        raise SettingError(f"at_once is {at_once}; allowed: a whole number from 1 up.")
    return pairs[0], pairs[1], at_once
