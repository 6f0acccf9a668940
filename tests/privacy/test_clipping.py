"""Clip rules against their formulas, and the bound f(n) n <= C that the noise stands on."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from assay.core.errors import InputError, SettingError
from assay.privacy import PSAC, AutoS, Flat, Global, GlobalAdapt, PerGroup, PerLayer, clip_rule
from assay.tensors.gradients import SampleNorms

NORM = st.one_of(
    st.sampled_from([0.0, 1e-45, 1e-30, 1e-6, 1.0, 3e38, math.inf]),
    st.floats(0, 1e6, width=32),
    st.floats(0, 4, width=32),
)
BOUND = st.floats(1e-3, 1e3)
FORMULAS = {
    "flat": lambda n, c: min(1.0, c / (n + 1e-6)),
    "global": lambda n, c: 1 / 7 if n <= 7 * c else 0.0,
    "global-adapt": lambda n, c: 1 / 7 if n <= 7 * c else c / n,
    "auto-s": lambda n, c: c / (n + 0.01),
    "psac": lambda n, c: c / (n + 0.01 / (n + 0.01)),
    "psac-dpcert": lambda n, c: c * n / (n * n + 0.01 * n + 0.01),
}


def made(name: str, c: float):
    return clip_rule(name, clip_norm=c, upper_norm=7 * c)


@pytest.mark.parametrize("name", FORMULAS)
@given(norms=st.lists(st.floats(0, 1e6, width=32), min_size=1, max_size=20), c=BOUND)
def test_factors_are_the_formula(name: str, norms: list[float], c: float) -> None:
    norms = [n for n in norms if abs(n - 7 * c) > 1e-5 * c]  # at the jump of Global, float32 decides
    factors = made(name, c).factors(torch.tensor(norms))
    assert factors.dtype == torch.float32
    np.testing.assert_allclose(factors, [FORMULAS[name](n, c) for n in norms], rtol=3e-7, atol=1e-38)


@pytest.mark.parametrize("name", [*FORMULAS, "per-layer", "per-group"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_no_sample_exceeds_the_sensitivity_on_a_dense_grid(name: str, dtype: torch.dtype) -> None:
    norms = torch.cat(
        [
            torch.zeros(1, dtype=dtype),
            torch.logspace(-37, 30, 20_000, dtype=dtype),
            torch.linspace(0, 12, 20_000, dtype=dtype),
        ]
    )
    for c in (0.1, 1.0, 1 / 3, 17.3):
        rule = clip_rule(name, clip_norm=c, upper_norm=7 * c, num_groups=2)
        if name == "per-layer":
            spread = torch.stack([norms, norms.flip(0), norms], 1)
            sizes = (rule.factors(spread).double() * spread.double()).square().sum(1).sqrt()
        elif isinstance(rule, PerGroup):
            rule = rule.active(torch.tensor([3.0, 5.0, 1.0, 20.0]))
            sizes = rule.factors(norms, torch.arange(len(norms)) % 2).double() * norms.double()
        else:
            sizes = rule.factors(norms).double() * norms.double()
        limit = rule.sensitivity * (1 + (1e-15 if dtype == torch.float64 or name == "per-layer" else 0))
        assert float(sizes.max()) <= limit
        # The noise is not larger than it needs to be: some sample gets (nearly) all that is allowed.
        assert float(sizes.max()) >= 0.999 * rule.sensitivity


@given(norms=st.lists(NORM, max_size=12), c=BOUND, name=st.sampled_from(sorted(FORMULAS)))
def test_every_norm_has_a_finite_factor_in_order_and_alone(norms: list[float], c: float, name: str) -> None:
    rule = made(name, c)
    values = torch.tensor(norms, dtype=torch.float32)
    factors = rule.factors(values)
    assert factors.shape == values.shape
    assert bool(torch.isfinite(factors).all())
    assert bool((factors >= 0).all())
    alone = [float(rule.factors(values[i : i + 1])) for i in range(len(norms))]
    assert factors.tolist() == alone
    assert bool((factors[values.isinf()] == 0).all())


def test_published_extremes() -> None:
    assert float(AutoS(2.0).factors([0.0])) == pytest.approx(200)
    peak = math.sqrt(0.01) - 0.01
    assert float(PSAC(1.0).factors([peak])) == pytest.approx(5.26, abs=0.01)
    assert float(PSAC(1.0).factors([0.0])) == pytest.approx(1)
    grid = PSAC(1.0, form="dpcert").factors(np.linspace(0, 1, 100_001))
    assert float(grid[0]) == 0
    assert float(grid.max()) == pytest.approx(4.76, abs=0.01)
    assert int(grid.argmax()) == pytest.approx(10_000, abs=20)


def test_the_bound_of_auto_s_and_psac_only_scales() -> None:
    norms = torch.rand(50) * 3
    for name in ("auto-s", "psac", "psac-dpcert"):
        torch.testing.assert_close(made(name, 5.0).factors(norms), 5 * made(name, 1.0).factors(norms))


@given(
    norms=st.integers(1, 5).flatmap(
        lambda layers: st.lists(st.lists(st.floats(0, 100, width=32), min_size=layers, max_size=layers), min_size=1)
    ),
    c=BOUND,
)
def test_per_layer_against_a_loop(norms: list[list[float]], c: float) -> None:
    factors = PerLayer(c).factors(norms)
    for row, factor in zip(norms, factors.tolist(), strict=True):
        expected = [min(1.0, c / math.sqrt(len(row)) / (n + 1e-6)) for n in row]
        assert factor == pytest.approx(expected, rel=3e-7)


def test_per_layer_takes_a_module_as_one_layer() -> None:
    names = ("conv.weight", "conv.bias", "head.weight", "scale")
    norms = SampleNorms(names, torch.rand(6, 4) * 9, torch.zeros(6))
    factors = PerLayer(1.0).weigh(norms)
    layers = torch.stack([norms.squares[:, :2].sum(1), norms.squares[:, 2], norms.squares[:, 3]], 1).sqrt()
    torch.testing.assert_close(factors, PerLayer(1.0).factors(layers)[:, [0, 0, 1, 2]])
    assert float((norms.squares * factors**2).sum(1).sqrt().max()) <= 1 + 1e-6


def test_weigh_uses_the_norm_over_all_parameters() -> None:
    norms = SampleNorms(("a", "b"), torch.tensor([[9.0, 16.0], [0.0, 0.25]]), torch.zeros(2))
    torch.testing.assert_close(Flat(1.0).weigh(norms), torch.tensor([0.2, 1.0]), rtol=1e-6, atol=0)


def test_lists_arrays_and_empty_batches() -> None:
    assert Flat(1.0).factors([0.5, 2]).tolist() == Flat(1.0).factors(np.array([0.5, 2], dtype=np.float32)).tolist()
    assert Flat(1.0).factors(torch.tensor([2])).dtype == torch.float32
    for name in FORMULAS:
        assert made(name, 1.0).factors(torch.zeros(0)).shape == (0,)
    assert PerLayer(1.0).factors(torch.zeros(0, 3)).shape == (0, 3)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: Flat(0.0), r"Flat\.c is 0; allowed: a finite number above 0"),
        (lambda: Flat(math.inf), r"Flat\.c is inf"),
        (lambda: Flat("much"), r"Flat\.c is 'much'"),
        (lambda: AutoS(1.0, -1), r"AutoS\.gamma is -1"),
        (lambda: PSAC(1.0, form="publishd"), "Did you mean 'published'"),
        (lambda: Global(2.0, 1.0), "Z = 1 below the clipping norm C = 2.*Choose Z >= C"),
        (lambda: GlobalAdapt(2.0, 1.9), "Z = 1.9 below the clipping norm"),
        (lambda: GlobalAdapt(1.0, 2.0, count_noise=0), r"count_noise is 0; .*without it nothing holds"),
        (lambda: GlobalAdapt(1.0, 2.0, tau=0), r"GlobalAdapt\.tau is 0"),
        (lambda: PerGroup(1.0, 0), "at least 1"),
        (lambda: PerGroup(1.0, 2, count_noise=-1), r"PerGroup\.count_noise is -1"),
        (lambda: PerGroup(1.0, 2, bounds=(1.0,)), "1 values for 2 groups"),
        (lambda: clip_rule("global-adept", upper_norm=5), "Did you mean 'global-adapt'"),
        (lambda: clip_rule("global"), "needs the upper threshold Z: set upper_norm"),
    ],
)
def test_what_is_not_allowed_is_named(make, says: str) -> None:
    with pytest.raises(SettingError, match=says):
        make()


def test_a_wrong_shape_is_named() -> None:
    with pytest.raises(InputError, match=r"shape \(2, 1\).*needs \[B\]"):
        Flat(1.0).factors(torch.zeros(2, 1))
    with pytest.raises(InputError, match="one column a layer"):
        PerLayer(1.0).factors(torch.zeros(2))


def test_rules_by_name_carry_their_settings() -> None:
    assert clip_rule("global-adapt", clip_norm=1, upper_norm="50", tau=1, z_rate=0.2, count_noise=3, centred=False) == (
        GlobalAdapt(1.0, 50.0, 1.0, 0.2, 3.0, centred=False)
    )
    assert clip_rule("per-group", clip_norm=2, num_groups=3, count_noise=8) == PerGroup(2.0, 3, 8.0)
    assert clip_rule("psac-dpcert", gamma=0.1) == PSAC(1.0, 0.1, "dpcert")
    for name in ("flat", "per-layer", "global", "global-adapt", "per-group", "auto-s", "psac", "psac-dpcert"):
        rule = clip_rule(name, upper_norm=9, num_groups=2)
        assert rule.name == name
        assert rule.with_state(rule.state()) == rule
        assert (rule.count_noise is None) == (name not in ("global-adapt", "per-group"))
    with pytest.raises(SettingError, match="keeps no state 'z'"):
        Flat(1.0).with_state({"z": 1.0})
