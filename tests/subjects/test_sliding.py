"""Sliding windows: every window once, answers averaged, against a loop over pixels."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from assay import Segmentation, Target
from assay.core.errors import ModelError, SettingError
from assay.subjects import encoder
from assay.subjects.encoders import backbone_from_record
from assay.subjects.sliding import SlidingWindow, windows


class Counting(nn.Module):
    """A convolution with padding, so that a pixel's answer depends on its window; counts the crops it sees."""

    def __init__(self, stride: int = 1) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.layer = nn.Conv2d(3, 4, 3, padding=1, stride=stride)
        self.sizes: list[int] = []

    def forward(self, crops: Tensor) -> Tensor:
        self.sizes.append(len(crops))
        return self.layer(crops)


def by_pixels(module: nn.Module, image: Tensor, crop: tuple[int, int], stride: tuple[int, int]) -> Tensor:
    """The slow obvious version for one image that is at least as large as the crop: sums and counts in loops."""
    total, count = torch.zeros(4, *image.shape[-2:]), torch.zeros(*image.shape[-2:])
    tops = sorted({min(k * stride[0], image.shape[-2] - crop[0]) for k in range(99)})
    lefts = sorted({min(k * stride[1], image.shape[-1] - crop[1]) for k in range(99)})
    for top in tops:
        for left in lefts:
            answer = module(image[None, :, top : top + crop[0], left : left + crop[1]])[0]
            for y in range(crop[0]):
                for x in range(crop[1]):
                    total[:, top + y, left + x] += answer[:, y, x]
                    count[top + y, left + x] += 1
    return total / count


@settings(max_examples=15)
@given(
    size=st.tuples(st.integers(5, 11), st.integers(5, 11)),
    crop=st.tuples(st.integers(2, 5), st.integers(2, 5)),
    share=st.tuples(st.integers(1, 5), st.integers(1, 5)),
    at_once=st.integers(1, 7),
)
def test_windows_are_averaged_as_a_loop_over_pixels_does(
    size: tuple[int, int], crop: tuple[int, int], share: tuple[int, int], at_once: int
) -> None:
    stride = (min(share[0], crop[0]), min(share[1], crop[1]))
    images = torch.rand(2, 3, *size, generator=torch.Generator().manual_seed(1))
    module = Counting().eval().requires_grad_(False)
    expected = torch.stack([by_pixels(module, image, crop, stride) for image in images])
    module.sizes.clear()
    found = SlidingWindow(module, crop, stride, at_once=at_once)(images)
    assert torch.allclose(found, expected, atol=1e-5)
    assert sum(module.sizes) == 2 * len(windows(size, crop, stride)), "every window passes once"


@given(
    size=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    crop=st.tuples(st.integers(1, 12), st.integers(1, 12)),
    stride=st.tuples(st.integers(1, 12), st.integers(1, 12)),
)
def test_windows_cover_the_image_and_stay_inside(
    size: tuple[int, int], crop: tuple[int, int], stride: tuple[int, int]
) -> None:
    size = (max(size[0], crop[0]), max(size[1], crop[1]))
    stride = (min(stride[0], crop[0]), min(stride[1], crop[1]))
    places = windows(size, crop, stride)
    seen = torch.zeros(size)
    for top, left in places:
        assert 0 <= top <= size[0] - crop[0]
        assert 0 <= left <= size[1] - crop[1]
        seen[top : top + crop[0], left : left + crop[1]] += 1
    assert bool((seen > 0).all())
    assert len(set(places)) == len(places)


def test_one_window_of_the_images_size_changes_nothing() -> None:
    module = Counting().eval()
    images = torch.rand(2, 3, 8, 8)
    assert torch.equal(SlidingWindow(module, 8, 8)(images), module(images))


def test_small_images_are_padded_with_zeros_and_cut_back() -> None:
    module = Counting().eval()
    images = torch.rand(1, 3, 5, 12)
    padded = torch.zeros(1, 3, 8, 12)
    padded[:, :, :5] = images
    expected = SlidingWindow(module, 8, 4)(padded)[:, :, :5]
    assert torch.equal(SlidingWindow(module, 8, 4)(images), expected)


def test_coarse_logits_are_resized_to_the_window_and_depths_keep_three_dimensions() -> None:
    assert SlidingWindow(Counting(stride=2).eval(), 8, 4)(torch.rand(2, 3, 16, 12)).shape == (2, 4, 16, 12)

    class Depths(nn.Module):
        def forward(self, crops: Tensor) -> Tensor:
            return crops.mean(1)[:, ::2, ::2]

    assert SlidingWindow(Depths().eval(), 8, 4)(torch.rand(2, 3, 16, 12)).shape == (2, 16, 12)


def test_logits_are_averaged_not_probabilities() -> None:
    """The average of logits a and b, at a pixel two windows see, is not the log of averaged softmaxes."""
    module = Counting().eval().requires_grad_(False)
    images = 5 * torch.rand(1, 3, 4, 6)
    found = SlidingWindow(module, 4, 2)(images)
    left, right = module(images[..., :4]), module(images[..., 2:])
    assert torch.allclose(found[..., 2:4], (left[..., 2:] + right[..., :2]) / 2, atol=1e-6)


def test_a_sliding_target_can_be_attacked_through() -> None:
    target = Target(SlidingWindow(Counting().eval(), 8, 4), task=Segmentation(4))
    images, masks = torch.rand(3, 3, 12, 12), torch.randint(0, 4, (3, 12, 12))
    search = target.search_copy()
    _, value, gradient = search.value_and_gradient(images, target.task.losses, masks)
    leaf = images.clone().requires_grad_(True)
    expected = target.task.losses(target.model(leaf), masks)  # type: ignore[operator]
    (slope,) = torch.autograd.grad(expected.sum(), leaf)
    assert torch.allclose(value, expected, atol=1e-5)
    assert torch.allclose(gradient, slope, atol=1e-6)


class TestEncoders:
    def test_windows_of_patches_are_averaged_patch_by_patch(self) -> None:
        plain = encoder("network:resnet-micro")
        images = torch.rand(2, 3, 32, 48)
        found = plain.sliding(32, 16).features(images)
        left, right = plain.features(images[..., :32]), plain.features(images[..., 16:])
        assert found.patches.shape == (2, 128, 4, 6)
        assert torch.allclose(found.patches[..., :2], left.patches[..., :2], atol=1e-5)
        assert torch.allclose(found.patches[..., 2:4], (left.patches[..., 2:] + right.patches[..., :2]) / 2, atol=1e-5)
        assert torch.allclose(found.patches[..., 4:], right.patches[..., 2:], atol=1e-5)
        assert torch.allclose(found.embedding, (left.embedding + right.embedding) / 2, atol=1e-5)

    def test_any_size_is_taken(self) -> None:
        sliding = encoder("network:vit-micro").sliding(32, 24)
        for height, width in ((70, 50), (9, 100), (32, 32)):
            grid = (-(-height // 8), -(-width // 8))
            assert sliding.grid(height, width) == grid
            assert sliding.patches(torch.rand(1, 3, height, width)).shape[-2:] == grid

    def test_a_row_does_not_depend_on_its_neighbours(self) -> None:
        sliding = encoder("network:vit-micro").sliding(32, 16)
        images = torch.rand(6, 3, 48, 40)
        alone = torch.cat([sliding.patches(image[None]) for image in images])
        assert torch.equal(sliding.patches(images), alone)

    def test_the_record_builds_it_again(self) -> None:
        sliding = encoder("network:resnet-micro").sliding((32, 24), 16)
        twin = backbone_from_record(sliding.backbone.origin).eval()
        twin.load_state_dict(sliding.backbone.state_dict())
        images = torch.rand(2, 3, 40, 40)
        assert torch.equal(twin(images).patches, sliding.backbone(images).patches)


@pytest.mark.parametrize(
    ("crop", "stride", "at_once", "message"),
    [
        (8, 9, 1, "would never be seen"),
        (0, 1, 1, "crop is 0"),
        (8, (4, 4, 4), 1, "stride is"),
        (8, 4, 0, "at_once is 0"),
        (True, 1, 1, "crop is True"),
    ],
)
def test_impossible_windows_are_refused(crop: int, stride: int, at_once: int, message: str) -> None:
    with pytest.raises(SettingError, match=message):
        SlidingWindow(nn.Identity(), crop, stride, at_once=at_once)


def test_windows_must_be_cut_between_patches() -> None:
    with pytest.raises(SettingError, match="multiples of the encoder's patch of 8"):
        encoder("network:resnet-micro").sliding(32, 12)
    with pytest.raises(ModelError, match="multiples of 8"):
        encoder("network:resnet-micro").sliding(20, 8)


def test_vectors_cannot_be_slid() -> None:
    with pytest.raises(ModelError, match="sliding window needs an encoder with a patch map"):
        encoder(nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())).sliding(8, 8)
    with pytest.raises(ModelError, match="for a window"):
        SlidingWindow(nn.Flatten(), 8, 8)(torch.rand(1, 3, 8, 8))
