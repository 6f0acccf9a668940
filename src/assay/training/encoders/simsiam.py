"""SimSiam: an encoder from two views of each image, by predicting one from the other."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...core.methods import Citation, MethodCard
from ...core.settings import option, settings
from ..presets import Preset
from ..product import Product
from .heads import predictor, projector
from .product import EncoderProduct
from .self_supervised import SelfSupervised

if TYPE_CHECKING:
    from ..batches import Batch
    from ..job import Job
    from ..state import TrainState

CITATION = Citation(
    key="chen2021exploring",
    title="Exploring Simple Siamese Representation Learning",
    authors="Xinlei Chen and Kaiming He",
    year=2021,
    venue="Conference on Computer Vision and Pattern Recognition",
    arxiv="2011.10566",
)

CARD = MethodCard(
    name="simsiam",
    kind="recipe",
    title="SimSiam",
    summary="Learn an encoder without labels: from one view of an image predict the projection of another.",
    settings="SimSiam",
    citation=CITATION,
)


def _heads(job: Job, dim: int) -> tuple[nn.Module, ...]:
    recipe = job.recipe
    assert isinstance(recipe, SimSiam)
    return projector(dim, recipe.hidden, recipe.hidden), predictor(recipe.hidden, recipe.bottleneck)


@settings
class SimSiam(SelfSupervised):
    """min_θ mean_b -[cos(p(v_b), z(w_b)) + cos(p(w_b), z(v_b))] / 2 for two views v, w (arXiv 2011.10566).

    z is the projection, p the prediction from it; no gradient flows through z.
    Batch statistics are those of both views together.

    Cost: 2 forward and 2 backward passes a sample and step.
    """

    product: ClassVar[Product] = EncoderProduct(_heads)
    presets: ClassVar[Mapping[str, Preset]] = {
        "published": Preset(
            recipe={"hidden": 2048, "bottleneck": 512, "crop": 0.2, "blur": 0.5},
            training={"epochs": 100, "batch_size": 512, "learning_rate": 0.1, "weight_decay": 1e-4, "nesterov": False},
            remark="Settings of arXiv 2011.10566 for ImageNet; the network is yours to choose.",
        )
    }

    hidden: int = option(default=256, help="size of the projections", at_least=1)
    bottleneck: int = option(default=64, help="size of the predictor's hidden layer", at_least=1)

    def step(self, state: TrainState, batch: Batch) -> dict[str, Tensor]:
        """One forward and one backward pass on both views."""
        projected, predicted = state.outputs(torch.cat(self.views(batch))).heads
        first, second = projected.detach().chunk(2)
        near = F.cosine_similarity(predicted, torch.cat([second, first]), dim=1)
        ahead, back = near.chunk(2)
        loss = batch.mean(-0.5 * (ahead + back))
        state.backward(loss, 2 * len(batch.images))
        return {"loss": loss}
