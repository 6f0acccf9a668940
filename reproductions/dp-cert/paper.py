"""Certified robustness of private models: certified accuracy at given radii and average certified radius."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from assay.core.estimates import Estimate, proportion
from assay.core.probes import Figure, Series
from assay.core.shards import Shards
from assay.data.dataset import Dataset
from reproductions.estimates import combine, difference, ratio, share
from reproductions.job import RUN
from reproductions.pages import Results, cell, table
from reproductions.spec import Job, Spec

if TYPE_CHECKING:
    from assay.certify import Certificates

METHODS = ("dpsgd", "gaussian", "stability", "consistency", "macer", "smoothadv")
STEPS = 20
"""Points of a curve in one σ."""


def measure(job: Job, folder: Path, data: Dataset, test: Dataset) -> dict[str, Any]:
    """Clean accuracy on all of the test set; certificates of a part of it at each σ.

    For each σ: right answers certified at each radius [count, n], the average certified radius with its bootstrap
    interval, a curve, abstentions; and at the radius σ the same decision by sequential stopping: how many
    decisions agree, and the noisy passes both took.
    """
    from assay.certify import certify
    from assay.subjects import load_target

    plan = job.plan["certify"]
    target = load_target(f"run:{folder / RUN}")
    right = target.predict(torch.from_numpy(test.images())).argmax(1).numpy() == test.labels
    rows = stratified(test.labels, plan["images"])
    images, labels = torch.from_numpy(test.images(rows)), torch.from_numpy(test.labels[rows])
    found: dict[str, Any] = {}
    for sigma in plan["sigma"]:
        chosen = {name: plan[name] for name in ("n0", "n", "alpha")} | {"sigma": sigma, "seed": job.seed}
        shards = Shards(folder / "certify" / f"{sigma:g}")
        fixed = certify(target, images, labels, mode="fixed", shards=shards, **chosen)
        sequential = certify(target, images, labels, mode="radius", radius=sigma, shards=shards, **chosen)
        found[f"{sigma:g}"] = {
            **summary(fixed, plan["radii"]),
            "sequential": {
                "agree": int((fixed.certified(sigma) == sequential.certified(sigma)).sum()),
                "passes": int(sequential.samples_used.sum()),
                "passes_fixed": int(fixed.samples_used.sum()),
            },
        }
    return {"correct": [int(right.sum()), len(right)], "certified": found}


def summary(found: Certificates, radii: Sequence[float]) -> dict[str, Any]:
    """What is kept of the certificates of one model at one σ."""
    average = found.average_certified_radius
    grid = np.linspace(0, 4 * found.sigma, 4 * STEPS + 1)
    return {
        "at": {f"{r:g}": [int(found.certified(r).sum()), len(found)] for r in radii},
        "acr": [round(float(x), 5) for x in (average.value, average.lo, average.hi)],
        "curve": [int(found.certified(r).sum()) for r in grid],
        "abstained": int(found.abstained.sum()),
    }


def stratified(labels: np.ndarray, count: int) -> np.ndarray:
    """The first ``count / K`` samples of each of the K classes."""
    classes = np.unique(labels)
    each = count // len(classes)
    return np.sort(np.concatenate([np.flatnonzero(labels == label)[:each] for label in classes]))


def quantities(spec: Spec, tier: str, results: Sequence[Mapping[str, Any]]) -> dict[str, Estimate]:
    """Every number that is reported, by name; σ is that of training and certification, for DPSGD of certification.

    ``M/clean`` or ``M/σ/clean``, ``M/σ/certified/RADIUS``, ``M/σ/acr``; and against DPSGD, seed by seed,
    ``M - dpsgd/σ/...``, ``M / dpsgd/σ/...``. ``sequential/σ/agreement``: images, over all models, on which
    sequential stopping decides as a fixed number of noisy copies does.
    """
    found: dict[str, Estimate] = {}
    runs = by_method(results)
    for method, sigmas in runs.items():
        for sigma, values in sigmas.items():
            for name, own in values.items():
                mean = combine(list(own.values()))
                found[f"{method}/{sigma}/{name}"] = mean if name == "acr" else share(mean)
                other = runs.get("dpsgd", {}).get(sigma, {}).get(name, {})
                seeds = [seed for seed in own if seed in other]
                if method != "dpsgd" and seeds:
                    found[f"{method} - dpsgd/{sigma}/{name}"] = combine(
                        [difference(own[seed], other[seed]) for seed in seeds]
                    )
                    found[f"{method} / dpsgd/{sigma}/{name}"] = ratio(
                        [own[seed] for seed in seeds], [other[seed] for seed in seeds]
                    )
    for sigma in sorted({sigma for row in results for sigma in row["certified"]}):
        certified = [row["certified"][sigma] for row in results if sigma in row["certified"]]
        agree = sum(item["sequential"]["agree"] for item in certified)
        pooled = proportion(agree, sum(item["at"]["0"][1] for item in certified))
        found[f"sequential/{sigma}/agreement"] = replace(
            pooled, n=len(certified), method=f"{pooled.method} over images"
        )
    return found


def by_method(results: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, dict[str, dict[int, Estimate]]]]:
    """Method -> σ of certification -> quantity -> seed -> estimate with the interval over test samples."""
    found: dict[str, dict[str, dict[str, dict[int, Estimate]]]] = {}
    for row in results:
        method = row["method"].rsplit("-", 1)[0]
        for sigma, own in row["certified"].items():
            average, lo, hi = own["acr"]
            values = {
                "clean": proportion(*row["correct"]),
                **{f"certified/{radius}": proportion(*counts) for radius, counts in own["at"].items()},
                "acr": Estimate(value=average, lo=lo, hi=hi, n=own["at"]["0"][1], method="bootstrap"),
            }
            for name, estimate in values.items():
                found.setdefault(method, {}).setdefault(sigma, {}).setdefault(name, {})[row["seed"]] = estimate
    return found


def tables(spec: Spec, results: Results) -> dict[str, str]:
    """One table: methods within σ."""
    rows = []
    for tier, trained in results.items():
        known = quantities(spec, tier, trained)
        experiment = spec.experiment(tier, "mnist")
        radii = [f"{radius:g}" for radius in experiment["certify"]["radii"]]
        titles = {name.rsplit("-", 1)[0]: own["title"] for name, own in experiment["methods"].items()}
        runs = by_method(trained)
        for sigma in sorted({sigma for own in runs.values() for sigma in own}, key=float):
            for method in [name for name in METHODS if sigma in runs.get(name, {})]:
                name = f"{method}/{sigma}"
                shown = [known[f"{name}/clean"], *(known[f"{name}/certified/{radius}"] for radius in radii)]
                own = [row for row in trained if row["method"] in (method, f"{method}-{sigma}")]
                spent = own[0]["privacy"]["epsilon"]
                rows.append(
                    [
                        sigma,
                        titles[method],
                        f"{spent['rdp']:.2f}",
                        *map(cell, shown),
                        cell(known[f"{name}/acr"], "radius"),
                        str(len(own)),
                        tier,
                    ]
                )
    radii = [f"{radius:g}" for radius in spec.content["experiments"]["mnist"]["certify"]["radii"]]
    head = ["σ", "method", "ε (RDP)", "clean accuracy", *(f"certified at {r}" for r in radii), "ACR", "seeds", "tier"]
    return {"certified": table(head, rows), "sequential": _sequential(results)}


def _sequential(results: Results) -> str:
    """Noisy passes an image at the radius σ: fixed number against sequential stopping."""
    rows = []
    for tier, trained in results.items():
        for sigma in sorted({sigma for row in trained for sigma in row["certified"]}, key=float):
            found = [row["certified"][sigma] for row in trained if sigma in row["certified"]]
            n = sum(item["at"]["0"][1] for item in found)
            agree, passes, fixed = (
                sum(item["sequential"][name] for item in found) for name in ("agree", "passes", "passes_fixed")
            )
            rows.append(
                [sigma, f"{fixed / n:,.0f}", f"{passes / n:,.0f}", f"{fixed / passes:.1f}", f"{agree} of {n}", tier]
            )
    head = ["σ = radius", "passes, fixed", "passes, sequential", "times fewer", "same decision", "tier"]
    return table(head, rows)


def figures(spec: Spec, results: Results) -> list[Figure]:
    """Certified accuracy by radius, one figure a σ, of the largest tier with results; seed by seed averaged."""
    tier = next((tier for tier in ("published", "cpu") if results.get(tier)), None)
    if tier is None:
        return []
    titles = {name.rsplit("-", 1)[0]: own["title"] for name, own in spec.experiment(tier, "mnist")["methods"].items()}
    made = []
    for sigma in sorted({sigma for row in results[tier] for sigma in row["certified"]}, key=float):
        series = []
        for method in METHODS:
            own = [row for row in results[tier] if row["method"] in (method, f"{method}-{sigma}")]
            curves = [row["certified"][sigma] for row in own if sigma in row["certified"]]
            if not curves:
                continue
            shares = np.mean([np.array(curve["curve"]) / curve["at"]["0"][1] for curve in curves], axis=0)
            grid = np.linspace(0, 4 * float(sigma), len(shares))
            series.append(Series(label=titles[method], x=tuple(grid.tolist()), y=tuple(shares.tolist())))
        made.append(
            Figure(
                name=f"certified-{sigma}",
                title=f"Certified accuracy, σ = {sigma}",
                caption=f"Tier {tier}; mean over seeds where there are several.",
                kind="line",
                x_label="L2 radius (pixels in [0, 1])",
                y_label="certified accuracy",
                series=tuple(series),
                y_limits=(0, 1),
            )
        )
    return made
