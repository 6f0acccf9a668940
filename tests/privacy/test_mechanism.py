"""The private gradient against its equation, written out sample by sample."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from assay.core.errors import InputError, SettingError
from assay.privacy import Flat, GlobalAdapt, PerGroup, PerLayer, SecureNoise, SeededNoise
from assay.privacy.mechanism import PrivateGradient
from assay.tensors.gradients import PerSample

RULES = [Flat(0.5), PerLayer(0.7), GlobalAdapt(0.5, 2.0, count_noise=3.0), PerGroup(0.5, 2, count_noise=2.0)]


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3))


def batch_of(size: int, seed: int = 1) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    draw = torch.randint(3, (size,), generator=generator)
    return 3 * torch.randn(size, 4, generator=generator), draw, draw % 2


def mechanism(model: nn.Module, rule, noise_multiplier: float = 0.8, **changes) -> PrivateGradient:
    engine = PerSample(model, F.cross_entropy, backend="loop")
    arguments = {"expected_batch_size": 6, "noise": lambda step: SeededNoise(7, step), **changes}
    return PrivateGradient(engine, rule, noise_multiplier=noise_multiplier, **arguments)


def slowly(model: nn.Module, rule, batch: tuple[Tensor, Tensor, Tensor], noise_multiplier: float, step: int):
    """One step of the equation: counts, factors, sum, noise; and the next rule."""
    source = SeededNoise(7, step)
    rows = []
    for x, y in zip(*batch[:2], strict=True):
        gradients = torch.autograd.grad(F.cross_entropy(model(x[None]), y[None]), list(model.parameters()))
        rows.append([gradient.clone() for gradient in gradients])
    names = [name for name, _ in model.named_parameters()]
    squares = torch.tensor([[float(g.double().square().sum()) for g in row] for row in rows]).reshape(-1, len(names))
    norms = squares.sum(1).sqrt()
    noisy = None
    if rule.count_noise is not None:
        exact = rule.counts(norms, batch[2])
        noisy = exact + source.normal(exact.shape, rule.count_noise)
    active = rule.active(noisy)
    if isinstance(rule, PerLayer):
        layers = torch.stack([squares[:, :2].sum(1), squares[:, 2:].sum(1)], 1).sqrt()
        factors = rule.factors(layers)[:, [0, 0, 1, 1]]
    else:
        factors = active.factors(norms, groups=batch[2])[:, None].expand(-1, len(names))
    sums = [torch.zeros_like(p) for p in model.parameters()]
    for row, factor in zip(rows, factors, strict=True):
        for i, gradient in enumerate(row):
            sums[i] += factor[i] * gradient
    draws = source.normal((sum(total.numel() for total in sums),), noise_multiplier * active.sensitivity)
    parts = draws.split([total.numel() for total in sums])
    mean = {name: (total + part.reshape(total.shape)) / 6 for name, total, part in zip(names, sums, parts, strict=True)}
    return mean, active.following(noisy, 6)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
@given(sizes=st.lists(st.integers(0, 9), min_size=1, max_size=3))
@settings(max_examples=25)
def test_steps_are_those_of_the_equation(rule, sizes: list[int]) -> None:
    model = network()
    private = mechanism(model, rule)
    expected_rule = rule
    for step, size in enumerate(sizes):
        batch = batch_of(size, seed=step)
        expected, expected_rule = slowly(model, expected_rule, batch, 0.8, step)
        released = private.step(*batch)
        assert released.gradients.keys() == expected.keys()
        for name, value in expected.items():
            assert torch.allclose(released.gradients[name], value, atol=1e-6), name
        assert released.rule == private.rule
        for key, value in expected_rule.state().items():
            assert private.rule.state()[key] == pytest.approx(value, rel=1e-6)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_an_empty_batch_is_noise_alone(rule) -> None:
    private = mechanism(network(), rule)
    released = private.step(*batch_of(0))
    values = torch.cat([value.flatten() for value in released.gradients.values()])
    scale = 0.8 * released.active.sensitivity / 6
    assert values.std().item() == pytest.approx(scale, rel=0.4)
    assert len(released.norms.losses) == 0


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
@pytest.mark.parametrize("sizes", [(5, 3), (8, 0), (0, 8)])
def test_shares_of_processes_add_up_to_the_release_of_one(rule, sizes: tuple[int, int]) -> None:
    """Two processes in one: the counts of both are summed before either clips."""
    model, whole = network(), batch_of(8)
    alone = mechanism(model, rule).step(*whole)
    halves = [tuple(part) for part in zip(*(column.split(list(sizes)) for column in whole), strict=True)]

    def run(total: Callable[[int], Callable[[Tensor], Tensor]]):
        return [
            mechanism(model, rule, total=total(rank), adds_noise=rank == 0).step(*half)
            for rank, half in enumerate(halves)
        ]

    sent: list[list[Tensor]] = [[], []]
    run(lambda rank: lambda value: sent[rank].append(value) or value)
    shares = run(lambda rank: lambda value: sent[0][0] + sent[1][0])
    for name, value in alone.gradients.items():
        assert torch.allclose(sum(share.gradients[name] for share in shares), value, atol=1e-6)
    assert all(share.rule == alone.rule for share in shares)


def test_noise_is_a_function_of_the_step_alone() -> None:
    model, batch = network(), batch_of(4)
    private = mechanism(model, Flat(0.5))
    first, second = private.step(*batch), private.step(*batch)
    assert not torch.equal(first.gradients["0.weight"], second.gradients["0.weight"])
    private.steps = 0
    assert torch.equal(private.step(*batch).gradients["0.weight"], first.gradients["0.weight"])


def test_secure_noise_is_never_the_same() -> None:
    model, batch = network(), batch_of(4)
    private = mechanism(model, Flat(0.5), noise=lambda step: SecureNoise())
    first = private.step(*batch)
    private.steps = 0
    assert not torch.equal(private.step(*batch).gradients["0.weight"], first.gradients["0.weight"])


def test_without_noise_the_sum_is_exact() -> None:
    model, batch = network(), batch_of(4)
    private = mechanism(model, Flat(1e6), noise_multiplier=0.0)
    loss = F.cross_entropy(model(batch[0]), batch[1], reduction="sum") / 6
    for name, gradient in zip(
        dict(model.named_parameters()), torch.autograd.grad(loss, list(model.parameters())), strict=True
    ):
        assert torch.allclose(private.step(*batch).gradients[name], gradient, atol=1e-6)


def test_one_sample_moves_the_sum_by_at_most_the_sensitivity() -> None:
    model = network()
    for rule in (Flat(0.5), PerLayer(0.7)):
        inputs, labels, _ = batch_of(9)
        private = mechanism(model, rule, noise_multiplier=0.0)
        whole = private.step(100 * inputs, labels).gradients
        for i in range(9):
            keep = torch.arange(9) != i
            part = private.step(100 * inputs[keep], labels[keep]).gradients
            moved = sum(float((whole[name] - part[name]).double().square().sum()) for name in whole) ** 0.5
            assert moved * 6 <= rule.sensitivity * (1 + 1e-5)


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"noise_multiplier": -1.0}, "noise_multiplier"), ({"expected_batch_size": 0}, "expected_batch_size")],
)
def test_wrong_numbers(changes: dict[str, float], message: str) -> None:
    with pytest.raises(SettingError, match=message):
        mechanism(network(), Flat(1.0), **changes)


def test_a_gradient_that_is_not_finite_is_an_error() -> None:
    inputs, labels, _ = batch_of(4)
    inputs[2] = torch.nan
    with pytest.raises(InputError, match="1 of 4 samples"):
        mechanism(network(), Flat(1.0)).step(inputs, labels)
