"""From what a reader found to a DenseDataset: every check in one place."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...core.errors import DataError
from ..encoded import EncodedPixels
from ..labels import Labels, check_lengths, read_labels
from ..pixels import Pixels, array_pixels
from ..request import printable
from .dataset import DenseDataset
from .decode import Raw, all_ids, depth_array, mask_array
from .maps import ArrayMaps
from .request import DenseRequest

MOST_CLASSES = 1000
IGNORED = 65535
NEAR, FAR = 0.05, 500.0


@dataclass(frozen=True, kw_only=True)
class Found:
    """What a reader found of one split.

    Args:
        pixels: the images of ``rows``.
        rows: int64 [n], the row numbers in the source that are read.
        total: rows of the split.
        masks: masks of ``rows``, if any.
        depths: depth maps of ``rows``, if any.
        labels: labels of ``rows``, if any.
        class_names: names of the mask classes, where the source declares them.
        others: the masks that are not read: later rows and other splits, to know the number of classes.
    """

    pixels: Pixels
    rows: np.ndarray
    total: int
    masks: Raw | None = None
    depths: Raw | None = None
    labels: Labels | None = None
    class_names: Sequence[str] | None = None
    others: Callable[[], Iterable[Raw]] = tuple
    notes: tuple[str, ...] = ()


def usable_labels(read: Callable[[], Labels], request: DenseRequest) -> Labels | None:
    """Labels; where images alone are wanted, ``None`` in the place of labels that cannot be used."""
    try:
        return read()
    except DataError:
        if request.bare and not request.labelled:
            return None
        raise


def build(found: Found, request: DenseRequest, *, name: str, source: str, split: str, where: str) -> DenseDataset:
    """Check masks and depths against the images and hold them as arrays.

    Raises:
        DataError: no references at all, sizes that differ, unknown ids, or not one pixel that counts.
    """
    pixels = found.pixels
    size = (pixels.shape[1], pixels.shape[2])
    image_sizes = pixels.sizes if isinstance(pixels, EncodedPixels) else None
    resized = request.size is not None
    notes = [*pixels.notes, *found.notes]
    names: dict[str, tuple[str, ...]] = {}
    ignored = request.ignore_index
    masks = depths = None
    if found.masks is not None:
        _check_count(found.masks, len(pixels), "masks", where)
        array, ids = mask_array(found.masks, where, size, image_sizes, resized)
        if ignored == 0:
            array, ids = _lowered(array), ids[ids > 0] - 1
            ignored = IGNORED
            notes.append(f"Mask id 0 does not count: the others were lowered by one, and it became {IGNORED}.")
        names["segmentation"] = _classes(found, request, ids, where, notes)
        _check_ids(array, ids, len(names["segmentation"]), ignored, where, notes)
        masks = ArrayMaps(array, "mask")
    if found.depths is not None:
        _check_count(found.depths, len(pixels), "depth maps", where)
        array = depth_array(
            found.depths, where, size, image_sizes, resized, scale=request.depth_scale, most=request.max_depth
        )
        _check_depths(array, request, where, notes)
        depths = ArrayMaps(array, "depth")
    if found.labels is not None:
        names["classification"] = found.labels.class_names
        notes += found.labels.notes
    if masks is depths is found.labels is None and not request.bare:
        raise DataError(
            f"{where} has images but neither masks, depth maps nor labels. Say where they are with masks_key, "
            "depth_key or labels_key, or read the images alone with load_images."
        )
    if len(found.rows) < found.total:
        notes.append(f"{len(found.rows)} of {found.total} samples were read.")
    return DenseDataset(
        name=printable(name),
        source=printable(source),
        split=split,
        pixels=pixels,
        rows=np.arange(len(found.rows), dtype=np.int64),
        sample_ids=found.rows,
        mask_store=masks,
        depth_store=depths,
        labels=None if found.labels is None else found.labels.indices,
        names=names,
        ignore_index=ignored,
        notes=tuple(notes),
    )


def arrays(images: Any, masks: Any, depths: Any, labels: Any, request: DenseRequest, name: str) -> DenseDataset:
    """A DenseDataset of arrays in memory."""
    pixels = array_pixels(images, where="the image array", layout=request.layout)
    known = None if labels is None else read_labels(labels, where="the label array")
    if known is not None:
        check_lengths(len(pixels), len(known.indices), "the data")
    found = Found(
        pixels=pixels,
        rows=np.arange(len(pixels), dtype=np.int64),
        total=len(pixels),
        masks=None if masks is None else np.asarray(masks),
        depths=None if depths is None else np.asarray(depths),
        labels=known,
    )
    return build(found, request, name=name, source=name, split="all", where="the data")


def _check_count(raw: Raw, images: int, kind: str, where: str) -> None:
    maps = 0 if isinstance(raw, np.ndarray) and raw.ndim == 0 else len(raw)
    if maps != images:
        raise DataError(f"{where} has {images} images but {maps} {kind}. One for each image is needed, in their order.")


def _classes(found: Found, request: DenseRequest, ids: np.ndarray, where: str, notes: list[str]) -> tuple[str, ...]:
    """Names of the mask classes: those given, those declared, or numbers up to the largest id of the whole source."""
    if request.class_names is not None:
        return request.class_names
    if request.num_classes is not None:
        return tuple(str(index) for index in range(request.num_classes))
    if found.class_names:
        return tuple(printable(str(name)) for name in found.class_names)
    every = set(ids.tolist())
    for raw in found.others():
        rest = all_ids(raw, where)
        every |= {index - 1 for index in rest if index} if request.ignore_index == 0 else rest
    largest = max(every - {request.ignore_index or None}, default=0)
    if largest >= MOST_CLASSES:
        raise DataError(
            f"{where}: the masks hold ids up to {largest}, more than class ids usually are. If they are classes, give "
            "num_classes; ids of instances, or colours, must be turned into class ids first."
        )
    notes.append(f"The masks hold ids up to {largest}, so {max(largest + 1, 2)} classes were assumed.")
    return tuple(str(index) for index in range(max(largest + 1, 2)))


def _lowered(array: np.ndarray) -> np.ndarray:
    """Ids 1, 2, ... as 0, 1, ..., and 0 as the id that does not count."""
    lowered = array.astype(np.int32) - 1
    lowered[array == 0] = IGNORED
    return lowered


def _check_ids(
    array: np.ndarray, ids: np.ndarray, classes: int, ignored: int | None, where: str, notes: list[str]
) -> None:
    """Every id is a class or the one that does not count, and some pixel counts."""
    also = "" if ignored is None else f" and ignore_index {ignored}"
    strange = [index for index in ids.tolist() if index >= classes and index != ignored]
    if strange:
        count = int(np.isin(array, strange).any((1, 2)).sum())
        raise DataError(
            f"{where}: {count} of {len(array)} masks hold the unknown class ids {', '.join(map(str, strange[:8]))}; "
            f"allowed: 0 to {classes - 1}{also}. Set num_classes, or name the id of unlabelled pixels as ignore_index."
        )
    if ignored is None:
        return
    if ignored < classes:
        raise DataError(
            f"{where}: ignore_index is {ignored}, but there are classes up to {classes - 1}. It must be 0, which "
            "lowers the other ids by one, an id above those of the classes, or None."
        )
    empty = (array == ignored).all((1, 2))
    if empty.all():
        raise DataError(
            f"{where}: every pixel of all {len(array)} masks is {ignored}, the id that does not count, so "
            "there is nothing to measure. Check ignore_index and the masks."
        )
    if empty.any():
        notes.append(
            f"{int(empty.sum())} of {len(array)} masks have no pixel that counts; those images are left out of "
            "segmentation metrics."
        )


def _check_depths(array: np.ndarray, request: DenseRequest, where: str, notes: list[str]) -> None:
    empty = ~(array > 0).any((1, 2))
    if empty.all():
        limit = "" if request.max_depth is None else f" and at most max_depth {request.max_depth:g}"
        raise DataError(
            f"{where}: none of {len(array)} depth maps has a valid pixel; valid are finite depths above 0{limit}. "
            f"Check depth_scale ({request.depth_scale:g} units a metre) and the maps."
        )
    if empty.any():
        notes.append(
            f"{int(empty.sum())} of {len(array)} depth maps have no valid pixel; those images are left out of depth "
            "metrics."
        )
    usual = float(np.median(array[array > 0]))
    if not NEAR <= usual <= FAR:
        notes.append(
            f"The median depth is {usual:.3g} m. If the maps have another unit than metres, save whole numbers and set "
            "depth_scale, the units a metre."
        )
    share = float((array > 0).mean())
    if share < 1:
        notes.append(f"{share:.1%} of the depth pixels are valid.")
