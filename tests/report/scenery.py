"""Small panels and matrices for the tests of the report."""

from __future__ import annotations

import math

import numpy as np

from assay.core.pictures import (
    colour_depth,
    colour_mask,
    depth_scale,
    magnified_change,
    mark_changes,
    mark_depth_changes,
    mask_legend,
)
from assay.core.probes import Column, Figure, Measurement, PanelRow, Panels, Series

NAMES = ("sky", "floor", "wall", "box", "ball")
COLUMNS = (
    Column(name="classification: accuracy", unit="share", direction="higher"),
    Column(name="segmentation: mean IoU", unit="share", direction="higher"),
    Column(name="depth: RMSE", unit="m", direction="lower"),
    Column(name="embedding: cosine distance", direction="lower"),
)


def scene(seed: int, side: int = 48) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Image [3, H, W], classes [H, W] and depth [H, W] of a made-up scene."""
    generator = np.random.default_rng(seed)
    down, across = np.mgrid[:side, :side] / side
    ids = np.where(down < 0.3, 0, np.where(down < 0.55, 2, 1))
    depth = np.where(down < 0.3, 0, np.where(down < 0.55, 9, 3 / (down + 0.01)))
    for kind in (3, 4):
        y, x, radius = generator.uniform((0.4, 0.1, 0.1), (0.9, 0.9, 0.2))
        inside = (down - y) ** 2 + (across - x) ** 2 < radius**2
        ids[inside], depth[inside] = kind, generator.uniform(1, 5)
    ids[:, :2] = 255
    image = np.stack([0.3 + 0.5 * np.sin(ids + channel) ** 2 for channel in range(3)])
    return image * (0.8 + 0.2 * generator.random((side, side))), ids, depth


def panels(caption: str = "attacked at the output, L∞ 4/255", rows: int = 2) -> list[Panels]:
    """One set with masks and one with depth maps."""
    masks, depths = [], []
    legend: tuple[tuple[str, str], ...] = ()
    for seed in range(rows):
        image, ids, depth = scene(seed)
        attacked = np.clip(image + 4 / 255 * np.random.default_rng(seed).choice([-1, 1], image.shape), 0, 1)
        wrong = np.where(image[0] > 0.6, np.roll(ids, 7, 0), ids)
        changed, further = mark_changes(ids, wrong, image), mark_depth_changes(depth, np.roll(depth, 9, 0), image)
        legend = (*mask_legend([ids, wrong], NAMES), *changed.legend)
        pictures = [colour_mask(one, NAMES).picture for one in (ids, wrong)]
        masks.append(PanelRow(caption=caption, pictures=[image, attacked, *pictures, changed.picture]))
        pictures = [colour_depth(one, 1, 9) for one in (depth, np.roll(depth, 9, 0))]
        change = magnified_change(image, attacked)[0]
        depths.append(PanelRow(caption=caption, pictures=[image, change, None, *pictures, further.picture]))
    return [
        Panels(
            title="Masks before and after",
            caption=caption,
            columns=("image", "attacked image", "true mask", "attacked prediction", "what changed"),
            rows=masks,
            legend=legend,
        ),
        Panels(
            title="Depth before and after",
            caption=caption,
            columns=("image", "change", "nothing", "true depth", "attacked prediction", "what changed"),
            rows=depths,
            legend=further.legend,
            scale=depth_scale(1, 9),
        ),
    ]


def matrix(name: str = "matrix", strength: float = 1.0, **changes: object) -> Figure:
    """Two encoders under three attacks on four tasks; one task was not attacked at its own output."""
    series = []
    for encoder, quality in (("vit-micro", 0.8), ("vit-micro-deacl", 0.7)):
        for index, attack in enumerate(("clean", "embedding attack", "output attack")):
            left = max(0.05, 1 - 0.4 * strength * index)
            values = (quality * left, 0.6 * left, 0.5 / left, math.nan if index == 2 else 0.3 * index)
            series.append(
                Series(
                    label=f"{encoder} · {attack}",
                    x=tuple(column.name for column in COLUMNS),
                    y=values,
                    lo=tuple(0.9 * value for value in values),
                    hi=tuple(1.1 * value for value in values),
                )
            )
    values = {
        "name": name,
        "title": "What attacks leave of every task",
        "caption": "At L∞ 4/255, 200 samples and 3 heads.",
        "kind": "matrix",
        "x_label": "task and metric",
        "y_label": "encoder and attack",
        "series": tuple(series),
        "columns": COLUMNS,
    }
    return Figure(**{**values, **changes})  # type: ignore[arg-type]


def cross_task() -> Measurement:
    """A measurement with a matrix, the same over growing budgets, and panels."""
    growing = [matrix(f"growing-{step}", step / 2, sequence="growing", moment=f"L∞ {2**step}/255") for step in (1, 2)]
    return Measurement(figures=[matrix(), *growing], panels=panels())
