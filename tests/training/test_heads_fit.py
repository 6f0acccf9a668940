from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from assay.core.errors import DataError, ModelError, SettingError
from assay.data import Dataset, DenseDataset, load_dense
from assay.subjects import Classification, Depth, Encoder, Segmentation, encoder
from assay.subjects.backbones import Backbone, Features
from assay.tensors import metrics
from assay.training.heads import HeadSettings, forecast_head, task_for, task_metrics, train_head, train_heads
from assay.training.heads.course import _picked
from assay.training.heads.quality import mean_class_accuracy, mean_iou, pixel_accuracy, tally

TASKS = ("classification", "segmentation", "depth")


class Colours(Backbone):
    """Patches of 4x4 pixels tell their mean colour; the embedding is the mean of all."""

    dim = patch_dim = 3
    patch = 4

    def __init__(self) -> None:
        super().__init__()
        self.scale = torch.nn.Parameter(torch.ones(1))

    def forward(self, images: torch.Tensor) -> Features:
        patches = torch.nn.functional.avg_pool2d(images, 4) * self.scale
        return Features(patches.mean((2, 3)), patches)


@pytest.fixture
def colours() -> Encoder:
    return Encoder(Colours().eval(), name="colours")


def painted(folder: Path, count: int, seed: int, ignored: int = 0) -> DenseDataset:
    """Blocks of three colours: the colour is the mask's class, and depth is 1, 2 or 4; noise on the image."""
    random = np.random.default_rng(seed)
    classes = np.kron(random.integers(0, 3, (count, 2, 2)), np.ones((8, 8), dtype=np.int64))
    classes[:, :8, :8] = (label := np.arange(count) % 3)[:, None, None]
    palette = np.array([[0.9, 0.2, 0.1], [0.1, 0.8, 0.3], [0.2, 0.3, 0.9]], dtype=np.float32)
    images = palette[classes] + random.normal(0, 0.05, (count, 16, 16, 3)).astype(np.float32)
    masks, depths = classes.astype(np.uint8), np.array([1.0, 2.0, 4.0], dtype=np.float32)[classes]
    masks[:ignored], depths[:ignored] = 255, 0
    path = folder / f"painted-{count}-{seed}-{ignored}.npz"
    np.savez(path, images=images.clip(0, 1), masks=masks, depths=depths, labels=label)
    return load_dense(path)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("painted")


def settings(**changes: object) -> HeadSettings:
    return HeadSettings(**{"epochs": 12, "batch_size": 8, "learning_rate": 0.05, "bins": 16, **changes})  # type: ignore[arg-type]


@pytest.mark.parametrize("with_embedding", [False, True])
def test_heads_learn_what_the_encoder_tells(folder: Path, colours: Encoder, with_embedding: bool) -> None:
    data, held_out = painted(folder, 48, 0), painted(folder, 12, 1)
    for task, name, least, most in (("segmentation", "mean_iou", 0.7, 1), ("depth", "rmse", 0, 0.7)):
        done = train_head(
            colours, data, task=task, validation=held_out, settings=settings(with_embedding=with_embedding)
        )
        value = next(metric for metric in done.metrics if metric.name == f"validation_{name}")
        assert least <= value.value <= most
        assert value.lo is not None
        assert value.hi is not None
        assert value.lo <= value.value <= value.hi
        assert done.losses[-1] < done.losses[0] / 2
        assert {len(column) for column in done.samples.values()} == {12}


def test_a_classifier_learns_the_labels(folder: Path, colours: Encoder) -> None:
    data = painted(folder, 90, 2)
    labelled = Dataset.from_arrays(data.images(), (data.images().mean((2, 3))[:, 0] > 0.4).astype(int))
    done = train_head(colours, labelled, task="classification", validation=labelled, settings=settings(epochs=40))
    assert done.metrics[0].value > 0.9
    assert done.metrics[0].interval == "clopper-pearson 95%"
    assert done.target.task == Classification(2)
    predicted = done.target.predict(torch.from_numpy(labelled.images())).argmax(1).numpy()
    assert np.array_equal(predicted, done.samples["predicted"])


@pytest.mark.parametrize("task", TASKS)
def test_the_target_is_the_whole_pipeline(task: str, folder: Path) -> None:
    data = painted(folder, 12, 3)
    normalised = Encoder(Colours().eval(), preprocess=encoder("network:resnet-micro", mean=[0.4], std=[0.2]).preprocess)
    done = train_head(normalised, data, task=task, settings=settings(epochs=1))
    images = torch.from_numpy(data.images())
    expected = done.head(normalised.features(images), (16, 16))
    torch.testing.assert_close(done.target.logits(images), expected)
    assert done.target.task.name == task
    leaf = images[:2].clone().requires_grad_(True)
    done.target.task.losses(
        done.target.model(leaf),
        done.target.task.check_references(torch.from_numpy(data.references(task, np.arange(2))), images[:2]),
    ).sum().backward()
    assert bool(leaf.grad.abs().sum() > 0)  # type: ignore[union-attr]


@pytest.mark.parametrize("task", TASKS)
def test_a_seed_repeats_bit_for_bit_and_others_differ(
    task: str, folder: Path, colours: Encoder, tmp_path: Path
) -> None:
    data = painted(folder, 20, 4)
    before = torch.random.get_rng_state()
    alone = train_head(colours, data, task=task, seed=1, settings=settings(epochs=2), cache=tmp_path)
    first, second = train_heads(colours, data, task=task, seeds=[0, 1], settings=settings(epochs=2))
    assert torch.equal(before, torch.random.get_rng_state())
    assert all(torch.equal(value, alone.head.state_dict()[name]) for name, value in second.head.state_dict().items())
    assert first.losses != second.losses
    assert (first.cost.forward, second.cost.forward) == (20, 0)


def test_the_encoder_stays_as_it_is(folder: Path, colours: Encoder) -> None:
    colours.backbone.train()
    digest = colours.digest
    done = train_head(colours, painted(folder, 8, 5), task="depth", settings=settings(epochs=1))
    assert colours.digest == digest
    assert colours.backbone.training
    assert all(value.requires_grad and value.grad is None for value in colours.backbone.parameters())
    assert not any(value.requires_grad for value in done.head.parameters())
    assert not done.head.training


@pytest.mark.parametrize("task", ["segmentation", "depth"])
def test_images_without_a_pixel_that_counts_change_nothing(task: str, folder: Path, colours: Encoder) -> None:
    data = painted(folder, 20, 6, ignored=3)
    rest = data.subset(np.arange(3, 20))
    found, expected = (
        train_head(colours, some, task=task_for(task, data), validation=some, settings=settings(epochs=2))
        for some in (data, rest)
    )
    assert [metric.n for metric in found.metrics] == [17] * 3
    assert {finding.code for finding in found.findings} == {"images-without-reference"}
    assert "3 of 20" in found.findings[0].message
    assert not expected.findings
    columns = found.samples["pixels"]
    assert np.isnan(columns[:3]).all()
    assert (columns[3:] == 256).all()


@pytest.mark.parametrize("task", ["segmentation", "depth"])
def test_pictures_stand_beside_the_figures(task: str, folder: Path, colours: Encoder) -> None:
    data = painted(folder, 12, 8, ignored=2)
    done = train_head(colours, data, task=task, validation=data, settings=settings(epochs=1))
    [sheet] = done.panels
    assert len(sheet.rows) == 4
    assert sheet.columns[0] == "image"
    assert [row.caption.split()[1] for row in sheet.rows] == ["2:", "5:", "8:", "11:"]  # those that have pixels
    right = float(done.samples["pixel_accuracy" if task == "segmentation" else "rmse"][2])
    assert (f"{100 * right:.0f} %" if task == "segmentation" else f"{right:.3g} m") in sheet.rows[0].caption


def test_every_pixel_takes_its_turn() -> None:
    truth = torch.arange(7 * 5).reshape(1, 7, 5)
    random = np.random.default_rng(0)
    seen: set[int] = set()
    for _ in range(60):
        places, chosen, size = _picked(truth, 3, random)
        assert places is not None
        rows, columns = places
        assert size == (7, 5)
        assert torch.equal(chosen, truth[:, rows][:, :, columns])
        seen |= set(chosen.flatten().tolist())
    assert seen == set(range(35))
    assert _picked(truth, 1, random)[0] is None
    assert _picked(truth[:, :1, :1], 4, random)[1].shape == (1, 1, 1)


@given(st.integers(0, 10_000), st.integers(1, 5), st.integers(2, 4))
def test_quality_agrees_with_the_metrics_over_all_pixels(seed: int, count: int, classes: int) -> None:
    random = torch.Generator().manual_seed(seed)
    task = Segmentation(classes)
    logits = torch.randn(count, classes, 3, 4, generator=random)
    masks = torch.randint(0, classes, (count, 3, 4), generator=random)
    masks[torch.rand(masks.shape, generator=random) < 0.3] = 255
    masks[:, 0, 0] = 0
    sums = tally(task, logits, masks)
    assert mean_iou(sums) == pytest.approx(float(metrics.mean_iou(logits, masks)))
    assert pixel_accuracy(sums) == pytest.approx(float(metrics.pixel_accuracy(logits, masks)))
    assert mean_class_accuracy(sums) == pytest.approx(float(metrics.mean_class_accuracy(logits, masks)))


def test_depth_figures() -> None:
    depths = torch.rand(6, 3, 4, generator=torch.Generator().manual_seed(0)) + 0.1
    found = task_metrics(Depth(), tally(Depth(), depths, depths * 1.2))
    assert [metric.value for metric in found[1:]] == pytest.approx([1 - 1 / 1.2, 1])
    assert found[0].value == pytest.approx(float(metrics.rmse(depths, depths * 1.2)))
    assert [metric.direction for metric in found] == ["lower", "lower", "higher"]
    with pytest.raises(DataError, match="nothing can be measured"):
        task_metrics(Depth(), np.empty((0, 8)))


def test_published_settings() -> None:
    seen = {task: HeadSettings.preset("published", task).resolved(task, 14) for task in TASKS}
    assert [seen[task].epochs for task in TASKS] == [5, 50, 20]
    assert [seen[task].batch_size for task in TASKS] == [128, 16, 16]
    assert [seen[task].learning_rate for task in TASKS] == [0.5, 1e-3, 1e-4]
    assert [seen[task].weight_decay for task in TASKS] == [0, 1e-4, 0.01]
    assert (seen["depth"].bins, seen["depth"].nearest, seen["depth"].farthest) == (256, 0.001, 10)
    assert (seen["segmentation"].optimizer, seen["classification"].optimizer) == ("adamw", "adam")
    assert HeadSettings().resolved("segmentation", 16).label_stride == 4
    with pytest.raises(SettingError, match="no preset named 'publshed'"):
        HeadSettings.preset("publshed", "depth")


@pytest.mark.parametrize(
    "change",
    [
        {"optimizer": "sgd"},
        {"schedule": "constant"},
        {"gradient_weight": 0.5},
        {"upsample": 2, "spacing": "log", "farthest": 5.0},
        {"label_stride": 1},
    ],
)
def test_every_setting_trains(change: dict[str, object], folder: Path, colours: Encoder) -> None:
    data = painted(folder, 48, 0)
    done = train_head(colours, data, task="depth", settings=settings(epochs=3, **change))
    assert done.losses[-1] < done.losses[0]


def test_what_cannot_be_trained_is_named(folder: Path, colours: Encoder) -> None:
    data = painted(folder, 6, 7)
    with pytest.raises(SettingError, match="seeds is empty"):
        train_heads(colours, data, task="depth", seeds=[])
    with pytest.raises(SettingError, match="Did you mean 'segmentation'"):
        train_head(colours, data, task="segmentatoin")
    with pytest.raises(DataError, match="references for classification, not for depth"):
        train_head(colours, data.dataset(), task="depth")
    with pytest.raises(DataError, match="unknown class ids 2"):
        train_head(colours, data, task=Segmentation(2))
    with pytest.raises(DataError, match="None of the 6 depth maps"):
        train_head(colours, data, task=Depth(min_depth=10.0))
    with pytest.raises(SettingError, match="Lower learning_rate, which is 1e\\+30"):
        train_head(colours, data, task="segmentation", settings=settings(optimizer="sgd", learning_rate=1e30))
    with pytest.raises(DataError, match="needs two values"):
        train_head(encoder("network:vit-tiny", image_size=16), data, task="depth", settings=settings(batch_size=1))
    with pytest.raises(ModelError, match="no patch map"):
        train_head(
            encoder(torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(768, 4)), image_size=16), data, task="depth"
        )


def test_a_forecast_counts_steps_and_passes(folder: Path, colours: Encoder) -> None:
    data = painted(folder, 48, 0)
    ahead = forecast_head(colours, data, task="depth", settings=settings(), validation=painted(folder, 12, 1))
    assert (ahead.steps, ahead.forward, ahead.backward) == (72, 60, 0)
    assert ahead.seconds > 0
    assert "60 images" in ahead.outlook[0]
