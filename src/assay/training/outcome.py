"""What came of a training: metrics with intervals, per-sample answers, the course of the losses."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from torch import Tensor

from ..core.probes import Cost, Figure, Finding, Measurement, Series
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
        validator.report(answers, measurement)
    measurement.cost = Cost(forward=state.cost.forward, backward=state.cost.backward)
    return measurement


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
    """Losses and what validation found, by epoch."""
    losses = _curves(log, lambda name: name.endswith("loss"))
    shares = _curves(log, lambda name: name.endswith("accuracy"))
    cosines = _curves(log, lambda name: "cosine" in name)
    ranks = _curves(log, lambda name: name.endswith("effective_rank"))
    drawn = [
        ("loss", "Loss by epoch", "mean loss", losses, None),
        ("accuracy", "Accuracy by epoch", "share", shares, (0, 1)),
        ("cosine", "Cosine similarity by epoch", "mean cosine", cosines, None),
        ("effective-rank", "Directions over which embeddings spread, by epoch", "effective rank", ranks, None),
    ]
    known = {name.partition("_")[0] for row in log.history for name in row}
    remarks = {
        "training": "Training: mean over the epoch.",
        "validation": "Validation: at the end of the epoch.",
        "sample": "Sample: the first training images, at the end of the epoch.",
    }
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
