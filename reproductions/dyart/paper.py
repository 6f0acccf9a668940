"""The dynamics of the decision boundary: who sees it come closer, and who withstands attacks afterwards."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from assay.core.estimates import Estimate
from assay.core.probes import Figure
from assay.data.dataset import Dataset
from reproductions.dyart import measure as measurement
from reproductions.dyart.counts import by_seed, minus
from reproductions.dyart.drawing import SHARED, Drawn, bare
from reproductions.estimates import combine, share
from reproductions.pages import Results, cell, table
from reproductions.spec import Job, Spec

COMPARED = (
    ("adversarial", "dyart"),
    ("trades", "dyart"),
    ("mart", "dyart"),
    ("standard", "dyart"),
    ("dyart", "standard"),
    ("dyart", "adversarial"),
    ("dyart", "adversarial-0.3"),
    ("dyart", "trades"),
    ("dyart", "mart"),
    ("dyart", "dyart-scaled"),
    ("dyart-scaled", "dyart"),
)
"""Pairs (a, b) of which a - b is reported, seed by seed."""


PLACES = ("vulnerable/first", "vulnerable/last", "within/first", "within/last")


def measure(job: Job, folder: Path, data: Dataset, test: Dataset) -> dict[str, Any]:
    """See :func:`reproductions.dyart.measure.measure`."""
    return measurement.measure(job, folder, data, test)


def quantities(spec: Spec, tier: str, results: Sequence[Mapping[str, Any]]) -> dict[str, Estimate]:
    """Every number that is reported, by name.

    ``E/M/clean``, ``E/M/robust/EPS``; ``E/M/conflict``: of the vulnerable points (0 < R < radius), the share with
    s < 0 under the flow of M's own loss, over all moments together; ``E/M/conflict/k`` at the k-th moment;
    ``E/M/conflict/r0`` of all points with 0 < R < r0, and ``E/M/conflict/r0/k``; ``E/M@W/conflict...`` under the
    flow of M's loss at the weights of W; ``E/M/within/last``: share of samples with R < r0 at the end,
    misclassified ones included, ``E/M/within/first`` at the first moment, which is the end of the burn-in, and
    ``E/M/within/fell``, by how much it fell; ``E/M/vulnerable/...`` the same for R < radius; ``E/M/wrong/...``
    misclassified ones alone. For pairs of methods ``E/A - B/...`` of the same, seed by seed.
    """
    found: dict[str, Estimate] = {}
    for experiment in spec.content["tiers"][tier]:
        content = spec.experiment(tier, experiment)
        own = [row for row in results if row["experiment"] == experiment]
        known = by_seed(own, content["measure"])
        for method, values in known.items():
            for name, seeds in values.items():
                mean = combine(list(seeds.values()))
                found[f"{experiment}/{method}/{name}"] = mean if name.endswith("fell") else share(mean)
        for a, b in COMPARED:
            for left, right in ((a, b), (f"{a}@{SHARED}", f"{b}@{SHARED}")):
                for name in set(known.get(left, {})) & set(known.get(right, {})):
                    apart = minus(known[left][name], known[right][name])
                    if apart:
                        found[f"{experiment}/{left} - {right}/{name}"] = combine(list(apart.values()))
    return found


def tables(spec: Spec, results: Results) -> dict[str, str]:
    """Accuracies with the passes they took, and margins and conflict, of each experiment."""
    made = {}
    for experiment, content in spec.content["experiments"].items():
        budgets = content["measure"]["budgets"]
        accuracy, dynamics, shared = [], [], []
        for tier, rows in results.items():
            if experiment not in spec.content["tiers"][tier]:
                continue
            known = quantities(spec, tier, rows)
            as_run = spec.experiment(tier, experiment)
            for method, own in as_run["methods"].items():
                trained = [row for row in rows if (row["experiment"], row["method"]) == (experiment, method)]
                if not trained:
                    continue
                name, ends = f"{experiment}/{method}", [str(len(trained)), tier]
                at = [known[f"{name}/robust/{eps}"] for eps in trained[0]["robust"]]
                epochs = own.get("training", {}).get("epochs", as_run["training"].get("epochs", ""))
                head = [own["title"], str(epochs), *_passes(trained)]
                accuracy.append([*head, cell(known[f"{name}/clean"]), *map(cell, at), *ends, _minutes(trained)])
                shown = ("conflict", "conflict/r0", "wrong/last", *PLACES)
                moved = [f"{name}/{item}" for item in shown]
                dynamics.append([own["title"], *(_known(known, item) for item in moved), *ends])
                other = f"{experiment}/{method}@{SHARED}"
                each = [f"{other}/conflict", *(f"{other}/conflict/{place}" for place in (1, 2, 3, 4))]
                each.append(f"{other}/conflict/r0")
                if each[0] in known:
                    shared.append(
                        [bare(own["title"]), *(_known(known, item) for item in each), str(known[each[0]].n), tier]
                    )
        ends = ["seeds", "tier"]
        attacked = [f"robust at {eps}" for eps in budgets]
        made[f"{experiment}-accuracy"] = table(
            ["method", "epochs", "forward", "backward", "clean", *attacked, *ends, "a training"], accuracy
        )
        radius, r0 = content["measure"]["radius"], content["measure"]["r0"]
        made[f"{experiment}-dynamics"] = table(
            [
                "method",
                f"s < 0, of 0 < R < {radius}",
                f"s < 0, of 0 < R < {r0}",
                "misclassified",
                f"R < {radius} after a quarter",
                "at the end",
                f"R < {r0} after a quarter",
                "at the end",
                *ends,
            ],
            dynamics,
        )
        quarters = [f"after {share_}" for share_ in ("1/4", "2/4", "3/4", "4/4")]
        made[f"{experiment}-shared"] = table(
            ["loss", "all moments", *quarters, f"R < {r0}, all moments", *ends], shared
        )
    return made


def _known(known: Mapping[str, Estimate], name: str) -> str:
    return cell(known[name]) if name in known else "–"


def _passes(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Mean passes of a training, in thousands of samples."""
    return [f"{np.mean([row['passes'][kind] for row in rows]) / 1000:,.0f}k" for kind in ("forward", "backward")]


def _minutes(rows: Sequence[Mapping[str, Any]]) -> str:
    return f"{sum(row['training_seconds'] for row in rows) / len(rows) / 60:.1f} min"


def figures(spec: Spec, results: Results) -> list[Figure]:
    """Conflict by margin and by moment, and accuracy by budget; of the largest tier with results of an experiment."""
    made = []
    for experiment, content in spec.content["experiments"].items():
        tier = spec.largest_tier(experiment, results)
        if tier is None:
            continue
        rows = [row for row in results[tier] if row["experiment"] == experiment]
        own = spec.experiment(tier, experiment)
        titles = {name: method["title"] for name, method in own["methods"].items()}
        seeds = len({row["seed"] for row in rows})
        drawn = Drawn(experiment, content["title"], own["measure"], titles, rows, f"Tier {tier}, {seeds} seeds.")
        made += [drawn.robust(), *drawn.stacked(), *drawn.by_margin(), drawn.by_moment()]
    return made
