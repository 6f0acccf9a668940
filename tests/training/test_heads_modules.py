from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from assay.core.errors import ModelError, SettingError
from assay.subjects import Features, build_backbone
from assay.training.heads import ClassificationHead, DepthHead, Head, Headed, SegmentationHead
from assay.training.heads.modules import build_head, enlarged

SIZE = (8, 12)


def features(count: int = 3, dim: int = 5, seed: int = 0) -> Features:
    random = torch.Generator().manual_seed(seed)
    return Features(torch.randn(count, dim, generator=random), torch.randn(count, dim, 2, 3, generator=random))


def heads() -> list[Head]:
    depth = DepthHead(5, min_depth=0.5, max_depth=4.0, bins=7, upsample=2, embedding_dim=5)
    return [ClassificationHead(5, 4), SegmentationHead(5, 4, embedding_dim=5), SegmentationHead(5, 4), depth]


@given(st.integers(1, 5), st.integers(1, 5), st.integers(1, 17), st.integers(1, 17), st.randoms(use_true_random=False))
def test_chosen_pixels_are_those_of_the_full_upsampling(
    h: int, w: int, height: int, width: int, random: object
) -> None:
    maps = torch.randn(2, 3, h, w, generator=torch.Generator().manual_seed(h * 100 + w))
    rows = torch.tensor([random.randrange(height) for _ in range(4)])  # type: ignore[attr-defined]
    columns = torch.tensor([random.randrange(width) for _ in range(3)])  # type: ignore[attr-defined]
    full = F.interpolate(maps, size=(height, width), mode="bilinear", align_corners=False)
    found = enlarged(maps, (height, width), (rows, columns))
    torch.testing.assert_close(found, full[:, :, rows][:, :, :, columns], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("head", heads(), ids=lambda head: type(head).__name__)
def test_a_head_is_rebuilt_from_its_config(head: Head) -> None:
    head.eval()
    twin = build_head(head.config()).eval()
    assert twin.config() == head.config()
    assert twin.space == head.space
    twin.load_state_dict(head.state_dict())
    assert torch.equal(twin(features(), SIZE), head(features(), SIZE))


def test_segmentation_is_a_linear_map_of_every_patch() -> None:
    head = SegmentationHead(5, 4).eval()
    head.norm.running_mean.normal_()
    head.norm.running_var.uniform_(0.5, 2)
    read = features()
    found = head(read, (2, 3))  # no upsampling
    for image in range(3):
        for row in range(2):
            for column in range(3):
                vector = read.patches[image, :, row, column]
                scaled = (vector - head.norm.running_mean) / (head.norm.running_var + head.norm.eps).sqrt()
                expected = head.conv.weight[:, :, 0, 0] @ scaled + head.conv.bias
                torch.testing.assert_close(found[image, :, row, column], expected)
    assert head(read, SIZE).shape == (3, 4, *SIZE)


def test_the_embedding_stands_beside_every_patch() -> None:
    head = SegmentationHead(5, 4, embedding_dim=5).eval()
    read = features()
    joined = torch.cat([read.patches, read.embedding[:, :, None, None].expand(-1, -1, 2, 3)], 1)
    assert torch.equal(head(read, (2, 3)), head.conv(head.norm(joined)))


@pytest.mark.parametrize("spacing", ["uniform", "log"])
@pytest.mark.parametrize("upsample", [1, 4])
def test_depth_is_the_mean_of_its_bins(spacing: str, upsample: int) -> None:
    head = DepthHead(5, min_depth=0.5, max_depth=8.0, bins=5, spacing=spacing, upsample=upsample).eval()
    wanted = [0.5, 2.375, 4.25, 6.125, 8.0] if spacing == "uniform" else [0.5, 1.0, 2.0, 4.0, 8.0]
    torch.testing.assert_close(head.centres, torch.tensor(wanted))
    found = head(features(), SIZE)
    assert found.shape == (3, *SIZE)
    assert bool(((found >= 0.5) & (found <= 8.0)).all())
    torch.nn.init.zeros_(head.conv.weight)
    torch.nn.init.constant_(head.conv.bias, -1.0)  # no bin is wanted: all weigh 0.1
    torch.testing.assert_close(head(features(), SIZE), head.centres.mean().expand(3, *SIZE))
    with torch.no_grad():
        head.conv.bias[1] = 1e6  # one bin is wanted alone
    torch.testing.assert_close(head(features(), SIZE), head.centres[1].expand(3, *SIZE))


def test_classification_standardises_and_leaves_constant_features_alone() -> None:
    head = ClassificationHead(3, 2).eval()
    values = torch.tensor([[1.0, 10.0, 5.0], [3.0, 30.0, 5.0]])
    head.standardise(values.mean(0), values.std(0, correction=0))
    empty = torch.empty(2, 0, 0, 0)
    expected = head.linear(torch.tensor([[-1.0, -1.0, 0.0], [1.0, 1.0, 0.0]]))
    torch.testing.assert_close(head(Features(values, empty), SIZE), expected)


def test_headed_answers_at_the_size_of_the_images() -> None:
    backbone = build_backbone("resnet-micro", image_size=(32, 48)).eval()
    images = torch.rand(2, 3, 32, 48)
    shapes = {"classification": (2, 4), "segmentation": (2, 4, 32, 48), "depth": (2, 32, 48)}
    made = [
        ClassificationHead(128, 4),
        SegmentationHead(128, 4),
        DepthHead(128, min_depth=0.1, max_depth=1.0, embedding_dim=128),
    ]
    for head, shape in zip(made, shapes.values(), strict=True):
        assert Headed(backbone, head.eval())(images).shape == shape


def test_what_is_no_head_is_named() -> None:
    with pytest.raises(ModelError, match="Did you mean 'segmentation'"):
        build_head({"kind": "segmentatoin"})
    with pytest.raises(ModelError, match="damaged"):
        build_head({"kind": "depth", "dim": 3})
    with pytest.raises(SettingError, match="0 < min_depth < max_depth"):
        DepthHead(3, min_depth=2.0, max_depth=1.0)
