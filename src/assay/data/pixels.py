"""Pixels held as one array, uint8 or float32, in the form they were given."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

import numpy as np

from ..core.errors import DataError

TOLERANCE = 1e-6
CHANNELS = (1, 3)
LAYOUTS = {"NHW": None, "NHWC": (0, 3, 1, 2), "NCHW": (0, 1, 2, 3)}
DARK = 64
_CHUNK = 1024


class Pixels(Protocol):
    """Where a Dataset keeps its images: shared by all its subsets, read by row."""

    shape: tuple[int, int, int]
    notes: tuple[str, ...]

    def __len__(self) -> int: ...

    def read(self, rows: np.ndarray) -> np.ndarray:
        """Images as float32 [n, C, H, W] in [0, 1]."""

    def content(self, rows: np.ndarray) -> Iterator[bytes]:
        """The stored bytes of the rows, for the digest."""


class ArrayPixels:
    """Images in one array [N, C, H, W], uint8 (255 means 1) or float32 in [0, 1]."""

    def __init__(self, array: np.ndarray, notes: tuple[str, ...] = ()) -> None:
        self.array = array
        self.notes = notes
        self.shape: tuple[int, int, int] = (array.shape[1], array.shape[2], array.shape[3])

    def __len__(self) -> int:
        return len(self.array)

    def read(self, rows: np.ndarray) -> np.ndarray:
        return unit_float(self.array[rows])

    def content(self, rows: np.ndarray) -> Iterator[bytes]:
        stored = self.array.dtype.newbyteorder("<")
        yield f"array {stored.name} {self.shape}".encode()
        for start in range(0, len(rows), _CHUNK):
            yield np.ascontiguousarray(self.array[rows[start : start + _CHUNK]], dtype=stored).tobytes()


def unit_float(array: np.ndarray) -> np.ndarray:
    """uint8 divided by 255 in float32; float32 stays as it is."""
    if array.dtype == np.uint8:
        return np.ascontiguousarray(np.divide(array, np.float32(255), dtype=np.float32))
    return np.ascontiguousarray(array, dtype=np.float32)


def array_pixels(values: Any, *, where: str, layout: str | None = None) -> ArrayPixels:
    """Check an array of images and keep it as given, where that is possible.

    uint8 stays uint8; other integers in 0..255 become uint8; float32 stays
    float32; other floats become float32 once. Floats must lie in [0, 1] to
    within 1e-6, and are clipped to it.

    Args:
        values: [N, H, W], [N, H, W, C] or [N, C, H, W] with C of 1 or 3.
        where: what the array is, for messages.
        layout: ``"NHW"``, ``"NHWC"`` or ``"NCHW"`` where the shape alone does not tell.

    Raises:
        DataError: an unreadable shape or type, NaN, infinities, or values outside the range.
    """
    try:
        array = np.asarray(values)
    except ValueError as error:
        raise DataError(f"{where} is not one array: {error}. All images must have the same shape.") from error
    array = channels_first(array, where=where, layout=layout)
    if array.size == 0:
        raise DataError(
            f"{where} is empty: its shape is {np.shape(values)}. At least one pixel of one image is needed."
        )
    if array.dtype.kind == "b":
        return ArrayPixels(array.astype(np.uint8) * 255, ("Boolean pixels were read as 0 and 1.",))
    if array.dtype.kind in "ui":
        return _integers(array, where)
    if array.dtype.kind == "f":
        return _floats(array, where)
    raise DataError(f"{where} has pixels of type {array.dtype}; uint8 in 0..255 or floats in [0, 1] are needed.")


def channels_first(array: np.ndarray, *, where: str, layout: str | None = None) -> np.ndarray:
    """A view [N, C, H, W] of the array; the channel axis is the one that has 1 or 3 entries."""
    layout = layout or _layout(array.shape, where)
    if layout not in LAYOUTS or array.ndim != len(layout):
        raise DataError(
            f"{where} has shape {array.shape}, layout {layout!r}; allowed: NHW, NHWC, NCHW of that many axes."
        )
    axes = LAYOUTS[layout]
    if array.ndim == 4:
        declared, other = (1, 3) if layout == "NCHW" else (3, 1)
        if array.shape[declared] not in CHANNELS and array.shape[other] in CHANNELS:
            raise DataError(
                f"{where} has shape {array.shape}: layout {layout!r} says that its images have {array.shape[declared]} "
                f"channels. The axis of {array.shape[other]} looks like the channels, so the layout is "
                f"{'NHWC' if layout == 'NCHW' else 'NCHW'!r}."
            )
    return array[:, None] if axes is None else array.transpose(axes)


def _layout(shape: tuple[int, ...], where: str) -> str:
    if len(shape) == 3:
        return "NHW"
    if len(shape) != 4:
        raise DataError(
            f"{where} has shape {shape}; images are [N, H, W], [N, H, W, C] or [N, C, H, W]. Reshape the array."
        )
    first, last = shape[1] in CHANNELS, shape[3] in CHANNELS
    if first and last:
        raise DataError(
            f"{where} has shape {shape}, which could be [N, C, H, W] or [N, H, W, C]. "
            "Save grey images as [N, H, W], or say which it is: layout='NCHW' or layout='NHWC'."
        )
    if not first and not last:
        raise DataError(
            f"{where} has shape {shape}, but neither axis 1 nor axis 3 is a channel axis of 1 or 3 entries. "
            "Save grey images as [N, H, W] and colour images as [N, H, W, 3] or [N, 3, H, W]."
        )
    return "NCHW" if first else "NHWC"


def _integers(array: np.ndarray, where: str) -> ArrayPixels:
    low, high = int(array.min()), int(array.max())
    if low < 0 or high > 255:
        wrong = int(((array < 0) | (array > 255)).sum())
        raise DataError(
            f"{where}: {wrong} of {array.size} integer pixel values lie outside 0..255 (range {low} to {high}). "
            "Scale them to 0..255, or save floats in [0, 1]."
        )
    notes = [f"{'uint8' if array.dtype == np.uint8 else 'Integer'} pixels were divided by 255."]
    if high < DARK:
        notes.append(
            f"The largest stored pixel value is {high} of 255: if another scale was meant, save floats in [0, 1]."
        )
    return ArrayPixels(array.astype(np.uint8, copy=False), tuple(notes))


def _floats(array: np.ndarray, where: str) -> ArrayPixels:
    low, high, wrong = _survey(array, where)
    if low < -TOLERANCE or high > 1 + TOLERANCE:
        remedy = "Scale them to [0, 1]."
        if low >= 0 and high <= 255:
            remedy = "Divide them by 255, or save them as uint8."
        elif low < 0:
            remedy = (
                "Undo the normalisation: data hold raw images, and mean and standard deviation belong to the Target."
            )
        raise DataError(
            f"{where}: {wrong} of {array.size} float pixel values lie outside [0, 1] "
            f"(range {low:g} to {high:g}). {remedy}"
        )
    notes = []
    if array.dtype.newbyteorder("=") != np.float32:
        notes.append(f"{array.dtype.name} pixels were converted to float32.")
    array = array.astype(np.float32, copy=False)
    if low < 0 or high > 1:
        array = np.clip(array, 0, 1)
        notes.append("Pixel values up to 1e-6 outside [0, 1] were clipped.")
    return ArrayPixels(array, tuple(notes))


def _survey(array: np.ndarray, where: str) -> tuple[float, float, int]:
    """Smallest and largest value and how many lie outside [0, 1], in chunks; NaN and infinities are an error."""
    broken, wrong, low, high = 0, 0, np.inf, -np.inf
    for start in range(0, len(array), _CHUNK):
        chunk = array[start : start + _CHUNK]
        broken += int(chunk.size - np.isfinite(chunk).sum())
        if not broken:
            low, high = min(low, float(chunk.min())), max(high, float(chunk.max()))
            wrong += int(((chunk < -TOLERANCE) | (chunk > 1 + TOLERANCE)).sum())
    if broken:
        raise DataError(
            f"{where}: {broken} of {array.size} pixel values are NaN or infinite. "
            "Remove or repair those images; only finite values in [0, 1] are images."
        )
    return low, high, wrong
