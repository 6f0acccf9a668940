"""Calibration: whether the model is right as often as it says it is.

With confidence p_i = max_k softmax(z(x_i))_k, hit h_i = 1[argmax = y_i] and bins B_b of
confidence, the top-label expected calibration error is

    ECE = Σ_b |B_b|/N · |mean_{B_b}(h) - mean_{B_b}(p)| = 1/N Σ_b |Σ_{i ∈ B_b} (h_i - p_i)|.

ECE is never negative, so it is above 0 even for a perfectly calibrated model.
The interval is the symmetric bootstrap one, ECE ± the 95 % quantile of
|ECE* - ECE|; it reaches down to 0 when ECE is no larger than what a model whose
confidences are exactly right would show (hits drawn with the stated probabilities).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ..core.estimates import Estimate, bootstrap, proportion
from ..core.methods import Citation, MethodCard
from ..core.probes import Cost, Figure, Finding, Measurement, Metric, Series
from ..core.seeds import seed
from ..core.settings import option, settings
from ..subjects.examination import Examination
from .confidence import beliefs

CARD = MethodCard(
    name="calibration",
    kind="probe",
    title="Calibration",
    summary="Whether the model is right as often as its confidence says.",
    settings="Calibration",
    citation=Citation(
        key="guo2017calibration",
        title="On Calibration of Modern Neural Networks",
        authors="Guo, Chuan and Pleiss, Geoff and Sun, Yu and Weinberger, Kilian Q.",
        year=2017,
        venue="International Conference on Machine Learning",
        arxiv="1706.04599",
    ),
)


class CalibrationError(NamedTuple):
    """The error with its interval, and what a perfectly calibrated model would show by chance."""

    estimate: Estimate
    by_chance: float


@settings
class Calibration:
    """Settings of the calibration probe."""

    bins: int = option(default=15, help="bins of confidence", at_least=1, at_most=1000)
    binning: str = option(
        default="equal-mass",
        help="bins with equally many samples, or equally wide",
        choices=("equal-mass", "equal-width"),
    )
    resamples: int = option(default=2000, help="bootstrap draws", at_least=100, at_most=100_000)

    def expected_cost(self, *, samples: int, classes: int) -> Cost:
        """One forward pass a sample, shared with the other probes of a study."""
        return Cost(forward=samples)

    def measure(self, examination: Examination) -> Measurement:
        """Calibration error, Brier score, log loss, overconfidence; a reliability diagram."""
        labels = examination.labels.cpu().numpy()
        belief = beliefs(examination.predictions())
        rows = np.arange(len(labels))
        confidence = belief.probabilities.max(1)
        hits = belief.probabilities.argmax(1) == labels
        truth = np.zeros_like(belief.probabilities)
        truth[rows, labels] = 1.0
        columns = {
            "confidence": confidence,
            "correct": hits,
            "brier_score": ((belief.probabilities - truth) ** 2).sum(1),
            "negative_log_likelihood": -belief.log_probabilities[rows, labels],
        }
        bins = assign_bins(confidence, self.bins, self.binning)
        error = calibration_error(
            confidence, hits, bins, resamples=self.resamples, seed=seed(examination.seed, "calibration")
        )
        return Measurement(
            metrics=[_error_metric(error), *self._means(columns, examination.seed)],
            samples=columns,
            findings=[*belief.findings, *_findings(error, columns)],
            figures=[_diagram(confidence, hits, bins)],
            cost=Cost(forward=len(labels)),
        )

    def _means(self, columns: dict[str, np.ndarray], root: int) -> list[Metric]:
        overconfidence = columns["confidence"] - columns["correct"]
        wanted = (
            (
                "brier_score",
                columns["brier_score"],
                "mean squared distance of the probabilities from the truth, 0 to 2",
                "",
                "lower",
            ),
            (
                "negative_log_likelihood",
                columns["negative_log_likelihood"],
                "mean of -log p of the true class, p at least 1e-12",
                "nats",
                "lower",
            ),
            ("mean_confidence", columns["confidence"], "mean probability of the predicted class", "share", "none"),
            ("overconfidence", overconfidence, "mean confidence minus accuracy, 0 where they agree", "share", "none"),
        )
        return [
            Metric.from_estimate(
                name,
                bootstrap(values, resamples=self.resamples, seed=seed(root, "calibration", name)),
                estimand=estimand,
                unit=unit,
                direction=direction,
            )
            for name, values, estimand, unit, direction in wanted
        ]


def assign_bins(confidence: np.ndarray, count: int, binning: str) -> np.ndarray:
    """The bin of every confidence, [N] -> [N] int64 in 0..count-1; equal confidences share a bin.

    Args:
        confidence: [N], in [0, 1].
        count: number of bins; ties may leave some of them empty.
        binning: ``"equal-mass"`` (edges at quantiles) or ``"equal-width"``.

    >>> assign_bins(np.array([0.1, 0.2, 0.8, 0.9]), 2, "equal-mass").tolist()
    [0, 0, 1, 1]
    """
    shares = np.arange(1, count) / count
    edges = np.quantile(confidence, shares) if binning == "equal-mass" else shares
    return np.searchsorted(edges, confidence, side="left").astype(np.int64)


def binned_error(gaps: np.ndarray, bins: np.ndarray) -> float:
    """1/N Σ_b |Σ_{i ∈ b} gap_i| for gaps h - p [N] and bins [N]."""
    return float(np.abs(np.bincount(bins, weights=gaps)).sum() / len(gaps))


def calibration_error(
    confidence: np.ndarray, hits: np.ndarray, bins: np.ndarray, *, resamples: int = 2000, seed: int = 0
) -> CalibrationError:
    """ECE with its symmetric bootstrap interval, and the largest ECE that chance explains.

    Args:
        confidence: [N] probability of the predicted class.
        hits: [N] whether it was right.
        bins: [N] from :func:`assign_bins`, held fixed over the draws.
        resamples: draws of the bootstrap and of the comparison with chance.
        seed: of both.
    """
    value = binned_error(hits - confidence, bins)

    def deviation(drawn: np.ndarray) -> float:
        return abs(binned_error(drawn[:, 0], drawn[:, 1].astype(np.int64)) - value)

    table = np.stack([hits - confidence, bins.astype(np.float64)], axis=1)
    half = bootstrap(table, deviation, level=0.9, resamples=resamples, seed=seed).hi
    rng = np.random.default_rng(seed)
    draws = [binned_error((rng.random(len(bins)) < confidence) - confidence, bins) for _ in range(resamples)]
    by_chance = float(np.quantile(draws, 0.95))
    lowest = 0.0 if value <= by_chance else max(0.0, value - half)
    estimate = Estimate(value=value, lo=lowest, hi=min(1.0, value + half), n=len(bins), method="symmetric bootstrap")
    return CalibrationError(estimate, by_chance)


def _error_metric(error: CalibrationError) -> Metric:
    return Metric.from_estimate(
        "expected_calibration_error",
        error.estimate,
        estimand="mean distance between confidence and accuracy over bins of confidence",
        direction="lower",
    )


def _findings(error: CalibrationError, columns: dict[str, np.ndarray]) -> list[Finding]:
    findings = []
    value, hits = error.estimate.value, columns["correct"]
    if value <= error.by_chance:
        findings.append(
            Finding(
                code="calibrated-within-chance",
                severity="info",
                message=f"On {len(hits)} samples a perfectly calibrated model would show a calibration error of up to "
                f"{error.by_chance:.3f} by chance; this model shows {value:.3f}.",
                value=error.by_chance,
            )
        )
    saturated = float((columns["confidence"] > 1 - 1e-6).mean())
    if saturated > 0.5 and not hits[columns["confidence"] > 1 - 1e-6].all():
        findings.append(
            Finding(
                code="saturated-confidence",
                severity="warning",
                message=f"The model is certain (confidence above 1 - 1e-6) of {saturated:.0%} of its answers and still "
                "wrong on some of them.",
                remedy="Calibrate the logits, for example by a temperature fitted on held-out data.",
                value=saturated,
            )
        )
    return findings


def _diagram(confidence: np.ndarray, hits: np.ndarray, bins: np.ndarray) -> Figure:
    filled = np.unique(bins)
    rates = [proportion(int(hits[bins == b].sum()), int((bins == b).sum())) for b in filled]
    return Figure(
        name="reliability",
        title="Reliability diagram",
        caption="Accuracy against mean confidence in each bin, with 95% intervals (Clopper-Pearson). "
        f"On the diagonal the model is right as often as it says; below it, it is overconfident. n = {len(hits)}.",
        kind="reliability",
        x_label="confidence",
        y_label="accuracy",
        series=(
            Series(
                label="the model",
                x=tuple(float(confidence[bins == b].mean()) for b in filled),
                y=tuple(rate.value for rate in rates),
                lo=tuple(rate.lo for rate in rates),
                hi=tuple(rate.hi for rate in rates),
            ),
        ),
        y_limits=(0.0, 1.0),
    )
