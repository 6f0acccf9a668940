"""Heads on frozen encoders: linear classifiers, segmenters and depth estimators trained on cached features."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...core.lazy import lazy

if TYPE_CHECKING:
    from .features import FeatureStore, cache_features
    from .fit import TrainedHead, train_head, train_heads
    from .forecast import forecast_head
    from .modules import ClassificationHead, DepthHead, Head, Headed, SegmentationHead
    from .quality import task_metrics
    from .settings import HeadSettings, task_for
    from .store import load_head

__all__ = [
    "ClassificationHead",
    "DepthHead",
    "FeatureStore",
    "Head",
    "HeadSettings",
    "Headed",
    "SegmentationHead",
    "TrainedHead",
    "cache_features",
    "forecast_head",
    "load_head",
    "task_for",
    "task_metrics",
    "train_head",
    "train_heads",
]

__getattr__, __dir__ = lazy(
    __name__,
    {
        "ClassificationHead": ".modules",
        "DepthHead": ".modules",
        "FeatureStore": ".features",
        "Head": ".modules",
        "HeadSettings": ".settings",
        "Headed": ".modules",
        "SegmentationHead": ".modules",
        "TrainedHead": ".fit",
        "cache_features": ".features",
        "forecast_head": ".forecast",
        "load_head": ".store",
        "task_for": ".settings",
        "task_metrics": ".quality",
        "train_head": ".fit",
        "train_heads": ".fit",
    },
)
