"""Training: one loop, many recipes. A recipe owns its step; the loop owns everything around it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..core.lazy import lazy

if TYPE_CHECKING:
    from .adversarial import Adversarial
    from .dry_run import Forecast, forecast
    from .encoders.deacl import DeACL
    from .encoders.dense_deacl import DenseDeACL
    from .encoders.dino import Dino
    from .encoders.simsiam import SimSiam
    from .job import TrainSettings
    from .language.causal_lm import CausalLM
    from .loop import train
    from .mart import Mart
    from .recipe import Recipe
    from .standard import Standard
    from .trades import Trades

METHODS = (
    "standard",
    "adversarial",
    "trades",
    "mart",
    "encoders.simsiam",
    "encoders.dino",
    "encoders.deacl",
    "encoders.dense_deacl",
    "heads.settings",
    "language.causal_lm",
)

__all__ = [
    "METHODS",
    "Adversarial",
    "CausalLM",
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
        "CausalLM": ".language.causal_lm",
        "DeACL": ".encoders.deacl",
        "DenseDeACL": ".encoders.dense_deacl",
        "Dino": ".encoders.dino",
        "Forecast": ".dry_run",
        "Mart": ".mart",
        "Recipe": ".recipe",
        "SimSiam": ".encoders.simsiam",
        "Standard": ".standard",
        "Trades": ".trades",
        "TrainSettings": ".job",
        "forecast": ".dry_run",
        "train": ".loop",
    },
)
