"""The report: what a reviewer reads, made from runs alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..core.lazy import lazy

if TYPE_CHECKING:
    from .page import write_report
    from .passages import write_passages

__all__ = ["write_passages", "write_report"]

__getattr__, __dir__ = lazy(__name__, {"write_passages": ".passages", "write_report": ".page"})
