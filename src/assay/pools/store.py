"""The records of a pool on disk: plain arrays, written whole and read back memory-mapped, with the same digest.

data/images.npy       [N, C, H, W], uint8 or float32 as the source stored them
data/labels.npy       int64 [N]
data/sample_ids.npy   int64 [N]
data/groups.npy       text [N], where the records have groups
data/about.json       names, notes and digests, written last
"""

from __future__ import annotations

import io
import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path, PurePath
from typing import Any

import numpy as np

from ..core.errors import RunError
from ..core.files import make_folder, read_bytes, read_json, storage_error, to_json, write_atomic
from ..data.dataset import Dataset
from ..data.pixels import ArrayPixels, unit_float

ABOUT, IMAGES, LABELS, IDS, GROUPS = "about.json", "images.npy", "labels.npy", "sample_ids.npy", "groups.npy"
_CHUNK = 1024


def write_data(folder: Path, data: Dataset) -> None:
    """Write the records; ``about.json`` comes last, so that a folder with it is whole.

    Cost: the pixels are read once, or twice where they were encoded, in pieces.

    Raises:
        RunError: the disk is full, or the folder cannot be written.
    """
    make_folder(folder)
    dtype = _stored_type(data)
    shape = (len(data), *data.shape)
    _write_array(folder / IMAGES, shape, dtype, lambda: _pieces(data, dtype))
    write_atomic(folder / LABELS, _npy(data.labels.astype("<i8")))
    write_atomic(folder / IDS, _npy(data.sample_ids.astype("<i8")))
    if data.groups is not None:
        write_atomic(folder / GROUPS, _npy(data.groups.astype(np.str_)))
    about: dict[str, Any] = {
        "name": data.name,
        "source": PurePath(data.source).name or data.name,
        "split": data.split,
        "class_names": list(data.class_names),
        "notes": list(data.notes),
        "groups": data.groups is not None,
        "digest": data.digest,
    }
    about["stored"] = _assemble(folder, about).digest
    write_atomic(folder / ABOUT, to_json(about))


def size_of(data: Dataset) -> int:
    """Bytes that the pixels will take at least."""
    width = data.pixels.array.itemsize if isinstance(data.pixels, ArrayPixels) else 1
    return len(data) * int(np.prod(data.shape)) * width


def read_data(folder: Path) -> Dataset:
    """The records, memory-mapped, with the digest they had when they were written.

    Cost: every byte is read once and checked.

    Raises:
        RunError: a file is missing or damaged.
    """
    try:
        about = read_json(folder / ABOUT)
        data = _assemble(folder, about)
        whole = data.digest == about["stored"]
    except (RunError, ValueError, TypeError, KeyError, IndexError, OSError) as error:
        raise _damaged(folder, str(error)) from error
    if not whole:
        raise _damaged(folder, "its content is not what was written")
    vars(data)["digest"] = about["digest"]  # of the source as it was stored there, which may have been encoded pictures
    return data


def _damaged(folder: Path, why: str) -> RunError:
    return RunError(
        f"The records of the pool in {str(folder)!r} are damaged: {why}. Plan the pool again from the same data; "
        "finished models are kept."
    )


def _assemble(folder: Path, about: dict[str, Any]) -> Dataset:
    images = np.load(folder / IMAGES, mmap_mode="r", allow_pickle=False).view(np.ndarray)
    labels = _read(folder / LABELS).astype(np.int64)
    ids = _read(folder / IDS).astype(np.int64)
    groups = _read(folder / GROUPS) if about["groups"] else None
    if any(len(part) != len(images) for part in (labels, ids, *([] if groups is None else [groups]))):
        raise ValueError("its arrays differ in length")
    return Dataset(
        name=about["name"],
        source=about["source"],
        split=about["split"],
        pixels=ArrayPixels(images),
        rows=np.arange(len(images), dtype=np.int64),
        labels=labels,
        class_names=tuple(about["class_names"]),
        sample_ids=ids,
        groups=groups,
        notes=tuple(about["notes"]),
    )


def _read(path: Path) -> np.ndarray:
    return np.asarray(np.load(io.BytesIO(read_bytes(path)), allow_pickle=False))


def _npy(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    return buffer.getvalue()


def _stored_type(data: Dataset) -> np.dtype:
    """The type that holds the pixels exactly: the source's own, or uint8 where decoded pictures are whole steps."""
    if isinstance(data.pixels, ArrayPixels):
        return data.pixels.array.dtype.newbyteorder("<")
    for start in range(0, len(data), _CHUNK):
        images = data.images(slice(start, start + _CHUNK))
        if not np.array_equal(unit_float(_whole(images)), images):
            return np.dtype("<f4")
    return np.dtype(np.uint8)


def _whole(images: np.ndarray) -> np.ndarray:
    return np.rint(images * np.float32(255)).astype(np.uint8)


def _pieces(data: Dataset, dtype: np.dtype) -> Iterator[np.ndarray]:
    for start in range(0, len(data), _CHUNK):
        rows = slice(start, start + _CHUNK)
        if isinstance(data.pixels, ArrayPixels):
            yield data.pixels.array[data.rows[rows]].astype(dtype, copy=False)
        else:
            images = data.images(rows)
            yield _whole(images) if dtype == np.uint8 else images.astype(dtype, copy=False)


def _write_array(
    path: Path, shape: tuple[int, ...], dtype: np.dtype, pieces: Callable[[], Iterator[np.ndarray]]
) -> None:
    """A .npy file written in pieces, whole or not at all."""
    temporary = path.with_name(f".{secrets.token_hex(8)}.tmp")
    header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
    try:
        try:
            with open(temporary, "xb") as file:
                np.lib.format.write_array_header_1_0(file, header)
                for piece in pieces():
                    file.write(np.ascontiguousarray(piece).tobytes())
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        except BaseException:
            with suppress(OSError):
                temporary.unlink()
            raise
    except OSError as error:
        raise storage_error(error, path) from error
