"""What recipes for encoders have in common."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, ClassVar

from torch import Tensor

from ..product import Product
from ..recipe import Recipe
from .product import EncoderProduct

if TYPE_CHECKING:
    from ...subjects.backbones import Features
    from ..batches import Batch
    from ..state import TrainState


class EncoderRecipe(Recipe):
    """A recipe whose product is an encoder.

    Attributes:
        measured: what :meth:`measure` finds, by name: the estimand in words, and which direction is better.
    """

    product: ClassVar[Product] = EncoderProduct()
    measured: ClassVar[Mapping[str, tuple[str, str]]] = MappingProxyType({})

    def measure(self, state: TrainState, batch: Batch, features: Features) -> dict[str, Tensor]:
        """What validation measures besides the spread of the embeddings: one value a sample [b], by name.

        Args:
            state: the model, in evaluation mode.
            batch: the samples.
            features: of the clean images.
        """
        return {}
