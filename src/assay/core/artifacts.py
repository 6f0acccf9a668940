"""What lies beside a run's record: the sample table, figure data, pictures and texts, as bytes and back."""

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
from .passages import Passage, Passages
from .pictures import levels
from .probes import ColourScale, Column, Figure, Gallery, Mark, Measurement, PanelRow, Panels, Series

if TYPE_CHECKING:
    import pyarrow

T = TypeVar("T")
SAMPLES = "samples.parquet"
GALLERY = ("artifacts/gallery.npz", "artifacts/gallery.json")
PANELS = ("artifacts/panels.npz", "artifacts/panels.json")
PASSAGES = "artifacts/passages.json"
_FORMULA_MARKS = ("=", "+", "-", "@", "\t", "\r")


def pack(sample_ids: Sequence[int] | np.ndarray, measurement: Measurement) -> dict[str, bytes]:
    """All files of a measurement, by their names in the run directory."""
    files = {SAMPLES: pack_samples(sample_ids, measurement.samples)}
    for figure in measurement.figures:
        files |= pack_figure(figure)
    if measurement.gallery is not None:
        files |= pack_gallery(measurement.gallery)
    if measurement.panels:
        files |= pack_panels(measurement.panels)
    if measurement.passages:
        files[PASSAGES] = pack_passages(measurement.passages)
    return files


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
    columns = tuple(rebuild(Column, entry) for entry in values.get("columns", ()))
    return rebuild(Figure, {**values, "series": series, "marks": marks, "columns": columns})


def pack_gallery(gallery: Gallery) -> dict[str, bytes]:
    """Pictures as an ``.npz`` without pickle, texts as JSON."""
    arrays = io.BytesIO()
    np.savez_compressed(arrays, original=gallery.original, changed=gallery.changed)
    texts = {"title": gallery.title, "caption": gallery.caption, "captions": gallery.captions}
    return dict(zip(GALLERY, (arrays.getvalue(), to_json(texts).encode()), strict=True))


def unpack_gallery(arrays: bytes, texts: bytes) -> Gallery:
    """The gallery that ``pack_gallery`` wrote."""
    with np.load(io.BytesIO(arrays), allow_pickle=False) as pictures:
        values = {**json.loads(texts), "original": pictures["original"], "changed": pictures["changed"]}
    return rebuild(Gallery, values)


def pack_panels(panels: Sequence[Panels]) -> dict[str, bytes]:
    """Pictures with 256 levels as an ``.npz`` without pickle, an array a picture; texts and places as JSON."""
    pictures: dict[str, np.ndarray] = {}
    texts = []
    for sheet in panels:
        rows = []
        for row in sheet.rows:
            places = []
            for picture in row.pictures:
                places.append(None if picture is None else f"picture-{len(pictures)}")
                if picture is not None:
                    pictures[f"picture-{len(pictures)}"] = levels(picture)
            rows.append({"caption": row.caption, "pictures": places})
        scale = None if sheet.scale is None else dataclasses.asdict(sheet.scale)
        named = {name: getattr(sheet, name) for name in ("title", "caption", "columns", "legend")}
        texts.append({**named, "rows": rows, "scale": scale})
    arrays = io.BytesIO()
    np.savez_compressed(arrays, **pictures)  # type: ignore[arg-type]
    return dict(zip(PANELS, (arrays.getvalue(), to_json(texts).encode()), strict=True))


def unpack_panels(arrays: bytes, texts: bytes) -> list[Panels]:
    """The panels that ``pack_panels`` wrote."""
    panels = []
    with np.load(io.BytesIO(arrays), allow_pickle=False) as kept:
        for values in json.loads(texts):
            rows = [
                rebuild(
                    PanelRow,
                    {**row, "pictures": [None if name is None else kept[name] / 255 for name in row["pictures"]]},
                )
                for row in values["rows"]
            ]
            scale = None if values["scale"] is None else rebuild(ColourScale, values["scale"])
            panels.append(rebuild(Panels, {**values, "rows": rows, "scale": scale}))
    return panels


def pack_passages(passages: Sequence[Passages]) -> bytes:
    """Texts and the marks of their tokens as JSON."""
    return to_json([dataclasses.asdict(one) for one in passages]).encode()


def unpack_passages(content: bytes) -> list[Passages]:
    """The passages that ``pack_passages`` wrote."""
    return [
        rebuild(Passages, {**values, "rows": [rebuild(Passage, row) for row in values["rows"]]})
        for values in json.loads(content)
    ]


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
