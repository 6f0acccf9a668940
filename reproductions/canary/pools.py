"""The pools: shadow models, and behind them the target models, all trained alike on halves of the same records."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from assay.core.methods import card, settings_of
from assay.core.settings import build
from assay.data.dataset import Dataset
from assay.pools import Pool
from assay.training import TrainSettings
from reproductions import datasets
from reproductions.job import needed, private_facts
from reproductions.spec import Job

POOL = "pool"


def plan(job: Job, out: Path) -> Pool:
    """The pool of a job, planned; it trains nothing."""
    given = job.plan
    data, _ = datasets.read(given["data"])
    return Pool.plan(
        out,
        data=data,
        recipe=build(settings_of(card(given["recipe"], "recipe")), given["settings"]),
        network=given["network"],
        settings=build(TrainSettings, given["training"]),
        models=given["references"] + given["targets"],
        seed=job.seed,
    )


def train(job: Job, folder: Path) -> dict[str, Any]:
    """Train the pool, with a worker on every core; how well its models do on records they saw and on others."""
    pool = plan(job, folder / POOL).train(job.plan.get("executor", "local"))
    return {
        "models": len(pool),
        "records": len(pool.data),
        "group": len(pool.units()[0]),
        "seconds": round(sum(_seconds(pool, m) for m in range(len(pool))), 1),
        **_accuracies(pool, job.plan),
        "guarantee": private_facts(pool.path(0)),
    }


def pool_of(job: Job, folder: Path) -> tuple[Pool, int]:
    """The pool that a job needs, and how many of its models are references; the others are targets."""
    pool = Pool.open(needed(job, folder, "pool") / POOL)
    return pool, len(pool) - targets_of(pool)


def targets_of(pool: Pool) -> int:
    """How many models at the end of a pool are targets, as the job says that made it."""
    made = json.loads((pool.folder.parent / "job.json").read_text(encoding="utf-8"))
    return int(made["plan"]["targets"])


def records_of(pool: Pool, count: int) -> Dataset:
    """The records that are attacked: the first of the pool."""
    return pool.data.head(min(count, len(pool.data)))


def forecast(job: Job) -> tuple[int, float]:
    """Steps and processor seconds of all models, by the pool's own short timing."""
    with tempfile.TemporaryDirectory() as folder:
        pool = plan(job, Path(folder) / POOL)
        steps = sum(pool.job(m).total_steps for m in range(len(pool)))
        return steps, pool.forecast(workers=1).processor_seconds


def _seconds(pool: Pool, m: int) -> float:
    from assay.core.runs import load_run

    return load_run(pool.path(m)).cost.seconds


def _accuracies(pool: Pool, given: Mapping[str, Any]) -> dict[str, float]:
    """Mean accuracy of the targets on the records they saw, on the others, and on a test part."""
    import torch

    _, test = datasets.read(given["data"])
    test = test.head(min(2000, len(test)))
    targets = range(given["references"], len(pool))
    found: dict[str, list[float]] = {"seen": [], "unseen": [], "test": []}
    for m in targets:
        model = pool.model(m)
        for name, data in (
            ("seen", pool.data.subset(pool.in_mask[m])),
            ("unseen", pool.data.subset(~pool.in_mask[m])),
            ("test", test),
        ):
            answers = model.predict(torch.from_numpy(data.images()))
            found[name].append(float((answers.argmax(1).numpy() == data.labels).mean()))
    return {f"accuracy_{name}": round(float(np.mean(values)), 4) for name, values in found.items()}
