"""How a head's weights are made and moved."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from ...core.errors import DataError, SettingError
from ...core.progress import Progress
from ...core.seeds import seed as named_seed
from ...subjects.dense_tasks import Depth, Segmentation
from ...tensors import losses
from ..surroundings import undisturbed
from .features import FeatureStore
from .modules import ClassificationHead, DepthHead, Head, Places, SegmentationHead, Size
from .references import References
from .settings import HeadSettings, HeadTask


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


def _picked(truth: Tensor, stride: int, random: np.random.Generator) -> tuple[Places | None, Tensor, Size]:
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
