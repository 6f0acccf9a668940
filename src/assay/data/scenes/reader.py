"""The built-in scenes as data: rendered when first read, each at most once, and kept as bytes."""

from __future__ import annotations

from collections.abc import Iterator
from weakref import WeakValueDictionary

import numpy as np

from ...core.errors import DataError
from ..dataset import Dataset
from ..dense.dataset import DenseDataset
from ..dense.request import KEYS, DenseRequest
from ..pixels import unit_float
from ..request import Request, choose_split
from .layout import KINDS, draw, main_shape
from .render import CLASSES, FARTHEST, Picture, render

VERSION = 2
ROOT = 0
SIZE = 64
SPLITS = {"train": (0, 2000), "test": (2000, 2500), "all": (0, 2500)}


class SceneStore:
    """All scenes at one resolution: the row of a scene is its index, and it depends on nothing else.

    Args:
        size: (height, width) of the pictures.

    Cost: about 2 ms a scene of 64x64 pixels, when it is first read.
    """

    notes: tuple[str, ...] = (
        "Scenes were rendered; depth is the distance along the camera's axis in metres, "
        f"0 for the sky and beyond {FARTHEST:g} m.",
    )

    def __init__(self, size: tuple[int, int]) -> None:
        self.shape = (3, *size)
        self._pictures: dict[int, Picture] = {}

    def __len__(self) -> int:
        return SPLITS["all"][1]

    def read(self, rows: np.ndarray) -> np.ndarray:
        return unit_float(self.gather(rows, "image"))

    def gather(self, rows: np.ndarray, part: str) -> np.ndarray:
        """The images, masks or depths of some scenes, as they were rendered: [n, ...]."""
        _, height, width = self.shape
        shape, kind = {
            "image": (self.shape, np.uint8),
            "mask": (self.shape[1:], np.uint8),
            "depth": (self.shape[1:], np.float32),
        }[part]
        values = np.empty((len(rows), *shape), dtype=kind)
        for place, row in enumerate(rows.tolist()):
            if row not in self._pictures:
                self._pictures[row] = render(draw(ROOT, row), height, width)
            values[place] = getattr(self._pictures[row], part)
        return values

    def content(self, rows: np.ndarray) -> Iterator[bytes]:
        yield f"scenes {VERSION} {ROOT} {self.shape}".encode()
        yield rows.astype("<i8").tobytes()


_STORES: WeakValueDictionary[tuple[int, int], SceneStore] = WeakValueDictionary()


def store_of(size: tuple[int, int]) -> SceneStore:
    """The store of a resolution, shared by all data that are in use, so that no scene is rendered twice."""
    store = _STORES.get(size)
    if store is None:
        store = _STORES[size] = SceneStore(size)
    return store


class SceneMaps:
    """The masks or the depths of a SceneStore.

    Args:
        store: where the scenes are rendered.
        kind: ``"mask"`` or ``"depth"``.
        most: depths beyond it do not count.
    """

    def __init__(self, store: SceneStore, kind: str, most: float | None = None) -> None:
        self.store = store
        self.kind = kind
        self.most = np.inf if most is None else most
        self.shape: tuple[int, int] = (store.shape[1], store.shape[2])

    def read(self, rows: np.ndarray) -> np.ndarray:
        if self.kind == "mask":
            return self.store.gather(rows, "mask").astype(np.int64)
        depths = self.store.gather(rows, "depth")
        return np.where(depths <= self.most, depths, np.float32(0))

    def content(self, rows: np.ndarray) -> Iterator[bytes]:
        yield f"{self.kind} {self.most}".encode()
        yield from self.store.content(rows)


def read(request: DenseRequest) -> DenseDataset:
    """The scenes of a split: 2000 ``"train"``, 500 ``"test"`` (default); 64x64 pixels unless told otherwise."""
    where = "the built-in scenes"
    request.refuse(where, "they are not read from files", *KEYS, "layout")
    request.refuse(where, f"they have the {len(CLASSES)} classes {', '.join(CLASSES)}", "num_classes", "class_names")
    if request.ignore_index is not None and request.ignore_index < len(CLASSES):
        raise DataError(
            f"ignore_index is {request.ignore_index}, which is a class of {where} (0 to {len(CLASSES) - 1}). "
            "Leave it out: every pixel of a scene has a class."
        )
    split = choose_split(tuple(SPLITS), request.split, where)
    first, end = SPLITS[split]
    indices = first + request.rows(end - first)
    store = store_of(request.size or (SIZE, SIZE))
    return DenseDataset(
        name="scenes",
        source="scenes",
        split=split,
        pixels=store,
        rows=indices,
        sample_ids=indices,
        mask_store=SceneMaps(store, "mask"),
        depth_store=SceneMaps(store, "depth", request.max_depth),
        labels=np.array([KINDS.index(main_shape(ROOT, index)) for index in indices.tolist()], dtype=np.int64),
        names={"classification": KINDS, "segmentation": CLASSES},
        ignore_index=request.ignore_index,
        notes=store.notes,
    )


def read_labelled(request: Request) -> Dataset:
    """The scenes with their classes alone, as ``load_data`` hands them on."""
    request.refuse("the built-in scenes", "they are not read from files", "images_key", "labels_key", "group", "layout")
    return read(DenseRequest(split=request.split, limit=request.limit, image_size=request.image_size)).dataset()
