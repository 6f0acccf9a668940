from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.autograd.functional import hessian
from torch.func import functional_call

from assay.core.errors import DataError, SettingError
from assay.privacy.adaptive import GlobalAdapt, PerGroup
from assay.privacy.clipping import PSAC, AutoS, ClipRule, Flat, Global, PerLayer
from assay.privacy.decomposition import COSINES, misalignment
from assay.tensors.gradients import SampleNorms


def cross_entropy(outputs: Tensor, labels: Tensor) -> Tensor:
    return F.cross_entropy(outputs, labels, reduction="none")


def small(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 3)).double()


def samples(count: int, seed: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(count, 4, dtype=torch.float64, generator=generator)
    return inputs, torch.randint(0, 3, (count,), generator=generator)


def by_hand(
    model: nn.Module,
    batch: tuple[Tensor, Tensor],
    groups: list[Any],
    rule: ClipRule,
    lr: float,
    sigma: float,
    population: tuple[Tensor, Tensor, list[Any]],
    expected: float,
) -> dict[Any, dict[str, float]]:
    """The formulas as they are written, with a loop over the samples and the whole Hessian of every group."""
    names = [name for name, _ in model.named_parameters()]
    shapes = [value.shape for value in model.parameters()]
    flat = torch.cat([value.detach().reshape(-1) for value in model.parameters()])

    def mean_loss(vector: Tensor, inputs: Tensor, labels: Tensor) -> Tensor:
        pieces = vector.split([shape.numel() for shape in shapes])
        parameters = {n: piece.reshape(s) for n, piece, s in zip(names, pieces, shapes, strict=True)}
        return F.cross_entropy(functional_call(model, parameters, (inputs,)), labels)

    def gradient(inputs: Tensor, labels: Tensor) -> Tensor:
        leaf = flat.clone().requires_grad_(True)
        return torch.autograd.grad(mean_loss(leaf, inputs, labels), leaf)[0]

    each = torch.stack([gradient(x[None], y[None]) for x, y in zip(*batch, strict=True)])
    squares = torch.stack([part.square().sum(1) for part in each.split([shape.numel() for shape in shapes], 1)], 1)
    factors = rule.weigh(SampleNorms(tuple(names), squares, torch.zeros(len(each))), None)
    weights = factors if factors.ndim == 2 else factors[:, None].expand(-1, len(names))
    columns = torch.repeat_interleave(weights, torch.tensor([shape.numel() for shape in shapes]), dim=1)
    g, bar = each.mean(0), (columns * each).mean(0)
    r = bar.norm() / g.norm()
    found = {}
    for key in sorted(set(population[2])):
        rows = [i for i, other in enumerate(population[2]) if other == key]
        inputs, labels = population[0][rows], population[1][rows]
        own, h = gradient(inputs, labels), hessian(lambda v: mean_loss(v, inputs, labels), flat)  # noqa: B023
        noise = lr**2 / 2 * h.trace() * (sigma * rule.sensitivity) ** 2
        found[key] = {
            "r_clip": lr * own @ (g - bar) + lr**2 / 2 * (bar @ h @ bar - g @ h @ g),
            "r_dir": lr * own @ (r * g - bar) + lr**2 / 2 * (bar @ h @ bar - r**2 * g @ h @ g),
            "r_mag": lr * own @ ((1 - r) * g) + lr**2 / 2 * (r**2 - 1) * (g @ h @ g),
            "r_noise": noise / expected**2,
            "r_noise_published": noise,
            "group_batch": own @ g / own.norm() / g.norm(),
            "group_clipped": own @ bar / own.norm() / bar.norm(),
            "batch_clipped": g @ bar / g.norm() / bar.norm(),
        }
    return found


RULES: list[ClipRule] = [
    Flat(0.3),
    PerLayer(0.5),
    Global(0.2, 1.0),
    GlobalAdapt(0.2, 0.8),
    AutoS(1.0),
    PSAC(1.0),
]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
@given(count=st.integers(1, 8), seed=st.integers(0, 99), lr=st.floats(0.01, 3), sigma=st.floats(0, 2))
@hypothesis_settings(max_examples=5)
def test_against_the_formulas_written_out(rule: ClipRule, count: int, seed: int, lr: float, sigma: float) -> None:
    model, batch, many = small(), samples(count, seed), samples(9, seed + 1000)
    groups = ["ab"[i % 2] for i in range(count)]
    population = (*many, ["ab"[i % 2] for i in range(9)])
    found = misalignment(
        model, cross_entropy, batch, groups, rule, lr, sigma, population=population, expected_batch_size=5.5
    )
    expected = by_hand(model, batch, groups, rule, lr, sigma, population, 5.5)
    assert list(found) == ["a", "b"]
    for key, terms in expected.items():
        for name, value in terms.items():
            got = found[key]["cosines"][name] if name in COSINES else found[key][name]
            assert got == pytest.approx(float(value), rel=1e-6, abs=1e-9, nan_ok=True), name
        scale = abs(found[key].r_dir) + abs(found[key].r_mag) + 1
        assert abs(found[key].r_dir + found[key].r_mag - found[key].r_clip) <= 1e-13 * scale


@given(count=st.integers(1, 12), seed=st.integers(0, 99), c=st.floats(1e-3, 10), lr=st.floats(0, 10))
@hypothesis_settings(max_examples=25)
def test_direction_and_length_add_up(count: int, seed: int, c: float, lr: float) -> None:
    found = misalignment(small().float(), cross_entropy, tuple_of(count, seed), range(count), c, lr, 1.0, trace=None)
    for one in found.values():
        scale = abs(one.r_dir) + abs(one.r_mag) + lr * one.norm_group * one.norm_batch
        assert abs(one.r_dir + one.r_mag - one.r_clip) <= 1e-13 * scale
        assert math.isnan(one.r_noise)
        assert one.trace is None


def tuple_of(count: int, seed: int) -> tuple[Tensor, Tensor]:
    inputs, labels = samples(count, seed)
    return inputs.float(), labels


def test_noise_costs_a_quadratic_what_is_said() -> None:
    """L_k(θ) = ½ Σ_i (θ·x_i - y_i)²/n: the second-order term is the whole truth, so noise may be drawn and averaged."""
    model = nn.Linear(3, 1, bias=False).double()
    square = lambda output, label: 0.5 * (output[:, 0] - label).square()  # noqa: E731
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(8, 3, dtype=torch.float64, generator=generator)
    labels = torch.randn(8, dtype=torch.float64, generator=generator)
    groups, lr, sigma, expected = ["a"] * 5 + ["b"] * 3, 0.4, 1.5, 6.0
    found = misalignment(model, square, (inputs, labels), groups, 0.7, lr, sigma, expected_batch_size=expected)
    draws = torch.randn(200_000, 3, dtype=torch.float64, generator=generator) * (sigma * 0.7 / expected)
    weight = model.weight.detach()[0]
    for key, rows in (("a", slice(0, 5)), ("b", slice(5, 8))):
        x, y = inputs[rows], labels[rows]
        before = 0.5 * (x @ weight - y).square().mean()
        after, mirrored = (0.5 * ((weight - lr * z) @ x.T - y).square().mean(1) for z in (draws, -draws))
        extra = (after + mirrored) / 2 - before
        error = float(extra.std() / math.sqrt(len(extra)))
        assert abs(float(extra.mean()) - found[key].r_noise) < 4 * error
        assert error < 0.01 * found[key].r_noise
        assert found[key].r_noise_published == pytest.approx(found[key].r_noise * expected**2)
        assert found[key].r_noise_error == 0


def test_clipping_costs_a_quadratic_what_is_said() -> None:
    """On a quadratic the decomposition is exact: loss after the clipped step minus loss after the plain one."""
    model = nn.Linear(3, 1, bias=False).double()
    square = lambda output, label: 0.5 * (output[:, 0] - label).square()  # noqa: E731
    inputs, labels = torch.randn(8, 3, dtype=torch.float64), torch.randn(8, dtype=torch.float64)
    groups, lr, c = [0] * 5 + [1] * 3, 0.4, 0.5
    found = misalignment(model, square, (inputs, labels), groups, c, lr, 1.0)
    weight = model.weight.detach()[0]
    each = (inputs @ weight - labels)[:, None] * inputs
    plain = weight - lr * each.mean(0)
    clipped = weight - lr * (each * Flat(c).factors(each.norm(dim=1))[:, None]).mean(0)
    for key, rows in ((0, slice(0, 5)), (1, slice(5, 8))):

        def of(w: Tensor, rows: slice = rows) -> Tensor:
            return 0.5 * (inputs[rows] @ w - labels[rows]).square().mean()

        assert found[key].r_clip == pytest.approx(float(of(clipped) - of(plain)), rel=1e-9)


def test_nothing_clipped_costs_nothing() -> None:
    found = misalignment(small(), cross_entropy, samples(6, 0), [0, 1] * 3, 1e6, 0.1, 0.0)
    for one in found.values():
        assert (one.r_clip, one.r_dir, one.r_mag) == pytest.approx((0, 0, 0), abs=1e-12)
        assert one.clip_rate == 0
        assert one.r_noise == 0
        assert one.cosines["batch_clipped"] == pytest.approx(1)


def test_absent_groups_and_what_a_result_holds() -> None:
    batch, many = samples(5, 0), samples(6, 1)
    found = misalignment(
        small(),
        cross_entropy,
        batch,
        torch.tensor([0, 0, 2, 2, 2]),
        Flat(0.4),
        0.1,
        1.0,
        population=(*many, np.array([0, 1, 1, 0, 1, 0])),
        all_groups=[0, 1, 2, 7],
    )
    assert [(one.n, one.n_batch) for one in found.values()] == [(3, 2), (3, 0), (0, 3), (0, 0)]
    assert math.isnan(found[1].clip_rate)
    assert math.isfinite(found[1].r_clip)
    for key in (2, 7):
        assert math.isnan(found[key].r_clip)
        assert all(math.isnan(value) for value in found[key].cosines.values())
    assert math.isfinite(found[2].clip_rate)
    assert len(found[2].sample_norms) == 3
    assert found[0]["r_dir"] == found[0].r_dir
    assert set(found[0]) >= {"r_clip", "r_dir", "r_mag", "r_noise", "cosines"}
    with pytest.raises(KeyError, match="Did you mean 'r_dir'"):
        found[0]["r_dri"]


def test_zero_gradients() -> None:
    model = nn.Linear(4, 3).double()
    nn.init.zeros_(model.weight), nn.init.zeros_(model.bias)
    flat = lambda output, label: 0 * output.sum(1)  # noqa: E731
    found = misalignment(model, flat, samples(4, 0), [0, 0, 1, 1], 1.0, 0.1, 1.0)
    for one in found.values():
        assert (one.r_clip, one.r_dir, one.r_mag, one.r_noise) == (0, 0, 0, 0)
        assert all(math.isnan(value) for value in one.cosines.values())


def test_an_empty_batch_is_noise_alone() -> None:
    inputs, labels = samples(4, 0)
    found = misalignment(
        small(), cross_entropy, (inputs[:0], labels[:0]), [], 1.0, 0.1, 1.0,
        population=(inputs, labels, ["a", "a", "b", "b"]), expected_batch_size=3,
    )  # fmt: skip
    assert [(one.r_clip, one.n_batch) for one in found.values()] == [(0, 0), (0, 0)]
    assert all(one.r_noise != 0 for one in found.values())


@pytest.mark.parametrize(
    ("rule", "rate"),
    [
        (Flat(2.0), 0.5),
        (Global(0.1, 2.0), 0.5),
        (GlobalAdapt(0.1, 2.0), 0.5),
        (AutoS(2.0), 0.5),
        (PerLayer(100.0), 0.0),
        (PerGroup(2.0, 1, bounds=(2.0,)), 0.5),
    ],
    ids=lambda value: getattr(value, "name", str(value)),
)
def test_clip_rate(rule: ClipRule, rate: float) -> None:
    """Gradients of θ·x are x: norms 1 and 3, twice each."""
    model = nn.Linear(2, 1, bias=False)
    inputs = torch.tensor([[1.0, 0.0], [3.0, 0.0], [0.0, 1.0], [0.0, 3.0]])
    found = misalignment(model, lambda out, y: out[:, 0], (inputs, torch.zeros(4)), [0] * 4, rule, 0.1, 1.0)
    assert found[0].clip_rate == rate
    assert sorted(found[0].sample_norms) == pytest.approx([1, 1, 3, 3])


def test_per_group_takes_exact_counts_for_the_analysis_or_the_bounds_it_has() -> None:
    model = nn.Linear(2, 1, bias=False)
    inputs = torch.tensor([[1.0, 0.0], [3.0, 0.0], [0.0, 1.0], [0.0, 3.0]])
    batch, linear = (inputs, torch.zeros(4)), lambda out, y: out[:, 0]
    free = misalignment(model, linear, batch, ["x", "x", "y", "y"], PerGroup(2.0), 0.1, 1.0)
    named = misalignment(model, linear, batch, [0, 0, 1, 1], PerGroup(2.0, 2), 0.1, 1.0)
    assert free["x"].clip_rate == named[0].clip_rate == 0  # half above in each group: bounds 2 (1 + 1) = 4
    fixed = misalignment(model, linear, batch, [0, 0, 1, 1], PerGroup(2.0, 2, bounds=(0.5, 4.0)), 0.1, 1.0)
    assert (fixed[0].clip_rate, fixed[1].clip_rate) == (1, 0)


def test_hutchinson_is_chosen_for_many_parameters_and_agrees() -> None:
    batch = samples(6, 0)
    wide = nn.Sequential(nn.Linear(4, 130), nn.Tanh(), nn.Linear(130, 3)).double()
    groups = [0, 1] * 3
    found = misalignment(wide, cross_entropy, batch, groups, 0.5, 0.1, 1.0, probes=60)
    exact = misalignment(wide, cross_entropy, batch, groups, 0.5, 0.1, 1.0, trace="exact")
    for key, one in found.items():
        assert one.trace is not None
        assert exact[key].trace is not None
        assert (one.trace.method, one.trace.n) == ("hutchinson", 60)
        assert exact[key].trace.method == "exact"
        assert abs(one.r_noise - exact[key].r_noise) < 4 * one.r_noise_error
        assert one.r_clip == exact[key].r_clip


def test_the_model_is_left_as_it_was() -> None:
    model = small()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    misalignment(model, cross_entropy, samples(4, 0), [0, 1, 0, 1], 0.5, 0.1, 1.0)
    assert model.training
    assert all(parameter.grad is None for parameter in model.parameters())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_mistakes() -> None:
    model, (inputs, labels) = small(), samples(4, 0)
    four = [0, 1, 0, 1]
    with pytest.raises(DataError, match="The batch has 4 inputs, 4 labels and 3 groups"):
        misalignment(model, cross_entropy, (inputs, labels), four[:3], 1.0, 0.1, 1.0)
    with pytest.raises(DataError, match="The population has 4 inputs, 3 labels"):
        misalignment(model, cross_entropy, (inputs, labels), four, 1.0, 0.1, 1.0, population=(inputs, labels[:3], four))
    with pytest.raises(SettingError, match="lr is nan"):
        misalignment(model, cross_entropy, (inputs, labels), four, 1.0, math.nan, 1.0)
    with pytest.raises(SettingError, match="noise_multiplier is -1"):
        misalignment(model, cross_entropy, (inputs, labels), four, 1.0, 0.1, -1)
    with pytest.raises(SettingError, match="expected_batch_size is 0"):
        misalignment(model, cross_entropy, (inputs, labels), four, 1.0, 0.1, 1.0, expected_batch_size=0)
    with pytest.raises(SettingError, match="The batch is empty"):
        misalignment(model, cross_entropy, (inputs[:0], labels[:0]), [], 1.0, 0.1, 1.0)
    with pytest.raises(SettingError, match=r"Did you mean 'hutchinson'"):
        misalignment(model, cross_entropy, (inputs, labels), four, 1.0, 0.1, 1.0, trace="hutchison")
    with pytest.raises(SettingError, match=r"Flat\.c"):
        misalignment(model, cross_entropy, (inputs, labels), four, 0.0, 0.1, 1.0)
