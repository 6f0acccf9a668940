"""Reference encoders: shapes, sizes, and what a patch of the map stands for."""

from __future__ import annotations

import pytest
import torch

from assay.core.errors import ModelError
from assay.subjects import BACKBONES, build_backbone, encoder

every_backbone = pytest.mark.parametrize("name", sorted(BACKBONES))


@every_backbone
def test_shapes_at_the_size_of_training_and_at_others(name: str) -> None:
    backbone = build_backbone(name, image_size=(32, 48)).eval()
    for height, width in ((32, 48), (64, 32)):
        features = backbone(torch.rand(2, 3, height, width))
        assert features.embedding.shape == (2, backbone.dim)
        rows, columns = height // backbone.patch, width // backbone.patch
        assert features.patches.shape == (2, backbone.patch_dim, rows, columns)


@every_backbone
def test_sides_that_the_patches_do_not_divide(name: str) -> None:
    side = BACKBONES[name].build(3, (32, 32)).patch
    with pytest.raises(ModelError, match=f"multiples of {side}.*sliding window"):
        build_backbone(name)(torch.rand(1, 3, 64, 64 + side // 2))


def test_the_map_is_laid_out_as_the_image_is() -> None:
    """A change in one corner moves the features there most."""
    network = encoder("network:resnet-micro")
    image = torch.rand(1, 3, 64, 96, generator=torch.Generator().manual_seed(0))
    changed = image.clone()
    changed[..., :8, -8:] = 1 - changed[..., :8, -8:]
    moved = (network.patches(changed) - network.patches(image)).square().sum(1)[0]
    row, column = divmod(int(moved.argmax()), 12)
    assert row <= 1
    assert column >= 10


def test_weights_follow_from_the_random_state_alone() -> None:
    drawn = []
    for _ in range(2):
        torch.manual_seed(3)
        drawn.append(build_backbone("vit-micro").state_dict())
    assert all(torch.equal(value, drawn[1][name]) for name, value in drawn[0].items())


def test_an_unknown_name_gets_a_hint() -> None:
    with pytest.raises(ModelError, match="vit-micro"):
        build_backbone("vit-mikro")
