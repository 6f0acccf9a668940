"""Who pays for privacy: accuracy by group, privacy cost and gap, of every method."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import isfinite, nan
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from assay.core.estimates import Estimate, proportion
from assay.core.probes import Figure, Series
from assay.data.dataset import Dataset
from reproductions.estimates import combine, difference, over_seeds, share
from reproductions.job import RUN
from reproductions.pages import Results, cell, table
from reproductions.spec import Job, Spec, load_spec

if TYPE_CHECKING:
    from assay.subjects.target import Target

PAPER = "gradient-misalignment"
BASELINE = "non-private"
TERMS = ("r_dir", "r_mag", "r_clip", "r_noise", "cosine_group_clipped", "clip_rate")
COMPARED = (
    ("dpsgd", "global-adapt"),
    ("dpsgd", "dpsgd-f"),
    ("dpsgd", "global"),
    ("dpsgd-lr0.1", "global-adapt"),
    ("dpsgd-lr0.2", "global-adapt"),
    ("dpsgd", "global-adapt-lr0.01"),
    ("dpsgd", "dpsgd-lr0.1"),
    ("dpsgd", "dpsgd-lr0.2"),
)
"""Pairs (a, b) of which a - b is reported: how much smaller the gap of b is, and how much more accurate b is."""


def measure(job: Job, folder: Path, data: Dataset, test: Dataset) -> dict[str, Any]:
    """Right answers and samples, over all of the test set and by group: the classes, or the groups of the data.

    Where the training kept snapshots, also what a private step costs the two groups that are compared, on the
    training data: see :func:`misalignment`.
    """
    from assay.subjects import load_target

    target = load_target(f"run:{folder / RUN}")
    correct = (target.predict(torch.from_numpy(test.images())).argmax(1).numpy() == test.labels).tolist()
    groups = [str(label) for label in test.labels] if test.groups is None else [str(name) for name in test.groups]
    counts = {"all": [sum(correct), len(correct)]}
    for name in sorted(set(groups)):
        own = [answer for answer, group in zip(correct, groups, strict=True) if group == name]
        counts[name] = [sum(own), len(own)]
    found: dict[str, Any] = {"correct": counts}
    if job.plan["settings"].get("snapshots"):
        compared = load_spec(PAPER).content["experiments"][job.experiment]["groups"]
        found["misalignment"] = misalignment(target, data, tuple(compared.values()))
    return found


def misalignment(target: Target, data: Dataset, groups: tuple[str, ...]) -> dict[str, dict[str, float | None]]:
    """R_dir, R_mag, R_clip, R_noise in nats a step, clip rate and cosines of each group, as means over the snapshots.

    The probe ``gradient-misalignment``: at each snapshot four Poisson batches, with 200 training samples that
    stand for a group.
    """
    from assay.privacy.gradient_misalignment import GradientMisalignment
    from assay.subjects.examination import Examination

    probe = GradientMisalignment(snapshots=12, batches=4, population=200, only=groups, trace="hutchinson", probes=10)
    done = probe.measure(Examination(target, data))
    found: dict[str, dict[str, float | None]] = {}
    for metric in done.metrics:
        group = metric.stratum.rpartition("=")[2] or "all"
        found.setdefault(group, {})[metric.name] = float(f"{metric.value:.4g}") if isfinite(metric.value) else None
    return found


def quantities(spec: Spec, tier: str, results: Sequence[Mapping[str, Any]]) -> dict[str, Estimate]:
    """Every number that is reported, by name.

    ``E/M/accuracy``, ``E/M/accuracy/GROUP``, ``E/M/cost/GROUP`` = π = accuracy without privacy minus accuracy,
    ``E/M/gap`` = π of the compared group minus π of the reference group, ``matched cost`` and ``matched gap``
    the same against training without privacy at the learning rate of M, and for pairs of methods
    ``E/A - B/gap`` and ``E/B - A/accuracy/GROUP``. A difference is taken seed by seed.
    """
    found: dict[str, Estimate] = {}
    for experiment in spec.content["tiers"][tier]:
        content = spec.experiment(tier, experiment)
        groups, methods = content["groups"], content["methods"]
        pair = (groups["compared"], groups["reference"])
        own = [row for row in results if row["experiment"] == experiment]
        matched = {name: method.get("matched", BASELINE) for name, method in methods.items()}
        known = _of_methods(own, pair, matched) | _of_terms(own, pair) | _of_comparisons(own, pair)
        found |= {f"{experiment}/{name}": estimate for name, estimate in known.items()}
    return found


def _of_methods(
    rows: Sequence[Mapping[str, Any]], pair: tuple[str, str], matched: Mapping[str, str]
) -> dict[str, Estimate]:
    """Accuracies; costs and gap against the baseline, and against its training at the method's own learning rate."""
    found: dict[str, Estimate] = {}
    runs = accuracies(rows)
    for method, own in runs.items():
        for group, values in own.items():
            name = "accuracy" if group == "all" else f"accuracy/{group}"
            found[f"{method}/{name}"] = share(combine(list(values.values())))
        for baseline, kind in ((BASELINE, ""), (matched[method], "matched ")):
            if method == baseline or method.startswith(BASELINE) or baseline not in runs:
                continue
            costs = [minus(runs[baseline][group], own[group]) for group in pair]
            for group, cost in zip(pair, costs, strict=True):
                found[f"{method}/{kind}cost/{group}"] = combine(list(cost.values()))
            found[f"{method}/{kind}gap"] = combine(list(minus(*costs).values()))
    return found


def _of_comparisons(rows: Sequence[Mapping[str, Any]], pair: tuple[str, str]) -> dict[str, Estimate]:
    """Pairs of methods. The accuracy without privacy stands in both gaps and cancels."""
    found: dict[str, Estimate] = {}
    runs = accuracies(rows)
    for a, b in [names for names in COMPARED if set(names) <= set(runs)]:
        gained = [minus(runs[b][group], runs[a][group]) for group in pair]
        for group, values in zip(pair, gained, strict=True):
            found[f"{b} - {a}/accuracy/{group}"] = combine(list(values.values()))
        found[f"{a} - {b}/gap"] = combine(list(minus(*gained).values()))
    return found


def _of_terms(rows: Sequence[Mapping[str, Any]], pair: tuple[str, str]) -> dict[str, Estimate]:
    """What a private step costs: terms by group, their difference between groups, and direction against length."""
    found: dict[str, Estimate] = {}
    compared, reference = pair
    runs = terms(rows)
    for method, own in runs.items():
        for term in TERMS:
            for group in pair:
                found[f"{method}/{term}/{group}"] = over_seeds(list(own[group][term].values()))
            found[f"{method}/{term}/{compared} - {reference}"] = _apart(own[compared][term], own[reference][term])
        found[f"{method}/r_dir - r_mag/{compared}"] = _apart(own[compared]["r_dir"], own[compared]["r_mag"])
    for a, b in [names for names in COMPARED if set(names) <= set(runs)]:
        found[f"{a} - {b}/r_dir/{compared}"] = _apart(runs[a][compared]["r_dir"], runs[b][compared]["r_dir"])
    return found


def _apart(a: Mapping[int, float], b: Mapping[int, float]) -> Estimate:
    return over_seeds([a[seed] - b[seed] for seed in a if seed in b])


def accuracies(rows: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, dict[int, Estimate]]]:
    """Method -> group -> seed -> accuracy with the interval over the test samples."""
    found: dict[str, dict[str, dict[int, Estimate]]] = {}
    for row in rows:
        for group, (right, n) in row["correct"].items():
            found.setdefault(row["method"], {}).setdefault(group, {})[row["seed"]] = proportion(right, n)
    return found


def terms(rows: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, dict[str, dict[int, float]]]]:
    """Method -> group -> term -> seed -> its value, for the trainings that were diagnosed."""
    found: dict[str, dict[str, dict[str, dict[int, float]]]] = {}
    for row in rows:
        for group, values in row.get("misalignment", {}).items():
            own = found.setdefault(row["method"], {}).setdefault(group, {})
            for name, value in values.items():
                own.setdefault(name, {})[row["seed"]] = nan if value is None else value
    return found


def minus(a: Mapping[int, Estimate], b: Mapping[int, Estimate]) -> dict[int, Estimate]:
    """a - b for each seed that both have."""
    return {seed: difference(a[seed], b[seed]) for seed in a if seed in b}


def tables(spec: Spec, results: Results) -> dict[str, str]:
    """Accuracy, and cost and gap, of each experiment."""
    made = {}
    for experiment, content in spec.content["experiments"].items():
        groups = content["groups"]
        accuracy, cost = [], []
        for tier, rows in results.items():
            if experiment not in spec.content["tiers"][tier]:
                continue
            known = quantities(spec, tier, rows)
            for method, own in spec.experiment(tier, experiment)["methods"].items():
                trained = [row for row in rows if (row["experiment"], row["method"]) == (experiment, method)]
                if not trained:
                    continue
                rate = own.get("training", {}).get("learning_rate", content["training"]["learning_rate"])
                head = [own["title"], f"{rate:g}"]
                name = f"{experiment}/{method}"
                shown = [known[f"{name}/accuracy"], *(known[f"{name}/accuracy/{group}"] for group in groups.values())]
                accuracy.append(
                    [*head, *_epsilons(trained[0]), *map(cell, shown), str(len(trained)), tier, _minutes(trained)]
                )
                if f"{name}/gap" in known:
                    costs = [known[f"{name}/cost/{group}"] for group in groups.values()] + [known[f"{name}/gap"]]
                    costs += [known[f"{name}/matched gap"]] if f"{name}/matched gap" in known else []
                    cells = [*(_with_seeds(item, len(trained)) for item in costs), ""][:4]
                    cost.append([*head, *cells, str(len(trained)), tier])
        names = [_named(experiment, group) for group in groups.values()]
        ends = ["seeds", "tier"]
        made[f"{experiment}-accuracy"] = table(
            ["method", "learning rate", "ε (RDP)", "ε (PRV)", "accuracy", *names, *ends, "a training"], accuracy
        )
        made[f"{experiment}-cost"] = table(
            ["method", "learning rate", *(f"cost π, {name}" for name in names), "gap", "gap, same rate", *ends], cost
        )
        if any("misalignment" in row for rows in results.values() for row in rows if row["experiment"] == experiment):
            made[f"{experiment}-misalignment"] = _misalignment(spec, results, experiment)
    return made


def _with_seeds(estimate: Estimate, seeds: int) -> str:
    """A cell that says so where fewer trainings are behind it than the row has."""
    return cell(estimate) + (f" ({estimate.n} seed{'s' * (estimate.n != 1)})" if estimate.n != seeds else "")


def _misalignment(spec: Spec, results: Results, experiment: str) -> str:
    """What a private step costs the two groups, by method; thousandths of a nat."""
    groups = spec.content["experiments"][experiment]["groups"].values()
    rows = []
    for tier, trained in results.items():
        known = quantities(spec, tier, trained)
        own = [row for row in trained if row["experiment"] == experiment]
        methods = spec.experiment(tier, experiment)["methods"]
        for method in [name for name in methods if name in terms(own)]:
            rate = _rate(spec.content["experiments"][experiment], methods[method])
            for group in groups:
                shown = [known[f"{experiment}/{method}/{term}/{group}"] for term in TERMS]
                cells = [f"{1000 * item.value:.2f}" for item in shown[:4]] + [f"{item.value:.2f}" for item in shown[4:]]
                rows.append([methods[method]["title"], rate, _named(experiment, group), *cells, str(shown[0].n), tier])
    head = [
        "method",
        "learning rate",
        "group",
        "R_dir",
        "R_mag",
        "R_clip",
        "R_noise",
        "cosine",
        "clipped",
        "seeds",
        "tier",
    ]
    return table(head, rows)


def figures(spec: Spec, results: Results) -> list[Figure]:
    """Accuracy by group and method, and what a step costs; of the largest tier with results of an experiment."""
    made = []
    for experiment, content in spec.content["experiments"].items():
        tier = spec.largest_tier(experiment, results)
        if tier is None:
            continue
        known = quantities(spec, tier, results[tier])
        methods = {
            f"{own['title']}, {_rate(content, own)}": f"{experiment}/{method}"
            for method, own in spec.experiment(tier, experiment)["methods"].items()
        }
        made.append(
            Figure(
                name=f"{experiment}-accuracy",
                title=f"{content['title']}: accuracy by group",
                caption=f"Tier {tier}. Bars: mean over seeds; whiskers: 95 % intervals.",
                kind="bar",
                x_label="method, learning rate",
                y_label="accuracy on the test set",
                series=tuple(
                    _bars(
                        _named(experiment, group),
                        {label: known.get(f"{name}/accuracy/{group}") for label, name in methods.items()},
                    )
                    for group in content["groups"].values()
                ),
                y_limits=(0, 1),
            )
        )
        compared = content["groups"]["compared"]
        if any(f"{name}/r_dir/{compared}" in known for name in methods.values()):
            made.append(
                Figure(
                    name=f"{experiment}-misalignment",
                    title=f"{content['title']}: what a private step costs {_named(experiment, compared)}",
                    caption=f"Tier {tier}. Bars: mean over snapshots and seeds; whiskers: 95 % intervals over seeds.",
                    kind="bar",
                    x_label="method, learning rate",
                    y_label=f"excess loss of {_named(experiment, compared)} a step (nats)",
                    series=tuple(
                        _bars(words, {label: known.get(f"{name}/{term}/{compared}") for label, name in methods.items()})
                        for term, words in (("r_dir", "direction"), ("r_mag", "length"), ("r_noise", "noise"))
                    ),
                )
            )
    return made


def _bars(label: str, shown: Mapping[str, Estimate | None]) -> Series:
    """One bar for each name that has an estimate."""
    known = {name: estimate for name, estimate in shown.items() if estimate is not None}
    return Series(
        label=label,
        x=tuple(known),
        y=tuple(item.value for item in known.values()),
        lo=tuple(item.lo for item in known.values()),
        hi=tuple(item.hi for item in known.values()),
    )


def _rate(content: Mapping[str, Any], own: Mapping[str, Any]) -> str:
    return f"{own.get('training', {}).get('learning_rate', content['training']['learning_rate']):g}"


def _named(experiment: str, group: str) -> str:
    return f"class {group}" if experiment == "mnist" else group


def _epsilons(row: Mapping[str, Any]) -> list[str]:
    spent = row["privacy"].get("epsilon", {})
    return [f"{spent[name]:.2f}" if name in spent else "∞" for name in ("rdp", "prv")]


def _minutes(rows: Sequence[Mapping[str, Any]]) -> str:
    return f"{sum(row['training_seconds'] for row in rows) / len(rows) / 60:.1f} min"
