"""Private training: what guarantee a model was trained under, and how well it serves each group.

Nothing is measured on the guarantee itself: the steps that were charged to the ledger of
the run (``privacy.json``) are composed again, by Rényi differential privacy (a bound) and by
numerical composition of privacy loss random variables (a tighter bound). Batches that were
not Poisson samples have no valid ε, and none is given.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ..core.errors import Unsupported
from ..core.estimates import proportion
from ..core.methods import Citation, MethodCard
from ..core.probes import Cost, Figure, Finding, Measurement, Metric, Series
from ..core.settings import option, settings
from .accountants import Steps
from .accounting import composed
from .reading import FILE, PrivacyRecord, read_privacy
from .statements import delta_remark
from .strata import Strata, bonferroni, rates, strata_of, widest_gap

if TYPE_CHECKING:
    from ..subjects.examination import Examination

CARD = MethodCard(
    name="private-training",
    kind="probe",
    title="Private training",
    summary="The privacy guarantee a model was trained under, and its accuracy in each group.",
    settings="PrivateTraining",
    citation=Citation(
        key="mironov2019subsampled",
        title="Rényi Differential Privacy of the Sampled Gaussian Mechanism",
        authors="Mironov, Ilya and Talwar, Kunal and Zhang, Li",
        year=2019,
        venue="arXiv",
        arxiv="1908.10530",
    ),
)

WEAK = 10.0
MOST_BARS = 40


class Spent(NamedTuple):
    """What the ledger comes to: ε by accountant, and why one is missing."""

    epsilon: dict[str, float]
    problem: str


@settings
class PrivateTraining:
    """Settings of the private-training probe."""

    groups: str = option(
        default="auto",
        help="groups the data name, or classes; auto: groups if there are any",
        choices=("auto", "group", "class"),
    )
    points: int = option(default=20, help="points of the curve of epsilon over steps", at_least=2, at_most=500)

    def expected_cost(self, *, samples: int, classes: int) -> Cost:
        """One forward pass a sample, shared with the other probes of a study."""
        return Cost(forward=samples)

    def measure(self, examination: Examination) -> Measurement:
        """ε by two accountants, accuracy by group and its gap."""
        record = read_privacy(examination.target.folder)
        if record is None:
            return Measurement(
                not_applicable=f"the model has no record of a private training (a {FILE} in the folder of 'assay "
                "train dp-sgd'), so nothing is known of how its training data were protected."
            )
        spent = _spent(record)
        strata = strata_of(examination.data, self.groups)
        labels = examination.labels
        correct = (examination.predictions().argmax(1) == labels).numpy()
        return Measurement(
            metrics=_interleaved(_privacy_metrics(record, spent), _accuracy_metrics(correct, strata)),
            samples={"correct": correct},
            findings=[*_findings(record, spent), *_statement(record)],
            figures=[*self._curve(record, spent), *_accuracy_figure(correct, strata)],
            cost=Cost(forward=len(labels)),
        )

    def _curve(self, record: PrivacyRecord, spent: Spent) -> list[Figure]:
        if "rdp" not in spent.epsilon or record.steps < 2:
            return []
        moments = sorted({round(step) for step in np.linspace(1, record.steps, self.points)})
        series = [Series(label="RDP", x=tuple(moments), y=tuple(_after(record, step, "rdp") for step in moments))]
        return [
            Figure(
                name="epsilon-over-steps",
                title="Privacy spent over training",
                caption=f"ε at δ = {record.delta:g} after each step, composed from the ledger by RDP, an upper bound. "
                f"{_by_prv(spent)}{record.steps:,} steps on {record.population:,} records.",
                kind="line",
                x_label="step",
                y_label="ε",
                series=tuple(series),
            )
        ]


def _interleaved(guarantee: list[Metric], accuracy: list[Metric]) -> list[Metric]:
    """First ε, then accuracy, then the rest: the first metrics of a run are its key figures."""
    return [*guarantee[:1], *accuracy, *guarantee[1:]]


def _by_prv(spent: Spent) -> str:
    return f"At the end PRV, a tighter bound, gives {spent.epsilon['prv']:.3g}. " if "prv" in spent.epsilon else ""


def _spent(record: PrivacyRecord) -> Spent:
    found: dict[str, float] = {}
    problem = ""
    for accountant in ("rdp", "prv"):
        try:
            found[accountant] = record.ledger.epsilon(record.delta, accountant)
        except Unsupported as error:
            problem = str(error)
    return Spent(found, problem)


def _after(record: PrivacyRecord, steps: int, accountant: str) -> float:
    """ε after the first so many steps of the ledger."""
    taken: list[Steps] = []
    left = steps
    for event in record.ledger.events:
        count = min(left, event.steps)
        taken.append(Steps(event.noise_multiplier, event.sample_rate, count))
        left -= count
    return composed(taken, record.delta, accountant)


def _privacy_metrics(record: PrivacyRecord, spent: Spent) -> list[Metric]:
    names = {"rdp": "Rényi differential privacy", "prv": "numerical composition (PRV)"}
    rows = [
        (
            f"epsilon@{accountant}",
            value,
            f"upper bound on ε at δ = {record.delta:g}, by {names[accountant]}, for adding or removing one record; "
            f"n counts the training records",
            "lower",
        )
        for accountant, value in spent.epsilon.items()
    ]
    rows.append(("delta", record.delta, "δ, by which the guarantee of ε may fail", "lower"))
    rows.append(("noise_multiplier", record.noise_multiplier, "noise on the gradient sum over its sensitivity", "none"))
    return [
        Metric(
            name=name,
            estimand=estimand,
            value=value,
            lo=None,
            hi=None,
            interval="",
            n=record.population,
            unit="",
            direction=direction,
        )
        for name, value, estimand, direction in rows
    ]


def _accuracy_metrics(correct: np.ndarray, strata: Strata) -> list[Metric]:
    found = [
        Metric.from_estimate(
            "private_accuracy",
            proportion(int(correct.sum()), len(correct)),
            estimand="share of inputs the private model gets right",
        )
    ]
    for name, estimate in rates(correct, strata).items():
        found.append(
            Metric.from_estimate(
                "private_accuracy",
                estimate,
                estimand=f"share of inputs of {strata.kind} {name} the private model gets right",
                stratum=strata.stratum(name),
            )
        )
    present = strata.present
    if len(present) > 1:
        found.append(
            Metric.from_estimate(
                f"accuracy_gap@{strata.kind}",
                widest_gap(rates(correct, strata, level=bonferroni(len(present)))),
                estimand=f"accuracy of the best-served {strata.kind} minus that of the worst-served",
                direction="lower",
            )
        )
    return found


def _findings(record: PrivacyRecord, spent: Spent) -> list[Finding]:
    found = []
    if spent.problem:
        whole = "rdp" not in spent.epsilon
        found.append(
            Finding(
                code="no-valid-epsilon" if whole else "no-epsilon-by-prv",
                severity="serious" if whole else "info",
                message=spent.problem,
            )
        )
    value = spent.epsilon.get("rdp", math.nan)
    if math.isinf(value):
        found.append(
            Finding(
                code="no-noise",
                severity="serious",
                message="At least one step was taken without noise: ε is infinite, and nothing is guaranteed.",
                remedy="Train with a noise multiplier above 0, or with a target epsilon.",
                value=value,
            )
        )
    elif value > WEAK:
        found.append(
            Finding(
                code="weak-guarantee",
                severity="warning",
                message=f"ε is {value:.3g}: the guarantee lets an observer's belief about one record grow by a factor "
                f"of up to e^{value:.3g}, which by itself protects hardly anybody.",
                remedy="Aim for an ε of a few units or less: more noise, fewer steps or a lower sampling rate.",
                value=value,
            )
        )
    remark = delta_remark(record.delta, record.population)
    if remark is not None:
        found.append(Finding(code="delta-too-large", severity="warning", message=remark, value=record.delta))
    if not record.secure:
        found.append(
            Finding(
                code="noise-from-a-seed",
                severity="warning",
                message="Sampling and noise came from a seed that stands in the run's record: whoever reads it can "
                "subtract the noise, so the guarantee holds only against those who do not.",
                remedy="For a release train with --secure true, or keep the record and its seed secret.",
            )
        )
    return found


def _statement(record: PrivacyRecord) -> list[Finding]:
    return [Finding(code="privacy-statement", severity="info", message=sentence) for sentence in record.statement]


def _accuracy_figure(correct: np.ndarray, strata: Strata) -> list[Figure]:
    found = rates(correct, strata)
    if len(found) < 2:
        return []
    shown = sorted(found, key=lambda name: found[name].value)[:MOST_BARS]
    chosen = "" if len(shown) == len(found) else f", the {len(shown)} worst of {len(found)}"
    return [
        Figure(
            name=f"private-accuracy-by-{strata.kind}",
            title=f"Accuracy of the private model by {strata.kind}",
            caption=f"Share of correct answers for each {strata.kind}{chosen}, worst first, with 95% intervals "
            f"(Clopper-Pearson), n = {len(correct)}.",
            kind="bar",
            x_label=strata.kind,
            y_label="accuracy",
            series=(
                Series(
                    label="accuracy",
                    x=tuple(shown),
                    y=tuple(found[name].value for name in shown),
                    lo=tuple(found[name].lo for name in shown),
                    hi=tuple(found[name].hi for name in shown),
                ),
            ),
            y_limits=(0.0, 1.0),
        )
    ]
