"""Objectives: what an adversary pushes up, for every task a model may have.

An objective is the settings class of a card of kind ``"objective"``. It declares
one search or several; each has the loss that gives the gradient, and the value that tells
which of two points is worse, which may be another.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from ...core.errors import SettingError, did_you_mean
from ...core.methods import MethodCard, cards, settings_of
from ...search import objectives as search_objectives
from ...subjects.tasks import Task

DEFAULTS = {
    "classification": "ce",
    "segmentation": "cos-pgd",
    "depth": "silog-gradient",
    "embedding": "embedding-l2",
}
"""The objective of a task when none is named."""

OBJECTIVES: dict[str, MethodCard] = {card.name: card for card in cards("objective", "evasion")}
"""Every objective by name: its card has the task, one sentence on it, and whom to cite."""


@dataclass(frozen=True)
class Aim:
    """What one search pushes up.

    Args:
        name: as ``strongest_by`` reports it.
        loss: ``loss(output, reference, t, T) -> [B]`` at step t of T; its gradient moves the points.
        tracked: ``tracked(output, reference) -> [B]``: which of two points is worse, for the
            choice of the best and for step sizes. None: the loss itself, which then does not hang on t.
    """

    name: str
    loss: Callable[[Tensor, Tensor, int, int], Tensor]
    tracked: Callable[[Tensor, Tensor], Tensor] | None = None

    def value(self, output: Tensor, reference: Tensor) -> Tensor:
        """The tracked value: [B]."""
        return self.loss(output, reference, 0, 1) if self.tracked is None else self.tracked(output, reference)

    def objective(self, steps: int) -> search_objectives.Objective:
        """For the stepping core: the value of ``tracked`` with the gradient of ``loss``."""
        if self.tracked is None:
            return lambda output, reference, step: self.loss(output, reference, step, steps)
        tracked = self.tracked

        def both(output: Tensor, reference: Tensor, step: int) -> Tensor:
            with torch.no_grad():
                value = tracked(output, reference)
            if not output.requires_grad:
                return value
            pushed = self.loss(output, reference, step, steps)
            return value + (pushed - pushed.detach())

        return both


@dataclass(frozen=True)
class Sizes:
    """What an objective on an encoder's embedding and patches together must know: D, and D' of a patch.

    Args:
        dim: 0 where the model is no encoder.
        patch_dim: 0 where the model is no encoder.
    """

    dim: int = 0
    patch_dim: int = 0


class AttackObjective(Protocol):
    """The settings class of a card of kind ``"objective"``."""

    def aims(self, task: Any, sizes: Sizes) -> list[Aim]:
        """The searches; the worst point of all counts."""


def resolve(objective: str | AttackObjective | None, task: Task) -> tuple[MethodCard, AttackObjective]:
    """The card and the settings of an objective, which must fit the task.

    Args:
        objective: a name, settings, or None for the task's default.
        task: the task of the model under attack.

    Raises:
        SettingError: there is no such objective, or it is for another task.
    """
    if objective is None:
        objective = DEFAULTS[task.name]
    if isinstance(objective, str):
        if objective not in OBJECTIVES:
            hint = did_you_mean(objective, names(task.name))
            raise SettingError(f"There is no objective named {objective!r}.{hint}")
        card = OBJECTIVES[objective]
        made = settings_of(card)()
    else:
        made = objective
        known = [card for card in OBJECTIVES.values() if card.settings == type(made).__name__]
        if not known:
            raise SettingError(
                f"objective is {objective!r}; a name from 'assay ls objective' or the settings of one is needed."
            )
        card = known[0]
    if task.name not in card.tasks:
        raise SettingError(
            f"The objective {card.name!r} is for {' and '.join(card.tasks)}, and this model is for {task.name}. "
            f"Its objectives: {', '.join(names(task.name))}."
        )
    return card, made


def names(task: str) -> list[str]:
    """The objectives of a task."""
    return [card.name for card in OBJECTIVES.values() if task in card.tasks]
