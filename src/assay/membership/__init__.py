"""Membership: which records a model betrays as its training data."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..core.lazy import lazy

if TYPE_CHECKING:
    from .attacks.lira import LiRA, lira_scores
    from .attacks.rmia import RMIA, rmia_scores, tune_offline_a
    from .canaries.optimise import canary_queries, optimise_canaries
    from .evidence import auc_interval, epsilon_lower_bound, roc
    from .reproducibility import agreement
    from .resampling import two_way
    from .signals import Answers, Signals, answers_from, answers_from_labels, answers_from_probabilities

METHODS: tuple[str, ...] = (
    "answers_attack",
    "attacks.calibrated_loss",
    "attacks.gap",
    "attacks.global_threshold",
    "attacks.lira",
    "attacks.loss",
    "attacks.offset",
    "attacks.rmia",
    "canary_inference",
    "membership_inference",
)

__all__ = [
    "METHODS",
    "RMIA",
    "Answers",
    "LiRA",
    "Signals",
    "agreement",
    "answers_from",
    "answers_from_labels",
    "answers_from_probabilities",
    "auc_interval",
    "canary_queries",
    "epsilon_lower_bound",
    "lira_scores",
    "optimise_canaries",
    "rmia_scores",
    "roc",
    "tune_offline_a",
    "two_way",
]

__getattr__, __dir__ = lazy(
    __name__,
    {
        "Answers": ".signals",
        "LiRA": ".attacks.lira",
        "RMIA": ".attacks.rmia",
        "Signals": ".signals",
        "agreement": ".reproducibility",
        "answers_from": ".signals",
        "answers_from_labels": ".signals",
        "answers_from_probabilities": ".signals",
        "auc_interval": ".evidence",
        "canary_queries": ".canaries.optimise",
        "epsilon_lower_bound": ".evidence",
        "lira_scores": ".attacks.lira",
        "optimise_canaries": ".canaries.optimise",
        "rmia_scores": ".attacks.rmia",
        "roc": ".evidence",
        "tune_offline_a": ".attacks.rmia",
        "two_way": ".resampling",
    },
)
