"""Galleries of changed samples: what was changed, and what the model said before and after."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..core.probes import Gallery
from .examination import Examination

SHOWN = 12


def gallery(
    examination: Examination,
    rows: Sequence[int],
    changed: Tensor,
    distances: Sequence[float],
    norm: str,
    *,
    title: str,
    caption: str,
    after: Sequence[int] | None = None,
) -> Gallery | None:
    """The given rows with their changed versions; None if there are none or the inputs are not images.

    Args:
        rows: which samples, most telling first; at most twelve are shown.
        changed: changed inputs of all samples [N, C, H, W].
        distances: norm of the change of all samples.
        norm: its name.
        after: the class to name beside each changed input, for all samples; default: what the model answers.
    """
    rows = list(rows)[:SHOWN]
    if not rows or changed.ndim != 4 or changed.shape[1] not in (1, 3):
        return None
    low, high = examination.target.bounds
    before = examination.predictions()[rows].softmax(1)
    then = examination.target.predict(changed[rows], batch_size=examination.batch_size).softmax(1)
    named = then.argmax(1).tolist() if after is None else [int(after[row]) for row in rows]
    names = examination.data.class_names
    captions = [
        {
            "sample_id": examination.sample_ids[row],
            "label": _name(names, int(examination.labels[row])),
            "before": _name(names, int(before[place].argmax())),
            "before_confidence": float(before[place].max()),
            "after": _name(names, named[place]),
            "after_confidence": float(then[place, named[place]]),
            "distance": float(distances[row]),
            "norm": norm,
        }
        for place, row in enumerate(rows)
    ]
    pictures = [(side[rows].cpu() - low) / (high - low) for side in (examination.images, changed)]
    return Gallery(
        title=title,
        caption=caption,
        original=pictures[0].to(torch.float32).numpy(),
        changed=pictures[1].to(torch.float32).numpy(),
        captions=captions,
    )


def _name(names: Sequence[str], index: int) -> str:
    return names[index] if index < len(names) else str(index)
