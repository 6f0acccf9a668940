"""Folders of images beside folders of masks and depth maps, with splits above or below these; or of images alone."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from ...core.errors import DataError
from ..encoded import SUFFIXES, EncodedPixels, Files
from ..folder import folders_in, images_under, split_files
from ..request import SPLIT_WORDS, choose_split, listed, reading, short_name, shown
from . import parquet
from .build import Found, build
from .dataset import DenseDataset
from .decode import Raw
from .hub import is_saved, read_saved
from .request import DenseRequest

ROLES = {
    "images": ("images", "image", "imgs", "img", "rgb", "color", "jpegimages", "leftimg8bit"),
    "masks": ("masks", "mask", "annotations", "annotation", "labels", "segmentation", "segmentationclass", "gtfine"),
    "depth": ("depth", "depths", "depth_maps", "depth_map"),
}
_IMAGE_ENDINGS = ("_leftimg8bit", "_image", "_img", "_rgb", "_colors", "_gtfine_labeltrainids", "_gtfine_labelids")
ENDINGS = (*_IMAGE_ENDINGS, "_mask", "_masks", "_seg", "_label", "_labels", "_l", "_depth")

Roles = dict[str, Path]


def read(path: Path, request: DenseRequest) -> DenseDataset | None:
    """Read whatever dense data a folder holds; ``None`` where there are none, so that ``load_data`` may have it."""
    with reading(shown(path), "a folder"):
        names = sorted(name for name in os.listdir(path) if name[0] != "." and (path / name).is_file())
    if is_saved(path):
        return read_saved(path, request)
    if tables := split_files(path, names, (".parquet",)):
        return parquet.read_splits(tables, path, request)
    splits = find_splits(path, request)
    if not splits:
        return None
    where = shown(path)
    split = choose_split(splits, request.split, where)
    roles = splits[split]
    images = images_under(roles["images"])
    if not images:
        raise DataError(f"{where}: the split {split!r} has no images. Put some there, or choose another split.")
    rows = request.rows(len(images))
    chosen = images[: len(rows)]
    masks = _partners(chosen, roles, "masks", request)
    depths = _partners(chosen, roles, "depth", request)

    def others() -> Iterator[Raw]:
        for name, members in splits.items():
            if "masks" in members and not (name == split and len(rows) == len(images)):
                rest = _maps_under(members["masks"])
                yield Files(rest if name != split else sorted(set(rest) - set(masks or ())))

    notes = _left_over(roles, "masks", images, request) + _left_over(roles, "depth", images, request)
    found = Found(
        pixels=EncodedPixels(Files(chosen), image_size=request.size),
        rows=rows,
        total=len(images),
        masks=None if masks is None else Files(masks),
        depths=None if depths is None else Files(depths),
        others=others,
        notes=notes,
    )
    return build(found, request, name=short_name(path), source=str(path), split=split, where=where)


def find_splits(path: Path, request: DenseRequest) -> dict[str, Roles]:
    """Split -> the folders that play a role in it; empty where the folder is not of this kind."""
    given = {"images": request.images_key, "masks": request.masks_key, "depth": request.depth_key}
    here = _roles(path, given)
    if _is_dense(here, request):
        return _below(path, here)
    by_split = {SPLIT_WORDS.get(folder.name.lower(), ""): folder for folder in folders_in(path)}
    if by_split and "" not in by_split:
        inner = {split: _roles(folder, given) for split, folder in by_split.items()}
        if any(_is_dense(roles, request) for roles in inner.values()):
            return {split: roles for split, roles in inner.items() if "images" in roles}
        if request.bare and any(_has_images(folder) for folder in by_split.values()):
            return {split: {"images": folder} for split, folder in by_split.items()}
    if missing := [name for name in given.values() if name is not None]:
        raise DataError(
            f"{shown(path)} has no folder {missing[0]!r} with images beside it. It holds "
            f"{listed([folder.name for folder in folders_in(path)])}."
        )
    return {"all": {"images": path}} if request.bare and _has_images(path) else {}


def partner_key(path: Path, base: Path) -> str:
    """What an image and its mask have in common: the place below their folder, less suffix and usual endings.

    >>> partner_key(Path("masks/a/0001_L.png"), Path("masks")), partner_key(Path("images/a/0001.jpg"), Path("images"))
    ('a/0001', 'a/0001')
    """
    stem = path.relative_to(base).with_suffix("").as_posix()
    lowered = stem.lower()
    ending = next((word for word in sorted(ENDINGS, key=len, reverse=True) if lowered.endswith(word)), "")
    return stem[: len(stem) - len(ending)]


def _roles(path: Path, given: dict[str, str | None]) -> Roles:
    folders = {folder.name.lower(): folder for folder in folders_in(path)}
    found: Roles = {}
    for role, usual in ROLES.items():
        name = given[role]
        if name is not None:
            if (path / name).is_dir():
                found[role] = path / name
        elif word := next((word for word in usual if word in folders), None):
            found[role] = folders[word]
    return found


def _is_dense(roles: Roles, request: DenseRequest) -> bool:
    return "images" in roles and (request.bare or "masks" in roles or "depth" in roles)


def _below(path: Path, roles: Roles) -> dict[str, Roles]:
    """Splits below the folder of images, where it holds nothing but splits; then the others hold the same."""
    inner = {
        role: {SPLIT_WORDS.get(item.name.lower(), ""): item for item in folders_in(base)}
        for role, base in roles.items()
    }
    splits = inner["images"]
    if not splits or "" in splits or _has_images(roles["images"]):
        return {"all": roles}
    found: dict[str, Roles] = {}
    for split in splits:
        found[split] = {role: inner[role][split] for role in roles if split in inner[role]}
        missing = [roles[role].name for role in roles if split not in inner[role]]
        if missing and len(found[split]) == 1 and len(splits) == 1:
            raise DataError(
                f"{shown(path)}: {missing[0]!r} has no folder for the split {split!r}. Put its files there."
            )
    return found


def _partners(images: Sequence[Path], roles: Roles, role: str, request: DenseRequest) -> list[Path] | None:
    """The mask or depth map of each image."""
    if role not in roles or request.bare:
        return None
    base = roles[role]
    exact: dict[str, Path] = {}
    alike: dict[str, list[Path]] = {}
    for path in _maps_under(base):
        exact.setdefault(path.relative_to(base).with_suffix("").as_posix(), path)
        alike.setdefault(partner_key(path, base), []).append(path)
    found: list[Path] = []
    missing: list[Path] = []
    for image in images:
        stem = image.relative_to(roles["images"]).with_suffix("").as_posix()
        candidates = [exact[stem]] if stem in exact else alike.get(partner_key(image, roles["images"]), [])
        if len(candidates) > 1:
            names = listed([path.name for path in candidates])
            raise DataError(
                f"{shown(base)} has more than one file for {shown(image)}: {names}. Keep the one that is meant."
            )
        (found if candidates else missing).append(candidates[0] if candidates else image)
    if missing:
        raise DataError(
            f"{len(missing)} of {len(images)} images have no partner in {shown(base)}, such as {shown(missing[0])}. "
            "A mask or depth map has the name of its image, with its own suffix: add the missing files, or take "
            "those images away."
        )
    return found


def _left_over(roles: Roles, role: str, images: Sequence[Path], request: DenseRequest) -> tuple[str, ...]:
    if role not in roles or request.bare:
        return ()
    extra = len(_maps_under(roles[role])) - len(images)
    return (f"{extra} files of {role} belong to no image and were left out.",) if extra > 0 else ()


def _maps_under(base: Path) -> list[Path]:
    return images_under(base, (*SUFFIXES, ".npy"))


def _has_images(folder: Path) -> bool:
    with reading(shown(folder), "a folder"):
        return any(name.lower().endswith(SUFFIXES) and name[0] != "." for name in os.listdir(folder))
