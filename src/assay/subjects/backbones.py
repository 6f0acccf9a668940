"""Reference encoders: a small ViT and a small ResNet, which return an embedding and a map of patch features.

Every backbone maps preprocessed images [B, C, H, W] to :class:`Features`, at any
size that its patches divide.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..core.errors import ModelError, did_you_mean


class Features(NamedTuple):
    """What an encoder says of images.

    Args:
        embedding: one vector an image [B, D].
        patches: one vector a patch, laid out as the patches are [B, D', h, w].
    """

    embedding: Tensor
    patches: Tensor


class Backbone(nn.Module):
    """An encoder's network.

    Attributes:
        dim: size D of the embedding.
        patch_dim: size D' of a patch vector.
        patch: pixels a side that one patch stands for.
        origin: plain values from which :func:`assay.subjects.encoders.backbone_from_record` builds the
            same network, without its weights; empty where that is not possible.
    """

    dim: int
    patch_dim: int
    patch: int
    origin: Mapping[str, Any] = MappingProxyType({})

    def grid(self, height: int, width: int) -> tuple[int, int]:
        """Patches (rows, columns) of an image; ModelError where they do not divide it."""
        if height % self.patch or width % self.patch or min(height, width) < self.patch:
            nearest = tuple(max(self.patch, round(side / self.patch) * self.patch) for side in (height, width))
            raise ModelError(
                f"Images of {height}x{width} pixels cannot be cut into patches of {self.patch}x{self.patch}; both "
                f"sides must be multiples of {self.patch}. Read them at that size (--image-size "
                f"{nearest[0]}x{nearest[1]}, or image_size=({nearest[0]}, {nearest[1]})), or use a sliding window."
            )
        return height // self.patch, width // self.patch


class VisionTransformer(Backbone):
    """A ViT with a class token, whose normalised last state is the embedding (arXiv 2010.11929).

    Args:
        in_channels: channels of the images.
        image_size: (height, width) for which positions are learned; other sizes interpolate them.
        patch: side of a patch.
        dim, depth, heads: width, blocks, attention heads.
    """

    def __init__(
        self, in_channels: int, image_size: tuple[int, int], *, patch: int, dim: int, depth: int, heads: int
    ) -> None:
        super().__init__()
        self.dim = self.patch_dim = dim
        self.patch = patch
        rows, columns = self.grid(*image_size)
        self.embed_patches = nn.Conv2d(in_channels, dim, patch, stride=patch)
        self.class_token = nn.Parameter(torch.randn(1, 1, dim) * 0.02)
        self.class_position = nn.Parameter(torch.zeros(1, 1, dim))
        self.positions = nn.Parameter(torch.randn(1, dim, rows, columns) * 0.02)
        self.blocks = nn.ModuleList(_Block(dim, heads) for _ in range(depth))
        self.norm = nn.LayerNorm(dim)

    def forward(self, images: Tensor) -> Features:
        """Images [B, C, H, W] -> embedding [B, D], patches [B, D, H / patch, W / patch]."""
        self.grid(*images.shape[-2:])
        patches = self.embed_patches(images)
        rows, columns = patches.shape[-2:]
        positions: Tensor = self.positions
        if positions.shape[-2:] != (rows, columns):
            positions = F.interpolate(positions, size=(rows, columns), mode="bicubic", align_corners=False)
        tokens = (patches + positions).flatten(2).transpose(1, 2)
        first = (self.class_token + self.class_position).expand(len(tokens), -1, -1)
        states = torch.cat([first, tokens], 1)
        for block in self.blocks:
            states = block(states)
        states = self.norm(states)
        grid = states[:, 1:].transpose(1, 2).reshape(len(states), self.dim, rows, columns)
        return Features(states[:, 0], grid)


class _Block(nn.Module):
    """x + attention(norm(x)), then x + mlp(norm(x))."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.qkv, self.project = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)
        self.mlp = nn.Sequential(nn.Linear(dim, 4 * dim), nn.GELU(), nn.Linear(4 * dim, dim))

    def forward(self, states: Tensor) -> Tensor:
        """[B, N, D] -> [B, N, D]."""
        count, length, dim = states.shape
        qkv = self.qkv(self.norm1(states)).reshape(count, length, 3, self.heads, dim // self.heads)
        query, key, value = qkv.permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(query, key, value)
        states = states + self.project(mixed.transpose(1, 2).reshape(count, length, dim))
        return states + self.mlp(self.norm2(states))


class ResidualEncoder(Backbone):
    """A ResNet without its classifier: the mean of the last map is the embedding (arXiv 1512.03385).

    Three or four stages of two-convolution blocks; each stage after the first halves the resolution.

    Args:
        in_channels: channels of the images.
        widths: channels of each stage.
        blocks: residual blocks a stage.
    """

    def __init__(self, in_channels: int, *, widths: tuple[int, ...], blocks: int) -> None:
        super().__init__()
        self.dim = self.patch_dim = widths[-1]
        self.patch = 2 ** (len(widths) - 1)
        self.stem = nn.Conv2d(in_channels, widths[0], 3, padding=1, bias=False)
        self.stem_norm = nn.BatchNorm2d(widths[0])
        layers: list[nn.Module] = []
        before = widths[0]
        for stage, width in enumerate(widths):
            for place in range(blocks):
                layers.append(_Residual(before, width, 2 if stage and not place else 1))
                before = width
        self.layers = nn.Sequential(*layers)

    def forward(self, images: Tensor) -> Features:
        """Images [B, C, H, W] -> embedding [B, D], patches [B, D, H / patch, W / patch]."""
        self.grid(*images.shape[-2:])
        maps = self.layers(F.relu(self.stem_norm(self.stem(images))))
        return Features(maps.mean((2, 3)), maps)


class _Residual(nn.Module):
    """relu(x + bn(conv(relu(bn(conv(x))))))."""

    def __init__(self, before: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(before, width, 3, stride, 1, bias=False), nn.BatchNorm2d(width)
        self.conv2, self.bn2 = nn.Conv2d(width, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or before != width:
            self.shortcut = nn.Sequential(nn.Conv2d(before, width, 1, stride, bias=False), nn.BatchNorm2d(width))

    def forward(self, maps: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, C', H', W']."""
        inner = F.relu(self.bn1(self.conv1(maps)))
        return F.relu(self.bn2(self.conv2(inner)) + self.shortcut(maps))


@dataclass(frozen=True)
class Reference:
    """A reference backbone: how it is built, and what it is."""

    build: Callable[[int, tuple[int, int]], Backbone]
    about: str


def _residual(widths: tuple[int, ...], blocks: int, in_channels: int, image_size: tuple[int, int]) -> Backbone:
    return ResidualEncoder(in_channels, widths=widths, blocks=blocks)


BACKBONES: Mapping[str, Reference] = {
    "vit-micro": Reference(
        partial(VisionTransformer, patch=8, dim=96, depth=4, heads=3), "patch 8, 4 blocks of 96: 0.5 M parameters"
    ),
    "vit-tiny": Reference(
        partial(VisionTransformer, patch=16, dim=192, depth=12, heads=3),
        "ViT-Ti/16, 12 blocks of 192: 5.5 M parameters",
    ),
    "resnet-micro": Reference(
        partial(_residual, (16, 32, 64, 128), 1), "4 stages of one block, 16 to 128 channels, patch 8: 0.3 M parameters"
    ),
}


def build_backbone(name: str, *, in_channels: int = 3, image_size: tuple[int, int] = (64, 64)) -> Backbone:
    """A reference backbone with fresh weights from the global random state.

    Args:
        name: a key of ``BACKBONES``.
        in_channels: channels of the images.
        image_size: (height, width) of the images it is trained on.

    >>> build_backbone("resnet-micro")(torch.zeros(1, 3, 64, 64)).patches.shape
    torch.Size([1, 128, 8, 8])
    """
    if name not in BACKBONES:
        raise ModelError(f"There is no reference encoder named {name!r}.{did_you_mean(name, BACKBONES)}")
    backbone = BACKBONES[name].build(in_channels, image_size)
    backbone.origin = {"backbone": name, "in_channels": in_channels, "image_size": list(image_size)}
    return backbone
