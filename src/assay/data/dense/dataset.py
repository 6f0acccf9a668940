"""DenseDataset: images with masks, depth maps and labels, those of them that there are."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import PurePath
from typing import Any

import numpy as np

from ...core.errors import DataError
from ..dataset import Dataset, add_piece, positions
from ..pixels import Pixels
from .maps import Maps

TASKS = ("classification", "segmentation", "depth")
UNLABELLED = "unlabelled"


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class DenseDataset:
    """Images for tasks beyond classification. A subset shares what the whole holds.

    Args:
        name: a short name, such as ``"camvid"``.
        source: where it came from, as given by the caller.
        split: ``"train"``, ``"validation"``, ``"test"`` or ``"all"``.
        pixels: the store of images, shared by all subsets.
        rows: int64 [N], the row of each sample in the stores.
        sample_ids: int64 [N], the row number of each sample in the source.
        mask_store: class ids of the pixels, or ``None``.
        depth_store: depth of the pixels in metres, or ``None``.
        labels: int64 [N], a class for each image, or ``None``.
        names: for classification and segmentation, those that there are, a name for each class.
        ignore_index: id of the mask pixels that count neither way, or ``None``.
        notes: plain sentences on what was done to the data on the way in.
    """

    name: str
    source: str
    split: str
    pixels: Pixels
    rows: np.ndarray
    sample_ids: np.ndarray
    mask_store: Maps | None = None
    depth_store: Maps | None = None
    labels: np.ndarray | None = None
    names: dict[str, tuple[str, ...]] = field(default_factory=dict)
    ignore_index: int | None = 255
    notes: tuple[str, ...] = ()

    @classmethod
    def from_arrays(
        cls,
        images: Any,
        *,
        masks: Any = None,
        depths: Any = None,
        labels: Any = None,
        num_classes: int | None = None,
        class_names: tuple[str, ...] | None = None,
        ignore_index: int | None = 255,
        depth_scale: float = 1000.0,
        max_depth: float | None = None,
        name: str = "arrays",
        layout: str | None = None,
    ) -> DenseDataset:
        """Dense data from arrays in memory, with the same checks as data from files.

        Args:
            images: [N, H, W], [N, H, W, C] or [N, C, H, W]; uint8, or floats in [0, 1].
            masks: [N, H, W], a class id for each pixel.
            depths: [N, H, W], metres as floats, or whole numbers of which ``depth_scale`` make a metre.
            labels: [N], integers 0..K-1 or class names.

        The others are as for ``load_dense``.

        Raises:
            DataError: arrays that cannot be used or do not belong together; the message says how to repair them.

        >>> data = DenseDataset.from_arrays(np.zeros((2, 4, 6, 3), np.uint8), depths=np.ones((2, 4, 6)))
        >>> data.tasks, data.shape
        (('depth',), (3, 4, 6))
        """
        from .build import arrays
        from .request import DenseRequest

        request = DenseRequest(
            num_classes=num_classes,
            class_names=None if class_names is None else tuple(class_names),
            ignore_index=ignore_index,
            depth_scale=depth_scale,
            max_depth=max_depth,
            layout=layout,
        )
        return arrays(images, masks, depths, labels, request, name)

    @classmethod
    def from_dataset(cls, data: Dataset) -> DenseDataset:
        """A labelled Dataset as data of which only the task classification is known."""
        return cls(
            name=data.name,
            source=data.source,
            split=data.split,
            pixels=data.pixels,
            rows=data.rows,
            sample_ids=data.sample_ids,
            labels=data.labels,
            names={"classification": data.class_names},
            notes=data.notes,
        )

    @property
    def shape(self) -> tuple[int, int, int]:
        """(channels, height, width) of every image."""
        return self.pixels.shape

    @property
    def tasks(self) -> tuple[str, ...]:
        """Of classification, segmentation and depth, those there are references for."""
        held = (self.labels, self.mask_store, self.depth_store)
        return tuple(task for task, part in zip(TASKS, held, strict=True) if part is not None)

    def __len__(self) -> int:
        return len(self.rows)

    def __repr__(self) -> str:
        channels, height, width = self.shape
        return (
            f"DenseDataset({self.name!r}, split={self.split!r}, n={len(self)}, "
            f"shape={channels}x{height}x{width}, tasks={', '.join(self.tasks) or 'none'})"
        )

    def images(self, indices: Any = None) -> np.ndarray:
        """Images as float32 [n, C, H, W] in [0, 1], a new array each time; all if ``indices`` is ``None``."""
        return self.pixels.read(self._rows(indices))

    def masks(self, indices: Any = None) -> np.ndarray:
        """Class ids as int64 [n, H, W]; pixels that do not count are ``ignore_index``."""
        return self._store("segmentation").read(self._rows(indices))

    def depths(self, indices: Any = None) -> np.ndarray:
        """Depths in metres as float32 [n, H, W]; pixels without a measurement are 0."""
        return self._store("depth").read(self._rows(indices))

    def references(self, task: str, indices: Any = None) -> np.ndarray:
        """Labels [n], masks or depths, by the name of a task."""
        if task == "segmentation":
            return self.masks(indices)
        if task == "depth":
            return self.depths(indices)
        self._require(task)
        assert self.labels is not None
        return self.labels if indices is None else self.labels[positions(indices, len(self))]

    def class_names(self, task: str) -> tuple[str, ...]:
        """Names of the classes of classification or segmentation."""
        self._require(task)
        if task not in self.names:
            raise DataError(f"The task {task!r} has no classes; classification and segmentation have.")
        return self.names[task]

    def num_classes(self, task: str) -> int:
        """Number of classes of classification or segmentation, whether or not each occurs here."""
        return len(self.class_names(task))

    def subset(self, indices: Any) -> DenseDataset:
        """The samples at some positions, in that order; what the stores hold is shared, not copied."""
        where = positions(indices, len(self))
        return replace(
            self,
            rows=self.rows[where],
            sample_ids=self.sample_ids[where],
            labels=None if self.labels is None else self.labels[where],
        )

    def head(self, n: int) -> DenseDataset:
        """The first ``n`` samples, or all if there are fewer."""
        if n < 1:
            raise DataError(f"head({n}) would be empty; at least 1 sample is needed.")
        return self.subset(slice(0, n))

    def dataset(self) -> Dataset:
        """The images as a Dataset: with their labels, or all of one class ``"unlabelled"``."""
        labels = np.zeros(len(self), dtype=np.int64) if self.labels is None else self.labels
        return Dataset(
            name=self.name,
            source=self.source,
            split=self.split,
            pixels=self.pixels,
            rows=self.rows,
            labels=labels,
            class_names=self.names.get("classification", (UNLABELLED,)),
            sample_ids=self.sample_ids,
            notes=self.notes,
        )

    @cached_property
    def digest(self) -> str:
        """Hash of the images, masks, depths, labels and classes of these samples; not of names or paths."""
        state = hashlib.blake2b(digest_size=16)
        for store in (self.pixels, self.mask_store, self.depth_store):
            for piece in () if store is None else store.content(self.rows):
                add_piece(state, piece)
        if self.labels is not None:
            add_piece(state, self.labels.astype("<i8").tobytes())
        add_piece(state, json.dumps([self.tasks, self.names, self.ignore_index], sort_keys=True).encode())
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
            "tasks": list(self.tasks),
            "classes": {task: list(names) for task, names in self.names.items()},
            "ignore_index": self.ignore_index if "segmentation" in self.tasks else None,
            "digest": self.digest,
            "sample_id_digest": self.sample_id_digest,
            "notes": list(self.notes),
        }

    def _rows(self, indices: Any) -> np.ndarray:
        return self.rows if indices is None else self.rows[positions(indices, len(self))]

    def _store(self, task: str) -> Maps:
        self._require(task)
        store = self.mask_store if task == "segmentation" else self.depth_store
        assert store is not None
        return store

    def _require(self, task: str) -> None:
        if task not in self.tasks:
            held = ", ".join(self.tasks) or "images"
            raise DataError(
                f"The data {self.name!r} have nothing for the task {task!r}; they have {held} only. Choose one of "
                "these, or data with masks (segmentation), depth maps (depth) or labels (classification)."
            )
