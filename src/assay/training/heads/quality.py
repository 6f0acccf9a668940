"""How good a head is on data that it was not trained on, with intervals over images.

Segmentation and depth figures pool the pixels of all images, so their intervals draw whole images again
(bootstrap): pixels of one image are not independent.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from ...core.errors import DataError
from ...core.estimates import bootstrap, proportion
from ...core.probes import Finding, Metric
from ...core.progress import Progress
from ...subjects.dense_tasks import Depth, Segmentation
from ...tensors.metrics import abs_rel_from, confusion, delta_from, depth_sums, rmse_from
from .features import cache_features
from .pictures import chosen, panels
from .references import References
from .settings import HeadTask

if TYPE_CHECKING:
    from ...data.dense.dataset import DenseDataset
    from .fit import TrainedHead

RESAMPLES = 1000
_AT_ONCE = 32
_POOLED = "pixels of all images together"


def validate(heads: Sequence[TrainedHead], data: DenseDataset, *, cache: str | Path | None, progress: Progress) -> None:
    """Fill in metrics, samples, pictures and findings of heads on one encoder and for one task."""
    first = heads[0]
    references = References(data, first.task)
    features = cache_features(first.encoder, data, space=first.head.space, folder=cache, progress=progress)
    rows = np.flatnonzero(references.usable)
    device = first.encoder.device
    for trained in heads:
        parts = []
        with torch.no_grad(), progress.task(f"validation of the {first.task.name} head", total=len(rows)) as bar:
            for start in range(0, len(rows), _AT_ONCE):
                batch = rows[start : start + _AT_ONCE]
                output = trained.head(features.read(batch, device), data.shape[1:])
                parts.append(tally(trained.task, output.cpu(), references.read(batch)))
                bar.advance(len(batch))
        sums = np.concatenate(parts)
        trained.metrics = task_metrics(trained.task, sums)
        trained.samples = {name: _spread(values, references.usable) for name, values in _columns(trained.task, sums)}
        some = chosen(rows)
        with torch.no_grad():
            answers = trained.head(features.read(some, device), data.shape[1:]).cpu().numpy()
        trained.panels = panels(trained.task, data, some, answers)
        trained.findings += [
            Finding(**{**vars(item), "message": f"Validation: {item.message}"}) for item in references.findings()
        ]
        trained.cost.forward += features.computed
        features = features.reused()


def tally(task: HeadTask, output: Tensor, reference: Tensor) -> np.ndarray:
    """Sums over the pixels of every image, float64 [B, ...], from which :func:`task_metrics` makes its figures.

    Args:
        task: what the output is for.
        output: the task's answer [B, ...].
        reference: what it is compared with, [B] or [B, H, W].

    Returns:
        Classification [B, 2]: label, predicted class. Segmentation [B, 3, K]: pixels of each class that are
        right, of the reference, of the prediction. Depth [B, 8]: :func:`assay.tensors.metrics.depth_sums`.
    """
    if isinstance(task, Segmentation):
        counts = confusion(output, reference, task.num_classes, task.ignore_index)
        return torch.stack([counts.diagonal(dim1=1, dim2=2), counts.sum(2), counts.sum(1)], 1).double().numpy()
    if isinstance(task, Depth):
        return depth_sums(output, reference, valid=task.valid(reference)).numpy()
    return torch.stack([reference, output.argmax(1)], 1).double().numpy()


def task_metrics(task: HeadTask, sums: np.ndarray, *, prefix: str = "validation_") -> list[Metric]:
    """The usual figures of a task from :func:`tally`, each with a 95% interval over images.

    Args:
        task: what for.
        sums: [N, ...] of images with at least one pixel that counts.
        prefix: put before every name.
    """
    if not len(sums):
        raise DataError("No image has a pixel that counts, so nothing can be measured.")
    if isinstance(task, Segmentation):
        return [
            _pooled(prefix + "mean_iou", sums, mean_iou, "mean over classes of intersection over union"),
            _pooled(prefix + "pixel_accuracy", sums, pixel_accuracy, "share of pixels classified correctly"),
            _pooled(
                prefix + "mean_class_accuracy", sums, mean_class_accuracy, "mean over classes of the share recognised"
            ),
        ]
    if isinstance(task, Depth):
        return [
            _pooled(prefix + "rmse", sums, _of(rmse_from), "root mean squared error of the depth", "m", "lower"),
            _pooled(prefix + "abs_rel", sums, _of(abs_rel_from), "mean error over true depth", "", "lower"),
            _pooled(prefix + "delta1", sums, _of(delta_from), "share of pixels within a factor of 1.25 of the truth"),
        ]
    right = sums[:, 0] == sums[:, 1]
    found = proportion(int(right.sum()), len(right))
    return [Metric.from_estimate(prefix + "accuracy", found, estimand="share of images classified correctly")]


def mean_iou(sums: np.ndarray) -> float:
    """Mean of right / (reference + prediction - right), over the classes that occur in either: [N, 3, K] -> number."""
    right, truth, said = sums.sum(0)
    union = truth + said - right
    return float((right[union > 0] / union[union > 0]).mean())


def pixel_accuracy(sums: np.ndarray) -> float:
    """Right pixels over all that count."""
    right, truth, _ = sums.sum(0)
    return float(right.sum() / truth.sum())


def mean_class_accuracy(sums: np.ndarray) -> float:
    """Mean of right / reference, over the classes that occur in the references."""
    right, truth, _ = sums.sum(0)
    return float((right[truth > 0] / truth[truth > 0]).mean())


def _of(metric: Callable[[Tensor], Tensor]) -> Callable[[np.ndarray], float]:
    return lambda sums: float(metric(torch.from_numpy(sums.sum(0))))


def _pooled(
    name: str,
    sums: np.ndarray,
    statistic: Callable[[np.ndarray], float],
    estimand: str,
    unit: str = "share",
    direction: str = "higher",
) -> Metric:
    found = bootstrap(sums, statistic, resamples=RESAMPLES)
    return Metric.from_estimate(name, found, estimand=f"{estimand}, {_POOLED}", unit=unit, direction=direction)


def _columns(task: HeadTask, sums: np.ndarray) -> list[tuple[str, np.ndarray]]:
    """What a table of samples says of each image."""
    if isinstance(task, Segmentation):
        valid = sums[:, 1].sum(1)
        return [("pixels", valid), ("pixel_accuracy", sums[:, 0].sum(1) / valid)]
    if isinstance(task, Depth):
        found = torch.from_numpy(sums)
        return [("pixels", sums[:, 0]), ("rmse", rmse_from(found).numpy()), ("abs_rel", abs_rel_from(found).numpy())]
    label, predicted = sums.astype(np.int64).T
    return [("label", label), ("predicted", predicted), ("correct", label == predicted)]


def _spread(values: np.ndarray, usable: np.ndarray) -> np.ndarray:
    """Values of the usable images at their places among all, NaN elsewhere."""
    if usable.all():
        return values
    full = np.full(len(usable), np.nan)
    full[usable] = values
    return full
