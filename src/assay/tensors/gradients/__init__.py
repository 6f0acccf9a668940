"""Per-sample gradients: the engine that private training and its diagnostics share."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...core.lazy import lazy

if TYPE_CHECKING:
    from .checks import check_module
    from .engine import PerSample, per_sample_gradients
    from .values import ClippedSum, SampleLoss, SampleNorms

__all__ = ["ClippedSum", "PerSample", "SampleLoss", "SampleNorms", "check_module", "per_sample_gradients"]

__getattr__, __dir__ = lazy(
    __name__,
    {
        "ClippedSum": ".values",
        "PerSample": ".engine",
        "SampleLoss": ".values",
        "SampleNorms": ".values",
        "check_module": ".checks",
        "per_sample_gradients": ".engine",
    },
)
