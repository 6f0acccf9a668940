"""Dataset: images in [0, 1] with labels, read from where they are stored, subset without copies."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import PurePath
from typing import Any, ClassVar

import numpy as np

from ..core.errors import DataError
from .labels import Labels, check_lengths, read_groups, read_labels
from .pixels import Pixels, array_pixels
from .request import printable


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Dataset:
    """Labelled images. A subset shares the pixels of the whole and holds row numbers only.

    Args:
        name: a short name, such as ``"mnist"``.
        source: where it came from, as given by the caller.
        split: ``"train"``, ``"validation"``, ``"test"`` or ``"all"``.
        pixels: the store of images, shared by all subsets.
        rows: int64 [N], the row of each sample in the store.
        labels: int64 [N], class indices below ``num_classes``.
        class_names: one name for each class.
        sample_ids: int64 [N], the row number of each sample in the source.
        groups: text [N], the stratum of each sample, or ``None``.
        notes: plain sentences on what was done to the data on the way in.

    Attributes:
        holds: ``"images"``, or what a kind of Dataset has in their place.
    """

    holds: ClassVar[str] = "images"

    name: str
    source: str
    split: str
    pixels: Pixels
    rows: np.ndarray
    labels: np.ndarray
    class_names: tuple[str, ...]
    sample_ids: np.ndarray
    groups: np.ndarray | None = None
    notes: tuple[str, ...] = ()

    @classmethod
    def from_arrays(
        cls,
        images: Any,
        labels: Any,
        *,
        class_names: tuple[str, ...] | None = None,
        groups: Any = None,
        name: str = "arrays",
        layout: str | None = None,
    ) -> Dataset:
        """A Dataset from arrays in memory, which are kept as given where that is possible.

        Args:
            images: [N, H, W], [N, H, W, C] or [N, C, H, W]; uint8, or floats in [0, 1].
            labels: [N], integers 0..K-1 or class names.
            class_names: names of the classes, if the labels are integers.
            groups: [N], a stratum for each sample.
            layout: ``"NHWC"`` or ``"NCHW"`` where the shape alone does not tell.

        Raises:
            DataError: images or labels that cannot be used; the message says how to repair them.

        >>> data = Dataset.from_arrays(np.zeros((2, 8, 8), np.uint8), ["cat", "dog"])
        >>> data.shape, data.class_names, data.images().dtype.name
        ((1, 8, 8), ('cat', 'dog'), 'float32')
        """
        store = array_pixels(images, where="the image array", layout=layout)
        known = read_labels(labels, where="the label array", class_names=class_names)
        check_lengths(len(store), len(known.indices), "the Dataset")
        strata = None if groups is None else read_groups(groups, len(store), "the group array")
        rows = np.arange(len(store), dtype=np.int64)
        return cls.assemble(store, known, rows, name=name, source=name, split="all", groups=strata)

    @classmethod
    def assemble(
        cls,
        pixels: Pixels,
        labels: Labels,
        rows: np.ndarray,
        *,
        name: str,
        source: str,
        split: str,
        groups: np.ndarray | None = None,
        notes: tuple[str, ...] = (),
    ) -> Dataset:
        """What readers call: ``labels`` and ``groups`` are of the whole source, ``pixels`` of its ``rows``."""
        chosen = labels.indices[rows]
        notes = (*pixels.notes, *labels.notes, *notes)
        total, classes = len(labels.indices), len(labels.class_names)
        if len(rows) < total:
            seen = len(np.unique(chosen))
            notes += (f"{len(rows)} of {total} samples were read, holding {seen} of {classes} classes.",)
        return cls(
            name=printable(name),
            source=printable(source),
            split=split,
            pixels=pixels,
            rows=np.arange(len(rows), dtype=np.int64),
            labels=chosen,
            class_names=labels.class_names,
            sample_ids=rows,
            groups=None if groups is None else groups[rows],
            notes=notes,
        )

    @property
    def shape(self) -> tuple[int, int, int]:
        """(channels, height, width) of every image."""
        return self.pixels.shape

    @property
    def num_classes(self) -> int:
        """Number of classes K, whether or not each has a sample here."""
        return len(self.class_names)

    def __len__(self) -> int:
        return len(self.rows)

    def __repr__(self) -> str:
        channels, height, width = self.shape
        return (
            f"Dataset({self.name!r}, split={self.split!r}, n={len(self)}, "
            f"shape={channels}x{height}x{width}, classes={self.num_classes})"
        )

    def images(self, indices: Any = None) -> np.ndarray:
        """Images as float32 [n, C, H, W] in [0, 1], a new array each time.

        Args:
            indices: positions in this Dataset: integers, a slice or a boolean mask; all if ``None``.

        Cost: encoded images are decoded at most once and kept as uint8.
        """
        return self.pixels.read(self.rows if indices is None else self.rows[positions(indices, len(self))])

    def subset(self, indices: Any) -> Dataset:
        """The samples at some positions, in that order; pixels are shared, not copied."""
        where = positions(indices, len(self))
        return replace(
            self,
            rows=self.rows[where],
            labels=self.labels[where],
            sample_ids=self.sample_ids[where],
            groups=None if self.groups is None else self.groups[where],
        )

    def head(self, n: int) -> Dataset:
        """The first ``n`` samples, or all if there are fewer."""
        if n < 1:
            raise DataError(f"head({n}) would be empty; at least 1 sample is needed.")
        return self.subset(slice(0, n))

    @cached_property
    def digest(self) -> str:
        """Hash of the stored pixels, labels, classes and groups of these samples; not of names or paths."""
        state = hashlib.blake2b(digest_size=16)
        for piece in self.pixels.content(self.rows):
            add_piece(state, piece)
        add_piece(state, self.labels.astype("<i8").tobytes())
        strata = None if self.groups is None else self.groups.tolist()
        add_piece(state, json.dumps([self.class_names, strata]).encode())
        return state.hexdigest()

    @cached_property
    def sample_id_digest(self) -> str:
        """Hash of which rows of the source these samples are, and in which order."""
        return hashlib.blake2b(self.sample_ids.astype("<i8").tobytes(), digest_size=16).hexdigest()

    def describe(self) -> dict[str, Any]:
        """What a run record says of the data; plain JSON values, the folder left out."""
        return {
            "name": self.name,
            "source": PurePath(self.source).name or self.name,
            "split": self.split,
            "n": len(self),
            "shape": list(self.shape),
            "classes": list(self.class_names),
            "groups": None if self.groups is None else sorted(set(self.groups.tolist())),
            "digest": self.digest,
            "sample_id_digest": self.sample_id_digest,
            "notes": list(self.notes),
        }


def positions(indices: Any, length: int) -> np.ndarray:
    """What a caller gives for samples (integers, a slice, a boolean mask) as int64 positions below ``length``."""
    if isinstance(indices, slice):
        return np.arange(length)[indices]
    array = np.asarray(indices)
    if array.dtype == bool and array.shape == (length,):
        return np.flatnonzero(array)
    if array.size == 0 and array.ndim == 1:
        return np.empty(0, dtype=np.int64)
    if array.ndim != 1 or array.dtype.kind not in "ui":
        raise DataError(
            f"Indices of shape {array.shape} and type {array.dtype}; integers [n] or a mask [N] are needed."
        )
    if array.min() < 0 or array.max() >= length:
        raise DataError(
            f"Indices run from {array.min()} to {array.max()}; this Dataset has positions 0 to {length - 1}."
        )
    return array.astype(np.int64)


def add_piece(state: Any, piece: bytes) -> None:
    """Add a piece and its length to a hash, so that pieces cannot run into each other."""
    state.update(len(piece).to_bytes(8, "little"))
    state.update(piece)
