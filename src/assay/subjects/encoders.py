"""Encoders: one embedding an image and a map of patch features, whatever network is behind them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ..core.errors import ModelError
from .backbones import BACKBONES, Backbone, Features, build_backbone
from .dense_tasks import Embedding
from .target import Target


class Encoder:
    """An encoder under examination: its network with the preprocessing inside; the caller's module is untouched.

    Args:
        backbone: maps preprocessed images to :class:`Features`.
        preprocess: applied to raw images first.
        bounds: the box of raw inputs.
        name, source: for records.
    """

    def __init__(
        self,
        backbone: Backbone,
        *,
        preprocess: nn.Module | None = None,
        bounds: tuple[float, float] = (0.0, 1.0),
        name: str = "encoder",
        source: str = "python object",
    ) -> None:
        self.backbone, self.preprocess, self.bounds = backbone, preprocess, bounds
        self.name, self.source = name, source

    @property
    def dim(self) -> int:
        """Size D of the embedding."""
        return self.backbone.dim

    def embed(self, images: Tensor) -> Tensor:
        """Embeddings of raw images: [B, C, H, W] -> [B, D]."""
        return self.target("global").logits(images)

    def patches(self, images: Tensor) -> Tensor:
        """Patch features of raw images: [B, C, H, W] -> [B, D', h, w]."""
        return self.target("patch").logits(images)

    def target(self, space: str = "global") -> Target[Embedding]:
        """The encoder as a Target whose answer is the embedding (``"global"``) or the patch map (``"patch"``)."""
        return Target(
            View(self.backbone, space),
            task=Embedding(self.backbone.dim if space == "global" else self.backbone.patch_dim),
            bounds=self.bounds,
            preprocess=self.preprocess,
            name=self.name,
            source=self.source,
        )


class View(nn.Module):
    """One of the two things a backbone returns."""

    def __init__(self, backbone: Backbone, space: str) -> None:
        super().__init__()
        self.backbone, self.space = backbone, space

    def forward(self, images: Tensor) -> Tensor:
        """[B, D] or [B, D', h, w]."""
        features: Features = self.backbone(images)
        return features.embedding if self.space == "global" else features.patches


def encoder(spec: str | nn.Module, **options: Any) -> Encoder:
    """An encoder by name, or from a module. (First version: reference networks only.)"""
    if isinstance(spec, Backbone):
        return Encoder(spec)
    if isinstance(spec, str) and spec.startswith("network:"):
        name = spec.removeprefix("network:")
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            return Encoder(build_backbone(name, **options).eval(), name=name, source=spec)
    raise ModelError(f"Cannot tell what the encoder {spec!r} is. Allowed: {', '.join('network:' + n for n in BACKBONES)}.")


def backbone_from_record(record: Mapping[str, Any]) -> Backbone:
    """The network that ``backbone.origin`` tells of, with fresh weights."""
    return build_backbone(
        record["backbone"], in_channels=record["in_channels"], image_size=tuple(record["image_size"])
    )
