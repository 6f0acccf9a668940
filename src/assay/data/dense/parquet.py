"""Parquet files with encoded images and, beside them, encoded masks or depth maps."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ...core.errors import DataError
from ..encoded import Column, EncodedPixels
from ..labels import Labels, read_labels
from ..parquet import (
    IMAGE_COLUMNS,
    LABEL_COLUMNS,
    column_values,
    declared_names,
    encoded_column,
    open_table,
    with_names,
)
from ..request import choose_split, find_name, given_name, short_name, shown, split_of, usual_name
from .build import Found, build, usable_labels
from .dataset import DenseDataset
from .decode import Raw
from .request import DenseRequest

PIXEL_COLUMNS = (*IMAGE_COLUMNS, "pixel_values", "rgb")
MASK_COLUMNS = ("mask", "masks", "segmentation", "annotation", "annotations", "semantic", "seg", "segmentation_mask")
DEPTH_COLUMNS = ("depth", "depths", "depth_map", "depth_maps")


def read(path: Path, request: DenseRequest) -> DenseDataset | None:
    """Read one file; ``None`` where it has labels only."""
    return read_splits({split_of(path.stem) or "all": [path]}, path, request)


def read_splits(files: dict[str, list[Path]], path: Path, request: DenseRequest) -> DenseDataset | None:
    """Read one split, in the order of its files."""
    where = shown(path)
    split = choose_split(files, request.split, where)
    parts = [open_table(file) for file in files[split]]
    schema = parts[0].schema_arrow
    masks, depth, label = _columns(schema, request, where)
    if masks is depth is None and not request.bare:
        return None
    image = find_name(schema.names, PIXEL_COLUMNS, request.images_key, "images", where)
    total = sum(part.metadata.num_rows for part in parts)
    rows = request.rows(total)
    count = len(rows)

    def column(key: str, tables: Sequence[pq.ParquetFile], names: Sequence[Path], most: int) -> Column:
        return Column(encoded_column(tables, names, key, most), f"{where} [{key}]")

    def others() -> Iterator[Raw]:
        for name, members in files.items():
            tables = parts if name == split else [open_table(file) for file in members]
            held = sum(table.metadata.num_rows for table in tables)
            if masks is not None and not (name == split and count == total):
                yield column(masks, tables, members, held)

    found = Found(
        pixels=EncodedPixels(column(image, parts, files[split], count), image_size=request.size),
        rows=rows,
        total=total,
        masks=None if masks is None else column(masks, parts, files[split], count),
        depths=None if depth is None else column(depth, parts, files[split], count),
        labels=None
        if label is None
        else usable_labels(lambda: _labels(files, split, parts, label, where, count), request),
        others=others,
    )
    return build(found, request, name=short_name(path), source=str(path), split=split, where=where)


def _columns(schema: Any, request: DenseRequest, where: str) -> tuple[str | None, str | None, str | None]:
    """The columns of masks, depths and labels; an encoded column named like labels holds masks."""
    if request.bare:
        label = usual_name(schema.names, LABEL_COLUMNS)
        return None, None, label if label and not _is_encoded(schema, label) else None
    masks = _named(schema.names, MASK_COLUMNS, request.masks_key, "masks_key", where)
    depth = _named(schema.names, DEPTH_COLUMNS, request.depth_key, "depth_key", where)
    label = _named(schema.names, LABEL_COLUMNS, request.labels_key, "labels_key", where)
    if label is not None and _is_encoded(schema, label):
        if request.labels_key is not None:
            raise DataError(f"{where} [{label}] holds encoded pictures, not labels. Give it as masks_key.")
        masks, label = masks or label, None
    return masks, depth, label


def _named(names: Sequence[str], usual: Sequence[str], given: str | None, option: str, where: str) -> str | None:
    return usual_name(names, usual) if given is None else given_name(names, given, option, where)


def _is_encoded(schema: Any, key: str) -> bool:
    kind = schema.field(key).type
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_struct(kind))


def _labels(
    files: dict[str, list[Path]], split: str, parts: Sequence[pq.ParquetFile], key: str, where: str, count: int
) -> Labels:
    others = [
        column_values([open_table(file) for file in members], members, key)
        for name, members in files.items()
        if name != split
    ]
    labels = read_labels(
        column_values(parts, files[split], key),
        where=f"{where} [{key}]",
        class_names=declared_names(parts[0].schema_arrow, key),
        others=others,
    )
    labels = with_names(labels, parts, files[split], key)
    return labels._replace(indices=labels.indices[np.arange(count)])
