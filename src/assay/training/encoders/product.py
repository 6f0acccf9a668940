"""What recipes for encoders make: a backbone, with whatever head it needs in training alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn

from ...core.errors import ModelError, SettingError, did_you_mean
from ...subjects.backbones import BACKBONES, Backbone, Features, build_backbone
from ...subjects.encoders import encoder
from ..product import Product

if TYPE_CHECKING:
    from ..job import Job
    from ..state import TrainState
    from ..validation import Validator

BACKBONE = "backbone."


class Answer(NamedTuple):
    """What a network in training returns.

    Args:
        features: of the backbone.
        heads: what the heads, each on the answer of the one before, make of the embedding [B, P].
    """

    features: Features
    heads: tuple[Tensor, ...] = ()


class Headed(nn.Module):
    """A backbone in training with heads on its embedding; only the backbone is kept.

    Convolutions get channels_last weights, with which a step of a small network takes 0.7 of the time on the CPU.

    Args:
        backbone: maps preprocessed images to Features.
        heads: the first sees the embedding, each other one the answer of the one before it.
    """

    backbone: Backbone

    def __init__(self, backbone: Backbone, *heads: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.heads = nn.ModuleList(heads)

    def forward(self, images: Tensor) -> Answer:
        """Images [B, C, H, W] -> features, and one tensor [B, P] a head; all in float32 whatever the precision."""
        features: Features = self.backbone(images)
        features = Features(features.embedding.float(), features.patches.float())
        seen, found = features.embedding, []
        for head in self.heads:
            seen = head(seen).float()
            found.append(seen)
        return Answer(features, tuple(found))


class EncoderProduct(Product):
    """A reference encoder with fresh weights, and heads that are thrown away.

    Args:
        heads: the heads in training, for an embedding of a given size.
    """

    network = "resnet-micro"
    labelled = False
    measures: tuple[str, ...] = ()
    examine = "assay evade --encoder {out} --data {data}"

    def __init__(self, heads: Callable[[Job, int], tuple[nn.Module, ...]] = lambda job, dim: ()) -> None:
        self.heads = heads

    def check(self, job: Job) -> None:
        """InputError for an encoder that is not known or cannot take the images, or for settings of classifiers."""
        refuse_watch(job)
        if job.network not in BACKBONES:
            raise ModelError(
                f"There is no reference encoder named {job.network!r}.{did_you_mean(job.network, BACKBONES)} "
                f"Allowed: {', '.join(BACKBONES)}."
            )
        _unseeded(job).grid(*job.data.shape[1:])

    def build(self, job: Job) -> nn.Module:
        """The backbone and its heads, with weights from the global random state."""
        channels, *size = job.data.shape
        backbone = build_backbone(job.network, in_channels=channels, image_size=(size[0], size[1]))
        return Headed(backbone, *self.heads(job, backbone.dim))

    def validator(self, job: Job, state: TrainState) -> Validator | None:
        """What measures embeddings, on the first training images where there are no validation data."""
        from .validation import EncoderValidator

        return EncoderValidator(job, state)

    def exported(self, weights: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """The weights of the backbone alone."""
        return {name.removeprefix(BACKBONE): value for name, value in weights.items() if name.startswith(BACKBONE)}

    def origin(self, job: Job) -> Mapping[str, Any]:
        """What the network can be built from."""
        return _unseeded(job).origin

    def record(self, job: Job) -> dict[str, Any]:
        """What ``model.json`` holds: all that is needed to build the Encoder around the weights."""
        channels, height, width = job.data.shape
        mean, std = job.normalization
        return {
            "schema": 1,
            "kind": "encoder",
            "recipe": job.card.name,
            "origin": dict(self.origin(job)),
            "in_channels": channels,
            "image_size": [height, width],
            "mean": mean,
            "std": std,
            "bounds": [0.0, 1.0],
        }

    def describe(self, out: Path) -> Mapping[str, Any]:
        """The finished encoder, as a record says it."""
        return encoder(f"run:{out}").describe()


def refuse_watch(job: Job) -> None:
    """SettingError where moments are to be kept."""
    if job.settings.watch:
        raise SettingError(
            f"TrainSettings.watch is {job.settings.watch}, which keeps weights for 'assay dynamics'; that examines "
            f"classifiers, and the recipe {job.card.name!r} makes an encoder. Leave watch out."
        )


def _unseeded(job: Job) -> Backbone:
    """The job's backbone, for what it says of itself; the caller's random state is left alone."""
    channels, height, width = job.data.shape
    with torch.random.fork_rng(devices=[]):
        return build_backbone(job.network, in_channels=channels, image_size=(height, width))
