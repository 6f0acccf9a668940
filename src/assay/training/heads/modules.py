"""The heads: small modules from an encoder's features to the answer of a task.

Each is linear in the features up to a normalisation, so that what it can do is what the encoder knows.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...core.errors import ModelError, SettingError, did_you_mean
from ...subjects.backbones import Backbone, Features

Size = tuple[int, int]
Places = tuple[Tensor, Tensor]
NO_WEIGHT = 0.1


class Head(nn.Module):
    """What stands on an encoder.

    Attributes:
        space: which features it reads: ``"global"`` (the embedding), ``"patch"`` (the map) or ``"both"``.
    """

    space: str

    def forward(self, features: Features, size: Size, places: Places | None = None) -> Tensor:
        """The task's answer at the size (height, width) of the images.

        Args:
            features: of a batch of B images.
            size: (height, width) of these images.
            places: rows and columns of the pixels that are asked for; None: all.
        """
        raise NotImplementedError

    def config(self) -> dict[str, Any]:
        """Plain values from which :func:`build_head` makes the same head, without its weights."""
        raise NotImplementedError


class ClassificationHead(Head):
    """Linear logits of the standardised embedding: W ((f - m) / s) + b.

    Args:
        dim: size D of the embedding.
        num_classes: logits K.
    """

    space = "global"
    centre: Tensor
    spread: Tensor

    def __init__(self, dim: int, num_classes: int) -> None:
        super().__init__()
        self.register_buffer("centre", torch.zeros(dim))
        self.register_buffer("spread", torch.ones(dim))
        self.linear = nn.Linear(dim, num_classes)

    def standardise(self, centre: Tensor, spread: Tensor) -> None:
        """Set mean m and deviation s [D] of the training features; a feature that never varies is left as it is."""
        self.centre.copy_(centre)
        self.spread.copy_(torch.where(spread > 1e-6 * spread.max(), spread, torch.ones_like(spread)))

    def forward(self, features: Features, size: Size, places: Places | None = None) -> Tensor:
        """Logits [B, K]."""
        logits: Tensor = self.linear((features.embedding - self.centre) / self.spread)
        return logits

    def config(self) -> dict[str, Any]:
        """See :meth:`Head.config`."""
        return {
            "kind": "classification",
            "dim": self.linear.in_features,
            "num_classes": self.linear.out_features,
        }


class PatchHead(Head):
    """Batch normalisation and a 1x1 convolution on the patch map.

    Args:
        dim: size D' of a patch vector.
        outputs: channels of the convolution.
        embedding_dim: size D of the embedding that is put beside every patch vector; 0: none.
    """

    def __init__(self, dim: int, outputs: int, embedding_dim: int) -> None:
        super().__init__()
        self.dim, self.embedding_dim = dim, embedding_dim
        self.space = "both" if embedding_dim else "patch"
        self.norm = nn.BatchNorm2d(dim + embedding_dim)
        self.conv = nn.Conv2d(dim + embedding_dim, outputs, 1)

    def small(self, features: Features) -> Tensor:
        """One answer a patch [B, outputs, h, w]."""
        maps = features.patches
        if self.embedding_dim:
            beside = features.embedding[:, :, None, None].expand(-1, -1, *maps.shape[-2:])
            maps = torch.cat([maps, beside], 1)
        answers: Tensor = self.conv(self.norm(maps))
        return answers


class SegmentationHead(PatchHead):
    """Logits of every pixel: batch normalisation, 1x1 convolution, bilinear upsampling.

    Args:
        dim: size D' of a patch vector.
        num_classes: logits K.
        embedding_dim: see :class:`PatchHead`.
    """

    def __init__(self, dim: int, num_classes: int, *, embedding_dim: int = 0) -> None:
        super().__init__(dim, num_classes, embedding_dim)

    def forward(self, features: Features, size: Size, places: Places | None = None) -> Tensor:
        """Logits [B, K, H, W], or those of the rows and columns that are asked for."""
        return enlarged(self.small(features), size, places)

    def config(self) -> dict[str, Any]:
        """See :meth:`Head.config`."""
        return {
            "kind": "segmentation",
            "dim": self.dim,
            "num_classes": self.conv.out_channels,
            "embedding_dim": self.embedding_dim,
        }


class DepthHead(PatchHead):
    """Depth as the mean of fixed bins: d = Σ_i w_i c_i, with w_i proportional to relu(z_i) + 0.1.

    z is batch normalisation and a 1x1 convolution of the patch map (Oquab et al., DINOv2, after AdaBins).

    Args:
        dim: size D' of a patch vector.
        min_depth, max_depth: the ends of the bins, in the unit of the depth maps.
        bins: how many bin centres c_i.
        spacing: ``"uniform"``, or ``"log"`` for centres at equal ratios.
        upsample: z is enlarged by this factor before the weights are made.
        embedding_dim: see :class:`PatchHead`.
    """

    centres: Tensor

    def __init__(
        self,
        dim: int,
        *,
        min_depth: float,
        max_depth: float,
        bins: int = 256,
        spacing: str = "uniform",
        upsample: int = 1,
        embedding_dim: int = 0,
    ) -> None:
        super().__init__(dim, bins, embedding_dim)
        if not 0 < min_depth < max_depth:
            raise SettingError(
                f"DepthHead has min_depth {min_depth:g} and max_depth {max_depth:g}; "
                "allowed: 0 < min_depth < max_depth."
            )
        self.min_depth, self.max_depth, self.spacing, self.upsample = min_depth, max_depth, spacing, upsample
        low, high = (math.log(end) if spacing == "log" else end for end in (min_depth, max_depth))
        centres = torch.linspace(low, high, bins, dtype=torch.float64)
        centres = centres.exp() if spacing == "log" else centres
        self.register_buffer("centres", centres.float())

    def forward(self, features: Features, size: Size, places: Places | None = None) -> Tensor:
        """Depths [B, H, W], or those of the rows and columns that are asked for."""
        z = self.small(features)
        if self.upsample > 1:
            z = F.interpolate(z, scale_factor=float(self.upsample), mode="bilinear", align_corners=False)
        weights = F.relu(z) + NO_WEIGHT
        depths = torch.einsum("bkhw,k->bhw", weights, self.centres) / weights.sum(1)
        return enlarged(depths[:, None], size, places)[:, 0]

    def config(self) -> dict[str, Any]:
        """See :meth:`Head.config`."""
        return {
            "kind": "depth",
            "dim": self.dim,
            "min_depth": self.min_depth,
            "max_depth": self.max_depth,
            "bins": self.conv.out_channels,
            "spacing": self.spacing,
            "upsample": self.upsample,
            "embedding_dim": self.embedding_dim,
        }


class Headed(nn.Module):
    """An encoder's network with a head on it: preprocessed images -> the task's answer.

    Args:
        backbone: the network.
        head: what stands on it.
    """

    def __init__(self, backbone: Backbone, head: Head) -> None:
        super().__init__()
        self.backbone, self.head = backbone, head

    def forward(self, images: Tensor) -> Tensor:
        """Images [B, C, H, W] -> what the head returns."""
        height, width = images.shape[-2:]
        answer: Tensor = self.head(self.backbone(images), (height, width))
        return answer


KINDS: Mapping[str, type[Head]] = {
    "classification": ClassificationHead,
    "segmentation": SegmentationHead,
    "depth": DepthHead,
}


def build_head(config: Mapping[str, Any]) -> Head:
    """The head that :meth:`Head.config` tells of, with fresh weights."""
    values = dict(config)
    kind = str(values.pop("kind", ""))
    if kind not in KINDS:
        raise ModelError(f"There is no head of the kind {kind!r}.{did_you_mean(kind, KINDS)}")
    try:
        return KINDS[kind](**values)
    except TypeError as error:
        raise ModelError(f"The record of a {kind} head is damaged: {error}. Train the head again.") from error


def enlarged(maps: Tensor, size: Size, places: Places | None = None) -> Tensor:
    """Bilinear upsampling [B, K, h, w] -> [B, K, H, W], or some rows and columns of it.

    Chosen pixels are exactly those of the full upsampling, R x C', at the cost of the chosen ones alone.
    """
    if places is None:
        if tuple(maps.shape[-2:]) == size:
            return maps
        return F.interpolate(maps, size=size, mode="bilinear", align_corners=False)
    rows = _bilinear(maps.shape[-2], size[0], places[0]).to(maps)
    columns = _bilinear(maps.shape[-1], size[1], places[1]).to(maps)
    return rows @ (maps @ columns.T)


def _bilinear(before: int, after: int, picked: Tensor) -> Tensor:
    """Rows ``picked`` of the matrix [after, before] that enlarges a line of values, pixel centres aligned."""
    place = ((picked.double() + 0.5) * (before / after) - 0.5).clamp(0, before - 1).cpu()
    low = place.floor().long().clamp(max=max(0, before - 2))
    share = (place - low).float()[:, None]
    matrix = torch.zeros(len(picked), before)
    matrix.scatter_(1, low[:, None], 1 - share)
    if before > 1:
        matrix.scatter_(1, low[:, None] + 1, share)
    return matrix
