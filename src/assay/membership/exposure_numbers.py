"""Numbers of an exposure: its metrics, its table of records, and all of it as what a run keeps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from ..core.estimates import Estimate
from ..core.probes import Cost, Finding, Measurement, Metric
from . import exposure_findings, exposure_view

if TYPE_CHECKING:
    from .exposure import Exposure, Judged


def measurement(exposure: Exposure, *, findings: Sequence[Finding] = (), cost: Cost | None = None) -> Measurement:
    """The exposure as what a run keeps: metrics, findings in plain words, figures, pictures and the table of records.

    Args:
        exposure: what was found.
        findings: further remarks, such as on the data; they follow the others.
        cost: passes that were made.
    """
    return Measurement(
        metrics=metrics(exposure),
        samples=table(exposure),
        findings=[*exposure_findings.findings(exposure), *findings],
        figures=exposure_view.figures(exposure),
        panels=exposure_view.most_exposed(exposure),
        cost=cost or Cost(),
    )


def metrics(exposure: Exposure) -> list[Metric]:
    """Every number of an exposure; those of the main attack come first."""
    main = exposure.main
    found = [_auc(main), *_rates(main), _epsilon(main), *_lines(main), *_worth(exposure)]
    for other in exposure.judged.values():
        if other is not main:
            found += [_auc(other), *_rates(other)]
    found += _by_stratum(exposure)
    shuffled = Metric.from_estimate(
        f"shuffled_auc@{main.label}",
        main.null.shuffled,
        estimand="AUC of the same scores when the truth is shuffled, mean and range of the draws",
        direction="none",
    )
    found.append(shuffled)
    if exposure.blind is not None:
        estimand = "AUC of the mean confidence of reference models that never saw the record; 0.5 where members and "
        found.append(
            Metric.from_estimate(
                "auc_without_target", exposure.blind, estimand=f"{estimand}non-members are alike", direction="none"
            )
        )
    return found


def _auc(judged: Judged, estimate: Estimate | None = None, where: str = "", stratum: str = "") -> Metric:
    return Metric.from_estimate(
        f"auc@{judged.label}",
        estimate or judged.auc,
        estimand=f"chance that a member{where} scores above a non-member{where}, ties counting half; guessing: 50 %",
        direction="lower",
        stratum=stratum,
    )


def _by_stratum(exposure: Exposure) -> list[Metric]:
    return [
        _auc(exposure.main, estimate, f" of {kind} {name}", f"{kind}={name}")
        for kind, name, estimate in exposure.by_stratum
    ]


def _rates(judged: Judged) -> list[Metric]:
    found = []
    for fpr, estimate in sorted(judged.rates.items(), reverse=True):
        if judged.curve.too_few(fpr):
            about = f"at no false positive at all, for {len(judged.curve.negatives):,} non-members cannot show {fpr:g}"
        else:
            about = f"while at most a share {fpr:g} (<=) of the non-members does, the line being drawn on them"
        found.append(
            Metric.from_estimate(
                f"tpr_at_{fpr:g}_fpr@{judged.label}",
                estimate,
                estimand=f"share of members that lie above the line {about}",
                direction="lower",
            )
        )
    return found


def _epsilon(judged: Judged) -> Metric:
    bound = judged.bound
    return Metric(
        name=f"epsilon_lower_bound@{judged.label}",
        estimand=f"lower bound on ε at δ = {bound.delta:g}, at {bound.level:.0%} confidence, from TPR "
        f"{bound.tpr.value:.3g} and FPR {bound.fpr.value:.3g} (threshold {bound.choice}), records taken as independent",
        value=bound.epsilon,
        lo=None,
        hi=None,
        interval="",
        n=bound.tpr.n + bound.fpr.n,
        unit="",
        direction="lower",
    )


def _lines(judged: Judged) -> list[Metric]:
    found = []
    for fpr, line in sorted(judged.lines.items(), reverse=True):
        origin = f"above a line that was drawn on {line.targets} reference models for a false positive rate of {fpr:g}"
        for name, estimate, who in (("tpr", line.tpr, "members"), ("fpr", line.fpr, "non-members")):
            found.append(
                Metric.from_estimate(
                    f"achieved_{name}_at_{fpr:g}_fpr@{judged.label}",
                    estimate,
                    estimand=f"share of {who} {origin}",
                    direction="lower" if name == "tpr" else "none",
                )
            )
    return found


def _worth(exposure: Exposure) -> list[Metric]:
    fpr = exposure.questions.main
    line = exposure.main.lines.get(fpr)
    if line is None:
        return []
    return [
        Metric.from_estimate(
            f"ppv_at_prior_{prior:g}@{exposure.main.label}",
            line.predictive_value(prior),
            estimand=f"chance that a named record is a member, where a share {prior:g} of the records looked at is",
            direction="lower",
        )
        for prior in reversed(exposure.questions.priors)
    ]


def table(exposure: Exposure) -> dict[str, np.ndarray]:
    """One row a record: truth, class and group, scores, who is named, confidences."""
    truth = exposure.truth
    found: dict[str, np.ndarray] = {"member": truth.member}
    if truth.rows is not None:
        found["row"] = truth.rows
    if truth.labels is not None:
        found["class"] = np.array([truth.class_of(place) for place in range(len(truth.member))], dtype=np.str_)
    if truth.groups is not None:
        found["group"] = np.asarray(truth.groups, dtype=np.str_)
    for label, judged in exposure.judged.items():
        found[f"score_{label}"] = judged.scores
        for fpr in judged.lines:
            found[f"named_{label}@{fpr:g}"] = exposure.named(label, fpr)
    found |= {f"confidence_{who}": values for who, values in exposure.confidence.items()}
    if exposure.loss is not None:
        found["loss"] = exposure.loss
    return found
