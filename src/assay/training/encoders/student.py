"""A student that begins as a copy of an encoder, and the frozen encoder it learns from."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from ...core.errors import ModelError, SettingError
from ...subjects.backbones import Features
from ...subjects.encoders import Encoder, encoder
from ...subjects.tasks import Normalize
from ..recipe import Companion
from .product import EncoderProduct, Headed, refuse_watch

if TYPE_CHECKING:
    from ..job import Job

COPIED = "encoder"


def load_teacher(spec: str, job: Job) -> Encoder:
    """The encoder that a recipe begins with, tried on one image of the data.

    Raises:
        SettingError, ModelError: none is named, it cannot be loaded, or it cannot take the images.
    """
    if not spec:
        raise SettingError(
            f"The recipe {job.card.name!r} hardens an encoder, and none is named. Give one: --encoder runs/dino, "
            "--encoder hf:FOLDER, or encoder='...' in Python."
        )
    channels, height, width = job.data.shape
    found = encoder(spec, in_channels=channels, image_size=(height, width))
    if not found.backbone.origin:
        raise ModelError(
            f"The encoder {spec!r} cannot be built again from a record, so a hardened copy could not be loaded. Use "
            "a reference encoder (network:, run:) or one of transformers (hf:)."
        )
    if not isinstance(found.preprocess, Normalize | None):
        raise ModelError(
            f"The encoder {spec!r} has a preprocessing that is not a mean and a standard deviation a channel, and "
            "model.json holds nothing else. Give the encoder with mean and std."
        )
    if found.bounds != (0.0, 1.0):
        raise ModelError(f"The encoder {spec!r} takes images in {found.bounds}; training data are in (0, 1).")
    found.embed(found.check_images(torch.full((1, channels, height, width), 0.5)))
    return found


class Student(EncoderProduct):
    """A copy of the job's foundation, an :class:`Encoder`, with its preprocessing."""

    network = COPIED
    measures = ("loss",)

    def check(self, job: Job) -> None:
        """SettingError where a network is named: it is the encoder's own."""
        refuse_watch(job)
        if job.network != COPIED:
            raise SettingError(
                f"The network is {job.network!r}, but the recipe {job.card.name!r} trains a copy of the encoder it is "
                "given; leave the network out."
            )

    def build(self, job: Job) -> nn.Module:
        """The encoder's backbone with its weights, all of them to be trained."""
        teacher: Encoder = job.foundation
        return Headed(copy.deepcopy(teacher.backbone).requires_grad_(True))

    def preprocess(self, job: Job) -> nn.Module:
        """That of the encoder."""
        return copy.deepcopy(job.foundation.preprocess) or nn.Identity()

    def origin(self, job: Job) -> Mapping[str, Any]:
        """That of the encoder."""
        return dict(job.foundation.backbone.origin)

    def record(self, job: Job) -> dict[str, Any]:
        """As for every encoder, and which one it began with."""
        teacher: Encoder = job.foundation
        preprocess = teacher.preprocess
        if isinstance(preprocess, Normalize):
            mean, std = (part.flatten().tolist() for part in (preprocess.mean, preprocess.std))
        else:
            mean, std = [0.0] * job.data.shape[0], [1.0] * job.data.shape[0]
        return {**super().record(job), "mean": mean, "std": std, "began_with": teacher.digest}


class Teacher(Companion):
    """The frozen encoder beside its student.

    Args:
        found: the encoder, which is copied.
        device: where the student is.
    """

    def __init__(self, found: Encoder, device: torch.device) -> None:
        twin: nn.Module = copy.deepcopy(found.backbone).to(device)
        twin.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.network = twin.eval().requires_grad_(False)

    def __call__(self, images: torch.Tensor) -> Features:
        """Features of preprocessed images in float32, without gradients."""
        with torch.no_grad():
            features: Features = self.network(images)
            return Features(features.embedding.float(), features.patches.float())
