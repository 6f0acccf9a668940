"""The built-in set: 1797 real handwritten digits of 8x8 pixels that ship with scikit-learn."""

from __future__ import annotations

import numpy as np

from ..core.errors import DataError
from ..core.seeds import seed
from .dataset import Dataset
from .labels import read_labels
from .pixels import array_pixels
from .request import Request, choose_split

TRAIN_SHARE = 0.75


def read(request: Request) -> Dataset:
    """The digits; ``"test"`` (default) and ``"train"`` are fixed, stratified by class, ``"all"`` is both."""
    request.refuse("the built-in digits", "they have one array of images", "images_key", "labels_key", "group")
    split = choose_split(("train", "test", "all"), request.split, "the built-in digits")
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise DataError(f"The built-in digits need scikit-learn, which cannot be imported: {error}.") from error
    values, targets = load_digits(return_X_y=True)
    rows = split_rows(targets, split)
    rows = rows[request.rows(len(rows))]
    images = (values[rows].reshape(-1, 8, 8) / 16).astype(np.float32)
    pixels = array_pixels(images, where="the built-in digits")
    request.check_array_size(pixels.shape, "the built-in digits")
    return Dataset.assemble(
        pixels,
        read_labels(targets, where="the built-in digits"),
        rows,
        name="digits",
        source="digits",
        split=split,
        notes=("Pixel values 0 to 16 were divided by 16.",),
    )


def split_rows(labels: np.ndarray, split: str) -> np.ndarray:
    """Rows of a split, in the order of the source: of each class, 75 % by a fixed hash order are for training."""
    if split == "all":
        return np.arange(len(labels), dtype=np.int64)
    chosen: list[int] = []
    for label in np.unique(labels):
        members = sorted(np.flatnonzero(labels == label).tolist(), key=lambda row: seed(0, "digits split", row))
        cut = round(TRAIN_SHARE * len(members))
        chosen += members[:cut] if split == "train" else members[cut:]
    return np.array(sorted(chosen), dtype=np.int64)
