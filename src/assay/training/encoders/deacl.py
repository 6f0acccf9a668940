"""DeACL: harden an encoder by holding its embeddings, clean and perturbed, to those it had before."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from ...core.methods import Citation, MethodCard
from ...core.settings import option, settings
from ...search.ascent import ascend, random_start
from ...search.engine import Space, Work
from ...search.threat import ThreatModel
from ..batches import START, Batch
from ..inner import BOUNDS
from ..presets import Preset
from ..product import Product
from .recipe import EncoderRecipe
from .student import Student, Teacher, load_teacher

if TYPE_CHECKING:
    from ...subjects.backbones import Features
    from ...subjects.encoders import Encoder
    from ..job import Job
    from ..recipe import Companion
    from ..state import TrainState

CITATION = Citation(
    key="zhang2022decoupled",
    title="Decoupled Adversarial Contrastive Learning for Self-supervised Adversarial Robustness",
    authors="Chaoning Zhang and Kang Zhang and Chenshuang Zhang and Axi Niu and Jiu Feng and Chang D. Yoo and "
    "In So Kweon",
    year=2022,
    venue="European Conference on Computer Vision",
    arxiv="2207.10899",
)

CARD = MethodCard(
    name="deacl",
    kind="recipe",
    title="DeACL",
    summary="Fine-tune an encoder so that its embeddings stay where they were, on clean and on perturbed images.",
    settings="DeACL",
    citation=CITATION,
    norms=("linf", "l2"),
)

PUBLISHED = Preset(
    recipe={"eps": "8/255", "steps": 5, "step_size": "2/255", "clean_weight": 1.0, "robust_weight": 2.0},
    training={
        "epochs": 101,
        "batch_size": 128,
        "optimizer": "sgd",
        "learning_rate": 0.5,
        "momentum": 0.0,
        "nesterov": False,
        "weight_decay": 5e-4,
        "warmup_epochs": 10,
        "schedule": "cosine",
        "precision": "bf16",
    },
    remark="Settings of arXiv 2407.12588 for ImageNet encoders (bf16 in place of fp16); days of work on a GPU.",
)


@settings
class DeACL(EncoderRecipe):
    """min_θ mean_b [-a cos(f(x_b), t(x_b)) - k cos(f(x'_b), f(x_b))] (arXiv 2207.10899; settings of 2407.12588).

    t is the encoder as given, frozen and in evaluation mode; f begins as its
    copy. x' maximises -cos(f(x'), t(x)) by projected gradient steps from a random
    point of the ball, with f in evaluation mode. Gradients flow through both
    arguments of the second cosine. No label is used.

    Cost: steps + 3 forward and steps + 2 backward passes a sample and step.
    """

    product: ClassVar[Product] = Student()
    presets: ClassVar[Mapping[str, Preset]] = {"published": PUBLISHED}
    usual: ClassVar[Mapping[str, Any]] = MappingProxyType(
        {
            "epochs": 5,
            "optimizer": "adamw",
            "learning_rate": 0.001,
            "weight_decay": 1e-4,
            "batch_size": 64,
            "warmup_epochs": 0.1,
        }
    )
    measured: ClassVar[Mapping[str, tuple[str, str]]] = MappingProxyType(
        {
            "loss": ("the loss of the recipe", "lower"),
            "cosine_to_teacher": ("cosine of the embeddings of a clean image before and after", "higher"),
            "cosine_under_attack": ("cosine of the embeddings of a perturbed and the clean image", "higher"),
        }
    )

    encoder: str = option(default="", help="encoder to harden: a run folder, hf:DIR or network:NAME")
    norm: str = option(default="linf", help="norm of the perturbation", choices=("linf", "l2"))
    eps: float = option(default="8/255", help="budget, for images in [0, 1]", at_least=0, below=float("inf"))
    steps: int = option(default=5, help="gradient steps of the inner problem", at_least=1)
    step_size: float | None = option(default=None, help="length of a step; default eps / 4", above=0)
    clean_weight: float = option(default=1.0, help="weight of the distance to the teacher", at_least=0)
    robust_weight: float = option(default=2.0, help="weight k of the distance under attack", at_least=0)
    batch_statistics: str = option(
        default="joint",
        help="BatchNorm of the training pass: clean and perturbed images together, in a pass each, or at rest",
        choices=("joint", "separate", "frozen"),
    )

    @property
    def threat(self) -> ThreatModel:
        """Norm and budget."""
        return ThreatModel(self.norm, self.eps)

    def foundation(self, job: Job) -> Encoder:
        """The encoder that is hardened."""
        return load_teacher(self.encoder, job)

    def check(self, job: Job) -> None:
        """Load the encoder, or say why that cannot be."""
        assert job.foundation

    def identity(self, job: Job) -> dict[str, Any]:
        """The weights it begins with."""
        return {"encoder": job.foundation.digest}

    def companion(self, job: Job, state: TrainState, out: Path | None) -> Companion:
        """The frozen teacher."""
        return Teacher(job.foundation, state.accelerator.device)

    def step(self, state: TrainState, batch: Batch) -> dict[str, Tensor]:
        """Attack, then one backward pass through the clean and the perturbed images."""
        teacher = self.teach(state, batch)
        points = self.perturb(state, batch, teacher)
        if self.batch_statistics == "frozen":
            with state.evaluating():
                clean, attacked = (self.features(state, images) for images in (batch.images, points))
        elif self.batch_statistics == "separate":
            clean, attacked = (self.features(state, images) for images in (batch.images, points))
        else:
            clean, attacked = _halves(self.features(state, torch.cat([batch.images, points])))
        terms = {name: batch.mean(values) for name, values in self.terms(clean, attacked, teacher).items()}
        state.backward(terms["loss"], 2 * len(points))
        return terms

    def terms(self, clean: Features, attacked: Features, teacher: Features) -> dict[str, Tensor]:
        """The loss and the cosines it is made of: [b] each, by name."""
        near = cosine(clean.embedding, teacher.embedding)
        held = cosine(attacked.embedding, clean.embedding)
        loss = -self.clean_weight * near - self.robust_weight * held
        return {"loss": loss, "cosine_to_teacher": near, "cosine_under_attack": held}

    def harm(self, found: Features, teacher: Features, batch: Batch) -> Tensor:
        """What the inner problem maximises: [b]."""
        return -cosine(found.embedding, teacher.embedding)

    def perturb(self, state: TrainState, batch: Batch, teacher: Features) -> Tensor:
        """x' of the docstring: [b, C, H, W]; ``steps`` forward and backward passes a sample."""
        own = torch.arange(len(batch.images), device=batch.images.device)
        work = Work(centres=batch.images, reference=batch.labels, seeds=batch.seeds, owner=own)
        start = random_start(work, Space(self.threat, BOUNDS), START)
        with state.evaluating():
            state.cost.backward += self.steps * len(batch.images)
            return ascend(
                lambda points: self.harm(self.features(state, points), teacher, batch),
                batch.images,
                self.threat,
                steps=self.steps,
                step_size=self.step_size or self.eps / 4,
                start=start,
                bounds=BOUNDS,
            )

    def measure(self, state: TrainState, batch: Batch, features: Features) -> dict[str, Tensor]:
        """The loss and its cosines, with the model in evaluation mode."""
        teacher = self.teach(state, batch)
        points = self.perturb(state, batch, teacher)
        with torch.no_grad():
            return self.terms(features, self.features(state, points), teacher)

    def teach(self, state: TrainState, batch: Batch) -> Features:
        """What the teacher says of the clean images."""
        companion = state.companion
        assert isinstance(companion, Teacher)
        found: Features = state.outputs(batch.images, companion)
        return found

    def features(self, state: TrainState, images: Tensor) -> Features:
        """What the student says."""
        found: Features = state.outputs(images).features
        return found


def cosine(first: Tensor, second: Tensor) -> Tensor:
    """Cosine along dimension 1: [b, D] -> [b], [b, D, h, w] -> [b, h, w]."""
    return F.cosine_similarity(first, second, dim=1, eps=1e-8)


def _halves(features: Features) -> tuple[Features, Features]:
    """The two halves of a joint pass."""
    firsts, seconds = zip(*(part.chunk(2) for part in features), strict=True)
    return type(features)(*firsts), type(features)(*seconds)
