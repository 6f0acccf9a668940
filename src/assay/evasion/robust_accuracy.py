"""Probe: robust accuracy over a grid of budgets of one norm.

robust accuracy(ε) = share of samples that are classified correctly at every point
of {x + δ : ||δ|| <= ε} ∩ box that the attack tried; an upper bound of the share
correct at all of them.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from ..core.budgets import NORM_SYMBOLS, budget_text
from ..core.errors import SettingError
from ..core.estimates import proportion
from ..core.methods import MethodCard, card, settings_of
from ..core.probes import Cost, Figure, Finding, Gallery, Measurement, Metric, Series
from ..core.settings import option, settings
from ..search.threat import ThreatModel
from ..subjects.pictures import gallery
from ..subjects.strata import by_class, strata
from ..tensors.norms import norm as norm_of
from .apgd import AUTOATTACK

if TYPE_CHECKING:
    from ..subjects.examination import Examination
    from .evaluation import Evaluation
    from .stages import Attack

CARD = MethodCard(
    name="robust-accuracy",
    kind="probe",
    title="Robust accuracy",
    summary="Share of samples the model still classifies correctly when an adversary changes its input within a "
    "budget.",
    settings="RobustAccuracy",
    citation=AUTOATTACK,
    norms=("linf", "l2", "l1"),
)
WORDS = {
    "linf": "no pixel value changed by more than",
    "l2": "Euclidean length at most",
    "l1": "sum of changes at most",
}


@settings
class RobustAccuracy:
    """Settings of the robust-accuracy probe."""

    norm: str = option(default="linf", help="norm of the perturbation", choices=("linf", "l2", "l1"))
    eps: tuple[float, ...] = option(default=(8 / 255,), help="budgets, in units of the raw input", at_least=0)
    attack: str = option(default="standard", help="attack from 'assay ls attack'")
    steps: int | None = option(default=None, help="gradient steps, if not the attack's own", at_least=1)
    targets: int | None = option(default=None, help="target classes, if not the attack's own", at_least=1)
    queries: int | None = option(default=None, help="queries of Square, if not the attack's own", at_least=1)
    precision: str = option(default="float32", help="precision of the first search", choices=("float32", "bfloat16"))
    eot: int = option(default=1, help="answers averaged at every step, for randomised models", at_least=1)

    def __post_init__(self) -> None:
        if not self.eps:
            raise SettingError("RobustAccuracy.eps is empty; give at least one budget, such as [8/255].")
        object.__setattr__(self, "eps", tuple(sorted(set(self.eps))))
        self.attack_settings()

    def attack_settings(self) -> Attack:
        """The attack with what was overridden."""
        item = settings_of(card(self.attack, "attack"))()
        changes = {name: getattr(self, name) for name in ("steps", "targets", "queries") if getattr(self, name)}
        unknown = [name for name in changes if not hasattr(item, name)]
        if unknown:
            raise SettingError(f"The attack {self.attack!r} has no setting {unknown[0]!r}; leave it out.")
        return replace(item, **changes)

    def expected_cost(self, *, samples: int, classes: int) -> Cost:
        """Passes if no sample falls at all: the most the probe can cost."""
        total = Cost(forward=samples)
        for eps in self.eps:
            for stage in self.attack_settings().stages(ThreatModel(self.norm, eps), classes):
                passes = samples * stage.rule.evaluations * max(1, stage.targets) * stage.restarts
                total += Cost(forward=passes, backward=passes if stage.rule.needs_gradient else 0)
        return total

    def measure(self, examination: Examination) -> Measurement:
        """Run the attack at every budget and say what held."""
        from .evaluation import evaluate_grid

        results = evaluate_grid(
            examination.target,
            examination.images,
            examination.labels,
            [ThreatModel(self.norm, eps) for eps in self.eps],
            attack=self.attack_settings(),
            seed=examination.seed,
            batch_size=examination.batch_size,
            precision=self.precision,
            eot=self.eot,
            sample_ids=examination.sample_ids,
            shards=examination.shards,
            progress=examination.progress,
        )
        return Measurement(
            metrics=[metric for result in results for metric in self._metrics(examination, result)],
            samples=_columns(results),
            findings=_findings(results),
            figures=[self._curve(results), *self._classes(examination, results)],
            cost=sum((result.cost for result in results), Cost()),
            gallery=self._gallery(examination, results),
        )

    def _metrics(self, examination: Examination, result: Evaluation) -> list[Metric]:
        budget = f"{self.norm}:{budget_text(result.threat.eps)}"
        estimand = (
            f"share of samples classified correctly at every perturbation that {result.attack} tried, "
            f"{WORDS[self.norm]} {budget_text(result.threat.eps)}"
        )
        robust = result.robust.numpy()
        found = [Metric.from_estimate(f"robust_accuracy@{budget}", result.robust_accuracy, estimand=estimand)]
        for stratum, rows in strata(examination):
            rate = proportion(int(robust[rows].sum()), int(rows.sum()))
            found.append(Metric.from_estimate(f"robust_accuracy@{budget}", rate, estimand=estimand, stratum=stratum))
        return found

    def _curve(self, results: list[Evaluation]) -> Figure:
        clean = results[0].clean_accuracy
        rates = [clean, *(result.robust_accuracy for result in results)]
        budgets = (0.0, *(result.threat.eps for result in results))
        series = Series(
            label=results[0].attack,
            x=budgets,
            y=tuple(rate.value for rate in rates),
            lo=tuple(rate.lo for rate in rates),
            hi=tuple(rate.hi for rate in rates),
        )
        return Figure(
            name=f"robust-accuracy-{self.norm}",
            title=f"Accuracy under attack, {NORM_SYMBOLS[self.norm]}",
            caption=f"Share of {clean.n} samples still classified correctly at each budget; at 0 without an adversary. "
            "Bands are 95 % Clopper-Pearson intervals.",
            kind="line",
            x_label=f"budget ({NORM_SYMBOLS[self.norm]} norm, raw input units)",
            y_label="share correct",
            series=(series,),
            y_limits=(0.0, 1.0),
        )

    def _classes(self, examination: Examination, results: list[Evaluation]) -> list[Figure]:
        """Per class at the smallest budget that leaves less than 90 % of the clean accuracy."""
        clean = results[0].clean_accuracy.value
        result = next((r for r in results if r.robust_accuracy.value < 0.9 * clean), results[-1])
        robust = result.robust.numpy()
        rates = [(name, proportion(int(robust[rows].sum()), int(rows.sum()))) for name, rows in by_class(examination)]
        if not rates:
            return []
        rates.sort(key=lambda pair: pair[1].value)
        series = Series(
            label=f"{NORM_SYMBOLS[self.norm]} {budget_text(result.threat.eps)}",
            x=tuple(name for name, _ in rates[:20]),
            y=tuple(rate.value for _, rate in rates[:20]),
            lo=tuple(rate.lo for _, rate in rates[:20]),
            hi=tuple(rate.hi for _, rate in rates[:20]),
        )
        return [
            Figure(
                name=f"robust-classes-{self.norm}",
                title=f"Accuracy under attack by class, {NORM_SYMBOLS[self.norm]} {budget_text(result.threat.eps)}",
                caption="Weakest classes first (at most twenty). Bars are 95 % Clopper-Pearson intervals.",
                kind="bar",
                x_label="class",
                y_label="share correct under attack",
                series=(series,),
                y_limits=(0.0, 1.0),
            )
        ]

    def _gallery(self, examination: Examination, results: list[Evaluation]) -> Gallery | None:
        result = next((r for r in results if any(r.broken_by)), None)
        if result is None:
            return None
        rows = [row for row, name in enumerate(result.broken_by) if name]
        distances = norm_of(result.adversarial - examination.images, self.norm).tolist()
        return gallery(
            examination,
            rows,
            result.adversarial,
            distances,
            self.norm,
            title=f"Broken within {NORM_SYMBOLS[self.norm]} {budget_text(result.threat.eps)}",
            caption="The first samples that an attack broke at the smallest budget that breaks any.",
        )


def _columns(results: list[Evaluation]) -> dict[str, np.ndarray]:
    columns = {"correct": results[0].correct.numpy()}
    for result in results:
        budget = f"{result.threat.norm}:{budget_text(result.threat.eps)}"
        columns[f"robust@{budget}"] = result.robust.numpy()
        columns[f"decision@{budget}"] = result.decision.numpy()
        columns[f"broken_by@{budget}"] = np.array([name or "" for name in result.broken_by])
    return columns


def _findings(results: list[Evaluation]) -> list[Finding]:
    """Each finding once; ties are said with their number."""
    found: dict[tuple[str, str], Finding] = {}
    for result in results:
        budget = f"{result.threat.norm} {budget_text(result.threat.eps)}"
        for finding in result.findings:
            found.setdefault((finding.code, finding.message), finding)
        if result.ties:
            tie = Finding(
                code="ties",
                severity="info",
                message=f"At {budget}, {result.ties} of {len(result.robust)} samples lie within 1e-5 of the "
                "decision boundary: "
                "floating-point rounding on another machine may decide them otherwise.",
                value=float(result.ties),
            )
            found[("ties", budget)] = tie
    return list(found.values())
