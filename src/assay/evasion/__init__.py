"""Evasion: how small a change of the input fools the model."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..core.lazy import lazy

if TYPE_CHECKING:
    from .attacking import Attacked, attack
    from .evaluation import Evaluation, evaluate, evaluate_grid
    from .minimum import MinimumNorm, minimum_norm

METHODS = (
    "pgd",
    "apgd",
    "fab",
    "square",
    "standard",
    "objectives.classification",
    "objectives.embedding",
    "objectives.segmentation",
    "objectives.sea",
    "objectives.depth",
    "robust_accuracy",
    "cross_task.probe",
    "distances",
)

__all__ = ["Attacked", "Evaluation", "MinimumNorm", "attack", "evaluate", "evaluate_grid", "minimum_norm"]

__getattr__, __dir__ = lazy(
    __name__,
    {
        "Attacked": ".attacking",
        "Evaluation": ".evaluation",
        "MinimumNorm": ".minimum",
        "attack": ".attacking",
        "evaluate": ".evaluation",
        "evaluate_grid": ".evaluation",
        "minimum_norm": ".minimum",
    },
)
