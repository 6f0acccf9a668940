"""Masks and depth maps from encoded pictures, .npy files and arrays; always with nearest neighbours, never blended."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from PIL import Image

from ...core.errors import DataError
from ..encoded import Pictures, allocate, quiet
from ..request import reading

MASK_FORMATS = ("PNG", "BMP", "GIF", "PPM", "TIFF", "WEBP")
MASK_MODES = ("1", "L", "P", "I", "I;16", "I;16B", "I;16L", "LA", "PA", "La")
DEPTH_MODES = ("L", "I", "I;16", "I;16B", "I;16L", "F")
_NPY = b"\x93NUMPY"

Raw = Pictures | np.ndarray
"""Where maps come from: encoded one by one, or already one array [N, H, W]."""


def mask_array(
    raw: Raw, where: str, size: tuple[int, int], image_sizes: Sequence[tuple[int, int]] | None, resized: bool
) -> tuple[np.ndarray, np.ndarray]:
    """All masks at one size, and which ids occur in them at their own size.

    Args:
        raw: where the masks are.
        where: what they are, for messages.
        size: (height, width) wanted.
        image_sizes: [N] of (width, height), the stored sizes of the images; None: all are ``size``.
        resized: whether the caller asked for a size, so that a mask may be smaller than its image.

    Returns:
        uint8 or int32 [N, H, W], and the ids that occur, sorted.
    """
    kept = allocate((len(raw), *size), np.uint8, "masks")
    known: set[int] = set()
    for row, mask in _each(raw, where, read_mask, image_sizes or [size[::-1]] * len(raw), resized):
        ids = seen_ids(mask)
        known.update(ids)
        if kept.dtype == np.uint8 and ids[-1] > 255:
            kept = kept.astype(np.int32)
        kept[row] = nearest(mask, size)
    return kept, np.array(sorted(known), dtype=np.int64)


def depth_array(
    raw: Raw,
    where: str,
    size: tuple[int, int],
    image_sizes: Sequence[tuple[int, int]] | None,
    resized: bool,
    *,
    scale: float,
    most: float | None,
) -> np.ndarray:
    """All depth maps at one size in metres, float32 [N, H, W], 0 where there is no measurement.

    Whole numbers are divided by ``scale``; floats are metres. NaN, infinities, values from 0 down and those beyond
    ``most`` become 0.
    """
    kept = allocate((len(raw), *size), np.float32, "depth maps")
    for row, depth in _each(raw, where, read_depth, image_sizes or [size[::-1]] * len(raw), resized):
        chosen = nearest(depth, size)
        metres = chosen / np.float64(scale) if chosen.dtype.kind in "ui" else chosen
        with np.errstate(invalid="ignore", over="ignore"):
            good = np.isfinite(metres) & (metres > 0) & (metres <= (np.inf if most is None else most))
            kept[row] = np.where(good, metres, 0)
    kept[~np.isfinite(kept)] = 0
    return kept


def all_ids(raw: Raw, where: str) -> set[int]:
    """The ids that occur in masks which are otherwise not read."""
    known: set[int] = set()
    for row in range(len(raw)):
        known.update(seen_ids(read_mask(raw, row, where)))
    return known


def nearest(array: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """An array [H, W] at another size: each pixel takes the value at its centre.

    >>> nearest(np.array([[1, 2], [3, 4]]), (4, 2)).tolist()
    [[1, 2], [1, 2], [3, 4], [3, 4]]
    """
    if array.shape == size:
        return array
    chosen = [((2 * np.arange(new) + 1) * old) // (2 * new) for new, old in zip(size, array.shape, strict=True)]
    return array[np.ix_(*chosen)]


def seen_ids(mask: np.ndarray) -> list[int]:
    """The ids of one mask, sorted."""
    if mask.dtype == np.uint8:
        return np.flatnonzero(np.bincount(mask.ravel(), minlength=1)).tolist()
    return np.unique(mask).tolist()


def read_mask(raw: Raw, row: int, where: str) -> np.ndarray:
    """One mask as stored: whole numbers [H, W]; a palette's indices, not its colours."""
    if isinstance(raw, np.ndarray):
        return _whole_ids(raw[row], f"{where}, mask {row}")
    place = raw.where(row)
    mask = _decoded(raw, row, "a mask", MASK_MODES, MASK_FORMATS)
    return _whole_ids(mask, place)


def read_depth(raw: Raw, row: int, where: str) -> np.ndarray:
    """One depth map as stored: numbers [H, W]."""
    place = f"{where}, depth map {row}" if isinstance(raw, np.ndarray) else raw.where(row)
    depth = raw[row] if isinstance(raw, np.ndarray) else _decoded(raw, row, "a depth map", DEPTH_MODES, MASK_FORMATS)
    if depth.dtype.kind not in "uif" or depth.ndim != 2:
        raise DataError(f"{place} holds {depth.dtype} of shape {depth.shape}; one number a pixel, [H, W], is needed.")
    return depth


def _each(
    raw: Raw,
    where: str,
    read: Callable[[Raw, int, str], np.ndarray],
    image_sizes: Sequence[tuple[int, int]],
    resized: bool,
) -> Any:
    for row in range(len(raw)):
        found = read(raw, row, where)
        _check_size(raw, row, where, found.shape, image_sizes[row], resized)
        yield row, found


def _check_size(raw: Raw, row: int, where: str, shape: tuple[int, ...], image: tuple[int, int], resized: bool) -> None:
    """A map as large as its image; with a size asked for, one of the same proportions will do."""
    height, width = shape
    if (width, height) == image or (resized and abs(width * image[1] - height * image[0]) <= max(image)):
        return
    place = where if isinstance(raw, np.ndarray) else raw.where(row)
    raise DataError(
        f"{place} is {width}x{height} (width x height), but its image is {image[0]}x{image[1]}. A mask or depth map "
        "must belong to its image pixel by pixel: check that the files are paired rightly"
        + ("." if resized else ", or give image_size where both show the same at different resolutions.")
    )


def _decoded(raw: Pictures, row: int, kind: str, modes: tuple[str, ...], formats: tuple[str, ...]) -> np.ndarray:
    place = raw.where(row)
    with reading(place, kind), raw.open(row) as file:
        data = file.read()
        if data.startswith(_NPY):
            loaded = np.load(io.BytesIO(data), allow_pickle=False)
            return loaded[..., 0] if loaded.ndim == 3 and loaded.shape[2] == 1 else loaded
        if data.startswith(b"\xff\xd8\xff"):
            raise DataError(
                f"{place} is a JPEG, which does not keep values exactly, so it cannot be {kind}. Use PNG or .npy."
            )
        with quiet(), Image.open(io.BytesIO(data), formats=formats) as image:
            mode = image.mode
            values = np.asarray(image)
    if mode in modes:
        return values[..., 0] if values.ndim == 3 else values
    if values.ndim == 3 and (values[..., :1] == values[..., :3]).all():
        return values[..., 0]
    raise DataError(
        f"{place} holds colours (mode {mode!r}), but {kind} holds one number a pixel: class ids in a mask, distances "
        "in a depth map. Convert it to a grey or palette PNG, or to .npy."
    )


def _whole_ids(mask: np.ndarray, place: str) -> np.ndarray:
    if mask.ndim == 3 and mask.shape[-1] == 1:
        mask = mask[..., 0]
    if mask.ndim != 2 or mask.size == 0:
        raise DataError(f"{place} has shape {mask.shape}; one class id a pixel, [H, W], is needed.")
    if mask.dtype.kind == "b":
        return mask.astype(np.uint8)
    if mask.dtype.kind == "f" and np.isfinite(mask).all() and (mask == np.floor(mask)).all():
        mask = mask.astype(np.int64)
    if mask.dtype.kind not in "ui":
        raise DataError(f"{place} holds {mask.dtype}; whole class ids are needed.")
    if mask.min() < 0 or mask.max() >= 2**31:
        raise DataError(
            f"{place} holds the ids {mask.min()} to {mask.max()}; class ids run from 0 up. "
            "Write the id of unlabelled pixels as 255 and name it with ignore_index."
        )
    return mask
