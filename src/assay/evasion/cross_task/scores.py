"""How well an answer is, for every task, as sums over images: metrics and their intervals follow from the sums.

A metric of a set of images is a function of Σ_i s_i, where s_i [F] are sums over the pixels of
image i that count: correct answers; intersections, predicted and true pixels of every class;
squared and relative errors of depth. So pooled metrics such as mean IoU can be resampled over
images at the price of a matrix product, and the worst of several attacks can be chosen for each image.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from ...subjects.dense_tasks import Depth, Segmentation
from ...subjects.tasks import Classification, Task
from ...tensors import metrics


@dataclass(frozen=True, kw_only=True)
class Measure:
    """One metric of a task.

    Args:
        name: in metric names, such as ``"mean_iou"``.
        words: what it is, for people and records.
        of: sums [..., F] over images -> values [...].
        direction: ``"higher"`` or ``"lower"`` is better.
        unit: ``"share"``, a unit, or ``""``.
        change: it tells how far an attack moved the answer, and so means nothing without one.
        rate: a share of images, so that its interval is exact.
    """

    name: str
    words: str
    of: Callable[[np.ndarray], np.ndarray]
    direction: str = "higher"
    unit: str = "share"
    change: bool = False
    rate: bool = False

    @property
    def most(self) -> float:
        """The largest value there can be."""
        return 1.0 if self.unit == "share" else math.inf

    @property
    def clean_name(self) -> str:
        """Its name on unchanged images."""
        return f"clean_{self.name}"

    def attacked_name(self, budget: str) -> str:
        """Its name under an attack within ``budget``, such as ``"linf:8/255"``."""
        return f"{self.name}@{budget}" if self.change else f"robust_{self.name}@{budget}"


class Yardstick(Protocol):
    """What the answers of one task are held against."""

    measures: tuple[Measure, ...]  # the first is the one shown in the matrix

    @property
    def counted(self) -> np.ndarray:
        """Which images have anything to be held against: [N] bool."""

    def sums(self, output: Tensor, rows: Tensor) -> Tensor:
        """Sums of each image: outputs [B, ...] for the images ``rows`` [B] -> [B, F], float64 on the CPU."""

    def badness(self, sums: np.ndarray) -> np.ndarray:
        """How bad single images are, to choose the worst attack on each: [..., F] -> [...]."""


@dataclass(kw_only=True)
class ClassificationYardstick:
    """Right or wrong; F = 2: correct, images.

    Args:
        labels: [N].
    """

    labels: Tensor
    measures: tuple[Measure, ...] = (
        Measure(
            name="accuracy",
            words="share of images classified correctly",
            of=lambda s: _ratio(s[..., 0], s[..., 1]),
            rate=True,
        ),
    )

    @property
    def counted(self) -> np.ndarray:
        """All images count."""
        return np.ones(len(self.labels), dtype=bool)

    def sums(self, output: Tensor, rows: Tensor) -> Tensor:
        """Correct, and 1 an image."""
        correct = output.argmax(1).cpu() == self.labels[rows]
        return torch.stack([correct, torch.ones_like(correct)], 1).double()

    def badness(self, sums: np.ndarray) -> np.ndarray:
        """1 where wrong."""
        return 1 - sums[..., 0]


@dataclass(kw_only=True)
class SegmentationYardstick:
    """Pixels by class; F = 3K: intersections, predicted and true pixels of every class, among those that count.

    Args:
        task: with num_classes K and ignore_index.
        masks: [N, H, W].
    """

    task: Segmentation
    masks: Tensor
    measures: tuple[Measure, ...] = field(init=False)

    def __post_init__(self) -> None:
        self.measures = (
            Measure(name="mean_iou", words="mean intersection over union of the classes", of=self._iou),
            Measure(name="mean_class_accuracy", words="mean recall of the classes present", of=self._recall),
            Measure(
                name="pixel_accuracy",
                words="share of pixels classified correctly",
                of=lambda s: _ratio(self._part(s, 0).sum(-1), self._part(s, 2).sum(-1)),
            ),
        )

    @property
    def counted(self) -> np.ndarray:
        """Images with at least one pixel that counts."""
        return self.task.valid(self.masks).flatten(1).any(1).numpy()

    def sums(self, output: Tensor, rows: Tensor) -> Tensor:
        """Counts of every class: [B, 3K]."""
        classes, ignored = self.task.num_classes, self.task.ignore_index
        counts = metrics.confusion(output.argmax(1).cpu(), self.masks[rows], classes, ignored)
        return torch.cat([counts.diagonal(dim1=1, dim2=2), counts.sum(1), counts.sum(2)], 1).double()

    def badness(self, sums: np.ndarray) -> np.ndarray:
        """Share of pixels that are wrong."""
        return 1 - _ratio(self._part(sums, 0).sum(-1), self._part(sums, 2).sum(-1))

    def _part(self, sums: np.ndarray, index: int) -> np.ndarray:
        classes = self.task.num_classes
        return sums[..., index * classes : (index + 1) * classes]

    def _iou(self, sums: np.ndarray) -> np.ndarray:
        both, predicted, true = (self._part(sums, index) for index in range(3))
        return _mean_over(both, predicted + true - both)

    def _recall(self, sums: np.ndarray) -> np.ndarray:
        return _mean_over(self._part(sums, 0), self._part(sums, 2))


def _of(function: Callable[..., Tensor], *given: int) -> Callable[[np.ndarray], np.ndarray]:
    """A metric of tensors of sums as one of arrays."""

    def of(sums: np.ndarray) -> np.ndarray:
        return function(torch.from_numpy(sums), *given).numpy()

    return of


DEPTH_MEASURES = (
    Measure(
        name="rmse",
        words="root of the mean squared error of the depth",
        of=_of(metrics.rmse_from),
        direction="lower",
        unit="m",
    ),
    Measure(
        name="abs_rel",
        words="mean absolute error of the depth, relative to the true depth",
        of=_of(metrics.abs_rel_from),
        direction="lower",
        unit="",
    ),
    *(
        Measure(
            name=f"delta{power}",
            words=f"share of pixels whose depth is right within a factor of {metrics.RATIO**power:.4g}",
            of=_of(metrics.delta_from, power),
        )
        for power in (1, 2, 3)
    ),
)


@dataclass(kw_only=True)
class DepthYardstick:
    """Errors of depth; F = 8, the columns of :func:`assay.tensors.metrics.depth_sums`.

    Args:
        task: says which pixels count.
        depths: [N, H, W], in metres.
    """

    task: Depth
    depths: Tensor
    measures: tuple[Measure, ...] = DEPTH_MEASURES

    @property
    def counted(self) -> np.ndarray:
        """Images with at least one pixel that counts."""
        return self.task.valid(self.depths).flatten(1).any(1).numpy()

    def sums(self, output: Tensor, rows: Tensor) -> Tensor:
        """Sums of errors: [B, 8]."""
        true = self.depths[rows]
        return metrics.depth_sums(output.cpu(), true, valid=self.task.valid(true)).double()

    def badness(self, sums: np.ndarray) -> np.ndarray:
        """Mean squared error."""
        return _ratio(sums[..., 1], sums[..., 0])


@dataclass(kw_only=True)
class EmbeddingYardstick:
    """How far an attack moved the embedding; F = 4: images, cosine distance, L2 distance, own image still nearest.

    Args:
        clean: embeddings of the clean images [N, D].
    """

    clean: Tensor
    measures: tuple[Measure, ...] = (
        Measure(
            name="embedding_cosine_distance",
            words="mean of 1 - cos between the embedding of an attacked image and that of the clean one",
            of=lambda s: _ratio(s[..., 1], s[..., 0]),
            direction="lower",
            unit="",
            change=True,
        ),
        Measure(
            name="embedding_l2_distance",
            words="mean Euclidean distance between these embeddings, in units of the mean distance between two "
            "different clean images",
            of=lambda s: _ratio(s[..., 2], s[..., 0]),
            direction="lower",
            unit="",
            change=True,
        ),
        Measure(
            name="own_nearest",
            words="share of images whose attacked embedding is still nearer to their own clean embedding than to any "
            "other image's",
            of=lambda s: _ratio(s[..., 3], s[..., 0]),
            change=True,
            rate=True,
        ),
    )

    def __post_init__(self) -> None:
        self.clean = self.clean.double()
        count = len(self.clean)
        total = torch.cdist(self.clean, self.clean).sum() / max(1, count * (count - 1))
        self._typical = float(total) or 1.0

    @property
    def counted(self) -> np.ndarray:
        """All images count."""
        return np.ones(len(self.clean), dtype=bool)

    def sums(self, output: Tensor, rows: Tensor) -> Tensor:
        """Distances to the clean embeddings: [B, 4]."""
        moved = output.cpu().double()
        own = self.clean[rows]
        cosine = 1 - torch.nn.functional.cosine_similarity(moved, own, dim=1, eps=1e-12)
        to_all = (
            (moved[:, None] - self.clean[None]).norm(dim=2)
            if moved.shape[1] < 8
            else torch.cdist(moved, self.clean, compute_mode="donot_use_mm_for_euclid_dist")
        )
        distance = to_all[torch.arange(len(rows)), rows]
        nearest = distance <= to_all.amin(1)
        return torch.stack([torch.ones_like(distance), cosine, distance / self._typical, nearest.double()], 1)

    def badness(self, sums: np.ndarray) -> np.ndarray:
        """Cosine distance."""
        return sums[..., 1]


def yardstick(task: Task, references: Tensor) -> Yardstick:
    """The yardstick of a task.

    Args:
        task: of the model.
        references: labels, masks, depth maps, or clean embeddings, checked.
    """
    if isinstance(task, Classification):
        return ClassificationYardstick(labels=references)
    if isinstance(task, Segmentation):
        return SegmentationYardstick(task=task, masks=references)
    if isinstance(task, Depth):
        return DepthYardstick(task=task, depths=references)
    return EmbeddingYardstick(clean=references)


def measures_of(task: str, about: Mapping[str, Any]) -> tuple[Measure, ...]:
    """The metrics of a task, to be taken of sums that were kept.

    Args:
        task: its name.
        about: what its record says of it: ``num_classes`` for segmentation.
    """
    if task == "segmentation":
        classes = Segmentation(num_classes=int(about["num_classes"]))
        return SegmentationYardstick(task=classes, masks=torch.zeros(0, 1, 1, dtype=torch.int64)).measures
    if task == "depth":
        return DepthYardstick(task=Depth(), depths=torch.zeros(0, 1, 1)).measures
    if task == "classification":
        return ClassificationYardstick(labels=torch.zeros(0)).measures
    return EmbeddingYardstick(clean=torch.zeros(0, 1)).measures


def score(target: Any, measured: Yardstick, images: Tensor, *, batch_size: int) -> np.ndarray:
    """Sums of the answers to raw images, one forward pass each: [N, C, H, W] -> [N, F]."""
    parts = []
    for rows in torch.arange(len(images)).split(max(1, batch_size)):
        parts.append(measured.sums(target.predict(images[rows], batch_size=batch_size), rows))
    return torch.cat(parts).numpy()


def worst(measured: Yardstick, cells: list[np.ndarray]) -> np.ndarray:
    """The sums [H, N, F] under the worst of several attacks, each [H, N, F].

    Each head and image counts with the attack that hurt it most. Such a choice need not give the worst mean
    IoU, which is no mean over images; where a single attack gives a worse first metric, it is that one.
    """
    stacked = np.stack(cells)
    choice = measured.badness(stacked).argmax(0)
    chosen = np.take_along_axis(stacked, choice[None, ..., None], 0)[0]
    item = measured.measures[0]
    sign = 1 if item.direction == "higher" else -1
    return min([chosen, *cells], key=lambda sums: sign * float(item.of(sums.sum(1)).mean()))


def _ratio(above: np.ndarray, below: np.ndarray) -> np.ndarray:
    return np.divide(above, below, out=np.zeros(np.broadcast(above, below).shape), where=below != 0)


def _mean_over(above: np.ndarray, below: np.ndarray) -> np.ndarray:
    """Mean of above / below over the classes with below > 0."""
    present = below > 0
    return _ratio(_ratio(above, below).sum(-1), present.sum(-1))
