"""The data sets of the reproductions: training and test parts as Datasets, from files that the user has.

Files are looked for in the folder named by ASSAY_DATA, or else in ``../shared/data``:
``mnist/mnist.npz``, ``cifar10_jpeg/train.parquet`` and ``test.parquet``, ``camvid_240x180/train.parquet`` and
``test.parquet``, ``tabular/adult.data`` and ``tabular/adult.test``. ``digits`` and ``scenes`` need none.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from assay.core.errors import DataError, SettingError
from assay.core.seeds import seed
from assay.data.dataset import Dataset
from assay.data.dense.dataset import DenseDataset
from assay.data.dense.load import load_dense
from assay.data.load import load_data

COLUMNS = (
    "age", "workclass", "fnlwgt", "education", "education_num", "marital_status", "occupation", "relationship",
    "race", "sex", "capital_gain", "capital_loss", "hours_per_week", "native_country", "income",
)  # fmt: skip
BOUNDS = {
    "age": (0.0, 100.0),
    "education_num": (1.0, 16.0),
    "capital_gain": (0.0, 99999.0),
    "capital_loss": (0.0, 9999.0),
    "hours_per_week": (0.0, 99.0),
}
"""Ends of the numeric columns as the questionnaire allows them: public, not taken from the records."""
LOGARITHMIC = ("capital_gain", "capital_loss")
ONE_HOT = ("workclass", "education", "marital_status", "occupation", "relationship", "native_country")
TEST_SHARE = 0.2
DENSE: dict[str, dict[str, Any]] = {
    "scenes": {},
    "cifar10": {"path": "cifar10_jpeg", "labels_key": "label"},
    "camvid": {"path": "camvid_240x180", "ignore_index": 11},
}
"""How :func:`dense` reads the data sets it knows by name."""


def folder() -> Path:
    """Where the files lie.

    Raises:
        DataError: the folder is not there.
    """
    path = Path(os.environ.get("ASSAY_DATA", Path(__file__).resolve().parents[2] / "shared" / "data"))
    if not path.is_dir():
        raise DataError(f"The folder of data sets {str(path)!r} is not there; name it with the variable ASSAY_DATA.")
    return path


def read(wanted: Mapping[str, Any]) -> tuple[Dataset, Dataset]:
    """Training and test part.

    Args:
        wanted: ``name`` (``"mnist"``, ``"cifar10"``, ``"adult"``, ``"digits"`` or ``"mix"``, see :func:`mix`);
            where a class is to be made rare, ``thin: {class: 8, keep: 0.09}``, and where fewer samples are enough,
            ``limit: 5000``, the first of them: both touch the training part only. With ``held_out: 500`` the last
            500 training samples stand in for the test part, for choosing settings.
    """
    readers: dict[str, Callable[[], tuple[Dataset, Dataset]]] = {
        "digits": _digits,
        "mnist": _mnist,
        "cifar10": _cifar10,
        "adult": _adult,
        "mix": partial(mix, wanted),
    }
    if wanted["name"] not in readers:
        raise SettingError(f"data.name is {wanted['name']!r}; allowed: {', '.join(sorted(readers))}.")
    train, test = readers[wanted["name"]]()
    if "held_out" in wanted:
        cut = len(train) - int(wanted["held_out"])
        train, test = train.head(cut), replace(train.subset(np.arange(cut, len(train))), split="validation")
    if "limit" in wanted:
        train = train.head(int(wanted["limit"]))
    if "thin" in wanted:
        train = thinned(train, int(wanted["thin"]["class"]), float(wanted["thin"]["keep"]))
    return train, test


def dense(wanted: Mapping[str, Any]) -> tuple[DenseDataset, DenseDataset]:
    """Training and test part of data for dense tasks.

    Args:
        wanted: ``name``: ``"scenes"``, ``"cifar10"``, ``"camvid"``, another folder below that of the data sets, or
            ``hf:ID``; ``train`` and ``test``: how many of the first samples (default all), ``evaluate``: the split that
            stands for the test; anything else is handed to ``load_dense``, such as ``image_size: [96, 128]``.
    """
    known = {**DENSE.get(wanted["name"], {}), **wanted}
    name = known.pop("path", known.pop("name"))
    known.pop("name", None)
    limits = {"train": known.pop("train", None), "test": known.pop("test", None)}
    splits = {"train": "train", "test": known.pop("evaluate", "test")}
    size = known.pop("image_size", None)
    size = tuple(size) if isinstance(size, list) else size
    path = name if name == "scenes" or str(name).startswith("hf:") else folder() / name
    train, test = (
        load_dense(path, split=splits[part], limit=limits[part], image_size=size, **known) for part in ("train", "test")
    )
    return train, test


def mix(wanted: Mapping[str, Any]) -> tuple[Dataset, Dataset]:
    """Images without labels for training an encoder: those of several data sets, cut into squares.

    Args:
        wanted: ``parts``, each as for :func:`dense`; ``side``: of the squares, which lie side by side, and what is
            left at the right and lower edge is lost. Without ``side`` there is one part, and its images are whole.
    """
    read_parts = [dense(part) for part in wanted["parts"]]
    if wanted.get("side") is None:
        if len(read_parts) != 1:
            raise SettingError("data.side is missing; images of several data sets need squares of one size.")
        train, test = (part.dataset() for part in read_parts[0])
        return train, test
    train, test = (
        _shuffled(np.concatenate([_squares(part, int(wanted["side"])) for part in parts]))
        for parts in zip(*read_parts, strict=True)
    )
    return replace(train, split="train"), replace(test, split="test")


def _squares(data: DenseDataset, side: int) -> np.ndarray:
    """uint8 [n, C, side, side]."""
    images = np.concatenate([_bytes(data.images(rows)) for rows in np.array_split(np.arange(len(data)), 20)])
    count, channels, height, width = images.shape
    rows, columns = height // side, width // side
    cut = images[:, :, : rows * side, : columns * side].reshape(count, channels, rows, side, columns, side)
    return cut.transpose(0, 2, 4, 1, 3, 5).reshape(-1, channels, side, side)


def _bytes(images: np.ndarray) -> np.ndarray:
    return np.round(images * 255).astype(np.uint8)


def _shuffled(images: np.ndarray) -> Dataset:
    order = np.array([seed(0, "mix", i) for i in range(len(images))]).argsort(kind="stable")
    labels = np.zeros(len(images), np.int64)
    return Dataset.from_arrays(images[order], labels, class_names=("unlabelled",), name="mix", layout="NCHW")


def thinned(data: Dataset, label: int, keep: float) -> Dataset:
    """Every sample of the other classes, and each sample of one class with probability ``keep``.

    Which ones stay follows from the samples' numbers alone: it is part of the data, not of a seed.
    """
    draws = np.array([seed(0, "thin", int(sample)) / 2**63 for sample in data.sample_ids])
    return data.subset((data.labels != label) | (draws < keep))


def _digits() -> tuple[Dataset, Dataset]:
    return load_data("digits", split="train"), load_data("digits", split="test")


def _mnist() -> tuple[Dataset, Dataset]:
    path = folder() / "mnist" / "mnist.npz"
    return load_data(path, split="train"), load_data(path, split="test")


def _cifar10() -> tuple[Dataset, Dataset]:
    """CIFAR-10 kept as JPEG images (chroma at half resolution), in a random order of samples."""
    path = folder() / "cifar10_jpeg"
    return load_data(path / "train.parquet", labels_key="label"), load_data(path / "test.parquet", labels_key="label")


def _adult() -> tuple[Dataset, Dataset]:
    """Adult (UCI): income above 50,000; groups by sex, one to one; a fifth for the test.

    Training and test file are joined, records with a missing value dropped, and so is ``fnlwgt``.
    Numeric columns go to [0, 1] by public bounds (gains and losses after log(1 + x)), sex and race
    (white or not) are binary, the other columns one-hot. The official code standardises by the
    moments of the data, which no privacy guarantee of the training would cover.
    """
    rows = [row for name in ("adult.data", "adult.test") for row in _records(folder() / "tabular" / name)]
    column = {name: np.array([row[i] for row in rows]) for i, name in enumerate(COLUMNS)}
    sex = column["sex"]
    order = np.array([seed(0, "adult", i) for i in range(len(rows))]).argsort(kind="stable")
    smaller = min((sex == value).sum() for value in ("Female", "Male"))
    chosen = np.concatenate([order[sex[order] == value][:smaller] for value in ("Female", "Male")])
    data = Dataset.from_arrays(
        _features(column)[chosen].reshape(len(chosen), 1, 1, -1),
        (column["income"][chosen] == ">50K").astype(np.int64),
        class_names=("<=50K", ">50K"),
        groups=sex[chosen],
        name="adult",
        layout="NCHW",
    )
    cut = round(TEST_SHARE * smaller)
    test = np.concatenate([np.arange(cut), smaller + np.arange(cut)])
    training = np.setdiff1d(np.arange(len(data)), test)
    return replace(data.subset(training), split="train"), replace(data.subset(test), split="test")


def _records(path: Path) -> list[list[str]]:
    """The complete records; the test file ends its labels with a dot and may begin with names."""
    with path.open(encoding="utf-8", newline="") as file:
        lines = [[cell.strip().rstrip(".") for cell in line] for line in csv.reader(file)]
    return [line for line in lines if len(line) == len(COLUMNS) and line[0] != "age" and "?" not in line]


def _features(column: Mapping[str, np.ndarray]) -> np.ndarray:
    """[N, D] float32 in [0, 1]."""
    parts = []
    for name, (low, high) in BOUNDS.items():
        scale = np.log1p if name in LOGARITHMIC else np.asarray
        start, end = scale(low), scale(high)
        parts.append(((scale(column[name].astype(np.float64).clip(low, high)) - start) / (end - start))[:, None])
    parts.append((column["sex"] == "Male")[:, None])
    parts.append((column["race"] == "White")[:, None])
    for name in ONE_HOT:
        parts.append(column[name][:, None] == np.unique(column[name])[None])
    return np.concatenate(parts, axis=1).astype(np.float32)
