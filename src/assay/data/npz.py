"""NumPy archives: pairs of image and label arrays under MNIST-style keys."""

from __future__ import annotations

import warnings
import zipfile
from collections.abc import Collection
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np

from ..core.errors import DataError
from .dataset import Dataset
from .labels import check_lengths, read_groups, read_labels
from .pixels import array_pixels
from .request import SPLIT_WORDS, Request, choose_split, given_name, listed, reading, short_name, shown, split_of

IMAGE_WORDS = ("x", "images", "image", "imgs", "img", "data", "inputs")
LABEL_WORDS = ("y", "labels", "label", "targets", "target", "classes")


class Pair(NamedTuple):
    """The keys of one split."""

    images: str
    labels: str


def read(path: Path, request: Request) -> Dataset:
    """Read one split of an archive; only the arrays that are needed are loaded."""
    where = shown(path)
    if not zipfile.is_zipfile(path):
        raise DataError(
            f"{where} is not an npz archive, or it is truncated: fetch it again, or write it with numpy.savez."
        )
    with path.open("rb") as file, opened(file, where) as archive:
        pairs = find_pairs(archive.files, request, where)
        split = choose_split(pairs, request.split, where)
        pair = pairs[split]
        images = member(archive, pair.images, path)
        others = [member(archive, pairs[name].labels, path) for name in pairs if name != split]
        labels = read_labels(member(archive, pair.labels, path), where=f"{where} [{pair.labels}]", others=others)
        groups = None
        if request.group is not None:
            key = given_name(archive.files, request.group, "group", where)
            groups = read_groups(member(archive, key, path), len(labels.indices), f"{where} [{key}]")
    check_lengths(len(images) if images.ndim else 0, len(labels.indices), where)
    rows = request.rows(len(images))
    pixels = array_pixels(images[: len(rows)], where=f"{where} [{pair.images}]", layout=request.layout)
    request.check_array_size(pixels.shape, where)
    return Dataset.assemble(pixels, labels, rows, name=short_name(path), source=str(path), split=split, groups=groups)


def opened(file: BinaryIO, where: str) -> np.lib.npyio.NpzFile:
    """An archive, of which nothing is read yet."""
    with reading(where, "npz"):
        archive = np.load(file, allow_pickle=False)
        assert isinstance(archive, np.lib.npyio.NpzFile)
        return archive


def find_pairs(keys: Collection[str], request: Request, where: str) -> dict[str, Pair]:
    """Split -> keys. ``x_train``/``train_images`` name a split; plain ``images`` is the split "all".

    >>> find_pairs(["x_train", "y_train", "x_test", "y_test"], Request(), "a.npz")["test"]
    Pair(images='x_test', labels='y_test')
    """
    if request.images_key is not None or request.labels_key is not None:
        return _given_pair(keys, request, where)
    images, labels = by_split(keys, IMAGE_WORDS), by_split(keys, LABEL_WORDS)
    pairs = {split: Pair(images[split], labels[split]) for split in images if split in labels}
    if not pairs:
        raise DataError(
            f"{where} has no pair of image and label arrays under usual keys "
            f"(x_test and y_test, images and labels, ...). There are: {listed(keys)}. "
            "Say which with images_key and labels_key."
        )
    return pairs


def _given_pair(keys: Collection[str], request: Request, where: str) -> dict[str, Pair]:
    images, labels = request.images_key, request.labels_key
    for key, option in ((images, "images_key"), (labels, "labels_key")):
        if key is not None:
            given_name(keys, key, option, where)
    split = split_of(images or labels or "") or "all"
    images = images or by_split(keys, IMAGE_WORDS).get(split)
    labels = labels or by_split(keys, LABEL_WORDS).get(split)
    if images is None or labels is None:
        missing = "images_key" if images is None else "labels_key"
        raise DataError(f"{where}: give {missing} as well. There are: {listed(keys)}.")
    return {split: Pair(images, labels)}


def by_split(keys: Collection[str], words: tuple[str, ...]) -> dict[str, str]:
    """Split -> key among keys made of one of ``words`` and at most one split word; earlier words win."""
    found: dict[str, tuple[int, str]] = {}
    for key in keys:
        parts = key.lower().split("_")
        roles = [part for part in parts if part in words]
        rest = [part for part in parts if part not in words]
        if len(roles) != 1 or len(rest) > 1 or (rest and rest[0] not in SPLIT_WORDS):
            continue
        split = SPLIT_WORDS[rest[0]] if rest else "all"
        rank = words.index(roles[0])
        if split not in found or rank < found[split][0]:
            found[split] = (rank, key)
    return {split: key for split, (_, key) in found.items()}


def member(archive: np.lib.npyio.NpzFile, key: str, path: Path) -> np.ndarray:
    """One array of an archive; pickled objects are refused."""
    with reading(f"{shown(path)} [{key}]", "npz"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            value = archive[key]
        except ValueError as error:
            if "allow_pickle" not in str(error):
                raise
            raise DataError(
                f"{shown(path)} [{key}] holds pickled Python objects, which are never loaded because a pickle can run "
                "any code. Save plain numbers, with all images of one size."
            ) from error
        if not isinstance(value, np.ndarray):
            raise DataError(f"{shown(path)} [{key}] is not an array. Write the file with numpy.savez.")
        return value
