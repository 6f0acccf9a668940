"""Parquet files with a column of encoded images, as data sets are published."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ..core.errors import DataError
from .dataset import Dataset
from .encoded import SUFFIXES, Column, EncodedPixels
from .labels import Labels, read_groups, read_labels
from .request import (
    Request,
    choose_split,
    find_name,
    given_name,
    printable,
    reading,
    short_name,
    shown,
    split_of,
    usual_name,
)

IMAGE_COLUMNS = ("image", "img", "images", "image_bytes", "picture", "png", "jpg", "jpeg", "bytes")
LABEL_COLUMNS = ("label", "labels", "class", "target", "y", "fine_label", "category", "class_id")
NAME_COLUMNS = ("name", "class_name", "label_name", "category_name")


def read(path: Path, request: Request) -> Dataset:
    """Read one file; its split is the one its name speaks of, if any."""
    return read_splits({split_of(path.stem) or "all": [path]}, path, request)


def read_splits(files: dict[str, list[Path]], path: Path, request: Request) -> Dataset:
    """Read one split, in the order of its files; the labels of the others only to know the classes.

    Args:
        files: split -> its files.
        path: what the caller gave: one of the files, or their folder.
    """
    split = choose_split(files, request.split, shown(path))
    parts = [open_table(file) for file in files[split]]
    schema, where = parts[0].schema_arrow, shown(path)
    image_key = find_name(schema.names, IMAGE_COLUMNS, request.images_key, "images", where)
    label_key = find_name(schema.names, LABEL_COLUMNS, request.labels_key, "labels", where)
    values = column_values(parts, files[split], label_key)
    others = [
        column_values([open_table(file) for file in files[name]], files[name], label_key)
        for name in files
        if name != split
    ]
    labels = read_labels(
        values, where=f"{where} [{label_key}]", class_names=declared_names(schema, label_key), others=others
    )
    labels = with_names(labels, parts, files[split], label_key)
    groups = None
    if request.group is not None:
        key = given_name(schema.names, request.group, "group", where)
        groups = read_groups(column_values(parts, files[split], key), len(values), f"{where} [{key}]")
    rows = request.rows(len(values))
    images = encoded_column(parts, files[split], image_key, len(rows))
    pixels = EncodedPixels(Column(images, where), image_size=request.size)
    return Dataset.assemble(pixels, labels, rows, name=short_name(path), source=str(path), split=split, groups=groups)


def open_table(path: Path) -> pq.ParquetFile:
    """A file, of which no rows are read yet."""
    with reading(shown(path), "parquet"):
        return pq.ParquetFile(path, memory_map=True)


def column_values(parts: Sequence[pq.ParquetFile], files: Sequence[Path], key: str) -> np.ndarray:
    """One column of all files of a split: numbers as numbers, anything else as objects."""
    pieces = []
    for part, path in zip(parts, files, strict=True):
        given_name(part.schema_arrow.names, key, "a column the other files have", shown(path))
        with reading(f"{shown(path)} [{key}]", "parquet"):
            column = part.read(columns=[key]).column(key)
            number = pa.types.is_integer(column.type) or pa.types.is_floating(column.type)
            pieces.append(column.to_numpy() if number and not column.null_count else _objects(column))
    return np.concatenate(pieces)


def _objects(column: Any) -> np.ndarray:
    items = column.to_pylist()
    array = np.empty(len(items), dtype=object)
    array[:] = items
    return array


def encoded_column(parts: Sequence[pq.ParquetFile], files: Sequence[Path], key: str, count: int) -> Any:
    """The encoded images of the first ``count`` rows; row groups beyond them are not read."""
    chunks: list[Any] = []
    have = 0
    for part, path in zip(parts, files, strict=True):
        kind, picked = _image_kind(part, key, path)
        for group in range(part.num_row_groups):
            if have >= count:
                break
            with reading(f"{shown(path)} [{key}]", "parquet"):
                column = part.read_row_group(group, columns=[picked]).column(key)
                if pa.types.is_struct(kind):
                    column = pc.struct_field(column, "bytes")
                chunks += column.cast(pa.large_binary()).chunks
            have += len(column)
    return pa.chunked_array(chunks, type=pa.large_binary()).slice(0, count)


def _image_kind(part: pq.ParquetFile, key: str, path: Path) -> tuple[Any, str]:
    """The type of the image column, and what to read of it (of a struct, its field ``bytes``)."""
    given_name(part.schema_arrow.names, key, "images_key", shown(path))
    kind = part.schema_arrow.field(key).type
    if pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
        return kind, key
    if pa.types.is_struct(kind) and kind.get_field_index("bytes") >= 0:
        return kind, f"{key}.bytes"
    raise DataError(
        f"{shown(path)} [{key}] is of type {kind}; encoded images (bytes, or a struct with a field bytes) are needed. "
        "Choose another column with images_key, or save arrays as npz."
    )


def declared_names(schema: Any, key: str) -> list[str] | None:
    """Class names as Hugging Face data sets declare them in the schema, or ``None``."""
    try:
        text = (schema.metadata or {})[b"huggingface"]
        names = json.loads(text)["info"]["features"][key]["names"]
    except (KeyError, TypeError, ValueError):
        return None
    return names if isinstance(names, list) and names else None


def with_names(labels: Labels, parts: Sequence[pq.ParquetFile], files: Sequence[Path], label_key: str) -> Labels:
    """Class names from a name column, where each label has one name and each name one label."""
    key = usual_name(parts[0].schema_arrow.names, NAME_COLUMNS)
    numbered = labels.class_names == tuple(map(str, range(len(labels.class_names))))
    if key is None or key == label_key or not numbered:
        return labels
    found = _consistent_names(labels.indices, column_values(parts, files, key))
    return labels._replace(class_names=tuple(found.get(index, name) for index, name in enumerate(labels.class_names)))


def _consistent_names(indices: np.ndarray, names: np.ndarray) -> dict[int, str]:
    """Label -> name, or nothing where they disagree; ``cat/0577.jpg`` is an image of the class ``cat``."""
    found: dict[int, str] = {}
    for index, name in zip(indices.tolist(), names.tolist(), strict=True):
        if not isinstance(name, str):
            return {}
        folder, slash, _ = name.partition("/")
        word = printable(folder)
        if not slash and word.lower().endswith(SUFFIXES):
            return {}
        if found.setdefault(index, word) != word:
            return {}
    return found if len(set(found.values())) == len(found) else {}
