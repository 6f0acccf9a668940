"""Reference networks: shapes, names, and the published ResNet weights."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from assay.core.errors import ModelError
from assay.data import load_data
from assay.subjects import NETWORKS, build_network, load_target

LARGE = ("preact-resnet18", "preact-resnet18-gn", "wrn-28-10-swish", "wrn-28-10-swish-gn")
SMALLEST = {"fair-cnn": 5, "fair-cnn-stride2": 7, "dp-cert-cnn": 14, "tanh-cnn": 8}


@settings(max_examples=40)
@given(
    name=st.sampled_from(sorted(NETWORKS.keys() - LARGE)),
    channels=st.integers(1, 4),
    classes=st.integers(2, 12),
    height=st.integers(4, 20),
    width=st.integers(4, 20),
    batch=st.integers(1, 3),
)
def test_every_network_maps_images_to_logits(
    name: str, channels: int, classes: int, height: int, width: int, batch: int
) -> None:
    height, width = max(height, SMALLEST.get(name, 4)), max(width, SMALLEST.get(name, 4))
    network = build_network(name, in_channels=channels, num_classes=classes, image_size=(height, width)).eval()
    logits = network(torch.rand(batch, channels, height, width))
    assert logits.shape == (batch, classes)
    assert torch.isfinite(logits).all()


@pytest.mark.parametrize(("depth", "parameters"), [(20, 269722), (32, 464154), (44, 658586), (56, 853018)])
def test_resnets_have_the_published_number_of_parameters(depth: int, parameters: int) -> None:
    network = build_network(f"resnet{depth}", in_channels=3, num_classes=10, image_size=32)
    assert sum(p.numel() for p in network.parameters()) == parameters
    assert sum(isinstance(module, nn.Conv2d) for module in network.modules()) == depth - 1


@pytest.mark.parametrize(
    ("name", "channels", "side", "parameters"),
    [("fair-cnn", 1, 28, 97114), ("dp-cert-cnn", 1, 28, 26010), ("tanh-cnn", 3, 32, 550570)],
)
def test_networks_of_private_training_have_the_published_size(
    name: str, channels: int, side: int, parameters: int
) -> None:
    network = build_network(name, in_channels=channels, num_classes=10, image_size=side)
    assert sum(p.numel() for p in network.parameters()) == parameters


@pytest.mark.parametrize(("name", "smallest"), sorted(SMALLEST.items()))
def test_too_small_an_image_is_refused_with_the_smallest_side(name: str, smallest: int) -> None:
    with pytest.raises(ModelError, match=f"from {smallest} up"):
        build_network(name, in_channels=1, num_classes=2, image_size=smallest - 1)


def test_the_shortcut_pads_with_zeros_on_both_sides() -> None:
    block = build_network("resnet20", in_channels=3, num_classes=10, image_size=32).get_submodule("layer2.0").eval()
    nn.init.zeros_(block.get_parameter("bn2.weight"))
    inputs = torch.rand(2, 16, 8, 8)
    out = block(inputs)
    assert torch.equal(out[:, 8:24], inputs[:, :, ::2, ::2])
    assert not out[:, :8].any()
    assert not out[:, 24:].any()


def test_small_cnn_answers_a_sample_by_itself_in_training_too() -> None:
    network = build_network("small-cnn", in_channels=1, num_classes=10, image_size=8).train()
    images = torch.rand(8, 1, 8, 8)
    assert torch.allclose(network(images)[:2], network(images[:2]), atol=1e-6)


def test_names_with_underscores_and_options() -> None:
    network = build_network("small_cnn", in_channels=1, num_classes=10, image_size=8, width=4)
    assert network.get_parameter("0.weight").shape == (4, 1, 3, 3)


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("smal-cnn", {}, "Did you mean 'small-cnn'"),
        ("small-cnn", {"widht": 3}, "does not take widht"),
        ("small-cnn", {"image_size": 3}, "at least 4x4"),
        ("linear", {"num_classes": 1}, "2 classes"),
        ("mlp", {"in_channels": 0}, "1 channel"),
    ],
)
def test_what_cannot_be_built_says_why(name: str, changes: dict[str, int], message: str) -> None:
    shape = {"in_channels": 1, "num_classes": 10, "image_size": 8, **changes}
    with pytest.raises(ModelError, match=message):
        build_network(name, **shape)


def test_resnet20_scores_its_published_accuracy(shared_data) -> None:
    weights = shared_data / "weights/cifar10_resnet/resnet20.safetensors"
    data = load_data(str(shared_data / "cifar10_jpeg/test.parquet"), limit=2000)
    target = load_target("network:resnet20", weights=str(weights), image_shape=data.shape)
    predicted = target.predict(torch.from_numpy(data.images())).argmax(1)
    assert int((predicted == torch.from_numpy(data.labels)).sum()) == 1617


@pytest.mark.parametrize("depth", [32, 44, 56])
def test_deeper_resnets_load_their_weights(shared_data, depth: int) -> None:
    weights = shared_data / f"weights/cifar10_resnet/resnet{depth}.safetensors"
    target = load_target(f"network:resnet{depth}", weights=str(weights))
    assert target.logits(torch.rand(2, 3, 32, 32)).shape == (2, 10)
