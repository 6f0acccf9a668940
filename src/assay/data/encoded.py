"""Pixels held as encoded pictures (png, jpeg ...), each decoded at most once, when it is first read."""

from __future__ import annotations

import io
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import numpy as np
from PIL import Image

from ..core.errors import DataError
from .pixels import unit_float
from .request import reading, shown

GREY = ("1", "L", "LA", "La")
DEEP = ("I", "F")
TRANSPARENT = ("LA", "La", "PA", "RGBA", "RGBa")
FORMATS = ("PNG", "JPEG", "BMP", "GIF", "WEBP", "PPM", "TIFF")
SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".ppm", ".pgm", ".pbm", ".tif", ".tiff")


class Pictures(Protocol):
    """Where encoded pictures are: files, or a column of bytes."""

    def __len__(self) -> int: ...

    def open(self, row: int) -> BinaryIO:
        """The encoded picture of a row, as a binary file to be closed by the caller."""

    def where(self, row: int) -> str:
        """The place of a row, as messages name it."""


class Files:
    """Pictures in files of their own."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self.paths = paths

    def __len__(self) -> int:
        return len(self.paths)

    def open(self, row: int) -> BinaryIO:
        path = self.paths[row]
        if not path.is_file():
            raise DataError(f"{shown(path)} is missing, or is not a regular file. Restore it, or take it off the list.")
        return path.open("rb")

    def where(self, row: int) -> str:
        return shown(self.paths[row])


class Column:
    """Pictures in a binary column of a table (an Arrow chunked array, which is not copied)."""

    def __init__(self, values: Any, place: str) -> None:
        self.values = values
        self.place = place

    def __len__(self) -> int:
        return len(self.values)

    def open(self, row: int) -> BinaryIO:
        value = self.values[row].as_py()
        if value is None:
            raise DataError(f"{self.where(row)} holds no image. Remove the row, or fill it in.")
        return io.BytesIO(value)

    def where(self, row: int) -> str:
        return f"Row {row} of {self.place}"


class EncodedPixels:
    """Encoded pictures of one shape, and a uint8 cache of those decoded so far.

    Opening reads the header of every picture, so that damaged files, mixed
    sizes and mixed colour modes are known at once; pixels are decoded by the
    first ``read`` that needs them. Orientation marks of cameras are ignored;
    transparency is dropped.

    Args:
        pictures: where the encoded bytes are.
        image_size: resize every picture to this (height, width) (bilinear, the aspect is not kept).

    Raises:
        DataError: a picture cannot be read, sizes differ and no ``image_size`` is given, or more than 8 bits a channel.
    """

    def __init__(self, pictures: Pictures, *, image_size: tuple[int, int] | None = None) -> None:
        self.pictures = pictures
        if len(pictures) == 0:
            raise DataError("There are no pictures. At least one is needed.")
        modes, self.sizes = _survey(pictures)
        sizes = Counter(self.sizes)
        if image_size is None and len(sizes) > 1:
            raise DataError(_sizes_differ(pictures, sizes))
        width, height = (image_size[1], image_size[0]) if image_size is not None else self.sizes[0]
        self.shape: tuple[int, int, int] = (1 if set(modes) <= set(GREY) else 3, height, width)
        self.notes = _notes(modes, (height, width) if set(sizes) != {(width, height)} else None)
        self._decoded = np.zeros(len(pictures), dtype=bool)
        self._cache = allocate((len(pictures), *self.shape), np.uint8, "images")

    def __len__(self) -> int:
        return len(self.pictures)

    def read(self, rows: np.ndarray) -> np.ndarray:
        pending = np.unique(rows[~self._decoded[rows]])
        channels, height, width = self.shape
        with quiet():
            for row in pending.tolist():
                with reading(self.pictures.where(row), "an image"), self.pictures.open(row) as file:
                    picture = decode(file, channels, (width, height))
                    self._cache[row] = picture.reshape(height, width, channels).transpose(2, 0, 1)
                self._decoded[row] = True
        return unit_float(self._cache[rows])

    def content(self, rows: np.ndarray) -> Iterator[bytes]:
        yield f"encoded {self.shape}".encode()
        for row in rows.tolist():
            with reading(self.pictures.where(row), "an image"), self.pictures.open(row) as file:
                encoded = file.read()
            yield encoded


def allocate(shape: tuple[int, ...], kind: type, what: str) -> np.ndarray:
    """Memory for pictures that are still to be decoded; the system hands out its pages only as they are filled."""
    try:
        return np.empty(shape, dtype=kind)
    except MemoryError as error:
        need = np.prod(shape, dtype=np.float64) * np.dtype(kind).itemsize / 2**30
        raise DataError(
            f"{shape[0]} {what} of shape {shape[1:]} need {need:.1f} GiB, which this machine does not "
            "have. Read fewer with limit, or smaller ones with image_size."
        ) from error


def decode(file: BinaryIO, channels: int, size: tuple[int, int]) -> np.ndarray:
    """One picture as uint8 [H, W] (grey) or [H, W, 3], resized bilinearly where its size (W, H) is another."""
    with Image.open(file, formats=FORMATS) as image:
        picture = image.convert("L" if channels == 1 else "RGB")
    if picture.size != size:
        picture = picture.resize(size, Image.Resampling.BILINEAR)
    return np.asarray(picture)


def _survey(pictures: Pictures) -> tuple[Counter[str], list[tuple[int, int]]]:
    """How often each colour mode occurs, and the size (W, H) of each picture, from the headers alone."""
    modes: Counter[str] = Counter()
    sizes: list[tuple[int, int]] = []
    with quiet():
        for row in range(len(pictures)):
            with (
                reading(pictures.where(row), "an image"),
                pictures.open(row) as file,
                Image.open(file, formats=FORMATS) as image,
            ):
                mode, size = image.mode, image.size
            if mode.startswith(DEEP):
                raise DataError(
                    f"{pictures.where(row)} has more than 8 bits a channel (mode {mode!r}), which is not read. "
                    "Convert it to 8 bits, or save the set as a float npz in [0, 1]."
                )
            modes[mode] += 1
            sizes.append(size)
    return modes, sizes


def _sizes_differ(pictures: Pictures, sizes: Counter[tuple[int, int]]) -> str:
    (most, count), (other, _) = sizes.most_common(2)
    return (
        f"{pictures.where(0)} and the rest have {len(sizes)} different sizes: {count} of {len(pictures)} are "
        f"{most[0]}x{most[1]}, others such as {other[0]}x{other[1]} (width x height). "
        "Give image_size to resize them all, such as image_size=32."
    )


def _notes(modes: Counter[str], resized: tuple[int, int] | None) -> tuple[str, ...]:
    notes = ["Encoded images were decoded to uint8 and divided by 255."]
    grey = sum(modes[mode] for mode in GREY)
    if 0 < grey < modes.total():
        notes.append(
            f"{grey} of {modes.total()} images are grey and were converted to RGB, as the others are in colour."
        )
    transparent = sum(modes[mode] for mode in TRANSPARENT)
    if transparent:
        notes.append(f"The transparency of {transparent} images was dropped.")
    if resized is not None:
        notes.append(f"Images were resized to {resized[0]}x{resized[1]} pixels (bilinear).")
    return tuple(notes)


@contextmanager
def quiet() -> Iterator[None]:
    """Pillow warns of oddities that do not matter; of an image built to exhaust memory it must not merely warn."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        yield
