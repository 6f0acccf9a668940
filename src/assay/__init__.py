"""Assay: an assay office for machine-learning models."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .core.lazy import lazy

if TYPE_CHECKING:
    from .core.runs import load_run
    from .data.load import load_data
    from .search.threat import ThreatModel
    from .subjects.dense_tasks import Depth, Embedding, Segmentation
    from .subjects.target import Target
    from .subjects.tasks import Classification, Normalize

__version__ = "0.1.0"
__all__ = [
    "Classification",
    "Depth",
    "Embedding",
    "Normalize",
    "Segmentation",
    "Target",
    "ThreatModel",
    "load_data",
    "load_run",
]

__getattr__, __dir__ = lazy(
    __name__,
    {
        "Classification": ".subjects.tasks",
        "Depth": ".subjects.dense_tasks",
        "Embedding": ".subjects.dense_tasks",
        "Normalize": ".subjects.tasks",
        "Segmentation": ".subjects.dense_tasks",
        "Target": ".subjects.target",
        "ThreatModel": ".search.threat",
        "load_data": ".data.load",
        "load_run": ".core.runs",
    },
)
