"""Sums of single images: metrics that follow from them are those of the plain definitions."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from assay import Classification
from assay.core.estimates import clopper_pearson
from assay.evasion.cross_task.estimates import difference, pooled
from assay.evasion.cross_task.scores import Measure, Yardstick, measures_of, worst, yardstick
from assay.subjects.dense_tasks import Depth, Embedding, Segmentation
from assay.tensors import metrics

SEEDS = st.integers(0, 10_000)


def by_name(measured: Yardstick) -> dict[str, Measure]:
    return {item.name: item for item in measured.measures}


def value(measured: Yardstick, name: str, sums: torch.Tensor) -> float:
    return float(by_name(measured)[name].of(sums.numpy().sum(0)))


@given(seed=SEEDS, images=st.integers(1, 4), classes=st.integers(2, 5))
def test_segmentation(seed: int, images: int, classes: int) -> None:
    random = torch.Generator().manual_seed(seed)
    logits = torch.randn(images, classes, 3, 4, generator=random)
    masks = torch.randint(0, classes, (images, 3, 4), generator=random)
    masks[torch.rand(masks.shape, generator=random) < 0.3] = 255
    masks[0, 0, 0] = 0
    measured = yardstick(Segmentation(num_classes=classes), masks)
    sums = measured.sums(logits, torch.arange(images))
    assert value(measured, "mean_iou", sums) == pytest.approx(float(metrics.mean_iou(logits, masks)))
    assert value(measured, "pixel_accuracy", sums) == pytest.approx(float(metrics.pixel_accuracy(logits, masks)))
    recall = metrics.mean_class_accuracy(logits, masks)
    assert value(measured, "mean_class_accuracy", sums) == pytest.approx(float(recall))
    counted = measured.counted
    assert counted.tolist() == [(mask != 255).any().item() for mask in masks]
    right = ((logits.argmax(1) == masks) & (masks != 255)).flatten(1).sum(1)
    wrong = 1 - right / (masks != 255).flatten(1).sum(1).clamp_min(1)
    assert measured.badness(sums.numpy()) == pytest.approx(wrong.numpy())


@given(seed=SEEDS, images=st.integers(1, 4))
def test_depth(seed: int, images: int) -> None:
    random = torch.Generator().manual_seed(seed)
    true = 5 * torch.rand(images, 3, 4, generator=random)
    true[torch.rand(true.shape, generator=random) < 0.3] = 0
    true[0, 0, 0] = 1
    found = 5 * torch.rand(images, 3, 4, generator=random)
    measured = yardstick(Depth(max_depth=4.0), true)
    sums = measured.sums(found, torch.arange(images))
    valid = (true > 0) & (true <= 4)
    assert value(measured, "rmse", sums) == pytest.approx(float(metrics.rmse(found, true, valid=valid)))
    assert value(measured, "abs_rel", sums) == pytest.approx(float(metrics.abs_rel(found, true, valid=valid)))
    for power in (1, 2, 3):
        wanted = float(metrics.delta(found, true, k=power, valid=valid))
        assert value(measured, f"delta{power}", sums) == pytest.approx(wanted)


def test_classification() -> None:
    measured = yardstick(Classification(num_classes=3), torch.tensor([0, 1, 2]))
    sums = measured.sums(torch.eye(3)[[0, 2]], torch.tensor([0, 1]))
    assert sums.tolist() == [[1, 1], [0, 1]]
    assert value(measured, "accuracy", sums) == 0.5
    assert measured.badness(sums.numpy()).tolist() == [0, 1]


@given(seed=SEEDS, images=st.integers(2, 5), dim=st.integers(2, 6))
def test_embedding(seed: int, images: int, dim: int) -> None:
    random = torch.Generator().manual_seed(seed)
    clean = torch.randn(images, dim, generator=random)
    moved = clean + torch.randn(images, dim, generator=random)
    measured = yardstick(Embedding(dim), clean)
    sums = measured.sums(moved, torch.arange(images))
    pairs = [(i, j) for i in range(images) for j in range(images) if i != j]
    typical = sum(float((clean[i] - clean[j]).norm()) for i, j in pairs) / len(pairs)
    distances = [[float((one - other).norm()) for other in clean] for one in moved]
    own = [distances[i][i] for i in range(images)]
    cosine = [1 - float(torch.cosine_similarity(moved[i], clean[i], dim=0)) for i in range(images)]
    assert value(measured, "embedding_l2_distance", sums) == pytest.approx(np.mean(own) / typical, rel=1e-4)
    assert value(measured, "embedding_cosine_distance", sums) == pytest.approx(np.mean(cosine), rel=1e-3, abs=1e-5)
    nearest = np.mean([min(distances[i]) >= own[i] - 1e-6 for i in range(images)])
    assert value(measured, "own_nearest", sums) == pytest.approx(nearest)


def test_images_that_stay_as_they_are_have_not_moved() -> None:
    clean = torch.randn(4, 8)
    measured = yardstick(Embedding(8), clean)
    sums = measured.sums(clean, torch.arange(4))
    assert value(measured, "embedding_l2_distance", sums) == 0
    assert value(measured, "embedding_cosine_distance", sums) == pytest.approx(0, abs=1e-12)
    assert value(measured, "own_nearest", sums) == 1


def test_the_worst_is_chosen_for_each_head_and_image() -> None:
    measured = yardstick(Classification(num_classes=2), torch.tensor([0, 0]))
    one = np.array([[[1.0, 1], [0, 1]], [[1, 1], [1, 1]]])
    other = np.array([[[0.0, 1], [1, 1]], [[1, 1], [0, 1]]])
    assert worst(measured, [one, other])[..., 0].tolist() == [[0, 0], [1, 0]]
    assert worst(measured, [one])[..., 0].tolist() == one[..., 0].tolist()


@pytest.mark.parametrize("task", ["classification", "segmentation", "depth", "embedding"])
def test_metrics_of_kept_sums_have_the_names_of_those_measured(task: str) -> None:
    made = {
        "classification": yardstick(Classification(num_classes=3), torch.zeros(1, dtype=torch.int64)),
        "segmentation": yardstick(Segmentation(num_classes=3), torch.zeros(1, 2, 2, dtype=torch.int64)),
        "depth": yardstick(Depth(), torch.ones(1, 2, 2)),
        "embedding": yardstick(Embedding(2), torch.zeros(1, 2)),
    }[task]
    assert [item.name for item in measures_of(task, {"num_classes": 3})] == [item.name for item in made.measures]


def rate(sums: np.ndarray) -> np.ndarray:
    return sums[..., 0] / sums[..., 1]


def test_a_share_with_one_head_has_the_exact_interval() -> None:
    sums = np.ones((1, 20, 2))
    sums[0, :7, 0] = 0
    found = pooled(sums, rate, rate=True)
    assert (found.value, found.n) == (0.65, 20)
    assert (found.lo, found.hi) == pytest.approx(clopper_pearson(13, 20))


@given(seed=SEEDS, heads=st.integers(1, 4), images=st.integers(2, 12))
def test_the_interval_holds_the_value(seed: int, heads: int, images: int) -> None:
    random = np.random.default_rng(seed)
    sums = np.stack([random.random((heads, images)), np.ones((heads, images))], -1)
    for exact in (True, False):
        found = pooled(sums, rate, rate=exact, most=1.0, seed=seed)
        assert found.value == pytest.approx(sums[..., 0].mean())
        assert 0 <= found.lo <= found.value <= found.hi <= 1


def test_heads_that_differ_widen_the_interval() -> None:
    same = np.stack([np.tile([0.4, 0.6], (3, 10)), np.ones((3, 20))], -1)
    apart = same.copy()
    apart[..., 0] += np.array([-0.2, 0, 0.2])[:, None]
    narrow, wide = pooled(same, rate), pooled(apart, rate)
    assert narrow.value == pytest.approx(wide.value)
    assert wide.hi - wide.lo > 2 * (narrow.hi - narrow.lo)
    half = 4.302652729911275 * 0.2 / math.sqrt(3)  # Student's t with 2 degrees of freedom
    assert wide.hi - wide.value >= half


def test_nothing_measured_is_no_number() -> None:
    assert math.isnan(pooled(np.zeros((1, 0, 2)), rate).value)
    alone = pooled(np.ones((1, 1, 2)), rate)
    assert alone.value == 1
    assert math.isnan(alone.lo)


def test_intervals_cover_what_they_should() -> None:
    """Pooled ratios of 30 images: at least nine of ten intervals hold the truth."""
    random = np.random.default_rng(0)
    held = 0
    for trial in range(200):
        pixels = random.integers(1, 10, 30)
        right = random.binomial(pixels, random.beta(2, 2, 30))
        found = pooled(np.stack([right, pixels], -1)[None].astype(float), rate, most=1.0, seed=trial % 3)
        held += found.lo <= 0.5 <= found.hi
    assert held >= 180


def test_a_difference_is_paired() -> None:
    random = np.random.default_rng(1)
    hard = random.random(40)
    first = np.stack([hard, np.ones(40)], -1)[None]
    second = np.stack([hard - 0.1, np.ones(40)], -1)[None]
    found = difference(first, second, rate)
    assert found.value == pytest.approx(0.1)
    assert (found.lo, found.hi) == pytest.approx((0.1, 0.1))  # images vary, their difference does not
    same = difference(first, first, rate)
    assert (same.value, same.lo, same.hi) == (0, 0, 0)
    assert math.isnan(difference(first[:, :1], second[:, :1], rate).lo)
