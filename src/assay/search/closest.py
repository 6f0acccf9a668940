r"""The nearest point where a scalar function of the logits is zero, from either side of its zero set.

The function h is oriented so that it is positive at the clean input x. At a point x + δ with value h and
gradient g, two moves put x on the linearised boundary {h + <g, x' - x - δ> = 0}: the one along the ray,
r = (1 - h / <g, δ>) δ, and the smallest one in the box, c. The next point is x + (1 - a) r + a c: both
ends lie on the linearised boundary and ||c|| <= ||r||, so that the norm falls by up to a (||r|| - ||c||).
The share a grows by 1.3 while ||r||, the distance that the ray promises, falls, and is cut to a third where it
does not. With a = 1 this is the iteration of Hasofer and Lind (and Rackwitz and Fiessler) in structural
reliability; FAB (arXiv 1907.02044) mixes the same projections with a <= 0.1 and an overshoot.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ..core.errors import SettingError, did_you_mean
from ..subjects.lanes import ROWS
from ..tensors.norms import NORMS, dual_norm, expand, step_onto_hyperplane
from ..tensors.norms import norm as norm_of
from .engine import Model, Observation, Space, Work, search
from .root import onto_zero
from .threat import ThreatModel

Function = Callable[[Tensor, Tensor], Tensor]
Judge = Callable[[Tensor, Tensor], Tensor]

CLOSED = 1e-5
STALL = 6e-3
PATIENCE = 3
DOUBT = 1.0


@dataclass(frozen=True)
class ClosestPoints:
    """What :func:`closest_points` found, in the order of the centres.

    Args:
        points: on the far side of the boundary or on it [B, ...]; the centre where nothing was found.
        distance: their distance from the centres [B]; inf where nothing was found.
        found: [B] bool.
        value: the function at the points, of the sign opposite to the centre's [B]; at the centre where not found.
        slope: dual norm of the function's gradient at the points [B]; nan where not found.
        alignment: how well the optimality (KKT) condition holds [B] in [0, 1]: the smallest norm of a move in
            the box with the same linearised change of the function, over ``distance``. 1 says that no
            direction on the linearised boundary leads closer; 0 where not found.
    """

    points: Tensor
    distance: Tensor
    found: Tensor
    value: Tensor
    slope: Tensor
    alignment: Tensor


@dataclass
class Best:
    """The most promising point of each owner: where the boundary is expected, or was crossed.

    Args:
        points: [S, ...].
        distance: as promised [S]; inf where there is none.
    """

    points: Tensor
    distance: Tensor


@dataclass(frozen=True)
class BoundaryDescent:
    """The step rule of this module; rows leave when they have converged or no longer improve.

    Args:
        steps: iterations; one evaluation each, and one at the start.
        best: where the rule notes the most promising point of each owner.
    """

    steps: int
    best: Best = field(repr=False)
    share: float = 0.5
    grow: float = 1.3
    shrink: float = 0.35
    least: float = 0.02
    trusted: tuple[float, float] = (0.5, 2.0)

    needs_gradient = True
    stays_inside = False

    @property
    def evaluations(self) -> int:
        """The start, the steps, and one of a single row on which the core sees that all are done."""
        return self.steps + 2

    def begin(self, work: Work, space: Space) -> None:
        """The clean input, unless the caller has set the points."""
        if not len(work.points):
            work.points = work.centres.clone()
        count = len(work)
        work.state = {
            "share": work.centres.new_full((count,), self.share),
            "last": work.centres.new_full((count,), torch.inf),
            "goal": work.centres.new_full((count,), torch.inf),
            "idle": work.centres.new_zeros(count),
            "done": torch.zeros(count, dtype=torch.bool, device=work.centres.device),
        }

    def advance(self, work: Work, space: Space, step: int, seen: Observation) -> None:
        """Note what the ray promises, adapt the share, and step."""
        state, kind = work.state, space.threat.norm
        move, value, gradient = work.points - work.centres, seen.value, seen.gradient
        climb = _dot(gradient, move)
        smallest = step_onto_hyperplane(work.centres, gradient, value - climb, kind, space.bounds)
        along, trusted, doubt = self._along(work, space, move, climb, seen)
        promise = norm_of(torch.where(expand(trusted | (value > 0), move), along, move), kind)
        closed = trusted & (norm_of(smallest, kind) >= (1 - CLOSED) * promise)
        promise = torch.where(trusted | (value <= 0), promise * doubt, torch.inf)
        self._note(work, promise, torch.where(expand(trusted, move), along, move))
        if step > 1:
            factor = torch.where(promise < state["last"], self.grow, self.shrink)
            state["share"] = (state["share"] * factor).clamp(self.least, 1.0)
        state["last"] = promise
        flat = dual_norm(gradient, kind) == 0
        state["done"] = (
            state["done"] | closed | (flat & (step == 0)) | (state["idle"] >= PATIENCE) | (step >= self.steps)
        )
        share = expand(state["share"], move)
        work.points = (work.centres + (1 - share) * along + share * smallest).clamp(*space.bounds)
        self._leave(work)

    def finalists(self, work: Work, space: Space) -> Tensor:
        """The most promising points."""
        return self.best.points[work.owner]

    def _along(
        self, work: Work, space: Space, move: Tensor, climb: Tensor, seen: Observation
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The move along the ray onto the linearised boundary, and where it can be trusted [B] bool.

        Elsewhere the smallest move from the point itself takes its place, or half the way back where the
        boundary has been crossed or the gradient is zero.
        """
        low, high = self.trusted
        factor = 1 - seen.value / climb.clamp_max(-1e-30)
        trusted = (climb < 0) & (factor > low) & (factor < high)
        along = expand(factor.clamp(low, high), move) * move
        lost = (~trusted).nonzero()[:, 0]
        if len(lost):
            gradient, value = seen.gradient[lost], seen.value[lost]
            newton = step_onto_hyperplane(work.points[lost], gradient, value, space.threat.norm, space.bounds)
            back = expand((value <= 0) | (dual_norm(gradient, space.threat.norm) == 0), newton)
            along[lost] = torch.where(back, 0.5 * move[lost], move[lost] + newton)
        return along, trusted, torch.where(trusted, 1 + DOUBT * (factor - 1).abs(), torch.ones_like(factor))

    def _note(self, work: Work, promise: Tensor, move: Tensor) -> None:
        state = work.state
        nearer = (promise < self.best.distance[work.owner]) & ~state["done"]
        rows = nearer.nonzero()[:, 0]
        self.best.points[work.owner[rows]] = work.centres[rows] + move[rows]
        self.best.distance[work.owner[rows]] = promise[rows]
        well = promise < (1 - STALL) * state["goal"]
        state["goal"] = torch.where(well, promise, state["goal"])
        state["idle"] = torch.where(well | torch.isinf(state["goal"]), torch.zeros_like(promise), state["idle"] + 1)

    def _leave(self, work: Work) -> None:
        """Let go of rows that are done as soon as that saves a lane; a last lane waits for the core to notice."""
        going = (~work.state["done"]).nonzero()[:, 0]
        if -(-max(1, len(going)) // ROWS) < -(-len(work) // ROWS):
            work.take(going if len(going) else torch.arange(1, device=going.device))


def closest_points(
    model: Model,
    objective: Function,
    centres: Tensor,
    labels: Tensor,
    *,
    norm: str,
    bounds: tuple[float, float],
    steps: int = 20,
    value: Judge | None = None,
    start: Tensor | None = None,
    clean: Tensor | None = None,
) -> ClosestPoints:
    """The nearest points with ``objective = 0`` in the box, from either side of it.

    min ||x' - x|| subject to h(x') = 0 and x' in the box: at most ``steps`` steps of
    :class:`BoundaryDescent`, then a root search along the segment from x, then the smallest step onto the boundary
    linearised there, kept where it ends nearer. What is found is an upper bound of the distance; it is exact
    where the boundary is flat.

    Args:
        model: what answers the search, such as ``Target.search_copy()``.
        objective: ``objective(logits [b, K], labels [b]) -> [b]``, such as the soft margin.
        centres: clean inputs x, inside the box [B, ...].
        labels: what the objective compares with [B].
        norm: ``"linf"``, ``"l2"`` or ``"l1"``.
        bounds: the box, low and high.
        steps: iterations at most, from 1 up.
        value: ``value(points [b, ...], rows [b]) -> [b]``, the objective by the model that what is found is said
            of; the searching model's own if not given.
        start: where the search begins [B, ...]; at the centres if not given.
        clean: ``value`` at the centres [B], where the caller knows it; saves a forward pass.

    Returns:
        A :class:`ClosestPoints`.

    Raises:
        SettingError: an unknown norm, or steps below 1.

    Cost: at most ``steps + 3`` forward and backward passes and some 6 forward passes a row; a row that has converged
    leaves earlier, after 2 iterations where the boundary is flat.
    """
    if norm not in NORMS:
        raise SettingError(f"norm is {norm!r}, which is not a norm Assay knows.{did_you_mean(norm, NORMS)}")
    if isinstance(steps, bool) or not isinstance(steps, int) or steps < 1:
        raise SettingError(f"steps is {steps!r}; allowed: a whole number from 1 up.")
    if not len(centres):
        nothing = centres.new_zeros(0)
        return ClosestPoints(centres, nothing, nothing.bool(), nothing, nothing, nothing)
    finish = _Finish(model, objective, centres, labels, norm, bounds, value, clean)
    return finish(_descend(finish, steps, start))


def _descend(finish: _Finish, steps: int, start: Tensor | None) -> Best:
    """Run the step rule over the rows that do not lie on the boundary already."""
    centres = finish.centres
    best = Best(centres.clone(), centres.new_full((len(centres),), torch.inf))
    rows = (finish.start != 0).nonzero()[:, 0]
    work = Work(
        centres=centres[rows],
        reference=torch.stack([finish.labels[rows], finish.side[rows].to(finish.labels.dtype)], 1),
        seeds=rows,
        owner=rows,
        points=torch.empty(0) if start is None else start[rows].clone(),
    )
    search(
        finish.model,
        BoundaryDescent(steps, best),
        lambda output, reference, step: finish.oriented(output, reference),
        work,
        Space(ThreatModel(finish.norm, 0.0), finish.bounds),
        samples=len(centres),
        decision=lambda output, reference: 0.5 - work.state["done"].to(output.dtype),
    )
    return best


@dataclass
class _Finish:
    """From the most promising points onto the boundary, by the model that counts."""

    model: Model
    objective: Function
    centres: Tensor
    labels: Tensor
    norm: str
    bounds: tuple[float, float]
    value: Judge | None
    clean: Tensor | None

    def __post_init__(self) -> None:
        rows = torch.arange(len(self.centres), device=self.centres.device)
        clean = self._judge(self.centres, rows) if self.clean is None else self.clean
        self.side = torch.where(clean < 0, -1.0, 1.0).to(clean.dtype)
        self.start = self.side * clean

    def __call__(self, best: Best) -> ClosestPoints:
        """Root search, gradient there, and one step along the linearised boundary."""
        points, value, found = self._onto(best.points, torch.isfinite(best.distance).nonzero()[:, 0])
        self._at_home(best, points, value, found)
        result = ClosestPoints(
            points,
            torch.where(found, norm_of(points - self.centres, self.norm), torch.inf),
            found,
            self.side * value,
            torch.full_like(value, torch.nan),
            torch.zeros_like(value),
        )
        rows = found.nonzero()[:, 0]
        better = self._examine(result, rows)
        if len(better):
            self._examine(result, better)
        return result

    def oriented(self, output: Tensor, reference: Tensor) -> Tensor:
        """The objective, positive on the clean input's side; reference is (label, side) [b, 2]."""
        return self.objective(output, reference[:, 0]) * reference[:, 1].to(output.dtype)

    def _judge(self, points: Tensor, rows: Tensor) -> Tensor:
        if self.value is not None:
            return self.value(points, rows)
        return self.objective(self.model.logits(points), self.labels[rows])

    def _onto(self, points: Tensor, rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The first confirmed crossing next to each point of these rows, for all rows: points, values, found."""
        all_points, all_values = self.centres.clone(), self.start.clone()
        found = torch.zeros(len(points), dtype=torch.bool, device=points.device)
        if len(rows):
            all_points[rows], all_values[rows], found[rows] = onto_zero(
                lambda at, which: self.side[rows[which]] * self._judge(at, rows[which]),
                self.centres[rows],
                self.start[rows],
                points[rows],
                self.bounds,
            )
        return all_points, all_values, found

    def _at_home(self, best: Best, points: Tensor, value: Tensor, found: Tensor) -> None:
        """Centres closer to the boundary than their coordinates can say lie on it."""
        low, high = self.bounds
        home = (self.start == 0) | (~found & (best.distance <= 4e-7 * (high - low)))
        points[home], value[home], found[home] = self.centres[home], self.start[home], True

    def _examine(self, result: ClosestPoints, rows: Tensor) -> Tensor:
        """Slope and alignment of these rows, and the rows that the step along the boundary has brought nearer."""
        if not len(rows):
            return rows
        centres, distance = self.centres[rows], result.distance[rows]
        _, _, gradient = self.model.value_and_gradient(
            result.points[rows],
            self.oriented,
            torch.stack([self.labels[rows], self.side[rows].to(self.labels.dtype)], 1),
        )
        fall = -_dot(gradient, result.points[rows] - centres)
        smallest = step_onto_hyperplane(centres, gradient, fall, self.norm, self.bounds)
        shortest = norm_of(smallest, self.norm)
        result.slope[rows] = dual_norm(gradient, self.norm)
        share = torch.where(fall > 0, shortest / distance.clamp_min(1e-30), torch.zeros_like(fall)).clamp_max(1)
        result.alignment[rows] = torch.where(distance > 0, share, torch.ones_like(share))
        near = ((fall > 0) & (shortest < (1 - 1e-6) * distance)).nonzero()[:, 0]
        if not len(near):
            return near
        stretch = (distance[near] / shortest[near]).sqrt().clamp_max(1.001)
        tried = (centres[near] + expand(stretch, smallest) * smallest[near]).clamp(*self.bounds)
        value = self.side[rows[near]] * self._judge(tried, rows[near])
        closer = norm_of(tried - centres[near], self.norm) < distance[near]
        kept = ((value <= 0) & closer).nonzero()[:, 0]
        if not len(kept):
            return kept
        moved = rows[near[kept]]
        goal = result.points.clone()
        goal[moved] = tried[kept]
        points, values, good = self._onto(goal, moved)
        moved = moved[good[moved]]
        result.points[moved], result.value[moved] = points[moved], self.side[moved] * values[moved]
        result.distance[moved] = norm_of(points[moved] - self.centres[moved], self.norm)
        return moved


def _dot(first: Tensor, second: Tensor) -> Tensor:
    return (first * second).flatten(1).sum(1, dtype=torch.float64).to(first.dtype)
