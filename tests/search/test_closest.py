"""The boundary descent and the root search, on functions whose zeros are known."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from assay.core.errors import SettingError
from assay.search.closest import closest_points
from assay.search.root import TOLERANCE, onto_zero
from assay.tensors.norms import norm as norm_of

from .toys import Spy, make_work

BOX = (0.0, 1.0)


def first(output: Tensor, labels: Tensor) -> Tensor:
    return output[:, 0]


def ball(points: Tensor) -> Tensor:
    """Positive inside the sphere of radius 0.3 around the middle of the box."""
    return (0.09 - (points - 0.5).flatten(1).square().sum(1))[:, None]


@pytest.mark.parametrize("inside", [True, False])
def test_a_sphere_is_reached_along_the_radius_from_both_sides(inside: bool) -> None:
    ways = torch.randn(6, 1, 3, 3, generator=torch.Generator().manual_seed(0))
    ways = ways / norm_of(ways, "l2").reshape(-1, 1, 1, 1)
    radius = 0.2 if inside else 0.42
    found = closest_points(Spy(ball), first, 0.5 + radius * ways, torch.zeros(6).long(), norm="l2", bounds=BOX)
    assert bool(found.found.all())
    assert found.distance.tolist() == pytest.approx([abs(0.3 - radius)] * 6, abs=1e-5)
    torch.testing.assert_close(found.points, 0.5 + 0.3 * ways, atol=1e-4, rtol=0)
    assert found.slope.tolist() == pytest.approx([0.6] * 6, rel=1e-4)
    assert float(found.alignment.min()) > 0.9999
    assert bool((found.value <= 0).all() if inside else (found.value >= 0).all())


@pytest.mark.parametrize("kind", ["linf", "l2", "l1"])
def test_a_flat_boundary_takes_two_iterations(kind: str) -> None:
    normal = torch.tensor([1.0, -2.0, 0.5, 3.0])
    spy = Spy(lambda points: (points @ normal - 1.2)[:, None])
    centres = torch.tensor([[0.5, 0.5, 0.5, 0.6], [0.5, 0.6, 0.5, 0.4], [0.4, 0.5, 0.5, 0.5], [0.5, 0.5, 0.6, 0.5]])
    found = closest_points(spy, first, centres, torch.zeros(4).long(), norm=kind, bounds=BOX)
    slope = {"linf": 6.5, "l2": float(normal.norm()), "l1": 3.0}[kind]
    gap = (centres @ normal - 1.2).abs()
    torch.testing.assert_close(found.distance, gap / slope, atol=2e-6, rtol=2e-6)
    assert len(spy.values) <= 5


def test_a_row_depends_on_no_other_row() -> None:
    work = make_work(9, (1, 3, 3))
    weights = torch.randn(9, 12, generator=torch.Generator().manual_seed(2))

    def function(points: Tensor) -> Tensor:
        parts = [torch.tanh((row.flatten() - 0.4) @ weights).sum() for row in points]
        return torch.stack(parts)[:, None]

    together = closest_points(Spy(function), first, work.centres, work.reference, norm="linf", bounds=BOX)
    assert bool(together.found.any())
    for row in range(9):
        alone = closest_points(
            Spy(function), first, work.centres[row : row + 1], work.reference[row : row + 1], norm="linf", bounds=BOX
        )
        assert torch.equal(alone.points, together.points[row : row + 1])
        assert torch.equal(alone.alignment, together.alignment[row : row + 1])


def test_alignment_says_where_a_point_could_be_improved() -> None:
    """One iteration on a curved boundary leaves a gap that forty close."""
    generator = torch.Generator().manual_seed(4)
    first_layer, second = torch.randn(9, 16, generator=generator), torch.randn(16, 1, generator=generator)

    def function(points: Tensor) -> Tensor:
        return torch.tanh((points.flatten(1) - 0.5) @ first_layer) @ second + 0.5

    centres = 0.3 + 0.4 * torch.rand(16, 1, 3, 3, generator=generator)
    short, long = (
        closest_points(Spy(function), first, centres, torch.zeros(16).long(), norm="l2", bounds=BOX, steps=steps)
        for steps in (1, 40)
    )
    assert bool(long.found.any())
    both = short.found & long.found
    assert int(both.sum()) >= 8
    assert float(long.alignment[both].median()) > 0.999
    assert float(short.alignment[both].mean()) < float(long.alignment[both].mean())
    assert float((long.distance / short.distance)[both].median()) < 1


def test_no_rows_and_bad_settings() -> None:
    none = closest_points(Spy(ball), first, torch.empty(0, 1, 3, 3), torch.empty(0).long(), norm="l2", bounds=BOX)
    assert none.points.shape == (0, 1, 3, 3)
    assert none.found.dtype == torch.bool
    centres, labels = torch.rand(1, 4), torch.zeros(1).long()
    with pytest.raises(SettingError, match="Did you mean 'l2'"):
        closest_points(Spy(ball), first, centres, labels, norm="l2n", bounds=BOX)
    with pytest.raises(SettingError, match="steps is 0"):
        closest_points(Spy(ball), first, centres, labels, norm="l2", bounds=BOX, steps=0)


@pytest.mark.parametrize("power", [1, 3])
def test_the_root_is_confirmed_on_the_far_side_within_a_millionth(power: int) -> None:
    """h = 0.3^p - t^p along the ray: the search ends at t = 0.3 with few evaluations."""
    asked = []

    def value(points: Tensor, rows: Tensor) -> Tensor:
        asked.append(len(points))
        return 0.3**power - points[:, 0] ** power

    centres = torch.zeros(4, 2)
    points = torch.tensor([[0.9, 0.1], [0.31, 0.0], [0.2999, 0.2], [0.1, 0.0]])
    at, seen, found = onto_zero(value, centres, torch.full((4,), 0.3**power), points, BOX)
    assert found.tolist() == [True, True, True, False]
    assert bool((seen[:3] <= 0).all())
    assert float(seen[:3].abs().max()) <= max(TOLERANCE * 0.3**power, 0.9 * 2**-19)
    assert at[:3, 0].tolist() == pytest.approx([0.3] * 3, abs=5e-6)
    assert torch.equal(at[3], centres[3])
    assert sum(asked) <= 40
