from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from assay.core.errors import ModelError, SettingError
from assay.data.dataset import Dataset
from assay.subjects.baselines import load_baseline, pinned
from assay.subjects.examination import Examination
from assay.subjects.target import Target
from assay.subjects.tasks import Classification

from .runs import linear_run


def examination(classes: int = 3, bounds: tuple[float, float] = (0.0, 1.0)) -> Examination:
    images = np.full((4, 1, 2, 2), 0.5, np.float32)
    data = Dataset.from_arrays(images, [0, 1, 2, 0], class_names=("p", "q", "r"), layout="NCHW")
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, classes))
    return Examination(target=Target(model, task=Classification(classes), bounds=bounds), data=data)


def test_a_network_has_ten_classes_and_the_bounds_of_the_model() -> None:
    baseline = load_baseline("network:linear", examination(classes=10, bounds=(-1.0, 1.0)))
    assert (baseline.task.num_classes, baseline.bounds) == (10, (-1.0, 1.0))
    assert baseline.logits(torch.zeros(2, 1, 2, 2)).shape == (2, 10)
    with pytest.raises(ModelError, match="tells 10 classes apart, the examined model 3"):
        load_baseline("network:linear", examination())


def test_models_that_cannot_be_compared(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="tells 2 classes apart, the examined model 3"):
        load_baseline(str(linear_run(tmp_path / "two", np.eye(2, 4), np.zeros(2))), examination())
    with pytest.raises(ModelError, match="the same units"):
        load_baseline(str(linear_run(tmp_path / "unit", np.eye(3, 4), np.zeros(3))), examination(bounds=(0, 255)))


def test_weights_are_pinned(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"one")
    digest = pinned(f"run:{tmp_path}", None, name="X.baseline")
    assert digest
    assert pinned(str(tmp_path), digest, name="X.baseline") == digest
    (tmp_path / "model.safetensors").write_bytes(b"two")
    with pytest.raises(SettingError, match=r"X\.baseline_digest is .* this is another baseline"):
        pinned(str(tmp_path), digest, name="X.baseline")
    with pytest.raises(SettingError, match=r"X\.baseline is 'gone', where there is no finished training"):
        pinned("gone", None, name="X.baseline")


@pytest.mark.parametrize("spec", [None, "hf:somewhere", "python:net:build", "network:linear"])
def test_what_has_no_file_of_weights_is_not_pinned(spec: str | None) -> None:
    assert pinned(spec, None, name="X.baseline") is None
