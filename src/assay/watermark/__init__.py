"""Watermark: mark the text of a language model, and tell marked text from any other."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..core.lazy import lazy

if TYPE_CHECKING:
    from .detection import Detection
    from .hashing import hash_int
    from .seeding import prf
    from .settings import WatermarkSettings, WatermarkWarning
    from .several import detect_several
    from .watermark import Watermark

METHODS: tuple[str, ...] = (
    "rates",
    "attacked",
    "null",
    "schemes.kgw",
    "schemes.huggingface",
    "schemes.unigram",
    "schemes.philox",
    "schemes.gumbel",
    "edits.substitute",
    "edits.insert",
    "edits.delete",
    "edits.swap",
    "edits.copy_paste",
    "edits.truncate",
    "edits.case",
    "edits.homoglyph",
    "edits.zero_width",
    "edits.retokenise",
)

__all__ = [
    "METHODS",
    "Detection",
    "Watermark",
    "WatermarkSettings",
    "WatermarkWarning",
    "detect_several",
    "hash_int",
    "prf",
]

__getattr__, __dir__ = lazy(
    __name__,
    {
        "Detection": ".detection",
        "Watermark": ".watermark",
        "WatermarkSettings": ".settings",
        "WatermarkWarning": ".settings",
        "detect_several": ".several",
        "hash_int": ".hashing",
        "prf": ".seeding",
    },
)
