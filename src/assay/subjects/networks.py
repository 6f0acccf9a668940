"""Reference networks: small, plain, and good enough to train, examine and compare on a laptop.

Every builder takes the shape of the input and the number of classes, and
returns a module that maps [B, C, H, W] to logits [B, K].
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch.nn.functional as F
from torch import Tensor, nn

from ..core.errors import ModelError, did_you_mean
from .preactivation import preact_resnet18, wide_resnet

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
RESNET_DEPTHS = (14, 20, 32, 44, 56)

Size = tuple[int, int]


def linear(in_channels: int, num_classes: int, image_size: int | Size) -> nn.Module:
    """Softmax regression: logits = W x + b on the flattened image.

    >>> sum(p.numel() for p in linear(1, 10, 8).parameters())
    650
    """
    height, width = _size(image_size)
    return nn.Sequential(nn.Flatten(), nn.Linear(in_channels * height * width, num_classes))


def mlp(in_channels: int, num_classes: int, image_size: int | Size, width: int = 256) -> nn.Module:
    """A perceptron with two hidden layers of ``width`` rectified units."""
    height, columns = _size(image_size)
    return nn.Sequential(
        nn.Flatten(),
        nn.Linear(in_channels * height * columns, width),
        nn.ReLU(),
        nn.Linear(width, width),
        nn.ReLU(),
        nn.Linear(width, num_classes),
    )


def small_cnn(in_channels: int, num_classes: int, image_size: int | Size, width: int = 16) -> nn.Module:
    """Three 3x3 convolutions and two linear layers, without normalisation layers.

    The first convolution keeps the resolution, the second halves it, the third
    halves it once more for images of 16 pixels and up. Without batch statistics
    a sample's logits depend on that sample alone, in training too.

    Args:
        in_channels: channels of the image.
        num_classes: outputs.
        image_size: side, or (height, width); meant for 8 to 64 pixels.
        width: channels of the first convolution; the others have twice as many.
    """
    height, columns = _size(image_size)
    if min(height, columns) < 4:
        raise ModelError(
            f"small-cnn needs images of at least 4x4 pixels, these are {height}x{columns}; use linear or mlp."
        )
    last_stride = 2 if min(height, columns) >= 16 else 1
    shrink = 2 * last_stride
    rows, columns = (math.ceil(side / shrink) for side in (height, columns))
    return nn.Sequential(
        nn.Conv2d(in_channels, width, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(width, 2 * width, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Conv2d(2 * width, 2 * width, 3, stride=last_stride, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(2 * width * rows * columns, 4 * width),
        nn.ReLU(),
        nn.Linear(4 * width, num_classes),
    )


def fair_cnn(in_channels: int, num_classes: int, image_size: int | Size, stride: int = 1) -> nn.Module:
    """Two unpadded 3x3 convolutions of 32 and 16 channels and a linear layer, with tanh.

    The network of Esipova et al., Disparate Impact in Differential Privacy from
    Gradient Misalignment (arXiv 2206.07737), experiments on images; 97,114
    parameters on MNIST. ``stride=2`` gives the same network at a tenth of the cost.
    """
    side = tuple((((s - 3) // stride + 1) - 3) // stride + 1 for s in _size(image_size))
    if min(side) < 1:
        raise ModelError(f"fair-cnn cannot take images of size {image_size}; allowed: sides from {3 + 2 * stride} up.")
    return nn.Sequential(
        nn.Conv2d(in_channels, 32, 3, stride=stride),
        nn.Tanh(),
        nn.Conv2d(32, 16, 3, stride=stride),
        nn.Tanh(),
        nn.Flatten(),
        nn.Linear(16 * side[0] * side[1], num_classes),
    )


def dp_cert_cnn(in_channels: int, num_classes: int, image_size: int | Size) -> nn.Module:
    """Convolutions 16 of 8x8 and 32 of 4x4, both with stride 2, max-pooling and tanh: 26,010 parameters on MNIST.

    The network for MNIST of Papernot et al., Tempered Sigmoid Activations for Deep
    Learning with Differential Privacy (arXiv 2007.14191), used by Wu et al. for
    DP-CERT (arXiv 2306.08656). Meant for images of 28 pixels a side.
    """

    def after(side: int) -> int:
        return ((side + 6 - 8) // 2 + 1 - 1 - 4) // 2 + 1 - 1

    rows, columns = (after(side) for side in _size(image_size))
    if min(rows, columns) < 1:
        raise ModelError(f"dp-cert-cnn cannot take images of size {image_size}; allowed: sides from 14 up.")
    return nn.Sequential(
        nn.Conv2d(in_channels, 16, 8, stride=2, padding=3),
        nn.Tanh(),
        nn.MaxPool2d(2, 1),
        nn.Conv2d(16, 32, 4, stride=2),
        nn.Tanh(),
        nn.MaxPool2d(2, 1),
        nn.Flatten(),
        nn.Linear(32 * rows * columns, 32),
        nn.Tanh(),
        nn.Linear(32, num_classes),
    )


def tanh_cnn(in_channels: int, num_classes: int, image_size: int | Size) -> nn.Module:
    """Three pairs of 3x3 convolutions (32, 64, 128 channels) with tanh and pooling: 550,570 parameters on CIFAR-10.

    The network for CIFAR-10 of Papernot et al. (arXiv 2007.14191).
    """
    rows, columns = (side // 8 for side in _size(image_size))
    if min(rows, columns) < 1:
        raise ModelError(f"tanh-cnn cannot take images of size {image_size}; allowed: sides from 8 up.")
    layers: list[nn.Module] = []
    channels = in_channels
    for planes in (32, 64, 128):
        layers += [nn.Conv2d(channels, planes, 3, padding=1), nn.Tanh()]
        layers += [nn.Conv2d(planes, planes, 3, padding=1), nn.Tanh(), nn.MaxPool2d(2)]
        channels = planes
    return nn.Sequential(
        *layers,
        nn.Flatten(),
        nn.Linear(128 * rows * columns, 128),
        nn.Tanh(),
        nn.Linear(128, num_classes),
    )


class BasicBlock(nn.Module):
    """Two 3x3 convolutions with batch normalisation around a shortcut without parameters (option A).

    Where the shape changes, the shortcut keeps every second pixel and pads the
    channels with zeros, equally on both sides.
    """

    def __init__(self, in_planes: int, planes: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_planes, planes, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(planes)
        self.conv2 = nn.Conv2d(planes, planes, 3, stride=1, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.stride = stride
        self.padding = (planes - in_planes) // 2

    def forward(self, inputs: Tensor) -> Tensor:
        """[B, in_planes, H, W] -> [B, planes, H / stride, W / stride]."""
        out = F.relu(self.bn1(self.conv1(inputs)))
        out = self.bn2(self.conv2(out))
        shortcut = inputs
        if self.stride != 1 or self.padding:
            shortcut = F.pad(inputs[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, self.padding, self.padding))
        return F.relu(out + shortcut)


class CifarResNet(nn.Module):
    """The residual network for small images of He et al., Section 4.2: 6n+2 layers, 16, 32 and 64 planes.

    He, Zhang, Ren and Sun: Deep Residual Learning for Image Recognition, CVPR
    2016, arXiv 1512.03385. Keys of the state: conv1, bn1,
    layer{1,2,3}.{i}.{conv1,bn1,conv2,bn2}, linear.

    Args:
        depth: 14, 20, 32, 44 or 56.
        in_channels: channels of the image.
        num_classes: outputs.
    """

    def __init__(self, depth: int, in_channels: int = 3, num_classes: int = 10) -> None:
        super().__init__()
        if depth not in RESNET_DEPTHS:
            raise ModelError(f"A CIFAR ResNet has depth {depth!r}; allowed: one of 14, 20, 32, 44, 56.")
        blocks = (depth - 2) // 6
        self.conv1 = nn.Conv2d(in_channels, 16, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.layer1 = self._stage(16, 16, blocks, stride=1)
        self.layer2 = self._stage(16, 32, blocks, stride=2)
        self.layer3 = self._stage(32, 64, blocks, stride=2)
        self.linear = nn.Linear(64, num_classes)
        for module in self.modules():
            if isinstance(module, (nn.Conv2d, nn.Linear)):
                nn.init.kaiming_normal_(module.weight)

    @staticmethod
    def _stage(in_planes: int, planes: int, blocks: int, stride: int) -> nn.Sequential:
        first = BasicBlock(in_planes, planes, stride)
        return nn.Sequential(first, *(BasicBlock(planes, planes, 1) for _ in range(blocks - 1)))

    def forward(self, images: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, K]."""
        out = F.relu(self.bn1(self.conv1(images)))
        out = self.layer3(self.layer2(self.layer1(out)))
        return self.linear(out.mean((2, 3)))


def cifar_resnet(depth: int, in_channels: int = 3, num_classes: int = 10, image_size: int | Size = 32) -> CifarResNet:
    """A :class:`CifarResNet`; any image of at least 4x4 pixels will do, since features are averaged over space.

    >>> sum(p.numel() for p in cifar_resnet(20).parameters())
    269722
    """
    return CifarResNet(depth, in_channels, num_classes)


@dataclass(frozen=True)
class Reference:
    """A network that can be built by name.

    Args:
        build: ``build(in_channels=, num_classes=, image_size=, **options)``.
        mean, std: normalisation its published weights expect; None if there are none.
    """

    build: Callable[..., nn.Module]
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None


NETWORKS: dict[str, Reference] = {
    "small-cnn": Reference(small_cnn),
    "tiny-cnn": Reference(partial(small_cnn, width=8)),
    "linear": Reference(linear),
    "mlp": Reference(mlp),
    "fair-cnn": Reference(fair_cnn),
    "fair-cnn-stride2": Reference(partial(fair_cnn, stride=2)),
    "dp-cert-cnn": Reference(dp_cert_cnn),
    "tanh-cnn": Reference(tanh_cnn),
    **{
        f"resnet{depth}": Reference(partial(cifar_resnet, depth), IMAGENET_MEAN, IMAGENET_STD)
        for depth in RESNET_DEPTHS
    },
    "preact-resnet18": Reference(preact_resnet18),
    "preact-resnet18-gn": Reference(partial(preact_resnet18, grouped=1)),
    "wrn-10-1-swish": Reference(partial(wide_resnet, depth=10, widen=1)),
    "wrn-28-10-swish": Reference(wide_resnet),
    "wrn-28-10-swish-gn": Reference(partial(wide_resnet, grouped=1)),
}


def reference(name: str) -> Reference:
    """The entry of ``NETWORKS`` for a name (``-`` and ``_`` are alike); ModelError with a hint if there is none."""
    key = str(name).replace("_", "-")
    if key not in NETWORKS:
        raise ModelError(f"There is no reference network named {name!r}.{did_you_mean(key, NETWORKS)}")
    return NETWORKS[key]


def build_network(
    name: str, *, in_channels: int, num_classes: int, image_size: int | Size, **options: int
) -> nn.Module:
    """A reference network by name, with fresh weights from torch's global random state.

    Args:
        name: a key of ``NETWORKS``.
        in_channels: channels of the image, at least 1.
        num_classes: outputs, at least 2.
        image_size: side, or (height, width), in pixels.
        options: what the network takes beyond that, such as ``width``.

    Raises:
        ModelError: unknown name, option or impossible shape.

    >>> build_network("small-cnn", in_channels=1, num_classes=10, image_size=8)[0]
    Conv2d(1, 16, kernel_size=(3, 3), stride=(1, 1), padding=(1, 1))
    """
    if in_channels < 1 or num_classes < 2 or min(_size(image_size)) < 1:
        raise ModelError(
            f"A network for {in_channels} channels, {num_classes} classes and images of size {image_size} "
            "cannot be built; allowed: at least 1 channel, 2 classes and 1 pixel."
        )
    builder = reference(name).build
    try:
        return builder(in_channels=in_channels, num_classes=num_classes, image_size=image_size, **options)
    except TypeError as error:
        raise ModelError(
            f"The network {name!r} does not take {', '.join(options) or 'these options'}: {error}."
        ) from None


def _size(image_size: int | Size) -> Size:
    return (image_size, image_size) if isinstance(image_size, int) else (image_size[0], image_size[1])
