"""Pools: many models trained by one recipe on different subsets of one data set; trained once, kept, resumable."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..core.lazy import lazy

if TYPE_CHECKING:
    from .designs import membership
    from .forecast import PoolForecast
    from .pool import Pool

__all__ = ["Pool", "PoolForecast", "membership"]

__getattr__, __dir__ = lazy(
    __name__,
    {
        "Pool": ".pool",
        "PoolForecast": ".forecast",
        "membership": ".designs",
    },
)
