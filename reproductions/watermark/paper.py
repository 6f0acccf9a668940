"""The watermark of language-model text: errors beside theory, cost in quality, human text, and attacks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from reproductions.spec import Job
from reproductions.watermark import attacks, human, marked, models
from reproductions.watermark.numbers import quantities
from reproductions.watermark.showing import figures, tables

__all__ = ["figures", "forecast", "perform", "quantities", "tables"]

WORK = {"model": models.make, "texts": marked.generate, "human": human.examine, "attacks": attacks.examine}
STEP = 4.5e-11
"""Seconds for one multiplication and addition of a training, forward and backward, on one quiet core."""
TOKEN, BEAM = 0.5e-3, 0.35e-3
"""Seconds for one token of one text, and for each of its beams, on one quiet core with the models of the cpu tier."""


def perform(job: Job, folder: Path) -> dict[str, Any]:
    """Do what the plan names under ``work``."""
    return WORK[job.plan["work"]](job, folder)


def forecast(job: Job) -> tuple[int, float]:
    """Steps and seconds that a job will take on one quiet core, roughly: model passes count, all else is cheap."""
    plan = job.plan
    if plan["work"] == "model":
        if "model" in plan:
            return 0, 0.0
        tokens = models.training_tokens(plan)
        recipe, training = plan["recipe"], plan["training"]
        weights = recipe["vocab_size"] * recipe["width"] + 12 * recipe["layers"] * recipe["width"] ** 2
        steps = tokens * training["epochs"] // (recipe["context"] * training["batch_size"])
        return steps, 3 * tokens * training["epochs"] * weights * STEP
    if plan["work"] == "human":
        return 0, 60.0
    steps = plan["new_tokens"] * plan.get("rounds", 1)
    return steps, steps * plan["count"] * (TOKEN + BEAM * plan["decoding"].get("beams", 1))
