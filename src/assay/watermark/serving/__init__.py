"""Answer detection requests over HTTP."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...core.lazy import lazy

if TYPE_CHECKING:
    from .limits import Limits
    from .server import Server, serve
    from .service import Service

__all__ = ["Limits", "Server", "Service", "serve"]

__getattr__, __dir__ = lazy(
    __name__, {"Limits": ".limits", "Server": ".server", "Service": ".service", "serve": ".server"}
)
