"""Data: readers that turn files into a Dataset of images in [0, 1] with labels. Never imports torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..core.lazy import lazy

if TYPE_CHECKING:
    from .dataset import Dataset
    from .dense.dataset import DenseDataset
    from .dense.load import load_dense, load_images
    from .load import load_data

__all__ = ["Dataset", "DenseDataset", "load_data", "load_dense", "load_images"]

__getattr__, __dir__ = lazy(
    __name__,
    {
        "Dataset": ".dataset",
        "DenseDataset": ".dense.dataset",
        "load_data": ".load",
        "load_dense": ".dense.load",
        "load_images": ".dense.load",
    },
)
