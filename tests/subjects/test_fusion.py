"""Folding BatchNorm into convolutions changes no answer, whatever the network looks like."""

from __future__ import annotations

import copy

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from assay.subjects.fusion import fuse_conv_bn


def stirred(model: nn.Module, seed: int = 0) -> nn.Module:
    """The model in evaluation mode with statistics and affine parameters far from their initial values."""
    generator = torch.Generator().manual_seed(seed)
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            for name, low, high in (("weight", -1.5, 1.5), ("bias", -1, 1)):
                value = getattr(module, name)
                if value is not None:
                    value.data = torch.rand(value.shape, generator=generator) * (high - low) + low
            if module.running_mean is not None:
                module.running_mean = torch.randn(module.running_mean.shape, generator=generator)
                module.running_var = torch.rand(module.running_var.shape, generator=generator) + 0.2
    return model.eval()


def agree(model: nn.Module, images: Tensor, folded: int | None = None) -> nn.Module:
    """The fused copy, after checking values, input gradients, and that the original is as it was."""
    before = {name: value.clone() for name, value in model.state_dict().items()}
    twin = copy.deepcopy(model).eval().requires_grad_(False)
    fused = fuse_conv_bn(twin)
    for net in (model, fused):
        leaf = images.clone().requires_grad_(True)
        output = net(leaf)
        (gradient,) = torch.autograd.grad(output.square().sum(), leaf)
        if net is model:
            expected, slope = output, gradient
    scale = float(expected.abs().max().detach())
    assert torch.allclose(output, expected, atol=1e-4 * max(1, scale))
    assert torch.allclose(gradient, slope, atol=1e-4 * max(1, float(slope.abs().max())))
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    if folded is not None:
        left = sum(isinstance(module, nn.modules.batchnorm._BatchNorm) for _, module in used(fused))
        had = sum(isinstance(module, nn.modules.batchnorm._BatchNorm) for _, module in used(model))
        assert had - left == folded
    return fused


def used(model: nn.Module) -> list[tuple[str, nn.Module]]:
    """The modules a forward pass calls."""
    called: list[tuple[str, nn.Module]] = []
    handles = [
        module.register_forward_hook(lambda m, i, o, name=name: called.append((name, m)))
        for name, module in model.named_modules()
    ]
    with torch.no_grad():
        model(torch.zeros(2, 3, 9, 9))
    for handle in handles:
        handle.remove()
    return called


@given(
    st.lists(
        st.tuples(
            st.integers(1, 6),
            st.sampled_from([1, 3]),
            st.integers(1, 2),
            st.booleans(),
            st.booleans(),
            st.sampled_from(["bn", "bn-relu", "relu-bn", "none"]),
        ),
        min_size=1,
        max_size=4,
    ),
    st.integers(0, 2**31),
)
def test_random_networks(layers, seed: int) -> None:
    torch.manual_seed(seed)
    parts: list[nn.Module] = []
    channels, folds = 3, 0
    for width, kernel, stride, bias, affine, tail in layers:
        parts.append(nn.Conv2d(channels, width, kernel, stride, padding=kernel // 2, bias=bias))
        channels = width
        norm = nn.BatchNorm2d(width, affine=affine)
        parts += {"bn": [norm], "bn-relu": [norm, nn.ReLU()], "relu-bn": [nn.ReLU(), norm], "none": []}[tail]
        folds += tail in ("bn", "bn-relu")
    model = stirred(nn.Sequential(*parts, nn.Flatten()), seed)
    agree(model, torch.rand(2, 3, 9, 9), folds)


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 3, 3, padding=1), nn.Conv2d(3, 3, 3, padding=1)
        self.one, self.two = nn.BatchNorm2d(3), nn.BatchNorm2d(3)

    def forward(self, x: Tensor) -> Tensor:
        return (self.two(self.second(self.one(self.first(x)).relu())) + x).flatten(1)


class SharedConvolution(Residual):
    """One convolution read by two normalisations."""

    def forward(self, x: Tensor) -> Tensor:
        return (self.one(self.first(x)) + self.two(self.first(x))).flatten(1)


class SharedOutput(Residual):
    """A convolution whose raw output is also used."""

    def forward(self, x: Tensor) -> Tensor:
        raw = self.first(x)
        return (self.one(raw) + raw).flatten(1)


class SharedNorm(Residual):
    """One normalisation after two convolutions."""

    def forward(self, x: Tensor) -> Tensor:
        return (self.one(self.first(x)) + self.one(self.second(x))).flatten(1)


class TiedWeight(Residual):
    """Two convolutions with one weight tensor."""

    def __init__(self) -> None:
        super().__init__()
        self.second.weight = self.first.weight


class SameModuleTwice(Residual):
    """One convolution under two names, each with a normalisation of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.second = self.first

    def forward(self, x: Tensor) -> Tensor:
        return (self.one(self.first(x)) + self.two(self.second(x))).flatten(1)


class WeightUsedElsewhere(Residual):
    """A convolution whose weight the forward pass also reads directly."""

    def forward(self, x: Tensor) -> Tensor:
        return (self.one(self.first(x)) * self.first.weight.sum()).flatten(1)


class Branching(Residual):
    """Control flow on the data, which cannot be traced."""

    def forward(self, x: Tensor) -> Tensor:
        if float(x.detach().sum()) > -1e9:
            x = self.one(self.first(x))
        return x.flatten(1)


class NoStatistics(Residual):
    def __init__(self) -> None:
        super().__init__()
        self.one = nn.BatchNorm2d(3, track_running_stats=False)


@pytest.mark.parametrize(
    ("kind", "folded"),
    [
        (Residual, 2),
        (SharedConvolution, None),
        (SharedOutput, None),
        (SharedNorm, None),
        (TiedWeight, None),
        (SameModuleTwice, None),
        (WeightUsedElsewhere, None),
        (Branching, None),
        (NoStatistics, None),
    ],
)
def test_networks_that_share_or_cannot_be_folded(kind: type[nn.Module], folded: int | None) -> None:
    torch.manual_seed(0)
    agree(stirred(kind()), torch.rand(3, 3, 9, 9), folded)


def test_grouped_transposed_and_one_dimensional() -> None:
    torch.manual_seed(0)
    agree(stirred(nn.Sequential(nn.Conv2d(3, 6, 3, groups=3), nn.BatchNorm2d(6))), torch.rand(2, 3, 9, 9), 1)
    agree(stirred(nn.Sequential(nn.ConvTranspose2d(3, 4, 3), nn.BatchNorm2d(4))), torch.rand(2, 3, 9, 9), 0)
    model = stirred(nn.Sequential(nn.Flatten(2), nn.Conv1d(3, 4, 5), nn.BatchNorm1d(4)))
    agree(model, torch.rand(2, 3, 9, 9), 1)


def test_a_network_without_normalisation_is_left_alone() -> None:
    model = nn.Conv2d(3, 3, 3)
    assert fuse_conv_bn(model) is model


def test_a_second_batch_norm_is_folded_into_what_the_first_has_made() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.BatchNorm2d(3)).eval()
    for layer in model[1:]:
        nn.init.uniform_(layer.running_mean)
        nn.init.uniform_(layer.running_var, 0.5, 2)
        nn.init.uniform_(layer.weight, 0.5, 2)
    x = torch.rand(2, 1, 5, 5)
    expected = model(x)
    torch.testing.assert_close(fuse_conv_bn(model)(x), expected)
