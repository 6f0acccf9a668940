"""Segmentation, depth and embeddings: what they accept of a model and of references, and what counts."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn

from assay import Classification, Depth, Embedding, Segmentation, Target
from assay.core.errors import DataError, ModelError, SettingError
from assay.evasion import evaluate
from assay.search.threat import ThreatModel

IMAGES = torch.rand(3, 3, 8, 12, generator=torch.Generator().manual_seed(0))


def masks(count: int = 3) -> Tensor:
    return torch.randint(0, 5, (count, 8, 12), generator=torch.Generator().manual_seed(1))


class TestSegmentation:
    task = Segmentation(num_classes=5)

    @pytest.mark.parametrize("classes", [1, 0, 2.0, True])
    def test_too_few_classes(self, classes: object) -> None:
        with pytest.raises(SettingError, match="num_classes"):
            Segmentation(num_classes=classes)  # type: ignore[arg-type]

    @pytest.mark.parametrize("index", [0, 4, 1.5, True])
    def test_a_class_cannot_be_ignored(self, index: object) -> None:
        with pytest.raises(SettingError, match="ignore_index"):
            Segmentation(num_classes=5, ignore_index=index)  # type: ignore[arg-type]

    def test_a_target_returns_logits_of_the_images_size(self) -> None:
        small = nn.Sequential(nn.Conv2d(3, 5, 2, stride=2))
        logits = Target(small, task=self.task).logits(IMAGES)
        assert logits.shape == (3, 5, 8, 12)
        expected = nn.functional.interpolate(small(IMAGES), size=(8, 12), mode="bilinear", align_corners=False)
        torch.testing.assert_close(logits, expected.detach())

    def test_the_logits_of_transformers_are_found(self) -> None:
        target = Target(lambda x: SimpleNamespace(logits=torch.zeros(len(x), 5, 4, 6)), task=self.task)
        assert target.logits(IMAGES).shape == (3, 5, 8, 12)

    @pytest.mark.parametrize("shape", [(3, 4, 8, 12), (3, 5), (2, 5, 8, 12)])
    def test_outputs_of_another_shape(self, shape: tuple[int, ...]) -> None:
        with pytest.raises(ModelError, match="is needed"):
            self.task.check_output(torch.zeros(shape), 3)

    def test_outputs_that_are_not_finite(self) -> None:
        broken = torch.zeros(3, 5, 8, 12)
        broken[1, 2, 3, 4] = torch.nan
        with pytest.raises(ModelError, match="for 1 of 3 inputs"):
            self.task.check_output(broken, 3)

    def test_masks_are_taken_with_or_without_a_channel(self) -> None:
        assert torch.equal(self.task.check_references(masks()[:, None].to(torch.uint8), IMAGES), masks())

    def test_unknown_ids_are_named(self) -> None:
        strange = masks()
        strange[0, 0, :2] = torch.tensor([7, -1])
        with pytest.raises(DataError, match=r"unknown class ids -1, 7; allowed: 0\.\.4 and ignore_index 255"):
            self.task.check_references(strange, IMAGES)

    def test_without_an_ignore_index_255_is_unknown(self) -> None:
        with pytest.raises(DataError, match="no ignore_index"):
            Segmentation(5, ignore_index=None).check_references(torch.full((3, 8, 12), 255), IMAGES)

    @pytest.mark.parametrize("wrong", [masks(2), masks()[:, :4], masks().float(), masks().bool()])
    def test_masks_that_cannot_be_used(self, wrong: Tensor) -> None:
        with pytest.raises(DataError, match="needed"):
            self.task.check_references(wrong, IMAGES)

    def test_success_is_no_pixel_right_among_those_that_count(self) -> None:
        reference = masks()
        reference[2] = 255
        logits = nn.functional.one_hot((reference + 1) % 5, 5).permute(0, 3, 1, 2).float()
        logits[1, :, 0, 0] = nn.functional.one_hot(reference[1, 0, 0], 5)
        assert self.task.success(logits, reference).tolist() == [True, False, False]

    def test_the_loss_leaves_out_what_is_ignored(self) -> None:
        logits = torch.randn(3, 5, 8, 12, generator=torch.Generator().manual_seed(2))
        reference = masks()
        reference[0, :4] = 255
        reference[2] = 255
        found = self.task.losses(logits, reference)
        by_hand = [
            nn.functional.cross_entropy(logits[:1, :, 4:], reference[:1, 4:]),
            nn.functional.cross_entropy(logits[1:2], reference[1:2]),
            torch.tensor(0.0),
        ]
        torch.testing.assert_close(found, torch.stack(by_hand))


class TestDepth:
    task = Depth(max_depth=10.0)

    @pytest.mark.parametrize("limits", [(5.0, 5.0), (5.0, 3.0), (-1.0, 3.0)])
    def test_limits_that_leave_nothing(self, limits: tuple[float, float]) -> None:
        with pytest.raises(SettingError, match="min_depth"):
            Depth(min_depth=limits[0], max_depth=limits[1])

    def test_pixels_without_a_measurement_become_zero(self) -> None:
        depths = torch.ones(3, 8, 12)
        depths[0, 0, :5] = torch.tensor([0.0, -1.0, torch.nan, torch.inf, 11.0])
        found = self.task.check_references(depths, IMAGES)
        assert found[0, 0].tolist() == [0.0] * 5 + [1.0] * 7
        assert int(self.task.valid(found).sum()) == 3 * 96 - 5

    def test_models_may_return_a_channel_and_another_size(self) -> None:
        target = Target(nn.Sequential(nn.Conv2d(3, 1, 2, stride=2), nn.Softplus()), task=self.task)
        assert target.logits(IMAGES).shape == (3, 8, 12)

    def test_negative_depth_is_refused(self) -> None:
        with pytest.raises(ModelError, match="not negative"):
            Target(nn.Conv2d(3, 1, 1, bias=False), task=self.task).logits(-IMAGES - 1)

    def test_a_perfect_prediction_has_no_loss(self) -> None:
        depths = 1 + torch.rand(3, 8, 12)
        assert self.task.losses(depths, depths).tolist() == [0.0, 0.0, 0.0]
        assert self.task.success(depths, depths) is None


class TestEmbedding:
    @pytest.mark.parametrize("dim", [0, 2.0, True])
    def test_sizes_that_make_no_sense(self, dim: object) -> None:
        with pytest.raises(SettingError, match="dim"):
            Embedding(dim=dim)  # type: ignore[arg-type]

    def test_vectors_and_maps_are_representations(self) -> None:
        assert Target(nn.Flatten(), task=Embedding()).logits(IMAGES).shape == (3, 288)
        assert Target(nn.Conv2d(3, 4, 1), task=Embedding(4)).logits(IMAGES).shape == (3, 4, 8, 12)

    def test_another_size_than_was_said(self) -> None:
        with pytest.raises(ModelError, match=r"5\) or .* is needed"):
            Target(nn.Conv2d(3, 4, 1), task=Embedding(5)).logits(IMAGES)

    def test_the_loss_is_the_mean_squared_difference(self) -> None:
        one, two = torch.rand(3, 4, 2, 2), torch.rand(3, 4, 2, 2)
        expected = torch.stack([((a - b) ** 2).mean() for a, b in zip(one, two, strict=True)])
        torch.testing.assert_close(Embedding().losses(one, two), expected)


@pytest.mark.parametrize("task", [Segmentation(5), Depth(), Embedding()])
def test_an_evaluation_of_classifiers_refuses_other_tasks(task: Segmentation) -> None:
    target = Target(nn.Conv2d(3, 5, 1), task=task)
    with pytest.raises(ModelError, match="needs a classifier"):
        evaluate(target, IMAGES, torch.zeros(3, dtype=torch.int64), ThreatModel("linf", 0.1))  # type: ignore[arg-type]


def test_records_say_what_the_task_is() -> None:
    assert Target(nn.Flatten(), task=Classification(288)).describe()["num_classes"] == 288
    about = Target(nn.Conv2d(3, 5, 1), task=Segmentation(5, ignore_index=None)).describe()
    assert (about["task"], about["num_classes"], about["ignore_index"]) == ("segmentation", 5, None)
