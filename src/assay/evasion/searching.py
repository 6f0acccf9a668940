"""One search of an attack on any task: a private copy looks for the worst points, the model itself judges them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..search.ascent import ProjectedGradient
from ..search.engine import Space, StepRule, Work
from ..search.radii import through_radii
from ..search.strongest import Strongest, strongest
from ..search.threat import ThreatModel
from ..subjects.lanes import ROWS
from ..subjects.patching import quicken
from .apgd import step_rule
from .judge import TaskJudge, Verdict
from .objectives.registry import Aim

METHODS = ("pgd", "apgd", "radii")
RHO = 0.75
AGREES = 1e-3
"""How far answers of the same model may lie apart, as a share of the largest."""


@dataclass(frozen=True)
class Plan:
    """What is searched.

    Args:
        aims: what each search pushes up.
        settings: text of the objective's settings, for keys of what is kept.
        method: one of ``METHODS``.
        steps: of each search.
        step_size: of ``"pgd"``.
        restarts: of each search.
        seed: root of the random streams.
        needs_map: whether answers must be patch maps [B, D, h, w].
    """

    aims: list[Aim]
    settings: str
    method: str
    steps: int
    step_size: float
    restarts: int
    seed: int
    needs_map: bool = False

    def rule(self, threat: ThreatModel, steps: int) -> StepRule:
        """How points move."""
        if self.method == "pgd":
            return ProjectedGradient(steps=steps, step_size=self.step_size)
        return step_rule(threat, steps, RHO)


@dataclass
class Tried:
    """What one search found.

    Args:
        points: the worst points [B, ...].
        held: whether they lie inside ball and box [B] bool; others do not count.
        still: whose gradient was zero at the start [B] bool.
        verdict: what the caller's own model says of the points.
    """

    points: Tensor
    held: Tensor
    still: Tensor
    verdict: Verdict


class Searching:
    """Searches of one attack, all on one copy of the model.

    Args:
        judge: the caller's own model.
        plan: what is searched.
        threat: norm and budget.
    """

    def __init__(self, judge: TaskJudge, plan: Plan, threat: ThreatModel) -> None:
        self.judge, self.plan, self.threat = judge, plan, threat
        self.copy = judge.target.search_copy()
        self.randomised: bool | None = None
        if isinstance(self.copy.module, nn.Module):
            quicken(self.copy.module)

    def check(self, centres: Tensor, clean: Tensor) -> None:
        """Once, with four rows: whether the copy says what the model said.

        A copy that does not is replaced by one as the model was given, unless it is the model that
        does not repeat itself. The passes are not counted.
        """
        if self.randomised is not None:
            return
        some, said = centres[:ROWS], clean[:ROWS]
        scale = float(said.abs().max())
        told = self.copy.logits(some)
        self.copy.forward_passes -= len(told)
        self.randomised = False
        if float((told - said).abs().max()) <= AGREES * scale:
            return
        again = self.judge.target.logits(some)
        self.randomised = float((again - said).abs().max()) > AGREES * scale
        if not self.randomised:
            self.copy = self.judge.target.search_copy()

    def once(self, aim: Aim, centres: Tensor, reference: Tensor, seeds: Tensor) -> Tried:
        """One search from one random start.

        Args:
            aim: what is pushed up.
            centres: clean inputs [B, ...].
            reference: [B, ...].
            seeds: one random stream a row [B].
        """
        target, judge = self.judge.target, self.judge
        space = Space(self.threat, target.bounds)
        owner = torch.arange(len(centres), device=centres.device)
        work = Work(centres=centres, reference=reference, seeds=seeds, owner=owner)
        judged: list[Verdict] = []

        def judge_last(points: Tensor, rows: Tensor) -> Tensor:
            judged.append(judge.of(judge.answer(points), reference[rows]))
            return judged[0].score

        def over(output: Tensor, known: Tensor) -> Tensor:
            won = target.task.success(output, known)
            assert won is not None
            return won

        def confirm(points: Tensor, rows: Tensor) -> Tensor:
            held = self.threat.holds(points, centres[rows], space.bounds)
            return held & over(judge.answer(points), reference[rows])

        if target.task.name in ("depth", "embedding"):  # no row is ever done, and the last point mostly is the worst
            found = self._search(aim, work, space, judge=judge_last)
            verdict = judged[0]
            left = (~found.last).nonzero()[:, 0]
            if len(left):
                verdict.take_over(left, judge.of(judge.answer(found.points[left]), reference[left]))
        else:
            found = self._search(aim, work, space, done=over, confirm=confirm)
            verdict = judge.of(judge.answer(found.points), reference)
        held = found.seen & self.threat.holds(found.points, centres, space.bounds)
        return Tried(found.points, held, found.still, verdict)

    def _search(self, aim: Aim, work: Work, space: Space, **hooks: Callable[[Tensor, Tensor], Tensor]) -> Strongest:
        plan = self.plan
        if plan.method == "radii" and self.threat.norm != "l1":  # the rule for L1 has its own
            return through_radii(
                self.copy,
                lambda steps: plan.rule(self.threat, steps),
                aim.objective,
                work,
                space,
                self.judge.score,
                steps=plan.steps,
                **hooks,
            )
        rule, objective = plan.rule(self.threat, plan.steps), aim.objective(plan.steps)
        return strongest(self.copy, rule, objective, work, space, self.judge.score, **hooks)
