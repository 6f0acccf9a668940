"""Data: readers that turn files into a Dataset of images in [0, 1] with labels. Never imports torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..core.lazy import lazy

if TYPE_CHECKING:
    from .dataset import Dataset
    from .load import load_data

__all__ = ["Dataset", "load_data"]

__getattr__, __dir__ = lazy(__name__, {"Dataset": ".dataset", "load_data": ".load"})
