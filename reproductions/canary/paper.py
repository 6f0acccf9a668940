"""Canary queries against plain ones: pools of shadow models, LiRA with either kind of query, and a private control."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from reproductions.canary import attacking, pools
from reproductions.canary.numbers import quantities
from reproductions.canary.showing import figures, tables
from reproductions.spec import Job

__all__ = ["figures", "forecast", "perform", "quantities", "tables"]

WORK = {"pool": pools.train, "plain": attacking.plain, "canary": attacking.canary}


def perform(job: Job, folder: Path) -> dict[str, Any]:
    """Do what the plan names under ``work``."""
    return WORK[job.plan["work"]](job, folder)


def forecast(job: Job) -> tuple[int, float]:
    """Steps and seconds that a job will take on one quiet core, roughly."""
    if job.plan["work"] == "pool":
        return pools.forecast(job)
    return attacking.forecast(job)
