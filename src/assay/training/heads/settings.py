"""How a head is trained: settings with a default for every task, the published ones, and the task itself."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from ...core.errors import DataError, SettingError, did_you_mean
from ...core.methods import MethodCard
from ...core.settings import option, settings
from ...data.dataset import Dataset
from ...data.dense.dataset import DenseDataset
from ...subjects.dense_tasks import Depth, Segmentation
from ...subjects.tasks import Classification

CARD = MethodCard(
    name="probe",
    kind="head",
    title="Head on a frozen encoder",
    summary="A linear classifier, segmenter or depth estimator trained on the features of an encoder.",
    settings="HeadSettings",
)

TASKS = ("classification", "segmentation", "depth")
HeadTask = Classification | Segmentation | Depth

DEFAULTS: Mapping[str, Mapping[str, Any]] = {
    "classification": {"epochs": 30, "batch_size": 128, "learning_rate": 3e-3, "weight_decay": 1e-2},
    "segmentation": {"epochs": 20, "batch_size": 16, "learning_rate": 1e-2, "weight_decay": 1e-4},
    "depth": {"epochs": 20, "batch_size": 16, "learning_rate": 1e-2, "weight_decay": 1e-2},
}
PUBLISHED: Mapping[str, Mapping[str, Any]] = {
    "classification": {
        "epochs": 5,
        "batch_size": 128,
        "optimizer": "adam",
        "learning_rate": 0.5,
        "weight_decay": 0.0,
        "schedule": "constant",
        "standardise": False,
    },
    "segmentation": {
        "epochs": 50,
        "batch_size": 16,
        "learning_rate": 1e-3,
        "weight_decay": 1e-4,
        "schedule": "constant",
        "label_stride": 1,
    },
    "depth": {
        "epochs": 20,
        "batch_size": 16,
        "learning_rate": 1e-4,
        "weight_decay": 0.01,
        "schedule": "constant",
        "label_stride": 1,
        "nearest": 0.001,
        "farthest": 10.0,
        "upsample": 4,
        "with_embedding": True,
        "gradient_weight": 0.5,
    },
}
PRESETS: Mapping[str, Mapping[str, Mapping[str, Any]]] = {"published": PUBLISHED}


@settings
class HeadSettings:
    """How a head is trained on cached features; ``none`` takes the task's own default."""

    epochs: int | None = option(
        default=None, help="passes over the features; none: 30 for classification, else 20", at_least=1
    )
    batch_size: int | None = option(
        default=None, help="images in a step; none: 128 for classification, else 16", at_least=1
    )
    learning_rate: float | None = option(
        default=None, help="largest learning rate; none: 0.003 for classification, else 0.01", above=0
    )
    weight_decay: float | None = option(
        default=None, help="weight decay; none: 0.0001 for segmentation, else 0.01", at_least=0
    )
    optimizer: str = option(default="adamw", help="how weights are moved", choices=("adamw", "adam", "sgd"))
    schedule: str = option(default="cosine", help="learning rate over time", choices=("cosine", "constant"))
    label_stride: int | None = option(
        default=None,
        help="every so many-th pixel a side is learned from, others in other steps; none: a quarter of a patch",
        at_least=1,
    )
    standardise: bool = option(default=True, help="classification: features are brought to mean 0 and deviation 1")
    with_embedding: bool = option(
        default=False, help="segmentation, depth: the image's embedding is put beside every patch vector"
    )
    bins: int = option(default=256, help="depth: bins between the smallest and largest depth", at_least=2)
    spacing: str = option(default="uniform", help="depth: how the bins are spaced", choices=("uniform", "log"))
    nearest: float = option(default=1e-3, help="depth: the first bin, in the unit of the depth maps", above=0)
    farthest: float | None = option(
        default=None, help="depth: the last bin; none: the largest depth of the training data", above=0
    )
    upsample: int = option(default=1, help="depth: enlarge the map so often before bins are weighed", at_least=1)
    gradient_weight: float = option(
        default=0.0, help="depth: weight of the depth-gradient loss beside the scale-invariant one", at_least=0
    )

    @classmethod
    def preset(cls, name: str, task: str) -> HeadSettings:
        """The settings of a preset for one task.

        >>> HeadSettings.preset("published", "segmentation").epochs
        50
        """
        return cls(**cls.preset_values(name, task))

    @staticmethod
    def preset_values(name: str, task: str) -> Mapping[str, Any]:
        """What a preset sets for one task."""
        if name not in PRESETS:
            raise SettingError(f"There is no preset named {name!r}.{did_you_mean(name, PRESETS)}")
        return PRESETS[name][known_task(task)]

    def resolved(self, task: str, patch: int) -> HeadSettings:
        """With the defaults of a task filled in, for an encoder whose patches have ``patch`` pixels a side."""
        defaults = {**DEFAULTS[known_task(task)], "label_stride": max(1, patch // 4)}
        missing = {name: value for name, value in defaults.items() if getattr(self, name) is None}
        return dataclasses.replace(self, **missing)


def known_task(name: str) -> str:
    """The name of a task that heads are for; SettingError for others."""
    if name not in TASKS:
        raise SettingError(f"There is no head for the task {name!r}.{did_you_mean(str(name), TASKS)}")
    return name


def dense(data: DenseDataset | Dataset) -> DenseDataset:
    """Labelled images as data with one task, classification; other data as they are."""
    return data if isinstance(data, DenseDataset) else DenseDataset.from_dataset(data)


def task_for(name: str, data: DenseDataset | Dataset, *, max_depth: float | None = None) -> HeadTask:
    """The task of a name on some data: its number of classes, its value of ignored pixels.

    Args:
        name: ``"classification"``, ``"segmentation"`` or ``"depth"``.
        data: a Dataset (classification only) or a DenseDataset.
        max_depth: depth: pixels beyond it do not count.
    """
    known, images = known_task(name), dense(data)
    if known not in images.tasks:
        has = " and ".join(images.tasks) or "images alone"
        raise DataError(
            f"The data {data.name!r} hold references for {has}, not for {known}. Choose other data or another task."
        )
    if known == "depth":
        return Depth(max_depth=max_depth)
    classes = images.num_classes(known)
    if known == "segmentation":
        return Segmentation(num_classes=classes, ignore_index=images.ignore_index)
    return Classification(classes)
