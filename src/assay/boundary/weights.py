"""The weights DyART gave its samples: kept, so that the record can say whether any priority was felt."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..core.probes import Figure, Finding, Series
from ..training.recipe import Companion, Report
from .loss import Priority

FLAT = 1.5
BINS = 30


class WeightLog(Companion):
    """Distances and weights of the samples that counted in the open epoch, and in the last closed one.

    Each process keeps those of its own samples; the record shows the first process's.

    Args:
        priority: the recipe's factor by distance.
    """

    def __init__(self, priority: Priority) -> None:
        self.priority = priority
        self.open: list[Tensor] = []
        self.closed = torch.zeros(2, 0)

    def note(self, distance: Tensor, weights: Tensor) -> None:
        """The samples of one step that counted: R [b] and w [b]."""
        self.open.append(torch.stack([distance, weights.to(distance.dtype)]).float().cpu())

    def columns(self) -> dict[str, float]:
        """Close the epoch: how unequal the weights were, as ratios of the 90 % to the 10 % quantile."""
        self.closed, self.open = self._so_far(), []
        if not self.closed.shape[1]:
            return {}
        return {"weight_ratio": _spread(self.closed[1]), "priority_ratio": _spread(self._factor())}

    def state_dict(self) -> dict[str, Any]:
        """Both epochs."""
        return {"open": self._so_far(), "closed": self.closed}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go back to a saved state."""
        if "open" in state:
            self.open, self.closed = [state["open"]], state["closed"]

    def report(self) -> Report:
        """Histogram of the weights in the last epoch, and whether the distance mattered within r0."""
        distance, weights = self.closed
        if not len(distance):
            return Report(findings=[_nothing_counted()])
        factor = self._factor()
        low, high = float(factor.min()), float(factor.max())
        unit = "per r0" if self.priority.unit == "r0" else "per unit of the raw input"
        felt = (
            "the distance decided little beyond whether a sample counts at all"
            if high < FLAT * low
            else "nearer samples clearly counted more"
        )
        finding = Finding(
            code="priority",
            severity="info",
            message=f"In the last epoch {len(distance):,} samples within r0 = {self.priority.r0:.4g} counted. Their "
            f"factor exp(-alpha R), with alpha = {self.priority.alpha:g} {unit}, lay between {low:.3g} and {high:.3g}: "
            f"{felt}. With the slope, the weights differ {_spread(weights):.3g}-fold between the 10 % and the 90 % "
            "quantile.",
            value=high / max(low, 1e-30),
        )
        return Report(findings=[finding], figures=[self._figure(weights)])

    def _figure(self, weights: Tensor) -> Figure:
        shares = (weights / weights.mean()).numpy()
        counts, edges = np.histogram(shares, bins=BINS, range=(0.0, float(max(shares.max(), 1e-6))))
        return Figure(
            name="boundary-weights",
            title="Weights of the boundary term in the last epoch",
            caption=f"{len(shares):,} samples whose boundary lay within r0; the mean weight is 1. "
            "A weight is exp(-alpha R) over the slope of the margin at the boundary.",
            kind="histogram",
            x_label="weight (multiples of the mean)",
            y_label="samples",
            series=(
                Series(
                    label="samples",
                    x=tuple(((edges[:-1] + edges[1:]) / 2).tolist()),
                    y=tuple(counts.astype(float).tolist()),
                ),
            ),
        )

    def _so_far(self) -> Tensor:
        return torch.cat(self.open, dim=1) if self.open else torch.zeros(2, 0)

    def _factor(self) -> Tensor:
        return self.priority.factor(self.closed[0])


def _spread(values: Tensor) -> float:
    """Ratio of the 90 % to the 10 % quantile."""
    low, high = np.quantile(values.numpy(), [0.1, 0.9])
    return float(high / max(low, 1e-30))


def _nothing_counted() -> Finding:
    return Finding(
        code="no-boundary-term",
        severity="warning",
        message="In the last epoch no sample lay within r0 of the boundary: the training was plain training.",
        remedy="Raise r0, or shorten burn_in.",
    )
