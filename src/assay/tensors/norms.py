"""Norms per sample, projections onto balls and boxes, and the closest point of a hyperplane in a box.

Sums run in float64, so that a row's result does not depend on how a batch was split.
"""

from __future__ import annotations

import torch
from torch import Tensor

NORMS = ("linf", "l2", "l1")
_DUAL = {"linf": "l1", "l2": "l2", "l1": "linf"}


def expand(values: Tensor, like: Tensor) -> Tensor:
    """[B] reshaped to [B, 1, ...] so that it broadcasts over ``like`` [B, ...]."""
    return values.reshape(-1, *([1] * (like.ndim - 1)))


def norm(points: Tensor, kind: str) -> Tensor:
    """The norm of each sample: [B, ...] -> [B], in the dtype of ``points``.

    >>> [float(norm(torch.tensor([[3.0, -4.0]]), kind)) for kind in ("linf", "l2", "l1")]
    [4.0, 5.0, 7.0]
    """
    flat = points.flatten(1)
    if kind == "linf":
        return flat.abs().amax(1) if flat.shape[1] else flat.new_zeros(len(flat))
    if kind == "l2":
        return flat.square().sum(1, dtype=torch.float64).sqrt().to(points.dtype)
    return flat.abs().sum(1, dtype=torch.float64).to(points.dtype)


def dual_norm(points: Tensor, kind: str) -> Tensor:
    """The norm whose unit ball bounds linear functionals on the unit ball of ``kind``: [B]."""
    return norm(points, _DUAL[kind])


def project(points: Tensor, centres: Tensor, eps: Tensor | float, kind: str, bounds: tuple[float, float]) -> Tensor:
    """Move points into the ball of radius ``eps`` around their centres and into the box.

    Exact for Linf (ball and box commute) and for L1; for L2 the perturbation is
    rescaled, then clipped, which is feasible but not the nearest feasible point.

    Args:
        points: [B, ...].
        centres: [B, ...], inside the box.
        eps: radius, a number or [B].
        kind: ``"linf"``, ``"l2"`` or ``"l1"``.
        bounds: the box, low and high.
    """
    low, high = bounds
    radius = eps if isinstance(eps, Tensor) else points.new_full((len(points),), eps)
    if kind == "linf":
        reach = expand(radius, points)
        return torch.minimum(torch.maximum(points, centres - reach), centres + reach).clamp(low, high)
    change = points - centres
    if kind == "l2":
        length = norm(change, "l2")
        scale = torch.where(length > radius, radius / length.clamp_min(1e-30), torch.ones_like(length))
        return (centres + change * expand(scale, change)).clamp(low, high)
    return centres + project_l1_in_box(change, centres, radius, bounds)


def project_l1_in_box(change: Tensor, centres: Tensor, radius: Tensor, bounds: tuple[float, float]) -> Tensor:
    r"""The nearest perturbation inside the L1 ball and the box (Croce and Hein, arXiv 2103.01208).

    With room b_i to the wall that y_i points at:
    d_i = sign(y_i) clip(|y_i| - λ, 0, b_i), λ = 0 if Σ min(|y_i|, b_i) <= ε, else the
    λ that makes the sum ε. Since clip(u - λ, 0, b) = min(u, b) - min(λ, u) + min(λ, max(u - b, 0)),
    λ solves a piecewise linear equation whose breakpoints are u and max(u - b, 0).

    Args:
        change: y, [B, ...].
        centres: [B, ...].
        radius: ε, [B].
        bounds: the box.
    """
    y = change.flatten(1).to(torch.float64)
    x = centres.flatten(1).to(torch.float64)
    size = y.abs()
    room = torch.where(y > 0, bounds[1] - x, x - bounds[0]).clamp_min(0)
    moved = torch.minimum(size, room)
    excess = moved.sum(1) - radius.to(torch.float64)
    rows = (excess > 0).nonzero()[:, 0]
    if len(rows):
        level = _shrinkage(size[rows], room[rows], excess[rows])
        moved[rows] = torch.minimum((size[rows] - level[:, None]).clamp_min(0), room[rows])
    return (y.sign() * moved).to(change.dtype).reshape(change.shape)


def _shrinkage(size: Tensor, room: Tensor, excess: Tensor) -> Tensor:
    """λ with Σ min(λ, size) - Σ min(λ, max(size - room, 0)) = excess, per row; the left side never falls."""
    inner = (size - room).clamp_min(0)
    places, order = torch.cat([inner, size], 1).sort(1)
    slope_change = torch.cat([torch.ones_like(inner), -torch.ones_like(size)], 1).gather(1, order)
    slope = slope_change.cumsum(1)
    gaps = places.diff(dim=1, append=places[:, -1:])
    value = torch.cat([places.new_zeros(len(places), 1), (slope * gaps).cumsum(1)[:, :-1]], 1)
    target = excess[:, None]
    at = (torch.searchsorted(value, target) - 1).clamp_min(0)
    steepness = slope.gather(1, at).clamp_min(1)
    return (places.gather(1, at) + (target - value.gather(1, at)) / steepness)[:, 0]


def step_onto_hyperplane(
    points: Tensor, normals: Tensor, offsets: Tensor, kind: str, bounds: tuple[float, float]
) -> Tensor:
    r"""The smallest move, within the box, that puts each point on its hyperplane.

    min ||δ||_p subject to <w, t + δ> = b and t + δ in the box (FAB, arXiv 1907.02044).
    With room r_i in the useful direction and c = |<w, t> - b|:
    p = inf: |δ_i| = min(λ, r_i); p = 2: |δ_i| = min(λ|w_i|, r_i); both solve
    Σ a_i min(λ, k_i) = c; p = 1 fills coordinates in order of decreasing |w_i|.
    Where the plane cannot be reached in the box, the nearest corner is returned.

    Args:
        points: t, [B, ...], inside the box.
        normals: w, [B, ...].
        offsets: <w, t> - b, the signed value at the points, [B].
        kind: ``"linf"``, ``"l2"`` or ``"l1"``.
        bounds: the box.

    Returns:
        δ, [B, ...].
    """
    low, high = bounds
    t = points.flatten(1)
    scale = normals.flatten(1).abs().amax(1).clamp_min(torch.finfo(normals.dtype).tiny)  # squares must not underflow
    w = normals.flatten(1) / (scale * torch.where(offsets < 0, -1.0, 1.0))[:, None]
    room = torch.where(w > 0, t - low, high - t).clamp_min(0)
    room = torch.where(w == 0, torch.zeros_like(room), room)
    weight = w.abs()
    need = offsets.abs().to(torch.float64) / scale.to(torch.float64)
    if kind == "l1":
        size = _fill_by_weight(weight, room, need)
    elif kind == "linf":
        level = _solve_capped(weight, room, need)
        size = torch.minimum(level[:, None], room)
    else:
        caps = room / weight.clamp_min(1e-30)
        level = _solve_capped(weight.square(), caps, need)
        size = torch.minimum(level[:, None] * weight, room)
    return (-w.sign() * size).reshape(points.shape)


def _solve_capped(weights: Tensor, caps: Tensor, need: Tensor) -> Tensor:
    """λ with Σ weights · min(λ, caps) = need, per row; the largest cap where it is out of reach.

    The left side is concave, piecewise linear and increasing, so Newton's
    iteration from below never overshoots and ends after finitely many pieces.
    """
    weighted = weights * caps
    capped = torch.zeros_like(need)
    free = weights.sum(1, dtype=torch.float64)
    level = need / free.clamp_min(1e-300)
    ceiling = torch.where(weights > 0, caps, torch.zeros_like(caps)).amax(1).to(torch.float64)
    for _ in range(64):
        under = caps < level[:, None].to(caps.dtype)
        capped = torch.where(under, weighted, torch.zeros_like(weighted)).sum(1, dtype=torch.float64)
        free = torch.where(under, torch.zeros_like(weights), weights).sum(1, dtype=torch.float64)
        better = torch.minimum(torch.where(free > 0, (need - capped) / free.clamp_min(1e-300), ceiling), ceiling)
        better = torch.maximum(better, torch.minimum(level, ceiling))
        if bool((better <= level).all()):
            break
        level = better
    return torch.minimum(level, ceiling).to(weights.dtype)


def _fill_by_weight(weights: Tensor, room: Tensor, need: Tensor) -> Tensor:
    """Sizes that fill coordinates of largest weight first until Σ weights · sizes = need."""
    sorted_weights, order = weights.sort(dim=1, descending=True, stable=True)
    sorted_room = room.gather(1, order)
    gain = (sorted_weights * sorted_room).to(torch.float64)
    before = gain.cumsum(1) - gain
    left = (need[:, None] - before).clamp_min(0)
    part = torch.minimum(left / sorted_weights.clamp_min(1e-30).to(torch.float64), sorted_room.to(torch.float64))
    return torch.zeros_like(weights).scatter(1, order, part.to(weights.dtype))
