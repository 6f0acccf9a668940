"""Closest boundary points of whole models: closed forms, defined results, and a target left as it was."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from assay import Classification, Target
from assay.boundary import closest_boundary_points, soft_margin
from assay.core.errors import DataError, ModelError, SettingError
from assay.subjects.networks import build_network
from assay.tensors.norms import norm as norm_of

NORMS = ("linf", "l2")


def linear(weights: Tensor, bias: Tensor) -> Target:
    layer = nn.Linear(weights.shape[1], len(weights))
    with torch.no_grad():
        layer.weight.copy_(weights)
        layer.bias.copy_(bias)
    return Target(nn.Sequential(nn.Flatten(), layer).eval(), task=Classification(len(weights)))


def exact(normal: Tensor, value: Tensor, centres: Tensor, kind: str) -> tuple[Tensor, Tensor]:
    """The smallest moves in the unit box onto value + <normal, move> = 0, by bisection in float64; inf out of reach."""
    normal, value, x = normal.double(), value.double(), centres.flatten(1).double()
    way = -normal.sign() * value.sign()[:, None]
    room = torch.where(way > 0, 1 - x, x)

    def move(level: Tensor) -> Tensor:
        reach = level[:, None] * (normal.abs() if kind == "l2" else torch.ones_like(normal))
        return way * torch.minimum(reach, room) * (normal != 0)

    low, high = torch.zeros_like(value), torch.full_like(value, 1e6)
    for _ in range(200):
        middle = (low + high) / 2
        over = (value + (normal * move(middle)).sum(1)) * value.sign() <= 0
        low, high = torch.where(over, low, middle), torch.where(over, middle, high)
    moves = move(high)
    distance = moves.abs().amax(1) if kind == "linf" else moves.norm(dim=1)
    return moves, torch.where((value + (normal * moves).sum(1)) * value.sign() > 1e-9, torch.inf, distance)


@pytest.mark.parametrize("kind", NORMS)
@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), spread=st.sampled_from([0.02, 0.5]))
def test_two_classes_of_a_linear_model_have_the_closed_form_from_both_sides(
    kind: str, seed: int, spread: float
) -> None:
    generator = torch.Generator().manual_seed(seed)
    weights = torch.randn(2, 12, generator=generator)
    x = (0.5 + spread * (2 * torch.rand(7, 1, 3, 4, generator=generator) - 1)).clamp(0, 1)
    difference = weights[0] - weights[1]
    bias = torch.tensor([float(-0.5 * difference.sum() + 0.3 * torch.randn((), generator=generator)), 0.0])
    labels = torch.tensor([0, 1] * 4)[:7]
    found = closest_boundary_points(linear(weights, bias), x, labels, norm=kind)
    sign = torch.where(labels == 0, 1.0, -1.0)
    value = sign * ((x.flatten(1) @ difference) + bias[0])
    moves, distance = exact(sign[:, None] * difference, value, x, kind)
    reachable = torch.isfinite(distance) & (value.abs() > 1e-3)
    assert torch.equal(found.found[reachable], torch.ones(int(reachable.sum()), dtype=torch.bool))
    assert torch.equal(found.found | torch.isinf(found.distance), torch.ones(7, dtype=torch.bool))
    signed = torch.where(value < 0, -distance, distance)
    torch.testing.assert_close(found.signed_margin[reachable].double(), signed[reachable], atol=1e-5, rtol=1e-5)
    if kind == "l2":
        moved = (found.points - x).flatten(1).double()
        torch.testing.assert_close(moved[reachable], moves[reachable], atol=1e-5, rtol=0)
    slope = difference.abs().sum() if kind == "linf" else difference.norm()
    torch.testing.assert_close(found.slope[reachable], slope.expand(int(reachable.sum())), rtol=1e-5, atol=0)
    assert float(found.alignment[reachable].min()) > 1 - 1e-4
    assert float(found.residual[reachable].max()) < 1e-5


@pytest.mark.parametrize("kind", NORMS)
@pytest.mark.parametrize("classes", [3, 10])
def test_the_exact_margin_of_several_linear_classes_is_that_of_the_nearest_face(kind: str, classes: int) -> None:
    generator = torch.Generator().manual_seed(classes)
    weights, bias = torch.randn(classes, 16, generator=generator), torch.zeros(classes)
    x = torch.rand(24, 1, 4, 4, generator=generator)
    target = linear(weights, bias)
    logits = target.logits(x)
    labels = logits.argmax(1)
    found = closest_boundary_points(target, x, labels, norm=kind, temperature=math.inf)
    faces = []
    for other in range(classes):
        gap = logits.gather(1, labels[:, None])[:, 0] - logits[:, other]
        distance = exact(weights[labels] - weights[other], gap, x, kind)[1]
        faces.append(torch.where(labels == other, torch.inf, distance))
    nearest = torch.stack(faces).amin(0)
    torch.testing.assert_close(found.distance.double(), nearest, atol=1e-5, rtol=1e-5)
    assert bool(found.correct.all())


@pytest.mark.parametrize("kind", NORMS)
def test_a_small_network_ends_on_its_boundary_beyond_the_linearised_bound(kind: str) -> None:
    target, x, labels = _network()
    found = closest_boundary_points(target, x, labels, norm=kind)
    clean = soft_margin(target.logits(x), labels)
    assert torch.equal(found.clean_value, clean)
    assert bool(found.found.all())
    assert bool((clean < 0).any())
    assert torch.equal(found.signed_margin < 0, clean < 0)
    there = soft_margin(target.logits(found.points), labels)
    assert torch.equal(found.residual, there.abs())
    assert float((found.residual / clean.abs()).max()) < 1e-5
    torch.testing.assert_close(norm_of(found.points - x, kind), found.distance)
    assert bool((there * clean <= 0).all())
    assert float(found.points.min()) >= 0
    assert float(found.points.max()) <= 1
    assert bool(((found.alignment >= 0) & (found.alignment <= 1)).all())
    assert float(found.alignment.median()) > 0.9


@pytest.mark.parametrize("kind", NORMS)
def test_the_batch_size_changes_nothing(kind: str) -> None:
    target, x, labels = _network(count=64)
    results = [closest_boundary_points(target, x, labels, norm=kind, batch_size=size) for size in (1, 37, 256)]
    for other in results[1:]:
        for name in ("points", "distance", "residual", "slope", "alignment"):
            assert torch.equal(getattr(results[0], name), getattr(other, name)), name
    single = closest_boundary_points(target, x[:1], labels[:1], norm=kind)
    assert torch.equal(single.points, results[0].points[:1])


def test_the_target_is_left_as_it_was() -> None:
    target, x, labels = _network(count=4)
    model = target.model
    assert isinstance(model, nn.Module)
    model.train()
    before, random = {k: v.clone() for k, v in model.state_dict().items()}, torch.get_rng_state()
    closest_boundary_points(target, x, labels)
    assert model.training
    assert torch.equal(torch.get_rng_state(), random)
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name])
    assert all(parameter.grad is None and parameter.requires_grad for parameter in model.parameters())


def test_on_the_boundary_already_is_distance_zero() -> None:
    target = linear(torch.tensor([[1.0, 0.0], [0.0, 1.0]]), torch.zeros(2))
    found = closest_boundary_points(target, torch.full((2, 1, 1, 2), 0.5), torch.tensor([0, 1]))
    assert found.found.tolist() == [True, True]
    assert found.distance.tolist() == found.residual.tolist() == found.signed_margin.tolist() == [0.0, 0.0]
    assert found.alignment.tolist() == [1.0, 1.0]


def test_a_constant_model_has_no_boundary() -> None:
    weights = torch.zeros(3, 4)
    x = torch.rand(3, 1, 2, 2, generator=torch.Generator().manual_seed(0))
    found = closest_boundary_points(linear(weights, torch.tensor([2.0, 0.0, 0.0])), x, torch.tensor([0, 1, 0]))
    assert not bool(found.found.any())
    assert found.signed_margin.tolist() == [math.inf, -math.inf, math.inf]
    assert torch.equal(found.points, x)
    assert found.residual.tolist() == [math.inf] * 3
    assert bool(found.slope.isnan().all())
    assert found.alignment.tolist() == [0.0] * 3


def test_a_model_flat_at_the_sample_is_searched_from_a_random_start() -> None:
    """A step function of the mean has no gradient anywhere; a random start on its other side brackets the step."""
    target = Target(
        lambda x: torch.stack([(x.flatten(1).mean(1) < 0.3).float(), (x.flatten(1).mean(1) >= 0.3).float()], 1),
        task=Classification(2),
    )
    x = torch.full((3, 1, 4, 4), 0.1)
    found = closest_boundary_points(target, x, torch.zeros(3, dtype=torch.int64), seed=1)
    assert bool(found.found.all())
    assert bool((target.logits(found.points).argmax(1) == 1).all())
    again = closest_boundary_points(target, x, torch.zeros(3, dtype=torch.int64), seed=1)
    assert torch.equal(found.points, again.points)
    other = closest_boundary_points(target, x, torch.zeros(3, dtype=torch.int64), seed=2)
    assert not torch.equal(found.points, other.points)


@pytest.mark.parametrize("kind", NORMS)
def test_saturated_logits_change_no_distance(kind: str) -> None:
    generator = torch.Generator().manual_seed(5)
    weights, x = torch.randn(2, 9, generator=generator), torch.rand(6, 1, 3, 3, generator=generator)
    labels = torch.tensor([0, 1, 0, 1, 0, 1])
    bias = -(weights * 0.5).sum(1)
    plain = closest_boundary_points(linear(weights, bias), x, labels, norm=kind)
    sharp = closest_boundary_points(linear(1e4 * weights, 1e4 * bias), x, labels, norm=kind)
    assert bool(sharp.found.all())
    torch.testing.assert_close(sharp.signed_margin, plain.signed_margin, atol=1e-5, rtol=1e-5)


def test_bad_input_is_named() -> None:
    target, x, labels = _network(count=2)
    with pytest.raises(SettingError, match=r"norm is 'l_inf'.*Did you mean 'linf'"):
        closest_boundary_points(target, x, labels, norm="l_inf")
    with pytest.raises(SettingError, match="temperature is 0"):
        closest_boundary_points(target, x, labels, temperature=0)
    with pytest.raises(SettingError, match="steps is 0"):
        closest_boundary_points(target, x, labels, steps=0)
    with pytest.raises(SettingError, match="batch_size is 0"):
        closest_boundary_points(target, x, labels, batch_size=0)
    with pytest.raises(SettingError, match="sample_ids"):
        closest_boundary_points(target, x, labels, sample_ids=[1, 1])
    with pytest.raises(DataError, match="Labels range"):
        closest_boundary_points(target, x, torch.tensor([0, 4]))
    with pytest.raises(DataError, match="outside the bounds"):
        closest_boundary_points(target, x + 1, labels)
    broken = Target(lambda images: images.flatten(1)[:, :4] / 0.0, task=Classification(4))
    with pytest.raises(ModelError, match="NaN or infinity"):
        closest_boundary_points(broken, x, labels)


def _network(count: int = 24) -> tuple[Target, Tensor, Tensor]:
    torch.manual_seed(0)
    network = build_network("small-cnn", in_channels=1, num_classes=4, image_size=8).eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.mul_(2)
    target = Target(network, task=Classification(4))
    x = torch.rand(count, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    labels = target.logits(x).topk(2, dim=1).indices[torch.arange(count), torch.arange(count) % 2]
    return target, x, labels
