"""Training: one loop, many recipes. A recipe owns its step; the loop owns everything around it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..core.lazy import lazy

if TYPE_CHECKING:
    from .adversarial import Adversarial
    from .dry_run import Forecast, forecast
    from .job import TrainSettings
    from .loop import train
    from .mart import Mart
    from .recipe import Recipe
    from .standard import Standard
    from .trades import Trades

METHODS = ("standard", "adversarial", "trades", "mart")

__all__ = [
    "METHODS",
    "Adversarial",
    "Forecast",
    "Mart",
    "Recipe",
    "Standard",
    "Trades",
    "TrainSettings",
    "forecast",
    "train",
]

__getattr__, __dir__ = lazy(
    __name__,
    {
        "Adversarial": ".adversarial",
        "Forecast": ".dry_run",
        "Mart": ".mart",
        "Recipe": ".recipe",
        "Standard": ".standard",
        "Trades": ".trades",
        "TrainSettings": ".job",
        "forecast": ".dry_run",
        "train": ".loop",
    },
)
