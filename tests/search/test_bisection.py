"""The finish on the decision boundary, on sets whose boundary is known."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from assay.search.bisection import polish, to_boundary
from assay.search.threat import ThreatModel
from assay.tensors.norms import norm

from .toys import Spy

BOX = (0.0, 1.0)


def outside(radius: float):
    """Adversarial are the points further than ``radius`` from the middle of the box."""
    return lambda points, rows: norm(points - 0.5, "l2") >= radius


def test_bisection_ends_on_the_boundary_and_on_its_adversarial_side() -> None:
    centres = torch.full((5, 1, 2, 2), 0.5)
    ways = torch.randn(5, 1, 2, 2, generator=torch.Generator().manual_seed(0))
    points = centres + 0.45 * ways / norm(ways, "l2").reshape(5, 1, 1, 1)
    found_points, found = to_boundary(outside(0.3), centres, points, BOX)
    assert bool(found.all())
    assert bool(outside(0.3)(found_points, torch.arange(5)).all())
    assert norm(found_points - centres, "l2").tolist() == pytest.approx([0.3] * 5, abs=0.45 * 2**-13)


def test_a_point_a_little_short_is_pushed_outward_and_a_hopeless_one_is_left() -> None:
    centres = torch.full((2, 1, 1, 2), 0.5)
    points = centres.clone()
    points[0, 0, 0, 0] = 0.79
    points[1, 0, 0, 0] = 0.6
    moved, found = to_boundary(outside(0.3), centres, points, BOX)
    assert found.tolist() == [True, False]
    assert float(moved[0, 0, 0, 0]) == pytest.approx(0.8, abs=1e-4)
    assert torch.equal(moved[1], points[1])


def test_pushing_outward_does_not_leave_the_box() -> None:
    centres = torch.full((1, 2), 0.5)
    points = torch.tensor([[1.0, 0.9]])
    _, found = to_boundary(lambda tried, rows: (tried > 1).any(1), centres, points, BOX)
    assert not bool(found[0])


@pytest.mark.parametrize("kind", ["linf", "l2", "l1"])
def test_polishing_a_flat_boundary_is_exact_and_never_worse(kind: str) -> None:
    normal = torch.tensor([1.0, -2.0, 0.5])
    centres = torch.tensor([[0.2, 0.6, 0.4], [0.1, 0.9, 0.0]])

    def goal(points: Tensor) -> Tensor:
        return points @ normal + 0.3

    def adversarial(points: Tensor, rows: Tensor) -> Tensor:
        return goal(points) > 0

    points = torch.tensor([[0.9, 0.3, 0.9], [1.0, 0.4, 0.3]])
    spy = Spy(lambda tried: goal(tried)[:, None])
    found = polish(
        spy,
        lambda output, reference: output[:, 0],
        torch.zeros(2),
        adversarial,
        centres,
        points,
        ThreatModel(kind, 0.0),
        BOX,
    )
    assert bool(adversarial(found, torch.arange(2)).all())
    before, after = norm(points - centres, kind), norm(found - centres, kind)
    assert bool((after <= before).all())
    need = -goal(centres[:1])
    exact = {"linf": need / 3.5, "l2": need / normal.norm(), "l1": need / 2}[kind]
    assert float(after[0]) == pytest.approx(float(exact), rel=5e-5)


def test_a_polish_that_the_model_refuses_changes_nothing() -> None:
    centres, points = torch.full((1, 2), 0.2), torch.full((1, 2), 0.9)
    found = polish(
        Spy(lambda tried: tried.sum(1, keepdim=True) - 1),
        lambda output, reference: output[:, 0],
        torch.zeros(1),
        lambda tried, rows: torch.zeros(len(tried), dtype=torch.bool),
        centres,
        points,
        ThreatModel("l2", 0.0),
        BOX,
    )
    assert torch.equal(found, points)
