"""load_dense and load_images: from a name or a path to images with masks, depths and labels, or to images alone."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from ..dataset import Dataset
from ..load import load_data, locate
from ..request import shown
from .dataset import DenseDataset
from .request import DenseRequest

SCENES = "scenes"


def load_dense(
    spec: str | os.PathLike[str],
    *,
    split: str | None = None,
    limit: int | None = None,
    image_size: int | tuple[int, int] | None = None,
    images_key: str | None = None,
    masks_key: str | None = None,
    depth_key: str | None = None,
    labels_key: str | None = None,
    num_classes: int | None = None,
    class_names: Sequence[str] | None = None,
    ignore_index: int | None = 255,
    depth_scale: float = 1000.0,
    max_depth: float | None = None,
    layout: str | None = None,
) -> DenseDataset:
    """Read images with masks, depth maps or labels, whichever there are.

    Args:
        spec: ``"scenes"`` (built in), ``"hf:ID"`` or ``"hf:FOLDER"`` (a Hugging Face data set), or a path: a folder
            with ``images`` and ``masks`` or ``depth`` below it (and splits above or below those), .parquet
            with encoded images and masks, an .npz archive, or anything ``load_data`` reads.
        split: ``"train"``, ``"validation"``, ``"test"`` or ``"all"``. Default: test if there is one, else
            validation, else what there is.
        limit: read this many samples only, the first.
        image_size: side, or (height, width): images are resized bilinearly, masks and depths by nearest neighbours.
        images_key: array, column or folder with the images, if not under a usual name.
        masks_key: array, column or folder with the masks.
        depth_key: array, column or folder with the depth maps.
        labels_key: array or column with a class for each image.
        num_classes: classes of the masks. Default: one more than the largest id in all masks of the source.
        class_names: names of the mask classes, in place of ``num_classes``.
        ignore_index: id of mask pixels that count neither way; None: every pixel counts. 0: the classes are
            counted from 1, so ids are lowered by one, and the pixels that do not count become 65535.
        depth_scale: units a metre of depth maps that hold whole numbers (16-bit PNG); floats are metres.
        max_depth: depths beyond it, in metres, do not count.
        layout: ``"NHWC"`` or ``"NCHW"``, for arrays of images whose shape alone does not tell.

    Returns:
        A DenseDataset, whose ``tasks`` say what it has and whose notes say what was done.

    Raises:
        DataError: data that are missing, damaged or do not belong together; the message says what to do.
        MissingExtra: a Hugging Face data set without the package ``datasets``.

    >>> scenes = load_dense("scenes", limit=2)
    >>> scenes.tasks, scenes.masks().shape, scenes.class_names("segmentation")[:3]
    (('classification', 'segmentation', 'depth'), (2, 64, 64), ('floor', 'wall', 'sky'))
    """
    request = DenseRequest(
        split=split,
        limit=limit,
        image_size=image_size,
        images_key=images_key,
        masks_key=masks_key,
        depth_key=depth_key,
        labels_key=labels_key,
        num_classes=num_classes,
        class_names=None if class_names is None else tuple(class_names),
        ignore_index=ignore_index,
        depth_scale=depth_scale,
        max_depth=max_depth,
        layout=layout,
    )
    return read_dense(spec, request)


def load_images(
    spec: str | os.PathLike[str],
    *,
    split: str | None = None,
    limit: int | None = None,
    image_size: int | tuple[int, int] | None = None,
    images_key: str | None = None,
    layout: str | None = None,
) -> Dataset:
    """Read images alone, for training without labels.

    Args:
        spec: anything ``load_data`` or ``load_dense`` reads, or a folder of images.
        split: as for ``load_dense``.
        limit: read this many images only.
        image_size: side, or (height, width), to which encoded images are resized.
        images_key: array, column or folder with the images, if not under a usual name.
        layout: as for ``load_dense``.

    Returns:
        A Dataset; its labels are those of the source where it has some, else all 0, the class ``"unlabelled"``.

    >>> load_images("scenes", limit=3).shape
    (3, 64, 64)
    """
    request = DenseRequest(
        split=split, limit=limit, image_size=image_size, images_key=images_key, layout=layout, bare=True
    )
    return read_dense(spec, request).dataset()


def read_dense(spec: str | os.PathLike[str], request: DenseRequest) -> DenseDataset:
    """What ``load_dense`` and ``load_images`` share: choose the reader."""
    if spec == SCENES:
        from ..scenes import read

        return read(request)
    if isinstance(spec, str) and spec.startswith("hf:"):
        from . import hub

        return hub.read(spec.removeprefix("hf:"), request)
    kind = locate(spec)
    if kind != "npz":
        request.refuse(shown(Path(spec)), "only arrays have a layout", "layout")
    if kind == "folder":
        from . import folder

        found = folder.read(Path(spec), request)
    elif kind == "parquet":
        from . import parquet

        found = parquet.read(Path(spec), request)
    elif kind == "npz":
        from . import npz

        found = npz.read(Path(spec), request)
    else:
        found = None
    return found if found is not None else _labelled(spec, request)


def _labelled(spec: str | os.PathLike[str], request: DenseRequest) -> DenseDataset:
    """Data without masks and depths: whatever ``load_data`` reads."""
    request.refuse(shown(Path(spec)), "it holds no masks and no depth maps", "masks_key", "depth_key")
    data = load_data(
        spec,
        split=request.split,
        limit=request.limit,
        image_size=request.image_size,
        images_key=request.images_key,
        labels_key=request.labels_key,
        layout=request.layout,
    )
    return replace(DenseDataset.from_dataset(data), ignore_index=request.ignore_index)
