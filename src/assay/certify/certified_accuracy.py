"""Probe: certified accuracy of the smoothed classifier over a grid of L2 radii.

    certified accuracy(r) = share of samples that the smoothed classifier
    g(x) = argmax_c P(f(x + ε) = c), ε ~ N(0, σ² I), answers rightly, with a proof that
    g answers the same everywhere within r.

A lower bound of the robust accuracy of g, whatever the attack. It says nothing of f
without noise.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ..core.budgets import budget_text
from ..core.errors import ModelError, SettingError
from ..core.estimates import proportion
from ..core.methods import Citation, MethodCard
from ..core.probes import Cost, Finding, Measurement, Metric
from ..core.settings import option, settings
from ..subjects.strata import strata
from . import pictures
from .bounds import largest_radius
from .correlations import LOCAL, correlations
from .smoothing import Smoothing, certify

if TYPE_CHECKING:
    from ..subjects.examination import Examination
    from .certificates import Certificates

CARD = MethodCard(
    name="certified-accuracy",
    kind="probe",
    title="Certified accuracy",
    summary="Share of samples the smoothed model answers rightly with a proof that no small change can alter it.",
    settings="CertifiedAccuracy",
    citation=Citation(
        key="cohen2019smoothing",
        title="Certified Adversarial Robustness via Randomized Smoothing",
        authors="Cohen, Jeremy M. and Rosenfeld, Elan and Kolter, J. Zico",
        year=2019,
        venue="International Conference on Machine Learning",
        arxiv="1902.02918",
    ),
    norms=("l2",),
)


@settings
class CertifiedAccuracy:
    """Settings of the certified-accuracy probe."""

    sigma: float = option(
        default=0.5, help="standard deviation of the noise, in units of the raw input", above=0, below=1e6
    )
    radii: tuple[float, ...] = option(
        default=(0.0, 0.25, 0.5, 0.75), help="L2 radii, in units of the raw input", at_least=0
    )
    mode: str = option(
        default="grid",
        help="when to stop counting: all radii decided, all n copies, or the radius known within the tolerance",
        choices=("grid", "fixed", "estimate"),
    )
    n0: int = option(default=100, help="noisy copies that choose the class", at_least=1)
    n: int = option(default=10_000, help="noisy copies to count at most", at_least=1, at_most=1_000_000_000)
    alpha: float = option(default=0.001, help="probability of a wrong certificate, per sample", above=0, below=1)
    tolerance: float = option(default=0.1, help="relative tolerance of mode estimate", above=0, below=1)
    limit: int | None = option(default=100, help="certify the first so many samples; none: all", at_least=1)
    dtype: str = option(default="float32", help="precision of the model", choices=("float32", "bfloat16"))
    local_metrics: bool = option(default=True, help="compare radii with Lipschitz constant, gradient and curvature")

    def __post_init__(self) -> None:
        if not self.radii:
            raise SettingError("CertifiedAccuracy.radii is empty; give at least one radius, such as [0.25].")
        object.__setattr__(self, "radii", tuple(sorted(set(self.radii))))
        grid = self.radii if self.mode == "grid" else ()
        Smoothing(sigma=self.sigma, n0=self.n0, n=self.n, alpha=self.alpha, mode=self.mode, radii=grid)

    def expected_cost(self, *, samples: int, classes: int) -> Cost:
        """Passes if no sample is decided early: the most the probe can cost."""
        certified = min(samples, self.limit or samples)
        total = Cost(forward=certified * (self.n0 + self.n))
        if self.local_metrics:
            total += Cost(forward=certified * 14, backward=certified * 44)
        return total

    def measure(self, examination: Examination) -> Measurement:
        """Certify the first samples and say what was proved."""
        count = min(len(examination.labels), self.limit or len(examination.labels))
        found = certify(
            examination.target,
            examination.images[:count],
            examination.labels[:count],
            sigma=self.sigma,
            n0=self.n0,
            n=self.n,
            alpha=self.alpha,
            mode=self.mode,
            radii=self.radii if self.mode == "grid" else None,
            tolerance=self.tolerance if self.mode == "estimate" else None,
            batch_size=examination.batch_size,
            dtype=self.dtype,
            seed=examination.seed,
            sample_ids=examination.sample_ids[:count],
            shards=examination.shards,
            progress=examination.progress,
        )
        local, troubles = self._local(examination, count) if self.local_metrics else ({}, [])
        clean = examination.predictions()[:count].argmax(1).cpu().numpy() == found.labels
        return Measurement(
            metrics=[*self._metrics(examination, found), *correlations(found, local, examination.seed)],
            samples=_columns(found, local, len(examination.labels)),
            findings=[*found.findings, *troubles, *self._findings(examination, found, clean)],
            figures=[pictures.curve(found, self.radii), *pictures.scatters(found, local, LOCAL)],
            cost=Cost(forward=found.cost.forward + (14 * count if local else 0), backward=44 * count if local else 0),
        )

    def _metrics(self, examination: Examination, found: Certificates) -> list[Metric]:
        metrics = []
        for radius in self.radii:
            name, held = f"certified_accuracy@l2:{budget_text(radius)}", found.certified(radius)
            estimand = (
                f"share of samples that the smoothed classifier (sigma {self.sigma:g}) answers rightly, proved "
                f"for every change of Euclidean length below {budget_text(radius)}"
            )
            metrics.append(Metric.from_estimate(name, found.certified_accuracy(radius), estimand=estimand))
            for stratum, rows in strata(examination, len(found)):
                rate = proportion(int(held[rows].sum()), int(rows.sum()))
                metrics.append(Metric.from_estimate(name, rate, estimand=estimand, stratum=stratum))
        early = "; counting stops when the radii are decided" if self.mode == "grid" else ""
        rates = {
            "smoothed_accuracy": (found.correct, "share of samples that the smoothed classifier answers rightly"),
            "abstention_rate": (found.abstained, "share of samples on which the smoothed classifier gives no answer"),
        }
        metrics += [
            Metric.from_estimate(
                name,
                proportion(int(flags.sum()), len(flags)),
                estimand=estimand,
                direction="lower" if name == "abstention_rate" else "higher",
            )
            for name, (flags, estimand) in rates.items()
        ]
        metrics.append(
            Metric.from_estimate(
                "average_certified_radius",
                found.average_certified_radius,
                estimand=f"mean over samples of proved radius times correct{early}",
                unit="l2",
            )
        )
        return metrics

    def _local(self, examination: Examination, count: int) -> tuple[dict[str, np.ndarray], list[Finding]]:
        """Per-sample measures [count], and why some are missing."""
        from .local import hessian_top_eigenvalue, input_gradient_norm, local_lipschitz

        target, ids = examination.target, examination.sample_ids[:count]
        images, labels = examination.images[:count], examination.labels[:count]
        common = {"batch_size": min(64, examination.batch_size)}
        slopes = input_gradient_norm(target, images, labels, **common)
        found = {
            "local_lipschitz": local_lipschitz(target, images, seed=examination.seed, sample_ids=ids, **common).numpy(),
            "gradient_norm": slopes.norm.numpy(),
            "relative_gradient_norm": slopes.relative.numpy(),
        }
        try:
            top = hessian_top_eigenvalue(target, images, labels, seed=examination.seed, sample_ids=ids, **common)
        except ModelError as error:
            return found, [Finding(code="no-curvature", severity="info", message=str(error))]
        return {**found, "hessian": top.value.numpy(), "hessian_error": top.error.numpy()}, []

    def _findings(self, examination: Examination, found: Certificates, clean: np.ndarray) -> list[Finding]:
        count, abstained = len(found), float(found.abstained.mean())
        findings = [
            Finding(
                code="each-by-itself",
                severity="info",
                message=f"Each of the {count} certificates is wrong with probability at most {self.alpha:g}, by "
                f"itself. That all of them hold at once is sure only to {max(0.0, 1 - count * self.alpha):.1%}.",
                remedy=f"For a joint statement set alpha to {self.alpha / count:.2g} ({self.alpha:g} divided by the "
                "number of samples).",
                value=self.alpha,
            )
        ]
        smoothed = float(found.correct.mean())
        if smoothed < 0.7 * float(clean.mean()):
            findings.append(
                Finding(
                    code="not-trained-for-noise",
                    severity="warning",
                    message=f"Under noise of sigma {self.sigma:g} the model answers {smoothed:.1%} of the samples "
                    f"rightly and abstains on {abstained:.1%}, against {float(clean.mean()):.1%} right without noise: "
                    "it was probably not trained for noise of this size.",
                    remedy="Train with Gaussian noise of this sigma on the inputs, or certify with a smaller sigma.",
                    value=abstained,
                )
            )
        trained = training_noise(examination)
        if trained is not None and not np.isclose(trained, self.sigma):
            findings.append(
                Finding(
                    code="other-noise-in-training",
                    severity="info",
                    message=f"The model was trained with noise of sigma {trained:g} and is certified with "
                    f"{self.sigma:g}; certificates are usually largest where the two agree.",
                    value=trained,
                )
            )
        most = largest_radius(self.n, self.alpha, self.sigma, sequential=self.mode != "fixed")
        if self.radii[-1] >= most:
            findings.append(
                Finding(
                    code="beyond-reach",
                    severity="warning",
                    message=f"With {self.n:,} noisy copies no certificate reaches {most:.4g}, even if all agree: "
                    "certified accuracy at larger radii is 0 for that reason alone.",
                    remedy="Raise n or sigma, or leave these radii out.",
                    value=most,
                )
            )
        at_limit = int((found.samples_used - self.n0 == self.n).sum()) if self.mode != "fixed" else 0
        if at_limit:
            findings.append(
                Finding(
                    code="undecided",
                    severity="info",
                    message=f"{at_limit} of {count} samples were still open after {self.n:,} noisy copies; what was "
                    "not proved until then counts as not certified.",
                    remedy="Raise n to decide them.",
                    value=float(at_limit),
                )
            )
        return findings


def training_noise(examination: Examination) -> float | None:
    """Sigma of the noisy views that the model was trained on, as its training records it; None where it does not."""
    from ..core.files import read_json

    folder = examination.target.folder
    if folder is None or not (folder / "run.json").is_file():
        return None
    recipe = read_json(folder / "run.json").get("settings", {}).get("resolved", {}).get("recipe") or {}
    return float(recipe["sigma"]) if recipe.get("views") and recipe.get("sigma") else None


def _columns(found: Certificates, local: dict[str, np.ndarray], count: int) -> dict[str, np.ndarray]:
    """One row a sample of the examination; those beyond the limit are not certified, and NaN."""

    def whole(values: np.ndarray, filling: float) -> np.ndarray:
        column = np.full(count, filling, dtype=np.asarray(values).dtype)
        column[: len(values)] = values
        return column

    nan = float("nan")
    return {
        "examined": whole(np.ones(len(found), dtype=bool), False),
        "label": whole(found.labels, -1),
        "certified_prediction": whole(found.predicted, -1),
        "certified_correct": whole(found.correct, False),
        "certified_radius": whole(found.radius, nan),
        "votes": whole(found.counts, 0),
        "noisy_copies": whole(found.samples_used, 0),
        "seconds": whole(found.seconds, nan),
        **{name: whole(values.astype(np.float64), nan) for name, values in local.items()},
    }
