"""Norms and projections against references that are slow and obvious."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import brentq, linprog

from assay.tensors.norms import dual_norm, norm, project, step_onto_hyperplane
from assay.tensors.random import uniform

KINDS = ("linf", "l2", "l1")
BOX = (0.0, 1.0)
values = st.floats(-3, 3, width=32)
inside = st.one_of(st.sampled_from([0.0, 1.0]), st.floats(0, 1, width=32))


@st.composite
def cases(draw: Callable, size: int = 8) -> tuple[np.ndarray, np.ndarray]:
    """A centre in the box, some coordinates on its walls, and arbitrary values beside it."""
    count = draw(st.integers(1, size))
    centre = draw(st.lists(inside, min_size=count, max_size=count))
    other = draw(st.lists(st.one_of(st.just(0.0), values), min_size=count, max_size=count))
    return np.array(centre), np.array(other)


def row(values: np.ndarray) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float32)[None]


def length(values: np.ndarray, kind: str) -> float:
    return float(np.linalg.norm(values, {"linf": np.inf, "l2": 2, "l1": 1}[kind]))


@pytest.mark.parametrize("kind", KINDS)
def test_norms_are_those_of_numpy(kind: str) -> None:
    points = torch.randn(5, 2, 3, 4, generator=torch.Generator().manual_seed(0))
    expected = [length(point.flatten().numpy(), kind) for point in points]
    assert norm(points, kind).numpy() == pytest.approx(expected, rel=1e-6)


@given(cases())
def test_dual_norm_bounds_linear_functionals(case: tuple[np.ndarray, np.ndarray]) -> None:
    first, second = case
    for kind in KINDS:
        bound = float(dual_norm(row(second), kind)[0]) * length(first, kind)
        assert abs(float(first @ second)) <= bound * (1 + 1e-5) + 1e-5


def test_norms_of_long_rows_are_summed_in_float64() -> None:
    points = uniform(torch.arange(4), (50_000,))
    for kind, order in (("l1", 1), ("l2", 2)):
        exact = np.linalg.norm(points.double().numpy(), order, axis=1).astype(np.float32)
        assert norm(points, kind).tolist() == exact.tolist()


@given(cases(), st.sampled_from(KINDS), st.floats(0, 4, width=32))
def test_projections_are_feasible_and_leave_feasible_points_alone(
    case: tuple[np.ndarray, np.ndarray], kind: str, eps: float
) -> None:
    centre, change = row(case[0]), row(case[1])
    point = project(centre + change, centre, eps, kind, BOX)
    assert float(norm(point - centre, kind)) <= eps * (1 + 1e-5) + 1e-6
    assert float(point.min()) >= -1e-7
    assert float(point.max()) <= 1 + 1e-7
    again = project(point, centre, eps, kind, BOX)
    assert torch.allclose(again, point, atol=2e-6)


@given(cases(), st.floats(0.015625, 4, width=32))
def test_l1_projection_is_the_nearest_feasible_point(case: tuple[np.ndarray, np.ndarray], eps: float) -> None:
    """Against bisection on the multiplier of the ball, coordinate by coordinate."""
    centre, change = case
    found = (project(row(centre + change), row(centre), eps, "l1", BOX)[0] - row(centre)[0]).double().numpy()

    def shrunk(level: float) -> np.ndarray:
        soft = np.sign(change) * np.maximum(np.abs(change) - level, 0)
        return np.clip(centre + soft, 0, 1) - centre

    if np.abs(shrunk(0)).sum() <= eps:
        expected = shrunk(0)
    else:
        expected = shrunk(brentq(lambda level: np.abs(shrunk(level)).sum() - eps, 0, 10, xtol=1e-14))
    assert found == pytest.approx(expected, abs=5e-6)


@given(cases(6), st.floats(0.0625, 3, width=32), st.integers(0, 2**31))
def test_no_feasible_point_is_nearer_than_the_l1_projection(
    case: tuple[np.ndarray, np.ndarray], eps: float, seed: int
) -> None:
    """A projection p of y onto a convex set: <y - p, q - p> <= 0 for every q in the set."""
    centre, change = case
    point = project(row(centre + change), row(centre), eps, "l1", BOX)[0].double().numpy()
    draws = np.random.default_rng(seed).dirichlet(np.ones(len(centre)), size=200) * eps
    signs = np.random.default_rng(seed + 1).choice([-1, 1], size=draws.shape)
    feasible = np.clip(centre + draws * signs, 0, 1)
    assert float(((feasible - point) @ (centre + change - point)).max()) <= 2e-5


def smallest_move(point: np.ndarray, normal: np.ndarray, offset: float, kind: str) -> float | None:
    """min ||d|| with <w, d> = -offset in the box: linear programs, and a bisection for L2. None if out of reach."""
    count = len(point)
    if kind == "l2":
        sign = np.sign(offset) or 1.0

        def move(level: float) -> np.ndarray:
            return np.clip(point - sign * level * normal, 0, 1) - point

        def left(level: float) -> float:
            return float(abs(offset) + sign * normal @ move(level))

        far = 2 / max(np.abs(normal)[normal != 0].min(initial=1.0), 1e-9)
        if left(far) > 1e-9:
            return None
        return length(move(brentq(left, 0, far, xtol=1e-13)), "l2")
    low, high = -point, 1 - point
    if kind == "l1":
        cost = np.ones(2 * count)
        equal = np.concatenate([normal, -normal])[None]
        limits = [(0, h) for h in high] + [(0, -lo) for lo in low]
        answer = linprog(cost, A_eq=equal, b_eq=[-offset], bounds=limits)
    else:
        cost = np.zeros(count + 1)
        cost[-1] = 1
        caps = np.block([[np.eye(count), -np.ones((count, 1))], [-np.eye(count), -np.ones((count, 1))]])
        equal = np.concatenate([normal, [0]])[None]
        limits = [*zip(low, high, strict=True), (0, 1)]
        answer = linprog(cost, A_ub=caps, b_ub=np.zeros(2 * count), A_eq=equal, b_eq=[-offset], bounds=limits)
    return float(answer.fun) if answer.status == 0 else None


grid = st.integers(-6, 6).map(lambda step: step / 4)


@given(
    st.lists(st.tuples(st.integers(0, 8).map(lambda step: step / 8), grid), min_size=1, max_size=6),
    st.integers(-40, 40).map(lambda step: step / 8 + 1 / 64),
    st.sampled_from(KINDS),
)
def test_hyperplane_steps_are_the_smallest_in_the_box(
    pairs: list[tuple[float, float]], offset: float, kind: str
) -> None:
    point, normal = (np.array(column) for column in zip(*pairs, strict=True))
    move = step_onto_hyperplane(row(point), row(normal), torch.tensor([offset]), kind, BOX)[0].double().numpy()
    assert (point + move).min() >= -1e-6
    assert (point + move).max() <= 1 + 1e-6
    expected = smallest_move(point, normal, offset, kind)
    if expected is None:
        useful = np.where(normal * np.sign(offset) > 0, -point, 1 - point)
        assert move == pytest.approx(np.where(normal == 0, 0, useful), abs=1e-6)
        return
    assert float(normal @ move) == pytest.approx(-offset, abs=1e-5)
    assert length(move, kind) == pytest.approx(expected, abs=1e-5)


def test_l2_step_without_active_walls_is_along_the_normal() -> None:
    normal, point = torch.tensor([[3.0, -4.0, 0.0]]), torch.full((1, 3), 0.5)
    move = step_onto_hyperplane(point, normal, torch.tensor([1.0]), "l2", BOX)
    assert torch.allclose(move, -normal / 25, atol=1e-7)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("offset", [0.0, 0.5, -0.5])
def test_a_zero_normal_moves_nothing(kind: str, offset: float) -> None:
    point = torch.tensor([[0.0, 0.5, 1.0]])
    move = step_onto_hyperplane(point, torch.zeros(1, 3), torch.tensor([offset]), kind, BOX)
    assert bool((move == 0).all())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("scale", [1e-30, 1e-25, 1e-15, 1e15, 1e30])
def test_hyperplane_steps_do_not_depend_on_the_scale_of_the_equation(kind: str, scale: float) -> None:
    """Gradients of saturated models are tiny, and their squares underflow."""
    point = torch.tensor([[0.5, 0.4, 0.9]])
    normal, offset = torch.tensor([[1.0, -2.0, 0.5]]), torch.tensor([0.3])
    plain = step_onto_hyperplane(point, normal, offset, kind, BOX)
    scaled = step_onto_hyperplane(point, normal * scale, offset * scale, kind, BOX)
    assert torch.allclose(plain, scaled, atol=1e-6)


def test_hyperplane_steps_are_right_when_many_walls_are_met_one_after_another() -> None:
    """Geometric normals make Newton's iteration pass one breakpoint at a time."""
    normal = torch.tensor([[2.0**-place for place in range(40)]])
    point = torch.ones(1, 40)
    need = float(normal.sum()) - 2.0**-36
    move = step_onto_hyperplane(point, normal, torch.tensor([need]), "l2", BOX)
    assert float((normal * move).double().sum()) == pytest.approx(-need, abs=1e-6)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("width", [7, 64, 3072])
def test_a_row_does_not_depend_on_the_rows_beside_it(kind: str, width: int) -> None:
    seeds = torch.arange(40)
    centres = uniform(seeds, (width,))
    noise, normals = (2 * uniform(seeds, (width,), stream) - 1 for stream in (1, 2))
    offsets = (uniform(seeds, (1,), 3)[:, 0] - 0.5) * width / 8
    results = [
        norm(noise, kind),
        project(centres + noise, centres, 0.3, kind, BOX),
        step_onto_hyperplane(centres, normals, offsets, kind, BOX),
    ]
    for part in (slice(0, 1), slice(3, 16), slice(39, 40)):
        alone = [
            norm(noise[part], kind),
            project(centres[part] + noise[part], centres[part], 0.3, kind, BOX),
            step_onto_hyperplane(centres[part], normals[part], offsets[part], kind, BOX),
        ]
        for whole, piece in zip(results, alone, strict=True):
            assert torch.equal(whole[part], piece)
