"""APGD's step rules: momentum with step halving (Linf, L2), and the sparse rule for L1."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ..tensors.norms import expand, norm, project
from ..tensors.random import normal, uniform
from .ascent import steepest
from .engine import Observation, Space, Work


def checkpoints(steps: int) -> list[int]:
    """The steps at which halving is considered: ceil(p_j N).

    p_0 = 0, p_1 = .22, p_{j+1} = p_j + max(p_j - p_{j-1} - .03, .06).

    >>> checkpoints(100)
    [22, 41, 57, 70, 80, 87, 93, 99]
    """
    found: list[int] = []
    before, now = 0.0, 0.22
    while now <= 1.0:
        place = math.ceil(round(now * steps, 9))
        if place > (found[-1] if found else 0):
            found.append(place)
        before, now = now, now + max(now - before - 0.03, 0.06)
    return found


def _keep_best(state: dict[str, Tensor], work: Work, seen: Observation) -> None:
    """Replace the best point, its value and its gradient where the objective strictly improved."""
    better = seen.value > state["best_value"]
    state["best_value"] = torch.where(better, seen.value, state["best_value"])
    for name, value in (("best_points", work.points), ("best_gradient", seen.gradient)):
        state[name] = torch.where(expand(better, value), value, state[name])


@dataclass(frozen=True)
class Momentum:
    r"""Auto-PGD for Linf and L2 (Croce and Hein, arXiv 2003.01690).

    z = Π(x_k + η s(g_k)); x_{k+1} = Π(x_k + α (z - x_k) + (1 - α)(x_k - x_{k-1})), α = .75
    (1 at the first step). η starts at 2ε. At a checkpoint η is halved and the search
    goes back to the best point if fewer than ρ of the steps since the last one
    improved, or if neither η nor the best value has changed since then.
    """

    steps: int
    rho: float = 0.75
    momentum: float = 0.75

    needs_gradient = True
    stays_inside = True

    @property
    def evaluations(self) -> int:
        """Steps and the start."""
        return self.steps + 1

    def begin(self, work: Work, space: Space) -> None:
        """A random point on the sphere of the norm, clipped to the box."""
        shape, eps = work.centres.shape[1:], space.threat.eps
        noise = 2 * uniform(work.seeds, shape) - 1 if space.threat.norm == "linf" else normal(work.seeds, shape)
        length = norm(noise, space.threat.norm).clamp_min(1e-12)
        work.points = space.project(work.centres + noise * expand(eps / length, noise), work.centres)
        count = work.points.new_zeros(len(work))
        work.state = {
            "previous": work.points,
            "best_points": work.points,
            "best_gradient": torch.zeros_like(work.points),
            "best_value": count - torch.inf,
            "last_value": count - torch.inf,
            "mark": count - torch.inf,
            "improved": count.clone(),
            "halved": torch.zeros(len(work), dtype=torch.bool, device=count.device),
            "size": count + 2 * eps,
        }

    def advance(self, work: Work, space: Space, step: int, seen: Observation) -> None:
        """Bookkeeping, halving at checkpoints, one momentum step."""
        state = work.state
        if step > 0:
            state["improved"] = state["improved"] + (seen.value > state["last_value"])
        state["last_value"] = seen.value
        _keep_best(state, work, seen)
        points, gradient = work.points, seen.gradient
        if step == 0:
            state["mark"] = state["best_value"]
        marks = checkpoints(self.steps)
        if step in marks:
            points, gradient = self._consider_halving(work, step, marks, gradient)
        size = expand(state["size"], points)
        towards = space.project(points + size * steepest(gradient, space.threat.norm), work.centres)
        share = self.momentum if step > 0 else 1.0
        moved = points + share * (towards - points) + (1 - share) * (points - state["previous"])
        state["previous"] = points
        work.points = space.project(moved, work.centres)

    def finalists(self, work: Work, space: Space) -> Tensor:
        """The best points: the searching copy may have missed by a rounding what the caller's model says of them."""
        return work.state["best_points"]

    def _consider_halving(self, work: Work, step: int, marks: list[int], gradient: Tensor) -> tuple[Tensor, Tensor]:
        state = work.state
        place = marks.index(step)
        window = step - (marks[place - 1] if place else 0)
        stalled = state["improved"] < self.rho * window
        stuck = ~state["halved"] & (state["best_value"] <= state["mark"]) if place else torch.zeros_like(stalled)
        halve = stalled | stuck
        state["size"] = torch.where(halve, state["size"] / 2, state["size"])
        state["halved"], state["mark"] = halve, state["best_value"]
        state["improved"] = torch.zeros_like(state["improved"])
        back = expand(halve, gradient)
        points = torch.where(back, state["best_points"], work.points)
        return points, torch.where(back, state["best_gradient"], gradient)


@dataclass(frozen=True)
class SparseSteps:
    r"""Auto-PGD for L1 (Croce and Hein, arXiv 2103.01208): sparse sign steps through larger radii first.

    A step moves the share k of coordinates with the largest gradients:
    x ← Π(x + η sign(g_k) / ||sign(g_k)||_1), Π the exact projection onto ball and box.
    Every 4 % of a stage: with s = ||x_best - x||_0, if s fell by more than 5 %, η is reset to
    ε and the search goes back to its best point, otherwise η ← η / 1.5; k = s / (1.5 D).
    Stages: radii 3ε, 2ε, ε for 30, 30 and 40 % of the steps, each from the best point so far.
    """

    steps: int
    radii: tuple[float, ...] = (3.0, 2.0, 1.0)

    needs_gradient = True
    stays_inside = False

    @property
    def evaluations(self) -> int:
        """Steps and the start."""
        return self.steps + 1

    def stage(self, step: int) -> tuple[int, float, int]:
        """First step of the stage a step belongs to, the stage's radius factor and its length."""
        early = math.ceil(0.3 * self.steps) if len(self.radii) > 1 else 0
        bounds = [early * place for place in range(len(self.radii))]
        place = max(index for index, start in enumerate(bounds) if start <= step)
        end = bounds[place + 1] if place + 1 < len(bounds) else self.steps
        return bounds[place], self.radii[place], max(1, end - bounds[place])

    def begin(self, work: Work, space: Space) -> None:
        """The projection of a standard normal draw."""
        noise = normal(work.seeds, work.centres.shape[1:])
        radius = self.radii[0] * space.threat.eps
        work.points = project(work.centres + noise, work.centres, radius, "l1", space.bounds)
        count = work.points.new_zeros(len(work))
        work.state = {
            "best_points": work.points,
            "best_gradient": torch.zeros_like(work.points),
            "best_value": count - torch.inf,
            "size": count + radius,
            "share": count + 0.2,
            "changed": count + float(work.points[0].numel()),
        }

    def advance(self, work: Work, space: Space, step: int, seen: Observation) -> None:
        """Bookkeeping, sparsity and step size at checkpoints, one sparse step."""
        start, factor, length = self.stage(step)
        radius = factor * space.threat.eps
        state = work.state
        if step == start and step > 0:
            self._enter(work, radius)
        _keep_best(state, work, seen)
        points, gradient = work.points, seen.gradient
        if step > start and (step - start) % max(1, int(0.04 * length)) == 0:
            points, gradient = self._adapt(work, radius, gradient)
        ahead = self.stage(step + 1)[1] * space.threat.eps
        if ahead < radius:
            work.points = project(state["best_points"], work.centres, ahead, "l1", space.bounds)
            return
        moved = points + expand(state["size"], points) * self._direction(gradient, state["share"])
        work.points = project(moved, work.centres, radius, "l1", space.bounds)

    def finalists(self, work: Work, space: Space) -> Tensor:
        """The last iterate, moved inside the ball even when there were too few steps to reach the last radius."""
        return space.project(work.points, work.centres)

    def _enter(self, work: Work, radius: float) -> None:
        """A new stage: its best value, step and sparsity start from the point it was given."""
        state, count = work.state, work.points.new_zeros(len(work))
        state["best_value"] = count - torch.inf
        state["size"] = count + radius
        changed = (work.points != work.centres).flatten(1).sum(1).to(count.dtype)
        state["share"] = changed / work.points[0].numel() / 1.5
        state["changed"] = changed

    def _adapt(self, work: Work, radius: float, gradient: Tensor) -> tuple[Tensor, Tensor]:
        state = work.state
        changed = (state["best_points"] != work.centres).flatten(1).sum(1).to(state["changed"].dtype)
        sparser = changed < 0.95 * state["changed"]
        state["size"] = torch.where(sparser, radius, (state["size"] / 1.5).clamp(radius / 10, radius))
        state["share"] = changed / work.points[0].numel() / 1.5
        state["changed"] = changed
        back = expand(sparser, gradient)
        points = torch.where(back, state["best_points"], work.points)
        return points, torch.where(back, state["best_gradient"], gradient)

    def _direction(self, gradient: Tensor, share: Tensor) -> Tensor:
        flat = gradient.flatten(1)
        size = flat.abs()
        dimension = flat.shape[1]
        place = ((1 - share) * dimension).floor().long().clamp(0, dimension - 1)
        threshold = size.sort(1).values.gather(1, place[:, None])
        chosen = torch.where(size >= threshold, flat.sign(), torch.zeros_like(flat))
        return (chosen / (chosen.abs().sum(1, keepdim=True) + 1e-10)).reshape(gradient.shape)
