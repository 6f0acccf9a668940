"""Hugging Face data sets: from the hub, or a folder that ``save_to_disk`` wrote. Code of a data set is never run."""

from __future__ import annotations

import contextlib
import importlib
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from ...core.errors import DataError, MissingExtra
from ..dataset import Dataset
from ..encoded import EncodedPixels
from ..labels import Labels, read_labels
from ..parquet import LABEL_COLUMNS
from ..request import (
    Request,
    choose_split,
    given_name,
    listed,
    printable,
    reading,
    short_name,
    shown,
    split_of,
    usual_name,
)
from .build import Found, build, usable_labels
from .dataset import DenseDataset
from .decode import Raw
from .parquet import DEPTH_COLUMNS, MASK_COLUMNS, PIXEL_COLUMNS
from .request import DenseRequest

SAVED = ("dataset_dict.json", "state.json")


class Cells:
    """One column of a data set as pictures: encoded images, or arrays in the form of .npy files.

    Args:
        table: a ``datasets.Dataset`` whose images are not decoded.
        key: the column.
        start: rows before this one are left out.
        stop: and those from this one on.
    """

    def __init__(self, table: Any, key: str, start: int, stop: int, place: str) -> None:
        self.table = table.select_columns([key])
        self.key = key
        self.start = start
        self.stop = stop
        self.place = place

    def __len__(self) -> int:
        return self.stop - self.start

    def open(self, row: int) -> BinaryIO:
        value = self.table[self.start + row][self.key]
        if value is None:
            raise DataError(f"{self.where(row)} is empty. Remove the row, or fill it in.")
        if isinstance(value, dict):
            if value.get("bytes") is not None:
                return io.BytesIO(value["bytes"])
            return Path(str(value.get("path"))).open("rb")
        buffer = io.BytesIO()
        np.save(buffer, np.asarray(value), allow_pickle=False)
        buffer.seek(0)
        return buffer

    def where(self, row: int) -> str:
        return f"Row {self.start + row} of {self.place} [{self.key}]"


def read(name: str, request: DenseRequest) -> DenseDataset:
    """``hf:ID``, ``hf:ID:CONFIGURATION``, or ``hf:FOLDER``."""
    request.refuse(shown(f"hf:{name}"), "only arrays have a layout", "layout")
    if Path(name).is_dir():
        from .load import read_dense

        if is_saved(Path(name)):
            return read_saved(Path(name), request)
        return read_dense(name, request)
    datasets = _datasets()
    identity, _, configuration = name.partition(":")
    options: dict[str, Any] = {"name": configuration or None}
    if int(datasets.__version__.split(".")[0]) < 4:
        options["trust_remote_code"] = False
    with _fetching(name), quietly(datasets):
        loaded = datasets.load_dataset(identity, **options)
    return _read(
        loaded, datasets, request, name=identity.split("/")[-1], source=f"hf:{name}", where=shown(f"hf:{name}")
    )


def read_saved(path: Path, request: DenseRequest) -> DenseDataset:
    """A folder that ``save_to_disk`` of the package ``datasets`` wrote."""
    datasets = _datasets()
    with reading(shown(path), "a saved Hugging Face data set"), quietly(datasets):
        loaded = datasets.load_from_disk(str(path))
    return _read(loaded, datasets, request, name=short_name(path), source=str(path), where=shown(path))


def read_labelled(name: str, request: Request) -> Dataset:
    """A Hugging Face data set with labels, as ``load_data`` hands it on."""
    request.refuse(f"the data set 'hf:{name}'", "its images are pictures, and groups are not read", "group", "layout")
    folder = Path(name)
    if folder.is_dir() and not is_saved(folder):
        raise DataError(f"{shown(folder)} was not written by save_to_disk. Give the folder without hf: in front.")
    options = {key: getattr(request, key) for key in ("split", "limit", "image_size", "images_key", "labels_key")}
    data = read(name, DenseRequest(bare=True, labelled=True, **options))
    if data.labels is None:
        raise DataError(
            f"The data set {shown(f'hf:{name}')} has no column of labels under a usual name "
            f"({', '.join(LABEL_COLUMNS)}). Say which with labels_key."
        )
    return data.dataset()


def is_saved(folder: Path) -> bool:
    """Whether a folder was written by ``save_to_disk``."""
    return any((folder / name).is_file() for name in SAVED)


def _read(loaded: Any, datasets: Any, request: DenseRequest, *, name: str, source: str, where: str) -> DenseDataset:
    tables = {"all": loaded} if isinstance(loaded, datasets.Dataset) else _by_split(loaded)
    split = choose_split(tables, request.split, where)
    tables = {key: _undecoded(table, datasets) for key, table in tables.items()}
    table = tables[split]
    total = len(table)
    if total == 0:
        raise DataError(f"{where}: the split {split!r} has no rows. Choose another.")
    rows = request.rows(total)
    images, masks, depths, labels = _columns(table.features, datasets, request, where)

    def cells(key: str | None, start: int = 0, stop: int = len(rows), of: Any = table) -> Cells | None:
        return None if key is None else Cells(of, key, start, stop, where)

    def others() -> Iterator[Raw]:
        for key, other in tables.items():
            if rest := cells(masks, len(rows) if key == split else 0, len(other), other):
                yield rest

    pixels = cells(images)
    assert pixels is not None
    found = Found(
        pixels=EncodedPixels(pixels, image_size=request.size),
        rows=rows,
        total=total,
        masks=cells(masks),
        depths=cells(depths),
        labels=None if labels is None else usable_labels(lambda: _labels(tables, split, labels, where, rows), request),
        others=others,
    )
    return build(found, request, name=printable(name), source=source, split=split, where=where)


def _by_split(loaded: Any) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, table in loaded.items():
        found.setdefault(split_of(key) or key.lower(), table)
    return found


def _undecoded(table: Any, datasets: Any) -> Any:
    """The same rows with images as their encoded bytes."""
    table = table.with_format(None)
    for key, feature in table.features.items():
        if isinstance(feature, datasets.Image):
            table = table.cast_column(key, datasets.Image(decode=False))
    return table


def _columns(
    features: Any, datasets: Any, request: DenseRequest, where: str
) -> tuple[str, str | None, str | None, str | None]:
    """The columns of images, masks, depths and labels; a column of pictures named like labels holds masks."""
    pictures = [key for key, feature in features.items() if isinstance(feature, datasets.Image)]
    given = [(request.images_key, "images_key"), (request.masks_key, "masks_key"), (request.depth_key, "depth_key")]
    for key, option in (*given, (request.labels_key, "labels_key")):
        if key is not None:
            given_name(features, key, option, where)
    images = request.images_key or usual_name(pictures, PIXEL_COLUMNS)
    if images is None:
        if len(pictures) != 1:
            raise DataError(f"{where}: which column holds the images? There are: {listed(features)}. Give images_key.")
        images = pictures[0]
    masks = request.masks_key or usual_name(features, MASK_COLUMNS)
    depths = request.depth_key or usual_name(features, DEPTH_COLUMNS)
    labels = request.labels_key or usual_name(features, LABEL_COLUMNS)
    if labels in pictures and labels != images:
        masks, labels = masks or labels, None
    return (images, None, None, labels) if request.bare else (images, masks, depths, labels)


def _labels(tables: dict[str, Any], split: str, key: str, where: str, rows: np.ndarray) -> Labels:
    names = getattr(tables[split].features[key], "names", None)
    others = [table[key][:] for name, table in tables.items() if name != split and len(table)]
    labels = read_labels(tables[split][key][:], where=f"{where} [{key}]", class_names=names, others=others)
    return labels._replace(indices=labels.indices[rows])


def _datasets() -> Any:
    try:
        return importlib.import_module("datasets")
    except ImportError:
        raise MissingExtra("datasets", "hf", "Reading a Hugging Face data set") from None


@contextlib.contextmanager
def _fetching(name: str) -> Iterator[None]:
    """Whatever goes wrong between here and the hub, as one DataError."""
    try:
        yield
    except Exception as error:
        cause = printable(str(error)).split("\n")[0][:200]
        raise DataError(
            f"The Hugging Face data set {name!r} cannot be loaded: {cause} ({type(error).__name__}). Check the name "
            "(hf:OWNER/NAME, or hf:OWNER/NAME:CONFIGURATION) and the network; a data set that needs code of its own "
            "is not loaded: save it with save_to_disk and give the folder."
        ) from error


@contextlib.contextmanager
def quietly(datasets: Any) -> Iterator[None]:
    """Without the progress bars of ``datasets``."""
    shown_before = not datasets.are_progress_bars_disabled()
    datasets.disable_progress_bars()
    try:
        yield
    finally:
        if shown_before:
            datasets.enable_progress_bars()
