"""Search: one stepping core that improves inputs under an objective and a constraint."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..core.lazy import lazy

if TYPE_CHECKING:
    from .ascent import ascend
    from .engine import search
    from .threat import ThreatModel

__all__ = ["ThreatModel", "ascend", "search"]

__getattr__, __dir__ = lazy(__name__, {"ThreatModel": ".threat", "ascend": ".ascent", "search": ".engine"})
