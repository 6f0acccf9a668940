"""The data sets of the reproductions: training and test parts as Datasets, from files that the user has.

Files are looked for in the folder named by ASSAY_DATA, or else in ``../shared/data``:
``mnist/mnist.npz``, ``cifar10_jpeg/train.parquet`` and ``test.parquet``, ``tabular/adult.data`` and
``tabular/adult.test``. ``digits`` needs none.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from assay.core.errors import DataError, SettingError
from assay.core.seeds import seed
from assay.data.dataset import Dataset
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
        wanted: ``name`` (``"mnist"``, ``"cifar10"``, ``"adult"`` or ``"digits"``); where a class is to be made
            rare, ``thin: {class: 8, keep: 0.09}``, and where fewer samples are enough, ``limit: 5000``, the first
            of them: both touch the training part only. With ``held_out: 500`` the last 500 training samples stand in
            for the test part, for choosing settings.
    """
    readers = {"digits": _digits, "mnist": _mnist, "cifar10": _cifar10, "adult": _adult}
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
