"""The pictures of a gradient-misalignment probe, and the estimates that they and its metrics share."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from ..core.estimates import Estimate
from ..core.probes import Figure, Series
from .strata import Strata, mean_by_t, most_different
from .training_moments import TERMS, Look

MOST_BARS = 20

WORDS = {
    "r_dir": "excess loss of one step due to a changed direction of the gradient",
    "r_mag": "excess loss of one step due to a changed length of the gradient",
    "r_clip": "excess loss of one step due to clipping, R_dir + R_mag",
    "r_noise": "excess loss of one step due to the noise on the mean gradient (with 1/B²)",
    "measured": "loss after a clipped step minus loss after the same step unclipped, measured and not expanded",
    "clip_rate": "share of the group's gradients that are clipped",
    "group_batch": "cosine of the group's gradient and the batch gradient",
    "group_clipped": "cosine of the group's gradient and the clipped batch gradient",
}

NAMES = {
    "measured": "r_clip_measured",
    "group_batch": "cosine_group_batch",
    "group_clipped": "cosine_group_clipped",
}

TITLES = {
    "r_clip": "Excess loss from clipping",
    "r_dir": "Excess loss from a changed direction",
    "r_mag": "Excess loss from a changed length",
    "r_noise": "Excess loss from the noise",
    "measured": "Excess loss from clipping, measured",
    "clip_rate": "Share of gradients clipped",
    "group_batch": "Alignment with the batch gradient",
    "group_clipped": "Alignment with the clipped batch gradient",
    "batch_clipped": "How far clipping turns the batch gradient",
}


class View:
    """Looks at several moments, for presentation.

    Args:
        looks: in the order of training.
        names: of the groups, in the order of the looks' rows.
        strata: what the groups are.
    """

    def __init__(self, looks: list[Look], names: tuple[str, ...], strata: Strata) -> None:
        self.looks, self.names, self.strata = looks, names, strata

    @property
    def steps(self) -> tuple[float, ...]:
        """Steps at which was looked."""
        return tuple(float(look.step) for look in self.looks)

    def at(self, look: Look, name: str, column: str) -> Estimate:
        """Mean over the batches of one moment."""
        return self._known(mean_by_t(look.column(column)[self.names.index(name)]), [look], name, column)

    def turning(self, looks: list[Look]) -> Estimate:
        """Mean cosine of the batch gradient before and after clipping."""
        return self._known(mean_by_t(_over(looks, "batch_clipped", 0)), looks, self.names[0], "batch_clipped")

    def overall(self, name: str, column: str) -> Estimate:
        """Mean over the moments, and over the batches drawn alike at each of them."""
        means = _over(self.looks, column, self.names.index(name))
        return self._known(mean_by_t(means), self.looks, name, column)

    def _known(self, estimate: Estimate, looks: list[Look], name: str, column: str) -> Estimate:
        """The estimate with the samples behind it; the uncertainty of the noise term is that of the trace."""
        if not column.startswith("r_noise"):
            drawn = int(sum(look.sizes.sum() for look in looks))
            return replace(estimate, n=drawn, method=f"Student t over {estimate.n} batches")
        place, probes = self.names.index(name), looks[0].trace_probes
        spread = math.sqrt(sum(float(look.noise_error[place]) ** 2 for look in looks)) / len(looks)
        known = probes > 0 and math.isfinite(spread)
        half = 1.96 * spread if known else math.nan
        return replace(
            estimate,
            lo=estimate.value - half,
            hi=estimate.value + half,
            n=int(looks[0].n[place]),
            method=f"Hutchinson, {probes} random vectors, normal" if known else "exact trace",
        )


def _over(looks: list[Look], column: str, place: int) -> np.ndarray:
    """Means over moments, for the batches drawn alike at each of them: [batches]."""
    rows = np.stack([look.column(column)[place] for look in looks])
    known = np.isfinite(rows)
    count = known.sum(0)
    return np.where(count > 0, np.where(known, rows, 0).sum(0) / np.maximum(count, 1), np.nan)


def figures(view: View, show: int) -> list[Figure]:
    """All figures: terms by group, terms over training for ``show`` groups, norms, thresholds."""
    costs = {name: view.overall(name, "r_dir").value for name in view.names}
    drawn = most_different(costs, min(show, 5))
    chosen = (
        ""
        if len(drawn) == len(view.names)
        else f" Drawn are the {len(drawn)} of {len(view.names)} that differ most in R_dir."
    )
    made = [_direction(view), _terms(view)] if len(view.names) > 1 else [_terms(view)]
    if len(view.looks) > 1:
        columns = ("r_dir", "r_mag", "r_clip", "measured", "r_noise", "group_clipped", "group_batch", "clip_rate")
        made += [_over_training(view, column, drawn, chosen) for column in columns]
        made.append(_turning(view))
    made.append(_norms(view, drawn, chosen))
    if len(view.looks) > 1 and "Z" in view.looks[0].thresholds:
        made.append(_threshold(view))
    return made


def moments_in_words(view: View) -> str:
    """``"6 moments"``."""
    return "1 moment" if len(view.looks) == 1 else f"{len(view.looks)} moments"


def _samples(view: View) -> str:
    sizes = np.concatenate([look.sizes for look in view.looks])
    return f"{len(sizes)} batches of {sizes.min()} to {sizes.max()} samples"


def _direction(view: View) -> Figure:
    order = sorted(view.names, key=lambda name: -view.overall(name, "r_dir").value)[:MOST_BARS]
    chosen = "" if len(order) == len(view.names) else f", the {len(order)} with the largest of {len(view.names)}"
    return Figure(
        name="direction-by-group",
        title=f"{TITLES['r_dir']}, by {view.strata.kind}",
        caption=f"R_dir of each {view.strata.kind}{chosen}, mean over {moments_in_words(view)} of the training "
        f"({_samples(view)}), with 95% intervals over batches.",
        kind="bar",
        x_label=view.strata.kind,
        y_label="R_dir (nats)",
        series=(_series("direction", tuple(order), [view.overall(name, "r_dir") for name in order]),),
    )


def _terms(view: View) -> Figure:
    order = sorted(view.names, key=lambda name: -view.overall(name, "r_clip").value)[:MOST_BARS]
    chosen = "" if len(order) == len(view.names) else f", the {len(order)} with the largest of {len(view.names)}"
    series = []
    for column, label in (("r_dir", "direction"), ("r_mag", "length"), ("r_noise", "noise")):
        values = [view.overall(name, column) for name in order]
        if all(math.isnan(value.value) for value in values):
            continue
        series.append(_series(label, tuple(order), values))
    return Figure(
        name="excess-loss-by-group",
        title=f"Excess loss of a private step by {view.strata.kind}",
        caption=f"What one step costs each {view.strata.kind}{chosen}, in nats, mean over {moments_in_words(view)} of "
        f"the training ({_samples(view)}), with 95% intervals over batches, of the noise over random vectors.",
        kind="bar",
        x_label=view.strata.kind,
        y_label="excess loss (nats)",
        series=tuple(series),
    )


def _over_training(view: View, column: str, drawn: tuple[str, ...], chosen: str) -> Figure:
    series = [
        _series(f"{view.strata.kind} {name}", view.steps, [view.at(look, name, column) for look in view.looks])
        for name in drawn
    ]
    return Figure(
        name=column.replace("_", "-") + "-over-training",
        title=TITLES[column],
        caption=f"{WORDS[column][0].upper()}{WORDS[column][1:]}, by {view.strata.kind}, at {moments_in_words(view)} "
        f"of the training, with 95% intervals ({_samples(view)}).{chosen}",
        kind="line",
        x_label="step",
        y_label=unit_of(column) or "cosine",
        series=tuple(series),
        y_limits=(0.0, 1.0) if column == "clip_rate" else None,
    )


def _turning(view: View) -> Figure:
    values = [view.turning([look]) for look in view.looks]
    return Figure(
        name="batch-clipped-over-training",
        title=TITLES["batch_clipped"],
        caption="Cosine of the batch gradient before and after clipping; at 1 clipping leaves the direction alone. "
        f"With 95% intervals ({_samples(view)}).",
        kind="line",
        x_label="step",
        y_label="cosine",
        series=(_series("all samples", view.steps, values),),
    )


def _norms(view: View, drawn: tuple[str, ...], chosen: str) -> Figure:
    look = view.looks[-1]
    centres = tuple(float(value) for value in np.sqrt(look.edges[:-1] * look.edges[1:]))
    shares = {name: look.counts[view.names.index(name)] for name in drawn}
    series = [
        Series(label=f"{view.strata.kind} {name}", x=centres, y=tuple(float(v) for v in counts / max(counts.sum(), 1)))
        for name, counts in shares.items()
    ]
    top = max((max(item.y) for item in series), default=1.0) or 1.0
    for label, value in look.thresholds.items():
        if math.isfinite(value):
            series.append(Series(label=f"{label} = {value:.3g}", x=(value, value), y=(0.0, top)))
    return Figure(
        name="gradient-norms",
        title="Gradient norms and the clip rule's bounds",
        caption=f"Share of each {view.strata.kind}'s samples by the norm of their gradient, at step {look.step:,}, in "
        f"{len(centres)} logarithmic bins ({int(sum(counts.sum() for counts in shares.values()))} samples of "
        f"{len(look.sizes)} batches). Upright lines mark the bounds.{chosen}",
        kind="line",
        x_label="gradient norm",
        y_label="share of samples",
        series=tuple(series[:5]),
        x_scale="log",
    )


def _threshold(view: View) -> Figure:
    return Figure(
        name="threshold-over-training",
        title="Upper threshold Z over training",
        caption="Z of the clip rule at the moments looked at; it was released with noise and is covered by the "
        "guarantee.",
        kind="line",
        x_label="step",
        y_label="Z",
        series=(Series(label="Z", x=view.steps, y=tuple(look.thresholds["Z"] for look in view.looks)),),
    )


def unit_of(column: str) -> str:
    """The unit of a column of a look."""
    if column == "clip_rate":
        return "share"
    return "nats" if column in (*TERMS, "measured") else ""


def _series(label: str, x: tuple[float | str, ...], values: list[Estimate]) -> Series:
    return Series(
        label=label,
        x=x,
        y=tuple(value.value for value in values),
        lo=tuple(value.lo if math.isfinite(value.lo) else value.value for value in values),
        hi=tuple(value.hi if math.isfinite(value.hi) else value.value for value in values),
    )
