"""One encoder on one task: what is measured, shared, kept and left out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from assay import Classification, Target
from assay.core.errors import DataError, ModelError, SettingError
from assay.core.probes import Measurement
from assay.core.shards import Shards
from assay.evasion import attacking
from assay.evasion.cross_task.probe import Bench, CrossTask
from assay.evasion.cross_task.transfers import Transfers
from assay.subjects.backbones import Backbone, Features
from assay.subjects.dense_tasks import Depth, Segmentation
from assay.subjects.encoders import Encoder
from assay.training.heads import ClassificationHead, DepthHead, Headed, SegmentationHead

N, CLASSES = 6, 3
EPS = (4 / 255, 16 / 255)
TASKS = ("classification", "segmentation", "depth", "embedding")


class Toy(Backbone):
    """One convolution over patches of 4x4 pixels."""

    def __init__(self, *, patches: bool = True) -> None:
        super().__init__()
        self.dim, self.patch, self.in_channels = 8, 4, 3
        self.patch_dim = 8 if patches else 0
        self.conv = nn.Conv2d(3, 8, 4, stride=4)

    def forward(self, images: Tensor) -> Features:
        maps = torch.tanh(self.conv(images))
        return Features(maps.mean((2, 3)), maps if self.patch_dim else maps.new_zeros(len(maps), 0, 0, 0))


def make_encoder(*, patches: bool = True) -> Encoder:
    torch.manual_seed(0)
    return Encoder(Toy(patches=patches).eval(), name="toy")


def make_heads(encoder: Encoder, task: str, count: int = 2) -> list[Target[Any]]:
    heads = []
    for seed in range(count):
        torch.manual_seed(seed)
        made: Any = {
            "classification": lambda: (ClassificationHead(8, CLASSES), Classification(CLASSES)),
            "segmentation": lambda: (SegmentationHead(8, CLASSES), Segmentation(num_classes=CLASSES)),
            "depth": lambda: (DepthHead(8, min_depth=0.5, max_depth=8.0, bins=16), Depth()),
        }[task]()
        heads.append(Target(Headed(encoder.backbone, made[0]).eval(), task=made[1], name=f"{task}-{seed}"))
    return heads


def make_references(task: str) -> Any:
    random = torch.Generator().manual_seed(1)
    return {
        "classification": torch.randint(0, CLASSES, (N,), generator=random),
        "segmentation": torch.randint(0, CLASSES, (N, 8, 8), generator=random),
        "depth": 1 + 4 * torch.rand(N, 8, 8, generator=random),
        "embedding": None,
    }[task]


def make_bench(task: str, **changes: Any) -> Bench:
    encoder = changes.pop("encoder", None) or make_encoder()
    heads = [] if task == "embedding" else make_heads(encoder, task)
    images = torch.rand(N, 3, 8, 8, generator=torch.Generator().manual_seed(2))
    given = {"heads": heads, "references": make_references(task), **changes}
    return Bench(encoder=encoder, images=images, **given)


def settings(task: str, **changes: Any) -> CrossTask:
    return CrossTask(**{"task": task, "eps": EPS, "steps": 4, "pictures": 2, **changes})


def values(found: Measurement) -> dict[str, float]:
    return {metric.label: metric.value for metric in found.metrics}


@pytest.mark.parametrize("task", TASKS)
def test_every_task_is_measured(task: str) -> None:
    found = settings(task).measure(make_bench(task))
    by_label = values(found)
    main = {"classification": "accuracy", "segmentation": "mean_iou", "depth": "rmse"}.get(task)
    for budget in ("linf:4/255", "linf:16/255"):
        name = f"robust_{main}@{budget}" if main else f"embedding_cosine_distance@{budget}"
        spaces = {"noise", "embedding"} | ({"output"} if main else set())
        assert {f"{name}{{space={space}}}" for space in spaces} <= by_label.keys()
        assert {f"{name}{{attack={one}}}" for one in ("embedding-l2", "embedding-patch-l2")} <= by_label.keys()
    assert all(np.isfinite(metric.value) for metric in found.metrics)
    assert all(metric.n == N and metric.lo is not None and metric.hi is not None for metric in found.metrics)
    assert all(len(column) == N for column in found.samples.values())
    assert [figure.kind for figure in found.figures] == ["line"] * len(found.figures)
    assert len(found.panels) == (2 if main else 1)
    assert all(len(panel.rows) == 2 for panel in found.panels)
    assert found.cost.backward > 0


@pytest.mark.parametrize(("task", "name", "sign"), [("segmentation", "mean_iou", 1), ("depth", "rmse", -1)])
def test_more_is_lost_where_the_adversary_knows_and_may_do_more(task: str, name: str, sign: int) -> None:
    by_label = values(settings(task, steps=10).measure(make_bench(task)))
    clean = sign * by_label[f"clean_{name}"]
    small, large = (sign * by_label[f"robust_{name}@linf:{eps}"] for eps in ("4/255", "16/255"))
    assert clean >= small >= large
    output = sign * by_label[f"robust_{name}@linf:16/255{{space=output}}"]
    assert large <= output < sign * by_label[f"robust_{name}@linf:16/255{{space=noise}}"]


def test_the_sums_are_those_of_the_metrics() -> None:
    from assay.tensors import metrics

    bench = make_bench("segmentation")
    found = settings("segmentation").examine(bench)
    clean = [float(metrics.mean_iou(head.predict(bench.images), bench.references)) for head in bench.heads]
    assert values(found.measurement)["clean_mean_iou"] == pytest.approx(np.mean(clean))
    assert found.sums["clean"].shape == (2, N, 3 * CLASSES)
    budgets = ["linf:4/255", "linf:16/255"]
    assert set(found.sums) == {"clean"} | {
        f"{s}@{b}" for s in ("noise", "embedding", "output", "worst") for b in budgets
    }


@pytest.mark.parametrize("task", ["segmentation", "embedding"])
def test_results_do_not_depend_on_the_batch_size(task: str) -> None:
    whole, parts = (settings(task).examine(make_bench(task, batch_size=size)) for size in (64, 4))
    for name, sums in whole.sums.items():
        assert parts.sums[name] == pytest.approx(sums, rel=1e-5, abs=1e-6), name


def test_a_stopped_measurement_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    undisturbed = settings("segmentation").examine(make_bench("segmentation"))
    calls = 0
    original = attacking.attack

    def stopping(*given: Any, **words: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 4:
            raise KeyboardInterrupt
        return original(*given, **words)

    monkeypatch.setattr(attacking, "attack", stopping)

    def again() -> Any:
        bench = make_bench("segmentation", shards=Shards(tmp_path / "shards"), scratch=tmp_path / "scratch")
        return settings("segmentation").examine(bench)

    with pytest.raises(KeyboardInterrupt):
        again()
    resumed = again()
    before = calls
    third = again()
    assert calls == before, "a finished measurement attacks nothing again"
    assert values(resumed.measurement) == values(undisturbed.measurement) == values(third.measurement)
    assert resumed.measurement.cost.backward == undisturbed.measurement.cost.backward
    assert [one.message for one in third.measurement.findings] == [one.message for one in resumed.measurement.findings]
    assert not list((tmp_path / "scratch").iterdir())
    for one, other in zip(undisturbed.measurement.panels, third.measurement.panels, strict=True):
        for row, same in zip(one.rows, other.rows, strict=True):
            assert row.caption == same.caption
            assert all(np.array_equal(a, b) for a, b in zip(row.pictures, same.pictures, strict=True))


def test_embedding_attacks_are_searched_once_for_all_tasks(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []
    original = attacking.attack

    def counted(target: Any, images: Tensor, references: Any, threat: Any, objective: str, **words: Any) -> Any:
        seen.append(objective)
        return original(target, images, references, threat, objective, **words)

    monkeypatch.setattr(attacking, "attack", counted)
    encoder = make_encoder()
    bench = make_bench("depth", encoder=encoder)
    transfers = Transfers(encoder, bench.images, list(range(N)))
    for task in ("depth", "embedding"):
        chosen = settings(task, attacks=("embedding-l2", "silog"))
        chosen.measure(make_bench(task, encoder=encoder, transfers=transfers))
    assert seen.count("embedding-l2") == len(EPS)
    assert seen.count("silog") == len(EPS) * 2


def test_images_without_a_pixel_that_counts_are_left_out() -> None:
    masks = make_references("segmentation")
    masks[2] = 255
    found = settings("segmentation").examine(make_bench("segmentation", references=masks, sample_ids=range(10, 10 + N)))
    assert found.sample_ids == [10, 11, 13, 14, 15]
    assert {metric.n for metric in found.measurement.metrics} == {N - 1}
    [finding] = [one for one in found.measurement.findings if one.code == "excluded"]
    assert finding.value == 1
    assert not any(np.isnan(sums).any() for sums in found.sums.values())


@pytest.mark.parametrize(("task", "empty"), [("segmentation", 255), ("depth", 0.0)])
def test_no_pixel_at_all_is_an_error(task: str, empty: float) -> None:
    references = torch.full_like(make_references(task), empty)
    with pytest.raises(DataError, match="None of the 6 images"):
        settings(task).measure(make_bench(task, references=references))


def test_an_encoder_without_patches_is_attacked_on_its_embedding_alone() -> None:
    encoder = make_encoder(patches=False)
    found = settings("embedding").measure(make_bench("embedding", encoder=encoder))
    assert "no-patches" in {one.code for one in found.findings}
    assert "embedding_cosine_distance@linf:4/255{attack=embedding-patch-l2}" not in values(found)
    assert "embedding_cosine_distance@linf:4/255{attack=embedding-l2}" in values(found)


def test_only_attacks_of_the_task_are_used() -> None:
    found = values(settings("depth", attacks=("ce", "silog", "embedding-cosine")).measure(make_bench("depth")))
    attacks = {label.partition("attack=")[2].rstrip("}") for label in found if "attack=" in label}
    assert attacks == {"silog", "embedding-cosine"}


@pytest.mark.parametrize("norm", ["l2", "l1"])
def test_other_norms(norm: str) -> None:
    found = settings("classification", norm=norm, eps=(0.5,)).measure(make_bench("classification"))
    assert f"robust_accuracy@{norm}:0.5" in values(found)


def test_the_record_says_which_attacks_there_were() -> None:
    assert settings("segmentation").attacks == ("embedding-l2", "embedding-patch-l2", "seg-pgd", "cos-pgd")


def test_what_a_plan_tells_is_what_it_costs() -> None:
    chosen = settings("depth", restarts=2)
    found = chosen.measure(make_bench("depth"))
    told = chosen.expected_cost(samples=N, heads=2)
    assert found.cost.backward == told.backward
    assert found.cost.forward == pytest.approx(told.forward, rel=0.3)
    assert chosen.expected_cost(samples=N, heads=2, shared=True).backward < told.backward


def test_a_classifier_is_no_encoder() -> None:
    from assay.subjects.examination import Examination

    target = Target(nn.Flatten(), task=Classification(2))
    assert "--encoder" in CrossTask().measure(Examination(target=target, data=None)).not_applicable  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        ({"heads": []}, ModelError, "There is no head for depth"),
        ({"references": None}, DataError, "no references"),
        ({"references": torch.ones(N, 4, 4)}, DataError, "depth"),
        ({"sample_ids": [0, 0, 1, 2, 3, 4]}, SettingError, "distinct"),
    ],
)
def test_what_cannot_be_measured(changes: dict[str, Any], error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        settings("depth").measure(make_bench("depth", **changes))


def test_a_head_of_another_task() -> None:
    encoder = make_encoder()
    bench = make_bench("depth", encoder=encoder, heads=make_heads(encoder, "segmentation"))
    with pytest.raises(ModelError, match="is for segmentation, and the task is depth"):
        settings("depth").measure(bench)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"attacks": ("embeding-l2",)}, "Did you mean 'embedding-l2'"),
        ({"eps": ()}, "eps is empty"),
        ({"task": "detection"}, "segmentation"),
        ({"steps": 0}, "at least 1"),
    ],
)
def test_mistakes_in_settings(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(SettingError, match=words):
        CrossTask(**changes)


def test_an_attack_that_does_less_than_noise_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    original = attacking.attack

    def idle(target: Any, images: Tensor, *given: Any, **words: Any) -> Any:
        found = original(target, images, *given, **words)
        found.adversarial = images.clone()
        return found

    monkeypatch.setattr(attacking, "attack", idle)
    found = settings("embedding", attacks=("embedding-l2",)).measure(make_bench("embedding"))
    [finding] = [one for one in found.findings if one.code == "weaker-than-noise"]
    assert "embedding-l2" in finding.message
    assert "linf:4/255" in finding.message
