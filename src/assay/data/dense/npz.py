"""NumPy archives with arrays of images and, beside them, masks, depth maps or labels."""

from __future__ import annotations

import zipfile
from collections.abc import Collection, Iterator
from pathlib import Path

import numpy as np

from ..labels import Labels, check_lengths, read_labels
from ..npz import IMAGE_WORDS, LABEL_WORDS, by_split, member, opened
from ..pixels import array_pixels
from ..request import choose_split, find_name, given_name, short_name, shown, split_of
from .build import Found, build, usable_labels
from .dataset import DenseDataset
from .decode import Raw
from .request import DenseRequest

MASK_WORDS = ("masks", "mask", "segmentation", "annotations", "annotation", "seg")
DEPTH_WORDS = ("depths", "depth", "depthmaps")


def read(path: Path, request: DenseRequest) -> DenseDataset | None:
    """Read one split of an archive; ``None`` where it has labels only. Labels [N, H, W] are masks."""
    where = shown(path)
    if not zipfile.is_zipfile(path):
        return None
    with path.open("rb") as file, opened(file, where) as archive:
        keys = archive.files
        images = _keys(keys, IMAGE_WORDS, request.images_key, "images_key", where)
        masks = _keys(keys, MASK_WORDS, request.masks_key, "masks_key", where)
        depths = _keys(keys, DEPTH_WORDS, request.depth_key, "depth_key", where)
        labels = _keys(keys, LABEL_WORDS, request.labels_key, "labels_key", where)
        if not images:
            find_name(keys, IMAGE_WORDS, None, "images", where)
        split = choose_split(images, request.split, where)
        if split in labels and member(archive, labels[split], path).ndim > 2:
            masks, labels = masks or labels, {}
        if split not in masks and split not in depths and not request.bare:
            return None
        array = member(archive, images[split], path)
        total = len(array) if array.ndim else 0
        rows = request.rows(total)
        pixels = array_pixels(array[: len(rows)], where=f"{where} [{images[split]}]", layout=request.layout)
        request.check_array_size(pixels.shape, where)

        def maps(found: dict[str, str], kind: str) -> np.ndarray | None:
            if split not in found or request.bare:
                return None
            values = _maps(member(archive, found[split], path))
            check_lengths(total, len(values), f"{where} [{found[split]}]", kind)
            return values[: len(rows)]

        def others() -> Iterator[Raw]:
            for name, key in masks.items():
                if name != split or len(rows) < total:
                    yield _maps(member(archive, key, path))

        def labels_of_split() -> Labels:
            known = {name: member(archive, key, path) for name, key in labels.items()}
            others = [array for name, array in known.items() if name != split]
            read = read_labels(known[split], where=f"{where} [{labels[split]}]", others=others)
            check_lengths(total, len(read.indices), where)
            return read._replace(indices=read.indices[rows])

        found = Found(
            pixels=pixels,
            rows=rows,
            total=total,
            masks=maps(masks, "masks"),
            depths=maps(depths, "depth maps"),
            labels=None if split not in labels else usable_labels(labels_of_split, request),
            others=others,
        )
        return build(found, request, name=short_name(path), source=str(path), split=split, where=where)


def _keys(keys: Collection[str], words: tuple[str, ...], given: str | None, option: str, where: str) -> dict[str, str]:
    """Split -> key of the arrays that play one role."""
    if given is None:
        return by_split(keys, words)
    return {split_of(given) or "all": given_name(keys, given, option, where)}


def _maps(array: np.ndarray) -> np.ndarray:
    """[N, H, W] from that or from [N, H, W, 1] or [N, 1, H, W]."""
    if array.ndim == 4 and array.shape[3] == 1:
        return array[..., 0]
    return array[:, 0] if array.ndim == 4 and array.shape[1] == 1 else array
