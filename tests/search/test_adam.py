"""Adam and AdamW on inputs: torch's own optimisers between projections, ball and box, and rows that stand alone."""

from __future__ import annotations

import pytest
import torch

from assay.search.adam import Adam
from assay.search.engine import search

from .toys import Spy, make_work, network, space


def quadratic(points: torch.Tensor) -> torch.Tensor:
    """One number a row, smallest at .3, much steeper in some directions."""
    steep = torch.linspace(0.1, 40, points[0].numel(), dtype=points.dtype)
    return ((points.flatten(1) - 0.3).square() * steep).sum(1, keepdim=True)


def down(output: torch.Tensor, reference: torch.Tensor, step: int) -> torch.Tensor:
    return -output[:, 0]


@pytest.mark.parametrize(
    ("rule", "optimiser", "options"),
    [
        (Adam(steps=25, learning_rate=0.05), torch.optim.Adam, {}),
        (Adam(steps=25, learning_rate=0.05, weight_decay=0.3), torch.optim.AdamW, {"weight_decay": 0.3}),
        (
            Adam(steps=25, learning_rate=0.02, weight_decay=0.3, decoupled=False, betas=(0.8, 0.9)),
            torch.optim.Adam,
            {"weight_decay": 0.3, "betas": (0.8, 0.9)},
        ),
    ],
)
def test_without_a_boundary_the_iterates_are_torchs(rule: Adam, optimiser, options) -> None:
    work = make_work(3, (2, 3))
    work.centres = work.centres.double()
    theirs = work.centres.clone().requires_grad_(True)
    other = optimiser([theirs], lr=rule.learning_rate, **options)
    spy = Spy(quadratic)
    wide = space("linf", 100.0)
    wide = type(wide)(wide.threat, (-100.0, 100.0))
    search(spy, rule, down, work, wide, samples=3)
    assert len(spy.asked) == 26
    for points in spy.asked:
        assert torch.allclose(points, theirs.detach(), atol=1e-9)
        other.zero_grad()
        quadratic(theirs).sum().backward()
        other.step()


def test_weight_decay_pulls_towards_its_origin() -> None:
    flat = Spy(lambda points: points.flatten(1)[:, :1] * 0)
    work = make_work(2, (1, 2))
    started = work.centres.clone()
    search(
        flat, Adam(steps=1, learning_rate=0.5, weight_decay=0.1, origin=0.5), down, work, space("linf", 1), samples=2
    )
    assert torch.allclose(flat.asked[1], started - 0.05 * (started - 0.5))


def test_every_point_lies_in_ball_and_box_and_the_objective_rises() -> None:
    work = make_work(6, (1, 4, 4))
    centres = work.centres.clone()
    spy = Spy(network(16, 1))
    search(spy, Adam(steps=20, learning_rate=0.05), down, work, space("linf", 0.1), samples=6)
    for points in spy.asked:
        assert float((points - centres).abs().max()) <= 0.1 + 1e-6
        assert float(points.min()) >= 0
        assert float(points.max()) <= 1
    assert bool((spy.values[-1] > spy.values[0]).all())


def test_given_points_are_the_start_after_a_projection() -> None:
    work = make_work(4, (3,))
    work.points = work.centres + torch.tensor([0.05, -0.3, 0.3])
    expected = space("linf", 0.1).project(work.points, work.centres)
    spy = Spy(quadratic)
    search(spy, Adam(steps=2, learning_rate=0.01), down, work, space("linf", 0.1), samples=4)
    assert torch.equal(spy.asked[0], expected)


def test_a_row_goes_its_way_whatever_its_neighbours_and_whoever_has_left() -> None:
    function = network(12, 1)

    def run(rows: list[int], stop: float) -> torch.Tensor:
        work = make_work(9, (3, 4))
        work.centres, work.reference, work.seeds = work.centres[rows], work.reference[rows], work.seeds[rows]
        work.owner = torch.arange(len(rows))
        return search(
            Spy(function), Adam(steps=15, learning_rate=0.03), down, work, space("linf", 0.2), samples=len(rows),
            decision=lambda output, reference: output[:, 0] - stop,
        ).points  # fmt: skip

    for stop in (-torch.inf, -0.3):
        together = run(list(range(9)), stop)
        for row in (0, 4, 8):
            assert torch.allclose(run([row], stop)[0], together[row], atol=1e-6)
