"""idx files, the format MNIST came in, compressed with gzip or not."""

from __future__ import annotations

import gzip
import math
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np

from ..core.errors import DataError
from .dataset import Dataset
from .labels import check_lengths, read_labels
from .pixels import array_pixels
from .request import Request, choose_split, listed, reading, short_name, shown, split_of

TYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
GZIP_MOST = 1100
_PIECE = 1 << 24


class Pair(NamedTuple):
    """The files of one split."""

    images: Path
    labels: Path


def is_idx(name: str) -> bool:
    """Whether a file name is that of an idx file: ``train-images-idx3-ubyte.gz``, ``x.idx``."""
    stem = name.lower().removesuffix(".gz")
    return stem.endswith(("ubyte", ".idx")) or "-idx" in stem


def read(path: Path, request: Request) -> Dataset:
    """Read one file of images, or its labels' partner, with the other half found beside it."""
    chosen = _partner_of(path)
    return _read_pairs({split_of(path.name) or "all": chosen}, path, request)


def read_folder(folder: Path, names: Sequence[str], request: Request) -> Dataset:
    """Read a folder of idx files, in pairs of images and labels."""
    pairs: dict[str, Pair] = {}
    for name in sorted(names):
        if "images" not in name.lower():
            continue
        pair = _partner_of(folder / name)
        split = split_of(name) or "all"
        if split in pairs:
            raise DataError(
                f"{shown(folder)} has more than one set of {split} images: {pairs[split].images.name!r} and {name!r}. "
                "Give the path of the one that is meant."
            )
        pairs[split] = pair
    if not pairs:
        raise DataError(f"{shown(folder)} has idx files, but none with images in its name: {listed(names)}.")
    return _read_pairs(pairs, folder, request)


def _read_pairs(pairs: dict[str, Pair], path: Path, request: Request) -> Dataset:
    request.refuse("idx files", "a file holds one array", "images_key", "labels_key", "group")
    split = choose_split(pairs, request.split, shown(path))
    pair = pairs[split]
    others = [read_array(pairs[name].labels) for name in pairs if name != split]
    labels = read_labels(read_array(pair.labels), where=shown(pair.labels), others=others)
    images = read_array(pair.images)
    check_lengths(len(images), len(labels.indices), shown(pair.images))
    rows = request.rows(len(images))
    pixels = array_pixels(images[: len(rows)], where=shown(pair.images))
    request.check_array_size(pixels.shape, shown(pair.images))
    return Dataset.assemble(pixels, labels, rows, name=short_name(path), source=str(path), split=split)


def read_array(path: Path) -> np.ndarray:
    """The array of one idx file, in native byte order.

    The header is two zero bytes, a type, the number of axes, and each axis as
    a big-endian 32-bit integer; the size it promises is checked against the
    file before memory is taken for it.
    """
    with reading(shown(path), "idx"), _open(path) as file:
        start = file.read(4)
        if len(start) != 4 or start[:2] != b"\0\0" or start[2] not in TYPES or start[3] == 0:
            raise DataError(f"{shown(path)} is not an idx file: it starts with {start!r}. Fetch it again.")
        axes = file.read(4 * start[3])
        if len(axes) != 4 * start[3]:
            raise DataError(f"{shown(path)} ends within its header. It is truncated: fetch it again.")
        shape = tuple(int(length) for length in np.frombuffer(axes, dtype=">u4"))
        stored = np.dtype(TYPES[start[2]])
        content = _content(file, path, math.prod(shape) * stored.itemsize)
        return np.frombuffer(content, dtype=stored).reshape(shape).astype(stored.newbyteorder("="), copy=False)


def _open(path: Path) -> BinaryIO:
    return gzip.open(path, "rb") if path.suffix.lower() == ".gz" else path.open("rb")  # type: ignore[return-value]


def _content(file: BinaryIO, path: Path, promised: int) -> bytearray:
    """Exactly the promised number of bytes; more or fewer is an error."""
    possible = path.stat().st_size * (GZIP_MOST if path.suffix.lower() == ".gz" else 1)
    content = bytearray()
    while promised <= possible and len(content) <= promised:
        piece = file.read(min(_PIECE, promised + 1 - len(content)))
        if not piece:
            break
        content += piece
    if len(content) != promised:
        size = "more" if len(content) > promised else "fewer"
        raise DataError(
            f"{shown(path)} holds {size} bytes than the {promised} its header promises. "
            "It is truncated or corrupt: fetch it again."
        )
    return content


def _partner_of(path: Path) -> Pair:
    """The pair a file belongs to: ``train-images-idx3-ubyte`` goes with ``train-labels-idx1-ubyte``."""
    name = path.name
    if "labels" in name:
        return Pair(_beside(path, [name.replace("labels", "images").replace("idx1", f"idx{n}") for n in (3, 4)]), path)
    if "images" in name:
        return Pair(
            path, _beside(path, [name.replace("images", "labels").replace("idx3", "idx1").replace("idx4", "idx1")])
        )
    raise DataError(
        f"{shown(path)} has neither images nor labels in its name, so its partner cannot be found. "
        "Name the two files like train-images-idx3-ubyte.gz and train-labels-idx1-ubyte.gz."
    )


def _beside(path: Path, names: Sequence[str]) -> Path:
    for name in names:
        plain = name.removesuffix(".gz")
        for candidate in (name, plain, f"{plain}.gz"):
            if path.with_name(candidate).is_file():
                return path.with_name(candidate)
    raise DataError(f"{shown(path)} needs {' or '.join(map(repr, names))} beside it, which is missing. Put it there.")
