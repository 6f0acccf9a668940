"""Privacy cost: how much accuracy each group lost to privacy, against a baseline trained without it.

The privacy cost of group k, and the gap between two groups, are

    π_k = accuracy_baseline,k - accuracy_private,k         π_k - π_j

(Bagdasaryan et al., Differential Privacy Has Disparate Impact on Model Accuracy, NeurIPS 2019).
Both models answer the same samples, so that the interval of π_k is a paired one
(Newcombe's, from both Wilson intervals); p-values are McNemar's exact ones, corrected by
Holm over the groups. The gap max_k π_k - min_k π_k has a simultaneous interval
(Bonferroni), because which groups are the extremes is seen in the same data.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from ..core.errors import SettingError
from ..core.estimates import Estimate, bootstrap, holm, mcnemar, paired_difference, proportion
from ..core.methods import Citation, MethodCard
from ..core.probes import Cost, Figure, Finding, Measurement, Metric, Series
from ..core.seeds import seed
from ..core.settings import option, settings
from ..subjects.baselines import load_baseline, pinned
from .strata import Strata, bonferroni, independent_difference, paired_rates, rates, strata_of, widest_gap

if TYPE_CHECKING:
    from ..subjects.examination import Examination

CARD = MethodCard(
    name="privacy-cost",
    kind="probe",
    title="Privacy cost",
    summary="Accuracy that each group lost to privacy, against a baseline model on the same samples.",
    settings="PrivacyCost",
    citation=Citation(
        key="bagdasaryan2019disparate",
        title="Differential Privacy Has Disparate Impact on Model Accuracy",
        authors="Bagdasaryan, Eugene and Poursaeed, Omid and Shmatikov, Vitaly",
        year=2019,
        venue="Advances in Neural Information Processing Systems",
        arxiv="1905.12101",
    ),
)

MOST_BARS = 20
FEW = 30


@settings
class PrivacyCost:
    """Settings of the privacy-cost probe."""

    baseline: str | None = option(default=None, help="model without privacy: folder of 'assay train', or hf:FOLDER")
    baseline_digest: str | None = option(
        default=None, help="checksum of the baseline's weights; filled in for a folder, and then checked"
    )
    reference: str | None = option(
        default=None, help="group that the others are compared with; default: the one that pays least"
    )
    groups: str = option(
        default="auto",
        help="groups the data name, or classes; auto: groups if there are any",
        choices=("auto", "group", "class"),
    )
    resamples: int = option(default=2000, help="bootstrap draws for mean losses", at_least=100, at_most=100_000)

    def __post_init__(self) -> None:
        digest = pinned(self.baseline, self.baseline_digest, name="PrivacyCost.baseline")
        object.__setattr__(self, "baseline_digest", digest)

    def expected_cost(self, *, samples: int, classes: int) -> Cost:
        """One forward pass a sample through each of the two models."""
        return Cost(forward=2 * samples if self.baseline else samples)

    def measure(self, examination: Examination) -> Measurement:
        """Accuracy and loss of both models by group, privacy costs, their gap and differences."""
        if self.baseline is None:
            return Measurement(
                not_applicable="no baseline was named: set baseline to the folder of the same training without "
                "privacy. Accuracy by group alone stands in the section on private training."
            )
        baseline = load_baseline(self.baseline, examination)
        strata = strata_of(examination.data, self.groups)
        if self.reference is not None and self.reference not in strata.present:
            raise SettingError(
                f"PrivacyCost.reference is {self.reference!r}, which is no {strata.kind} of the data; "
                f"allowed: {', '.join(strata.present)}."
            )
        labels = examination.labels
        answers = {
            "baseline": baseline.predict(examination.images, batch_size=examination.batch_size),
            "private": examination.predictions(),
        }
        task = examination.target.task
        correct = {who: (logits.argmax(1) == labels).numpy() for who, logits in answers.items()}
        losses = {who: task.losses(logits.double(), labels).numpy() for who, logits in answers.items()}
        costs = {name: paired_rates(*_of(correct, strata, name)) for name in strata.present}
        return Measurement(
            metrics=[
                *_cost_metrics(correct, costs, strata),
                *_gap_metrics(correct, costs, strata, self.reference),
                *_rate_metrics(correct, strata),
                *self._loss_metrics(losses, strata, examination.seed),
            ],
            samples={
                **{f"correct_{who}": values for who, values in correct.items()},
                **{f"loss_{who}": values for who, values in losses.items()},
            },
            findings=_findings(correct, costs, strata),
            figures=_figures(correct, costs, strata),
            cost=Cost(forward=2 * len(labels)),
        )

    def _loss_metrics(self, losses: dict[str, np.ndarray], strata: Strata, root: int) -> list[Metric]:
        found = []
        for name in strata.present:
            rows, where = strata.rows(name), f"inputs of {strata.kind} {name}"
            for who, values in losses.items():
                stream = seed(root, "privacy-cost", who, name)
                estimate = bootstrap(values[rows], resamples=self.resamples, seed=stream)
                estimand = f"mean cross-entropy of the {who} model on {where}"
                found.append(_loss(f"{who}_loss", estimate, estimand, strata.stratum(name)))
            stream = seed(root, "privacy-cost", "difference", name)
            pair = losses["private"][rows], losses["baseline"][rows]
            estimate = paired_difference(*pair, resamples=self.resamples, seed=stream)
            estimand = f"mean cross-entropy of the private model minus that of the baseline on {where}"
            found.append(_loss("loss_cost", estimate, estimand, strata.stratum(name)))
        return found


def _of(correct: dict[str, np.ndarray], strata: Strata, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Hits of baseline and private model in one group."""
    rows = strata.rows(name)
    return correct["baseline"][rows], correct["private"][rows]


def _loss(name: str, estimate: Estimate, estimand: str, stratum: str) -> Metric:
    return Metric.from_estimate(name, estimate, estimand=estimand, unit="nats", direction="lower", stratum=stratum)


def _rate_metrics(correct: dict[str, np.ndarray], strata: Strata) -> list[Metric]:
    found = []
    for who, hits in correct.items():
        total = proportion(int(hits.sum()), len(hits))
        estimand = f"share of inputs the {who} model gets right"
        found.append(Metric.from_estimate(f"{who}_accuracy", total, estimand=estimand))
        for name, estimate in rates(hits, strata).items():
            found.append(
                Metric.from_estimate(
                    f"{who}_accuracy",
                    estimate,
                    estimand=f"share of inputs of {strata.kind} {name} the {who} model gets right",
                    stratum=strata.stratum(name),
                )
            )
    return found


def _cost_metrics(correct: dict[str, np.ndarray], costs: dict[str, Estimate], strata: Strata) -> list[Metric]:
    found = [
        Metric.from_estimate(
            "privacy_cost",
            paired_rates(correct["baseline"], correct["private"]),
            estimand="accuracy of the baseline minus accuracy of the private model, on the same inputs",
            direction="lower",
        )
    ]
    tests = {name: mcnemar(*_of(correct, strata, name)) for name in costs}
    adjusted = dict(zip(tests, holm([test.p_value for test in tests.values()]), strict=True))
    for name, estimate in costs.items():
        where = f"inputs of {strata.kind} {name}"
        found.append(
            Metric.from_estimate(
                "privacy_cost",
                estimate,
                estimand=f"accuracy of the baseline minus accuracy of the private model on {where}",
                direction="lower",
                stratum=strata.stratum(name),
            )
        )
        found.append(
            Metric(
                name="privacy_cost_p_value",
                estimand=f"McNemar's exact p-value that both models err equally often on {where}, after Holm's "
                f"correction for {len(costs)} groups; {tests[name].only_first} inputs only the baseline gets right, "
                f"{tests[name].only_second} only the private model",
                value=float(adjusted[name]),
                lo=None,
                hi=None,
                interval="",
                n=estimate.n,
                unit="",
                direction="none",
                stratum=strata.stratum(name),
            )
        )
    return found


def _gap_metrics(
    correct: dict[str, np.ndarray], costs: dict[str, Estimate], strata: Strata, reference: str | None
) -> list[Metric]:
    """max π - min π, and π_k - π_j of every group against one."""
    if len(costs) < 2:
        return []
    wide = {name: paired_rates(*_of(correct, strata, name), level=bonferroni(len(costs))) for name in costs}
    found = [
        Metric.from_estimate(
            "privacy_cost_gap",
            widest_gap(wide),
            estimand=f"largest privacy cost of a {strata.kind} minus the smallest",
            direction="lower",
        )
    ]
    against = reference or min(costs, key=lambda name: costs[name].value)
    pairs = len(costs) - 1 if reference else len(costs) * (len(costs) - 1) // 2
    each = {name: paired_rates(*_of(correct, strata, name), level=bonferroni(pairs)) for name in costs}
    for name in costs:
        if name == against:
            continue
        difference = replace(
            independent_difference(each[name], each[against]), level=0.95, method="Newcombe, square-and-add, Bonferroni"
        )
        found.append(
            Metric.from_estimate(
                f"privacy_cost_difference@{strata.kind} {against}",
                difference,
                estimand=f"privacy cost of {strata.kind} {name} minus that of {strata.kind} {against}; the intervals "
                f"cover together, over {pairs} pairs",
                direction="lower",
                stratum=strata.stratum(name),
            )
        )
    return found


def _findings(correct: dict[str, np.ndarray], costs: dict[str, Estimate], strata: Strata) -> list[Finding]:
    found = []
    worst = max(costs, key=lambda name: costs[name].value)
    paying = [name for name in costs if costs[name].lo > 0]
    if paying:
        cost = costs[worst]
        found.append(
            Finding(
                code="who-pays",
                severity="info",
                message=f"{strata.kind.capitalize()} {worst} pays most: {100 * cost.value:.1f} points of accuracy "
                f"({100 * cost.lo:.1f} to {100 * cost.hi:.1f}, n = {cost.n}). {len(paying)} of {len(costs)} "
                f"{_plural(strata.kind)} lost more than chance explains, each by itself.",
                value=cost.value,
            )
        )
    small = [name for name in costs if costs[name].n < FEW]
    if small:
        found.append(
            Finding(
                code="few-samples",
                severity="warning",
                message=f"{len(small)} of {len(costs)} {_plural(strata.kind)} have fewer than {FEW} samples here "
                f"({', '.join(small[:5])}{', ...' * (len(small) > 5)}): their intervals are wide.",
                remedy="Examine more samples of them before comparing them.",
                value=float(len(small)),
            )
        )
    if correct["private"].mean() > correct["baseline"].mean():
        found.append(
            Finding(
                code="baseline-is-worse",
                severity="warning",
                message=f"The baseline is right on {correct['baseline'].mean():.1%} of the inputs, the private model "
                f"on {correct['private'].mean():.1%}: this baseline does not show what privacy costs.",
                remedy="Train the baseline as long and as well as the private model, without clipping and noise.",
            )
        )
    return found


def _plural(kind: str) -> str:
    return "classes" if kind == "class" else f"{kind}s"


def _figures(correct: dict[str, np.ndarray], costs: dict[str, Estimate], strata: Strata) -> list[Figure]:
    if len(costs) < 2:
        return []
    order = sorted(costs, key=lambda name: -costs[name].value)[:MOST_BARS]
    chosen = "" if len(order) == len(costs) else f", the {len(order)} that pay most of {len(costs)}"
    total = sum(estimate.n for estimate in costs.values())
    accuracies = {who: rates(hits, strata) for who, hits in correct.items()}
    return [
        Figure(
            name="privacy-cost",
            title=f"Privacy cost by {strata.kind}",
            caption=f"Accuracy lost to privacy in each {strata.kind}{chosen}, with paired 95% intervals (Newcombe), "
            f"n = {total}. At 0 the {strata.kind} pays nothing.",
            kind="bar",
            x_label=strata.kind,
            y_label="privacy cost (share)",
            series=(_bars("privacy cost", {name: costs[name] for name in order}),),
        ),
        Figure(
            name="accuracy-with-and-without-privacy",
            title="Accuracy with and without privacy",
            caption=f"Share of correct answers in each {strata.kind}{chosen}, with 95% intervals (Clopper-Pearson), "
            f"n = {total}.",
            kind="bar",
            x_label=strata.kind,
            y_label="accuracy",
            series=tuple(_bars(who, {name: found[name] for name in order}) for who, found in accuracies.items()),
            y_limits=(0.0, 1.0),
        ),
    ]


def _bars(label: str, values: dict[str, Estimate]) -> Series:
    return Series(
        label=label,
        x=tuple(values),
        y=tuple(item.value for item in values.values()),
        lo=tuple(item.lo for item in values.values()),
        hi=tuple(item.hi for item in values.values()),
    )
