"""What the jobs of a tier will cost, by the forecast of ``assay train --dry-run``."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from types import ModuleType

from assay.core.settings import build

from . import datasets
from .job import recipe_of
from .pages import table
from .runner import finished
from .spec import Job


def table_of_costs(jobs: Sequence[Job], folder: Path, *, workers: int, code: ModuleType | None = None) -> str:
    """A line for each experiment and method, and the sum over what is left to do; measurement is not counted.

    Args:
        code: of the paper; its ``forecast`` tells the steps and seconds of jobs that are no training.
    """
    from assay.training import TrainSettings, forecast

    read = lru_cache(maxsize=2)(lambda name: datasets.read(dict(parts[name])))
    parts = {str(job.plan["data"]): job.plan["data"] for job in jobs if "work" not in job.plan}
    groups: dict[tuple[str, str], list[Job]] = {}
    for job in jobs:
        groups.setdefault((job.experiment, job.method), []).append(job)
    rows, total = [], 0.0
    for (experiment, method), members in groups.items():
        left = [job for job in members if finished(folder, job) is None]
        plan = members[0].plan
        if "work" in plan:
            assert code is not None
            steps, seconds = code.forecast(members[0])
            total += seconds * len(left)
            rows.append([experiment, method, f"{steps:,}", f"{seconds:.0f} s", f"{len(left)} of {len(members)}"])
            continue
        if "encoder" in plan:
            rows.append([experiment, method, "0", "0 s", f"{len(left)} of {len(members)}"])
            continue
        data, _ = read(str(plan["data"]))
        settings = build(TrainSettings, plan["training"])
        start = None
        if "start" in plan:  # an untrained encoder of the same size stands in for one that is not there yet
            start = plan["start"]["encoder"] or f"network:{plan['network']}"
        recipe, _ = recipe_of(plan, data, start=start)
        found = forecast(recipe, data=data, network=None if start else plan["network"], settings=settings)
        total += found.seconds * len(left)
        rows.append(
            [experiment, method, f"{found.steps:,}", f"{found.seconds:.0f} s", f"{len(left)} of {len(members)}"]
        )
    rows.append(["all", "", "", f"{total / 60:.0f} min", f"{total / 60 / max(1, workers):.0f} min of wall time"])
    return table(["experiment", "method", "steps", "a job", "left"], rows)
