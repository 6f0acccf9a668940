"""What came of a training: metrics with intervals, per-sample answers, the course of the losses."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor

from ..core.budgets import budget_text
from ..core.estimates import proportion
from ..core.probes import Cost, Figure, Finding, Measurement, Metric, Series
from .job import Job
from .state import TrainState
from .validation import Validator

if TYPE_CHECKING:
    from ..core.progress import Progress
    from .folder import Log


def measure(
    job: Job,
    state: TrainState,
    log: Log,
    weights: Mapping[str, Tensor],
    validator: Validator | None,
    pause: Callable[[], None],
    progress: Progress,
) -> Measurement:
    """Validate the weights that are kept, in float32, and gather what the record says."""
    measurement = Measurement(findings=[*log.findings(), *_findings(job, log)], figures=_figures(log))
    if validator is not None:
        with state.holding(weights):
            answers = validator.answers(state, pause, progress)
        correct = answers.predicted == validator.labels
        measurement.samples = {"label": validator.labels, "predicted": answers.predicted, "correct": correct}
        measurement.metrics = [
            _share("validation_accuracy", correct, "share of validation samples classified correctly")
        ]
        adversary = job.recipe.adversary()
        if answers.held is not None and adversary is not None:
            measurement.samples["correct_under_attack"] = answers.held
            name = f"validation_accuracy_under_attack@{adversary.norm}:{budget_text(adversary.eps)}"
            estimand = "share of validation samples classified correctly before and after the attack used in training"
            measurement.metrics.append(_share(name, answers.held, estimand))
    measurement.cost = Cost(forward=state.cost.forward, backward=state.cost.backward)
    return measurement


def _share(name: str, flags: np.ndarray, estimand: str) -> Metric:
    return Metric.from_estimate(name, proportion(int(flags.sum()), len(flags)), estimand=estimand)


def _findings(job: Job, log: Log) -> list[Finding]:
    found = []
    if job.validation is None:
        found.append(
            Finding(
                code="no-validation",
                severity="info",
                message="No validation data were given, so nothing was measured on samples outside the training data.",
                remedy="Give validation data, or audit the model.",
            )
        )
    if log.best is not None:
        found.append(
            Finding(
                code="selected-on-validation",
                severity="info",
                message=f"The weights are those of epoch {log.best['epoch']}, chosen by the validation metric "
                f"{job.settings.select}; the validation metrics are therefore optimistic.",
                remedy="Report figures from samples that were not used for the choice.",
            )
        )
    return found


def _figures(log: Log) -> list[Figure]:
    """Losses and validation shares by epoch."""
    losses = _curves(log, lambda name: name.endswith("loss"))
    shares = _curves(log, lambda name: name.endswith("accuracy"))
    drawn = [
        ("loss", "Loss by epoch", "mean loss", losses, None),
        ("accuracy", "Accuracy by epoch", "share", shares, (0, 1)),
    ]
    known = {name.partition("_")[0] for row in log.history for name in row}
    remarks = {"training": "Training: mean over the epoch.", "validation": "Validation: at the end of the epoch."}
    caption = " ".join([f"{len(log.history)} epochs.", *(text for name, text in remarks.items() if name in known)])
    return [
        Figure(
            name=f"history-{name}",
            title=title,
            caption=caption,
            kind="line",
            x_label="epoch",
            y_label=label,
            series=curves,
            y_limits=limits,
        )
        for name, title, label, curves, limits in drawn
        if curves
    ]


def _curves(log: Log, wanted: Callable[[str], bool]) -> tuple[Series, ...]:
    names = sorted({name for row in log.history for name in row if wanted(name)})
    curves = []
    for name in names:
        points = [(row["epoch"], row[name]) for row in log.history if name in row]
        xs, ys = zip(*points, strict=True)
        curves.append(Series(label=name.replace("_", " "), x=xs, y=ys))
    return tuple(curves)
