"""load_data: from a name or a path to a Dataset."""

from __future__ import annotations

import importlib
import os
from pathlib import Path

from ..core.errors import DataError, did_you_mean
from .dataset import Dataset
from .request import Request, close_to, shown

BUILT_IN = ("digits", "scenes")
BY_SUFFIX = {
    ".npz": "npz",
    ".parquet": "parquet",
    ".csv": "tables",
    ".tsv": "tables",
    ".idx": "idx",
    ".gz": "idx",
}
KINDS = "a .npz archive, .parquet, .csv or .tsv table, idx files (.gz or not), or a folder of these or of images"


def load_data(
    spec: str | os.PathLike[str],
    *,
    split: str | None = None,
    images_key: str | None = None,
    labels_key: str | None = None,
    group: str | None = None,
    limit: int | None = None,
    image_size: int | tuple[int, int] | None = None,
    layout: str | None = None,
) -> Dataset:
    """Read labelled images from a file, a folder or a built-in set.

    Args:
        spec: ``"digits"`` or ``"scenes"``, or a path: an .npz archive, idx files (.gz or not), a folder with one
            sub folder of images for each class, .parquet with encoded images, or .csv/.tsv with
            a path or pixel columns; a folder may also hold ``train`` and ``test`` files of these. ``"hf:ID"``
            or ``"hf:FOLDER"``: a Hugging Face data set.
        split: ``"train"``, ``"validation"``, ``"test"`` or ``"all"``. Default: test if there is one,
            else validation, else what there is.
        images_key: array or column with the images, if not under a usual name.
        labels_key: array or column with the labels, if not under a usual name.
        group: array or column with a stratum for each sample.
        limit: read this many samples only: the first, or from an image folder the first of each class in turn.
        image_size: resize encoded images to this side, or (height, width) (bilinear).
        layout: ``"NHWC"`` or ``"NCHW"``, for an array of images whose shape alone does not tell.

    Returns:
        A Dataset, whose notes say what was done to the pixels.

    Raises:
        DataError: the data are missing, damaged, or not images with labels; the message says what to do.

    >>> data = load_data("digits", limit=100)
    >>> data.shape, data.split, len(data), data.num_classes
    ((1, 8, 8), 'test', 100, 10)
    """
    request = Request(
        split=split,
        images_key=images_key,
        labels_key=labels_key,
        group=group,
        limit=limit,
        image_size=image_size,
        layout=layout,
    )
    if spec == "scenes":
        from .scenes.reader import read_labelled

        return read_labelled(request)
    if isinstance(spec, str) and spec.startswith("hf:"):
        from .dense.hub import read_labelled as read_hub

        return read_hub(spec.removeprefix("hf:"), request)
    kind = locate(spec)
    if kind == "digits":
        from .digits import read

        return read(request)
    path = Path(spec)
    if kind != "npz":
        request.refuse(shown(path), "only arrays have a layout", "layout")
    reader = importlib.import_module(f"{__package__}.{kind}")
    result = reader.read(path, request)
    assert isinstance(result, Dataset)
    return result


def locate(spec: str | os.PathLike[str]) -> str:
    """The name of the reader for a built-in set or a path.

    Raises:
        DataError: there is nothing there, or nothing that has a reader.
    """
    if not isinstance(spec, (str, os.PathLike)) or not os.fspath(spec):
        raise DataError(
            f"The data are {spec!r}; a name or a path is needed: {KINDS}, or a built-in set ({', '.join(BUILT_IN)})."
        )
    if spec in BUILT_IN:
        return str(spec)
    path = Path(spec)
    try:
        exists = path.exists()
        if exists and not os.access(path, os.R_OK):
            raise DataError(f"{shown(path)} may not be read. Grant read permission, or copy it to where you may.")
        if path.is_dir():
            return "folder"
        if path.is_file():
            return _file_reader(path)
    except (OSError, ValueError) as error:
        raise DataError(f"{shown(path)} cannot be opened: {error}.") from error
    if exists:
        raise DataError(f"{shown(path)} is neither a file nor a folder. Data are {KINDS}.")
    raise DataError(
        f"There are no data at {shown(path)}.{_nearby(path)} Data are {KINDS}, "
        f"or a built-in set ({', '.join(BUILT_IN)})."
    )


def _file_reader(path: Path) -> str:
    if path.name.lower().endswith("ubyte"):
        return "idx"
    suffix = path.suffix.lower()
    if suffix not in BY_SUFFIX:
        raise DataError(
            f"{shown(path)} has the suffix {suffix!r}, for which there is no reader.{did_you_mean(suffix, BY_SUFFIX)} "
            f"Data are {KINDS}."
        )
    return BY_SUFFIX[suffix]


def _nearby(path: Path) -> str:
    known = list(BUILT_IN)
    if path.parent.is_dir() and os.access(path.parent, os.R_OK | os.X_OK):
        known += [entry.name for entry in os.scandir(path.parent)]
    return close_to(path.name, known)
