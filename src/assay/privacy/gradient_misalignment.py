"""Gradient misalignment over a private training: why some groups pay more than others.

At moments of the training (the run's snapshots, or its final weights) Poisson batches are
drawn from the **training data** as the run drew them, and the excess loss that one private
step causes in each group is decomposed into

    R_clip = R_dir + R_mag    a changed direction, and a changed length, of the batch gradient
    R_noise                   the noise, through the curvature of the group's loss

as :mod:`assay.privacy.decomposition` states them (Esipova et al., arXiv 2206.07737, find R_dir
to be the main cause of disparate impact). Beside them stand the cosines of the gradients,
the share of each group's gradients that was clipped, and their norms.

These numbers are computed from the private data. The guarantee of the training does
not cover them: they must not be published.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ..core.methods import Citation, MethodCard
from ..core.probes import Cost, Finding, Measurement, Metric
from ..core.settings import option, settings
from .misalignment_view import NAMES, WORDS, View, figures, moments_in_words, unit_of
from .reading import FILE, PrivacyRecord, read_privacy, read_training
from .training_moments import Look, Moment, Observer, moments_of, training_settings

if TYPE_CHECKING:
    from ..subjects.examination import Examination

CARD = MethodCard(
    name="gradient-misalignment",
    kind="probe",
    title="Gradient misalignment",
    summary="What clipping and noise cost each group in a step of private training, split into direction and length.",
    settings="GradientMisalignment",
    citation=Citation(
        key="esipova2023disparate",
        title="Disparate Impact in Differential Privacy from Gradient Misalignment",
        authors="Esipova, Maria S. and Ghomi, Atiyeh Ashari and Luo, Yaqiao and Cresswell, Jesse C.",
        year=2023,
        venue="International Conference on Learning Representations",
        arxiv="2206.07737",
    ),
)

USUAL_BATCH = 256


@settings
class GradientMisalignment:
    """Settings of the gradient-misalignment probe."""

    snapshots: int = option(default=10, help="most snapshots of the run to look at", at_least=1, at_most=1000)
    batches: int = option(default=5, help="Poisson batches at each snapshot", at_least=2, at_most=1000)
    population: int = option(default=100, help="training samples that stand for a group, at most", at_least=1)
    groups: str = option(
        default="auto",
        help="groups the data name, or classes; auto: groups if there are any",
        choices=("auto", "group", "class"),
    )
    only: tuple[str, ...] = option(default=(), help="diagnose these groups alone; default: all")
    show: int = option(default=3, help="groups drawn over training: those that differ most", at_least=1, at_most=5)
    trace: str = option(
        default="auto",
        help="trace of the Hessian: exact (one product a parameter), hutchinson, auto (exact up to 1024 parameters) "
        "or off, which leaves out the noise term",
        choices=("auto", "exact", "hutchinson", "off"),
    )
    probes: int = option(default=20, help="random vectors of Hutchinson's estimate", at_least=2, at_most=100_000)
    learning_rate: float | None = option(
        default=None, help="learning rate of the step; default: that of the snapshot, or of the run", above=0
    )

    def expected_cost(self, *, samples: int, classes: int) -> Cost:
        """Passes of all snapshots, for batches of 256 and every class a group; a product counts as two of each."""
        members = len(self.only) or classes
        products = 2 * self.batches + (0 if self.trace == "off" else self.probes)
        a_group = min(self.population, samples) * (2 + 2 * products)
        passes = self.snapshots * (2 * self.batches * min(samples, USUAL_BATCH) + members * a_group)
        return Cost(forward=passes, backward=passes)

    def measure(self, examination: Examination) -> Measurement:
        """The decomposition for each group at each moment, as means over the batches with intervals."""
        record = read_privacy(examination.target.folder)
        if record is None:
            return Measurement(
                not_applicable=f"the model has no record of a private training (a {FILE} in the folder of 'assay "
                "train dp-sgd'), so there is no clip rule to examine."
            )
        observer = Observer(
            examination,
            record,
            kind=self.groups,
            only=self.only,
            batches=self.batches,
            population=self.population,
            trace=None if self.trace == "off" else self.trace,
            probes=self.probes,
        )
        moments = moments_of(record, self.snapshots, self.learning_rate)
        with examination.progress.task("moments of the training", total=len(moments)) as task:
            looks = []
            for moment in moments:
                looks.append(_kept(examination, observer, moment))
                task.advance()
        view = View(looks, observer.names, observer.strata)
        return Measurement(
            metrics=_metrics(view),
            findings=_findings(view, record, examination),
            figures=figures(view, self.show if not self.only else len(self.only)),
            cost=self._cost(view),
        )

    def _cost(self, view: View) -> Cost:
        passes = 0
        for look in view.looks:
            products = 2 * self.batches + look.trace_probes
            passes += 2 * int(look.sizes.sum()) + int(look.n.sum()) * (2 + 2 * products)
        return Cost(forward=passes, backward=passes)


def _kept(examination: Examination, observer: Observer, moment: Moment) -> Look:
    """A look, from an earlier attempt where there is one."""
    key = f"step-{moment.step}"
    shards = examination.shards
    if shards is not None and key in shards:
        return Look.from_arrays(shards.get(key))
    look = observer.look(moment)
    if shards is not None:
        shards.put(key, **look.as_arrays())
    return look


def _metrics(view: View) -> list[Metric]:
    found = []
    moments = f"mean over {moments_in_words(view)} of the training"
    found.append(
        Metric.from_estimate(
            "cosine_batch_clipped",
            view.turning(view.looks),
            estimand=f"cosine of the batch gradient before and after clipping, {moments}",
            unit="",
        )
    )
    for name in view.names:
        for column, words in WORDS.items():
            found.append(
                Metric.from_estimate(
                    NAMES.get(column, column),
                    view.overall(name, column),
                    estimand=f"{words}, {view.strata.kind} {name}, {moments}",
                    unit=unit_of(column),
                    direction="higher" if column.startswith("group") else "lower",
                    stratum=view.strata.stratum(name),
                )
            )
    return found


def _findings(view: View, record: PrivacyRecord, examination: Examination) -> list[Finding]:
    found = [
        Finding(
            code="not-covered-by-the-guarantee",
            severity="warning",
            message=f"These diagnostics are computed from the data given as the private training data "
            f"({examination.data.name}, {examination.data.split} split, {len(examination.data):,} samples), without "
            "noise. The guarantee of the training does not cover them, nor any choice made because of them.",
            remedy="Keep this section to those who may see the data; do not publish it, and tune on public data.",
        )
    ]
    found.append(
        Finding(
            code="how-to-read",
            severity="info",
            message="R is the loss in nats that one private step adds in a group, compared with the same step without "
            "clipping and noise: R_dir because clipping turns the gradient, R_mag because it shortens it, R_noise by "
            "the noise. Negative values are gains: there the unclipped step would have been too long.",
        )
    )
    if len(view.names) > 1:
        directions = {name: view.overall(name, "r_dir").value for name in view.names}
        worst = max(directions, key=lambda name: directions[name])
        terms = {column: view.overall(worst, column).value for column in ("r_dir", "r_mag", "r_noise")}
        found.append(
            Finding(
                code="who-is-misaligned",
                severity="info",
                message=f"The changed direction costs {view.strata.kind} {worst} most: R_dir = {terms['r_dir']:.3g}, "
                f"beside R_mag = {terms['r_mag']:.3g} and R_noise = {terms['r_noise']:.3g} nats a step, on average "
                f"over {moments_in_words(view)}.",
                value=terms["r_dir"],
            )
        )
    found += _expansion(view)
    digest = read_training(record.folder).get("data", {}).get("digest")
    if digest is not None and digest != examination.data.digest:
        found.append(
            Finding(
                code="not-the-training-data",
                severity="warning",
                message="These are not the samples the model was trained on (their digest differs from the one in the "
                "run's record): what is shown is how such data would have been treated.",
                remedy="Give the training data with the split and the limit of the training.",
            )
        )
    training = training_settings(record)
    if training.get("optimizer", "sgd") != "sgd" or training.get("momentum", 0):
        how = "AdamW" if training.get("optimizer") == "adamw" else f"a momentum of {training['momentum']:g}"
        found.append(
            Finding(
                code="not-plain-sgd",
                severity="info",
                message=f"The training used {how}; the decomposition describes one plain step at its learning rate.",
            )
        )
    recipe = record.content.get("recipe", "dp-sgd")
    if recipe != "dp-sgd":
        found.append(
            Finding(
                code="another-loss",
                severity="info",
                message=f"The recipe {recipe} trains on further views and terms; what is decomposed here is the "
                "cross-entropy of the unchanged images.",
            )
        )
    if not record.snapshots:
        found.append(
            Finding(
                code="final-weights-only",
                severity="info",
                message="The run kept no snapshots, so only its final weights were examined.",
                remedy="Train with --snapshots 10 to see how the terms develop.",
            )
        )
    return found


def _expansion(view: View) -> list[Finding]:
    """Whether the second-order expansion says what really happens."""
    expanded = np.concatenate([look.column("r_clip").ravel() for look in view.looks])
    measured = np.concatenate([look.column("measured").ravel() for look in view.looks])
    # Steps without any effect say nothing about the expansion.
    large = np.abs(expanded) + np.abs(measured) > 1e-3
    if not large.any():
        return []
    off = np.abs(expanded - measured)[large] > 0.5 * np.abs(measured)[large]
    if off.mean() <= 0.25:
        return []
    return [
        Finding(
            code="expansion-fails",
            severity="warning",
            message=f"In {off.mean():.0%} of the steps with an effect, R_clip is off by more than half of what was "
            "measured: the steps are too long for a second-order expansion. R_clip, R_dir, R_mag and R_noise are then "
            "no losses that occur; r_clip_measured is.",
            remedy="Trust the measured excess loss and the cosines; or look with a smaller --learning-rate of the "
            "probe, at which the terms can be compared between groups.",
            value=float(off.mean()),
        )
    ]
