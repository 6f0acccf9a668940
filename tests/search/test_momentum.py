"""APGD against a literal reading of its paper, one sample at a time, and its invariants."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from assay.search.engine import Observation, search
from assay.search.momentum import Momentum, SparseSteps, checkpoints
from assay.search.objectives import cross_entropy, difference_of_logits_ratio
from assay.tensors.norms import norm, project

from .toys import Spy, make_work, network, space

EPS = {"linf": 0.1, "l2": 0.8, "l1": 3.0}


def test_checkpoints_are_the_published_ones() -> None:
    assert checkpoints(100) == [22, 41, 57, 70, 80, 87, 93, 99]
    assert checkpoints(300)[:3] == [66, 123, 171]


@pytest.mark.parametrize("steps", [1, 2, 3, 5, 10, 20, 37])
def test_checkpoints_of_short_runs_are_increasing_steps(steps: int) -> None:
    marks = checkpoints(steps)
    assert marks == sorted(set(marks))
    assert all(1 <= mark <= steps for mark in marks)


def literal_apgd(function, centre, label, start, eps, kind, steps, objective, rho=0.75, alpha=0.75):
    """Auto-PGD as its paper writes it, for one sample, in float64; returns the iterates and the step sizes."""

    def ask(point):
        leaf = torch.tensor(point[None], requires_grad=True)
        value = objective(function(leaf), label, 0)
        (gradient,) = torch.autograd.grad(value.sum(), leaf)
        return float(value.detach()), gradient[0].numpy()

    def onto(point):
        change = point - centre
        if kind == "linf":
            change = np.clip(change, -eps, eps)
        else:
            change = change * min(1.0, eps / max(np.linalg.norm(change), 1e-30))
        return np.clip(centre + change, 0, 1)

    def direction(gradient):
        return np.sign(gradient) if kind == "linf" else gradient / np.linalg.norm(gradient)

    marks = [math.ceil(round(place * steps, 9)) for place in _places()]
    marks = [mark for mark in marks if mark <= steps]
    size, point = 2 * eps, start
    before = start
    value, gradient = ask(point)
    best, best_point, best_gradient = value, point, gradient
    values, bests, sizes, iterates = [value], [best], [size], [point]
    size_at_mark, best_at_mark, last_mark = size, best, 0
    for step in range(steps):
        share = alpha if step > 0 else 1.0
        towards = onto(point + size * direction(gradient))
        new = onto(point + share * (towards - point) + (1 - share) * (point - before))
        before, point = point, new
        value, gradient = ask(point)
        iterates.append(point)
        values.append(value)
        if value > best:
            best, best_point, best_gradient = value, point, gradient
        bests.append(best)
        if step + 1 in marks:
            mark = step + 1
            improved = sum(values[k + 1] > values[k] for k in range(last_mark, mark))
            first = improved < rho * (mark - last_mark)
            second = last_mark > 0 and size == size_at_mark and best == best_at_mark
            size_at_mark, best_at_mark, last_mark = size, best, mark
            if first or second:
                size, point, gradient = size / 2, best_point, best_gradient
            sizes.append(size)
    return iterates, sizes, bests


def _places():
    before, now = 0.0, 0.22
    while now <= 1:
        yield now
        before, now = now, now + max(now - before - 0.03, 0.06)


class Watched(Momentum):
    """The rule, with a note of every step size used and every best value."""

    def advance(self, work, space, step, seen: Observation) -> None:
        super().advance(work, space, step, seen)
        self.log.append((work.state["size"].clone(), work.state["best_value"].clone()))

    @property
    def log(self) -> list:
        return self.__dict__.setdefault("_log", [])


@pytest.mark.parametrize("kind", ["linf", "l2"])
@pytest.mark.parametrize(
    ("objective", "rho"), [(cross_entropy, 0.75), (difference_of_logits_ratio, 0.75), (cross_entropy, 0.05)]
)
def test_iterates_are_those_of_the_literal_algorithm(kind: str, objective, rho: float) -> None:
    function = network(12, 5)
    labels = torch.tensor([0, 1, 2, 3, 4, 0])
    work = make_work(6, (1, 3, 4), labels)
    work.centres, centres = work.centres.double(), work.centres.double()
    steps = 60
    spy = Spy(lambda points: function64(points))

    def function64(points):
        return _double(function, points)

    search(spy, Momentum(steps=steps, rho=rho), objective, work, space(kind, EPS[kind]), samples=6)
    halvings = 0
    for sample in range(6):
        found = [asked[sample].flatten().numpy() for asked in spy.asked]
        expected, sizes, _ = literal_apgd(
            function64,
            centres[sample].flatten().numpy(),
            labels[sample : sample + 1],
            found[0],
            EPS[kind],
            kind,
            steps,
            objective,
            rho,
        )
        halvings += len(set(sizes)) - 1
        assert len(found) == len(expected) == steps + 1
        for step, (mine, theirs) in enumerate(zip(found, expected, strict=True)):
            assert mine == pytest.approx(theirs, abs=1e-6), f"sample {sample}, step {step}"
    assert halvings > 3


def _double(function, points):
    weights = [cell.cell_contents.double() for cell in function.__closure__]
    first, second = weights
    return torch.tanh((points.flatten(1) - 0.5) @ first) @ second


@pytest.mark.parametrize("kind", ["linf", "l2"])
def test_steps_halve_bests_rise_and_points_stay_inside(kind: str) -> None:
    eps, rule = EPS[kind], Watched(steps=40)
    work = make_work(9, (2, 4, 3))
    centres = work.centres.clone()
    spy = Spy(network(24, 4))
    search(spy, rule, cross_entropy, work, space(kind, eps), samples=9)
    sizes = torch.stack([size for size, _ in rule.log])
    halvings = torch.log2(2 * eps / sizes)
    assert torch.allclose(halvings, halvings.round(), atol=1e-5)
    assert bool((sizes.diff(dim=0) <= 0).all())
    bests = torch.stack([best for _, best in rule.log])
    assert bool((bests.diff(dim=0) >= 0).all())
    for points in spy.asked:
        assert bool((norm(points - centres, kind) <= eps * (1 + 1e-5)).all())
        assert float(points.min()) >= 0
        assert float(points.max()) <= 1
    assert len(spy.asked) == 41


@pytest.mark.parametrize("kind", ["linf", "l2"])
def test_the_start_lies_on_the_sphere_before_the_box_cuts_it(kind: str) -> None:
    work = make_work(20, (1, 4, 4))
    work.centres = torch.full_like(work.centres, 0.5)
    where = space(kind, 0.2)
    Momentum(steps=5).begin(work, where)
    assert norm(work.points - work.centres, kind).tolist() == pytest.approx([0.2] * 20, rel=1e-5)


@pytest.mark.parametrize("steps", [1, 2, 3, 10, 25, 100])
def test_l1_goes_through_larger_radii_and_ends_inside(steps: int) -> None:
    eps, rule = 1.5, SparseSteps(steps=steps)
    work = make_work(5, (1, 6, 6))
    centres = work.centres.clone()
    spy = Spy(network(36, 4))
    search(spy, rule, cross_entropy, work, space("l1", eps), samples=5)
    assert len(spy.asked) == steps + 1
    for step, points in enumerate(spy.asked):
        radius = rule.stage(step)[1] * eps
        assert bool((norm(points - centres, "l1") <= radius * (1 + 1e-5)).all())
        assert float(points.min()) + 1e-6 >= 0
        assert float(points.max()) <= 1 + 1e-6
    assert bool((norm(rule.finalists(work, space("l1", eps)) - centres, "l1") <= eps * (1 + 1e-5)).all())
    if steps == 100:
        assert [rule.stage(step)[1] for step in (0, 29, 30, 59, 60, 100)] == [3, 3, 2, 2, 1, 1]


def test_l1_steps_are_those_of_the_literal_algorithm() -> None:
    """Auto-PGD for L1 as its paper writes it, for one sample at a time."""
    steps, eps = 50, 1.5
    function = network(36, 4)
    labels = torch.tensor([0, 1, 2, 3])
    work = make_work(4, (36,), labels)
    work.centres, centres = work.centres.double(), work.centres.double()

    def function64(points):
        return _double(function, points)

    spy = Spy(function64)
    search(spy, SparseSteps(steps=steps), cross_entropy, work, space("l1", eps), samples=4)
    for sample in range(4):
        found = torch.stack([asked[sample] for asked in spy.asked])
        expected = literal_sparse(function64, centres[sample], labels[sample : sample + 1], found[0], eps, steps)
        worst = (found - torch.stack(expected)).abs().amax(1)
        assert float(worst.max()) < 1e-6, f"sample {sample}, step {int((worst > 1e-6).nonzero()[0])}"


def literal_sparse(function, centre, label, start, eps, steps):
    def ask(point):
        leaf = point[None].clone().requires_grad_(True)
        value = cross_entropy(function(leaf), label, 0)
        return float(value.detach()), torch.autograd.grad(value.sum(), leaf)[0][0]

    def onto(point, radius):
        return project(point[None], centre[None], radius, "l1", (0, 1))[0]

    early = math.ceil(0.3 * steps)
    plan = [(3 * eps, early), (2 * eps, early), (eps, steps - 2 * early)]
    iterates, point, dimension = [], start, len(centre)
    for place, (radius, length) in enumerate(plan):
        every = max(1, int(0.04 * length))
        size = radius
        changed = int((point != centre).sum())
        share = 0.2 if place == 0 else changed / dimension / 1.5
        before = dimension if place == 0 else changed
        value, gradient = ask(point)
        best, best_point, best_gradient = value, point, gradient
        iterates.append(point)
        last_stage = place + 1 == len(plan)
        for step in range(length if last_stage else length - 1):
            threshold = gradient.abs().sort().values[min(max(int((1 - share) * dimension), 0), dimension - 1)]
            way = torch.where(gradient.abs() >= threshold, gradient.sign(), 0.0)
            point = onto(point + size * way / (way.abs().sum() + 1e-10), radius)
            value, gradient = ask(point)
            iterates.append(point)
            if value > best:
                best, best_point, best_gradient = value, point, gradient
            if (step + 1) % every == 0:
                changed = int((best_point != centre).sum())
                if changed / before < 0.95:
                    size, point, gradient = radius, best_point, best_gradient
                else:
                    size = min(max(size / 1.5, radius / 10), radius)
                share, before = changed / dimension / 1.5, changed
        if not last_stage:
            point = onto(best_point, plan[place + 1][0])
    return iterates
