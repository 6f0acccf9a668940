"""Square: what is proposed, what is kept, and how often the model is asked."""

from __future__ import annotations

import math

import pytest
import torch

from assay.search.engine import search
from assay.search.objectives import margin
from assay.search.patches import Patches, _two_lobes, patch_side
from assay.tensors.norms import norm

from .toys import Spy, make_work, network, space

EPS = {"linf": 0.1, "l2": 0.5, "l1": 2.0}
SHAPES = [(1, 8, 8), (3, 6, 6), (2, 5, 9), (1, 9, 4), (1, 1, 1), (3, 2, 7)]


def run(norm_name: str, shape: tuple[int, ...], queries: int, count: int = 6, function=None, middle: bool = False):
    """Square on a toy: the spy, and the work as it was left."""
    work = make_work(count, shape)
    if middle:
        work.centres = torch.full_like(work.centres, 0.5)
    spy = Spy(function or network(math.prod(shape), 3))
    where = space(norm_name, EPS[norm_name])
    rule = Patches(queries=queries)
    search(spy, rule, margin, work, where, samples=count)
    return spy, work, rule, where


def test_sides_follow_the_published_schedule() -> None:
    steps = (0, 10, 11, 50, 51, 200, 201, 500, 501, 1000, 1001, 2000, 2001, 4000, 4001, 6000, 6001, 8000, 8001)
    shares = (1, 1, 2, 2, 4, 4, 8, 8, 16, 16, 32, 32, 64, 64, 128, 128, 256, 256, 512)
    for step, share in zip(steps, shares, strict=True):
        assert patch_side(step, 32, 32, 0.8, odd=False) == max(1, round(math.sqrt(0.8 / share) * 32))
    assert patch_side(0, 3, 32, 1.0, odd=False) == 3
    for step in steps:
        side = patch_side(step, 32, 32, 0.8, odd=True)
        assert side >= 3
        assert side % 2 == 1


@pytest.mark.parametrize("kind", ["linf", "l2", "l1"])
@pytest.mark.parametrize("shape", [*SHAPES, (12,), (1,)])
def test_every_query_is_feasible_and_the_best_only_rises(kind: str, shape: tuple[int, ...]) -> None:
    queries = 90
    spy, work, rule, where = run(kind, shape, queries)
    assert len(spy.asked) == queries
    values = torch.stack([margin(spy.function(points), work.reference, 0) for points in spy.asked])
    for points in spy.asked:
        assert points.shape == work.centres.shape
        assert bool((norm(points - work.centres, kind) <= EPS[kind] * (1 + 1e-5)).all())
        assert float(points.min()) + 1e-6 >= 0
        assert float(points.max()) <= 1 + 1e-6
    best = margin(spy.function(rule.finalists(work, where)), work.reference, 0)
    assert torch.allclose(best, values[:-1].amax(0), atol=1e-6)


@pytest.mark.parametrize("kind", ["linf", "l2", "l1"])
def test_it_climbs(kind: str) -> None:
    spy, work, rule, where = run(kind, (1, 8, 8), 300)
    start = margin(spy.function(spy.asked[0]), work.reference, 0)
    assert bool((margin(spy.function(rule.finalists(work, where)), work.reference, 0) > start).all())


def windows(kind: str, shape: tuple[int, int, int], queries: int, count: int) -> torch.Tensor:
    """What each proposal changed, when nothing is ever accepted: [queries, count, H, W] bool."""
    calls = []

    def flat(points: torch.Tensor) -> torch.Tensor:
        calls.append(1)
        return torch.tensor([0.0, -float(len(calls))]).repeat(len(points), 1)

    spy, _, _, _ = run(kind, shape, queries, count, flat, middle=True)
    start = spy.asked[0]
    return torch.stack([(points != start).any(1) for points in spy.asked[1:]])


def test_windows_reach_every_place_the_last_row_and_column_included() -> None:
    changed = windows("linf", (24, 6, 9), 60, 64)  # with many channels no column keeps all its signs
    sides = [patch_side(step, 6, 9, 0.8, odd=False) for step in range(59)]
    seen: dict[int, set[tuple[int, int]]] = {}
    for step, side in enumerate(sides):
        for mask in changed[step]:
            if not bool(mask.any()):
                continue
            rows, columns = mask.any(1).nonzero()[:, 0], mask.any(0).nonzero()[:, 0]
            assert len(rows) == len(columns) == side
            assert bool(mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].all())
            seen.setdefault(side, set()).add((int(rows[0]), int(columns[0])))
    for side, places in seen.items():
        assert places == {(row, column) for row in range(6 - side + 1) for column in range(9 - side + 1)}


@pytest.mark.parametrize("kind", ["l2", "l1"])
def test_two_windows_change_and_the_length_stays(kind: str) -> None:
    spy, work, _, _ = run(kind, (2, 12, 12), 110, middle=True)
    for points in spy.asked:
        assert norm(points - work.centres, kind).tolist() == pytest.approx([EPS[kind]] * 6, rel=2e-5)
    last = (windows(kind, (2, 12, 12), 110, 8)[-1]).flatten(1).sum(1)
    assert bool((last <= 2 * patch_side(108, 12, 12, 0.8, odd=True) ** 2).all())


@pytest.mark.parametrize("kind", ["l2", "l1"])
@pytest.mark.parametrize("side", [1, 2, 3, 5, 11])
def test_the_pattern_has_unit_norm_and_two_lobes(kind: str, side: int) -> None:
    pattern = _two_lobes(side, kind)
    assert float(norm(pattern[None], kind)) == pytest.approx(1, rel=1e-6)
    if side > 1:
        assert bool((pattern[: side // 2] > 0).all())
    assert bool((pattern[side // 2 :] < 0).all())


def test_linf_start_is_vertical_stripes() -> None:
    spy, work, _, _ = run("linf", (3, 5, 7), 1, middle=True)
    start = spy.asked[0] - work.centres
    assert torch.allclose(start.abs(), torch.full_like(start, EPS["linf"]))
    assert bool((start == start[:, :, :1, :]).all())
    assert len({tuple(row) for row in start[:, :, 0, :].flatten(1).tolist()}) > 1


def test_samples_draw_their_own_windows() -> None:
    changed = windows("linf", (4, 8, 8), 20, 12)
    assert any(not bool((step == step[:1]).all()) for step in changed)
