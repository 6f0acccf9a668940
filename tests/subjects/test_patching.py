"""Faster forms of a network's parts change no answer, wherever they apply."""

from __future__ import annotations

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from assay.subjects.backbones import build_backbone
from assay.subjects.patching import quicken

from .test_fusion import stirred


def agree(model: nn.Module, inputs: Tensor, changed: int) -> nn.Module:
    """The quickened copy, after checking answers and gradients by the input."""
    fast = copy.deepcopy(model).eval().requires_grad_(False)
    assert quicken(fast) == changed
    results = []
    for net in (model.eval(), fast):
        leaf = inputs.clone().requires_grad_(True)
        output = net(leaf)
        parts = output if isinstance(output, tuple) else (output,)
        (gradient,) = torch.autograd.grad(sum(part.square().sum() for part in parts), leaf)
        results.append([*(part.detach() for part in parts), gradient])
    for plain, quick in zip(*results, strict=True):
        torch.testing.assert_close(quick, plain, rtol=1e-4, atol=1e-4 * max(1.0, float(plain.abs().max())))
    return fast


@pytest.mark.parametrize(("name", "changed"), [("resnet-micro", 11), ("vit-micro", 1)])
def test_reference_encoders(name: str, changed: int) -> None:
    model = stirred(build_backbone(name, image_size=(16, 24)))
    fast = agree(model, torch.rand(3, 3, 16, 24), changed)
    left = [sum(isinstance(module, nn.BatchNorm2d) for module in net.modules()) for net in (model, fast)]
    assert left == ([12, 1] if name == "resnet-micro" else [0, 0]), "the stem is called where nothing can be traced"


@given(
    st.integers(1, 4),
    st.tuples(st.integers(1, 4), st.integers(1, 4)),
    st.tuples(st.integers(3, 11), st.integers(3, 11)),
    st.booleans(),
    st.booleans(),
)
@settings(max_examples=40, deadline=None)
def test_patches_of_every_size(channels: int, kernel, size, bias: bool, last: bool) -> None:
    if kernel == (1, 1) or kernel[0] > size[0] or kernel[1] > size[1]:
        return
    layer = nn.Conv2d(channels, 5, kernel, stride=kernel, bias=bias)
    inputs = torch.rand(2, channels, *size)
    agree(nn.Sequential(layer, nn.Tanh()), inputs.contiguous(memory_format=torch.channels_last) if last else inputs, 1)


def test_other_convolutions_stay() -> None:
    layers = [
        nn.Conv2d(3, 4, 3, stride=2),
        nn.Conv2d(3, 4, 2, stride=2, padding=1),
        nn.Conv2d(4, 4, 2, stride=2, groups=2),
        nn.Conv2d(3, 4, 1),
        nn.Conv2d(8, 4, 2, stride=2),
        nn.Conv2d(3, 4, 2, stride=2, dilation=2),
    ]
    for layer in layers:
        agree(nn.Sequential(layer), torch.rand(2, layer.in_channels, 8, 8), 0)


class Untraceable(nn.Module):
    """Asks for the size of its input, and uses parts in ways that forbid folding some of them."""

    def __init__(self) -> None:
        super().__init__()
        self.block = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU())
        self.shared = nn.BatchNorm2d(4)
        self.first = nn.Sequential(nn.Conv2d(4, 4, 1), self.shared)
        self.second = nn.Sequential(nn.Conv2d(4, 4, 1), self.shared)

    def forward(self, images: Tensor) -> Tensor:
        """[B, 3, H, W] -> [B, 4, H, W]."""
        if images.shape[-1] % 2:
            raise ValueError("an even width is needed")
        return self.second(self.first(self.block(images)))


def test_a_shared_part_is_left_alone() -> None:
    agree(stirred(Untraceable()), torch.rand(2, 3, 6, 6), 1)
