"""From a detection to text with a mark on every token."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from ..core.passages import GREEN, NONE, RED, REPEAT, Passage

if TYPE_CHECKING:
    from .detection import Detection


def token_marks(detection: Detection, length: int) -> list[str]:
    """The mark of every token of a text.

    Tokens before the first whole n-gram are not counted, n-grams that were counted before are repeats, and of
    exponential scores those above their median under the null are green.

    Args:
        detection: of the text.
        length: tokens in the text.

    Returns:
        ``"green"``, ``"red"``, ``"repeat"`` or ``"none"`` for each token.
    """
    marks = np.full(length, NONE, dtype=object)
    hits = np.asarray(detection.mask, dtype=bool)
    colours = np.where(hits, GREEN, RED)
    colours = np.where(np.asarray(detection.counted, dtype=bool), colours, REPEAT)
    marks[detection.offset : detection.offset + len(colours)] = colours
    return [str(mark) for mark in marks]


def passage(
    detection: Detection, pieces: Sequence[str], caption: str, *, span: tuple[int, int] | None = None
) -> Passage:
    """A text with a mark on every token, for a run or a page.

    Args:
        detection: of the text.
        pieces: text of every token.
        caption: what is said about it.
        span: first token and the one after the last of a part to outline.
    """
    return Passage(caption=caption, pieces=tuple(pieces), marks=tuple(token_marks(detection, len(pieces))), span=span)
