from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from assay.search.ascent import ProjectedGradient
from assay.search.engine import Work
from assay.search.momentum import Momentum, SparseSteps
from assay.search.objectives import cross_entropy
from assay.search.radii import stages, through_radii
from assay.search.strongest import From, larger, strongest
from assay.tensors.norms import norm

from .toys import Spy, make_work, network, space

COUNT, SHAPE = 5, (2, 4)


def by_value(output: Tensor, reference: Tensor, value: Tensor) -> Tensor:
    return value[:, None]


def labels_of(function, work: Work) -> Tensor:
    return function(work.centres).argmax(1)


@given(
    st.lists(
        st.tuples(
            st.tuples(st.integers(-2, 2), st.integers(-2, 2), st.integers(-2, 2)),
            st.tuples(st.integers(-2, 2), st.integers(-2, 2), st.integers(-2, 2)),
        ),
        min_size=1,
        max_size=8,
    )
)
@settings(max_examples=60, deadline=None)
def test_rows_compare_as_tuples_do(pairs) -> None:
    left, right = (torch.tensor([pair[side] for pair in pairs], dtype=torch.float32) for side in (0, 1))
    assert larger(left, right).tolist() == [mine > other for mine, other in pairs]


@pytest.mark.parametrize(
    ("kind", "rule"),
    [
        ("linf", ProjectedGradient(steps=6, step_size=0.05)),
        ("l2", ProjectedGradient(steps=6, step_size=0.1)),
        ("linf", Momentum(steps=9)),
        ("l2", Momentum(steps=9)),
        ("l1", SparseSteps(steps=20)),
    ],
)
def test_the_point_kept_is_the_worst_that_was_looked_at_inside_the_ball(kind: str, rule) -> None:
    function = network(8, 3)
    work, place = make_work(COUNT, SHAPE), space(kind, 0.3)
    labels = labels_of(function, work)
    work.reference = labels
    centres, spy = work.centres.clone(), Spy(function)
    found = strongest(spy, rule, cross_entropy, work, place, by_value)
    assert len(spy.asked) == rule.evaluations
    assert len(spy.values) == rule.evaluations - 1, "the last point needs no gradient"
    expected = torch.full((COUNT,), -torch.inf)
    for points in spy.asked:
        value = cross_entropy(function(points), labels, 0)
        inside = place.threat.holds(points, centres, place.bounds)
        expected = torch.where(inside, torch.maximum(expected, value), expected)
    assert found.seen.all()
    torch.testing.assert_close(found.score[:, 0], expected)
    torch.testing.assert_close(cross_entropy(function(found.points), labels, 0), expected)
    assert place.threat.holds(found.points, centres, place.bounds).all()


def test_the_last_point_may_be_judged_by_another() -> None:
    function = network(8, 3)
    work, place = make_work(COUNT, SHAPE), space("linf", 0.3)
    labels = labels_of(function, work)
    work.reference = labels
    spy, asked = Spy(function), []

    def judge(points: Tensor, owner: Tensor) -> Tensor:
        asked.append(points.clone())
        return torch.tensor([[100.0], [-100.0], [100.0], [-100.0], [100.0]])

    found = strongest(spy, ProjectedGradient(steps=4, step_size=0.1), cross_entropy, work, place, by_value, judge=judge)
    assert len(spy.asked) == 4
    assert len(asked) == 1
    assert found.last.tolist() == [True, False, True, False, True]
    assert torch.equal(found.points[::2], asked[0][::2])
    value = torch.stack([cross_entropy(function(points), labels, 0) for points in spy.asked]).amax(0)
    torch.testing.assert_close(found.score[1::2, 0], value[1::2])


def test_of_equal_points_the_first_is_kept() -> None:
    work, place = make_work(3, SHAPE), space("linf", 0.2)
    spy = Spy(network(8, 3))
    found = strongest(
        spy,
        ProjectedGradient(steps=4, step_size=0.05),
        cross_entropy,
        work,
        place,
        lambda o, r, v: torch.zeros(len(v), 1),
    )
    assert torch.equal(found.points, spy.asked[0])


def test_rows_that_are_done_leave_with_their_first_such_point_and_unconfirmed_ones_go_on() -> None:
    function, count = network(8, 3), 8
    work, place = make_work(count, SHAPE), space("linf", 0.5)
    labels = labels_of(function, work)
    work.reference = labels
    spy, asked = Spy(function), []

    def done(output: Tensor, reference: Tensor) -> Tensor:
        return output.argmax(1) != reference

    def confirm(points: Tensor, owner: Tensor) -> Tensor:
        asked.append(owner.clone())
        return owner != 3  # the caller's model never agrees about one of them

    found = strongest(
        spy,
        ProjectedGradient(steps=12, step_size=0.1),
        cross_entropy,
        work,
        place,
        by_value,
        done=done,
        confirm=confirm,
    )
    sizes = [len(points) for points in spy.asked]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[-1] < count
    wrong = done(function(found.points), labels)
    broken = [row for row in range(count) if row != 3 and wrong[row]]
    assert broken
    for row in broken:
        assert sum(int((rows == row).sum()) for rows in asked) == 1
    assert sum(int((rows == 3).sum()) for rows in asked) != 1


def test_results_of_a_row_do_not_hang_on_its_neighbours() -> None:
    function = network(8, 3)
    place = space("linf", 0.4)
    rule = ProjectedGradient(steps=8, step_size=0.1)

    def run(rows: Tensor):
        work = make_work(6, SHAPE)
        work.reference = labels_of(function, work)
        work.points = work.centres
        work.take(rows)
        work.owner = torch.arange(len(rows))
        return strongest(
            Spy(function),
            rule,
            cross_entropy,
            work,
            place,
            by_value,
            done=lambda output, known: output.argmax(1) != known,
        )

    whole, part = run(torch.arange(6)), run(torch.tensor([4, 1]))
    torch.testing.assert_close(part.points, whole.points[[4, 1]])
    torch.testing.assert_close(part.score, whole.score[[4, 1]])


def test_no_rows_and_a_flat_function() -> None:
    work = make_work(4, SHAPE)
    work.points = work.centres
    work.take(torch.empty(0, dtype=torch.int64))
    place = space("linf", 0.1)
    assert strongest(Spy(network(8, 3)), Momentum(steps=3), cross_entropy, work, place, by_value).seen.tolist() == []
    flat = Spy(lambda points: points.flatten(1)[:, :3] * 0)
    found = strongest(flat, Momentum(steps=3), cross_entropy, make_work(2, SHAPE), place, by_value)
    assert found.still.tolist() == [True, True]


@given(st.integers(1, 400))
@settings(max_examples=50, deadline=None)
def test_stages_of_radii_spend_every_step(steps: int) -> None:
    plan = stages(steps)
    assert sum(count for _, count in plan) == steps
    assert all(count >= 1 for _, count in plan)
    assert [factor for factor, _ in plan] == ([2.0, 1.5, 1.0] if steps >= 3 else [1.0])


def test_a_search_through_radii_starts_wide_and_goes_on_from_the_best_point() -> None:
    function, eps = network(8, 3), 0.1
    work, place = make_work(COUNT, SHAPE), space("linf", eps)
    work.reference = labels_of(function, work)
    centres, labels, spy = work.centres.clone(), work.reference.clone(), Spy(function)
    found = through_radii(
        spy, lambda steps: Momentum(steps=steps), lambda steps: cross_entropy, work, place, by_value, steps=10
    )
    lengths = [count + 1 for _, count in stages(10)]
    assert len(spy.asked) == sum(lengths)
    reach = [float(norm(points - centres, "linf").max()) for points in spy.asked]
    assert max(reach[: lengths[0]]) > 1.5 * eps
    assert max(reach[lengths[0] : lengths[0] + lengths[1]]) <= 1.5 * eps + 1e-6
    assert max(reach[-lengths[2] :]) <= eps + 1e-6
    first = torch.stack([cross_entropy(function(points), labels, 0) for points in spy.asked[: lengths[0]]])
    best = torch.stack(spy.asked[: lengths[0]])[first.argmax(0), torch.arange(COUNT)]
    begun = spy.asked[lengths[0]]
    torch.testing.assert_close(begun, best.clamp(centres - 1.5 * eps, centres + 1.5 * eps).clamp(0, 1))
    assert place.threat.holds(found.points, centres, place.bounds).all()
    inside = torch.stack([cross_entropy(function(points), labels, 0) for points in spy.asked[-lengths[2] :]])
    torch.testing.assert_close(found.score[:, 0], inside.amax(0))


def test_a_start_that_is_given_is_projected_first() -> None:
    work, place = make_work(COUNT, SHAPE), space("l2", 0.1)
    rule = From(Momentum(steps=2), work.centres + 1)
    rule.begin(work, place)
    assert place.threat.holds(work.points, work.centres, place.bounds).all()
    assert rule.evaluations == 3
    assert rule.needs_gradient
    assert rule.stays_inside
