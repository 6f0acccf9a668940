"""Runs written through the real writer, with the content a real audit has, for the tests of the report."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np

from assay.core.claims import Verdict, check
from assay.core.estimates import proportion
from assay.core.methods import Citation, MethodCard
from assay.core.probes import Cost, Figure, Finding, Gallery, Mark, Measurement, Metric, Series
from assay.core.runs import Run, RunWriter, load_run

AUTOATTACK = Citation(
    key="croce2020reliable",
    title="Reliable evaluation of adversarial robustness with an ensemble of diverse parameter-free attacks",
    authors="Croce, Francesco and Hein, Matthias",
    year=2020,
    venue="International Conference on Machine Learning",
    arxiv="2003.01690",
)
CALIBRATION = Citation(
    key="guo2017calibration",
    title="On calibration of modern neural networks",
    authors="Guo, Chuan and Pleiss, Geoff and Sun, Yu and Weinberger, Kilian Q.",
    year=2017,
    venue="International Conference on Machine Learning",
    arxiv="1706.04599",
)
CARDS = {
    "clean-accuracy": MethodCard(
        name="clean-accuracy",
        kind="probe",
        title="Clean accuracy",
        summary="How often the model is right on unchanged inputs, for all samples and for every class.",
        settings="CleanAccuracy",
    ),
    "calibration": MethodCard(
        name="calibration",
        kind="probe",
        title="Calibration",
        summary="Whether the model's confidence can be taken at its word.",
        settings="Calibration",
        citation=CALIBRATION,
    ),
    "robust-accuracy": MethodCard(
        name="robust-accuracy",
        kind="probe",
        title="Robust accuracy",
        summary="How often the model stays right when an adversary changes the input within a budget.",
        settings="RobustAccuracy",
        citation=AUTOATTACK,
    ),
    "minimum-norm": MethodCard(
        name="minimum-norm",
        kind="probe",
        title="Smallest change that fools the model",
        summary="For every sample, the size of the smallest change found that makes the model wrong.",
        settings="MinimumNorm",
    ),
}
CLASSES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
TARGET = {
    "name": "digits-cnn",
    "digest": "b1946ac92492d2347c6235b4d2611184",
    "source": "run:runs/reference",
    "task": "classification",
    "bounds": [0.0, 1.0],
    "parameters": 20410,
    "preprocess": None,
}
DATA = {
    "name": "digits",
    "split": "test",
    "n": 450,
    "digest": "9f86d081884c7d659a2feaa0c55ad015",
    "sample_id_digest": "2c26b46b68ffc68f",
    "notes": ["Grey levels 0 to 16 were divided by 16.", "450 of 1797 samples were read."],
}
COMMAND = ["assay", "audit", "--suite", "standard", "--data", "my images/", "--out", "audit"]
BUDGETS = ("2/255", "4/255", "8/255", "16/255")


def rate(name: str, successes: int, n: int, **words: str) -> Metric:
    return Metric.from_estimate(name, proportion(successes, n), **{"estimand": f"Population value of {name}.", **words})


def write_run(
    folder: Path,
    probe: str,
    measurement: Measurement,
    *,
    settings: dict[str, Any] | None = None,
    target: dict[str, Any] | None = None,
    data: dict[str, Any] | None = None,
) -> Run:
    """One finished run."""
    with _open(folder, probe, settings, target, data) as writer:
        return writer.finish(measurement, sample_ids=np.arange(len(next(iter(measurement.samples.values()), []))))


def failed_run(folder: Path, probe: str, error: BaseException, *, settings: dict[str, Any] | None = None) -> Run:
    """One run that stopped with an error."""
    writer = _open(folder, probe, settings, None, None)
    writer.fail(error)
    return load_run(writer.path)


def _open(folder: Path, probe: str, settings: Any, target: Any, data: Any) -> RunWriter:
    return RunWriter.open(
        folder,
        method=CARDS[probe],
        given=settings or {},
        resolved=settings or {},
        target=target or TARGET,
        data=data or DATA,
        seeds={"root": 0},
        command=COMMAND,
    )


def accuracy(classes: tuple[str, ...] = CLASSES) -> Measurement:
    right = [45, 44, 45, 41, 45, 43, 44, 45, 36, 42, *([40] * 90)][: len(classes)]
    metrics = [rate("clean_accuracy", sum(right), 45 * len(classes))]
    metrics.append(
        Metric(
            name="accuracy_gap",
            estimand="Accuracy of the best class minus that of the worst.",
            value=0.2,
            lo=0.091,
            hi=0.333,
            interval="bootstrap 95%",
            n=45 * len(classes),
            direction="lower",
        )
    )
    strata = [rate("clean_accuracy", r, 45, stratum=f"class={name}") for r, name in zip(right, classes, strict=True)]
    ends = [proportion(r, 45) for r in right]
    figure = Figure(
        name="accuracy-by-class",
        title="Accuracy of every class",
        caption="Share of the 45 samples of a class that the model gets right, with 95 % intervals.",
        kind="bar",
        x_label="class",
        y_label="accuracy (share)",
        series=(
            Series(
                label="accuracy",
                x=classes,
                y=tuple(r / 45 for r in right),
                lo=tuple(e.lo for e in ends),
                hi=tuple(e.hi for e in ends),
            ),
        ),
        y_limits=(0, 1),
    )
    return Measurement(
        metrics=[*metrics, *strata],
        samples={"correct": np.ones(450, dtype=bool)},
        figures=[figure],
        cost=Cost(seconds=0.8, forward=450, peak_memory_bytes=410 * 2**20),
    )


def calibration() -> Measurement:
    centres = np.linspace(0.35, 0.98, 8)
    hit = np.clip(centres - 0.09 * np.sin(3 * centres), 0, 1)
    figures = [
        Figure(
            name="reliability",
            title="Does the confidence keep its word?",
            caption="On the dotted line the model is right as often as it says. n = 450, 95 % intervals.",
            kind="reliability",
            x_label="stated confidence",
            y_label="how often right (share)",
            series=(
                Series(
                    label="digits-cnn",
                    x=tuple(centres),
                    y=tuple(hit),
                    lo=tuple(np.clip(hit - 0.1, 0, 1)),
                    hi=tuple(np.clip(hit + 0.06, 0, 1)),
                ),
            ),
        ),
        Figure(
            name="confidence",
            title="How sure the model is",
            caption="Number of samples at each level of confidence. n = 450.",
            kind="histogram",
            x_label="stated confidence",
            y_label="samples",
            series=(Series(label="samples", x=tuple(centres), y=(3, 5, 9, 14, 22, 41, 86, 270)),),
        ),
    ]
    error = Metric(
        name="expected_calibration_error",
        estimand="Mean distance between confidence and accuracy over 15 bins.",
        value=0.031,
        lo=0.022,
        hi=0.047,
        interval="bootstrap 95%",
        n=450,
        direction="lower",
    )
    return Measurement(metrics=[error], figures=figures, cost=Cost(seconds=0.1))


def pictures(count: int, channels: int = 1, side: int = 8, size: float = 8 / 255) -> tuple[np.ndarray, np.ndarray]:
    from sklearn.datasets import load_digits

    generator = np.random.default_rng(0)
    digits = (load_digits().images[:count] / 16).astype(np.float32)
    original = np.kron(digits, np.ones((side // 8, side // 8), dtype=np.float32))[:, None].repeat(channels, axis=1)
    changed = np.clip(original + size * generator.choice([-1, 1], original.shape), 0, 1).astype(np.float32)
    return original, changed


def robustness(norm: str = "linf", budgets: tuple[str, ...] = BUDGETS) -> Measurement:
    shares = (421, 388, 250, 31)[: len(budgets)]
    metrics = [
        rate(f"robust_accuracy@{norm}:{budget}", right, 450) for budget, right in zip(budgets, shares, strict=True)
    ]
    ends = [proportion(right, 450) for right in (430, *shares)]
    x = (0.0, *(2 * 2**i / 255 for i in range(len(budgets))))
    curve = Series(
        label="standard attack",
        x=x,
        y=tuple(e.value for e in ends),
        lo=tuple(e.lo for e in ends),
        hi=tuple(e.hi for e in ends),
    )
    bound = Series(label="smallest change found", x=x, y=tuple(min(1.0, e.value + 0.03) for e in ends))
    original, changed = pictures(6)
    captions = [
        {
            "sample_id": 7 * i,
            "label": CLASSES[i],
            "before": CLASSES[i],
            "before_confidence": 0.98 - 0.03 * i,
            "after": CLASSES[(i * 3 + 5) % 10],
            "after_confidence": 0.55 + 0.05 * i,
            "distance": 8 / 255,
            "norm": norm,
        }
        for i in range(6)
    ]
    return Measurement(
        metrics=metrics,
        samples={"robust": np.arange(450) < 250},
        figures=[
            Figure(
                name="accuracy-over-budget",
                title="Accuracy as the budget grows",
                caption="Share of samples still right, with 95 % intervals. n = 450.",
                kind="line",
                x_label="budget ε in L∞ (share of the range of a value)",
                y_label="robust accuracy (share)",
                series=(curve, bound),
                y_limits=(0, 1),
            )
        ],
        findings=[
            Finding(
                code="large-budget",
                severity="info",
                message="Robust accuracy falls to 0 at a budget of 0.5, as it must.",
            ),
            Finding(
                code="square-beats-gradient",
                severity="serious",
                message="A search without gradients broke 12 samples that gradient attacks did not: the gradients "
                "may be masked.",
                remedy="Do not rely on this robust accuracy; look for quantisation, saturation or randomness in the "
                "model.",
                value=12,
            ),
            Finding(
                code="close-calls",
                severity="warning",
                message="2 samples lie within 1e-5 of the boundary.",
                remedy="Read the rates as ± 2 samples.",
            ),
        ],
        gallery=Gallery(
            title="Fooled with the least change",
            caption="Six samples at budget 8/255.",
            original=original,
            changed=changed,
            captions=captions,
        ),
        cost=Cost(seconds=74.2, forward=812_331, backward=388_120, peak_memory_bytes=702 * 2**20),
    )


def distances() -> Measurement:
    generator = np.random.default_rng(1)
    values = np.sort(generator.gamma(4, 0.2, 60))
    median = Metric(
        name="median_distance@l2",
        estimand="Median L2 length of the smallest change that fools the model.",
        value=0.713,
        lo=0.655,
        hi=0.77,
        interval="order statistics 95%",
        n=450,
        unit="L2 distance",
    )
    figure = Figure(
        name="distances",
        title="How far the samples are from an error",
        caption="Share of samples that a change of at most this length makes wrong. n = 60.",
        kind="cdf",
        x_label="L2 length of the smallest change found",
        y_label="share of samples",
        series=(Series(label="digits-cnn", x=tuple(values), y=tuple((np.arange(60) + 1) / 60)),),
        y_limits=(0, 1),
    )
    return Measurement(metrics=[median], figures=[figure], cost=Cost(seconds=12.3, forward=40_000, backward=39_000))


def moving(name: str = "speed", frames: int = 4, points: int = 30) -> Measurement:
    """The frames of a cloud of points that moves, and no metric."""
    generator = np.random.default_rng(2)
    margin, speed = generator.normal(0.03, 0.03, points), generator.normal(0, 1, points)
    margin[0] = math.inf
    figures = []
    for step in range(frames):
        place = margin + 0.01 * step
        close = place < 8 / 255
        figures.append(
            Figure(
                name=f"{name}-{step}",
                title=f"Margin and {name}",
                caption=f"Each point is a sample. n = {points}.",
                kind="scatter",
                x_label="margin in L∞",
                y_label="relative speed",
                sequence=name,
                moment=f"step {200 * step} of {200 * (frames - 1)}",
                marks=(Mark(axis="x", value=8 / 255, label="8/255"), Mark(axis="y", value=0, label="no speed")),
                series=(
                    Series(label="vulnerable", x=tuple(place[close]), y=tuple(speed[close])),
                    Series(label="others", x=tuple(place[~close]), y=tuple(speed[~close])),
                ),
            )
        )
    return Measurement(figures=figures)


CLAIMS: list[Any] = [
    "clean_accuracy >= 0.9",
    "clean_accuracy{class=eight} >= 0.85",
    "expected_calibration_error <= 0.05",
    {"claim": "robust_accuracy@linf:8/255 >= 0.5", "confident": True},
    "robust_accuracy@l1:12 >= 0.3",
]


def make_study(folder: Path) -> tuple[list[Run], dict[str, Any], list[Verdict]]:
    """A whole audit: five runs, one of them failed, and claims of every outcome."""
    place = folder / "runs"
    eps = [2 / 255, 4 / 255, 8 / 255, 16 / 255]
    runs = [
        write_run(place, "clean-accuracy", accuracy()),
        write_run(place, "calibration", calibration(), settings={"bins": 15}),
        write_run(place, "robust-accuracy", robustness(), settings={"norm": "linf", "eps": eps, "attack": "apgd-ce"}),
        write_run(place, "minimum-norm", distances(), settings={"norm": "l2"}),
        failed_run(
            place,
            "robust-accuracy",
            ValueError("the model returned NaN for sample 12"),
            settings={"norm": "l1", "eps": [12.0], "attack": "apgd-ce"},
        ),
    ]
    verdicts = check(CLAIMS, runs)
    study = {
        "schema": 1,
        "kind": "study",
        "created": "2026-02-03T09:30:00+00:00",
        "command": COMMAND,
        "target": TARGET,
        "data": DATA,
        "runs": [{"probe": run.method["name"], "id": run.id, "status": run.status} for run in runs],
        "verdicts": [verdict.as_dict() for verdict in verdicts],
        "status": "incomplete",
        "not_tested": [
            "Perturbations bounded in L2.",
            "Privacy: membership inference, reconstruction of training data, differential privacy.",
            "Common corruptions and shifts: noise, blur, weather, compression, new cameras or populations.",
        ],
    }
    return runs, study, verdicts


NAN_METRIC = Metric(
    name="median_distance@l2", estimand="?", value=math.nan, lo=None, hi=None, interval="", n=0, unit="L2 distance"
)
