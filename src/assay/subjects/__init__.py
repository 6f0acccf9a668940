"""Subjects: the models under examination, what they are for, and where they are loaded from."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..core.lazy import lazy

if TYPE_CHECKING:
    from .backbones import BACKBONES, Backbone, Features, build_backbone
    from .dense_tasks import Depth, Embedding, Segmentation
    from .encoders import Encoder, encoder
    from .examination import Examination
    from .language import LanguageModel, load_language_model
    from .loaders import load_target
    from .networks import NETWORKS, build_network
    from .target import Target
    from .tasks import Classification, Normalize

__all__ = [
    "BACKBONES",
    "NETWORKS",
    "Backbone",
    "Classification",
    "Depth",
    "Embedding",
    "Encoder",
    "Examination",
    "Features",
    "LanguageModel",
    "Normalize",
    "Segmentation",
    "Target",
    "build_backbone",
    "build_network",
    "encoder",
    "load_language_model",
    "load_target",
]

__getattr__, __dir__ = lazy(
    __name__,
    {
        "BACKBONES": ".backbones",
        "Backbone": ".backbones",
        "Depth": ".dense_tasks",
        "Embedding": ".dense_tasks",
        "Encoder": ".encoders",
        "Features": ".backbones",
        "NETWORKS": ".networks",
        "Segmentation": ".dense_tasks",
        "build_backbone": ".backbones",
        "LanguageModel": ".language",
        "encoder": ".encoders",
        "load_language_model": ".language",
        "Classification": ".tasks",
        "Examination": ".examination",
        "Normalize": ".tasks",
        "Target": ".target",
        "build_network": ".networks",
        "load_target": ".loaders",
    },
)
