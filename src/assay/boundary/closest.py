"""Interim: replaced by the search's author."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ..core.probes import Cost, Finding
from ..core.progress import Progress
from ..search.closest import closest_points
from ..subjects.target import Target
from .margin import soft_margin


@dataclass
class BoundaryPoints:
    points: Tensor
    distance: Tensor
    signed_margin: Tensor
    found: Tensor
    residual: Tensor
    correct: Tensor
    clean_value: Tensor
    slope: Tensor
    alignment: Tensor
    cost: Cost
    findings: list[Finding] = field(default_factory=list)


def closest_boundary_points(
    target: Target,
    images: Tensor,
    labels: Tensor,
    norm: str = "linf",
    temperature: float = 5.0,
    steps: int = 20,
    seed: int = 0,
    *,
    batch_size: int = 256,
    sample_ids: Sequence[int] | None = None,
    progress: Progress | None = None,
) -> BoundaryPoints:
    started = time.perf_counter()
    images = target.check_images(images)
    labels = target.check_labels(labels, len(images))
    copy = target.search_copy()

    def phi(logits: Tensor, labels: Tensor) -> Tensor:
        return soft_margin(logits, labels, temperature)

    logits = target.predict(images)
    clean = phi(logits, labels)
    parts = [
        closest_points(copy, phi, x, y, norm=norm, bounds=target.bounds, steps=steps)
        for x, y in zip(images.split(batch_size), labels.split(batch_size), strict=True)
    ]
    points, distance, found, _, slope, alignment = (
        torch.cat([getattr(p, n) for p in parts])
        for n in ("points", "distance", "found", "value", "slope", "alignment")
    )
    points = torch.where(found.reshape(-1, *[1] * (points.ndim - 1)), points, images)
    residual = torch.where(found, phi(target.predict(points), labels).abs(), torch.inf)
    return BoundaryPoints(
        points,
        distance,
        torch.where(clean < 0, -distance, distance),
        found,
        residual,
        logits.argmax(1) == labels,
        clean,
        slope,
        alignment,
        Cost(
            seconds=time.perf_counter() - started,
            forward=copy.forward_passes + 2 * len(images),
            backward=copy.backward_passes,
        ),
        list(target.findings),
    )
