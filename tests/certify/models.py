"""Models whose certificates are known: a linear one with two classes, and small networks."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from assay import Classification, Target
from assay.subjects.networks import build_network

WEIGHT = torch.tensor([1.0, -2.0, 0.5, 1.5])


def linear(offset: float = 0.0) -> Target:
    """Two classes on 1x2x2 images: class 1 where w·x > offset."""
    layer = nn.Linear(4, 2)
    layer.weight.data = torch.stack([-WEIGHT, WEIGHT]) / 2
    layer.bias.data = torch.tensor([offset, -offset]) / 2
    return Target(nn.Sequential(nn.Flatten(), layer), task=Classification(2), bounds=(-10.0, 10.0))


def at_distance(distances: Tensor) -> Tensor:
    """Images at these signed distances from the boundary of ``linear()``: [N, 1, 2, 2]."""
    generator = torch.Generator().manual_seed(0)
    along = torch.randn(len(distances), 4, generator=generator)
    unit = WEIGHT / WEIGHT.norm()
    return (along - (along @ unit)[:, None] * unit + distances[:, None] * unit).reshape(-1, 1, 2, 2)


def convolutional(name: str = "tiny-cnn", side: int = 16, channels: int = 1) -> Target:
    """A reference network with fixed random weights; its last bias makes all five classes win now and then."""
    generator = torch.Generator().manual_seed(2)
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(0)
        network = build_network(name, in_channels=channels, num_classes=5, image_size=side)
        last = [module for module in network.modules() if isinstance(module, nn.Linear)][-1]
        last.bias -= network(0.5 + torch.randn(256, channels, side, side, generator=generator)).mean(0)
    return Target(network, task=Classification(5))


def pictures(count: int, side: int = 16, channels: int = 1) -> Tensor:
    """Random images in [0, 1]."""
    return torch.rand(count, channels, side, side, generator=torch.Generator().manual_seed(1))
