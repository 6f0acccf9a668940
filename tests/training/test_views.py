"""Views are random, belong to the sample, and do to an image what they say."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from assay.tensors.random import sample_seeds, uniform
from assay.training.encoders.views import STREAM, TO_YIQ, Look, luma, turn_hue, view

PLAIN = Look(area=(1.0, 1.0), jitter=0, grey=0, blur=0)


def images(count: int = 6, channels: int = 3, side: int = 16, seed: int = 0) -> Tensor:
    return torch.rand(count, channels, side, side, generator=torch.Generator().manual_seed(seed))


def seeds(count: int = 6) -> Tensor:
    return sample_seeds(3, range(count), "views")


@given(
    channels=st.integers(1, 4),
    height=st.integers(4, 24),
    width=st.integers(4, 24),
    size=st.tuples(st.integers(1, 20), st.integers(1, 20)),
    number=st.integers(0, 9),
    keep=st.lists(st.integers(0, 4), min_size=1, max_size=5, unique=True),
)
def test_a_view_is_a_function_of_the_sample(channels, height, width, size, number, keep) -> None:
    whole = torch.rand(5, channels, height, width, generator=torch.Generator().manual_seed(height))
    look = Look((0.1, 1.0), 0.8, 0.3, 0.5, 0.5)
    found = view(whole, seeds(5), number, look, size)
    assert found.shape == (5, channels, *size)
    assert found.min() >= -1e-6
    assert found.max() <= 1 + 1e-6
    assert torch.isfinite(found).all()
    part = view(whole[keep], seeds(5)[keep], number, look, size)
    assert torch.allclose(part, found[keep], atol=1e-5)


def test_a_crop_samples_its_rectangle() -> None:
    """On an image whose value is the column, a view shows the columns of its rectangle, in order or mirrored."""
    side, count = 32, 50
    ramp = ((torch.arange(side) + 0.5) / side).expand(count, 1, side, side)
    draws = uniform(seeds(count), (16,), STREAM)
    found = view(ramp.contiguous(), seeds(count), 0, Look((0.2, 0.6), 0, 0, 0), (8, 8))
    for row, draw in zip(found[:, 0, 4], draws, strict=True):
        share, ratio = 0.2 + 0.4 * draw[0].item(), math.exp((2 * draw[1].item() - 1) * math.log(4 / 3))
        width = min(1.0, math.sqrt(share * ratio))
        left = draw[2].item() * (1 - width)
        expected = left + width * (torch.arange(8) + 0.5) / 8
        expected = expected.flip(0) if draw[4] >= 0.5 else expected
        inside = (expected > 0.5 / side) & (expected < 1 - 0.5 / side)
        assert torch.allclose(row[inside], expected[inside], atol=1e-4)
    assert 10 < int((draws[:, 4] >= 0.5).sum()) < 40


def test_two_views_differ_and_repeat() -> None:
    x = images()
    first, second = (view(x, seeds(), number, Look(), (16, 16)) for number in (0, 1))
    assert (first - second).flatten(1).abs().amax(1).min() > 0.01
    assert torch.equal(first, view(x, seeds(), 0, Look(), (16, 16)))


def test_grey_views_have_no_colour() -> None:
    found = view(images(), seeds(), 0, Look((1.0, 1.0), 0.4, 1.0, 0), (16, 16))
    assert (found.amax(1) - found.amin(1)).max() < 1e-3


def test_hue_turns_keep_luminance_and_close_the_circle() -> None:
    x = images()
    whole = turn_hue(x, torch.ones(6, 1, 1, 1))
    assert torch.allclose(whole, x, atol=1e-4)
    half = turn_hue(x, torch.full((6, 1, 1, 1), 0.37))
    assert torch.allclose(luma(half), luma(x), atol=1e-3)
    assert (half - x).abs().max() > 0.1
    assert torch.allclose(torch.tensor(TO_YIQ).sum(1), torch.tensor([1.0, 0.0, 0.0]), atol=1e-3)


def test_blur_is_a_gaussian_of_the_samples_own_width() -> None:
    side = 224
    x = images(3, 1, side)
    plain = view(x, seeds(3), 0, PLAIN, (side, side))
    found = view(x, seeds(3), 0, Look((1.0, 1.0), 0, 0, 1.0), (side, side))
    sigmas = 0.1 + 1.9 * uniform(seeds(3), (16,), STREAM)[:, 13]
    steps = torch.arange(-6, 7)
    for image, clean, sigma in zip(found, plain, sigmas, strict=True):
        line = torch.exp(-0.5 * (steps / sigma) ** 2)
        kernel = torch.outer(line, line) / line.sum() ** 2
        expected = F.conv2d(F.pad(clean[None], (6, 6, 6, 6), mode="reflect"), kernel[None, None])[0]
        assert torch.allclose(image, expected, atol=1e-4)


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_solarized_views_have_no_bright_half(share: float) -> None:
    found = view(images(), seeds(), 0, Look((1.0, 1.0), 0, 0, 0, share), (16, 16))
    assert (found.max() <= 0.5) == (share == 1.0)
