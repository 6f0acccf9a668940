"""Pictures of a run as data URIs: the original, what became of it, and the difference made visible."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from ..core.probes import Gallery

LARGEST_SIDE = 256
STEPS = (1, 2, 5)


@dataclass(frozen=True)
class Exhibit:
    """One row of a gallery: three pictures as data URIs, and what is said beside them."""

    original: str
    changed: str
    difference: str
    magnification: int
    caption: dict[str, Any]


def exhibits(gallery: Gallery) -> list[Exhibit]:
    """Every pair of a gallery, ready for the page.

    The difference is drawn as mid grey plus the change times a whole
    magnification, so grey is "unchanged", brighter is "raised", darker "lowered".
    """
    result = []
    for index in range(len(gallery.original)):
        before, after = (np.nan_to_num(side[index].astype(np.float32)) for side in (gallery.original, gallery.changed))
        change = after - before
        factor = magnification(change)
        caption = gallery.captions[index] if index < len(gallery.captions) else {}
        shown = 0.5 + factor * change
        result.append(Exhibit(data_uri(before), data_uri(after), data_uri(shown), factor, dict(caption)))
    return result


def magnification(change: np.ndarray) -> int:
    """The largest of 1, 2, 5, 10, 20, 50 ... that keeps the largest change within half the range.

    >>> magnification(np.array([0.03, -0.01])), magnification(np.zeros(3))
    (10, 1)
    """
    largest = float(np.abs(change).max(initial=0.0))
    if largest < 1e-9:
        return 1
    candidates = [step * 10**power for power in range(9) for step in STEPS]
    return max([factor for factor in candidates if factor * largest <= 0.5 + 1e-6], default=1)


def data_uri(pixels: np.ndarray) -> str:
    """``pixels [C, H, W]`` in [0, 1] as ``data:image/png``; one pixel stays one pixel up to 256 a side.

    One and three channels are drawn as they are, any other number by its mean.
    """
    levels = np.rint(np.clip(pixels, 0.0, 1.0) * 255).astype(np.uint8)
    if levels.shape[0] == 3:
        picture = Image.fromarray(np.ascontiguousarray(levels.transpose(1, 2, 0)))
    else:
        flat = levels[0] if levels.shape[0] == 1 else np.rint(levels.mean(axis=0)).astype(np.uint8)
        picture = Image.fromarray(np.ascontiguousarray(flat))
    if max(picture.size) > LARGEST_SIDE:
        picture.thumbnail((LARGEST_SIDE, LARGEST_SIDE))
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
