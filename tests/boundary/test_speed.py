"""The relative speed: closed forms, finite differences, the slow version by sample, and what is refused."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from assay.boundary import (
    check_speed,
    gradient_flow_direction,
    relative_speed,
    relative_speed_by_layer,
    soft_margin,
)
from assay.boundary.taps import CannotTap, Taps
from assay.core.errors import DataError, ModelError, SettingError
from assay.subjects.networks import build_network
from assay.subjects.target import Target
from assay.subjects.tasks import Classification, Normalize
from assay.tensors.norms import dual_norm


def randomly(model: nn.Module, seed: int = 1, size: float = 1.0) -> dict[str, Tensor]:
    """A direction for every parameter."""
    generator = torch.Generator().manual_seed(seed)
    return {
        name: size * torch.randn(value.shape, generator=generator, dtype=value.dtype)
        for name, value in model.named_parameters()
    }


def smooth_cnn(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1),
        nn.Tanh(),
        nn.Conv2d(4, 6, 3, stride=2),
        nn.Tanh(),
        nn.Flatten(),
        nn.Linear(6 * 9, 3),
    )


def by_sample(
    model: nn.Module, points: Tensor, labels: Tensor, direction: dict[str, Tensor], norm: str, temperature: float
) -> Tensor:
    """The definition, one backward pass a sample."""
    found = []
    for row in range(len(points)):
        point = points[row : row + 1].clone().requires_grad_()
        value = soft_margin(model(point), labels[row : row + 1], temperature)
        own = dict(model.named_parameters())
        gradients = torch.autograd.grad(value.sum(), [point, *own.values()], allow_unused=True)
        moved = sum(
            float((gradient * direction[name]).sum())
            for name, gradient in zip(own, gradients[1:], strict=True)
            if gradient is not None
        )
        found.append(moved / float(dual_norm(gradients[0], norm)))
    return torch.tensor(found)


# Closed forms


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
@pytest.mark.parametrize("slope", [False, True])
def test_linear_models_move_as_the_formula_says(norm: str, slope: bool) -> None:
    torch.manual_seed(3)
    model = nn.Linear(12, 2)
    points, labels = torch.rand(20, 12), torch.randint(2, (20,))
    direction = randomly(model)
    sign = 1 - 2 * labels.float()  # φ = sign * ((w_0 - w_1) x + b_0 - b_1)
    w = (model.weight[0] - model.weight[1]).detach()
    size = {"linf": w.abs().sum(), "l2": w.norm(), "l1": w.abs().max()}[norm]
    moved = points @ (direction["weight"][0] - direction["weight"][1]) + direction["bias"][0] - direction["bias"][1]
    known = size.expand(20) if slope else None
    found = relative_speed(model, points, labels, direction, norm, slope=known)
    torch.testing.assert_close(found, sign * moved / size, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("norm", "q"), [("linf", 1), ("l2", 2)])
def test_on_the_boundary_it_is_the_derivative_of_a_linear_margin(norm: str, q: int) -> None:
    torch.manual_seed(4)
    model = nn.Linear(6, 2).double()
    direction = randomly(model)
    x, y = torch.rand(8, 6, dtype=torch.float64), torch.zeros(8, dtype=torch.int64)

    def margin(t: float) -> tuple[Tensor, Tensor]:
        weight, bias = model.weight + t * direction["weight"], model.bias + t * direction["bias"]
        w, b = (weight[0] - weight[1]).detach(), (bias[0] - bias[1]).detach()
        distance = (x @ w + b) / w.norm(q)
        towards = w.sign() if q == 1 else w / w.norm()
        return distance, x - distance[:, None] * towards

    h = 1e-6
    expected = (margin(h)[0] - margin(-h)[0]) / (2 * h)
    found = relative_speed(model, margin(0.0)[1], y, direction, norm)
    assert found.dtype == torch.float64
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_it_is_the_derivative_of_the_margin_found_again(norm: str) -> None:
    """On a small network, without a box: R(θ ± hθ') by Newton's method on the conditions of a closest point."""
    model = smooth_cnn().double()
    torch.manual_seed(5)
    x, y = torch.rand(4, 1, 8, 8, dtype=torch.float64), torch.tensor([0, 1, 2, 0])
    direction = randomly(model, size=0.1)

    def closest(network: nn.Module) -> Tensor:
        points = x.clone()
        for _ in range(400):
            points = points.detach().requires_grad_()
            value = soft_margin(network(points), y)
            (g,) = torch.autograd.grad(value.sum(), points)
            flat = g.flatten(1)
            # The closest point of the plane that touches φ here, from x.
            offset = value.detach() + (flat * (x - points).flatten(1)).sum(1)
            if norm == "linf":
                move = -(offset / flat.abs().sum(1))[:, None] * flat.sign()
            else:
                move = -(offset / flat.square().sum(1))[:, None] * flat
            points = points.detach() + 0.5 * ((x + move.reshape(x.shape)) - points.detach())
        assert float(soft_margin(network(points), y).detach().abs().max()) < 1e-10
        return points

    def margin(t: float) -> Tensor:
        moved = copy.deepcopy(model)
        with torch.no_grad():
            for name, value in moved.named_parameters():
                value.add_(t * direction[name])
        change = (closest(moved) - x).flatten(1)
        size = change.abs().amax(1) if norm == "linf" else change.norm(dim=1)
        return torch.where(soft_margin(moved(x), y) > 0, size, -size).detach()

    h = 1e-4
    expected = (margin(h) - margin(-h)) / (2 * h)
    found = relative_speed(model, closest(model), y, direction, norm)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-7)


# Against the slow version


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    count=st.integers(1, 9),
    norm=st.sampled_from(["linf", "l2", "l1"]),
    temperature=st.sampled_from([1.0, 5.0, math.inf]),
    network=st.sampled_from(["tanh", "relu", "batch-norm"]),
)
def test_it_agrees_with_one_backward_pass_a_sample(
    seed: int, count: int, norm: str, temperature: float, network: str
) -> None:
    torch.manual_seed(seed)
    model = {
        "tanh": lambda: smooth_cnn(seed),
        "relu": lambda: build_network("tiny-cnn", in_channels=1, num_classes=3, image_size=8),
        "batch-norm": lambda: nn.Sequential(
            nn.Conv2d(1, 4, 3, bias=False),
            nn.BatchNorm2d(4),
            nn.ReLU(inplace=True),
            nn.Flatten(),
            nn.Linear(144, 8),
            nn.LayerNorm(8),
            nn.Linear(8, 3),
        ),
    }[network]()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            assert module.running_mean is not None
            assert module.running_var is not None
            module.running_mean.normal_(std=0.1)
            module.running_var.uniform_(0.5, 2)
    model = model.double().eval()
    points, labels = torch.rand(count, 1, 8, 8, dtype=torch.float64), torch.randint(3, (count,))
    direction = randomly(model, seed)
    expected = by_sample(model, points, labels, direction, norm, temperature).double()
    found = relative_speed(model, points, labels, direction, norm, temperature)
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-9)
    slope = by_slope(model, points, labels, norm, temperature)
    forward_mode = relative_speed(model, points, labels, direction, norm, temperature, slope=slope)
    torch.testing.assert_close(forward_mode, expected, rtol=1e-6, atol=1e-9)


def by_slope(model: nn.Module, points: Tensor, labels: Tensor, norm: str, temperature: float) -> Tensor:
    leaf = points.clone().requires_grad_()
    return dual_norm(torch.autograd.grad(soft_margin(model(leaf), labels, temperature).sum(), leaf)[0], norm)


def test_results_do_not_depend_on_the_neighbours() -> None:
    model = build_network("tiny-cnn", in_channels=1, num_classes=10, image_size=8)
    points, labels = torch.rand(150, 1, 8, 8), torch.randint(10, (150,))
    direction = randomly(model)
    whole = relative_speed(model, points, labels, direction)
    alone = torch.cat(
        [relative_speed(model, points[i : i + 7], labels[i : i + 7], direction) for i in range(0, 150, 7)]
    )
    assert torch.equal(whole, alone)


# Layers


class Tied(nn.Module):
    """A weight that two layers share, and one that is read outside its layer."""

    def __init__(self, *, outside: bool) -> None:
        super().__init__()
        self.first, self.second, self.last = nn.Linear(6, 6), nn.Linear(6, 6), nn.Linear(6, 3)
        self.second.weight = self.first.weight
        self.outside = outside

    def forward(self, inputs: Tensor) -> Tensor:
        hidden = torch.tanh(self.second(torch.tanh(self.first(inputs))))
        if self.outside:
            hidden = torch.tanh(hidden @ self.first.weight)
        answer: Tensor = self.last(hidden)
        return answer


class Parameters(nn.Module):
    """Parameters of the model itself."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor([1.0, 2.0, 3.0]))
        self.inner = nn.Linear(6, 3)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.scale * torch.tanh(self.inner(inputs))


class Transposed(nn.Module):
    """Four tokens that a layer sees before the batch."""

    def __init__(self) -> None:
        super().__init__()
        self.each, self.last = nn.Linear(3, 3), nn.Linear(3, 3)

    def forward(self, inputs: Tensor) -> Tensor:
        tokens = inputs.reshape(len(inputs), 4, 3).transpose(0, 1)
        answer: Tensor = self.last(torch.tanh(self.each(tokens)).mean(0))
        return answer


@pytest.mark.parametrize(
    ("make", "size"),
    [
        (lambda: Tied(outside=False), 6),
        (lambda: Tied(outside=True), 6),
        (Parameters, 6),
        (Transposed, 12),
        (lambda: nn.utils.parametrizations.weight_norm(nn.Linear(6, 3)), 6),
        (lambda: nn.Sequential(nn.Linear(6, 6), nn.PReLU(), nn.Linear(6, 3)), 6),
    ],
)
def test_unusual_models_are_right_by_whatever_way(make: Callable[[], nn.Module], size: int) -> None:
    torch.manual_seed(6)
    model = make().double()
    points, labels = torch.rand(4, size, dtype=torch.float64), torch.tensor([0, 1, 2, 0])
    direction = randomly(model)
    expected = by_sample(model, points, labels, direction, "l2", 5.0).double()
    torch.testing.assert_close(relative_speed(model, points, labels, direction, "l2"), expected, rtol=1e-6, atol=1e-9)
    layers = relative_speed_by_layer(model, points, labels, direction, "l2")
    torch.testing.assert_close(torch.stack(list(layers.values())).sum(0), expected, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("network", ["small-cnn", "resnet14"])
def test_layers_add_up_and_are_those_that_move(network: str) -> None:
    torch.manual_seed(7)
    model = build_network(network, in_channels=3, num_classes=10, image_size=16).double()
    points, labels = torch.rand(5, 3, 16, 16, dtype=torch.float64), torch.randint(10, (5,))
    direction = randomly(model)
    layers = relative_speed_by_layer(model, points, labels, direction)
    assert list(layers) == list(dict.fromkeys(name.rpartition(".")[0] for name in direction))
    total = relative_speed(model, points, labels, direction)
    torch.testing.assert_close(torch.stack(list(layers.values())).sum(0), total, rtol=1e-9, atol=1e-12)
    last = list(layers)[-1]
    alone = {name: value if name.startswith(f"{last}.") else 0 * value for name, value in direction.items()}
    only = relative_speed(model, points, labels, alone)
    torch.testing.assert_close(layers[last], only, rtol=1e-9, atol=1e-12)
    slope = torch.full((5,), 2.0, dtype=torch.float64)
    halves = relative_speed_by_layer(model, points, labels, direction, slope=slope)
    torch.testing.assert_close(
        halves[last], relative_speed(model, points, labels, alone, slope=slope), rtol=1e-9, atol=1e-12
    )


def test_taps_refuse_what_they_do_not_cover() -> None:
    for model in (Parameters(), nn.Sequential(nn.Linear(2, 2), nn.PReLU()), nn.Linear(2, 2)):
        with pytest.raises(CannotTap):
            Taps(model, randomly(model))
    model = nn.Sequential(nn.BatchNorm1d(2, track_running_stats=False))
    with pytest.raises(CannotTap):
        Taps(model, randomly(model))


# Self-check, buffers, directions


def test_finite_differences_agree_and_would_show_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    model = smooth_cnn()
    points, labels = torch.rand(16, 1, 8, 8), torch.randint(3, (16,))
    direction = randomly(model)
    assert check_speed(model, points, labels, direction) < 1e-5
    assert check_speed(model.double(), points, labels, randomly(model)) < 1e-6
    assert check_speed(model, points[:0], labels[:0], randomly(model)) == 0
    assert check_speed(model, points, labels, {name: 0 * value for name, value in randomly(model).items()}) == 0

    from assay.boundary import speed

    right = speed._Speeds.numerator
    monkeypatch.setattr(speed._Speeds, "numerator", lambda self, moved: 1.01 * right(self, moved))
    assert check_speed(model, points, labels, randomly(model)) == pytest.approx(0.01, rel=0.01)


def test_running_statistics_may_move_too() -> None:
    torch.manual_seed(8)
    model = nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.Tanh(), nn.Flatten(), nn.Linear(108, 3)).double()
    points, labels = torch.rand(6, 1, 8, 8, dtype=torch.float64), torch.randint(3, (6,))
    direction = randomly(model)
    without = relative_speed(model, points, labels, direction)
    direction["1.running_var"] = torch.ones(3, dtype=torch.float64)
    assert check_speed(model, points, labels, direction) < 1e-6
    assert not torch.allclose(relative_speed(model, points, labels, direction), without)


def test_the_flow_is_minus_the_gradient_of_the_mean() -> None:
    torch.manual_seed(9)
    model = nn.Sequential(nn.Linear(5, 8), nn.Dropout(0.5), nn.Tanh(), nn.Linear(8, 3))
    images, labels = torch.rand(300, 5), torch.randint(3, (300,))
    model.eval()
    gradients = torch.autograd.grad(F.cross_entropy(model(images), labels), list(model.parameters()))
    model.train()
    found = gradient_flow_direction(model, "cross-entropy", images, labels)
    assert model.training
    assert list(found) == [name for name, _ in model.named_parameters()]
    for value, gradient in zip(found.values(), gradients, strict=True):
        torch.testing.assert_close(value, -gradient, rtol=1e-5, atol=1e-7)
        assert not value.requires_grad
    same = gradient_flow_direction(model, lambda z, y: F.cross_entropy(z, y, reduction="none"), images, labels)
    assert all(torch.equal(same[name], value) for name, value in found.items())


def test_along_the_flow_of_its_own_margin_every_boundary_moves_away() -> None:
    model = smooth_cnn()
    points, labels = torch.rand(1, 1, 8, 8), torch.tensor([1])
    direction = gradient_flow_direction(model, lambda z, y: -soft_margin(z, y), points, labels)
    assert float(relative_speed(model, points, labels, direction)) > 0


# A Target, and leaving things alone


def test_preprocessing_is_inside_and_everything_is_left_as_it_was() -> None:
    torch.manual_seed(10)
    model = nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.Dropout(0.5), nn.Flatten(), nn.Linear(108, 3))
    model.train()
    weight = model[0].weight
    assert isinstance(weight, nn.Parameter)
    weight.grad = torch.ones_like(weight)
    model[4].bias.requires_grad_(False)
    normalise = Normalize([0.5], [0.25])
    target = Target(model, task=Classification(3), preprocess=normalise)
    points, labels = torch.rand(5, 1, 8, 8), torch.randint(3, (5,))
    direction = {name: value for name, value in randomly(model).items() if name != "4.bias"}
    before, state = copy.deepcopy(model.state_dict()), torch.random.get_rng_state()
    found = relative_speed(target, points, labels, direction)
    check_speed(target, points, labels, direction)
    relative_speed_by_layer(target, points, labels, direction)
    flow = gradient_flow_direction(target, "cross-entropy", points, labels)
    assert "4.bias" not in flow
    assert torch.equal(torch.random.get_rng_state(), state)
    assert model.training
    assert model[1].training
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert torch.equal(weight.grad, torch.ones_like(weight))
    assert model[0].bias.grad is None
    assert not model[4].bias.requires_grad
    assert not any(module._forward_hooks for module in model.modules())
    plain = relative_speed(model, normalise(points), labels, direction)
    torch.testing.assert_close(found, plain * 0.25, rtol=1e-5, atol=1e-7)  # distances shrink with the std


def test_a_frozen_model_still_moves() -> None:
    model = smooth_cnn().requires_grad_(False)
    points, labels = torch.rand(3, 1, 8, 8), torch.tensor([0, 1, 2])
    direction = gradient_flow_direction(model, "cross-entropy", points, labels)
    assert list(direction) == [name for name, _ in model.named_parameters()]
    assert bool(torch.isfinite(relative_speed(model, points, labels, direction)).all())


# Bad input


class NoForwardMode(torch.autograd.Function):
    """tanh, for backward passes alone."""

    @staticmethod
    def forward(ctx: object, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)  # type: ignore[attr-defined]
        return x.tanh()

    @staticmethod
    def backward(ctx: object, *gradients: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors  # type: ignore[attr-defined]
        return gradients[0] * (1 - x.tanh().square())


class Wrapped(nn.Module):
    def __init__(self, call: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.inner, self.outer, self.call = nn.Linear(4, 4), nn.Linear(4, 3), call

    def forward(self, inputs: Tensor) -> Tensor:
        answer: Tensor = self.outer(self.call(self.inner(inputs)))
        return answer


@pytest.mark.parametrize("known", [False, True])
def test_without_a_forward_mode_derivative_two_backward_passes_tell_the_same(known: bool) -> None:
    torch.manual_seed(11)
    model = Wrapped(NoForwardMode.apply).double()
    points, labels = torch.rand(6, 4, dtype=torch.float64), torch.randint(3, (6,))
    direction = randomly(model)
    slope = by_slope(model, points, labels, "l2", 5.0) if known else None
    found = relative_speed(model, points, labels, direction, "l2", slope=slope)
    torch.testing.assert_close(
        found, by_sample(model, points, labels, direction, "l2", 5.0).double(), rtol=1e-6, atol=0
    )


def test_attention_is_differentiated() -> None:
    torch.manual_seed(12)

    class Attentive(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
            self.last = nn.Linear(8, 3)

        def forward(self, inputs: Tensor) -> Tensor:
            answer: Tensor = self.last(self.layer(inputs).mean(1))
            return answer

    model = Attentive().eval()
    points, labels = torch.rand(4, 5, 8), torch.randint(3, (4,))
    direction = randomly(model, size=0.1)
    expected = by_sample(model, points, labels, direction, "l2", 5.0)
    torch.testing.assert_close(relative_speed(model, points, labels, direction, "l2"), expected, rtol=1e-4, atol=1e-5)


def test_a_flat_model_has_no_speed() -> None:
    model = nn.Linear(3, 2)
    with torch.no_grad():
        model.weight.zero_()
    direction = randomly(model)
    found = relative_speed(model, torch.rand(2, 3), torch.tensor([0, 1]), direction)
    assert bool(found.isnan().all())
    given_slope = relative_speed(
        model, torch.rand(3, 3), torch.tensor([0, 1, 0]), direction, slope=torch.tensor([1.0, 0.0, math.nan])
    )
    assert given_slope.isnan().tolist() == [False, True, True]


def test_no_points_no_speeds() -> None:
    model = smooth_cnn()
    assert relative_speed(model, torch.rand(0, 1, 8, 8), torch.zeros(0, dtype=torch.int64), randomly(model)).shape == (
        0,
    )


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda d: d | {"0.weigth": d["0.weight"]}, "Did you mean '0.weight'"),
        (
            lambda d: {name: value for name, value in d.items() if name != "2.bias"},
            "nothing of the trainable parameter",
        ),
        (lambda d: d | {"0.bias": torch.zeros(5)}, r"direction\['0.bias'\] is \(5,\); the parameter has shape \(4,\)"),
        (lambda d: d | {"0.bias": [0.0] * 4}, "is list"),
        (lambda d: d | {"0.bias": torch.tensor([0.0, math.nan, 0.0, math.inf])}, "holds 2 values"),
        (lambda d: list(d), "a mapping from parameter names"),
    ],
)
def test_directions_that_do_not_fit(change: Callable[[dict[str, Tensor]], dict[str, Tensor]], sentence: str) -> None:
    model = smooth_cnn()
    points, labels = torch.rand(2, 1, 8, 8), torch.tensor([0, 1])
    for call in (relative_speed, relative_speed_by_layer, check_speed):
        with pytest.raises(SettingError, match=sentence):
            call(model, points, labels, change(randomly(model)))


def test_models_that_cannot_be_differentiated() -> None:
    points, labels = torch.rand(3, 4), torch.tensor([0, 1, 2])
    with pytest.raises(ModelError, match="function without parameters"):
        relative_speed(lambda x: x, points, labels, {})  # type: ignore[arg-type]
    with pytest.raises(ModelError, match="has no parameters"):
        relative_speed(nn.Flatten(), points, labels, {})
    cut = Wrapped(torch.Tensor.detach)
    with pytest.raises(ModelError, match="input in a differentiable way"):
        relative_speed(cut, points, labels, randomly(cut))

    class Counts(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = nn.Linear(4, 3)

        def forward(self, inputs: Tensor) -> Tensor:
            return (self.inner(inputs) > 0).float()

    for slope in (None, torch.ones(3)):
        with pytest.raises(ModelError, match="in a differentiable way"):
            relative_speed(Counts(), points, labels, randomly(Counts()), slope=slope)
    with pytest.raises(ModelError, match="logits"):
        relative_speed(nn.Conv2d(1, 1, 3), torch.rand(2, 1, 8, 8), labels[:2], randomly(nn.Conv2d(1, 1, 3)))


def test_points_labels_slopes_and_losses_that_cannot_be_used() -> None:
    model = nn.Linear(4, 3)
    points, labels, direction = torch.rand(3, 4), torch.tensor([0, 1, 2]), randomly(model)
    with pytest.raises(DataError, match="NaN or infinity"):
        relative_speed(model, points * math.inf, labels, direction)
    with pytest.raises(DataError, match="floating-point"):
        relative_speed(model, points.int(), labels, direction)
    with pytest.raises(DataError, match="class index a point"):
        relative_speed(model, points, labels[:2], direction)
    with pytest.raises(DataError, match="slope has shape"):
        relative_speed(model, points, labels, direction, slope=torch.ones(2))
    with pytest.raises(DataError, match="at least 0"):
        relative_speed(model, points, labels, direction, slope=-torch.ones(3))
    with pytest.raises(SettingError, match="norm is 'l3'"):
        relative_speed(model, points, labels, direction, "l3")
    with pytest.raises(SettingError, match="temperature is 0"):
        relative_speed(model, points, labels, direction, temperature=0)
    with pytest.raises(SettingError, match="Did you mean 'cross-entropy'"):
        gradient_flow_direction(model, "cross-entrpy", points, labels)
    with pytest.raises(SettingError, match="one number a sample"):
        gradient_flow_direction(model, F.cross_entropy, points, labels)
    with pytest.raises(ModelError, match="differentiated"):
        gradient_flow_direction(model, lambda z, y: z.detach().sum(1), points, labels)
    with pytest.raises(DataError, match="no images"):
        gradient_flow_direction(model, "cross-entropy", points[:0], labels[:0])
