"""FAB's walk: what it remembers, where it starts, and which class it takes for the nearest."""

from __future__ import annotations

import pytest
import torch

from assay.search.boundary import BoundaryWalk, NearestClass
from assay.search.engine import search
from assay.search.objectives import margin, targeted_margin
from assay.tensors.norms import dual_norm, norm

from .toys import Spy, make_work, network, space


def linear(classes: int, inputs: int):
    weights = torch.randn(inputs, classes, generator=torch.Generator().manual_seed(3))
    return lambda points: (points.flatten(1) - 0.5) @ weights


@pytest.mark.parametrize("kind", ["linf", "l2", "l1"])
def test_a_linear_boundary_is_reached_in_one_step_up_to_the_overshoot(kind: str) -> None:
    """Two classes, no active wall: the distance is |h| / ||w||_q."""
    function = linear(2, 9)
    work = make_work(8, (1, 3, 3))
    work.centres = (work.centres - 0.5) * 0.02 + 0.5
    work.reference = function(work.centres).argmax(1)
    leaf = work.centres.clone().requires_grad_(True)
    gap = margin(function(leaf), work.reference, 0)
    (gradient,) = torch.autograd.grad(gap.sum(), leaf)
    exact = (gap.abs() / dual_norm(gradient, kind)).detach()
    assert float(exact.max()) < 0.3
    search(Spy(function), BoundaryWalk(steps=2), margin, work, space(kind, 0.0), samples=8)
    found = norm(work.state["nearest"] - work.centres, kind)
    assert torch.allclose(work.state["distance"], found)
    assert bool((found >= exact * 0.999).all())
    assert bool((found <= exact * 1.051).all())


def test_the_nearest_point_seen_is_remembered() -> None:
    function = network(16, 4)
    work = make_work(6, (1, 4, 4))
    work.reference = function(work.centres).argmax(1)
    labels, centres = work.reference, work.centres
    spy = Spy(function)
    search(spy, BoundaryWalk(steps=30), margin, work, space("l2", 0.0), samples=6)
    seen = torch.stack(spy.asked[:-1])
    wrong = torch.stack([function(points).argmax(1) != labels for points in seen])
    far = torch.stack([norm(points - centres, "l2") for points in seen])
    nearest = torch.where(wrong, far, torch.inf).amin(0)
    assert bool(torch.isfinite(nearest).any())
    assert torch.equal(work.state["distance"], nearest)


def test_starts() -> None:
    work = make_work(5, (1, 4, 4))
    work.centres = torch.full_like(work.centres, 0.5)
    for kind in ("linf", "l2", "l1"):
        BoundaryWalk(steps=1, start_radius=0.25).begin(work, space(kind, 0.5))
        assert norm(work.points - work.centres, kind).tolist() == pytest.approx([0.25] * 5, rel=1e-5)
        BoundaryWalk(steps=1).begin(work, space(kind, 0.5))
        assert torch.equal(work.points, work.centres)


def test_walks_stay_in_the_box_and_survive_a_constant_model() -> None:
    work = make_work(4, (1, 3, 3))
    spy = Spy(lambda points: torch.stack([points.flatten(1).sum(1) * 0, points.flatten(1).sum(1) * 0 - 1], 1))
    search(spy, BoundaryWalk(steps=5), margin, work, space("l2", 0.0), samples=4)
    for points in spy.asked:
        assert bool(torch.isfinite(points).all())
        assert float(points.min()) >= 0
        assert float(points.max()) <= 1
    assert bool(torch.isinf(work.state["distance"]).all())


@pytest.mark.parametrize("kind", ["linf", "l2", "l1"])
def test_the_nearest_class_is_the_one_of_smallest_linearised_distance(kind: str) -> None:
    function, classes = network(12, 5), 5
    points = make_work(7, (1, 3, 4)).centres
    labels = function(points).argmax(1)
    output, value, gradient = NearestClass(Spy(function), classes, kind).value_and_gradient(points, margin, labels)
    assert torch.allclose(output, function(points), atol=1e-6)
    for row in range(7):
        options = []
        for target in set(range(classes)) - {int(labels[row])}:
            leaf = points[row : row + 1].clone().requires_grad_(True)
            gap = targeted_margin(function(leaf), torch.tensor([[int(labels[row]), target]]), 0)
            (slope,) = torch.autograd.grad(gap.sum(), leaf)
            gap = gap.detach()
            options.append((float(gap.abs() / dual_norm(slope, kind)), float(gap), slope))
        _, gap, slope = min(options, key=lambda option: option[0])
        assert float(value[row]) == pytest.approx(gap, abs=1e-5)
        assert torch.allclose(gradient[row : row + 1], slope, atol=1e-5)
