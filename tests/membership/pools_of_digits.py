"""A model that learnt a few digits by heart, some with wrong labels, and records that it never saw."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from assay import load_data
from assay.core.settings import build
from assay.data.dataset import Dataset
from assay.subjects import Target, load_target
from assay.training import TrainSettings, train

SETTINGS = build(TrainSettings, {"epochs": 12, "batch_size": 32, "learning_rate": 0.1})
NETWORK = "mlp"


def records() -> tuple[Dataset, Dataset]:
    """60 members and 60 non-members; a third of the labels on both sides is drawn at random."""
    whole = load_data("digits", split="train", limit=120)
    rng = np.random.default_rng(0)
    labels = whole.labels.copy()
    wrong = rng.random(len(labels)) < 1 / 3
    labels[wrong] = rng.integers(0, 10, int(wrong.sum()))
    sides = []
    for rows in (slice(0, 60), slice(60, 120)):
        groups = np.where(np.arange(60) % 2, "left", "right")
        names = tuple(str(k) for k in range(10))
        images = whole.images(rows)[:, 0]
        sides.append(Dataset.from_arrays(images, labels[rows], class_names=names, groups=groups, name="noisy digits"))
    return sides[0], sides[1]


def learnt_by_heart(folder: Path, seed: int = 100) -> Target:
    """A network trained on the members."""
    train("standard", network=NETWORK, data=records()[0], settings=SETTINGS, out=folder, seed=seed)
    return load_target(f"run:{folder}")
