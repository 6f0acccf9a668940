"""Pre-activation networks: published sizes, the formula of a block, normalisation by groups."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from assay.core.errors import ModelError
from assay.subjects import Classification, Target, build_network
from assay.subjects.preactivation import PreActivationBlock, PreActivationNet, group_norm, preact_resnet18, wide_resnet


@pytest.mark.parametrize(
    ("name", "classes", "parameters", "convolutions"),
    [
        ("wrn-28-10-swish", 10, 36479194, 25),
        ("wrn-28-10-swish", 100, 36536884, 25),
        ("wrn-28-10-swish-gn", 10, 36479194, 25),
        ("preact-resnet18", 10, 11172170, 17),
        ("preact-resnet18-gn", 10, 11172170, 17),
        ("wrn-10-1-swish", 10, 77850, 7),
    ],
)
def test_networks_have_the_published_size(name: str, classes: int, parameters: int, convolutions: int) -> None:
    """36.5 M is what Zagoruyko and Komodakis state; their 28 layers count the three 1x1 shortcuts, not the linear."""
    with torch.device("meta"):
        network = build_network(name, in_channels=3, num_classes=classes, image_size=32)
    assert sum(p.numel() for p in network.parameters()) == parameters
    sides = [module.kernel_size for module in network.modules() if isinstance(module, nn.Conv2d)]
    assert sides.count((3, 3)) == convolutions
    assert sides.count((1, 1)) == (2 if name == "wrn-10-1-swish" else 3)


@pytest.fixture
def block() -> PreActivationBlock:
    """From 4 to 6 channels, half the resolution, with lively batch statistics."""
    torch.manual_seed(0)
    made = PreActivationBlock(4, 6, 2, nn.BatchNorm2d, nn.SiLU())
    for norm in (made.norm1, made.norm2):
        assert isinstance(norm, nn.BatchNorm2d)
        nn.init.uniform_(norm.weight, 0.5, 2)
        nn.init.normal_(norm.bias)
    return made.train()


def test_a_block_follows_its_formula(block: PreActivationBlock) -> None:
    inputs = torch.randn(5, 4, 8, 8)

    def active(values: Tensor, norm: nn.Module) -> Tensor:
        centred = values - values.mean((0, 2, 3), keepdim=True)
        scaled = centred / (values.var((0, 2, 3), keepdim=True, unbiased=False) + 1e-5).sqrt()
        weight, bias = norm.get_parameter("weight")[:, None, None], norm.get_parameter("bias")[:, None, None]
        values = scaled * weight + bias
        return values * torch.sigmoid(values)

    first = active(inputs, block.norm1)
    second = active(F.conv2d(first, block.conv1.weight, stride=2, padding=1), block.norm2)
    assert block.shortcut is not None
    shortcut = F.conv2d(first, block.shortcut.weight, stride=2)
    expected = F.conv2d(second, block.conv2.weight, padding=1) + shortcut
    assert torch.allclose(block(inputs), expected, atol=1e-5)


def test_a_block_that_keeps_the_shape_passes_its_input_on() -> None:
    block = PreActivationBlock(4, 4, 1, group_norm, nn.ReLU())
    nn.init.zeros_(block.conv2.weight)
    inputs = torch.randn(2, 4, 5, 5)
    assert block.shortcut is None
    assert torch.equal(block(inputs), inputs)


@pytest.mark.parametrize("build", [wide_resnet, preact_resnet18])
def test_the_last_stage_sees_a_fraction_of_the_resolution(build: type[PreActivationNet]) -> None:
    with torch.device("meta"):
        network = build(3, 10, 64)
        features = network.stages(network.conv(torch.zeros(2, 3, 64, 64)))
    assert features.shape == ((2, 640, 16, 16) if build is wide_resnet else (2, 512, 8, 8))


def test_groups_make_a_sample_answer_by_itself_in_training_too() -> None:
    torch.manual_seed(0)
    images = torch.rand(6, 3, 16, 16)
    grouped = wide_resnet(3, 10, 16, depth=10, widen=2, grouped=1).train()
    assert torch.allclose(grouped(images)[:2], grouped(images[:2]), atol=1e-5)
    batched = wide_resnet(3, 10, 16, depth=10, widen=2).train()
    assert not torch.allclose(batched(images)[:2], batched(images[:2]), atol=1e-2)


@pytest.mark.parametrize("planes", [4, 16, 48, 64, 160, 320, 512, 640])
def test_a_group_has_at_least_two_channels(planes: int) -> None:
    norm = group_norm(planes)
    assert planes % norm.num_groups == 0
    assert planes // norm.num_groups >= 2
    assert norm.num_groups == 32 or planes < 64


def test_the_copy_that_searches_gives_the_same_logits() -> None:
    torch.manual_seed(0)
    model = build_network("wrn-10-1-swish", in_channels=3, num_classes=10, image_size=16).train()
    images = torch.rand(32, 3, 16, 16)
    for _ in range(20):
        model(images)
    target = Target(model.eval(), task=Classification(num_classes=10))
    assert torch.allclose(target.search_copy().logits(images), target.logits(images), atol=1e-4)


@pytest.mark.parametrize("options", [{"depth": 12}, {"depth": 4}, {"widen": 0}])
def test_what_cannot_be_built_says_why(options: dict[str, int]) -> None:
    with pytest.raises(ModelError, match="6n"):
        build_network("wrn-28-10-swish", in_channels=3, num_classes=10, image_size=32, **options)
