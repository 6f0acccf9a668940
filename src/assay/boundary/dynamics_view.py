"""What a boundary-dynamics probe tells in numbers and pictures."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from ..core.estimates import Estimate, bootstrap, proportion
from ..core.probes import Figure, Mark, Metric, Series
from .conflict import Bin, conflict, conflict_by_margin, usable

if TYPE_CHECKING:
    from .dynamics import Dynamics
    from .moments import Look

WORDS = {
    "own": "the recipe of the training",
    "standard": "standard training",
    "adversarial": "adversarial training",
    "trades": "TRADES",
    "dyart": "DyART",
    "gradient-flow": "gradient flow of the cross-entropy",
    "step": "the step that the optimiser took",
}
MOST_LAYERS = 30
SPREAD = 0.99


class View:
    """Looks at the moments of one training, for presentation.

    Args:
        settings: of the probe.
        looks: in the order of training, at least one.
        unavailable: directions that could not be had, with the reason.
        kept_moments: whether the run kept weights on the way.
    """

    def __init__(
        self, settings: Dynamics, looks: Sequence[Look], unavailable: dict[str, str], *, kept_moments: bool
    ) -> None:
        self.settings, self.looks, self.unavailable, self.kept_moments = settings, looks, unavailable, kept_moments
        self.last = looks[-1]
        self.below = settings.radius
        self.directions = [name for name in settings.directions if any(name in look.speeds for look in looks)]
        self.first = next(iter(self.directions), "")

    def metrics(self) -> list[Metric]:
        """Shares and speeds by moment and direction; those of the last moment that knows a direction lead."""
        found = [self._vulnerable(self.last, "")]
        if self.kept_moments:
            found += [self._vulnerable(look, f"step={look.step}") for look in self.looks]
        for direction in self.directions:
            known = [look for look in self.looks if direction in look.speeds]
            if self.kept_moments:
                for look in known:
                    found += self._of(look, direction, f"direction={direction}, step={look.step}")
            found += self._of(known[-1], direction, f"direction={direction}", headline=True)
        if self.first in self.last.speeds:
            found.insert(0, self._share("conflict_share", self.last, self.first, self.below, ""))
        return found + self._disagreements()

    def _vulnerable(self, look: Look, stratum: str) -> Metric:
        return Metric.from_estimate(
            "vulnerable_share",
            proportion(int(self.vulnerable(look).sum()), len(look.margin)),
            estimand=f"share of samples classified correctly with a margin below {self.below:.4g}, {self.at(look)}",
            direction="lower",
            stratum=stratum,
        )

    def _share(self, name: str, look: Look, direction: str, below: float, stratum: str) -> Metric:
        whom = "correctly classified samples" if math.isinf(below) else f"samples with a margin below {below:.4g}"
        return Metric.from_estimate(
            name,
            conflict(look.speeds[direction], look.margin, below),
            estimand=f"share of {whom} that the boundary comes closer to under {WORDS[direction]}, {self.at(look)}",
            direction="lower",
            stratum=stratum,
        )

    def _of(self, look: Look, direction: str, stratum: str, *, headline: bool = False) -> list[Metric]:
        found = [
            self._share("conflict_share", look, direction, self.below, stratum),
            self._share("conflict_share_all", look, direction, math.inf, stratum),
        ]
        if headline:
            speed = look.speeds[direction]
            found.append(
                Metric.from_estimate(
                    "mean_speed",
                    bootstrap(speed[self.vulnerable(look) & np.isfinite(speed)]),
                    estimand=f"mean relative speed of vulnerable samples under {WORDS[direction]}, {self.at(look)}",
                    unit=self._unit(direction),
                    direction="higher",
                    stratum=stratum,
                )
            )
        return found

    def _disagreements(self) -> list[Metric]:
        """How often two directions tell a vulnerable sample different things."""
        found = []
        for direction in self.directions:
            both = [look for look in self.looks if direction in look.speeds and self.first in look.speeds]
            if direction == self.first or not both:
                continue
            look = both[-1]
            one, other = look.speeds[self.first], look.speeds[direction]
            known = self.vulnerable(look) & np.isfinite(one) & np.isfinite(other)
            found.append(
                Metric.from_estimate(
                    "directions_disagree",
                    proportion(int(((one < 0) != (other < 0))[known].sum()), int(known.sum())),
                    estimand=f"share of vulnerable samples to which the boundary comes closer under only one of "
                    f"{WORDS[self.first]} and {WORDS[direction]}, {self.at(look)}",
                    direction="none",
                    stratum=f"direction={direction}",
                )
            )
        return found

    def columns(self, rows: np.ndarray, total: int) -> dict[str, np.ndarray]:
        """Columns of all samples [total], from those looked at; NaN for the others."""

        def spread(values: np.ndarray) -> np.ndarray:
            full = np.full(total, np.nan)
            full[rows] = values
            return full

        looked, vulnerable = np.zeros(total, dtype=bool), np.zeros(total, dtype=bool)
        looked[rows], vulnerable[rows] = True, self.vulnerable(self.last)
        speeds = {f"speed_{name.replace('-', '_')}": spread(value) for name, value in self.last.speeds.items()}
        return {"looked_at": looked, "margin": spread(self.last.margin), "vulnerable": vulnerable, **speeds}

    def vulnerable(self, look: Look) -> np.ndarray:
        """0 < R < below: [n] bool."""
        found: np.ndarray = (look.margin > 0) & (look.margin < self.below)
        return found

    def at(self, look: Look) -> str:
        """When, in words."""
        return f"after {look.step:,} steps" if self.kept_moments else "at the end of the training"

    def _unit(self, direction: str) -> str:
        return "raw input per step" if direction == "step" else "raw input per learning rate"

    def figures(self) -> list[Figure]:
        """Conflict over training, the moving scatter, shares by margin, and the layers' parts."""
        found = [self._over_training()] if len(self.looks) > 1 and self.directions else []
        found += self._scatters()
        if self.first in self.last.speeds:
            found.append(self._by_margin())
        if self.last.layers:
            found.append(self._layers())
        return found

    def _over_training(self) -> Figure:
        series = []
        for direction in self.directions:
            looks = [look for look in self.looks if direction in look.speeds]
            shares = [(look, conflict(look.speeds[direction], look.margin, self.below)) for look in looks]
            shares = [(look, share) for look, share in shares if share.n]
            series.append(_line(direction, [float(look.step) for look, _ in shares], [share for _, share in shares]))
        return Figure(
            name="conflict-over-training",
            title="Vulnerable samples that the boundary comes closer to",
            caption=f"Share of the samples with a margin between 0 and {self.below:.4g} whose relative speed is below "
            f"0, by direction of the weights, with 95% intervals; {len(self.last.margin)} samples.",
            kind="line",
            x_label="training steps",
            y_label="share",
            series=tuple(line for line in series if line.x),
            y_limits=(0.0, 1.0),
        )

    def _scatters(self) -> list[Figure]:
        looks = [
            look
            for look in self.looks
            if self.first in look.speeds and usable(look.speeds[self.first], look.margin).any()
        ]
        if not looks:
            return []
        margins = np.concatenate([look.margin[np.isfinite(look.margin)] for look in looks])
        speeds = np.concatenate([look.speeds[self.first][np.isfinite(look.speeds[self.first])] for look in looks])
        if not len(margins) or not len(speeds):
            return []
        low, high = np.quantile(margins, [1 - SPREAD, SPREAD])
        x_limits = (min(float(low), 0.0), max(float(high), 1.5 * self.below))
        reach = float(np.quantile(np.abs(speeds), SPREAD)) or 1.0
        return [self._scatter(look, x_limits, (-reach, reach)) for look in looks]

    def _scatter(self, look: Look, x_limits: tuple[float, float], y_limits: tuple[float, float]) -> Figure:
        speed = look.speeds[self.first]
        known = usable(speed, look.margin)
        vulnerable = self.vulnerable(look)
        groups = {
            "vulnerable, closer": vulnerable & (speed < 0),
            "vulnerable, away": vulnerable & (speed >= 0),
            "other samples": ~vulnerable,
        }
        outside = int((known & ~((look.margin >= x_limits[0]) & (look.margin <= x_limits[1]))).sum())
        outside += int((known & (np.abs(speed) > y_limits[1])).sum())
        beyond = f" At most {outside} points lie outside the axes and are drawn at their ends." if outside else ""
        series = []
        for label, chosen in groups.items():
            rows = known & chosen
            x, y = np.clip(look.margin[rows], *x_limits), np.clip(speed[rows], *y_limits)
            series.append(Series(label=label, x=tuple(x.tolist()), y=tuple(y.tolist())))
        return Figure(
            name=f"margin-speed-step-{look.step}",
            title="Margin and speed",
            caption=f"Each point is a sample: its signed margin, and its relative speed under {WORDS[self.first]}, "
            f"{self.at(look)}; n = {int(known.sum())}. Below the horizontal line the boundary comes closer.{beyond}",
            kind="scatter",
            x_label=f"signed margin ({self.settings.norm}, raw input)",
            y_label=f"relative speed ({self._unit(self.first)})",
            series=tuple(series),
            x_limits=x_limits,
            y_limits=y_limits,
            marks=(
                Mark(axis="x", value=self.below, label=f"vulnerable below {self.below:.3g}"),
                Mark(axis="y", value=0.0, label="speed 0"),
            ),
            sequence="margin-speed",
            moment=f"step {look.step:,}" if self.kept_moments else "finished weights",
        )

    @cached_property
    def _bins(self) -> list[Bin]:
        edges = [-math.inf, 0.0, *(self.below * part / 4 for part in range(1, 9)), math.inf]
        return conflict_by_margin(self.last.speeds[self.first], self.last.margin, edges)

    def _by_margin(self) -> Figure:
        names = tuple(_interval(item) for item in self._bins)
        counts = ", ".join(str(item.closer.n) for item in self._bins)
        return Figure(
            name="conflict-by-margin",
            title="Who gains and who loses margin",
            caption="Shares of samples with s < 0 (closer) and s > 0 (away) by signed margin, under "
            f"{WORDS[self.first]} {self.at(self.last)}, with 95% intervals; samples from left to right: {counts}. "
            f"Vulnerable: 0 to {self.below:.4g}.",
            kind="bar",
            x_label=f"signed margin ({self.settings.norm}, raw input)",
            y_label="share",
            series=(
                _bars("closer", names, [item.closer for item in self._bins]),
                _bars("away", names, [item.away for item in self._bins]),
            ),
            y_limits=(0.0, 1.0),
        )

    def _layers(self) -> Figure:
        chosen = self.vulnerable(self.last) if self.vulnerable(self.last).any() else np.isfinite(self.last.margin)
        parts = {name: bootstrap(values[chosen & np.isfinite(values)]) for name, values in self.last.layers.items()}
        shown = list(parts)
        if len(shown) > MOST_LAYERS:  # those that matter most, in the order of the network
            large = sorted(shown, key=lambda name: -abs(parts[name].value))[:MOST_LAYERS]
            shown = [name for name in shown if name in large]
        rest = "" if len(shown) == len(parts) else f" The {len(shown)} largest of {len(parts)} layers."
        who = "vulnerable samples" if self.vulnerable(self.last).any() else "samples"
        return Figure(
            name="speed-by-layer",
            title="What each layer adds to the speed",
            caption=f"Mean relative speed of the {who} if only this layer moved, under {WORDS[self.first]} "
            f"{self.at(self.last)}, with 95% intervals; the parts add up to the whole.{rest}",
            kind="bar",
            x_label="layer",
            y_label=f"speed ({self._unit(self.first)})",
            series=(_bars(self.first, tuple(shown), [parts[name] for name in shown]),),
        )


def _line(label: str, x: list[float], values: list[Estimate]) -> Series:
    return Series(
        label=label,
        x=tuple(x),
        y=tuple(item.value for item in values),
        lo=tuple(item.lo for item in values),
        hi=tuple(item.hi for item in values),
    )


def _bars(label: str, names: tuple[str, ...], values: list[Estimate]) -> Series:
    return Series(
        label=label,
        x=names,
        y=tuple(item.value for item in values),
        lo=tuple(item.lo for item in values),
        hi=tuple(item.hi for item in values),
    )


def _interval(item: Bin) -> str:
    if math.isinf(item.low):
        return "misclassified"
    return f"from {item.low:.3g}" if math.isinf(item.high) else f"{item.low:.3g} to {item.high:.3g}"
