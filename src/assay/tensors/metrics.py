"""Metrics of segmentation and depth, over the pixels that count and nothing else.

A metric is a number (a 0-dim float64 tensor) pooled over all pixels of all images; with ``per_image=True`` one value
for each image that has a pixel that counts (``valid_images`` says which have). Nothing is NaN: where no pixel counts,
that is an error.

All of them follow from sums of single images, ``confusion`` and ``depth_sums``, so that means over resampled images
cost additions only: ``mean_iou_from(confusions[chosen].sum(0))``.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..core.errors import DataError, SettingError
from .losses import IGNORE, OFFSET

DEPTH_SUMS = ("pixels", "squared", "relative", "delta1", "delta2", "delta3", "log", "log_squared")
"""The columns of ``depth_sums``."""
RATIO = 1.25


def confusion(
    prediction: Tensor, target: Tensor, num_classes: int | None = None, ignore_index: int | None = IGNORE
) -> Tensor:
    """How often each class was taken for each, image by image.

    Args:
        prediction: class indices [B, H, W], or logits [B, K, H, W].
        target: class indices [B, H, W].
        num_classes: K; None: that of the logits, or the largest index there is.
        ignore_index: value of targets that do not count; None: all count.

    Returns:
        [B, K, K] int64: rows are true classes, columns predicted ones.

    Raises:
        DataError: the shapes do not fit, or a class is unknown.

    >>> confusion(torch.tensor([[[0, 1, 1]]]), torch.tensor([[[0, 0, 255]]]), 2)
    tensor([[[1, 1],
             [0, 0]]])
    """
    if prediction.ndim == target.ndim + 1:
        num_classes = prediction.shape[1] if num_classes is None else num_classes
        prediction = prediction.max(1).indices
    if prediction.shape != target.shape or target.ndim < 2:
        raise DataError(
            f"Predictions {tuple(prediction.shape)} do not fit targets {tuple(target.shape)}; indices [B, H, W] or "
            "logits [B, K, H, W] for targets [B, H, W] are needed."
        )
    if prediction.is_floating_point() or target.is_floating_point():
        raise DataError("Predictions and targets must be whole class indices; logits have one axis more than targets.")
    valid = torch.ones_like(target, dtype=torch.bool) if ignore_index is None else target != ignore_index
    truth, found = target[valid].to(torch.int64), prediction[valid].to(torch.int64)
    if num_classes is None:
        num_classes = int(max([int(part.max()) for part in (truth, found) if len(part)], default=0)) + 1
    for name, part in (("targets", truth), ("predictions", found)):
        strange = part[(part < 0) | (part >= num_classes)].unique().tolist()
        if strange:
            raise DataError(
                f"The {name} hold the unknown class ids {', '.join(map(str, strange[:5]))}; allowed: "
                f"0..{num_classes - 1}. Set num_classes, or name the id of unlabelled pixels as ignore_index."
            )
    image = valid.flatten(1).nonzero()[:, 0]
    counts = torch.bincount((image * num_classes + truth) * num_classes + found, minlength=len(target) * num_classes**2)
    return counts.reshape(len(target), num_classes, num_classes)


def pixel_accuracy_from(confusions: Tensor) -> Tensor:
    """Share of right pixels: [..., K, K] -> [...]."""
    pixels = _some(confusions.sum((-2, -1)))
    return _diagonal(confusions).sum(-1) / pixels


def mean_class_accuracy_from(confusions: Tensor) -> Tensor:
    """Mean over the classes that occur of the share of their pixels that are right (recall): [..., K, K] -> [...]."""
    _some(confusions.sum((-2, -1)))
    return _mean_where(_diagonal(confusions), confusions.sum(-1))


def mean_iou_from(confusions: Tensor) -> Tensor:
    """Mean of intersection over union, over the classes that occur or were predicted: [..., K, K] -> [...]."""
    _some(confusions.sum((-2, -1)))
    right = _diagonal(confusions)
    return _mean_where(right, confusions.sum(-1) + confusions.sum(-2) - right)


def pixel_accuracy(
    prediction: Tensor, target: Tensor, ignore_index: int | None = IGNORE, *, per_image: bool = False
) -> Tensor:
    """Share of the pixels that count that are classified correctly.

    Args:
        prediction: class indices [B, H, W], or logits [B, K, H, W].
        target: class indices [B, H, W].
        ignore_index: value of targets that do not count; None: all count.
        per_image: one value for each image that has a pixel that counts.

    Raises:
        DataError: no pixel counts, or the shapes do not fit.
    """
    return pixel_accuracy_from(_pooled(confusion(prediction, target, None, ignore_index), per_image))


def mean_class_accuracy(
    prediction: Tensor,
    target: Tensor,
    num_classes: int | None = None,
    ignore_index: int | None = IGNORE,
    *,
    per_image: bool = False,
) -> Tensor:
    """Mean recall over the classes that occur in the targets.

    Args:
        prediction: class indices [B, H, W], or logits [B, K, H, W].
        target: class indices [B, H, W].
        num_classes: ids from it up are an error; None: no check.
        ignore_index: value of targets that do not count; None: all count.
        per_image: one value for each image that has a pixel that counts, over the classes of that image.

    Raises:
        DataError: no pixel counts, an id is unknown, or the shapes do not fit.
    """
    return mean_class_accuracy_from(_pooled(confusion(prediction, target, num_classes, ignore_index), per_image))


def mean_iou(
    prediction: Tensor,
    target: Tensor,
    num_classes: int | None = None,
    ignore_index: int | None = IGNORE,
    *,
    per_image: bool = False,
) -> Tensor:
    """Mean of intersection over union, over the classes whose union is not empty. Arguments as in
    ``mean_class_accuracy``."""
    return mean_iou_from(_pooled(confusion(prediction, target, num_classes, ignore_index), per_image))


def depth_sums(prediction: Tensor, target: Tensor, *, valid: Tensor | None = None) -> Tensor:
    """What every depth metric follows from, image by image.

    Args:
        prediction: depths P, [B, H, W] or [B, 1, H, W].
        target: depths T, the same shape; only finite ones above 0 count.
        valid: which of them count, bool; None: all.

    Returns:
        [B, 8] float64, the columns ``DEPTH_SUMS``: number of pixels, and sums of (P-T)², |P-T|/T, of
        max(P/T, T/P) < 1.25, 1.25², 1.25³, of g and of g² with g = log(P + 0.001) - log(T + 0.001).

    Raises:
        DataError: the shapes do not fit, or a prediction that counts is not finite.
    """
    if prediction.shape != target.shape or (valid is not None and valid.shape != target.shape) or target.ndim < 2:
        extra = "" if valid is None else f", valid {tuple(valid.shape)}"
        raise DataError(
            f"Depths {tuple(prediction.shape)} do not fit targets {tuple(target.shape)}{extra}; one shape [B, H, W] is "
            "needed."
        )
    counts = torch.isfinite(target) & (target > 0)
    counts = counts if valid is None else counts & valid.to(torch.bool)
    if not bool(torch.isfinite(prediction[counts]).all()):
        raise DataError("A predicted depth is NaN or infinite; finite depths are needed.")
    truth = torch.where(counts, target, 1).to(torch.float64)
    found = torch.where(counts, prediction, 1).to(torch.float64)
    error, positive = found - truth, found.clamp_min(0)
    ratio = torch.maximum(positive / truth, truth / positive)
    g = (positive + OFFSET).log() - (truth + OFFSET).log()
    columns = [torch.ones_like(truth), error.square(), error.abs() / truth]
    columns += [(ratio < RATIO**k).to(torch.float64) for k in (1, 2, 3)]
    columns += [g, g.square()]
    return torch.stack([(column * counts).flatten(1).sum(1) for column in columns], 1)


def rmse_from(sums: Tensor) -> Tensor:
    """Root mean squared error: [..., 8] -> [...]."""
    return (sums[..., 1] / _some(sums[..., 0])).sqrt()


def abs_rel_from(sums: Tensor) -> Tensor:
    """Mean |P - T| / T: [..., 8] -> [...]."""
    return sums[..., 2] / _some(sums[..., 0])


def delta_from(sums: Tensor, k: int = 1) -> Tensor:
    """Share with max(P/T, T/P) < 1.25^k, k = 1, 2 or 3: [..., 8] -> [...]."""
    if k not in (1, 2, 3):
        raise SettingError(f"delta has k = {k!r}; allowed: 1, 2, 3.")
    return sums[..., 2 + k] / _some(sums[..., 0])


def silog_from(sums: Tensor, beta: float = 0.15) -> Tensor:
    """sqrt(var(g) + β mean(g)²): [..., 8] -> [...]."""
    pixels = _some(sums[..., 0])
    mean = sums[..., 6] / pixels
    variance = (sums[..., 7] / pixels - mean.square()).clamp_min(0)
    return (variance + beta * mean.square()).sqrt()


def rmse(prediction: Tensor, target: Tensor, valid: Tensor | None = None, *, per_image: bool = False) -> Tensor:
    """Root mean squared error of depths, in their unit.

    Args:
        prediction: depths, [B, H, W] or [B, 1, H, W].
        target: the same shape; only finite depths above 0 count.
        valid: which of them count, bool; None: all.
        per_image: one value for each image that has a pixel that counts.

    Raises:
        DataError: no pixel counts, the shapes do not fit, or a prediction is not finite.
    """
    return rmse_from(_pooled_sums(depth_sums(prediction, target, valid=valid), per_image))


def abs_rel(prediction: Tensor, target: Tensor, valid: Tensor | None = None, *, per_image: bool = False) -> Tensor:
    """Mean absolute error relative to the true depth. Arguments as in ``rmse``."""
    return abs_rel_from(_pooled_sums(depth_sums(prediction, target, valid=valid), per_image))


def delta(
    prediction: Tensor, target: Tensor, k: int = 1, valid: Tensor | None = None, *, per_image: bool = False
) -> Tensor:
    """Share of the pixels that count with max(P/T, T/P) < 1.25^k. Other arguments as in ``rmse``.

    >>> float(delta(torch.tensor([[1.2, 1.3]]), torch.ones(1, 2)))
    0.5
    """
    return delta_from(_pooled_sums(depth_sums(prediction, target, valid=valid), per_image), k)


def silog(
    prediction: Tensor,
    target: Tensor,
    beta: float = 0.15,
    valid: Tensor | None = None,
    *,
    per_image: bool = False,
) -> Tensor:
    """Scale-invariant logarithmic error, sqrt(var(g) + β mean(g)²). Other arguments as in ``rmse``."""
    return silog_from(_pooled_sums(depth_sums(prediction, target, valid=valid), per_image), beta)


def valid_images(target: Tensor, *, valid: Tensor | None = None, ignore_index: int | None = IGNORE) -> Tensor:
    """Which images have a pixel that counts: [B] bool.

    Args:
        target: masks (whole numbers, which count unless they are ``ignore_index``) or depths (which count where they
            are finite and above 0), [B, H, W].
        valid: which pixels count besides; None: all.
        ignore_index: of masks; None: all count.
    """
    if target.is_floating_point():
        counts = torch.isfinite(target) & (target > 0)
    else:
        counts = torch.ones_like(target, dtype=torch.bool) if ignore_index is None else target != ignore_index
    return (counts if valid is None else counts & valid.to(torch.bool)).flatten(1).any(1)


def _diagonal(confusions: Tensor) -> Tensor:
    return confusions.diagonal(dim1=-2, dim2=-1)


def _mean_where(part: Tensor, whole: Tensor) -> Tensor:
    """The mean of part / whole over the last axis, where whole is not 0."""
    shares = part.to(torch.float64) / whole.clamp_min(1)
    return shares.sum(-1) / (whole > 0).sum(-1)


def _some(pixels: Tensor) -> Tensor:
    if not bool((pixels > 0).all()):
        raise DataError(
            "No pixel counts: every target is ignored or has no valid depth. Leave such images out (valid_images), or "
            "check ignore_index and the depth scale."
        )
    return pixels.to(torch.float64)


def _pooled(confusions: Tensor, per_image: bool) -> Tensor:
    pixels = confusions.flatten(1).sum(1)
    return confusions[pixels > 0] if per_image and _some(pixels.sum()) else confusions.sum(0)


def _pooled_sums(sums: Tensor, per_image: bool) -> Tensor:
    pixels = sums[:, 0]
    return sums[pixels > 0] if per_image and _some(pixels.sum()) else sums.sum(0)
