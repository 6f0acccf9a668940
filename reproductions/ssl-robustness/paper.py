"""Robustness of encoders across tasks: heads on each encoder, attacked in embedding space and at their output."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from assay.core.estimates import Estimate
from assay.core.probes import Column, Figure, Series
from assay.core.settings import build
from assay.core.shards import Shards
from assay.data.dataset import Dataset
from reproductions import datasets
from reproductions.estimates import combine, difference, over_seeds, share
from reproductions.job import encoder_of
from reproductions.pages import Results, cell, table
from reproductions.spec import Job, Spec


class Shown(NamedTuple):
    """A metric that is reported.

    Args:
        title: in tables.
        unit: of :func:`reproductions.pages.cell`.
        sign: 1 where higher is better, -1 where lower is.
    """

    title: str
    unit: str
    sign: int


SHOWN = {
    "classification": {"accuracy": Shown("accuracy, %", "percent", 1)},
    "segmentation": {
        "mean_iou": Shown("mean IoU, %", "percent", 1),
        "pixel_accuracy": Shown("pixel accuracy, %", "percent", 1),
    },
    "depth": {"rmse": Shown("RMSE, m", "metres", -1), "delta1": Shown("δ < 1.25, %", "percent", 1)},
    "embedding": {
        "embedding_l2_distance": Shown("distance to the clean embedding", "distance", -1),
        "embedding_cosine_distance": Shown("1 - cos to the clean embedding", "distance", -1),
    },
}
"""What is reported of each task; the first metric is in the matrix."""
SPACES = {"noise": "random noise", "embedding": "embedding attack", "output": "output attack"}
CLEAN = "clean"
MAIN = ("undefended", "deacl", "dense-deacl")
HEADS_APART = 1000
"""Between the seeds of the heads of two trainings."""


def measure(job: Job, folder: Path, data: Dataset, test: Dataset) -> dict[str, Any]:
    """Every task of the plan: clean metrics, and those under noise, embedding attacks and output attacks.

    ``tasks``: by task, ``images`` attacked, ``all`` the metrics on the whole test part, and ``cells`` those on the
    attacked images, by ``clean`` and ``SPACE@EPS`` or ``OBJECTIVE@EPS``; each [value, lo, hi], the mean over heads
    with an interval over images and heads.
    """
    from assay.subjects import encoder

    found = encoder(encoder_of(job.plan, folder))
    attacked: dict[str, Any] = {}
    tasks = {
        task: _measured(job, folder, found, task, wanted, attacked)
        for task, wanted in job.plan["measure"]["tasks"].items()
    }
    return {"tasks": tasks}


def _measured(
    job: Job, folder: Path, found: Any, task: str, wanted: Mapping[str, Any], attacked: dict[str, Any]
) -> dict[str, Any]:
    """One task; ``attacked`` keeps the images attacked in embedding space for the next task on the same ones."""
    import torch

    from assay.evasion.cross_task.probe import Bench, CrossTask
    from assay.evasion.cross_task.transfers import Transfers
    from assay.training.heads import HeadSettings, train_heads

    plan = job.plan["measure"]
    train, test = datasets.dense(wanted["data"])
    heads: list[Any] = []
    if task != "embedding":
        heads = train_heads(
            found,
            train,
            task=task,
            seeds=[HEADS_APART * job.seed + number for number in range(plan["heads"])],
            settings=build(HeadSettings, wanted.get("head", {})),
            validation=test,
        )
    chosen = test.subset(np.linspace(0, len(test) - 1, wanted["images"]).round().astype(int))
    images, ids = torch.from_numpy(chosen.images()), chosen.sample_ids.tolist()
    which = str([wanted["data"], wanted["images"]])
    if which not in attacked:
        attacked[which] = Transfers(found, found.check_images(images), ids, seed=job.seed)
    settings = CrossTask(
        task=task, eps=plan["eps"], steps=plan["steps"], attacks=tuple(wanted.get("attacks", ())), pictures=0
    )
    bench = Bench(
        encoder=found,
        heads=[head.target for head in heads],
        images=images,
        references=None if task == "embedding" else torch.from_numpy(chosen.references(task)),
        sample_ids=ids,
        transfers=attacked[which],
        seed=job.seed,
        shards=Shards(folder / "cells" / task),
    )
    metrics = settings.examine(bench).measurement.metrics
    clean = [metric for head in heads for metric in head.metrics]
    return {
        "images": len(chosen),
        "heads": len(heads),
        "all": {
            name: _mean([metric.value for metric in clean if metric.name == f"validation_{name}"])
            for name in SHOWN[task]
            if heads
        },
        "cells": {
            place: {name: list(values) for name, values in known.items()}
            for place, known in _cells(metrics, task).items()
        },
    }


def _cells(metrics: Sequence[Any], task: str) -> dict[str, dict[str, tuple[float, float, float]]]:
    """Values with their intervals by cell and metric."""
    cells: dict[str, dict[str, tuple[float, float, float]]] = {}
    for metric in metrics:
        before, _, budget = metric.name.partition("@")
        name = before.removeprefix("clean_").removeprefix("robust_")
        if name in SHOWN[task]:
            place = metric.stratum.partition("=")[2] or ("worst" if budget else CLEAN)
            where = f"{place}@{budget.rpartition(':')[2]}" if budget else place
            cells.setdefault(where, {})[name] = (metric.value, metric.lo, metric.hi)
    return cells


def quantities(spec: Spec, tier: str, results: Sequence[Mapping[str, Any]]) -> dict[str, Estimate]:
    """Every number that is reported, by name.

    ``E/M/T/METRIC/clean``, ``.../SPACE@EPS`` with SPACE noise, embedding (the worst of the embedding attacks for each
    image), output or worst (the worst of all), ``.../OBJECTIVE@EPS``; ``.../all`` on the whole test part without
    attack. ``.../lost/SPACE@EPS``: what the attack takes, the difference to clean, positive where it harms;
    ``.../lost/beyond-noise@EPS``: what embedding attacks take beyond random noise, ``.../lost/beyond-output@EPS``:
    beyond output attacks.
    For pairs ``E/A over B/...``: by how much A is better than B (its accuracy higher, its error lower), seed by seed;
    ``E/A over B/T/METRIC/lost/...``: how much less it loses, so that ``.../lost/beyond-output@EPS`` is how much less it
    loses to embedding attacks, minus how much less it loses to output attacks.
    """
    found: dict[str, Estimate] = {}
    for experiment in spec.content["tiers"][tier]:
        rows = [row for row in results if row["experiment"] == experiment]
        known = {(row["method"], row["seed"]): _values(row) for row in rows}
        methods = list(dict.fromkeys(row["method"] for row in rows))
        for method in methods:
            seeds = [values for (name, _), values in known.items() if name == method]
            for name in seeds[0]:
                mean = combine([values[name] for values in seeds if name in values])
                found[f"{experiment}/{method}/{name}"] = share(mean) if _is_share(name) else mean
        for a in methods:
            for b in methods:
                if a != b:
                    for name, estimate in _compared(known, a, b):
                        found[f"{experiment}/{a} over {b}/{name}"] = estimate
    return found


def _values(row: Mapping[str, Any]) -> dict[str, Estimate]:
    """Everything that one training tells, by ``T/METRIC/...``."""
    found = {}
    for task, measured in row["tasks"].items():
        for metric, shown in SHOWN[task].items():
            start, cells = f"{task}/{metric}", measured["cells"]
            for place, values in cells.items():
                if metric in values:
                    found[f"{start}/{place}"] = _estimate(values[metric], measured["images"])
            if metric in measured["all"]:
                found[f"{start}/all"] = _alone(measured["all"][metric])
            clean = cells.get(CLEAN, {}).get(metric, (0.0, None, None))[0]  # an embedding is where it was
            for place, values in cells.items():
                if metric in values and place != CLEAN:
                    found[f"{start}/lost/{place}"] = _alone(shown.sign * (clean - values[metric][0]))
                space, _, eps = place.partition("@")
                for name, other in (("beyond-noise", "noise"), ("beyond-output", "output")):
                    known = cells.get(f"{other}@{eps}", {}).get(metric)
                    if space == "embedding" and known and metric in values:
                        found[f"{start}/lost/{name}@{eps}"] = _alone(shown.sign * (known[0] - values[metric][0]))
    return found


def _compared(
    known: Mapping[tuple[str, int], Mapping[str, Estimate]], a: str, b: str
) -> Iterator[tuple[str, Estimate]]:
    """By how much ``a`` is better than ``b``, over the seeds that both have."""
    pairs = [(known[a, seed], known[b, seed]) for name, seed in known if name == a and (b, seed) in known]
    for name in pairs[0][0] if pairs else ():
        task, metric, place = name.split("/", 2)
        sign = -1 if place.startswith("lost/") else SHOWN[task][metric].sign
        both = [(one[name], other[name]) for one, other in pairs if name in other]
        if len(both) == 1:
            found = difference(*(both[0] if sign > 0 else both[0][::-1]))
            yield name, replace(found, method=f"{found.method} over test samples, one training")
        elif both:
            yield name, over_seeds([sign * (one.value - other.value) for one, other in both])


def _is_share(name: str) -> bool:
    task, metric, place = name.split("/", 2)
    return not place.startswith("lost/") and SHOWN[task][metric].unit == "percent"


def _estimate(values: Sequence[float | None], images: int) -> Estimate:
    value, lo, hi = (math.nan if item is None else float(item) for item in values)
    return Estimate(value=value, lo=lo, hi=hi, n=images, method="images and heads")


def _alone(value: float) -> Estimate:
    return Estimate(value=value, lo=math.nan, hi=math.nan, n=1, method="one training")


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)


def tables(spec: Spec, results: Results) -> dict[str, str]:
    """For each metric a row a method: clean, and under each attack; what the best defence gains; and what it cost."""
    made = {}
    for experiment, content in spec.content["experiments"].items():
        plan = content["measure"]
        places = [CLEAN, *(f"{space}@{eps}" for eps in plan["eps"] for space in SPACES)]
        heads = ["clean", *(f"{words}, {eps}" for eps in plan["eps"] for words in SPACES.values())]
        for task, metrics in SHOWN.items():
            for metric, shown in metrics.items():
                lines = []
                for tier, title, count, known, start in _rows(spec, results, experiment):
                    at = [f"{start}/{task}/{metric}/{place}" for place in ["all", *places]]
                    if any(name in known for name in at):
                        lines.append([title, *(_known(known, name, shown.unit) for name in at), str(count), tier])
                head = [shown.title, "clean, whole test part", *heads, "seeds", "tier"]
                made[f"{experiment}-{task}-{metric.replace('_', '-')}"] = table(head, lines)
        made[f"{experiment}-cost"] = table(
            ["method", "images in training", "forward", "backward", "a training", "its measurement", "seeds", "tier"],
            [line for tier, rows in results.items() for line in _costs(spec, tier, experiment, rows)],
        )
    return made


def _rows(spec: Spec, results: Results, experiment: str) -> Iterator[tuple[str, str, int, dict[str, Estimate], str]]:
    """Tier, title, seeds, all quantities and the start of their names, for each method with results."""
    for tier, rows in results.items():
        if experiment not in spec.content["tiers"][tier]:
            continue
        known = quantities(spec, tier, rows)
        for method, own in spec.experiment(tier, experiment)["methods"].items():
            count = sum((row["experiment"], row["method"]) == (experiment, method) for row in rows)
            if count:
                yield tier, own["title"], count, known, f"{experiment}/{method}"


def _costs(spec: Spec, tier: str, experiment: str, rows: Sequence[Mapping[str, Any]]) -> Iterator[list[str]]:
    if experiment not in spec.content["tiers"][tier]:
        return
    for method, own in spec.experiment(tier, experiment)["methods"].items():
        done = [row for row in rows if (row["experiment"], row["method"]) == (experiment, method)]
        if done:
            passes = [
                f"{_mean([row['passes'][kind] for row in done]) / 1000:,.0f}k" for kind in ("forward", "backward")
            ]
            minutes = [
                f"{_mean([row[f'{part}_seconds'] for row in done]) / 60:.1f} min" for part in ("training", "measuring")
            ]
            yield [own["title"], f"{done[0]['samples']['training']:,}", *passes, *minutes, str(len(done)), tier]


def _known(known: Mapping[str, Estimate], name: str, unit: str) -> str:
    return cell(known[name], unit) if name in known else "–"


def figures(spec: Spec, results: Results) -> list[Figure]:
    """The matrix of attack space, task and encoder for each budget, of the largest tier with results."""
    made = []
    for experiment, content in spec.content["experiments"].items():
        tier = spec.largest_tier(experiment, results)
        if tier is None:
            continue
        rows = list(_rows(spec, {tier: results[tier]}, experiment))
        for eps in content["measure"]["eps"]:
            made.append(_matrix(experiment, content["title"], tier, eps, rows))
    return made


def _matrix(
    experiment: str, title: str, tier: str, eps: str, rows: Sequence[tuple[str, str, int, dict[str, Estimate], str]]
) -> Figure:
    firsts = {task: next(iter(metrics.items())) for task, metrics in SHOWN.items()}
    columns = {
        task: Column(
            name=f"{task}: {shown.title.partition(',')[0]}",
            unit="share" if shown.unit == "percent" else "m" if shown.unit == "metres" else "",
            direction="higher" if shown.sign > 0 else "lower",
        )
        for task, (_, shown) in firsts.items()
    }
    series = []
    for _, encoder, _, known, start in rows:
        if not any(name.startswith(f"{start}/") and name.endswith(f"@{eps}") for name in known):
            continue  # not attacked within this budget
        for place, words in {CLEAN: "clean", **{f"{space}@{eps}": words for space, words in SPACES.items()}}.items():
            cells = {
                columns[task].name: known[name]
                for task, (metric, _) in firsts.items()
                if (name := f"{start}/{task}/{metric}/{place}") in known
            }
            if cells:
                series.append(_series(f"{encoder} · {words}", cells))
    seeds = sorted({count for _, _, count, _, _ in rows})
    among = (
        " or ".join(map(str, seeds)) + f" training{'s' * (seeds != [1])} of each encoder, several heads a task on each"
    )
    ends = "trainings" if seeds != [1] else "images and heads"
    return Figure(
        name=f"{experiment}-{eps.replace('/', '-')}",
        title=f"{title}: what is left at {eps}",
        caption=f"Tier {tier}. {among}; below each number its 95 % interval over {ends}.",
        kind="matrix",
        x_label="task and metric",
        y_label="encoder · attack",
        series=tuple(series),
        columns=tuple(columns.values()),
    )


def _series(label: str, cells: Mapping[str, Estimate]) -> Series:
    return Series(
        label=label,
        x=tuple(cells),
        y=tuple(estimate.value for estimate in cells.values()),
        lo=tuple(estimate.lo for estimate in cells.values()),
        hi=tuple(estimate.hi for estimate in cells.values()),
    )
