"""Residual networks with pre-activation, for images of 32 to 64 pixels: PreActResNet and wide residual networks.

He, Zhang, Ren and Sun: Identity Mappings in Deep Residual Networks, ECCV 2016,
arXiv 1603.05027. Zagoruyko and Komodakis: Wide Residual Networks, BMVC 2016, arXiv 1605.07146.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence

from torch import Tensor, nn

from ..core.errors import ModelError

Size = tuple[int, int]
MOST_GROUPS = 32


class PreActivationBlock(nn.Module):
    """x + W2 σ(N(W1 σ(N(x)))), both convolutions 3x3; N is a normalisation layer.

    Where the shape changes, a 1x1 convolution of σ(N(x)) stands in the place of x.
    """

    def __init__(
        self, in_planes: int, planes: int, stride: int, norm: Callable[[int], nn.Module], activation: nn.Module
    ) -> None:
        super().__init__()
        self.norm1 = norm(in_planes)
        self.conv1 = nn.Conv2d(in_planes, planes, 3, stride=stride, padding=1, bias=False)
        self.norm2 = norm(planes)
        self.conv2 = nn.Conv2d(planes, planes, 3, padding=1, bias=False)
        self.activation = activation
        changes = stride != 1 or in_planes != planes
        self.shortcut = nn.Conv2d(in_planes, planes, 1, stride=stride, bias=False) if changes else None

    def forward(self, inputs: Tensor) -> Tensor:
        """[B, in_planes, H, W] -> [B, planes, H / stride, W / stride]."""
        active = self.activation(self.norm1(inputs))
        shortcut = inputs if self.shortcut is None else self.shortcut(active)
        out = self.conv2(self.activation(self.norm2(self.conv1(active))))
        return out + shortcut


class PreActivationNet(nn.Module):
    """A 3x3 convolution, stages of blocks that each but the first halve the resolution, and a linear layer.

    Args:
        in_channels: channels of the image.
        num_classes: outputs.
        planes: channels after the first convolution, and of each stage.
        blocks: blocks in a stage.
        norm: makes the normalisation layer for a number of channels.
        activation: σ.
    """

    def __init__(
        self,
        in_channels: int,
        num_classes: int,
        *,
        planes: Sequence[int],
        blocks: int,
        norm: Callable[[int], nn.Module],
        activation: nn.Module,
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, planes[0], 3, padding=1, bias=False)
        made: list[nn.Module] = []
        for stage, (before, after) in enumerate(itertools.pairwise(planes)):
            stride = 1 if stage == 0 else 2
            rest = (PreActivationBlock(after, after, 1, norm, activation) for _ in range(blocks - 1))
            made.append(nn.Sequential(PreActivationBlock(before, after, stride, norm, activation), *rest))
        self.stages = nn.Sequential(*made)
        self.norm = norm(planes[-1])
        self.activation = activation
        self.linear = nn.Linear(planes[-1], num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.kaiming_normal_(module.weight)
        nn.init.zeros_(self.linear.bias)

    def forward(self, images: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, K]."""
        out = self.activation(self.norm(self.stages(self.conv(images))))
        return self.linear(out.mean((2, 3)))


def group_norm(planes: int) -> nn.GroupNorm:
    """Group normalisation (Wu and He, arXiv 1803.08494) in 32 groups, fewer where a group had a single channel.

    >>> [group_norm(planes).num_groups for planes in (16, 64, 160)]
    [8, 32, 32]
    """
    return nn.GroupNorm(math.gcd(min(MOST_GROUPS, planes // 2), planes), planes)


def wide_resnet(
    in_channels: int, num_classes: int, image_size: int | Size, depth: int = 28, widen: int = 10, grouped: int = 0
) -> PreActivationNet:
    """WRN-``depth``-``widen`` with the activation SiLU (Swish); 16, 32 and 64 planes times ``widen``.

    Any image of at least 4x4 pixels will do, since features are averaged over space.

    Args:
        in_channels: channels of the image.
        num_classes: outputs.
        image_size: side, or (height, width); meant for 32 pixels.
        depth: 6n + 4 layers, counted as in the paper: 10, 16, 22, 28 ...
        widen: factor on the planes, from 1 up.
        grouped: 0: batch normalisation; 1: group normalisation.

    >>> sum(p.numel() for p in wide_resnet(3, 10, 32, depth=10, widen=1).parameters())
    77850
    """
    if depth < 10 or depth % 6 != 4 or widen < 1:
        raise ModelError(
            f"A wide residual network of depth {depth} and width {widen} cannot be built; allowed: depth 10, 16, 22, "
            "28 ... (6n + 4) and width from 1 up."
        )
    return PreActivationNet(
        in_channels,
        num_classes,
        planes=(16, 16 * widen, 32 * widen, 64 * widen),
        blocks=(depth - 4) // 6,
        norm=group_norm if grouped else nn.BatchNorm2d,
        activation=nn.SiLU(),
    )


def preact_resnet18(in_channels: int, num_classes: int, image_size: int | Size, grouped: int = 0) -> PreActivationNet:
    """PreActResNet-18 for small images: a 3x3 convolution first, then 2 blocks each of 64, 128, 256 and 512 planes.

    Args:
        in_channels: channels of the image.
        num_classes: outputs.
        image_size: side, or (height, width); meant for 32 and 64 pixels.
        grouped: 0: batch normalisation; 1: group normalisation.
    """
    return PreActivationNet(
        in_channels,
        num_classes,
        planes=(64, 64, 128, 256, 512),
        blocks=2,
        norm=group_norm if grouped else nn.BatchNorm2d,
        activation=nn.ReLU(),
    )
