"""Folders: a sub folder of images for each class, or a folder of table or idx files, one for each split."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..core.errors import DataError
from .dataset import Dataset
from .encoded import SUFFIXES, EncodedPixels, Files
from .idx import is_idx, read_folder
from .labels import Labels
from .request import SPLIT_WORDS, Request, choose_split, listed, printable, reading, short_name, shown, split_of


class ClassFolder(NamedTuple):
    """One class: its name and its images, sorted."""

    name: str
    images: list[Path]


def read(path: Path, request: Request) -> Dataset:
    """Read whatever a folder holds: parquet files, idx files, class folders of images, or csv files."""
    with reading(shown(path), "a folder"):
        entries = sorted((entry for entry in os.scandir(path) if entry.name[0] != "."), key=lambda entry: entry.name)
        files = [entry.name for entry in entries if (path / entry.name).is_file()]
        folders = [path / entry.name for entry in entries if (path / entry.name).is_dir()]
    if any(name in ("dataset_dict.json", "state.json") for name in files):
        from .dense.hub import read_labelled

        return read_labelled(str(path), request)
    if tables := split_files(path, files, (".parquet",)):
        from . import parquet

        return parquet.read_splits(tables, path, request)
    if names := [name for name in files if is_idx(name)]:
        return read_folder(path, names, request)
    if any(images_under(folder) for folder in folders):
        _refuse_dense(path)
        return _read_images(path, folders, request)
    if tables := split_files(path, files, (".csv", ".tsv")):
        from . import tables as reader

        return reader.read_splits(tables, path, request)
    hint = "Put the images of each class into a sub folder of its own"
    if any(name.lower().endswith(SUFFIXES) for name in files):
        raise DataError(f"{shown(path)} has images but no class folders. {hint}, or list paths and labels in a csv.")
    if archives := [name for name in files if name.lower().endswith(".npz")]:
        raise DataError(f"{shown(path)} is a folder with {listed(archives)}: give the path of the archive itself.")
    raise DataError(
        f"{shown(path)} has no data that Assay reads; it holds {listed([entry.name for entry in entries])}. {hint}, "
        "or give a folder with parquet, csv or idx files."
    )


def _refuse_dense(path: Path) -> None:
    """Images beside masks are not two classes."""
    from .dense.folder import find_splits
    from .dense.request import DenseRequest

    if splits := find_splits(path, DenseRequest()):
        names = listed([folder.name for folder in next(iter(splits.values())).values()])
        raise DataError(
            f"{shown(path)} has {names}: images with masks or depth maps, not a folder for each class. "
            "Read it with load_dense, for segmentation or depth, or give a folder of classes."
        )


def split_files(folder: Path, names: Sequence[str], suffixes: tuple[str, ...]) -> dict[str, list[Path]]:
    """Split -> files, in order; files whose name speaks of no split are the split "all"."""
    found: dict[str, list[Path]] = {}
    for name in names:
        if name.lower().endswith(suffixes):
            found.setdefault(split_of(Path(name).stem) or "all", []).append(folder / name)
    return found


def _read_images(path: Path, folders: Sequence[Path], request: Request) -> Dataset:
    request.refuse("an image folder", "labels are the sub folders", "images_key", "labels_key", "group")
    split, folders, names = _choose_folders(path, folders, request)
    usable = [folder for folder in folders if not _is_ancestor(folder, path)]
    classes = [ClassFolder(folder.name, images_under(folder)) for folder in usable]
    names = sorted(set(names) - {folder.name for folder in set(folders) - set(usable)})
    indices = np.array([names.index(item.name) for item in classes for _ in item.images], dtype=np.int64)
    images = [image for item in classes for image in item.images]
    if not images:
        raise DataError(f"{shown(path)}: the split {split!r} has no images. Put some there, or choose another split.")
    rows = in_turn(indices, request.limit)
    pixels = EncodedPixels(Files([images[row] for row in rows.tolist()]), image_size=request.size)
    labels = Labels(indices, tuple(printable(name) for name in names))
    absent = sorted(set(names) - {item.name for item in classes if item.images})
    notes = (f"No images of these classes: {listed(absent)}.",) if absent else ()
    return Dataset.assemble(pixels, labels, rows, name=short_name(path), source=str(path), split=split, notes=notes)


def _choose_folders(path: Path, folders: Sequence[Path], request: Request) -> tuple[str, list[Path], list[str]]:
    """The split, its class folders, and the names of the classes of all splits."""
    by_split = {SPLIT_WORDS.get(folder.name.lower(), ""): folders_in(folder) for folder in folders}
    if "" in by_split or len(by_split) < len(folders) or not any(by_split.values()):
        split = choose_split(("all",), request.split, shown(path))
        return split, list(folders), [folder.name for folder in folders]
    split = choose_split(by_split, request.split, shown(path))
    return split, by_split[split], sorted({folder.name for members in by_split.values() for folder in members})


def in_turn(indices: np.ndarray, limit: int | None) -> np.ndarray:
    """Rows to read: all, or the first of each class, the second of each class, and so on up to the limit.

    >>> in_turn(np.array([0, 0, 0, 1, 1, 2]), 4).tolist()
    [0, 1, 3, 5]
    """
    if limit is None or limit >= len(indices):
        return np.arange(len(indices), dtype=np.int64)
    place = np.empty(len(indices), dtype=np.int64)
    for label in np.unique(indices):
        members = np.flatnonzero(indices == label)
        place[members] = np.arange(len(members))
    return np.sort(np.lexsort((indices, place))[:limit])


def images_under(folder: Path, suffixes: tuple[str, ...] = SUFFIXES) -> list[Path]:
    """Every image below a folder, sorted; links to folders within it are not followed, so loops end."""
    found: list[Path] = []
    with reading(shown(folder), "a folder"):
        for base, inner, names in os.walk(folder, onerror=_raise):
            inner[:] = [name for name in inner if not name.startswith(".")]
            found += [
                Path(base, name) for name in names if name.lower().endswith(suffixes) and not name.startswith(".")
            ]
    return sorted(found)


def folders_in(folder: Path) -> list[Path]:
    """The folders in a folder, sorted, hidden ones left out."""
    with reading(shown(folder), "a folder"):
        return sorted(entry for entry in folder.iterdir() if entry.is_dir() and entry.name[0] != ".")


def _is_ancestor(folder: Path, path: Path) -> bool:
    """Whether a class folder is a link back to the folder that holds it, or further up."""
    return folder.is_symlink() and path.resolve().is_relative_to(folder.resolve())


def _raise(error: OSError) -> None:
    raise error
