"""What a cross-task measurement says: metrics, columns of samples, curves over budgets, findings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from ...core.budgets import NORM_SYMBOLS, budget_text
from ...core.estimates import Estimate
from ...core.probes import Figure, Finding, Metric, Panels, Series
from ...core.seeds import seed as named_seed
from ..robust_accuracy import WORDS
from .cells import CLEAN, EMBEDDING, NOISE, OUTPUT, Cell, Cells
from .estimates import pooled
from .probe import Bench, CrossTask
from .scores import Measure, worst

AIMS = {
    CLEAN: "without an adversary",
    NOISE: "under random noise of the full length of the budget",
    EMBEDDING: "under attacks on the embedding",
    OUTPUT: "under attacks on the output",
}


@dataclass
class View:
    """Numbers and figures of one encoder on one task.

    Args:
        settings, bench: of the measurement.
        cells: the images and the yardstick of the task.
        found: every cell.
        known: estimates made so far, by the metric and the array they are of.
    """

    settings: CrossTask
    bench: Bench
    cells: Cells
    found: Sequence[Cell]
    known: dict[tuple[str, int], Estimate] = field(default_factory=dict)

    @property
    def clean(self) -> Cell:
        """The answers without an adversary."""
        return self.found[0]

    @cached_property
    def sums(self) -> dict[str, np.ndarray]:
        """Sums [H, N, F] by ``clean``, ``noise@BUDGET``, ``embedding@BUDGET``, ``output@BUDGET`` and ``worst@BUDGET``.

        Each image counts with the attack that hurt it most (see :func:`worst`); ``worst`` is over both spaces, and
        over smaller budgets too, since what a small budget allows a large one allows as well.
        """
        table = {CLEAN: self.clean.sums}
        before: list[np.ndarray] = []
        for eps in self.settings.eps:
            for space in (NOISE, EMBEDDING, OUTPUT):
                sums = [cell.sums for cell in self.found if cell.space == space and cell.eps == eps]
                if sums:
                    table[f"{space}@{self.budget(eps)}"] = worst(self.cells.yardstick, sums)
            attacked = [cell.sums for cell in self.found if cell.eps == eps]
            before = [worst(self.cells.yardstick, [self.clean.sums, *before, *attacked])]
            table[f"worst@{self.budget(eps)}"] = before[0]
        return table

    def budget(self, eps: float) -> str:
        """As metric names write it: ``"linf:8/255"``."""
        return f"{self.settings.norm}:{budget_text(eps)}"

    def estimate(self, measure: Measure, sums: np.ndarray) -> Estimate:
        """A metric with its interval; the same resamples for every cell, so that cells can be compared."""
        key = (measure.name, id(sums))
        if key not in self.known:
            seed = named_seed(self.bench.seed, "cross-task", "bootstrap")
            self.known[key] = pooled(sums, measure.of, rate=measure.rate, most=measure.most, seed=seed)
        return self.known[key]

    def metrics(self) -> list[Metric]:
        """Clean, and under the worst of all attacks; as strata by space, and for the first metric by attack."""
        heads = len(self.bench.heads)
        among = f"{len(self.cells.rows)} images" + (f", mean over {heads} heads" if heads > 1 else "")
        measures = self.cells.yardstick.measures
        result = [
            self._metric(item.clean_name, item, self.clean.sums, f"{item.words}, {AIMS[CLEAN]}; {among}")
            for item in measures
            if not item.change
        ]
        for eps in self.settings.eps:
            budget = self.budget(eps)
            reach = f"{WORDS[self.settings.norm]} {budget_text(eps)}"
            for item in measures:
                name = item.attacked_name(budget)
                words = f"{item.words}, each image under the attack that hurts it most, {reach}; {among}"
                result.append(self._metric(name, item, self.sums[f"worst@{budget}"], words))
                for stratum, sums in self._strata(eps, attacks=item is measures[0]):
                    space = stratum.partition("=")[2] if stratum.startswith("space=") else ""
                    under = AIMS[space] if space else f"under {stratum.partition('=')[2]} alone"
                    result.append(self._metric(name, item, sums, f"{item.words}, {under}, {reach}; {among}", stratum))
        return result

    def _strata(self, eps: float, *, attacks: bool) -> list[tuple[str, np.ndarray]]:
        spaces = [
            (f"space={space}", self.sums[f"{space}@{self.budget(eps)}"])
            for space in (NOISE, EMBEDDING, OUTPUT)
            if f"{space}@{self.budget(eps)}" in self.sums
        ]
        cells = [cell for cell in self.found if attacks and cell.eps == eps and cell.space in (EMBEDDING, OUTPUT)]
        return spaces + [(f"attack={cell.attack}", cell.sums) for cell in cells]

    def _metric(self, name: str, item: Measure, sums: np.ndarray, words: str, stratum: str = "") -> Metric:
        return Metric.from_estimate(
            name,
            self.estimate(item, sums),
            estimand=words,
            unit=item.unit,
            direction=item.direction,
            stratum=stratum,
        )

    def columns(self) -> dict[str, np.ndarray]:
        """For each image, mean over heads: how bad the answer is, clean and under each attack."""
        result = {}
        for cell in self.found:
            name = "badness" if cell.space == CLEAN else f"badness_{cell.attack}@{self.budget(cell.eps)}"
            result[name] = self.cells.yardstick.badness(cell.sums).mean(0)
        return result

    def figures(self) -> list[Figure]:
        """The first two metrics over budgets, a line an attack."""
        return [self._curve(item) for item in self.cells.yardstick.measures[:2]]

    def _curve(self, item: Measure) -> Figure:
        lines = {(cell.space, cell.attack): None for cell in self.found[1:]}
        series = []
        for space, attack in lines:
            cells = [cell for cell in self.found if (cell.space, cell.attack) == (space, attack)]
            start = [] if item.change else [self.clean]
            rates = [self.estimate(item, cell.sums) for cell in [*start, *cells]]
            series.append(
                Series(
                    label="random noise" if space == NOISE else attack,
                    x=tuple(cell.eps for cell in [*start, *cells]),
                    y=tuple(rate.value for rate in rates),
                    lo=tuple(rate.lo for rate in rates),
                    hi=tuple(rate.hi for rate in rates),
                )
            )
        symbol = NORM_SYMBOLS[self.settings.norm]
        start_words = "" if item.change else "; at 0 without an adversary"
        unit = "" if item.unit in ("share", "") else f" ({item.unit})"
        better = "higher" if item.direction == "higher" else "lower"
        return Figure(
            name=f"{self.settings.task}-{item.name}",
            title=f"{title(item.name)} under attack, {symbol}",
            caption=f"{item.words[:1].upper()}{item.words[1:]}, over {len(self.cells.rows)} images{start_words}; "
            f"{better} is better. Bands are 95 % intervals over images and heads.",
            kind="line",
            x_label=f"budget ({symbol} norm, raw input units)",
            y_label=title(item.name) + unit,
            series=tuple(series),
            y_limits=(0.0, 1.0) if item.unit == "share" else None,
        )

    def findings(self) -> list[Finding]:
        """Attacks that do no more than noise, and intervals that know one head alone."""
        found = [finding for attack in self._attacks() if (finding := self._against_noise(attack)) is not None]
        if len(self.bench.heads) == 1 and self.settings.task != "embedding":
            found.append(
                Finding(
                    code="single-head",
                    severity="info",
                    message="One head was used, so the intervals do not tell how far the numbers hang on its training.",
                    remedy="Use several head seeds.",
                )
            )
        return found

    def _attacks(self) -> list[str]:
        return list(dict.fromkeys(cell.attack for cell in self.found if cell.space in (EMBEDDING, OUTPUT)))

    def _against_noise(self, attack: str) -> Finding | None:
        """A warning where an attack does less than random noise of the same length."""
        item = self.cells.yardstick.measures[0]
        sign = 1 if item.direction == "higher" else -1
        words = []
        for cell in self.found:
            if cell.attack == attack:
                value = self.estimate(item, cell.sums).value
                noise = self.estimate(item, self.sums[f"{NOISE}@{self.budget(cell.eps)}"]).value
                if sign * (value - noise) > 0:
                    words.append(f"{value:.3g} against {noise:.3g} at {self.budget(cell.eps)}")
        if not words:
            return None
        return Finding(
            code="weaker-than-noise",
            severity="warning",
            message=f"{self.settings.task.capitalize()} with {self.bench.encoder.name}: the attack {attack} harms "
            f"{title(item.name)} less than random noise of the same length does ({'; '.join(words)}), so it did not "
            "find what hurts this task.",
            remedy="More steps, another objective or the method apgd may find more; until then take its numbers as no "
            "evidence of robustness.",
        )

    def panels(self) -> list[Panels]:
        """What the strongest attack of each space does to a few images."""
        from .panels import panels

        item = self.cells.yardstick.measures[0]
        sign = 1 if item.direction == "higher" else -1
        largest = self.settings.eps[-1]
        result = []
        for space in (EMBEDDING, OUTPUT):
            cells = [cell for cell in self.found if cell.space == space and cell.eps == largest]
            if cells and len(self.cells.shown):
                strongest = min(cells, key=lambda cell: sign * self.estimate(item, cell.sums).value)
                result.append(panels(self.cells, self.clean, strongest, self.settings.norm))
        return result


def title(name: str) -> str:
    """The name of a metric as a heading.

    >>> title("mean_iou"), title("rmse"), title("embedding_cosine_distance")
    ('Mean IoU', 'RMSE', 'Cosine distance')
    """
    words = name.removeprefix("embedding_").replace("_", " ")
    for plain, proper in (("iou", "IoU"), ("rmse", "RMSE"), ("l2", "L2"), ("own nearest", "own image nearest")):
        words = words.replace(plain, proper)
    return words[:1].upper() + words[1:]
