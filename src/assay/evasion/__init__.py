"""Evasion: how small a change of the input fools the model."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..core.lazy import lazy

if TYPE_CHECKING:
    from .evaluation import Evaluation, evaluate, evaluate_grid
    from .minimum import MinimumNorm, minimum_norm

METHODS = ("pgd", "apgd", "fab", "square", "standard", "robust_accuracy", "distances")

__all__ = ["Evaluation", "MinimumNorm", "evaluate", "evaluate_grid", "minimum_norm"]

__getattr__, __dir__ = lazy(
    __name__,
    {
        "Evaluation": ".evaluation",
        "MinimumNorm": ".minimum",
        "evaluate": ".evaluation",
        "evaluate_grid": ".evaluation",
        "minimum_norm": ".minimum",
    },
)
