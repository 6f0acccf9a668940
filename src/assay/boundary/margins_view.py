"""What is said and shown of margins: metrics, figures, findings and the most fragile samples."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from ..core.budgets import NORM_SYMBOLS, budget_text
from ..core.estimates import Estimate, mcnemar, paired_difference, proportion, quantile
from ..core.probes import Figure, Finding, Gallery, Mark, Metric, Series
from ..core.seeds import seed
from ..subjects.pictures import gallery
from ..subjects.strata import by_class, by_group, strata

if TYPE_CHECKING:
    from ..subjects.examination import Examination
    from .margins import Margin, Margins

UNIT = "raw input units"
ALIGNED = 0.9
MOST_BARS = 20
BINS = 30
POINTS = 101


def metrics(probe: Margins, examination: Examination, own: Margin, baseline: Margin | None) -> list[Metric]:
    """Medians, shares and, beside a baseline, paired comparisons."""
    found = [*_of_one(probe, own, ""), *_in_strata(probe, examination, own)]
    if baseline is None:
        return found
    both = np.isfinite(own.signed_margin) & np.isfinite(baseline.signed_margin)
    pair = own.signed_margin[both], baseline.signed_margin[both]
    stream = seed(examination.seed, "margins", "baseline")
    return [
        *found,
        *_of_one(probe, baseline, "baseline_"),
        Metric.from_estimate(
            f"margin_gain@{probe.norm}",
            paired_difference(*pair, seed=stream),
            estimand=f"mean signed distance to the {_boundary(probe)} minus that of the baseline {baseline.name}, over "
            "samples whose boundary point was found for both",
            unit=UNIT,
        ),
        Metric.from_estimate(
            f"larger_margin_share@{probe.norm}",
            _share(own.signed_margin > baseline.signed_margin),
            estimand=f"share of samples that lie further inside their class than with the baseline {baseline.name}",
        ),
    ]


def _of_one(probe: Margins, margin: Margin, prefix: str) -> list[Metric]:
    norm, radius = probe.norm, budget_text(probe.radius)
    whose = f"for the baseline {margin.name}, " if prefix else ""
    wrong = "misclassified" if probe.exact else "on the far side of the soft boundary"
    aligned = margin.alignment[margin.found] >= ALIGNED
    return [
        Metric.from_estimate(
            f"{prefix}median_margin@{norm}",
            quantile(margin.signed_margin, 0.5),
            estimand=whose + _median_estimand(probe),
            unit=UNIT,
        ),
        Metric.from_estimate(
            f"{prefix}vulnerable_share@{norm}:{radius}",
            _share(margin.vulnerable(probe.radius)),
            estimand=whose + _vulnerable_estimand(probe),
            direction="lower",
        ),
        Metric.from_estimate(
            f"{prefix}negative_margin_share@{norm}",
            _share(margin.negative),
            estimand=f"{whose}share of samples with a negative margin: {wrong}",
            direction="lower",
        ),
        Metric.from_estimate(
            f"{prefix}no_boundary_share@{norm}",
            _share(~margin.found),
            estimand=f"{whose}share of samples for which no point of the {_boundary(probe)} was found",
            direction="lower",
        ),
        Metric.from_estimate(
            f"{prefix}aligned_share@{norm}",
            _share(aligned),
            estimand=f"{whose}share of the boundary points found at which the condition of a nearest point (KKT) holds "
            f"to at least {ALIGNED:g} of 1",
        ),
    ]


def _in_strata(probe: Margins, examination: Examination, margin: Margin) -> list[Metric]:
    found, vulnerable = [], margin.vulnerable(probe.radius)
    for stratum, rows in strata(examination):
        found.append(
            Metric.from_estimate(
                f"median_margin@{probe.norm}",
                quantile(margin.signed_margin[rows], 0.5),
                estimand=_median_estimand(probe),
                unit=UNIT,
                stratum=stratum,
            )
        )
        found.append(
            Metric.from_estimate(
                f"vulnerable_share@{probe.norm}:{budget_text(probe.radius)}",
                _share(vulnerable[rows]),
                estimand=_vulnerable_estimand(probe),
                direction="lower",
                stratum=stratum,
            )
        )
    return found


def _median_estimand(probe: Margins) -> str:
    return (
        f"median signed {NORM_SYMBOLS[probe.norm]} distance to the nearest point found of the {_boundary(probe)}, "
        "negative for samples on its wrong side"
    )


def _vulnerable_estimand(probe: Margins) -> str:
    return (
        f"share of samples on the right side of the {_boundary(probe)}, but nearer to it than "
        f"{budget_text(probe.radius)} in {NORM_SYMBOLS[probe.norm]}"
    )


def figures(probe: Margins, examination: Examination, own: Margin, baseline: Margin | None) -> list[Figure]:
    """Histogram, cumulative share, and medians by class and group."""
    named = _named(own, baseline)
    drawn = [_histogram(probe, named), _cumulative(probe, named)]
    for kind, parts in (("class", by_class(examination)), ("group", by_group(examination))):
        if len(parts) > 1:
            drawn.append(_medians(probe, named, kind, dict(parts)))
    return drawn


def _histogram(probe: Margins, named: dict[str, Margin]) -> Figure:
    finite = np.concatenate([m.signed_margin[np.isfinite(m.signed_margin)] for m in named.values()])
    low, high = (float(finite.min()), float(finite.max())) if len(finite) else (0.0, 1.0)
    width = max(high - min(low, 0.0), 1e-12) / BINS
    first, last = math.floor(min(low, 0.0) / width), math.floor(high / width) + 1
    edges = width * np.arange(first, last + 1)
    centres = tuple(float(value) for value in (edges[:-1] + edges[1:]) / 2)
    side = "misclassified" if probe.exact else "beyond the boundary"
    series = []
    for name, margin in named.items():
        count = len(margin.signed_margin)
        if len(named) == 1:
            parts = {"classified correctly" if probe.exact else "inside": ~margin.negative, side: margin.negative}
        else:
            parts = {name: np.ones(count, dtype=bool)}
        for label, rows in parts.items():
            values = margin.signed_margin[rows & np.isfinite(margin.signed_margin)]
            heights = np.histogram(values, edges)[0] / count
            series.append(Series(label=label, x=centres, y=tuple(float(value) for value in heights)))
    symbol = NORM_SYMBOLS[probe.norm]
    return Figure(
        name=f"margins-{probe.norm}",
        title=f"Signed distance to the decision boundary, {symbol}",
        caption=f"Share of samples by their {symbol} distance to the nearest point found of the {_boundary(probe)}, "
        f"{_counted(named)}. Left of 0 lie samples that are {side}, by the way back to the right side; samples from 0 "
        f"to {budget_text(probe.radius)} are vulnerable.{_not_drawn(named)}",
        kind="histogram",
        x_label=f"signed distance ({symbol} norm, {UNIT})",
        y_label="share of samples",
        series=tuple(series),
        marks=_marks(probe, high),
    )


def _cumulative(probe: Margins, named: dict[str, Margin]) -> Figure:
    finite = np.concatenate([m.signed_margin[np.isfinite(m.signed_margin)] for m in named.values()])
    inside = np.sort(finite[finite >= 0])
    at = np.unique([0.0, *np.quantile(inside, np.linspace(0, 1, POINTS))]) if len(inside) else np.zeros(1)
    series = []
    for name, margin in named.items():
        rates = [_share(margin.signed_margin <= radius) for radius in at]
        series.append(
            Series(
                label=name,
                x=tuple(float(radius) for radius in at),
                y=tuple(rate.value for rate in rates),
                lo=tuple(rate.lo for rate in rates),
                hi=tuple(rate.hi for rate in rates),
            )
        )
    symbol = NORM_SYMBOLS[probe.norm]
    bound = (
        "Margins found are upper bounds of the true ones, so this is a lower bound of the error under an adversary of "
        "that budget, and 1 minus it an upper bound of the robust accuracy"
        if probe.exact
        else "These are distances to the soft boundary, on whose far side samples may still be classified correctly: "
        "the curve bounds no accuracy under attack"
    )
    return Figure(
        name=f"margins-cumulative-{probe.norm}",
        title=f"Share of samples within a distance of the boundary, {symbol}",
        caption=f"Share of samples whose signed distance is at most the radius, {_counted(named)}; at 0 the samples on "
        f"the wrong side. {bound}. Bands are 95 % Clopper-Pearson intervals.",
        kind="cdf",
        x_label=f"radius ({symbol} norm, {UNIT})",
        y_label="share of samples",
        series=tuple(series),
        y_limits=(0.0, 1.0),
        marks=_marks(probe, float(at[-1])),
    )


def _medians(probe: Margins, named: dict[str, Margin], kind: str, parts: dict[str, np.ndarray]) -> Figure:
    first = next(iter(named.values()))
    middles = {name: quantile(first.signed_margin[rows], 0.5) for name, rows in parts.items()}
    order = sorted(middles, key=lambda name: middles[name].value)[:MOST_BARS]
    chosen = "" if len(order) == len(parts) else f", the {len(order)} nearest of {len(parts)}"
    symbol = NORM_SYMBOLS[probe.norm]
    series = []
    for label, margin in named.items():
        values = {name: quantile(margin.signed_margin[parts[name]], 0.5) for name in order}
        known = {name: value for name, value in values.items() if math.isfinite(value.value)}
        series.append(
            Series(
                label=label,
                x=tuple(known),
                y=tuple(value.value for value in known.values()),
                lo=tuple(value.lo if math.isfinite(value.lo) else value.value for value in known.values()),
                hi=tuple(value.hi if math.isfinite(value.hi) else value.value for value in known.values()),
            )
        )
    return Figure(
        name=f"margins-by-{kind}-{probe.norm}",
        title=f"Median distance to the boundary by {kind}, {symbol}",
        caption=f"Median signed distance of each {kind}{chosen}, nearest first, {_counted(named)}. Bars are 95 % "
        "intervals between order statistics; an end that too few samples determine is left out.",
        kind="bar",
        x_label=kind,
        y_label=f"median distance ({symbol})",
        series=tuple(series),
        marks=(Mark(axis="y", value=probe.radius, label=f"vulnerable below {budget_text(probe.radius)}"),),
    )


def _marks(probe: Margins, reach: float) -> tuple[Mark, ...]:
    """The vulnerable radius, where the figure reaches so far."""
    if reach < probe.radius:
        return ()
    return (Mark(axis="x", value=probe.radius, label=budget_text(probe.radius)),)


def findings(probe: Margins, examination: Examination, own: Margin, baseline: Margin | None) -> list[Finding]:
    """How the margins were found, how sure they are, and what stands out."""
    said = [*own.findings, _how_found(probe, own), _what_they_bound(probe, own), *_not_found(own)]
    if (middle := _alignment(own)) < 0.5:
        said.append(
            Finding(
                code="far-from-nearest",
                severity="warning",
                message=f"Only {middle:.0%} of the boundary points meet the condition of a nearest point well: the "
                "true distances may be much smaller than these.",
                remedy="Raise steps, and compare with minimum-norm and robust-accuracy.",
                value=middle,
            )
        )
    said += _worst(probe, "class", by_class(examination), own) + _worst(probe, "group", by_group(examination), own)
    if baseline is not None:
        said += [_against(probe, own, baseline), *_not_found(baseline)]
    return list({(finding.code, finding.message): finding for finding in said}.values())


def _how_found(probe: Margins, margin: Margin) -> Finding:
    count, total = int(margin.found.sum()), len(margin.found)
    message = (
        f"Boundary points were searched in at most {probe.steps} steps, from either side, and moved onto the boundary "
        f"along the segment from the sample by the model itself: found for {count} of {total} samples."
    )
    known = margin.found & (margin.slope > 0)
    if known.any():
        off = margin.residual[known] / margin.slope[known]
        message += (
            f" The margin function is off zero there by at most {margin.residual[known].max():.1g} logits, which "
            f"shifts the distance by about {off.max():.1g}. The condition that a nearest point meets (KKT) holds to at "
            f"least {ALIGNED:g} of 1 at {int((margin.alignment[margin.found] >= ALIGNED).sum())} of {count} points."
        )
    return Finding(code="how-margins-were-found", severity="info", message=message, value=_alignment(margin))


def _what_they_bound(probe: Margins, margin: Margin) -> Finding:
    if probe.exact:
        return Finding(
            code="margins-are-upper-bounds",
            severity="info",
            message="A search for the nearest boundary point may miss a nearer one: every distance is an upper bound, "
            "and accuracy under attack may be lower than the margins suggest, never higher.",
            remedy="Confirm the budgets that matter with robust-accuracy, and read lower bounds from "
            "certified-accuracy.",
        )
    inside = int((margin.negative & margin.correct).sum())
    return Finding(
        code="soft-boundary",
        severity="info",
        message=f"These are distances to the soft boundary of temperature {probe.temperature:g}, which lies before the "
        f"decision boundary: {inside} of {len(margin.found)} samples have a negative margin and are classified "
        "correctly. It is what training by DyART moves; it bounds no accuracy under attack.",
        remedy="Set temperature to none for the exact decision boundary.",
        value=float(inside),
    )


def _not_found(margin: Margin) -> list[Finding]:
    lost, count = int((~margin.found).sum()), len(margin.found)
    if not lost:
        return []
    return [
        Finding(
            code="no-boundary-point",
            severity="warning" if lost < 0.05 * count else "serious",
            message=f"No boundary point was found for {lost} of {count} samples of {margin.name}; their margin counts "
            "as infinite.",
            remedy="Saturated outputs or masked gradients hide the boundary from a search by gradients: raise steps, "
            "and run minimum-norm and robust-accuracy with Square.",
            value=lost / count,
        )
    ]


def _worst(probe: Margins, kind: str, parts: list[tuple[str, np.ndarray]], margin: Margin) -> list[Finding]:
    if len(parts) < 2:
        return []
    middles = {name: quantile(margin.signed_margin[rows], 0.5) for name, rows in parts}
    order = sorted(middles, key=lambda name: middles[name].value)
    first, total = middles[order[0]], quantile(margin.signed_margin, 0.5)
    then = ", then ".join(f"{name} ({_digits(middles[name].value)})" for name in order[1:3])
    return [
        Finding(
            code=f"nearest-{kind}",
            severity="info",
            message=f"{kind.capitalize()} {order[0]} lies nearest to the {_boundary(probe)}: median margin "
            f"{_digits(first.value)}{_between(first)}, n = {first.n}, against {_digits(total.value)} over all samples; "
            f"then {then}."
            if len(order) > 2
            else f"{kind.capitalize()} {order[0]} lies nearer to the {_boundary(probe)}: median margin "
            f"{_digits(first.value)}{_between(first)}, n = {first.n}, against {then}.",
            value=first.value,
        )
    ]


def _against(probe: Margins, own: Margin, baseline: Margin) -> Finding:
    larger = _share(own.signed_margin > baseline.signed_margin)
    test = mcnemar(own.signed_margin < probe.radius, baseline.signed_margin < probe.radius)
    return Finding(
        code="against-the-baseline",
        severity="info",
        message=f"{larger.value:.0%} of the samples ({larger.lo:.0%} to {larger.hi:.0%}, n = {larger.n}) lie further "
        f"inside their class than with {baseline.name}. {test.only_first} are misclassified or vulnerable here and "
        f"not there, {test.only_second} there and not here (McNemar's exact p = {test.p_value:.2g}).",
        value=larger.value,
    )


def most_fragile(probe: Margins, examination: Examination, margin: Margin) -> Gallery | None:
    """The correctly classified samples nearest to the boundary, with their boundary points."""
    candidates = np.flatnonzero(margin.correct & margin.found & ~margin.negative)
    rows = candidates[np.argsort(margin.signed_margin[candidates], kind="stable")].tolist()
    return gallery(
        examination,
        rows,
        margin.points,
        margin.signed_margin.tolist(),
        probe.norm,
        title=f"Most fragile samples, {NORM_SYMBOLS[probe.norm]}",
        caption=f"Correctly classified samples nearest to the {_boundary(probe)}, with the nearest boundary points "
        "found. The second class is the one on the other side, with its probability at the boundary.",
        after=margin.neighbour.tolist(),
    )


def _named(own: Margin, baseline: Margin | None) -> dict[str, Margin]:
    if baseline is None:
        return {own.name: own}
    return {own.name: own, baseline.name if baseline.name != own.name else f"{baseline.name} (baseline)": baseline}


def _boundary(probe: Margins) -> str:
    return "decision boundary" if probe.exact else f"soft boundary (temperature {probe.temperature:g})"


def _counted(named: dict[str, Margin]) -> str:
    count = len(next(iter(named.values())).found)
    return f"n = {count}" if len(named) == 1 else f"n = {count}, the same samples for both models"


def _not_drawn(named: dict[str, Margin]) -> str:
    lost = {name: int((~margin.found).sum()) for name, margin in named.items()}
    if not any(lost.values()):
        return ""
    return " Not drawn, because no boundary point was found: " + ", ".join(f"{n} of {name}" for name, n in lost.items())


def _alignment(margin: Margin) -> float:
    return float((margin.alignment[margin.found] >= ALIGNED).mean()) if margin.found.any() else math.nan


def _share(flags: np.ndarray) -> Estimate:
    return proportion(int(flags.sum()), len(flags))


def _digits(value: float) -> str:
    return f"{value:.3g}"


def _between(estimate: Estimate) -> str:
    known = math.isfinite(estimate.lo) and math.isfinite(estimate.hi)
    return f" ({_digits(estimate.lo)} to {_digits(estimate.hi)})" if known else ""
