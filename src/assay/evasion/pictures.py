"""Galleries of adversarial examples: what was changed, and what the model said before and after."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..core.probes import Gallery
from ..subjects.examination import Examination

SHOWN = 12


def gallery(
    examination: Examination,
    rows: Sequence[int],
    adversarial: Tensor,
    distances: Sequence[float],
    norm: str,
    *,
    title: str,
    caption: str,
) -> Gallery | None:
    """The given rows with their adversarial versions; None if there are none or the inputs are not images.

    Args:
        rows: which samples, most telling first; at most twelve are shown.
        adversarial: adversarial inputs of all samples [N, C, H, W].
        distances: perturbation norm of all samples.
        norm: its name.
    """
    rows = list(rows)[:SHOWN]
    if not rows or adversarial.ndim != 4 or adversarial.shape[1] not in (1, 3):
        return None
    low, high = examination.target.bounds
    before = examination.predictions()[rows].softmax(1)
    after = examination.target.predict(adversarial[rows], batch_size=examination.batch_size).softmax(1)
    names = examination.data.class_names
    captions = [
        {
            "sample_id": examination.sample_ids[row],
            "label": _name(names, int(examination.labels[row])),
            "before": _name(names, int(before[place].argmax())),
            "before_confidence": float(before[place].max()),
            "after": _name(names, int(after[place].argmax())),
            "after_confidence": float(after[place].max()),
            "distance": float(distances[row]),
            "norm": norm,
        }
        for place, row in enumerate(rows)
    ]
    original = (examination.images[rows] - low) / (high - low)
    changed = (adversarial[rows].cpu() - low) / (high - low)
    return Gallery(
        title=title,
        caption=caption,
        original=original.to(torch.float32).numpy(),
        changed=changed.to(torch.float32).numpy(),
        captions=captions,
    )


def _name(names: Sequence[str], index: int) -> str:
    return names[index] if index < len(names) else str(index)
