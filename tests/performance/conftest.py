"""Examinations of made-up answers: the model is a table of logits."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from assay import Classification, Target
from assay.data.dataset import Dataset
from assay.subjects.examination import Examination

Examine = Callable[..., Examination]


@pytest.fixture
def examine() -> Examine:
    """``examine(logits [N, K], labels, groups=None)``: an examination of a model that answers exactly that."""

    def made(logits: np.ndarray, labels: np.ndarray, groups: list[str] | None = None) -> Examination:
        answers = torch.as_tensor(np.asarray(logits), dtype=torch.float32)
        count, classes = answers.shape
        images = np.zeros((count, 1, 2, 2), np.float32)
        images[:, 0, 0, 0] = np.arange(count) / max(count, 2)
        data = Dataset.from_arrays(
            images,
            np.asarray(labels),
            class_names=tuple(str(k) for k in range(classes)),
            groups=groups,
            layout="NCHW",
        )

        def model(batch: torch.Tensor) -> torch.Tensor:
            return answers[(batch[:, 0, 0, 0] * max(count, 2)).round().long()]

        return Examination(target=Target(model, task=Classification(num_classes=classes)), data=data)

    return made
