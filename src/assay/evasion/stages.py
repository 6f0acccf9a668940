"""Stages: an attack, as the evaluation sees it, is a list of searches to run on the samples still standing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from ..search.engine import StepRule
from ..search.objectives import Objective
from ..search.threat import ThreatModel


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One search of an attack.

    Args:
        name: as ``broken_by`` reports it.
        rule: the step rule.
        objective: what it pushes up.
        targets: number of target classes, the best-ranked wrong classes at the clean
            input; 0 for an untargeted search.
        restarts: how often it runs, each from its own random stream.
        nearest_class: whether the objective is replaced, at every point, by the logit difference
            to the class whose linearised boundary is nearest (one backward pass a class).
        refine: whether points found outside the ball are moved to the decision boundary
            and counted if that brings them inside (minimum-norm rules).
    """

    name: str
    rule: StepRule
    objective: Objective
    targets: int = 0
    restarts: int = 1
    nearest_class: bool = False
    refine: bool = False


class Attack(Protocol):
    """The settings class of a card of kind ``"attack"``."""

    def stages(self, threat: ThreatModel, num_classes: int) -> list[Stage]:
        """The searches, in order; each runs on the survivors of those before."""
