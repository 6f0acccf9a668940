"""Noise sources and Poisson samples: distribution, reproducibility, independence."""

from __future__ import annotations

import math

import pytest
import torch
from scipy import stats

from assay.core.errors import InputError, SettingError
from assay.privacy import SecureNoise, SeededNoise, poisson_sample, sampling_seeds
from assay.privacy import noise as module

COUNT = 200_000


def test_seeded_noise_is_normal() -> None:
    draws = SeededNoise(3, 7).normal((COUNT,), 2.5)
    assert draws.dtype == torch.float32
    assert stats.kstest(draws.double().numpy() / 2.5, "norm").pvalue > 0.01
    assert stats.kstest(SeededNoise(3, 8).uniform(COUNT).numpy(), "uniform").pvalue > 0.01


def test_seeded_noise_repeats_itself_and_nothing_else() -> None:
    def drawn(root: int, step: int) -> list[torch.Tensor]:
        source = SeededNoise(root, step)
        return [source.normal((500,)), source.normal((500,)), source.uniform(500).float()]

    first = drawn(1, 5)
    assert all(torch.equal(a, b) for a, b in zip(first, drawn(1, 5), strict=True))
    streams = torch.stack([*first, *drawn(1, 6), *drawn(2, 5)])
    correlations = torch.corrcoef(streams) - torch.eye(len(streams))
    assert float(correlations.abs().max()) < 6 / math.sqrt(500)


def test_secure_noise_has_the_moments_of_a_normal() -> None:
    """Bounds of eight standard errors: a chance of 1e-15 to fail."""
    draws = SecureNoise().normal((COUNT,), 2.0).double() / 2
    assert abs(float(draws.mean())) < 8 / math.sqrt(COUNT)
    assert abs(float(draws.var()) - 1) < 8 * math.sqrt(2 / COUNT)
    assert abs(float((draws**3).mean())) < 8 * math.sqrt(15 / COUNT)
    assert abs(float((draws**4).mean()) - 3) < 8 * math.sqrt(96 / COUNT)
    assert abs(float((draws > 2).double().mean()) - stats.norm.sf(2)) < 8 * math.sqrt(stats.norm.sf(2) / COUNT)
    uniforms = SecureNoise().uniform(COUNT)
    assert uniforms.dtype == torch.float64
    assert float(uniforms.min()) >= 0
    assert float(uniforms.max()) < 1
    assert abs(float(uniforms.mean()) - 0.5) < 8 / math.sqrt(12 * COUNT)


def test_secure_noise_asks_the_operating_system_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    first = SecureNoise().normal((64,))
    torch.manual_seed(0)
    assert not torch.equal(first, SecureNoise().normal((64,)))
    asked = []
    monkeypatch.setattr(module.os, "urandom", lambda count: asked.append(count) or bytes(range(256)) * (count // 256))
    SecureNoise().normal((64,))
    assert asked == [4 * 8 * 64]  # four Gaussians a draw, 53 random bits for each uniform


def test_secure_draws_are_independent_of_each_other() -> None:
    """The cosine and sine of one angle, and neighbouring draws, are not correlated."""
    draws = SecureNoise().normal((2, COUNT // 2)).double()
    for a, b in ((draws[0], draws[1]), (draws[0, 1:], draws[0, :-1])):
        for power in (1, 2):
            assert abs(float(torch.corrcoef(torch.stack([a**power, b**power]))[0, 1])) < 8 / math.sqrt(COUNT // 2)


@pytest.mark.parametrize("source", [SeededNoise(0, 0), SecureNoise()])
def test_shapes_and_scales(source) -> None:
    assert source.normal((2, 3), 0.5).shape == (2, 3)
    assert source.normal(()).shape == ()
    assert source.normal((0,)).shape == (0,)
    assert source.uniform(0).shape == (0,)
    assert source.normal((5,), 0.0).tolist() == [0.0] * 5
    for scale in (-1.0, math.inf, math.nan):
        with pytest.raises(SettingError, match="standard deviation"):
            source.normal((1,), scale)


def test_secure_or_not() -> None:
    assert SecureNoise().secure
    assert not SeededNoise(0, 0).secure


@pytest.mark.parametrize("rate", [0.001, 0.3, 1.0])
@pytest.mark.parametrize("secure", [False, True])
def test_each_record_takes_part_by_a_coin_of_its_own(rate: float, secure: bool) -> None:
    n, steps = 2_000, 200
    seeds = sampling_seeds(11, range(n))
    chosen = torch.zeros(steps, n)
    for step in range(steps):
        rows = poisson_sample(SecureNoise() if secure else seeds, n, rate, step)
        assert torch.equal(rows, rows.unique())
        chosen[step, rows] = 1
    variance = rate * (1 - rate)
    assert abs(float(chosen.mean()) - rate) <= 8 * math.sqrt(variance / (n * steps)) + 1e-9
    if rate < 1:  # batch sizes and record totals vary as binomials do: nothing is fixed, nothing is shared
        assert float(chosen.sum(1).var()) == pytest.approx(n * variance, rel=8 * math.sqrt(2 / steps))
        assert float(chosen.sum(0).var()) == pytest.approx(steps * variance, rel=8 * math.sqrt(8 / n))


def test_a_record_s_coin_does_not_depend_on_the_others() -> None:
    seeds = sampling_seeds(0, range(1_000))
    rows = poisson_sample(seeds, 1_000, 0.1, 4)
    part = poisson_sample(seeds[500:], 500, 0.1, 4) + 500
    assert torch.equal(rows[rows >= 500], part)
    assert not torch.equal(rows, poisson_sample(seeds, 1_000, 0.1, 5))
    assert torch.equal(rows, poisson_sample(seeds, 1_000, 0.1, 4))


def test_sampling_that_cannot_be_is_named() -> None:
    for rate in (0.0, 1.1, math.nan):
        with pytest.raises(SettingError, match="sample rate"):
            poisson_sample(SecureNoise(), 10, rate)
    with pytest.raises(InputError, match="10 records"):
        poisson_sample(sampling_seeds(0, range(9)), 10, 0.5)
