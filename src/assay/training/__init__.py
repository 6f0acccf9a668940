"""Training: one loop, many recipes. A recipe owns its step; the loop owns everything around it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..core.lazy import lazy

if TYPE_CHECKING:
    from .adversarial import Adversarial
    from .deacl import DeACL
    from .dense_deacl import DenseDeACL
    from .dino import Dino
    from .dry_run import Forecast, forecast
    from .job import TrainSettings
    from .loop import train
    from .mart import Mart
    from .recipe import Recipe
    from .simsiam import SimSiam
    from .standard import Standard
    from .trades import Trades

METHODS = ("standard", "adversarial", "trades", "mart", "simsiam", "dino", "deacl", "dense_deacl")

__all__ = [
    "METHODS",
    "Adversarial",
    "DeACL",
    "DenseDeACL",
    "Dino",
    "Forecast",
    "Mart",
    "Recipe",
    "SimSiam",
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
        "DeACL": ".deacl",
        "DenseDeACL": ".dense_deacl",
        "Dino": ".dino",
        "Forecast": ".dry_run",
        "Mart": ".mart",
        "Recipe": ".recipe",
        "SimSiam": ".simsiam",
        "Standard": ".standard",
        "Trades": ".trades",
        "TrainSettings": ".job",
        "forecast": ".dry_run",
        "train": ".loop",
    },
)
