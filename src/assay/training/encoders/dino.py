"""DINO: an encoder that learns from an average of itself, which sees other views of the same image."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...core.errors import SettingError
from ...core.methods import Citation, MethodCard
from ...core.settings import option, settings
from ..presets import Preset
from ..product import Product
from ..recipe import Companion
from .heads import Prototypes
from .product import EncoderProduct, Headed
from .self_supervised import SelfSupervised
from .views import Look, view

if TYPE_CHECKING:
    from ..batches import Batch
    from ..job import Job
    from ..state import TrainState

CITATION = Citation(
    key="caron2021emerging",
    title="Emerging Properties in Self-Supervised Vision Transformers",
    authors="Mathilde Caron and Hugo Touvron and Ishan Misra and Hervé Jégou and Julien Mairal and "
    "Piotr Bojanowski and Armand Joulin",
    year=2021,
    venue="International Conference on Computer Vision",
    arxiv="2104.14294",
)

CARD = MethodCard(
    name="dino",
    kind="recipe",
    title="DINO",
    summary="Learn an encoder without labels: a student matches its own moving average on other views of an image.",
    settings="Dino",
    citation=CITATION,
)

LOCAL = 2
"""Number of the first local view."""


def _heads(job: Job, dim: int) -> tuple[nn.Module, ...]:
    recipe = job.recipe
    assert isinstance(recipe, Dino)
    return (Prototypes(dim, hidden=recipe.hidden, bottleneck=recipe.bottleneck, count=recipe.prototypes),)


@settings
class Dino(SelfSupervised):
    """min_θ mean_b mean_{v, w != v} H(softmax((t(v_b) - c) / τ_t), softmax(s(w_b) / τ_s)) (arXiv 2104.14294).

    v is one of two views of the whole image, w one of these or of the local
    views, which are half as wide and see less of the image. s is the student; the teacher t is the
    moving average of its weights with decay 1 - (1 - m) (1 + cos πt/T) / 2, and
    is what is kept. c is the moving average of the teacher's outputs; it begins with those of the first
    batch, as one that begins at 0 lets the first targets be the same for all images.

    Cost: 4 forward and 2 backward passes a sample and step, and one more of each a local view, of a quarter the work.
    """

    product: ClassVar[Product] = EncoderProduct(_heads)
    presets: ClassVar[Mapping[str, Preset]] = {
        "published": Preset(
            recipe={
                "hidden": 2048,
                "bottleneck": 256,
                "prototypes": 65536,
                "teacher_momentum": 0.996,
                "crop": 0.4,
                "local_crops": 8,
                "blur": 0.5,
            },
            training={
                "epochs": 100,
                "batch_size": 1024,
                "optimizer": "adamw",
                "learning_rate": 0.002,
                "weight_decay": 0.04,
                "warmup_epochs": 10,
                "gradient_clip": 3.0,
                "precision": "bf16",
            },
            remark="Settings of arXiv 2104.14294 for ImageNet, with constant weight decay and teacher temperature.",
        )
    }

    teacher_momentum: float = option(
        default=0.99, help="decay m of the teacher's average at the start", at_least=0, below=1
    )
    teacher_temperature: float = option(default=0.04, help="temperature of the teacher's answers", above=0)
    student_temperature: float = option(default=0.1, help="temperature of the student's answers", above=0)
    centre_momentum: float = option(default=0.9, help="decay of the mean of the teacher's outputs", at_least=0, below=1)
    local_crops: int = option(default=2, help="local views of each image", at_least=0)
    hidden: int = option(default=256, help="size of the head's layers", at_least=1)
    bottleneck: int = option(default=64, help="size of the vectors compared with prototypes", at_least=1)
    prototypes: int = option(default=1024, help="number of prototypes", at_least=2)
    freeze_epochs: float = option(default=1.0, help="epochs at the start in which prototypes rest", at_least=0)

    def check(self, job: Job) -> None:
        """The teacher is the weight average already."""
        if job.settings.ema is not None:
            raise SettingError(
                f"TrainSettings.ema is {job.settings.ema:g}, but dino keeps its teacher, which is an average of the "
                "weights already; set Dino.teacher_momentum instead, and leave ema out."
            )

    def companion(self, job: Job, state: TrainState, out: Path | None) -> Companion:
        """The teacher becomes the state's weight average; its centre is kept beside it."""
        total = job.total_steps
        state.keep_average(
            lambda step: 1 - (1 - self.teacher_momentum) * (1 + math.cos(math.pi * min(step / total, 1))) / 2
        )
        return Centre(self.prototypes, state.accelerator.device)

    def step(self, state: TrainState, batch: Batch) -> dict[str, Tensor]:
        """Teacher on two views, student on all of them, one backward pass."""
        whole = torch.cat(self.views(batch))
        with torch.no_grad(), state.averaged():
            taught = state.outputs(whole).heads[0]
        centre = state.companion
        assert isinstance(centre, Centre)
        mean = (taught.reshape(2, -1, self.prototypes).mean(0) * batch.weights[:, None]).sum(0) / batch.size
        mean = state.total(mean)
        if state.step == 0:
            centre.value = mean
        aims = ((taught - centre.value) / self.teacher_temperature).softmax(1).chunk(2)
        answers = [*state.outputs(whole).heads[0].chunk(2)]
        if self.local_crops:
            local = torch.cat(self.local_views(state, batch))
            answers += state.outputs(local).heads[0].chunk(self.local_crops)
        logs = [F.log_softmax(answer / self.student_temperature, dim=1) for answer in answers]
        pairs = [-(aim * log).sum(1) for i, aim in enumerate(aims) for j, log in enumerate(logs) if i != j]
        loss = batch.mean(torch.stack(pairs).mean(0))
        state.backward(loss, (2 + self.local_crops) * len(batch.images))
        if state.step < self.freeze_epochs * state.steps_per_epoch:
            state.network.get_parameter("heads.0.prototypes").grad = None
        centre.follow(mean, self.centre_momentum)
        return {"loss": loss, "teacher_entropy": batch.mean(-(aims[0] * aims[0].clamp_min(1e-30).log()).sum(1))}

    def local_views(self, state: TrainState, batch: Batch) -> list[Tensor]:
        """Views of a part of each image, half as wide: [b, C, h, w] each."""
        assert isinstance(state.network, Headed)
        patch = state.network.backbone.patch
        height, width = (max(patch, side // 2 // patch * patch) for side in batch.images.shape[-2:])
        look = Look((0.2 * self.crop, self.crop), self.jitter, self.grey, self.blur)
        numbers = range(LOCAL, LOCAL + self.local_crops)
        return [view(batch.images, batch.seeds, number, look, (height, width)) for number in numbers]


class Centre(Companion):
    """The moving average of the teacher's outputs, which keeps it from one answer for all.

    Args:
        count: outputs.
        device: where the model is.
    """

    def __init__(self, count: int, device: torch.device) -> None:
        self.value = torch.zeros(count, device=device)

    def follow(self, mean: Tensor, momentum: float) -> None:
        """c <- m c + (1 - m) mean: [K]."""
        self.value = self.value.lerp(mean, 1 - momentum)

    def state_dict(self) -> dict[str, Any]:
        """The centre."""
        return {"centre": self.value}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go back to a saved centre."""
        self.value = state["centre"].to(self.value.device)
