"""Subjects: the models under examination, what they are for, and where they are loaded from."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..core.lazy import lazy

if TYPE_CHECKING:
    from .examination import Examination
    from .loaders import load_target
    from .networks import NETWORKS, build_network
    from .target import Target
    from .tasks import Classification, Normalize

__all__ = ["NETWORKS", "Classification", "Examination", "Normalize", "Target", "build_network", "load_target"]

__getattr__, __dir__ = lazy(
    __name__,
    {
        "NETWORKS": ".networks",
        "Classification": ".tasks",
        "Examination": ".examination",
        "Normalize": ".tasks",
        "Target": ".target",
        "build_network": ".networks",
        "load_target": ".loaders",
    },
)
