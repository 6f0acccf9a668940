"""Losses of single samples: one value an image, to be pushed up by an adversary or down by training.

Every function returns [B] and can be differentiated; the caller adds up, never averages. Pixels that do not count
contribute nothing, an image without a pixel that counts has the loss 0 with gradient 0, and nothing is ever divided by
the number of pixels that are right or wrong at the moment, which an attack drives to 0.

Notation: z_i the logits of pixel i, y_i its class, V the pixels that count, p = softmax(z), c_i = 1 where no logit
exceeds z_iy (constant in the backward pass). Sums run in float64, so that a value does not depend on how a batch was
split.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from ..core.errors import DataError, SettingError

IGNORE = 255
OFFSET = 1e-3
"""Added to depths before the logarithm."""
TINY = 1e-12


def ce(logits: Tensor, target: Tensor, ignore_index: int | None = IGNORE, *, denominator: str = "valid") -> Tensor:
    """Cross-entropy, (1/|V|) Σ_{i∈V} (logsumexp(z_i) - z_iy).

    Args:
        logits: [B, K, ...].
        target: class indices, [B, ...]; [B] for one class an image.
        ignore_index: value of targets that do not count; None: all count.
        denominator: ``"valid"`` divides by the number of pixels that count, ``"all"`` by the number of all pixels
            (as Croce et al. do, arXiv 2306.12941). The two differ by a constant an image.

    Returns:
        [B].

    >>> ce(torch.zeros(1, 4, 2, 2), torch.full((1, 2, 2), 3))
    tensor([1.3863])
    """
    target, valid = _positions(logits, target, ignore_index)
    return _mean(_cross_entropy(logits, target), valid, denominator)


def masked_ce(
    logits: Tensor, target: Tensor, ignore_index: int | None = IGNORE, *, denominator: str = "valid"
) -> Tensor:
    """Cross-entropy of the pixels that are still right, (1/|V|) Σ c_i CE_i (arXiv 2306.12941).

    Arguments as in ``ce``.
    """
    target, valid = _positions(logits, target, ignore_index)
    return _mean(_cross_entropy(logits, target) * _right(logits, target), valid, denominator)


def seg_pgd(
    logits: Tensor,
    target: Tensor,
    t: int,
    T: int,
    ignore_index: int | None = IGNORE,
    *,
    denominator: str = "valid",
) -> Tensor:
    """SegPGD, (1/|V|) Σ ((1-λ) c_i + λ (1-c_i)) CE_i with λ = t / 2T (arXiv 2207.12391).

    Values at different steps cannot be compared: track ``ce`` for the choice of the best point.

    Args:
        logits: [B, K, ...].
        target: [B, ...].
        t: the step, 0 (only right pixels count) to T (right and wrong ones count alike).
        T: number of steps.
        ignore_index: as in ``ce``.
        denominator: as in ``ce``.
    """
    if not (T >= 1 and 0 <= t <= T):
        raise SettingError(f"seg_pgd was given step t={t!r} of T={T!r}; allowed: T from 1 up and t from 0 to T.")
    weight = t / (2 * T)
    target, valid = _positions(logits, target, ignore_index)
    weights = weight + (1 - 2 * weight) * _right(logits, target).to(logits.dtype)
    return _mean(_cross_entropy(logits, target) * weights, valid, denominator)


def cos_pgd(
    logits: Tensor,
    target: Tensor,
    ignore_index: int | None = IGNORE,
    *,
    variant: str = "softmax",
    denominator: str = "valid",
) -> Tensor:
    """CosPGD, (1/|V|) Σ sg(w_i) CE_i with w_i = cos(softmax(z_i), e_y) = p_iy / ||p_i|| (arXiv 2302.02213).

    Args:
        logits: [B, K, ...].
        target: [B, ...].
        variant: ``"softmax"`` as published, or ``"sea"``, which takes the sigmoid of the logits (arXiv 2306.12941).
        ignore_index: as in ``ce``.
        denominator: as in ``ce``.
    """
    if variant not in ("softmax", "sea"):
        raise SettingError(f"cos_pgd has variant {variant!r}; allowed: 'softmax', 'sea'.")
    target, valid = _positions(logits, target, ignore_index)
    with torch.no_grad():
        scores = logits.softmax(1) if variant == "softmax" else logits.sigmoid()
        weights = _of(scores, target) / _length(scores)
    return _mean(_cross_entropy(logits, target) * weights, valid, denominator)


def js(logits: Tensor, target: Tensor, ignore_index: int | None = IGNORE, *, denominator: str = "valid") -> Tensor:
    """Jensen-Shannon divergence of p_i and the right answer, from 0 to log 2; wrong pixels are given up by themselves.

    With p = p_iy it is log 2 + ½ (p log p - (1+p) log(1+p)), computed as
    ½ ((1-p) log 2 + p log p - (1+p) log(1 - (1-p)/2)), which neither overflows nor cancels (arXiv 2306.12941).
    Arguments as in ``ce``.
    """
    target, valid = _positions(logits, target, ignore_index)
    log_p = _of(logits.log_softmax(1), target)
    p, rest = log_p.exp(), -log_p.expm1()
    return _mean(0.5 * (rest * math.log(2) + p * log_p - (1 + p) * (-0.5 * rest).log1p()), valid, denominator)


def mask_norm_corrlog(
    logits: Tensor, target: Tensor, ignore_index: int | None = IGNORE, *, denominator: str = "valid"
) -> Tensor:
    """The normalised right logit of right pixels, (1/|V|) Σ -c_i z_iy / ||z_i|| (arXiv 2306.12941).

    The gradient goes through the norm, and the value depends on a shift of the logits, as published. Arguments as in
    ``ce``.
    """
    target, valid = _positions(logits, target, ignore_index)
    normalised = _of(logits, target) / _length(logits)
    return _mean(-normalised * _right(logits, target), valid, denominator)


def mask_margin(
    logits: Tensor, target: Tensor, ignore_index: int | None = IGNORE, *, denominator: str = "valid"
) -> Tensor:
    """The normalised margin of right pixels, (1/|V|) Σ c_i (max_{j≠y} z_ij - z_iy) / sg(||z_i||) (arXiv 2306.12941).

    Arguments as in ``ce``.
    """
    target, valid = _positions(logits, target, ignore_index)
    lengths = _length(logits.detach())
    return _mean(_margin(logits, target) / lengths * _right(logits, target), valid, denominator)


def margin(logits: Tensor, target: Tensor) -> Tensor:
    """max_{j≠y} z_j - z_y for logits [B, K] and target [B], positive exactly where misclassified: [B]."""
    _positions(logits, target, None)
    return _margin(logits, target)


def targeted_margin(logits: Tensor, target: Tensor, targeted: Tensor) -> Tensor:
    """z_t - z_y for logits [B, K], right classes y [B] and aims t [B], positive where t beats y: [B]."""
    return _of(logits, targeted) - _of(logits, target)


def dlr(logits: Tensor, target: Tensor) -> Tensor:
    """Difference of logits ratio, -(z_y - max_{j≠y} z_j) / (z_π1 - z_π3) (arXiv 2003.01690).

    Unchanged by shift and scale. With two classes there is no third logit, and the margin takes its place.

    Args:
        logits: [B, K].
        target: right classes, [B].

    Returns:
        [B].

    >>> dlr(torch.tensor([[3.0, 1.0, -1.0]]), torch.tensor([0]))
    tensor([-0.5000])
    """
    gap = margin(logits, target)
    if logits.shape[1] < 3:
        return gap
    top = logits.topk(3, dim=1).values
    return gap / (top[:, 0] - top[:, 2] + TINY)


def dlr_targeted(logits: Tensor, target: Tensor, targeted: Tensor) -> Tensor:
    """Targeted difference of logits ratio, -(z_y - z_t) / (z_π1 - (z_π3 + z_π4) / 2) (arXiv 2003.01690).

    Below four classes the denominator does not exist or is the numerator; the margin z_t - z_y takes its place.

    Args:
        logits: [B, K].
        target: right classes y, [B].
        targeted: the classes t aimed at, [B].
    """
    gap = targeted_margin(logits, target, targeted)
    if logits.shape[1] < 4:
        return gap
    top = logits.topk(4, dim=1).values
    return gap / (top[:, 0] - 0.5 * (top[:, 2] + top[:, 3]) + TINY)


def silog(
    prediction: Tensor, target: Tensor, valid: Tensor | None = None, *, beta: float = 0.15, root: bool = True
) -> Tensor:
    """Scale-invariant logarithmic error, sqrt(var(g) + β mean(g)²) with g = log(P + 0.001) - log(T + 0.001).

    Mean and (biased) variance are those of one image's pixels that count. Where P = T the value is 0 and so is its
    gradient.

    Args:
        prediction: depths P, [B, H, W] or [B, 1, H, W]; negative ones are taken as 0.
        target: depths T, the same shape.
        valid: which pixels count, bool; None: those with a finite target above 0.
        beta: weight of the mean; 1 makes it the root mean squared logarithmic error.
        root: False leaves the square root out.

    Returns:
        [B].
    """
    g, valid, count = _log_ratio(prediction, target, valid)
    mean = _total(g) / count
    deviation = torch.where(valid, g - mean.reshape(-1, *([1] * (g.ndim - 1))), 0.0)
    inside = _total(deviation.square()) / count + beta * mean.square()
    return (_root(inside) if root else inside).to(prediction.dtype)


def silog_mean(prediction: Tensor, target: Tensor, valid: Tensor | None = None, *, beta: float = 0.15) -> Tensor:
    """The part of ``silog`` without the variance, sqrt(β) |mean(g)|: what training warms up with.

    Arguments as in ``silog``.
    """
    g, _, count = _log_ratio(prediction, target, valid)
    return (math.sqrt(beta) * (_total(g) / count).abs()).to(prediction.dtype)


def log_rmse(prediction: Tensor, target: Tensor, valid: Tensor | None = None) -> Tensor:
    """Root mean squared logarithmic error, sqrt(mean g²). Arguments as in ``silog``."""
    g, _, count = _log_ratio(prediction, target, valid)
    return _root(_total(g.square()) / count).to(prediction.dtype)


def depth_l1(prediction: Tensor, target: Tensor, valid: Tensor | None = None) -> Tensor:
    """Mean |P - T| over the pixels that count. Arguments as in ``silog``."""
    valid = _valid_depths(prediction, target, valid)
    difference = (prediction - torch.where(valid, target, 0.0)).abs()
    return (_total(torch.where(valid, difference, 0.0)) / _count(valid)).to(prediction.dtype)


def depth_gradient(
    prediction: Tensor, target: Tensor, valid: Tensor | None = None, *, scales: Sequence[int] = (1, 2, 4, 8)
) -> Tensor:
    """Differences of the logarithmic error along height and width, at several scales.

    Σ_s (1/N_s) Σ (|g(i,j) - g(i,j+2)| + |g(i,j) - g(i+2,j)|) over pairs of pixels of the map with stride s that
    both count, N_s the pixels of that map that count; a scale without any is left out.

    Args:
        prediction: depths, [B, H, W] or [B, 1, H, W].
        target: the same shape.
        valid: as in ``silog``.
        scales: strides; (1, 2, 4, 6) are those of the official code of arXiv 2407.12588.

    Returns:
        [B].
    """
    if not scales or any(isinstance(scale, bool) or not isinstance(scale, int) or scale < 1 for scale in scales):
        raise SettingError(f"depth_gradient has scales {tuple(scales)!r}; allowed: whole numbers from 1 up.")
    if prediction.ndim < 3:
        raise DataError(f"depth_gradient was given the shape {tuple(prediction.shape)}; maps [B, H, W] are needed.")
    g, valid, _ = _log_ratio(prediction, target, valid)
    sums = []
    for scale in scales:
        error, known = g[..., ::scale, ::scale], valid[..., ::scale, ::scale]
        across = (error[..., 2:] - error[..., :-2]).abs() * (known[..., 2:] & known[..., :-2])
        down = (error[..., 2:, :] - error[..., :-2, :]).abs() * (known[..., 2:, :] & known[..., :-2, :])
        sums.append((_total(across) + _total(down)) / _count(known))
    return torch.stack(sums).sum(0).to(prediction.dtype)


def embedding_l2(output: Tensor, reference: Tensor) -> Tensor:
    """Mean squared difference over all elements of a sample's representation.

    At the reference itself the gradient is 0: a search starts at a random point.

    Args:
        output: [B, D], or a patch map [B, D, h, w].
        reference: the same shape; a constant.

    Returns:
        [B].
    """
    _same_shape(output, reference)
    difference = output - reference
    return (_total(difference.square()) / max(1, difference[0].numel() if len(difference) else 1)).to(output.dtype)


def embedding_cosine(output: Tensor, reference: Tensor) -> Tensor:
    """1 - cos(f', f) along the feature axis 1, the mean over the tokens of a patch map.

    Arguments as in ``embedding_l2``.
    """
    _same_shape(output, reference)
    return _over_tokens(1 - F.cosine_similarity(output, reference, dim=1, eps=1e-8))


def softmax_ce(output: Tensor, reference: Tensor) -> Tensor:
    """-Σ_j softmax(f)_j log softmax(f')_j along axis 1, the mean over tokens. Arguments as in ``embedding_l2``."""
    _same_shape(output, reference)
    return _over_tokens(-(reference.softmax(1) * output.log_softmax(1)).sum(1))


def _positions(logits: Tensor, target: Tensor, ignore_index: int | None) -> tuple[Tensor, Tensor | None]:
    """Classes without ignored ones, and which positions count (None: all)."""
    if target.ndim != logits.ndim - 1 or target.shape != logits.shape[:1] + logits.shape[2:] or logits.shape[1] < 1:
        raise DataError(
            f"Logits {tuple(logits.shape)} do not fit targets {tuple(target.shape)}; [B, K, ...] and [B, ...] are "
            "needed."
        )
    if ignore_index is None:
        return target, None
    valid = target != ignore_index
    return torch.where(valid, target, 0), valid


def _mean(values: Tensor, valid: Tensor | None, denominator: str) -> Tensor:
    if denominator not in ("valid", "all"):
        raise SettingError(f"denominator is {denominator!r}; allowed: 'valid', 'all'.")
    if valid is not None:
        values = torch.where(valid, values, 0.0)
    if values.ndim == 1:
        return values
    everything = max(1, math.prod(values.shape[1:]))
    count = everything if valid is None or denominator == "all" else _count(valid)
    return (_total(values) / count).to(values.dtype)


def _cross_entropy(logits: Tensor, target: Tensor) -> Tensor:
    return logits.logsumexp(1) - _of(logits, target)


def _margin(logits: Tensor, target: Tensor) -> Tensor:
    return logits.scatter(1, target.unsqueeze(1), -torch.inf).amax(1) - _of(logits, target)


def _right(logits: Tensor, target: Tensor) -> Tensor:
    known = logits.detach()
    return _of(known, target) >= known.amax(1)


def _of(logits: Tensor, classes: Tensor) -> Tensor:
    return logits.gather(1, classes.unsqueeze(1)).squeeze(1)


def _length(logits: Tensor) -> Tensor:
    """||z_i||, at least 1e-12; the gradient at 0 is 0."""
    return logits.square().sum(1).clamp_min(TINY**2).sqrt()


def _total(values: Tensor) -> Tensor:
    """The sum over each sample, in float64: [B]."""
    return values.flatten(1).sum(1, dtype=torch.float64)


def _count(valid: Tensor) -> Tensor:
    return valid.flatten(1).sum(1).clamp_min(1)


def _over_tokens(values: Tensor) -> Tensor:
    return values if values.ndim == 1 else (_total(values) / max(1, math.prod(values.shape[1:]))).to(values.dtype)


def _root(values: Tensor) -> Tensor:
    """The square root, with gradient 0 at 0."""
    positive = values > 0
    return torch.where(positive, torch.where(positive, values, 1.0).sqrt(), 0.0)


def _log_ratio(prediction: Tensor, target: Tensor, valid: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    """g, 0 where a pixel does not count; which pixels count; how many (at least 1): [B]."""
    valid = _valid_depths(prediction, target, valid)
    known = torch.where(valid, target, 1.0).clamp_min(0)
    g = (prediction.clamp_min(0) + OFFSET).log() - (known + OFFSET).log()
    return torch.where(valid, g, 0.0), valid, _count(valid)


def _valid_depths(prediction: Tensor, target: Tensor, valid: Tensor | None) -> Tensor:
    if prediction.shape != target.shape or (valid is not None and valid.shape != target.shape) or target.ndim < 2:
        extra = "" if valid is None else f", valid {tuple(valid.shape)}"
        raise DataError(
            f"Depths {tuple(prediction.shape)} do not fit targets {tuple(target.shape)}{extra}; one shape [B, H, W] is "
            "needed."
        )
    known = torch.isfinite(target) & (target > 0)
    return known if valid is None else valid.to(torch.bool) & torch.isfinite(target)


def _same_shape(output: Tensor, reference: Tensor) -> None:
    if output.shape != reference.shape or output.ndim < 2:
        raise DataError(
            f"Representations {tuple(output.shape)} do not fit references {tuple(reference.shape)}; one shape [B, D] "
            "or [B, D, h, w] is needed."
        )
