"""A search for the worst point of each sample: it keeps the point of highest score and need not stop at a success.

The step rules are those of the stepping core. A score has one or more columns,
compared from left to right, so that a tie in what is wanted is broken by how far it went.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ..subjects.lanes import ROWS
from ..tensors.norms import expand
from .engine import Model, Observation, Space, StepRule, Work, observe
from .objectives import Objective

Score = Callable[[Tensor, Tensor, Tensor], Tensor]
"""``score(output [B, ...], reference [B, ...], value [B]) -> [B, k]``, larger is worse for the model."""


@dataclass
class Strongest:
    """The worst points a search saw, by owner.

    Args:
        points: [S, ...]; inside ball and box where ``seen``.
        score: [S, k]; -inf where not ``seen``.
        seen: whether any point inside the ball was looked at [S] bool.
        still: samples whose gradient was zero at the first point [S] bool: nothing to climb.
        last: whether it is the last point of the search [S] bool.
    """

    points: Tensor
    score: Tensor
    seen: Tensor
    still: Tensor
    last: Tensor


@dataclass(frozen=True)
class From:
    """A step rule that starts where it is told: at ``points``, one for each row, projected first."""

    rule: StepRule
    points: Tensor

    @property
    def evaluations(self) -> int:
        """As the rule's."""
        return self.rule.evaluations

    @property
    def needs_gradient(self) -> bool:
        """As the rule's."""
        return self.rule.needs_gradient

    @property
    def stays_inside(self) -> bool:
        """As the rule's."""
        return self.rule.stays_inside

    def begin(self, work: Work, space: Space) -> None:
        """The rule's state at the points given."""
        self.rule.begin(work, space)
        work.points = space.project(self.points, work.centres)

    def advance(self, work: Work, space: Space, step: int, seen: Observation) -> None:
        """As the rule does."""
        self.rule.advance(work, space, step, seen)

    def finalists(self, work: Work, space: Space) -> Tensor:
        """As the rule's."""
        return self.rule.finalists(work, space)


def larger(left: Tensor, right: Tensor) -> Tensor:
    """Which rows of ``left`` come after those of ``right``, compared column by column from the left: [B] bool.

    >>> larger(torch.tensor([[1.0, 0.0], [1.0, 2.0]]), torch.tensor([[1.0, 0.0], [1.0, 1.0]])).tolist()
    [False, True]
    """
    undecided = torch.ones(len(left), dtype=torch.bool, device=left.device)
    above = torch.zeros_like(undecided)
    for column in range(left.shape[1]):
        above |= undecided & (left[:, column] > right[:, column])
        undecided &= left[:, column] == right[:, column]
    return above


def strongest(
    model: Model,
    rule: StepRule,
    objective: Objective,
    work: Work,
    space: Space,
    score: Score,
    *,
    done: Callable[[Tensor, Tensor], Tensor] | None = None,
    confirm: Callable[[Tensor, Tensor], Tensor] | None = None,
    judge: Callable[[Tensor, Tensor], Tensor] | None = None,
) -> Strongest:
    """Run a step rule to the end of its budget and keep, for each row, the point of highest score; the first of equals.

    Args:
        model: the private copy that searches.
        rule: how points move; it is shown the objective's value and gradient.
        objective: what is pushed up.
        work: the rows, each with its own owner, a place from 0 to S - 1; consumed.
        space: ball and box.
        score: what makes a point the worst.
        done: ``done(output, reference) -> [B] bool``: rows that no point can make worse; they
            keep the point they have and leave the batch.
        confirm: ``confirm(points, owner) -> [b] bool``, asked of rows that are done: whether the
            caller's own model agrees. Those that it does not confirm go on.
        judge: ``judge(points, owner) -> [b, k]``, the score of the last points by the caller's own
            model, in the place of the copy's: a pass saved where the last point is the worst.

    Cost: ``rule.evaluations`` forward passes a row and, if the rule needs gradients, one backward
    pass less; with ``judge`` one forward pass less.
    """
    samples = int(work.owner.max()) + 1 if len(work) else 0
    best = Strongest(
        points=work.centres.new_zeros(samples, *work.centres.shape[1:]),
        score=torch.empty(samples, 0, device=work.centres.device),
        seen=torch.zeros(samples, dtype=torch.bool, device=work.centres.device),
        still=torch.zeros(samples, dtype=torch.bool, device=work.centres.device),
        last=torch.zeros(samples, dtype=torch.bool, device=work.centres.device),
    )
    if not samples:
        return best
    rule.begin(work, space)
    work.state["finished"] = torch.zeros(len(work), dtype=torch.bool, device=work.owner.device)
    for step in range(rule.evaluations):
        last = step + 1 == rule.evaluations
        if last and judge is not None:
            best.last[work.owner] = _keep(best, work, space, judge(work.points, work.owner), inside=rule.stays_inside)
            break
        seen = observe(model, objective, work, step, gradient=rule.needs_gradient and not last)
        if step == 0 and rule.needs_gradient and not last:
            best.still[work.owner] = ~(seen.gradient != 0).flatten(1).any(1)
        now = score(seen.output, work.reference, seen.value)
        kept = _keep(best, work, space, now, inside=rule.stays_inside)
        best.last[work.owner] = kept & last
        if done is not None and _finish(work, done(seen.output, work.reference), confirm):
            seen = _retire(work, seen)
            if not len(work):
                break
        if not last:
            rule.advance(work, space, step, seen)
    return best


def _keep(best: Strongest, work: Work, space: Space, now: Tensor, *, inside: bool) -> Tensor:
    """Take up the rows whose points have a higher score than those before; which: [B] bool."""
    if not best.score.shape[1]:
        best.score = now.new_full((len(best.seen), now.shape[1]), -torch.inf)
    counts = ~work.state["finished"]
    if not inside:
        counts &= space.threat.holds(work.points, work.centres, space.bounds)
    counts &= larger(now, best.score[work.owner])
    owner = work.owner
    best.score[owner] = torch.where(counts[:, None], now, best.score[owner])
    best.points[owner] = torch.where(expand(counts, work.points), work.points, best.points[owner])
    best.seen[owner] |= counts
    return counts


def _finish(work: Work, over: Tensor, confirm: Callable[[Tensor, Tensor], Tensor] | None) -> bool:
    """Mark rows that are done and confirmed; whether there are any."""
    new = over & ~work.state["finished"]
    rows = new.nonzero()[:, 0]
    if len(rows) and confirm is not None:
        rows = rows[confirm(work.points[rows], work.owner[rows])]
    work.state["finished"][rows] = True
    return bool(work.state["finished"].any())


def _retire(work: Work, seen: Observation) -> Observation:
    """Let go of finished rows as soon as that saves a lane."""
    active = (~work.state["finished"]).nonzero()[:, 0]
    if -(-len(active) // ROWS) == -(-len(work) // ROWS):
        return seen
    work.take(active)
    return Observation(seen.output[active], seen.value[active], seen.gradient[active])
