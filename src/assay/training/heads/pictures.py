"""Pictures of what a head says of images that it was not trained on."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np

from ...core.pictures import (
    colour_depth,
    colour_mask,
    depth_ends,
    depth_scale,
    mark_changes,
    mark_depth_changes,
)
from ...core.probes import PanelRow, Panels
from ...subjects.dense_tasks import Depth, Segmentation

if TYPE_CHECKING:
    from ...data.dense.dataset import DenseDataset
    from .settings import HeadTask

SHOWN = 4
_CHOICE = "Images are chosen evenly from the data, not by how well they went."


def chosen(rows: np.ndarray) -> np.ndarray:
    """At most four of the images, evenly: int64 [k]."""
    return rows[np.linspace(0, len(rows) - 1, min(SHOWN, len(rows))).round().astype(np.int64)]


def panels(task: HeadTask, data: DenseDataset, rows: np.ndarray, answers: np.ndarray) -> list[Panels]:
    """A row an image: the image, the truth, the answer, and where they differ. None for classification.

    Args:
        task: what for.
        data: the validation data.
        rows: int64 [k], which images.
        answers: of the task for these images, logits [k, K, H, W] or depths [k, H, W].
    """
    if isinstance(task, Segmentation):
        return [_masks(task, data, rows, answers.argmax(1))]
    if isinstance(task, Depth):
        return [_depths(data, rows, answers)]
    return []


def _masks(task: Segmentation, data: DenseDataset, rows: np.ndarray, answers: np.ndarray) -> Panels:
    names, truths = data.class_names("segmentation"), data.masks(rows)
    legend: list[tuple[str, str]] = []
    sheet = []
    for row, image, truth, answer in zip(rows, data.images(rows), truths, answers, strict=True):
        coloured = [colour_mask(ids, names, ignore_index=task.ignore_index) for ids in (truth, answer)]
        counted = np.ones_like(truth, dtype=bool) if task.ignore_index is None else truth != task.ignore_index
        differ = mark_changes(truth, np.where(counted, answer, truth), image)
        legend += [*coloured[0].legend, *coloured[1].legend, ("wrong (striped)", differ.legend[0][1])]
        right = float((answer == truth)[counted].mean())
        caption = f"sample {data.sample_ids[row]}: {100 * right:.0f} % of the pixels right"
        pictures = [image, coloured[0].picture, coloured[1].picture, differ.picture]
        sheet.append(PanelRow(caption=caption, pictures=pictures))
    return _sheet("Masks", ("image", "true mask", "answer", "wrong pixels"), sheet, legend)


def _depths(data: DenseDataset, rows: np.ndarray, answers: np.ndarray) -> Panels:
    truths = data.depths(rows)
    ends = depth_ends(*truths, *answers)
    legend: list[tuple[str, str]] = []
    sheet = []
    for row, image, truth, answer in zip(rows, data.images(rows), truths, answers, strict=True):
        differ = mark_depth_changes(truth, answer, image, tolerance=0.25)
        legend += differ.legend
        valid = truth > 0
        error = float(np.sqrt(np.square(answer - truth)[valid].mean()))
        pictures = [image, colour_depth(truth, *ends), colour_depth(answer, *ends), differ.picture]
        sheet.append(PanelRow(caption=f"sample {data.sample_ids[row]}: RMSE {error:.3g} m", pictures=pictures))
    found = _sheet("Depth", ("image", "true depth", "answer", "error"), sheet, legend)
    found.scale = depth_scale(*ends)
    return found


def _sheet(title: str, columns: tuple[str, ...], rows: list[PanelRow], legend: Iterable[tuple[str, str]]) -> Panels:
    return Panels(
        title=f"{title} on the validation data", caption=_CHOICE, columns=columns, rows=rows, legend=tuple(legend)
    )
