"""Figures of certificates: accuracy against radius, and radius against the sharpness of the model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from ..core.probes import Figure, Series

if TYPE_CHECKING:
    from .certificates import Certificates

POINTS = 60


def curve(found: Certificates, radii: tuple[float, ...]) -> Figure:
    """Certified accuracy against radius; at the asked radii alone where counting stopped once they were decided."""
    asked = sorted({0.0, *radii})
    if not found.radii:
        asked = sorted({*asked, *np.linspace(0, max(float(found.radius.max()), asked[-1]), POINTS).tolist()})
    rates = [found.certified_accuracy(radius) for radius in asked]
    return Figure(
        name="certified-accuracy",
        title="Certified accuracy",
        caption=f"Share of {len(found)} samples that the smoothed model (sigma {found.sigma:g}) answers rightly, with "
        "a proof that no change of this Euclidean length alters the answer. Bands are 95 % Clopper-Pearson "
        f"intervals over samples; each proof fails with probability at most {found.alpha:g}.",
        kind="line",
        x_label="radius (L2 norm, raw input units)",
        y_label="share certified",
        series=(
            Series(
                label=f"sigma {found.sigma:g}",
                x=tuple(asked),
                y=tuple(rate.value for rate in rates),
                lo=tuple(rate.lo for rate in rates),
                hi=tuple(rate.hi for rate in rates),
            ),
        ),
        y_limits=(0.0, 1.0),
    )


def scatters(found: Certificates, local: Mapping[str, np.ndarray], words: Mapping[str, str]) -> list[Figure]:
    """Certified radius of each sample against each local measure."""
    return [_scatter(found, name, local[name], words[name]) for name in words if name in local]


def _scatter(found: Certificates, name: str, values: np.ndarray, words: str) -> Figure:
    known = np.isfinite(values)
    early = " Counting stopped once the radii asked for were decided: many points lie just above one." * bool(
        found.radii
    )
    groups = {"answered rightly": known & found.correct, "wrong or no answer": known & ~found.correct}
    return Figure(
        name=f"radius-{name.replace('_', '-')}",
        title=f"Radius and {words}",
        caption=f"One point a sample, n = {int(known.sum())}. Where the model changes sharply near an input, little "
        f"can be proved there; samples without an answer have radius 0.{early}",
        kind="scatter",
        x_label=words,
        y_label="certified radius (L2 norm)",
        series=tuple(
            Series(label=label, x=tuple(values[rows].tolist()), y=tuple(found.radius[rows].tolist()))
            for label, rows in groups.items()
            if rows.any()
        ),
        x_scale="log" if known.any() and bool((values[known] > 0).all()) else "linear",
    )
