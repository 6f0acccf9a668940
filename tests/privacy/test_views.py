"""Noise that belongs to a sample, and adversarial points that no other sample can move."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from torch import Tensor, nn

from assay.privacy.views import adversarial_points, gaussian, held, ramped, view_noise, with_clean
from assay.tensors.random import sample_seeds

SEEDS = sample_seeds(7, list(range(300)), "views")


@given(st.lists(st.integers(1, 9), max_size=3), st.integers(0, 2**40), st.integers(1, 40))
@settings(max_examples=30, deadline=None)
def test_draws_depend_on_the_sample_alone(shape: list[int], stream: int, count: int) -> None:
    """Bit for bit the same alone, in another order, and on both sides of the blocks they are made in."""
    draws = gaussian(SEEDS[:count], shape, stream)
    assert draws.shape == (count, *shape)
    assert draws.dtype == torch.float32
    assert torch.equal(gaussian(SEEDS[:count].flip(0), shape, stream).flip(0), draws)
    for row in range(count):
        assert torch.equal(gaussian(SEEDS[row : row + 1], shape, stream)[0], draws[row])


def test_draws_do_not_depend_on_the_size_of_the_batch() -> None:
    draws = gaussian(SEEDS, (2, 1, 28, 28))
    assert torch.equal(torch.cat([gaussian(part, (2, 1, 28, 28)) for part in SEEDS.split(17)]), draws)


def test_draws_are_standard_normal() -> None:
    draws = gaussian(SEEDS, (2001,)).double()
    assert stats.kstest(draws.flatten().numpy(), "norm").pvalue > 0.001
    squares = (draws.square().sum(1) - 2001) / math.sqrt(2 * 2001)
    assert stats.kstest(squares.numpy(), "norm").pvalue > 0.001  # rows are of full length, not copies of fewer draws
    assert 4.5 < draws.abs().max() < 6.8
    beyond = int((draws.abs() > 3.5).sum())
    assert stats.binomtest(beyond, draws.numel(), 2 * stats.norm.sf(3.5)).pvalue > 0.001


def test_the_two_draws_of_a_word_are_uncorrelated_with_each_other_and_with_other_streams() -> None:
    draws = gaussian(SEEDS, (2000,))
    pairs = [(draws[:, :1000], draws[:, 1000:]), (draws, gaussian(SEEDS, (2000,), 1)), (draws[:-1], draws[1:])]
    for first, second in pairs:
        for power in (1, 2):
            together = torch.stack([first.flatten() ** power, second.flatten() ** power]).double()
            assert abs(float(torch.corrcoef(together)[0, 1])) < 4 / math.sqrt(first.numel())


def test_noise_has_its_scale_and_every_view_its_own() -> None:
    noise = view_noise(SEEDS, 3, (1, 8, 8), 0.25)
    assert noise.shape == (300, 3, 1, 8, 8)
    assert noise.std().item() == pytest.approx(0.25, rel=0.02)
    assert torch.equal(noise, view_noise(SEEDS, 3, (1, 8, 8), 0.5) / 2)
    assert not torch.equal(noise[:, 0], noise[:, 1])


@pytest.mark.parametrize(("count", "views"), [(0, 2), (3, 0)])
def test_no_samples_and_no_views(count: int, views: int) -> None:
    images = torch.rand(count, 1, 4, 4)
    noise = view_noise(SEEDS[:count], views, (1, 4, 4), 1.0)
    assert with_clean(images, images[:, None] + noise).shape == (count, views + 1, 1, 4, 4)


def test_the_clean_view_comes_first_and_nothing_is_clamped() -> None:
    images = torch.rand(20, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    views = with_clean(images, images[:, None] + view_noise(SEEDS[:20], 2, (1, 8, 8), 1.0))
    assert torch.equal(views[:, 0], images)
    assert views[:, 1:].min() < -1
    assert views[:, 1:].max() > 2


class Toy(nn.Module):
    """A small network whose rows do not meet."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(2)
        self.first = torch.randn(16, 12, generator=generator)
        self.second = torch.randn(12, 3, generator=generator)

    def forward(self, images: Tensor) -> Tensor:
        return (images.flatten(1) @ self.first).tanh() @ self.second


def problem(count: int = 6, views: int = 3) -> tuple[Tensor, Tensor, Tensor]:
    images = torch.rand(count, 1, 4, 4, generator=torch.Generator().manual_seed(5))
    return images, torch.arange(count) % 3, view_noise(SEEDS[:count], views, (1, 4, 4), 0.3)


def smooth_loss(model: nn.Module, points: Tensor, labels: Tensor, noise: Tensor) -> Tensor:
    """-log of the mean probability of the label, sample by sample."""
    rows = [
        -model(x[None] + n).softmax(1)[:, y].mean().clamp_min(1e-20).log()
        for x, y, n in zip(points, labels.tolist(), noise, strict=True)
    ]
    return torch.stack(rows)


def test_smoothadv_is_the_slow_ascent_of_each_sample_alone() -> None:
    model = Toy()
    images, labels, noise = problem()
    eps, steps = 0.2, 2
    expected = []
    for i in range(len(images)):
        change = torch.zeros_like(images[i])
        for _ in range(steps):
            point = (images[i] + change).requires_grad_()
            (g,) = torch.autograd.grad(
                smooth_loss(model, point[None], labels[i : i + 1], noise[i : i + 1]).sum(), point
            )
            change = (change + 2 * eps / steps * g / g.norm()).detach()
            change = change * min(1.0, eps / float(change.norm()))
            change = (images[i] + change).clamp(0, 1) - images[i]
        expected.append(images[i] + change)
    found = adversarial_points(model, images, labels, noise, eps=eps, steps=steps)
    assert torch.allclose(found, torch.stack(expected), atol=1e-5)


def test_smoothadv_stays_in_ball_and_box_and_raises_the_loss() -> None:
    model = Toy()
    images, labels, noise = problem()
    points = adversarial_points(model, images, labels, noise, eps=0.25, steps=4)
    assert ((points - images).flatten(1).norm(dim=1) <= 0.25 + 1e-6).all()
    assert (points >= 0).all()
    assert (points <= 1).all()
    assert (smooth_loss(model, points, labels, noise) > smooth_loss(model, images, labels, noise)).all()


def test_smoothadv_of_a_sample_ignores_the_others() -> None:
    model = Toy()
    images, labels, noise = problem()
    points = adversarial_points(model, images, labels, noise, eps=0.3, steps=2)
    images[2], noise[2], labels[2] = 0.5, 9.0, 0
    changed = adversarial_points(model, images, labels, noise, eps=0.3, steps=2)
    rest = torch.arange(6) != 2
    assert torch.allclose(changed[rest], points[rest], atol=1e-6)
    assert not torch.allclose(changed[2], points[2])


def test_a_held_model_answers_alike_and_moves_nothing() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Tanh(), nn.Flatten(), nn.Linear(64, 2))
    images = torch.rand(5, 3, 6, 6, requires_grad=True)
    answer = held(model)(images)
    assert torch.allclose(answer, model(images), atol=1e-6)
    answer.sum().backward()
    assert images.grad is not None
    assert all(parameter.grad is None for parameter in model.parameters())
    assert model[0].weight.is_contiguous()


def test_smoothadv_without_budget_or_samples() -> None:
    images, labels, noise = problem()
    assert torch.equal(adversarial_points(Toy(), images, labels, noise, eps=0.0, steps=2), images)
    assert adversarial_points(Toy(), images[:0], labels[:0], noise[:0], eps=0.1, steps=2).shape == (0, 1, 4, 4)


def test_smoothadv_moves_where_every_probability_is_zero() -> None:
    """A logit gap of 200: probabilities underflow in single precision, their logarithm does not."""

    def logits(points: Tensor) -> Tensor:
        return torch.stack([points.flatten(1).sum(1), points.flatten(1).sum(1) * 0 + 200], 1)

    images = torch.full((1, 1, 4, 4), 0.5)
    points = adversarial_points(logits, images, torch.tensor([0]), torch.zeros(1, 2, 1, 4, 4), eps=0.4, steps=2)
    assert float((points - images).norm()) == pytest.approx(0.4, rel=1e-5)


@pytest.mark.parametrize(
    ("epoch", "ramp_epochs", "expected"), [(0, 10, 0.025), (9, 10, 0.25), (40, 10, 0.25), (0, 0, 0.25), (0, 1, 0.25)]
)
def test_the_budget_grows_over_the_first_epochs(epoch: int, ramp_epochs: int, expected: float) -> None:
    assert ramped(0.25, epoch, ramp_epochs) == pytest.approx(expected)
