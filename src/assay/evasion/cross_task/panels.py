"""Pictures of a cross-task measurement: images, what the first head says of them, and what an attack changes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ...core.budgets import NORM_SYMBOLS, budget_text
from ...core.pictures import (
    colour_depth,
    colour_mask,
    depth_ends,
    depth_scale,
    magnified_change,
    mark_changes,
    mark_depth_changes,
)
from ...core.probes import ColourScale, PanelRow, Panels
from ...subjects.dense_tasks import Depth, Segmentation
from ...subjects.tasks import Classification

if TYPE_CHECKING:
    from .cells import Cell, Cells

Picture = np.ndarray | None
Legend = list[tuple[str, str]]


def panels(cells: Cells, clean: Cell, attacked: Cell, norm: str) -> Panels:
    """A row an image, before and after one attack.

    Args:
        cells: the images and references of the task.
        clean: the cell without an adversary.
        attacked: the cell of the attack.
        norm: of its budget.
    """
    task = cells.bench.heads[0].task
    budget = f"{NORM_SYMBOLS[norm]} {budget_text(attacked.eps)}"
    low, high = cells.bench.heads[0].bounds
    before, after = ((images - low) / (high - low) for images in (clean.images, attacked.images))
    changes = [magnified_change(one, other) for one, other in zip(before, after, strict=True)]
    where = "the embedding" if attacked.space == "embedding" else f"the {task.name} output"
    legend: Legend = []
    scale: ColourScale | None = None
    middle: tuple[str, ...] = ()
    rows: list[list[Picture]] = [[one, other] for one, other in zip(before, after, strict=True)]
    if isinstance(task, Segmentation):
        middle = ("true mask", "prediction", "prediction under attack", "what changed")
        for row, pictures in enumerate(rows):
            pictures += _masks(cells, task, clean, attacked, row, before[row], legend)
    elif isinstance(task, Depth):
        middle = ("true depth", "prediction", "prediction under attack", "what changed")
        truths = [_truth(cells, row) for row in range(len(rows))]
        ends = depth_ends(*truths, *clean.answers)
        scale = depth_scale(*ends)
        for row, pictures in enumerate(rows):
            marked = mark_depth_changes(clean.answers[row], attacked.answers[row], before[row])
            legend += marked.legend
            pictures += [colour_depth(one, *ends) for one in (truths[row], clean.answers[row], attacked.answers[row])]
            pictures.append(marked.picture)
    for pictures, (change, _) in zip(rows, changes, strict=True):
        pictures.append(change)
    return Panels(
        title=f"{task.name.capitalize()} under an attack on {where}, {budget}",
        caption=f"Attack {attacked.attack} at {budget}; images are chosen evenly from the data, not by their outcome. "
        "The last column shows the change of the image, magnified.",
        columns=("image", "attacked image", *middle, "change of the image"),
        rows=[
            PanelRow(caption=_caption(cells, clean, attacked, row, factor), pictures=rows[row])
            for row, (_, factor) in enumerate(changes)
        ],
        legend=tuple(legend),
        scale=scale,
    )


def _masks(
    cells: Cells, task: Segmentation, clean: Cell, attacked: Cell, row: int, image: np.ndarray, legend: Legend
) -> list[Picture]:
    names, ignored = cells.bench.class_names, task.ignore_index
    pictures: list[Picture] = []
    for ids in (_truth(cells, row), clean.answers[row], attacked.answers[row]):
        coloured = colour_mask(ids, names, ignore_index=ignored)
        legend += coloured.legend
        pictures.append(coloured.picture)
    marked = mark_changes(clean.answers[row], attacked.answers[row], image)
    legend += marked.legend
    return [*pictures, marked.picture]


def _truth(cells: Cells, row: int) -> np.ndarray:
    truth: np.ndarray = cells.references[cells.shown[row]].numpy()
    return truth


def _caption(cells: Cells, clean: Cell, attacked: Cell, row: int, factor: int) -> str:
    """Sample, how bad its answers are before and after, and for classes what they are."""
    place = int(cells.shown[row])
    task = cells.bench.heads[0].task
    words = f"sample {cells.sample_ids[place]}: "
    before, after = (float(cells.yardstick.badness(cell.sums[0, place])) for cell in (clean, attacked))
    if isinstance(task, Classification):
        names = cells.bench.class_names
        label, one, other = (
            _name(names, int(index))
            for index in (_truth(cells, row), clean.answers[row].argmax(), attacked.answers[row].argmax())
        )
        words += f"{label}; taken for {one} before and {other} after the attack"
    elif isinstance(task, Segmentation):
        words += f"{100 * (1 - before):.0f} % of the pixels right before and {100 * (1 - after):.0f} % after the attack"
    elif isinstance(task, Depth):
        words += f"RMSE {before**0.5:.3g} m before and {after**0.5:.3g} m after the attack"
    else:
        words += f"cosine distance {after:.3g} of the embeddings before and after the attack"
    return f"{words}; change of the image times {factor}."


def _name(names: object, index: int) -> str:
    if isinstance(names, (list, tuple)) and index < len(names):
        return str(names[index])
    return f"class {index}"
