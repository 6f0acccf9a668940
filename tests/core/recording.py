"""A small run to write: shared by the tests of runs, claims and crashes. Not a test itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from assay.core.estimates import proportion
from assay.core.methods import Citation, MethodCard
from assay.core.probes import Cost, Figure, Finding, Gallery, Measurement, Metric, Series
from assay.core.runs import RunWriter
from assay.core.shards import Shards

CARD = MethodCard(
    name="clean-accuracy",
    kind="probe",
    title="Clean accuracy",
    summary="Share of samples that are classified right.",
    settings="CleanAccuracy",
    citation=Citation(key="someone2020", title="T", authors="A", year=2020, venue="V"),
)
PARTS = 5


def open_run(folder: str | Path, **changes: Any) -> RunWriter:
    values: dict[str, Any] = {
        "method": CARD,
        "given": {"eps": "8/255"},
        "resolved": {"eps": 8 / 255, "bins": 15},
        "target": {"digest": "t0", "name": "small"},
        "data": {"digest": "d0", "split": "test", "sample_id_digest": "s0"},
        "seeds": {"root": 0},
        "command": ["assay", "audit"],
    }
    return RunWriter.open(folder, **{**values, **changes})


def compute(shards: Shards) -> np.ndarray:
    """Whether each of 20 samples is right, in parts that are kept as they are finished."""
    parts = []
    for part in range(PARTS):
        if f"part/{part}" not in shards:
            shards.put(f"part/{part}", right=np.random.default_rng(part).random(4) < 0.7)
        parts.append(shards.get(f"part/{part}")["right"])
    return np.concatenate(parts)


def measure(right: np.ndarray) -> Measurement:
    estimate = proportion(int(right.sum()), len(right))
    pictures = np.linspace(0, 1, 2 * 4).reshape(2, 1, 2, 2)
    return Measurement(
        metrics=[
            Metric.from_estimate("clean_accuracy", estimate, estimand="share right"),
            Metric.from_estimate("clean_accuracy", proportion(3, 4), estimand="share right", stratum="class=3"),
            Metric.from_estimate("robust_accuracy@linf:8/255", proportion(9, 20), estimand="share robust"),
            Metric(name="gap", estimand="none", value=float("nan"), lo=None, hi=None, interval="", n=0),
        ],
        samples={"right": right, "name": np.array([f"row {i}" for i in range(len(right))])},
        findings=[Finding(code="saturated", severity="warning", message="one-hot outputs", value=0.5)],
        figures=[
            Figure(
                name="curve",
                title="Curve",
                caption="",
                kind="line",
                x_label="budget",
                y_label="share",
                series=(Series(label="=robust", x=("+cat", 1.5), y=(1.0, float("nan")), lo=(0.5, 0), hi=(1, 1)),),
            )
        ],
        cost=Cost(seconds=1.5, forward=20),
        gallery=Gallery(
            title="Most fragile",
            caption="<b>",
            original=pictures,
            changed=pictures[::-1],
            captions=[{"sample_id": 1, "label": "<script>"}, {"sample_id": 2, "label": "b"}],
        ),
    )


def run_to_the_end(folder: str | Path) -> None:
    """What the command of this run does, whether it starts or is resumed."""
    with open_run(folder) as writer:
        if not writer.finished:
            writer.finish(measure(compute(writer.shards)), sample_ids=np.arange(20))
