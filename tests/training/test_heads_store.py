from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from assay.core.errors import ModelError, RunError
from assay.core.runs import load_run
from assay.data import DenseDataset, load_dense
from assay.subjects import Encoder, encoder
from assay.training.heads import HeadSettings, TrainedHead, load_head, train_head
from assay.training.heads.course import Course

BRIEF = HeadSettings(epochs=2, bins=8)


@pytest.fixture(scope="module")
def data() -> tuple[DenseDataset, DenseDataset]:
    return tuple(load_dense("scenes", split=split, limit=12, image_size=32) for split in ("train", "test"))  # type: ignore[return-value]


@pytest.fixture(scope="module")
def small() -> Encoder:
    return encoder("network:resnet-micro", image_size=32)


def trained(encoder: Encoder, data: tuple[DenseDataset, DenseDataset], out: Path, **changes: object) -> TrainedHead:
    options = {"task": "depth", "settings": BRIEF, "validation": data[1], "out": out, **changes}
    return train_head(encoder, data[0], **options)  # type: ignore[arg-type]


def same(one: TrainedHead, other: TrainedHead) -> bool:
    first, second = one.head.state_dict(), other.head.state_dict()
    return first.keys() == second.keys() and all(torch.equal(value, second[name]) for name, value in first.items())


@pytest.mark.parametrize("task", ["classification", "segmentation", "depth"])
def test_a_head_comes_back_from_its_folder(
    task: str, small: Encoder, data: tuple[DenseDataset, DenseDataset], tmp_path: Path
) -> None:
    made = trained(small, data, tmp_path / "head", task=task, command=["assay", "train"])
    found = load_head(tmp_path / "head")
    assert same(made, found)
    assert found.task == made.task
    assert found.settings == made.settings
    images = torch.from_numpy(data[1].images())
    assert torch.equal(found.target.logits(images), made.target.logits(images))
    run = load_run(tmp_path / "head")
    assert run.status == "ok"
    assert [metric.value for metric in run.metrics] == [metric.value for metric in made.metrics]
    assert run.record["target"]["digest"] == made.target.digest
    assert run.record["command"] == ["assay", "train"]
    assert run.samples.num_rows == 12
    assert run.figures()[0].series[0].y == tuple(made.losses)
    assert run.settings["head"]["epochs"] == 2


def test_the_same_call_finds_it_finished(
    small: Encoder, data: tuple[DenseDataset, DenseDataset], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = trained(small, data, tmp_path)
    monkeypatch.setattr(Course, "run", None)
    assert same(made, trained(small, data, tmp_path))
    with pytest.raises(RunError, match="another"):
        trained(small, data, tmp_path, seed=1)


def test_a_stopped_training_is_repeated(
    small: Encoder, data: tuple[DenseDataset, DenseDataset], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = Course.step

    def stopped(course: Course, batch: object, number: int) -> float:
        if number == 1:
            raise KeyboardInterrupt
        return step(course, batch, number)  # type: ignore[arg-type]

    monkeypatch.setattr(Course, "step", stopped)
    with pytest.raises(KeyboardInterrupt):
        trained(small, data, tmp_path / "a")
    assert load_run(tmp_path / "a").status == "incomplete"
    with pytest.raises(RunError, match="no finished head"):
        load_head(tmp_path / "a")
    monkeypatch.setattr(Course, "step", step)
    assert same(trained(small, data, tmp_path / "a"), trained(small, data, tmp_path / "b"))


def test_without_validation_nothing_is_claimed(
    small: Encoder, data: tuple[DenseDataset, DenseDataset], tmp_path: Path
) -> None:
    made = trained(small, data, tmp_path, validation=None)
    assert made.metrics == []
    assert "no-validation" in {finding.code for finding in load_run(tmp_path).findings}


def test_folders_may_move_together(small: Encoder, data: tuple[DenseDataset, DenseDataset], tmp_path: Path) -> None:
    run = tmp_path / "here" / "encoder"
    run.mkdir(parents=True)
    save_file(small.backbone.state_dict(), run / "model.safetensors")
    about = {"kind": "encoder", "origin": dict(small.backbone.origin), "mean": [0.5] * 3, "std": [0.2] * 3}
    (run / "model.json").write_text(json.dumps({**about, "bounds": [0, 1]}))
    made = trained(encoder(f"run:{run}"), data, tmp_path / "here" / "head")
    shutil.move(tmp_path / "here", tmp_path / "there")
    assert same(made, load_head(tmp_path / "there" / "head"))
    shutil.rmtree(tmp_path / "there" / "encoder")
    with pytest.raises(ModelError, match="give it along"):
        load_head(tmp_path / "there" / "head")


def test_a_head_stays_with_its_encoder(small: Encoder, data: tuple[DenseDataset, DenseDataset], tmp_path: Path) -> None:
    own = Encoder(encoder("network:resnet-micro", image_size=32).backbone, name="mine")
    with torch.no_grad():
        own.backbone.stem.weight.add_(0.1)  # type: ignore[union-attr, operator]
    made = trained(own, data, tmp_path)
    with pytest.raises(ModelError, match="give it along"):
        load_head(tmp_path)
    with pytest.raises(ModelError, match="'mine' with digest"):
        load_head(tmp_path, small)
    assert same(made, load_head(tmp_path, own))


@pytest.mark.parametrize("content", ["{", "{}", '{"task": {}, "head": {}, "encoder": {}, "settings": {}, "seed": 0}'])
def test_a_damaged_record_is_named(
    content: str, small: Encoder, data: tuple[DenseDataset, DenseDataset], tmp_path: Path
) -> None:
    trained(small, data, tmp_path)
    (tmp_path / "head.json").write_text(content)
    with pytest.raises((RunError, ModelError), match="damaged"):
        load_head(tmp_path, small)
