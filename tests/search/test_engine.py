"""The stepping core: who retires when, and that rows do not know of each other."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from assay.search.ascent import ProjectedGradient, ascend
from assay.search.boundary import BoundaryWalk
from assay.search.engine import Observation, Space, Work, search
from assay.search.momentum import Momentum, SparseSteps
from assay.search.objectives import cross_entropy, margin
from assay.search.patches import Patches
from assay.search.threat import ThreatModel

from .toys import Spy, make_work, network, space


@dataclass(frozen=True)
class Counting:
    """Points that hold the number of the evaluation."""

    steps: int

    needs_gradient = False
    stays_inside = True

    @property
    def evaluations(self) -> int:
        return self.steps

    def begin(self, work: Work, where: Space) -> None:
        work.points = torch.zeros_like(work.centres)
        work.state = {"owner": work.owner.clone()}

    def advance(self, work: Work, where: Space, step: int, seen: Observation) -> None:
        assert torch.equal(work.state["owner"], work.owner)
        work.points = torch.full_like(work.centres, float(step + 1))

    def finalists(self, work: Work, where: Space) -> Tensor:
        return torch.full_like(work.centres, 100.0)


def identity(points: Tensor) -> Tensor:
    return points.flatten(1)


def count_up(owner: list[int], when: list[int], steps: int, confirm=None):
    """Rows whose goal is reached at evaluation ``when`` of the row; the spy and the outcome."""
    rows = len(owner)
    work = Work(
        centres=torch.arange(rows, dtype=torch.float32)[:, None],
        reference=torch.tensor(when),
        seeds=torch.zeros(rows, dtype=torch.int64),
        owner=torch.tensor(owner),
    )
    spy = Spy(identity)
    outcome = search(
        spy,
        Counting(steps),
        lambda output, reference, step: output[:, 0],
        work,
        Space(ThreatModel("linf", 1.0), (0.0, 1.0)),
        samples=max(owner) + 1,
        decision=lambda output, reference: reference - output[:, 0],
        confirm=confirm or (lambda points, rows: points[:, 0] < 50),
    )
    return spy, outcome


def test_each_sample_keeps_the_point_of_its_own_success() -> None:
    when = [3, 0, 7, 99, 1, 5, 2, 99, 4, 6, 8, 3]
    spy, outcome = count_up(list(range(12)), when, 10)
    assert outcome.found.tolist() == [value < 10 for value in when]
    found = outcome.points[outcome.found][:, 0].tolist()
    assert found == [float(value) for value in when if value < 10]
    assert len(spy.asked) == 10


def test_all_rows_of_a_sample_leave_when_one_succeeds() -> None:
    owner = [sample for sample in range(8) for _ in range(4)]
    when = [99] * 32
    when[2] = 1
    when[5] = 0
    spy, outcome = count_up(owner, when, 4)
    assert outcome.found.tolist() == [True, True, *[False] * 6]
    assert outcome.points[:2, 0].tolist() == [1.0, 0.0]
    assert [len(points) for points in spy.asked] == [32, 28, 24, 24]


def test_a_search_ends_when_nothing_is_left() -> None:
    spy, outcome = count_up([0, 1], [2, 2], 50)
    assert bool(outcome.found.all())
    assert len(spy.asked) == 3


def test_a_veto_keeps_a_sample_in_the_search() -> None:
    vetoes = []

    def confirm(points: Tensor, owner: Tensor) -> Tensor:
        vetoes.append(points[:, 0].tolist())
        return points[:, 0] == 4

    _, outcome = count_up([0], [2], 8, confirm)
    assert bool(outcome.found[0])
    assert float(outcome.points[0]) == 4
    assert vetoes == [[2.0], [3.0], [4.0]]


def test_what_is_never_confirmed_is_never_found() -> None:
    _, outcome = count_up([0, 1], [0, 1], 5, lambda points, owner: torch.zeros(len(points), dtype=torch.bool))
    assert not bool(outcome.found.any())


def test_the_last_look_is_taken_by_the_confirmer() -> None:
    """A point that the searching copy misjudges is still seen by the caller's model."""
    _, outcome = count_up([0], [99], 3, lambda points, owner: points[:, 0] == 100)
    assert bool(outcome.found[0])


def test_the_smallest_decision_value_is_kept_by_sample() -> None:
    _, outcome = count_up([0, 0, 1], [20, 12, 30], 5)
    assert outcome.decision.tolist() == [12 - 4, 30 - 4]


def test_no_rows_and_no_goal() -> None:
    work = make_work(0, (1, 2, 2))
    outcome = search(Spy(identity), Momentum(steps=3), margin, work, space("linf", 0.1), samples=0)
    assert outcome.found.shape == (0,)
    outcome = search(
        Spy(network(4, 3)), Momentum(steps=3), margin, make_work(2, (1, 2, 2)), space("linf", 0.1), samples=2
    )
    assert not bool(outcome.found.any())


RULES = [
    (Momentum(steps=12), "linf", 0.1),
    (Momentum(steps=12), "l2", 0.5),
    (SparseSteps(steps=12), "l1", 2.0),
    (ProjectedGradient(steps=6, step_size=0.02), "linf", 0.1),
    (ProjectedGradient(steps=6, step_size=0.2), "l2", 0.5),
    (ProjectedGradient(steps=6, step_size=0.5), "l1", 2.0),
    (BoundaryWalk(steps=12, start_radius=0.05), "linf", 0.1),
    (BoundaryWalk(steps=12), "l2", 0.5),
    (BoundaryWalk(steps=12), "l1", 2.0),
    (Patches(queries=80), "linf", 0.1),
    (Patches(queries=80), "l2", 0.5),
    (Patches(queries=80), "l1", 2.0),
]


@pytest.mark.parametrize(("rule", "kind", "eps"), RULES, ids=lambda value: str(value)[:20])
def test_a_row_does_not_depend_on_its_neighbours(rule, kind: str, eps: float) -> None:
    """Rows alone, in part, and together, in another order, while neighbours retire around them."""
    function = network(20, 4)

    def each(points: Tensor) -> Tensor:
        return torch.cat([function(point[None]) for point in points])

    centres = make_work(11, (1, 4, 5)).centres
    labels = each(centres).argmax(1)

    def run(rows: list[int]) -> tuple[Tensor, Tensor, Tensor]:
        work = make_work(11, (1, 4, 5), labels)
        work = Work(
            centres=work.centres[rows],
            reference=labels[rows],
            seeds=work.seeds[rows],
            owner=torch.arange(len(rows)),
        )
        where = space(kind, eps)
        outcome = search(
            Spy(each),
            rule,
            margin,
            work,
            where,
            samples=len(rows),
            decision=lambda output, reference: -margin(output, reference, 0),
            confirm=lambda points, owner: where.threat.holds(points, centres[rows][owner], where.bounds),
        )
        return outcome.found, outcome.points, outcome.decision

    found, points, decision = run(list(range(11)))
    for rows in ([4], [0, 1, 2], [10, 3, 7, 5, 0]):
        some_found, some_points, some_decision = run(rows)
        assert torch.equal(some_found, found[rows])
        assert torch.equal(some_points, points[rows])
        unfound = ~some_found
        assert torch.equal(some_decision[unfound], decision[rows][unfound])
    if kind == "linf":
        assert bool(found.any())


def test_ascend_is_the_plain_recursion() -> None:
    function = network(12, 3)
    work = make_work(4, (1, 3, 4))
    images, labels = work.centres, work.reference
    found = ascend(
        lambda points: cross_entropy(function(points), labels, 0),
        images,
        ThreatModel("linf", 0.1),
        steps=5,
        step_size=0.03,
        start=images + 0.5,
    )
    point = (images + 0.1).clamp(0, 1)
    for _ in range(5):
        leaf = point.clone().requires_grad_(True)
        torch.nn.functional.cross_entropy(function(leaf), labels).backward()
        point = torch.clamp((point + 0.03 * leaf.grad.sign()).clamp(images - 0.1, images + 0.1), 0, 1)
    assert torch.allclose(found, point, atol=1e-6)
    assert not found.requires_grad
