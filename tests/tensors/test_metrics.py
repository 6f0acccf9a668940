"""Metrics: against scikit-learn and loops, with pixels that do not count, and what is an error."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, confusion_matrix, jaccard_score, recall_score
from torch import Tensor

from assay.core.errors import DataError, SettingError
from assay.tensors import losses, metrics


@st.composite
def masks(draw) -> tuple[Tensor, Tensor, int]:
    """Predicted and true ids [B, H, W] and the number of classes; at least one pixel counts."""
    classes = draw(st.integers(2, 5))
    shape = (draw(st.integers(1, 4)), draw(st.integers(1, 4)), draw(st.integers(1, 5)))
    random = torch.Generator().manual_seed(draw(st.integers(0, 999)))
    prediction = torch.randint(0, draw(st.integers(1, classes)), shape, generator=random)
    target = torch.randint(0, draw(st.integers(1, classes)), shape, generator=random)
    target[torch.rand(shape, generator=random) < draw(st.sampled_from([0.0, 0.5, 0.9]))] = 255
    target[0, 0, 0] = 0
    return prediction, target, classes


@given(masks())
@hypothesis_settings(max_examples=60)
def test_segmentation_metrics_are_those_of_scikit_learn(case: tuple[Tensor, Tensor, int]) -> None:
    prediction, target, classes = case
    p, t = prediction[target != 255].numpy(), target[target != 255].numpy()
    ids = np.arange(classes)
    matrix = metrics.confusion(prediction, target, classes)
    np.testing.assert_array_equal(matrix.sum(0), confusion_matrix(t, p, labels=ids))
    assert float(metrics.pixel_accuracy(prediction, target)) == pytest.approx(accuracy_score(t, p))
    seen = np.unique(t)
    recall = recall_score(t, p, labels=seen, average="macro", zero_division=0)
    assert float(metrics.mean_class_accuracy(prediction, target, num_classes=classes)) == pytest.approx(recall)
    union = np.union1d(t, p)
    overlap = jaccard_score(t, p, labels=union, average="macro", zero_division=0)
    assert float(metrics.mean_iou(prediction, target)) == pytest.approx(overlap)


@given(masks())
@hypothesis_settings(max_examples=30)
def test_values_of_images_are_those_of_the_images_alone(case: tuple[Tensor, Tensor, int]) -> None:
    prediction, target, classes = case
    counted = metrics.valid_images(target)
    for metric in (metrics.pixel_accuracy, metrics.mean_class_accuracy, metrics.mean_iou):
        found = metric(prediction, target, per_image=True)
        alone = [metric(prediction[i : i + 1], target[i : i + 1]) for i in range(len(target)) if counted[i]]
        torch.testing.assert_close(found, torch.stack(alone))
    sums = metrics.confusion(prediction, target, classes)
    draws = torch.randint(0, len(target), (5, len(target)))
    draws[:, 0] = 0
    torch.testing.assert_close(
        metrics.mean_iou_from(sums[draws].sum(1)),
        torch.stack([metrics.mean_iou(prediction[draw], target[draw]) for draw in draws]),
    )


def test_mean_class_accuracy_is_recall_and_not_precision() -> None:
    target = torch.tensor([[0] * 8 + [1] * 2]).reshape(1, 2, 5)
    prediction = torch.tensor([[0] * 6 + [1] * 2 + [1, 0]]).reshape(1, 2, 5)
    assert float(metrics.mean_class_accuracy(prediction, target)) == pytest.approx((6 / 8 + 1 / 2) / 2)


def test_logits_are_taken_at_their_largest() -> None:
    logits = torch.randn(2, 3, 4, 5, generator=torch.Generator().manual_seed(0))
    target = torch.randint(0, 3, (2, 4, 5))
    for metric in (metrics.pixel_accuracy, metrics.mean_iou, metrics.mean_class_accuracy):
        assert metric(logits, target) == metric(logits.argmax(1), target)


@st.composite
def depths(draw) -> tuple[Tensor, Tensor]:
    """Predicted and true depths [B, H, W]; at least one pixel counts."""
    shape = (draw(st.integers(1, 4)), draw(st.integers(1, 4)), draw(st.integers(1, 5)))
    random = torch.Generator().manual_seed(draw(st.integers(0, 999)))
    target = torch.rand(shape, generator=random) * 9 + 0.5
    prediction = target * torch.exp(torch.randn(shape, generator=random) * draw(st.sampled_from([0.0, 0.2, 1.0])))
    target[torch.rand(shape, generator=random) < draw(st.sampled_from([0.0, 0.5, 0.9]))] = 0.0
    prediction[torch.rand(shape, generator=random) < 0.1] = 0.0
    target[0, 0, 0] = 2.0
    return prediction, target


@given(depths())
@hypothesis_settings(max_examples=60)
def test_depth_metrics_are_their_definition(case: tuple[Tensor, Tensor]) -> None:
    prediction, target = case
    p, t = (part[target > 0].double().numpy() for part in (prediction, target))
    assert float(metrics.rmse(prediction, target)) == pytest.approx(math.sqrt(((p - t) ** 2).mean()))
    assert float(metrics.abs_rel(prediction, target)) == pytest.approx((np.abs(p - t) / t).mean())
    for k in (1, 2, 3):
        near = [max(a / b, b / a if a else math.inf) < 1.25**k for a, b in zip(p, t, strict=True)]
        assert float(metrics.delta(prediction, target, k=k)) == pytest.approx(np.mean(near))
    g = np.log(p + 1e-3) - np.log(t + 1e-3)
    assert float(metrics.silog(prediction, target)) == pytest.approx(
        math.sqrt(g.var() + 0.15 * g.mean() ** 2), abs=1e-6
    )
    if len(target) == 1:
        own = losses.silog(prediction.double(), target.double())
        assert float(metrics.silog(prediction, target)) == pytest.approx(float(own), abs=1e-6)


@given(depths())
@hypothesis_settings(max_examples=20)
def test_depths_of_images_are_those_of_the_images_alone(case: tuple[Tensor, Tensor]) -> None:
    prediction, target = case
    counted = metrics.valid_images(target)
    for metric in (metrics.rmse, metrics.abs_rel, metrics.delta, metrics.silog):
        found = metric(prediction, target, per_image=True)
        alone = [metric(prediction[i : i + 1], target[i : i + 1]) for i in range(len(target)) if counted[i]]
        torch.testing.assert_close(found, torch.stack(alone))


def test_metrics_are_numbers_in_double_precision() -> None:
    target = torch.ones(2, 3, 4)
    for found in (metrics.rmse(target, target), metrics.mean_iou(target.long(), target.long())):
        assert found.dtype == torch.float64
        assert found.shape == ()


def test_what_counts_can_be_given_for_depths() -> None:
    target, valid = torch.full((2, 3, 4), 2.0), torch.zeros(2, 3, 4, dtype=torch.bool)
    valid[0, 0, 0] = True
    prediction = torch.full((2, 3, 4), math.nan)
    prediction[0, 0, 0] = 3.0
    assert float(metrics.rmse(prediction, target, valid=valid)) == 1.0
    assert metrics.valid_images(target, valid=valid).tolist() == [True, False]


NOTHING = torch.full((2, 3, 4), 255)
ZEROS = torch.zeros(2, 3, 4)


@pytest.mark.parametrize(
    ("call", "error", "says"),
    [
        (lambda: metrics.mean_iou(NOTHING * 0, NOTHING), DataError, "No pixel counts"),
        (lambda: metrics.pixel_accuracy(NOTHING * 0, NOTHING, per_image=True), DataError, "No pixel counts"),
        (lambda: metrics.mean_class_accuracy(NOTHING * 0, NOTHING), DataError, "No pixel counts"),
        (lambda: metrics.rmse(ZEROS, ZEROS), DataError, "No pixel counts"),
        (lambda: metrics.delta(ZEROS, ZEROS, per_image=True), DataError, "No pixel counts"),
        (lambda: metrics.mean_iou(NOTHING * 0, NOTHING, num_classes=9, ignore_index=254), DataError, "ids 255.*0..8"),
        (lambda: metrics.mean_iou(NOTHING * 0 + 9, NOTHING * 0, num_classes=9), DataError, "predictions hold.* 9"),
        (lambda: metrics.mean_iou(NOTHING[:1], NOTHING), DataError, r"\(1, 3, 4\) do not fit targets \(2, 3, 4\)"),
        (lambda: metrics.mean_iou(ZEROS, NOTHING), DataError, "whole class indices"),
        (lambda: metrics.rmse(ZEROS[:1], ZEROS), DataError, r"\(1, 3, 4\) do not fit"),
        (lambda: metrics.rmse(ZEROS * math.nan, ZEROS + 1), DataError, "NaN or infinite"),
        (lambda: metrics.delta(ZEROS + 1, ZEROS + 1, k=4), SettingError, "allowed: 1, 2, 3"),
    ],
)
def test_what_cannot_be_used_is_named(call: Callable[[], Tensor], error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says):
        call()
