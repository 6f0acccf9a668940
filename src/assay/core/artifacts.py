"""What lies beside a run's record: the sample table, figure data and gallery, as bytes and back."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from .errors import InputError
from .files import to_json
from .probes import Figure, Gallery, Mark, Series

if TYPE_CHECKING:
    import pyarrow

T = TypeVar("T")
_FORMULA_MARKS = ("=", "+", "-", "@", "\t", "\r")


def pack_samples(sample_ids: Sequence[int] | np.ndarray, columns: Mapping[str, np.ndarray]) -> bytes:
    """The table of samples as a parquet file.

    Args:
        sample_ids: ``[N]``; the first column.
        columns: name -> ``[N]`` numbers, booleans or text.
    """
    import pyarrow
    import pyarrow.parquet

    ids = np.asarray(sample_ids, dtype=np.int64).reshape(-1)
    table = {"sample_id": pyarrow.array(ids)}
    for name, given in columns.items():
        values = np.asarray(given)
        if name == "sample_id" or values.shape != ids.shape:
            raise InputError(
                f"The column of samples {name!r} has the shape {values.shape}; give [{len(ids)}], one value a sample, "
                "under a name other than sample_id."
            )
        table[name] = pyarrow.array(values.tolist() if values.dtype.kind in "OUS" else values)
    buffer = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.table(table), buffer)
    return buffer.getvalue()


def unpack_samples(content: bytes) -> pyarrow.Table:
    """The table that ``pack_samples`` wrote."""
    import pyarrow
    import pyarrow.parquet

    return pyarrow.parquet.read_table(pyarrow.BufferReader(content))


def pack_figure(figure: Figure) -> dict[str, bytes]:
    """The data of a figure twice: JSON to draw it again, and a CSV table with one row a point."""
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(["series", "x", "y", "lo", "hi"])
    for series in figure.series:
        empty = ("",) * len(series.x)
        for x, *numbers in zip(series.x, series.y, series.lo or empty, series.hi or empty, strict=True):
            writer.writerow([_cell(series.label), _cell(x), *numbers])
    stem = f"figures/{figure.name}"
    return {f"{stem}.json": to_json(dataclasses.asdict(figure)).encode(), f"{stem}.csv": table.getvalue().encode()}


def unpack_figure(content: bytes) -> Figure:
    """The figure whose JSON ``pack_figure`` wrote."""
    values = json.loads(content)
    series = tuple(rebuild(Series, entry) for entry in values["series"])
    marks = tuple(rebuild(Mark, entry) for entry in values.get("marks", ()))
    return rebuild(Figure, {**values, "series": series, "marks": marks})


def pack_gallery(gallery: Gallery) -> dict[str, bytes]:
    """Pictures as an ``.npz`` without pickle, texts as JSON."""
    arrays = io.BytesIO()
    np.savez_compressed(arrays, original=gallery.original, changed=gallery.changed)
    texts = {"title": gallery.title, "caption": gallery.caption, "captions": gallery.captions}
    return {"artifacts/gallery.npz": arrays.getvalue(), "artifacts/gallery.json": to_json(texts).encode()}


def unpack_gallery(arrays: bytes, texts: bytes) -> Gallery:
    """The gallery that ``pack_gallery`` wrote."""
    with np.load(io.BytesIO(arrays), allow_pickle=False) as pictures:
        values = {**json.loads(texts), "original": pictures["original"], "changed": pictures["changed"]}
    return rebuild(Gallery, values)


def rebuild(kind: type[T], values: Mapping[str, Any]) -> T:
    """A dataclass from values that were read from a file: what should be text must be text.

    Raises:
        TypeError: a field is unknown, missing, or not text where text is needed.
    """
    for field in dataclasses.fields(kind):  # type: ignore[arg-type]
        if field.type == "str" and not isinstance(values.get(field.name, ""), str):
            raise TypeError(f"{kind.__name__}.{field.name} is {values[field.name]!r:.40}, not text")
    return kind(**values)


def _cell(value: float | str) -> float | str:
    """Text that a spreadsheet would take for a formula gets an apostrophe before it."""
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA_MARKS) else value
