"""The figures of one experiment."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from assay.core.estimates import Estimate, proportion
from assay.core.probes import Figure, Series
from assay.core.settings import number
from reproductions.dyart.counts import by_seed, samples
from reproductions.dyart.measure import OWN
from reproductions.estimates import combine, share

SHARED = "adversarial"
"""At its weights every loss is examined, on the same points."""
STACKED = ("standard", "adversarial", "dyart")
"""Methods whose points are drawn."""
BARS = ("standard", "adversarial", "trades", "mart", "dyart")
"""Methods with bars by margin: as many as there are colours."""
ENOUGH = 10
"""Points that a bin needs in every training."""


@dataclass(frozen=True)
class Drawn:
    """The figures of one experiment."""

    experiment: str
    title: str
    plan: Mapping[str, Any]
    titles: Mapping[str, str]
    rows: Sequence[Mapping[str, Any]]
    remark: str

    def robust(self) -> Figure:
        """Accuracy by budget."""
        known = by_seed(self.rows, self.plan)
        names = ["clean", *(f"robust/{eps}" for eps in self.plan["budgets"])]
        at = [0.0, *(number(eps) for eps in self.plan["budgets"])]
        series = [
            _series(title, at, [share(combine(list(known[method][name].values()))) for name in names])
            for method, title in self.titles.items()
            if method in known
        ]
        return Figure(
            name=f"{self.experiment}-robust",
            title=f"{self.title}: accuracy under attack",
            caption=f"{self.remark} Clean accuracy on all test images, robust accuracy by the standard attack on "
            f"{self.plan['images']}. Whiskers: 95 % intervals over seeds.",
            kind="line",
            x_label="budget, Linf",
            y_label="accuracy",
            series=tuple(series),
            y_limits=(0, 1),
        )

    def stacked(self) -> list[Figure]:
        """Points by margin, those that see the boundary come closer and those that see it move away."""
        made = []
        for method, title in self.titles.items():
            own = [moment for row in self.rows if row["method"] == method for moment in row["moments"]]
            if method not in STACKED or not own:
                continue
            closer = np.mean([moment["closer"][OWN] for moment in own], axis=0)
            every = np.mean([moment["margins"] for moment in own], axis=0)
            made.append(
                Figure(
                    name=f"{self.experiment}-points-{method}",
                    title=f"{self.title}: where the boundary moves, {title}",
                    caption=f"{self.remark} Training points by margin, of {samples(own[0])} at each of "
                    f"{len(self.rows[0]['moments'])} moments, on average. Misclassified points have no bar. "
                    f"Vulnerable: R < {self.plan['radius']}.",
                    kind="stacked",
                    x_label="margin R",
                    y_label="points whose boundary ...",
                    series=(
                        Series(label="comes closer (s < 0)", x=self.bins, y=tuple(closer.tolist())),
                        Series(label="moves away (s > 0)", x=self.bins, y=tuple((every - closer).tolist())),
                    ),
                )
            )
        return made

    def by_margin(self) -> list[Figure]:
        """Share of points with s < 0 in each bin: each loss in its own training, and all losses at the same weights."""
        made = []
        drawn = [name for name in self.titles if name in BARS]
        views = {
            "own": ("each loss in its own training", {name: (name, OWN) for name in drawn}),
            "shared": (
                f"every loss at the weights of {self.titles.get(SHARED, SHARED)}",
                {name: (SHARED, OWN if name == SHARED else name) for name in drawn},
            ),
        }
        for view, (words, sources) in views.items():
            series = []
            for name, (method, flow) in sources.items():
                shown = self._shares(method, flow)
                if shown:
                    series.append(_series(bare(self.titles[name], view), list(shown), list(shown.values())))
            made.append(
                Figure(
                    name=f"{self.experiment}-closer-{view}",
                    title=f"{self.title}: share of points that see the boundary come closer",
                    caption=f"{self.remark} {words[0].upper()}{words[1:]}, over all moments; bins with at least "
                    f"{ENOUGH} points in every training. Whiskers: 95 % intervals over seeds.",
                    kind="bar",
                    x_label="margin R",
                    y_label="share with s < 0",
                    series=tuple(series),
                    y_limits=(0, 1),
                )
            )
        return made

    def by_moment(self) -> Figure:
        """Share of vulnerable points with s < 0 as training goes on."""
        known = by_seed(self.rows, self.plan)
        count = len(self.rows[0]["moments"])
        series = []
        for method, title in self.titles.items():
            own = {place: known.get(method, {}).get(f"conflict/{place}") for place in range(1, count + 1)}
            there = {place: share(combine(list(seeds.values()))) for place, seeds in own.items() if seeds}
            series.append(_series(title, [place / count for place in there], list(there.values())))
        return Figure(
            name=f"{self.experiment}-conflict",
            title=f"{self.title}: vulnerable points that see the boundary come closer, through training",
            caption=f"{self.remark} Vulnerable: 0 < R < {self.plan['radius']}. Each method under its own loss. "
            "Whiskers: 95 % intervals over seeds.",
            kind="line",
            x_label="share of the training done",
            y_label="share with s < 0",
            series=tuple(item for item in series if item.x),
            y_limits=(0, 1),
        )

    @property
    def bins(self) -> tuple[str, ...]:
        """The names of the bins."""
        edges = [str(edge) for edge in self.plan["bins"]]
        if all(edge.endswith("/255") or edge == "0" for edge in edges):
            edges = [edge.removesuffix("/255") for edge in edges]
            return (*(f"{a}–{b}/255" for a, b in pairwise(edges)), f"> {edges[-1]}/255")
        return (*(f"{a}–{b}" for a, b in pairwise(edges)), f"> {edges[-1]}")

    def _shares(self, method: str, flow: str) -> dict[str, Estimate]:
        """Bin -> share with s < 0, over all moments of a training together."""
        own = [row for row in self.rows if row["method"] == method and flow in row["moments"][0]["closer"]]
        found = {}
        for place, name in enumerate(self.bins):
            counts = [
                (
                    sum(moment["closer"][flow][place] for moment in row["moments"]),
                    sum(moment["margins"][place] for moment in row["moments"]),
                )
                for row in own
            ]
            if counts and min(n for _, n in counts) >= ENOUGH:
                found[name] = share(combine([proportion(k, n) for k, n in counts]))
        return found


def bare(title: str, view: str = "shared") -> str:
    """The title of a loss: at the weights of another method all have the same budget.

    >>> bare("TRADES, ε = 0.3"), bare("TRADES, ε = 0.3", "own")
    ('TRADES', 'TRADES, ε = 0.3')
    """
    return title.partition(", ε")[0] if view == "shared" else title


def _series(label: str, x: Sequence[Any], shown: Sequence[Estimate]) -> Series:
    return Series(
        label=label,
        x=tuple(x),
        y=tuple(item.value for item in shown),
        lo=tuple(item.lo for item in shown),
        hi=tuple(item.hi for item in shown),
    )
