"""Classification and normalisation."""

from __future__ import annotations

import pytest
import torch

from assay.core.errors import ModelError, SettingError
from assay.subjects.tasks import Classification, Normalize


def test_values_of_a_classification() -> None:
    task, z, y = Classification(3), torch.tensor([[2.0, 1.0, 0.0], [0.0, 3.0, 3.5]]), torch.tensor([0, 1])
    assert task.margin(z, y).tolist() == [1.0, -0.5]
    assert task.success(z, y).tolist() == [False, True]
    assert torch.allclose(task.losses(z, y), torch.nn.functional.cross_entropy(z, y, reduction="none"))


@pytest.mark.parametrize("count", [1, 0, -3, 2.0, True, "10"])
def test_class_counts_that_are_none(count: object) -> None:
    with pytest.raises(SettingError, match="num_classes"):
        Classification(count)


@pytest.mark.parametrize(
    ("mean", "std", "words"),
    [([0.5], [0.0], "std"), ([0.5], [-1.0], "std"), ([0.5, 0.5], [1.0], "2 means"), ([], [], "0 means")],
)
def test_normalisations_that_divide_by_nothing(mean: list, std: list, words: str) -> None:
    with pytest.raises(SettingError, match=words):
        Normalize(mean, std)


def test_normalisation_by_channel() -> None:
    images = torch.rand(2, 3, 4, 4)
    expected = (images - torch.tensor([0.1, 0.2, 0.3])[:, None, None]) / torch.tensor([1.0, 2.0, 4.0])[:, None, None]
    assert torch.allclose(Normalize([0.1, 0.2, 0.3], [1, 2, 4])(images), expected)
    with pytest.raises(ModelError, match="3 channels, the images have 1"):
        Normalize([0.1, 0.2, 0.3], [1, 2, 4])(images[:, :1])
