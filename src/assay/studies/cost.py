"""What a suite will cost, told before it starts."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from ..core.probes import Cost
from .suite import Suite

if TYPE_CHECKING:
    from ..data.dataset import Dataset
    from ..subjects.target import Target


@dataclass(frozen=True, kw_only=True)
class PlannedCost:
    """The most one probe may cost; ``None`` where a probe cannot say beforehand."""

    probe: str
    settings: str
    forward: int | None
    backward: int | None
    seconds: float | None


@dataclass(frozen=True, kw_only=True)
class Pace:
    """Measured seconds of one sample's forward and of its backward pass."""

    forward: float
    backward: float

    def seconds(self, cost: Cost) -> float:
        """Time for so many sample passes."""
        return cost.forward * self.forward + cost.backward * self.backward


def plan(target: Target, data: Dataset, suite: Suite, *, batch_size: int = 256) -> list[PlannedCost]:
    """Sample passes and seconds each probe of a suite takes at most; nothing is written.

    Attacks drop a sample once it is broken, so the true cost of a weak model is
    far below this; it is reached by a model that withstands everything.

    Args:
        target: the model.
        data: the samples the suite would use.
        suite: what would be measured.
        batch_size: samples in one forward pass.

    Cost: about six passes over one batch, to time the model.
    """
    pace = measure_pace(target, data, batch_size=batch_size)
    return [
        _planned(probe.card.name, probe.settings, len(data), target.task.num_classes, pace) for probe in suite.probes
    ]


def measure_pace(target: Target, data: Dataset, *, batch_size: int) -> Pace:
    """Time forward and forward-and-backward passes on one batch, the best of three each."""
    images = torch.from_numpy(data.head(min(len(data), batch_size)).images()).to(target.device)
    images = target.check_images(images)
    copy = target.search_copy()
    rows = torch.arange(len(images), device=images.device)

    def summed(logits: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        return logits.sum(1)

    target.logits(images)
    forward = _best_of_three(lambda: copy.logits(images)) / len(images)
    both = _best_of_three(lambda: copy.value_and_gradient(images, summed, rows)) / len(images)
    return Pace(forward=forward, backward=max(0.0, both - forward))


def _best_of_three(work: Callable[[], object]) -> float:
    times = []
    for _ in range(3):
        started = time.perf_counter()
        work()
        times.append(time.perf_counter() - started)
    return min(times)


def _planned(name: str, settings: object, samples: int, classes: int, pace: Pace) -> PlannedCost:
    expected = getattr(settings, "expected_cost", None)
    cost: Cost | None = expected(samples=samples, classes=classes) if expected is not None else None
    if cost is None:
        return PlannedCost(probe=name, settings=_words(settings), forward=None, backward=None, seconds=None)
    return PlannedCost(
        probe=name,
        settings=_words(settings),
        forward=cost.forward,
        backward=cost.backward,
        seconds=pace.seconds(cost),
    )


def _words(settings: object) -> str:
    from ..core.budgets import budget_text
    from ..core.settings import as_dict

    words = []
    for key, value in as_dict(settings).items():
        if key in ("norm", "attack"):
            words.append(str(value))
        elif key == "eps":
            budgets = value if isinstance(value, (list, tuple)) else [value]
            words.append("eps " + ", ".join(budget_text(item) for item in budgets))
    return " ".join(words)
