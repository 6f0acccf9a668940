"""csv and tsv tables: a column of image paths, or one column for each pixel."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from pyarrow import csv

from ..core.errors import DataError
from .dataset import Dataset
from .encoded import EncodedPixels, Files
from .labels import read_groups, read_labels
from .parquet import LABEL_COLUMNS
from .pixels import ArrayPixels, Pixels, array_pixels
from .request import (
    Request,
    choose_split,
    find_name,
    given_name,
    listed,
    reading,
    short_name,
    shown,
    split_of,
    usual_name,
)

PATH_COLUMNS = ("path", "file", "filename", "file_name", "filepath", "image_path", "image", "img")
PIXEL = re.compile(r"(pixel|px|p|x|v|f)?_?[0-9]+([x_][0-9]+)?", re.IGNORECASE)


def read(path: Path, request: Request) -> Dataset:
    """Read one table; its split is the one its name speaks of, if any."""
    return read_splits({split_of(path.stem) or "all": [path]}, path, request)


def read_splits(files: dict[str, list[Path]], path: Path, request: Request) -> Dataset:
    """Read one split: paths are relative to the table, pixel columns run along rows of a square grey image."""
    where = shown(path)
    split = choose_split(files, request.split, where)
    if len(files[split]) != 1:
        raise DataError(
            f"{where} has {len(files[split])} tables for the split {split!r}: "
            f"{listed([file.name for file in files[split]])}. Give the path of the one that is meant."
        )
    table = files[split][0]
    names = column_names(table)
    label_key = find_name(names, LABEL_COLUMNS, request.labels_key, "labels", shown(table))
    image_key = request.images_key or usual_name([name for name in names if name != label_key], PATH_COLUMNS)
    others = [_text(file, [label_key])[label_key] for name in files if name != split for file in files[name]]
    group_key = None if request.group is None else given_name(names, request.group, "group", shown(table))
    columns = _text(table, [label_key, *([group_key] if group_key else [])])
    labels = read_labels(columns[label_key], where=f"{shown(table)} [{label_key}]", others=others)
    total = len(labels.indices)
    groups = None if group_key is None else read_groups(columns[group_key], total, f"{shown(table)} [{group_key}]")
    rows = request.rows(total)
    pixels: Pixels
    if image_key is not None:
        given_name(names, image_key, "images_key", shown(table))
        paths = _text(table, [image_key])[image_key][: len(rows)]
        pixels = EncodedPixels(Files([table.parent / name for name in paths]), image_size=request.size)
    else:
        pixels = _grid(table, [name for name in names if name not in (label_key, group_key)], len(rows))
        request.check_array_size(pixels.shape, shown(table))
    return Dataset.assemble(pixels, labels, rows, name=short_name(path), source=str(path), split=split, groups=groups)


def column_names(path: Path) -> list[str]:
    """The header of a table."""
    with reading(shown(path), "csv"), csv.open_csv(path, parse_options=_parsing(path)) as reader:
        names = list(reader.schema.names)
    doubled = sorted({name for name in names if names.count(name) > 1})
    if doubled:
        raise DataError(
            f"{shown(path)} has more than one column named {doubled[0]!r}. The first line must name the columns, "
            "each once: add such a header."
        )
    return names


def _text(path: Path, keys: Sequence[str]) -> dict[str, list[str]]:
    return {key: column.to_pylist() for key, column in _columns(path, keys, pa.string()).items()}


def _columns(path: Path, keys: Sequence[str], kind: Any) -> dict[str, Any]:
    with reading(shown(path), "csv"):
        convert = csv.ConvertOptions(include_columns=list(keys), column_types=dict.fromkeys(keys, kind))
        table = csv.read_csv(path, parse_options=_parsing(path), convert_options=convert)
        return {key: table.column(key) for key in keys}


def _grid(path: Path, others: Sequence[str], count: int) -> ArrayPixels:
    """Pixel columns as [N, 1, H, H]; whole numbers above 1 are 0..255, anything else must lie in [0, 1]."""
    keys = [name for name in others if PIXEL.fullmatch(name)]
    side = math.isqrt(len(keys))
    if not keys:
        raise DataError(
            f"{shown(path)} has neither a column of image paths ({', '.join(PATH_COLUMNS)}) nor pixel columns "
            f"(pixel0, pixel1, ...). There are: {listed(others)}. Say which with images_key."
        )
    if side * side != len(keys):
        raise DataError(
            f"{shown(path)} has {len(keys)} pixel columns, which is not the square of a whole number. "
            "Pixel columns make square grey images; save other shapes as npz."
        )
    columns = _columns(path, keys, pa.float32())
    values = np.empty((count, len(keys)), dtype=np.float32)
    for place, key in enumerate(keys):
        values[:, place] = columns[key].slice(0, count).to_numpy()
    if np.isfinite(values).all() and values.max() > 1 and values.min() >= 0 and values.max() <= 255:
        whole = values.astype(np.uint8)
        if (whole == values).all():
            return array_pixels(whole.reshape(count, side, side), where=f"{shown(path)} [pixels]")
    return array_pixels(values.reshape(count, side, side), where=f"{shown(path)} [pixels]")


def _parsing(path: Path) -> Any:
    return csv.ParseOptions(delimiter="\t" if path.suffix.lower() == ".tsv" else ",", newlines_in_values=True)
