"""Accuracy on unchanged inputs, overall, for every class and for every group.

    accuracy = 1/N Σ_i 1[argmax_k z_k(x_i) = y_i]
    gap      = max_c accuracy_c - min_c accuracy_c

Rates have exact Clopper-Pearson intervals. The interval of the gap follows from
those of the C classes, each at level 1 - 0.05/C (Bonferroni), so that it covers
the true gap although best and worst class were picked after looking:
[max(0, max_c lo_c - min_c hi_c), max_c hi_c - min_c lo_c].
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from ..core.estimates import Estimate, clopper_pearson, proportion
from ..core.methods import Citation, MethodCard
from ..core.probes import Cost, Figure, Finding, Measurement, Metric, Series
from ..core.settings import option, settings
from ..subjects.examination import Examination
from ..subjects.strata import by_class, by_group
from .confidence import beliefs

CARD = MethodCard(
    name="clean-accuracy",
    kind="probe",
    title="Clean accuracy",
    summary="How often the model is right on unchanged inputs, for every class and group.",
    settings="CleanAccuracy",
    citation=Citation(
        key="clopper1934",
        title="The use of confidence or fiducial limits illustrated in the case of the binomial",
        authors="Clopper, C. J. and Pearson, E. S.",
        year=1934,
        venue="Biometrika",
    ),
)


@settings
class CleanAccuracy:
    """Settings of the clean-accuracy probe."""

    most_bars: int = option(
        default=20, help="classes shown in the figure, the worst ones first", at_least=2, at_most=1000
    )

    def expected_cost(self, *, samples: int, classes: int) -> Cost:
        """One forward pass a sample, shared with the other probes of a study."""
        return Cost(forward=samples)

    def measure(self, examination: Examination) -> Measurement:
        """Accuracy with its strata; per-sample columns label, prediction, correct, confidence."""
        logits = examination.predictions()
        labels = examination.labels.cpu().numpy()
        belief = beliefs(logits)
        prediction = logits.argmax(1).cpu().numpy()
        correct = prediction == labels
        classes = {name: correct[rows] for name, rows in by_class(examination)}
        groups = {name: correct[rows] for name, rows in by_group(examination)}
        metrics = [self._rate("clean_accuracy", correct, "")]
        metrics += [self._rate("clean_accuracy", part, f"class={name}") for name, part in classes.items()]
        metrics += self._gap("accuracy_gap", classes, "class")
        metrics += [self._rate("clean_accuracy", part, f"group={name}") for name, part in groups.items()]
        metrics += self._gap("accuracy_gap@group", groups, "group")
        return Measurement(
            metrics=metrics,
            samples={
                "label": labels,
                "prediction": prediction,
                "correct": correct,
                "confidence": belief.probabilities.max(1),
            },
            findings=[
                *examination.target.findings,
                *belief.findings,
                *_findings(correct, prediction, classes=len(examination.data.class_names), seen=len(classes)),
            ],
            figures=self._figures(classes),
            cost=Cost(forward=len(labels)),
        )

    def _rate(self, name: str, correct: np.ndarray, stratum: str) -> Metric:
        estimate = proportion(int(correct.sum()), len(correct))
        population = f"inputs of {stratum.replace('=', ' ')}" if stratum else "inputs"
        return Metric.from_estimate(
            name, estimate, estimand=f"share of unchanged {population} the model gets right", stratum=stratum
        )

    def _gap(self, name: str, strata: Mapping[str, np.ndarray], kind: str) -> list[Metric]:
        if len(strata) < 2:
            return []
        estimate = gap([(int(part.sum()), len(part)) for part in strata.values()])
        estimand = f"accuracy of the best-served {kind} minus that of the worst-served"
        return [Metric.from_estimate(name, estimate, estimand=estimand, direction="lower")]

    def _figures(self, strata: Mapping[str, np.ndarray]) -> list[Figure]:
        if len(strata) < 2:
            return []
        rates = {name: proportion(int(part.sum()), len(part)) for name, part in strata.items()}
        shown = sorted(rates, key=lambda name: rates[name].value)[: self.most_bars]
        chosen = "" if len(shown) == len(rates) else f", the {len(shown)} worst of {len(rates)}"
        return [
            Figure(
                name="accuracy-by-class",
                title="Accuracy by class",
                caption=f"Share of correct answers for each class{chosen}, worst first, with 95% intervals "
                f"(Clopper-Pearson), n = {sum(map(len, strata.values()))}.",
                kind="bar",
                x_label="class",
                y_label="accuracy",
                series=(
                    Series(
                        label="accuracy",
                        x=tuple(shown),
                        y=tuple(rates[name].value for name in shown),
                        lo=tuple(rates[name].lo for name in shown),
                        hi=tuple(rates[name].hi for name in shown),
                    ),
                ),
                y_limits=(0.0, 1.0),
            )
        ]


def gap(counts: list[tuple[int, int]], *, level: float = 0.95) -> Estimate:
    """Best minus worst rate of several strata, with a simultaneous interval.

    Args:
        counts: (successes, trials) of each stratum, at least two, trials at least 1.
        level: coverage, guaranteed for any number of strata.

    >>> found = gap([(9, 10), (5, 10)])
    >>> round(found.value, 2), found.lo, found.hi < 1
    (0.4, 0.0, True)
    """
    rates = [successes / trials for successes, trials in counts]
    ends = [clopper_pearson(successes, trials, 1 - (1 - level) / len(counts)) for successes, trials in counts]
    lows, highs = [low for low, _ in ends], [high for _, high in ends]
    return Estimate(
        value=max(rates) - min(rates),
        lo=max(0.0, max(lows) - min(highs)),
        hi=max(highs) - min(lows),
        n=sum(trials for _, trials in counts),
        method="clopper-pearson, Bonferroni",
        level=level,
    )


def _findings(correct: np.ndarray, prediction: np.ndarray, *, classes: int, seen: int) -> list[Finding]:
    findings = []
    upper = proportion(int(correct.sum()), len(correct)).hi
    if upper < 1 / classes:
        findings.append(
            Finding(
                code="worse-than-chance",
                severity="serious",
                message=f"The model is right on {correct.mean():.1%} of the inputs, less than guessing among "
                f"{classes} classes would be.",
                remedy="Check that the order of the classes and the preprocessing are those of the training.",
                value=float(correct.mean()),
            )
        )
    if seen > 1 and len(np.unique(prediction)) == 1:
        findings.append(
            Finding(
                code="constant-prediction",
                severity="serious",
                message=f"The model gives class {int(prediction[0])} to every one of {len(prediction)} inputs.",
                remedy="Check the weights and the preprocessing; other results describe a model that sees nothing.",
            )
        )
    if seen < classes:
        findings.append(
            Finding(
                code="classes-without-samples",
                severity="info",
                message=f"{classes - seen} of {classes} classes have no sample here; nothing is known of them.",
                remedy="Use more samples, or a selection that holds every class.",
                value=float(classes - seen),
            )
        )
    return findings
