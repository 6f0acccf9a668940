"""A small real examination: the nearest class mean on handwritten digits, a linear model."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from assay import Classification, Target, load_data
from assay.data.dataset import Dataset


def nearest_mean() -> nn.Module:
    """Logits 2 m_k·x - |m_k|²: the nearest class mean of the training digits."""
    train = load_data("digits", split="train")
    images = train.images().reshape(len(train), -1)
    means = np.stack([images[train.labels == k].mean(0) for k in range(10)])
    linear = nn.Linear(64, 10)
    with torch.no_grad():
        linear.weight.copy_(torch.from_numpy(2 * means))
        linear.bias.copy_(torch.from_numpy(-(means**2).sum(1)))
    return nn.Sequential(nn.Flatten(), linear)


@pytest.fixture
def target() -> Target:
    return Target(nearest_mean(), task=Classification(num_classes=10), name="nearest-mean")


@pytest.fixture
def digits() -> Dataset:
    return load_data("digits", limit=60)
