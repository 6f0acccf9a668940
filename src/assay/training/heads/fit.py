"""train_head: a head for one task on an encoder that stays as it is."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from ...core.errors import DataError, SettingError
from ...core.probes import Cost, Finding, Metric, Panels
from ...core.progress import Progress
from ...core.seeds import seed as named_seed
from ...subjects.dense_tasks import Depth, Segmentation
from ...subjects.encoders import Encoder
from ...subjects.target import Target
from ...tensors import losses
from ..surroundings import undisturbed
from .features import FeatureStore, cache_features
from .modules import ClassificationHead, DepthHead, Head, Headed, SegmentationHead
from .references import References
from .settings import HeadSettings, HeadTask, dense, task_for

if TYPE_CHECKING:
    from ...core.runs import Run
    from ...data.dataset import Dataset
    from ...data.dense.dataset import DenseDataset


_UNTESTED = Finding(
    code="no-validation",
    severity="info",
    message="No validation data were given, so nothing was measured on images outside the training data.",
    remedy="Give validation data.",
)


@dataclass(eq=False, repr=False)
class TrainedHead:
    """An encoder with a head on it, ready to be examined.

    Args:
        encoder: what the head stands on, unchanged.
        head: the trained head.
        task: what it is for.
        settings: as used.
        seed: root of its first weights and of the order of images.
        losses: mean training loss of every epoch.
        metrics: on the validation data, with intervals over images; empty without such data.
        findings: what a reader should know.
        samples: columns of the validation images.
        panels: pictures of some of them.
        cost: passes through the encoder.
        run: the record, where a folder was given.
    """

    encoder: Encoder
    head: Head
    task: HeadTask
    settings: HeadSettings
    seed: int
    losses: list[float] = field(default_factory=list)
    metrics: list[Metric] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    samples: dict[str, np.ndarray] = field(default_factory=dict)
    panels: list[Panels] = field(default_factory=list)
    cost: Cost = field(default_factory=Cost)
    run: Run | None = None

    def __repr__(self) -> str:
        shown = ", ".join(f"{metric.name}={metric.value:.4g}" for metric in self.metrics)
        return f"TrainedHead({self.task.name} on {self.encoder.name}{', ' * bool(shown)}{shown})"

    @property
    def target(self) -> Target[Any]:
        """The whole pipeline, from raw images to the task's answer."""
        return Target(
            Headed(self.encoder.backbone, self.head).eval(),
            task=self.task,
            bounds=self.encoder.bounds,
            preprocess=self.encoder.preprocess,
            name=f"{self.encoder.name}+{self.task.name}",
            source=self.encoder.source,
        )


def train_head(
    encoder: Encoder,
    data: DenseDataset | Dataset,
    *,
    task: HeadTask | str,
    settings: HeadSettings | None = None,
    seed: int = 0,
    validation: DenseDataset | Dataset | None = None,
    cache: str | Path | None = None,
    out: str | Path | None = None,
    progress: Progress | None = None,
    command: Sequence[str] = (),
) -> TrainedHead:
    """Train a head for one task on the features of an encoder that stays as it is.

    Args:
        encoder: the encoder.
        data: a DenseDataset, or a Dataset for classification.
        task: the task, or its name: what else it needs is then taken from the data.
        settings: how; default: ``HeadSettings()``, the task's own defaults.
        seed: root of the first weights and of the order of images.
        validation: data of the same kind for the metrics.
        cache: folder for features, see :func:`cache_features`; None: they stay in memory.
        out: folder for the head and its record; the same call finds it there again.
        progress: where to show how far it is.
        command: what to type to repeat it, for the record.

    Cost: one forward pass of the encoder an image, and then those of the head.
    """
    options: dict[str, Any] = {"task": task, "validation": validation, "settings": settings}
    if out is None:
        return train_heads(encoder, data, **options, seeds=[seed], cache=cache, progress=progress)[0]
    from .store import finish, load_head, open_run

    options["task"], chosen = resolved(encoder, data, task, settings)
    run = {**options, "given": settings, "settings": chosen, "seed": seed, "command": command}
    with open_run(out, encoder, data, **run) as writer:
        if not writer.finished:
            [trained] = train_heads(encoder, data, **options, seeds=[seed], cache=cache, progress=progress)
            trained.run = finish(writer, trained, validation)
            return trained
    return load_head(out, encoder)


def train_heads(
    encoder: Encoder,
    data: DenseDataset | Dataset,
    *,
    task: HeadTask | str,
    seeds: Sequence[int],
    settings: HeadSettings | None = None,
    validation: DenseDataset | Dataset | None = None,
    cache: str | Path | None = None,
    progress: Progress | None = None,
) -> list[TrainedHead]:
    """One head for each seed, on features that are computed once; otherwise as :func:`train_head`."""
    shown = progress or Progress(enabled=False)
    purpose, chosen = resolved(encoder, data, task, settings)
    references = References(dense(data), purpose)
    space = space_of(purpose, chosen)
    features = cache_features(encoder, data, space=space, folder=cache, progress=shown)
    heads = []
    for number in seeds:
        head = new_head(features, references, purpose, chosen, seed=number)
        course = Course(head.to(encoder.device), features, references, purpose, chosen, number)
        losses_by_epoch = course.run(shown)
        findings = [*encoder.findings, *references.findings()]
        cost = Cost(forward=features.computed)
        heads.append(TrainedHead(encoder, head, purpose, chosen, number, losses_by_epoch, findings=findings, cost=cost))
        features = features.reused()
    if validation is not None:
        from .quality import validate

        validate(heads, dense(validation), cache=cache, progress=shown)
    else:
        for trained in heads:
            trained.findings.append(_UNTESTED)
    return heads


def new_head(
    features: FeatureStore, references: References, task: HeadTask, settings: HeadSettings, *, seed: int
) -> Head:
    """A head with first weights from the seed, of the sizes that the features have."""
    patch_dim = 0 if features.patches is None else features.patches.shape[1]
    dim = 0 if features.embedding is None else features.embedding.shape[1]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(named_seed(seed, "head", task.name, "weights"))
        if isinstance(task, Segmentation):
            return SegmentationHead(patch_dim, task.num_classes, embedding_dim=dim)
        if isinstance(task, Depth):
            return DepthHead(
                patch_dim,
                min_depth=max(settings.nearest, task.min_depth),
                max_depth=settings.farthest or task.max_depth or references.largest,
                bins=settings.bins,
                spacing=settings.spacing,
                upsample=settings.upsample,
                embedding_dim=dim,
            )
        head = ClassificationHead(dim, task.num_classes)
    if settings.standardise and features.embedding is not None:
        centre = features.embedding.mean(0, dtype=np.float64)
        spread = features.embedding.std(0, dtype=np.float64)
        head.standardise(torch.from_numpy(centre).float(), torch.from_numpy(spread).float())
    return head


class Course:
    """The training of one head.

    Args:
        head: in its first state.
        features: of the training images.
        references: of the same images.
        task, settings: as used.
        seed: root of the order of images and of the pixels that are learned from.
    """

    def __init__(
        self,
        head: Head,
        features: FeatureStore,
        references: References,
        task: HeadTask,
        settings: HeadSettings,
        seed: int,
    ) -> None:
        self.head, self.features, self.references = head, features, references
        self.task, self.settings, self.seed = task, settings, seed
        self.device = next(head.parameters()).device
        self.optimizer = _optimizer(head, settings)
        self.rows = np.flatnonzero(references.usable)
        self.epochs = settings.epochs or 1
        self.steps = -(-len(self.rows) // (settings.batch_size or 1))  # in an epoch
        patches = 1 if features.patches is None else int(np.prod(features.patches.shape[2:]))
        if features.patches is not None and len(self.rows) // self.steps * patches < 2:
            raise DataError(
                f"A step has {len(self.rows) // self.steps} image of {patches} patch; batch normalisation needs two "
                "values. Give more images, larger images, or a larger batch_size."
            )

    def run(self, shown: Progress) -> list[float]:
        """Move the head's weights; the mean loss of every epoch."""
        means = []
        with undisturbed(self.device), shown.task(f"{self.task.name} head, seed {self.seed}", self.epochs) as bar:
            self.head.train()
            for epoch in range(self.epochs):
                order = self._random("order", epoch).permutation(self.rows)
                total = 0.0
                for step, batch in enumerate(np.array_split(order, self.steps)):
                    total += self.step(batch, epoch * self.steps + step) * len(batch)
                means.append(total / len(self.rows))
                if not math.isfinite(means[-1]):
                    raise SettingError(
                        f"The training of the {self.task.name} head diverged: its loss is {means[-1]}. "
                        f"Lower learning_rate, which is {self.settings.learning_rate:g}."
                    )
                bar.advance()
            self.head.eval().requires_grad_(False)
        return means

    def step(self, batch: np.ndarray, number: int) -> float:
        """One step on the images at these positions; their mean loss before it.

        Args:
            batch: int64 [n].
            number: of the step in the whole training.
        """
        _set_rate(self.optimizer, self.settings, number / (self.epochs * self.steps))
        truth = self.references.read(batch).to(self.device)
        places, truth, size = _picked(truth, self.settings.label_stride or 1, self._random("pixels", number))
        output = self.head(self.features.read(batch, self.device), size, places)
        loss = _loss(self.task, output, truth, self.settings).mean()
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()
        return float(loss.detach())

    def _random(self, purpose: str, number: int) -> np.random.Generator:
        return np.random.default_rng(named_seed(self.seed, "head", self.task.name, purpose, number))


def _picked(truth: Tensor, stride: int, random: np.random.Generator) -> tuple[Any, Tensor, tuple[int, int]]:
    """Pixels to learn from in this step: every ``stride``-th, from a random first one."""
    if truth.ndim < 3:
        return None, truth, (1, 1)
    height, width = truth.shape[-2:]
    if stride == 1:
        return None, truth, (height, width)
    first = random.integers(stride, size=2)
    rows = torch.arange(min(int(first[0]), height - 1), height, stride)
    columns = torch.arange(min(int(first[1]), width - 1), width, stride)
    return (rows, columns), truth[:, rows][:, :, columns], (height, width)


def _loss(task: HeadTask, output: Tensor, truth: Tensor, settings: HeadSettings) -> Tensor:
    """The task's own loss, and for depth that of its gradient where it is asked for: [B]."""
    found = task.losses(output, truth)
    if isinstance(task, Depth) and settings.gradient_weight:
        found = found + settings.gradient_weight * losses.depth_gradient(output, truth, valid=task.valid(truth))
    return found


def _optimizer(head: Head, settings: HeadSettings) -> torch.optim.Optimizer:
    rate, decay = settings.learning_rate or 0.0, settings.weight_decay or 0.0
    if settings.optimizer == "sgd":
        return torch.optim.SGD(head.parameters(), lr=rate, momentum=0.9, weight_decay=decay)
    kind = torch.optim.Adam if settings.optimizer == "adam" else torch.optim.AdamW
    return kind(head.parameters(), lr=rate, weight_decay=decay)


def _set_rate(optimizer: torch.optim.Optimizer, settings: HeadSettings, done: float) -> None:
    rate = settings.learning_rate or 0.0
    for group in optimizer.param_groups:
        group["lr"] = rate if settings.schedule == "constant" else rate * (1 + math.cos(math.pi * done)) / 2


def resolved(
    encoder: Encoder, data: DenseDataset | Dataset, task: HeadTask | str, settings: HeadSettings | None
) -> tuple[HeadTask, HeadSettings]:
    """The task and the settings as they will be used; ModelError where the encoder does not fit."""
    asked = settings or HeadSettings()
    purpose = task_for(task, data, max_depth=asked.farthest) if isinstance(task, str) else task
    if space_of(purpose, asked) != "global":
        encoder.grid(*data.shape[1:])
    if len(data):
        encoder.check_images(torch.from_numpy(data.images(np.arange(1))))
    return purpose, asked.resolved(purpose.name, encoder.patch)


def space_of(task: HeadTask, settings: HeadSettings) -> str:
    """The features that a head reads, see :class:`Head`."""
    if not isinstance(task, Segmentation | Depth):
        return "global"
    return "both" if settings.with_embedding else "patch"
