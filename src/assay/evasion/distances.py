"""Probe: how far the nearest adversarial example of each sample lies.

d(x) = min ||δ|| subject to the model being wrong at x + δ in the box; the share of
samples with d > ε bounds the robust accuracy at ε from above, for every ε at once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ..core.budgets import NORM_SYMBOLS
from ..core.estimates import quantile
from ..core.methods import MethodCard
from ..core.probes import Cost, Figure, Finding, Gallery, Measurement, Metric, Series
from ..core.settings import option, settings
from ..subjects.pictures import gallery
from ..subjects.strata import strata
from .fab import FAB_PAPER, SCOUTING

if TYPE_CHECKING:
    from ..subjects.examination import Examination
    from .minimum import MinimumNorm

CARD = MethodCard(
    name="minimum-norm",
    kind="probe",
    title="Distance to the nearest adversarial example",
    summary="Norm of the smallest change of each input that makes the model wrong, found by a minimum-norm attack.",
    settings="Distances",
    citation=FAB_PAPER,
    norms=("linf", "l2", "l1"),
)


@settings
class Distances:
    """Settings of the minimum-norm probe."""

    norm: str = option(default="l2", help="norm of the perturbation", choices=("linf", "l2", "l1"))
    steps: int = option(default=100, help="iterations of the search", at_least=1)
    targets: int = option(default=9, help="wrong classes tried, best-ranked first", at_least=1)

    def expected_cost(self, *, samples: int, classes: int) -> Cost:
        """Scouting all targets, walking to the end with three, and the finish."""
        targets = min(self.targets, classes - 1)
        walked = samples * ((SCOUTING + 1) * targets + (self.steps + 1) * min(3, targets))
        return Cost(forward=walked + 90 * samples, backward=walked)

    def measure(self, examination: Examination) -> Measurement:
        """Find the nearest adversarial example of every sample."""
        from .minimum import minimum_norm

        found = minimum_norm(
            examination.target,
            examination.images,
            examination.labels,
            self.norm,
            steps=self.steps,
            targets=self.targets,
            seed=examination.seed,
            batch_size=examination.batch_size,
            sample_ids=examination.sample_ids,
            shards=examination.shards,
            progress=examination.progress,
        )
        distance = found.distance.numpy()
        return Measurement(
            metrics=self._metrics(examination, distance),
            samples={"correct": found.correct.numpy(), "distance": distance, "found": found.found.numpy()},
            findings=[*found.findings, *_not_found(found)],
            figures=[self._curve(distance)],
            cost=found.cost,
            gallery=self._gallery(examination, found),
        )

    def _metrics(self, examination: Examination, distance: np.ndarray) -> list[Metric]:
        estimand = (
            f"median {self.norm} norm of the smallest change found that makes the model wrong (0 where it "
            "is wrong already)"
        )
        name = f"median_distance@{self.norm}"
        unit = "raw input units"
        found = [Metric.from_estimate(name, quantile(distance, 0.5), estimand=estimand, unit=unit)]
        for stratum, rows in strata(examination):
            middle = quantile(distance[rows], 0.5)
            found.append(Metric.from_estimate(name, middle, estimand=estimand, unit=unit, stratum=stratum))
        return found

    def _curve(self, distance: np.ndarray) -> Figure:
        finite = np.sort(distance[np.isfinite(distance)])
        at = np.unique(np.quantile(finite, np.linspace(0, 1, 101))) if len(finite) else np.zeros(1)
        share = tuple(float((distance > x).mean()) for x in at)
        return Figure(
            name=f"distances-{self.norm}",
            title=f"How far the nearest adversarial example lies, {NORM_SYMBOLS[self.norm]}",
            caption=f"Share of {len(distance)} samples whose nearest adversarial example found lies further than the "
            "distance on the horizontal axis: an upper bound of the accuracy under attack at that budget.",
            kind="cdf",
            x_label=f"distance ({NORM_SYMBOLS[self.norm]} norm, raw input units)",
            y_label="share of samples further away",
            series=(Series(label=self.norm, x=tuple(map(float, at)), y=share),),
            y_limits=(0.0, 1.0),
        )

    def _gallery(self, examination: Examination, found: MinimumNorm) -> Gallery | None:
        distance = found.distance.numpy()
        candidates = np.flatnonzero(found.correct.numpy() & np.isfinite(distance))
        rows = candidates[np.argsort(distance[candidates], kind="stable")].tolist()
        return gallery(
            examination,
            rows,
            found.adversarial,
            distance.tolist(),
            self.norm,
            title=f"Most fragile samples, {NORM_SYMBOLS[self.norm]}",
            caption="Correctly classified samples with the nearest adversarial examples found, nearest first.",
        )


def _not_found(found: MinimumNorm) -> list[Finding]:
    lost = int((~found.found).sum())
    if not lost:
        return []
    return [
        Finding(
            code="nothing-found",
            severity="serious",
            message=f"No adversarial example at all was found for {lost} of {len(found.found)} samples, although "
            "any image may become grey.",
            remedy="Every classifier can be fooled there: suspect masked gradients or saturated outputs.",
            value=lost / len(found.found),
        )
    ]
