"""Pictures of a run as data URIs: the original, what became of it, and the difference made visible."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from ..core.pictures import levels, magnified_change
from ..core.probes import Gallery

LARGEST_SIDE = 256


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
        before, after = gallery.original[index], gallery.changed[index]
        caption = gallery.captions[index] if index < len(gallery.captions) else {}
        shown, factor = magnified_change(before, after)
        result.append(Exhibit(data_uri(before), data_uri(after), data_uri(shown), factor, dict(caption)))
    return result


def data_uri(pixels: np.ndarray) -> str:
    """``pixels [C, H, W]`` in [0, 1] as ``data:image/png``; one pixel stays one pixel up to 256 a side.

    One and three channels are drawn as they are, any other number by its mean.
    """
    shown = levels(pixels)
    if shown.shape[0] == 3:
        picture = Image.fromarray(np.ascontiguousarray(shown.transpose(1, 2, 0)))
    else:
        flat = shown[0] if shown.shape[0] == 1 else np.rint(shown.mean(axis=0)).astype(np.uint8)
        picture = Image.fromarray(np.ascontiguousarray(flat))
    if max(picture.size) > LARGEST_SIDE:
        picture.thumbnail((LARGEST_SIDE, LARGEST_SIDE))
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
