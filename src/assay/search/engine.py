"""The stepping core: improve inputs under an objective and a constraint, many samples at once.

One loop serves every method: evaluate the points, retire the samples whose goal
is confirmed, let the step rule choose the next points. A step rule is a small
declaration that keeps its state in ``Work.state``; rows of samples that are
done leave the batch, so the work shrinks as the search succeeds.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor

from ..subjects.lanes import ROWS, in_lanes
from .objectives import Objective
from .threat import ThreatModel


@dataclass
class Work:
    """The rows still in work; every tensor has one row for each.

    Args:
        centres: clean raw inputs [B, ...].
        reference: what the objective compares with [B, ...].
        seeds: one random stream a row [B] int64.
        owner: which sample a row works for [B] int64; several rows (targets,
            restarts) may share an owner, and all leave when one succeeds.
        points: where the rows are now [B, ...].
        state: what the step rule remembers, tensors with B rows.
    """

    centres: Tensor
    reference: Tensor
    seeds: Tensor
    owner: Tensor
    points: Tensor = field(default_factory=lambda: torch.empty(0))
    state: dict[str, Tensor] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.owner)

    def take(self, rows: Tensor) -> None:
        """Keep only these rows (an index tensor)."""
        self.centres, self.reference = self.centres[rows], self.reference[rows]
        self.seeds, self.owner, self.points = self.seeds[rows], self.owner[rows], self.points[rows]
        self.state = {name: value[rows] for name, value in self.state.items()}


@dataclass(frozen=True)
class Space:
    """Where points may lie: the threat model and the box of raw inputs."""

    threat: ThreatModel
    bounds: tuple[float, float]

    def project(self, points: Tensor, centres: Tensor) -> Tensor:
        """Into ball and box."""
        return self.threat.project(points, centres, self.bounds)


@dataclass(frozen=True)
class Observation:
    """What one evaluation showed: ``output`` [B, K], objective ``value`` [B], ``gradient`` [B, ...]."""

    output: Tensor
    value: Tensor
    gradient: Tensor


class StepRule(Protocol):
    """How points move. ``evaluations`` counts network calls on each row, the start included."""

    @property
    def evaluations(self) -> int: ...

    @property
    def needs_gradient(self) -> bool: ...

    @property
    def stays_inside(self) -> bool:
        """Whether every point lies in the ball (minimum-norm rules roam outside)."""

    def begin(self, work: Work, space: Space) -> None:
        """Set ``work.points`` to the start and lay out ``work.state``."""

    def advance(self, work: Work, space: Space, step: int, seen: Observation) -> None:
        """Learn from evaluation number ``step`` and set ``work.points`` to the next points."""

    def finalists(self, work: Work, space: Space) -> Tensor:
        """The points worth a last look when the budget is spent [B, ...]."""


class Model(Protocol):
    """What the core differentiates through; see ``assay.subjects.target.SearchModel``."""

    def logits(self, points: Tensor) -> Tensor: ...

    def value_and_gradient(
        self, points: Tensor, objective: Callable[[Tensor, Tensor], Tensor], reference: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]: ...


@dataclass
class Outcome:
    """What a search found, by owner.

    Args:
        found: [S] bool.
        points: [S, ...]; meaningful where found.
        decision: the smallest decision value seen inside the ball [S]; inf where none was.
    """

    found: Tensor
    points: Tensor
    decision: Tensor


def search(
    model: Model,
    rule: StepRule,
    objective: Objective,
    work: Work,
    space: Space,
    *,
    samples: int,
    decision: Callable[[Tensor, Tensor], Tensor] | None = None,
    confirm: Callable[[Tensor, Tensor], Tensor] | None = None,
) -> Outcome:
    """Run a step rule to the end of its budget, retiring owners as they succeed.

    Args:
        model: the private copy that searches.
        rule: how points move.
        objective: what is pushed up.
        work: the rows; consumed.
        space: ball and box.
        samples: number of owners S.
        decision: ``decision(output, reference) -> [B]``, not above 0 where the searching copy
            believes the goal reached; None never retires a row.
        confirm: ``confirm(points, owner) -> [B] bool``, the verdict in float32 by the
            caller's own model, ball and box included. Only confirmed rows retire.

    Cost: ``rule.evaluations`` forward (and backward) passes a row at most.
    """
    outcome = Outcome(
        found=torch.zeros(samples, dtype=torch.bool),
        points=work.centres.new_zeros(samples, *work.centres.shape[1:]),
        decision=torch.full((samples,), torch.inf),
    )
    if not len(work):
        return outcome
    rule.begin(work, space)
    for step in range(rule.evaluations):
        seen = observe(model, objective, work, step, gradient=rule.needs_gradient)
        if decision is not None:
            values = decision(seen.output, work.reference)
            if rule.stays_inside:
                outcome.decision.scatter_reduce_(0, work.owner.cpu(), values.cpu(), "amin")
            if _record(outcome, work, work.points, values <= 0, confirm):
                seen = _retire(outcome, work, seen)
            if not len(work):
                return outcome
        if step + 1 < rule.evaluations:
            rule.advance(work, space, step, seen)
    if decision is not None:
        alive = torch.ones(len(work), dtype=torch.bool, device=work.owner.device)
        _record(outcome, work, rule.finalists(work, space), alive, confirm)
    return outcome


def observe(model: Model, objective: Objective, work: Work, step: int, *, gradient: bool) -> Observation:
    """Evaluation number ``step`` of the rows; without ``gradient`` it costs a forward pass alone."""

    def aim(output: Tensor, reference: Tensor) -> Tensor:
        return objective(output, reference, step)

    if gradient:
        return Observation(*model.value_and_gradient(work.points, aim, work.reference))
    output = model.logits(work.points)
    return Observation(output, in_lanes(aim, output, work.reference), work.points.new_empty(len(work), 0))


def _record(
    outcome: Outcome,
    work: Work,
    points: Tensor,
    candidate: Tensor,
    confirm: Callable[[Tensor, Tensor], Tensor] | None,
) -> bool:
    """Note the owners whose candidate rows are confirmed; of several rows the first counts. Whether there were any."""
    if not bool(candidate.any()):
        return False
    rows = (candidate & ~outcome.found.to(candidate.device)[work.owner]).nonzero()[:, 0]
    if not len(rows):
        return False
    if confirm is not None:
        rows = rows[confirm(points[rows], work.owner[rows])]
    for row in reversed(rows.tolist()):
        owner = int(work.owner[row])
        outcome.found[owner] = True
        outcome.points[owner] = points[row]
    return bool(len(rows))


def _retire(outcome: Outcome, work: Work, seen: Observation) -> Observation:
    """Let go of finished rows as soon as that saves a lane."""
    active = ~outcome.found.to(work.owner.device)[work.owner]
    count = int(active.sum())
    if -(-count // ROWS) == -(-len(work) // ROWS):
        return seen
    rows = active.nonzero()[:, 0]
    work.take(rows)
    return Observation(seen.output[rows], seen.value[rows], seen.gradient[rows])
