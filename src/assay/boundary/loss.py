"""The loss of DyART: push the decision boundary away from the samples that are nearest to it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..core.errors import DataError, SettingError, did_you_mean
from ..subjects.target import Target
from ..tensors.norms import NORMS, dual_norm
from .margin import soft_margin

Answer = Callable[[Tensor], Tensor]
UNITS = ("raw", "r0")


@dataclass(frozen=True)
class Priority:
    """How much a sample counts, by its distance R to the boundary: 1[R < r0] exp(-α R) or 1[R < r0] exp(-α R / r0).

    The gradient of a decreasing function of R, truncated at r0: h(R) = exp(-α R) / α.

    Args:
        alpha: α, at least 0.
        r0: the radius beyond which a sample does not count, above 0, in the units of the raw input.
        unit: ``"raw"``: α is per unit of the raw input, as published (with α = 3 and r0 = 16/255 the factor only
            varies from 0.83 to 1); ``"r0"``: α is per r0, beyond the paper.
    """

    alpha: float
    r0: float
    unit: str = "raw"

    def __post_init__(self) -> None:
        if not (self.alpha >= 0 and math.isfinite(self.alpha)):
            raise SettingError(f"alpha is {self.alpha!r}; allowed: at least 0 and finite.")
        if not self.r0 > 0:
            raise SettingError(f"r0 is {self.r0!r}; allowed: above 0, such as 16/255.")
        if self.unit not in UNITS:
            raise SettingError(f"The unit of alpha is {self.unit!r}.{did_you_mean(self.unit, UNITS)}")

    def factor(self, distance: Tensor) -> Tensor:
        """The factor of each distance: [B] -> [B], 0 from r0 on."""
        scale = self.alpha / self.r0 if self.unit == "r0" else self.alpha
        return torch.where(distance < self.r0, torch.exp(-scale * distance.clamp_max(self.r0)), 0.0)


def dyart_loss(
    target: Target | nn.Module | Answer,
    images: Tensor,
    labels: Tensor,
    points: Tensor,
    distance: Tensor,
    found: Tensor,
    alpha: float = 3.0,
    r0: float = 16 / 255,
    weight: float = 1000.0,
    temperature: float = 5.0,
    *,
    norm: str = "linf",
    alpha_unit: str = "raw",
) -> tuple[Tensor, dict[str, Tensor]]:
    r"""Clean cross-entropy plus the boundary term, both means over the whole batch.

    L = (1/N) Σ_i CE(z(x_i), y_i) + λ (1/N) Σ_{i found} w_i (-φ(x̂_i)),
    w_i = exp(-α R_i) 1[R_i < r0] / ||∇_x φ(x̂_i)||_q, detached.
    With φ(x̂) = 0 its gradient is that of λ/N Σ h(R_i), h(R) = exp(-α R) / α, because
    ∇_θ R = ∇_θ φ(x̂) / ||∇_x φ(x̂)||_q, q the dual exponent of the norm (1 for Linf, 2 for L2).

    N is the size of the batch, not the number of boundary points; a batch without any has the boundary term 0.
    A module in training mode sees the clean images alone: the pass over boundary points is in evaluation mode, where
    they were found, so that φ(x̂) is 0 there and batch statistics are updated once.

    Args:
        target: a Target, a module, or a function from raw inputs to logits; the loss is differentiable by its weights.
        images: raw inputs x [B, ...].
        labels: y [B].
        points: boundary points x̂ [B, ...]; rows that are not found are not looked at.
        distance: R = ||x̂ - x|| [B], at least 0.
        found: which rows count [B] bool; the published method also leaves out misclassified ones:
            ``found & (signed_margin > 0)``.
        alpha: α, at least 0.
        r0: samples further than this do not count.
        weight: λ, at least 0.
        temperature: sharpness β of the soft margin.
        norm: ``"linf"`` or ``"l2"`` (or ``"l1"``), the norm of R.
        alpha_unit: ``"raw"`` as published, or ``"r0"``: exp(-α R / r0).

    Returns:
        The loss, and its parts: ``clean`` and ``boundary`` (scalars, before λ), ``weights`` w [B] (0 where a row does
        not count), ``phi`` φ(x̂) and ``slope`` ||∇_x φ(x̂)||_q [B] (NaN where a row does not count); detached, except
        that ``clean`` and ``boundary`` keep their graph.

    Raises:
        DataError, SettingError: shapes that do not match, or values that are not allowed.

    Cost: 1 forward and backward pass a sample, and as much again, with one more backward pass to the input, a sample
    that counts.

    Xu et al., Exploring and Exploiting Decision Boundary Dynamics for Adversarial Robustness (arXiv 2302.03015).

    >>> model = nn.Linear(2, 2)
    >>> x, y = torch.rand(3, 2), torch.tensor([0, 1, 0])
    >>> loss, parts = dyart_loss(model, x, y, x, torch.zeros(3), torch.zeros(3, dtype=torch.bool))
    >>> float(parts["boundary"]), bool(loss == parts["clean"])
    (0.0, True)
    """
    _check_shapes(images, labels, points, distance, found)
    if norm not in NORMS:
        raise SettingError(f"norm is {norm!r}, which is not a norm Assay knows.{did_you_mean(norm, NORMS)}")
    if not weight >= 0:
        raise SettingError(f"weight is {weight!r}; allowed: at least 0.")
    priority = Priority(alpha, r0, alpha_unit)
    clean = F.cross_entropy(answer_of(target)(images), labels)
    rows = (found & (distance < r0)).nonzero()[:, 0]
    with at_rest(target):
        term = boundary_term(
            answer_of(target), points[rows], labels[rows], distance[rows], priority, norm=norm, temperature=temperature
        )
    boundary = term.losses.sum() / len(images) if len(rows) else clean.new_zeros(())
    loss = clean + weight * boundary
    return loss, {
        "clean": clean,
        "boundary": boundary,
        "weights": _spread(term.weights, rows, len(images), 0.0),
        "phi": _spread(term.phi, rows, len(images), torch.nan),
        "slope": _spread(term.slope, rows, len(images), torch.nan),
    }


@dataclass(frozen=True)
class BoundaryTerm:
    """The boundary term of the rows that count.

    Args:
        losses: -w φ(x̂), [b], differentiable by the weights of the model.
        weights, phi, slope: w, φ(x̂) and ||∇_x φ(x̂)||_q, [b], detached.
    """

    losses: Tensor
    weights: Tensor
    phi: Tensor
    slope: Tensor


def boundary_term(
    answer: Answer,
    points: Tensor,
    labels: Tensor,
    distance: Tensor,
    priority: Priority,
    *,
    norm: str,
    temperature: float,
) -> BoundaryTerm:
    """-w φ(x̂) for points on the boundary; the slope and the loss share one forward pass.

    A point where φ does not change with the input has no direction to push in: its weight is 0.

    Cost: 1 forward pass, and 1 backward pass to the input, a point.
    """
    if not len(points):
        nothing = distance.new_zeros(0)
        return BoundaryTerm(nothing, nothing, nothing, nothing)
    leaf = points.detach().requires_grad_(True)
    phi = soft_margin(answer(leaf), labels, temperature)
    (gradient,) = torch.autograd.grad(phi.sum(), leaf, retain_graph=True)
    slope = dual_norm(gradient, norm)
    weights = torch.where(slope > 0, priority.factor(distance) / slope, 0.0).to(phi.dtype)
    return BoundaryTerm(-weights * phi, weights, phi.detach(), slope)


def answer_of(target: Target | nn.Module | Answer) -> Answer:
    """The logits as a function of raw inputs, differentiable by the model's own weights, in the mode it is in."""
    if not isinstance(target, Target):
        return target
    model, preprocess = target.model, target.preprocess

    def answer(images: Tensor) -> Tensor:
        output: Any = model(images if preprocess is None else preprocess(images))
        logits: Tensor = getattr(output, "logits", output)
        return logits.float()

    return answer


@contextmanager
def at_rest(target: Any) -> Iterator[None]:
    """Evaluation mode inside; every module's own mode afterwards."""
    roots = (target.model, target.preprocess) if isinstance(target, Target) else (target,)
    modules = [module for root in roots if isinstance(root, nn.Module) for module in root.modules()]
    modes = [module.training for module in modules]
    try:
        for module in modules:
            module.training = False
        yield
    finally:
        for module, mode in zip(modules, modes, strict=True):
            module.training = mode


def _check_shapes(images: Tensor, labels: Tensor, points: Tensor, distance: Tensor, found: Tensor) -> None:
    count = (len(images),)
    if not len(images):
        raise DataError("The batch is empty; at least one sample is needed.")
    if points.shape != images.shape:
        raise DataError(f"points have shape {tuple(points.shape)} and images {tuple(images.shape)}; give one each.")
    for name, value in (("labels", labels), ("distance", distance), ("found", found)):
        if value.shape != count:
            raise DataError(f"{name} has shape {tuple(value.shape)}; [{count[0]}] is needed, one value an image.")
    if found.dtype != torch.bool:
        raise DataError(f"found is {found.dtype}; booleans are needed.")
    if bool((distance[found] < 0).any()):
        raise DataError("distance is negative where found; give distances, and found without misclassified rows.")


def _spread(values: Tensor, rows: Tensor, count: int, fill: float) -> Tensor:
    """[b] values at their rows of [B], ``fill`` elsewhere."""
    return values.new_full((count,), fill).index_copy(0, rows, values.detach())
