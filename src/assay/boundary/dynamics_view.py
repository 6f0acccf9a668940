"""What a boundary-dynamics probe tells: metrics, columns, findings and figures."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from ..core.estimates import Estimate, bootstrap, proportion
from ..core.probes import Figure, Finding, Mark, Metric, Series
from .conflict import Bin, conflict, conflict_by_margin, left_out, usable

if TYPE_CHECKING:
    from ..subjects.examination import Examination
    from .dynamics import Dynamics
    from .moments import Look, Training

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
FEW = 20
DEVIATION = 0.01
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
        found = [self._vulnerable(look, "" if look is self.last else f"step={look.step}") for look in self.looks]
        for direction in self.directions:
            known = [look for look in self.looks if direction in look.speeds]
            for look in known:
                headline = look is known[-1]
                stratum = f"direction={direction}" + ("" if headline else f", step={look.step}")
                found += self._of(look, direction, stratum, headline=headline)
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

    def _of(self, look: Look, direction: str, stratum: str, *, headline: bool) -> list[Metric]:
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

    # Findings

    def findings(self, training: Training, examination: Examination) -> list[Finding]:
        """What was seen, and what to know before trusting it."""
        found = [
            Finding(
                code="how-to-read",
                severity="info",
                message="A relative speed s below 0 says that the boundary comes closer to the sample if the weights "
                "move a little along the direction; s is the change of the margin in raw input units. The formula "
                "counts all pixels as free to change: where the closest boundary point lies at the end of the pixel "
                "range the true speed is larger in size and has the same sign.",
            ),
            *self._seen(),
            *self._apart(),
            *self._trust(),
        ]
        count = len(self.last.margin)
        if examination.data.digest != training.data_digest and training.data_digest:
            found.append(
                Finding(
                    code="not-the-training-data",
                    severity="info",
                    message=f"The {count} samples were taken from other data than the training's (their digest differs "
                    "from the one in the run's record): recipes are asked where they would go on these samples.",
                    remedy="Give the training data with the split and the limit of the training.",
                )
            )
        if self.kept_moments and training.settings.ema is not None:
            found.append(
                Finding(
                    code="weights-before-averaging",
                    severity="info",
                    message="The moments are the weights that were trained; the model of the run is their moving "
                    "average, whose boundary lags behind.",
                )
            )
        return found

    def _seen(self) -> list[Finding]:
        steps = ", ".join(f"{look.step:,}" for look in self.looks)
        when = f"Looked after {steps} steps" if self.kept_moments else "Looked at the finished weights alone"
        found = [
            Finding(
                code="moments",
                severity="info",
                message=f"{when}, at {len(self.last.margin)} samples; {int(self.vulnerable(self.last).sum())} of them "
                f"have a margin below {self.below:.4g} {self.at(self.last)}.",
                remedy=""
                if self.kept_moments
                else "The run kept no weights on the way; train with --watch N to see how the boundary moved.",
            )
        ]
        for look in [look for look in self.looks[-1:] if self.first in look.speeds]:
            share = conflict(look.speeds[self.first], look.margin, self.below)
            if share.n:
                found.append(
                    Finding(
                        code="conflicting-dynamics",
                        severity="info",
                        message=f"Under {WORDS[self.first]} the boundary comes closer to {share.value:.0%} of the "
                        f"{share.n} vulnerable samples {self.at(look)} ({share.lo:.0%} to {share.hi:.0%})"
                        + self._peak()
                        + ".",
                        value=share.value,
                    )
                )
        return found

    def _peak(self) -> str:
        """The moment at which most vulnerable samples lost margin, where there are several."""
        shares = [
            (conflict(look.speeds[self.first], look.margin, self.below), look)
            for look in self.looks
            if self.first in look.speeds
        ]
        shares = [(share, look) for share, look in shares if share.n >= FEW]
        if len(shares) < 2:
            return ""
        share, look = max(shares, key=lambda pair: pair[0].value)
        return f"; at most it was {share.value:.0%} of {share.n} {self.at(look)}"

    def _apart(self) -> list[Finding]:
        """The gradient flow of the recipe against the optimiser's step."""
        both = [look for look in self.looks if {"step", "own"} <= look.speeds.keys()]
        agree, count = 0, 0
        for look in both:
            one, other = look.speeds["own"], look.speeds["step"]
            known = self.vulnerable(look) & np.isfinite(one) & np.isfinite(other)
            agree, count = agree + int(((one < 0) == (other < 0))[known].sum()), count + int(known.sum())
        if not count:
            return []
        return [
            Finding(
                code="flow-and-step",
                severity="info",
                message=f"The recipe's gradient flow on these samples and the optimiser's step agree on whether a "
                f"vulnerable sample gains or loses margin in {agree / count:.0%} of {count} cases, over {len(both)} "
                "moments. The step is that of one batch of the training, with momentum, weight decay and running "
                "statistics.",
                value=agree / count,
            )
        ]

    def _trust(self) -> list[Finding]:
        found = []
        lost = {look.step: int((~np.isfinite(look.margin)).sum()) for look in self.looks}
        if any(lost.values()):
            where = ", ".join(f"{count} after {step:,} steps" for step, count in lost.items() if count)
            found.append(
                Finding(
                    code="no-boundary-point",
                    severity="info" if max(lost.values()) < 0.1 * len(self.last.margin) else "warning",
                    message=f"Of {len(self.last.margin)} samples some have no boundary point that the search could "
                    f"find, and are left out: {where}.",
                    remedy="Raise steps." if self.settings.steps < 50 else "",
                    value=float(max(lost.values())),
                )
            )
        flat = sum(
            left_out(speed[np.isfinite(look.margin)], look.margin[np.isfinite(look.margin)])
            for look in self.looks
            for speed in look.speeds.values()
        )
        if flat:
            found.append(
                Finding(
                    code="no-speed",
                    severity="info",
                    message=f"{flat} speeds do not exist because the model is flat at the boundary point (its input "
                    "gradient is 0), and are left out.",
                )
            )
        for name, reason in self.unavailable.items():
            found.append(
                Finding(code="direction-left-out", severity="info", message=f"No speeds under {WORDS[name]}: {reason}")
            )
        if math.isfinite(self.last.deviation):
            far = self.last.deviation > DEVIATION
            found.append(
                Finding(
                    code="self-check",
                    severity="warning" if far else "info",
                    message="Forward-mode derivatives and finite differences in float64 differ by at most "
                    f"{self.last.deviation:.1e} of the largest speed at the last moment.",
                    remedy="The network has kinks at boundary points or rounds coarsely; trust signs of large speeds "
                    "only."
                    if far
                    else "",
                    value=self.last.deviation,
                )
            )
        few = int(self.vulnerable(self.last).sum())
        if few < FEW:
            found.append(
                Finding(
                    code="few-vulnerable",
                    severity="warning",
                    message=f"Only {few} samples are vulnerable at the last moment, so shares among them say little.",
                    remedy="Look at more samples, or at a larger radius (below).",
                    value=float(few),
                )
            )
        return found

    # Figures

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
            caption=f"Share of the samples with a margin between 0 and {self.below:.4g} whose relative speed is below 0, "
            f"by direction of the weights, with 95% intervals; {len(self.last.margin)} samples.",
            kind="line",
            x_label="training steps",
            y_label="share",
            series=tuple(line for line in series if line.x),
            y_limits=(0.0, 1.0),
        )

    def _scatters(self) -> list[Figure]:
        looks = [look for look in self.looks if self.first in look.speeds]
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
            caption=f"Shares of samples with s < 0 (closer) and s > 0 (away) by signed margin, under {WORDS[self.first]} "
            f"{self.at(self.last)}, with 95% intervals; samples from left to right: {counts}. Vulnerable: 0 to "
            f"{self.below:.4g}.",
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
            y_label=f"mean relative speed ({self._unit(self.first)})",
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
