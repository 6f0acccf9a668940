"""Gradients of convolutions by their input as convolutions: torch's gradients for every form, and whole networks."""

from __future__ import annotations

import copy

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import assume, given
from torch import nn

from assay.subjects.convolving import block, quicken_gradients
from assay.subjects.lanes import in_lanes
from assay.subjects.networks import build_network


def gradients(model: nn.Module, points: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    leaf = points.clone().requires_grad_(True)
    answer = model(leaf)
    (gradient,) = torch.autograd.grad(answer, leaf, torch.sin(3 * answer.detach()))
    return answer.detach(), gradient


@given(
    kernel=st.integers(1, 7),
    stride=st.integers(1, 4),
    padding=st.integers(0, 6),
    channels=st.sampled_from([1, 2, 3, 8]),
    size=st.tuples(st.integers(4, 13), st.integers(4, 13)),
    last=st.booleans(),
)
def test_gradients_are_torchs(kernel, stride, padding, channels, size, last) -> None:
    assume(stride <= kernel and padding < kernel and min(size) + 2 * padding >= kernel)
    layout = torch.channels_last if last else torch.contiguous_format
    plain = nn.Conv2d(channels, 5, kernel, stride, padding).double().requires_grad_(False)
    quick = copy.deepcopy(plain)
    assert quicken_gradients(quick) == 1
    quick.to(memory_format=layout)
    points = torch.rand(2, channels, *size, dtype=torch.float64).to(memory_format=layout)
    (answer, gradient), (expected, known) = gradients(quick, points), gradients(plain, points)
    assert torch.equal(answer, expected) or torch.allclose(answer, expected, atol=1e-12)
    assert torch.allclose(gradient, known, atol=1e-10)


@pytest.mark.parametrize("name", ["tiny-cnn", "fair-cnn", "resnet14"])
@pytest.mark.parametrize(("channels", "side"), [(1, 8), (3, 16)])
def test_whole_networks(name: str, channels: int, side: int) -> None:
    torch.manual_seed(0)
    plain = build_network(name, in_channels=channels, num_classes=4, image_size=side).eval().requires_grad_(False)
    quick = copy.deepcopy(plain)
    assert quicken_gradients(quick) >= 1
    points = torch.rand(6, channels, side, side)
    (answer, gradient), (expected, known) = gradients(quick, points), gradients(plain, points)
    assert torch.allclose(answer, expected, atol=1e-5)
    assert torch.allclose(gradient, known, atol=1e-4 * float(known.abs().max()))


def test_a_rows_gradient_is_the_same_in_every_batch() -> None:
    torch.manual_seed(0)
    quick = build_network("tiny-cnn", in_channels=1, num_classes=4, image_size=12).eval().requires_grad_(False)
    quicken_gradients(quick)
    points = torch.rand(41, 1, 12, 12)

    def slope(part: torch.Tensor) -> torch.Tensor:
        return gradients(quick, part)[1]

    whole = in_lanes(slope, points)
    for start, stop in ((0, 1), (3, 8), (40, 41), (5, 30)):
        assert torch.equal(in_lanes(slope, points[start:stop]), whole[start:stop])


def test_what_is_not_quickened_stays() -> None:
    for layer in (
        nn.Conv2d(16, 4, 3),
        nn.Conv2d(2, 4, 3, groups=2),
        nn.Conv2d(1, 4, 3, dilation=2),
        nn.Conv2d(1, 4, (3, 5)),
        nn.Conv2d(1, 4, 3, padding="same"),
        nn.Conv2d(1, 4, 3, padding_mode="circular", padding=1),
        nn.Conv1d(1, 4, 3),
    ):
        assert quicken_gradients(layer.requires_grad_(False)) == 0
        assert type(layer) in (nn.Conv2d, nn.Conv1d)
    assert quicken_gradients(nn.Conv2d(1, 4, 3)) == 0, "its weights ask for a gradient"


def test_blocks_of_images() -> None:
    assert block(3, 1, 1, 1) == 4
    assert block(3, 1, 1, 3) == 2
    assert block(3, 2, 1, 8) == 2
