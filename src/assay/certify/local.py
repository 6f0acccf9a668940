"""How sharply a model changes near each input: Lipschitz constant, gradient, curvature.

Certified radii should fall where these are large; the measures say whether they do
(Wu et al., Augment then Smooth, arXiv 2306.08656, section 5). All are taken in raw input
space, in float32, on unclamped points, and a sample's value does not depend on its batch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..core.errors import ModelError, SettingError
from ..subjects.lanes import ROWS
from ..subjects.target import SearchModel, Target
from ..tensors.norms import norm
from ..tensors.random import normal, sample_seeds, signs

_NOTHING = 1e-30


class GradientNorm(NamedTuple):
    """L2 norms of input gradients of the loss, [N], plain and divided by ||p - onehot||_2."""

    norm: Tensor
    relative: Tensor


class TopEigenvalue(NamedTuple):
    """Largest eigenvalues of input Hessians [N], and the residual norms ||Hv - λv|| of their eigenvectors [N]."""

    value: Tensor
    error: Tensor


def local_lipschitz(
    target: Target,
    images: Tensor,
    *,
    eps: float = 0.01,
    steps: int = 10,
    step_size: float = 0.003,
    seed: int = 0,
    sample_ids: Sequence[int] | None = None,
    batch_size: int = 256,
) -> Tensor:
    """A lower estimate of the local Lipschitz constant of the probabilities, found by ascent: [N].

        max over visited x' of ||p(x) - p(x')||_1 / ||x - x'||_inf,  ||x - x'||_inf <= eps

    (Yang et al., A Closer Look at Accuracy vs. Robustness, arXiv 2003.02460). Signed gradient
    steps on the numerator from a random corner of the cube of half-width ``step_size``.

    Args:
        target: the model; p is the softmax of its logits.
        images: [N, ...], raw; the neighbours are not clamped to the bounds.
        eps: radius in the largest norm, above 0.
        steps: gradient steps, at least 1.
        step_size: of each step, above 0.
        seed: of the random corners.
        sample_ids: names of the samples, which their corners belong to.
        batch_size: samples in work at a time; the result does not depend on it.

    Raises:
        SettingError, DataError: what was given cannot be used.

    Cost: steps + 2 forward and steps backward passes a sample.
    """
    if not (eps > 0 and step_size > 0 and steps >= 1):
        raise SettingError(
            f"eps is {eps}, step_size {step_size} and steps {steps}; allowed: eps and step_size above 0, steps at "
            "least 1."
        )
    model, images = target.search_copy(), target.check_images(images)
    seeds = sample_seeds(seed, _ids(sample_ids, len(images)), "local-lipschitz")
    found = torch.zeros(len(images))
    for rows in _batches(len(images), batch_size):
        centre = images[rows].to(target.device)
        clean = model.logits(centre).softmax(1)
        points = centre + min(eps, step_size) * signs(seeds[rows], centre.shape[1:]).to(target.device)
        best = torch.zeros(len(rows), device=target.device)

        for _ in range(steps):
            _, distance, slope = model.value_and_gradient(points, _apart, clean)
            best = torch.maximum(best, _ratio(distance, points, centre))
            points = torch.clamp(points + step_size * slope.sign(), centre - eps, centre + eps)
        distance = _apart(model.logits(points), clean)
        found[rows] = torch.maximum(best, _ratio(distance, points, centre)).cpu()
    return found


def input_gradient_norm(target: Target, images: Tensor, labels: Tensor, *, batch_size: int = 256) -> GradientNorm:
    """||∇_x ℓ(x, y)||_2 for the cross-entropy ℓ, and the same divided by ||p(x) - onehot(y)||_2.

    The gradient is J^T (p - onehot) for the Jacobian J of the logits, so it vanishes where the
    model is sure and right; the quotient does not. It is NaN where p equals the one-hot vector in float32.

    Args:
        target: the model.
        images: [N, ...], raw.
        labels: [N] true classes.
        batch_size: samples in work at a time; the result does not depend on it.

    Cost: 1 forward and 1 backward pass a sample.
    """
    model, images = target.search_copy(), target.check_images(images)
    labels = target.check_labels(labels, len(images))
    plain, relative = torch.zeros(len(images)), torch.zeros(len(images))
    for rows in _batches(len(images), batch_size):
        points, truth = images[rows].to(target.device), labels[rows].to(target.device)
        logits, _, slope = model.value_and_gradient(points, target.task.losses, truth)
        length = norm(slope, "l2")
        residual = norm(logits.softmax(1) - F.one_hot(truth, target.task.num_classes), "l2")
        plain[rows] = length.cpu()
        relative[rows] = torch.where(residual > _NOTHING, length / residual, torch.nan).cpu()
    return GradientNorm(plain, relative)


def hessian_top_eigenvalue(
    target: Target,
    images: Tensor,
    labels: Tensor,
    *,
    steps: int = 16,
    seed: int = 0,
    sample_ids: Sequence[int] | None = None,
    batch_size: int = 64,
) -> TopEigenvalue:
    """The largest signed eigenvalue of the input Hessian of the cross-entropy, by Lanczos' method: [N].

    Hessian-vector products by double backward, full reorthogonalisation, a random start for each
    sample. Nothing of size D x D is formed. ``error`` is the residual norm of the Ritz pair: a true
    eigenvalue lies within it (not for certain the largest); with ``steps`` at least D it is exact.

    Args:
        target: the model; every layer must be differentiable twice (piecewise linear ones are).
        images: [N, ...], raw.
        labels: [N] true classes.
        steps: Lanczos steps, at least 1; as many vectors of the size of the input are kept a sample.
        seed: of the random starts.
        sample_ids: names of the samples, which their starts belong to.
        batch_size: samples in work at a time.

    Raises:
        SettingError, DataError: what was given cannot be used.
        ModelError: a layer cannot be differentiated twice.

    Cost: 1 forward and 2 * steps + 1 backward passes a sample.
    """
    if steps < 1:
        raise SettingError(f"steps is {steps}; allowed: at least 1.")
    model, images = target.search_copy(), target.check_images(images)
    labels = target.check_labels(labels, len(images))
    seeds = sample_seeds(seed, _ids(sample_ids, len(images)), "input-hessian")
    values, errors = torch.zeros(len(images)), torch.zeros(len(images))
    for rows in _batches(len(images), batch_size):
        full = torch.cat([rows, rows[-1:].expand(-len(rows) % ROWS)])  # the same kernels for every batch: see lanes
        points, truth = images[full].to(target.device), labels[full].to(target.device)
        product = _hessian_product(target, model, points, truth)
        found = _lanczos(product, seeds[full].to(target.device), points[0].numel(), steps)
        values[full], errors[full] = found.value.cpu(), found.error.cpu()
    return TopEigenvalue(values, errors)


def _hessian_product(target: Target, model: SearchModel, points: Tensor, labels: Tensor) -> Callable[[Tensor], Tensor]:
    """[B, D] -> [B, D]: each sample's Hessian times its vector, from one graph."""
    leaf = points.detach().requires_grad_(True)
    try:
        with torch.enable_grad():
            inputs = leaf if model.preprocess is None else model.preprocess(leaf)
            output = model.module(inputs)
            loss = target.task.losses(getattr(output, "logits", output), labels).sum()
            (slope,) = torch.autograd.grad(loss, leaf, create_graph=True)
    except RuntimeError as error:
        raise _not_twice(error) from error

    # Through every node, not only those that lead to the leaf: a layer that is differentiable once would be left out.
    within = None if isinstance(model.module, nn.Module) else [leaf]

    def product(vectors: Tensor) -> Tensor:
        leaf.grad = None
        if slope.requires_grad:  # else the loss is linear in the input
            try:
                torch.autograd.backward(slope, vectors.reshape(leaf.shape), retain_graph=True, inputs=within)
            except RuntimeError as error:
                raise _not_twice(error) from error
        return torch.zeros_like(vectors) if leaf.grad is None else leaf.grad.flatten(1)

    return product


def _lanczos(product: Callable[[Tensor], Tensor], seeds: Tensor, size: int, steps: int) -> TopEigenvalue:
    """The largest Ritz value of each sample and its residual norm."""
    steps = min(steps, size)
    basis = [_unit(normal(seeds, (size,)), [])]
    diagonal, beside = [], []
    for step in range(steps):
        moved = product(basis[-1])
        diagonal.append((moved * basis[-1]).sum(1, dtype=torch.float64))
        moved = _orthogonal(moved, basis)
        length = norm(moved, "l2")
        # Where the subspace is invariant, go on with a fresh direction, which the products do not link to it.
        scale = torch.stack(diagonal).abs().amax(0).to(length.dtype)
        ended = length <= 1e-6 * scale.clamp_min(_NOTHING)
        beside.append(torch.where(ended, torch.zeros_like(length), length).to(torch.float64))
        if step + 1 < steps:
            fresh = _unit(normal(seeds, (size,), stream=step + 1), basis)
            basis.append(torch.where(ended[:, None], fresh, moved / length.clamp_min(_NOTHING)[:, None]))
    matrix = torch.diag_embed(torch.stack(diagonal, 1))
    if steps > 1:
        off = torch.diag_embed(torch.stack(beside[:-1], 1), offset=1)
        matrix = matrix + off + off.transpose(1, 2)
    values, vectors = torch.linalg.eigh(matrix)
    error = beside[-1] * vectors[:, -1, -1].abs() if steps < size else torch.zeros_like(beside[-1])
    return TopEigenvalue(values[:, -1].to(torch.float32), error.to(torch.float32))


def _orthogonal(vectors: Tensor, basis: list[Tensor]) -> Tensor:
    """Vectors [B, D] without their parts along the basis; twice, because float32 leaves some the first time."""
    for _ in range(2):
        for known in basis:
            vectors = vectors - (vectors * known).sum(1, keepdim=True, dtype=torch.float64).to(vectors.dtype) * known
    return vectors


def _unit(vectors: Tensor, basis: list[Tensor]) -> Tensor:
    vectors = _orthogonal(vectors, basis)
    return vectors / norm(vectors, "l2").clamp_min(_NOTHING)[:, None]


def _apart(logits: Tensor, clean: Tensor) -> Tensor:
    """||p - p'||_1 of probabilities: [B]."""
    return (logits.softmax(1) - clean).abs().sum(1)


def _ratio(distance: Tensor, points: Tensor, centre: Tensor) -> Tensor:
    away = norm(points - centre, "linf")
    return torch.where(away > 0, distance / away.clamp_min(_NOTHING), torch.zeros_like(distance))


def _ids(sample_ids: Sequence[int] | None, count: int) -> Sequence[int]:
    return range(count) if sample_ids is None else sample_ids


def _batches(count: int, batch_size: int) -> Iterator[Tensor]:
    return iter(torch.arange(count).split(max(1, batch_size)))


def _not_twice(error: RuntimeError) -> ModelError:
    return ModelError(
        f"The loss cannot be differentiated twice by the input: {str(error).splitlines()[0]} "
        "Leave the curvature out, or use layers whose gradients can be differentiated."
    )
