"""Recipes that learn from views of images without labels: the settings of the views."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar

from torch import Tensor

from ...core.settings import option, settings
from .recipe import EncoderRecipe
from .views import Look, view

if TYPE_CHECKING:
    from ..batches import Batch


@settings
class SelfSupervised(EncoderRecipe):
    """How far two views of an image differ; recipes inherit these settings."""

    usual: ClassVar[Mapping[str, Any]] = MappingProxyType(
        {"optimizer": "adamw", "learning_rate": 0.002, "weight_decay": 1e-4, "batch_size": 64, "warmup_epochs": 0.5}
    )

    crop: float = option(default=0.25, help="smallest share of the image's area in a view", above=0, at_most=1)
    jitter: float = option(default=0.4, help="change of brightness, contrast and colours", at_least=0, at_most=1)
    grey: float = option(default=0.2, help="share of views without colour", at_least=0, at_most=1)
    blur: float = option(default=0.2, help="share of views that are blurred", at_least=0, at_most=1)

    def views(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Two views of each image, at the size of the images: [b, C, H, W] each."""
        look = Look((self.crop, 1.0), self.jitter, self.grey, self.blur)
        height, width = batch.images.shape[-2:]
        first, second = (view(batch.images, batch.seeds, number, look, (height, width)) for number in (0, 1))
        return first, second
