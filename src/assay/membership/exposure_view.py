"""Figures of an exposure, and the pictures of the records that are exposed most."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ..core.estimates import Estimate
from ..core.probes import Figure, Mark, PanelRow, Panels, Series
from . import evidence

if TYPE_CHECKING:
    from .exposure import Exposure

MOST_BARS = 20
MOST_PICTURES = 12
_BINS = 40


def figures(exposure: Exposure) -> list[Figure]:
    """ROC on logarithmic axes, scores of both sides, exposure by class and group, worth of an accusation."""
    found = [_roc(exposure), _scores(exposure)]
    for kind in ("class", "group"):
        bars = [(name, estimate) for at, name, estimate in exposure.by_stratum if at == kind]
        if len(bars) > 1:
            found.append(_bars(exposure, kind, bars))
    line = exposure.main.lines.get(exposure.questions.main)
    if line is not None and line.tpr.value > 0:
        found.append(
            evidence.predictive_figure(
                {exposure.main.label: (line.tpr, line.fpr)},
                name="worth-of-an-accusation",
                title="How often an accusation is right",
            )
        )
    return found


def _roc(exposure: Exposure) -> Figure:
    return evidence.roc_figure(
        {label: judged.curve for label, judged in exposure.judged.items()},
        name="membership-roc",
        fprs=exposure.questions.fprs,
    )


def _scores(exposure: Exposure) -> Figure:
    main, member = exposure.main, exposure.truth.member
    finite = main.scores[np.isfinite(main.scores)]
    low, high = np.quantile(finite, [0.005, 0.995]) if len(finite) else (0.0, 1.0)
    edges = np.linspace(low, high if high > low else low + 1, _BINS + 1)
    middles = tuple(((edges[1:] + edges[:-1]) / 2).tolist())
    series = []
    for name, side in (("non-members", ~member), ("members", member)):
        own = main.scores[side]
        counts, _ = np.histogram(np.clip(own[~np.isnan(own)], edges[0], edges[-1]), edges)
        series.append(Series(label=name, x=middles, y=tuple((counts / max(1, len(own))).tolist())))
    line = main.lines.get(exposure.questions.main)
    inside = line is not None and edges[0] < line.threshold < edges[-1]
    return Figure(
        name="membership-scores",
        title="Scores of members and of other records",
        caption=f"Scores of {int(member.sum()):,} members and {int((~member).sum()):,} non-members by the attack "
        f"{main.label}; larger means more like a member. {main.about} Scores beyond the ends are in the last bars."
        + (" Records above the line are named." if inside else ""),
        kind="histogram",
        x_label="score",
        y_label="share of records",
        series=tuple(series),
        marks=(Mark(axis="x", value=line.threshold, label="line"),) if inside and line is not None else (),
    )


def _bars(exposure: Exposure, kind: str, bars: list[tuple[str, Estimate]]) -> Figure:
    shown = sorted(bars, key=lambda one: -one[1].value)[:MOST_BARS]
    plural = "classes" if kind == "class" else "groups"
    chosen = "" if len(shown) == len(bars) else f", the {len(shown)} most exposed of {len(bars)} {plural}"
    return Figure(
        name=f"exposure-by-{kind}",
        title=f"Exposure by {kind}",
        caption=f"AUC of the attack {exposure.main.label} within each {kind}{chosen}, with 95% intervals, each by "
        f"itself. At 0.5 members of a {kind} cannot be told from its other records.",
        kind="bar",
        x_label=kind,
        y_label="AUC",
        series=(
            Series(
                label="AUC",
                x=tuple(name for name, _ in shown),
                y=tuple(estimate.value for _, estimate in shown),
                lo=tuple(estimate.lo for _, estimate in shown),
                hi=tuple(estimate.hi for _, estimate in shown),
            ),
        ),
        y_limits=(0.0, 1.0),
        marks=(Mark(axis="y", value=0.5, label="chance"),),
    )


def ranking(exposure: Exposure, count: int = MOST_PICTURES) -> np.ndarray:
    """Positions of the members with the highest scores of the main attack."""
    scores = np.where(exposure.truth.member & ~np.isnan(exposure.main.scores), exposure.main.scores, -np.inf)
    order = np.argsort(-scores, kind="stable")[:count]
    return order[scores[order] > -np.inf]


def most_exposed(exposure: Exposure) -> list[Panels]:
    """Pictures of the members with the highest scores."""
    if exposure.truth.images is None:
        return []
    chosen = ranking(exposure)
    pictures = exposure.truth.images(chosen)
    return [
        Panels(
            title="The training records that are exposed most",
            caption="These are the training records themselves: whoever may not see the training data may not see "
            f"this report. They have the highest scores of all {int(exposure.truth.member.sum()):,}; picked in this "
            "way, some of them stand here by chance.",
            columns=("training record",),
            rows=[
                PanelRow(caption=_caption(exposure, int(place)), pictures=[picture])
                for place, picture in zip(chosen, pictures, strict=True)
            ],
        )
    ]


def _caption(exposure: Exposure, place: int) -> str:
    truth, main, fpr = exposure.truth, exposure.main, exposure.questions.main
    row = truth.sample_ids[place] if truth.rows is None else truth.rows[place]
    words = [f"row {int(row)}"]
    if truth.labels is not None:
        words.append(f"class {truth.class_of(place)}")
    if truth.groups is not None:
        words.append(f"group {truth.groups[place]}")
    words.append(f"score {main.scores[place]:.3g}")
    if exposure.loss is not None:
        words.append(f"loss {exposure.loss[place]:.3g}")
    if {"target", "out"} <= set(exposure.confidence):
        words.append(
            f"confidence {exposure.confidence['target'][place]:.1f}, of models without it "
            f"{exposure.confidence['out'][place]:.1f}"
        )
    words.append("named" if exposure.named(main.label, fpr)[place] else "not named")
    return " · ".join(words)
