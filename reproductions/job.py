"""One job: train by ``assay.training.train``, measure, write ``result.json``. Repeating it goes on where it stopped.

A job whose plan names other `work` is done by the paper's own code, as a whole.

``python -m reproductions.job FOLDER`` runs the job that ``FOLDER/job.json`` describes.
"""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from assay.core.files import to_json, write_atomic
from assay.core.methods import card, settings_of
from assay.core.probes import Cost
from assay.core.settings import build
from assay.data.dataset import Dataset

from . import datasets
from .spec import Job, load_spec

JOB, RESULT, RUN, RECORD = "job.json", "result.json", "run", "run.json"


def run(paper: str, job: Job, folder: Path) -> dict[str, Any]:
    """Train and measure, or have the paper's code do it; the result, which is also in ``folder/result.json``."""
    code = load_spec(paper).code()
    result = _performed(code, job, folder) if "work" in job.plan else _trained(code, job, folder)
    write_atomic(folder / RESULT, to_json(result))
    return result


def _performed(code: ModuleType, job: Job, folder: Path) -> dict[str, Any]:
    """What ``perform`` of the paper's code returns; it finds the results of the jobs it needs by ``needed``."""
    started, processor = time.monotonic(), time.process_time()
    found = code.perform(job, folder)
    return {
        "experiment": job.experiment,
        "method": job.method,
        "seed": job.seed,
        "plan": job.digest,
        **found,
        "processor_seconds": round(time.process_time() - processor, 1),
        "wall_seconds": round(time.monotonic() - started, 1),
    }


def needed(job: Job, folder: Path, role: str) -> Path:
    """The folder of a job that this one needs.

    Args:
        folder: of this job.
        role: a key of ``needs`` in the specification.
    """
    return work_folder_of(folder) / str(job.plan["needs"][role])


def _trained(code: ModuleType, job: Job, folder: Path) -> dict[str, Any]:
    from assay.training import TrainSettings, train

    data, test = datasets.read(job.plan["data"])
    started = time.monotonic()
    privacy: dict[str, Any] = {}
    cost = Cost()
    if "encoder" not in job.plan:  # a pretrained encoder is not trained
        recipe, privacy = recipe_of(job.plan, data, start=begun_with(job.plan, work_folder_of(folder)))
        cost = train(
            recipe,
            data=data,
            out=folder / RUN,
            network=None if "start" in job.plan else job.plan["network"],
            settings=build(TrainSettings, job.plan["training"]),
            seed=job.seed,
        ).cost
    trained = time.monotonic()
    return {
        "experiment": job.experiment,
        "method": job.method,
        "seed": job.seed,
        "plan": job.digest,
        "samples": {"training": len(data), "test": len(test)},
        "privacy": privacy | private_facts(folder / RUN),
        "passes": {"forward": cost.forward, "backward": cost.backward},
        **code.measure(job, folder, data, test),
        "training_seconds": round(cost.seconds, 1),
        "measuring_seconds": round(time.monotonic() - trained, 1),
        "wall_seconds": round(time.monotonic() - started, 1),
    }


def work_folder_of(folder: Path) -> Path:
    """The folder of all jobs of a tier, from that of one job."""
    return folder.parents[2]


def begun_with(plan: Mapping[str, Any], work: Path) -> str | None:
    """The encoder that a training begins with: that of the job named by ``start``; None for one from fresh weights.

    Args:
        plan: of the job.
        work: the folder of all jobs of the tier.
    """
    start = plan.get("start")
    return None if start is None else start["encoder"] or f"run:{work / start['folder'] / RUN}"


def encoder_of(plan: Mapping[str, Any], folder: Path) -> str:
    """The encoder that a job made, or was given, as :func:`assay.subjects.encoder` reads it."""
    return str(plan["encoder"]) if "encoder" in plan else f"run:{folder / RUN}"


def recipe_of(plan: Mapping[str, Any], data: Dataset, start: str | None = None) -> tuple[Any, dict[str, Any]]:
    """The recipe's settings, with the noise that gives every private method the same ε; and that noise.

    The specification names the published noise multiplier σ₀ and epochs. Trained for as many
    epochs, a method gets the effective noise σ₀; trained for fewer, the one that gives the same ε.
    Where it also releases counts on the same batch, with noise σ_b, its gradients get σ with
    σ⁻² + (c σ_b)⁻² = σ_eff⁻², where c is 2 for centred counts and 1 for others.
    """
    kind = settings_of(card(plan["recipe"], "recipe"))
    if start is not None:
        return build(kind, {**plan["settings"], "encoder": start}), {}
    if plan["privacy"] is None:
        return build(kind, plan["settings"]), {}
    effective = effective_noise_multiplier(plan, len(data))
    settings = plan["settings"]
    counts = settings.get("count_noise") if settings.get("clip") in ("global-adapt", "per-group") else None
    multiplier = gradient_noise(effective, counts, centred=settings.get("clip") == "global-adapt")
    own = {**settings, "noise_multiplier": multiplier, "delta": plan["privacy"]["delta"]}
    return build(kind, own), {"noise_multiplier": multiplier}


def effective_noise_multiplier(plan: Mapping[str, Any], samples: int) -> float:
    """σ₀, or what gives the same ε in another number of epochs."""
    published, training = plan["privacy"], plan["training"]
    if training["epochs"] == published["epochs"]:
        return float(published["noise_multiplier"])
    from assay.privacy import calibrate_noise, epsilon

    steps = math.ceil(samples / training["batch_size"])
    rate = training["batch_size"] / samples
    target = epsilon(
        noise_multiplier=published["noise_multiplier"],
        sample_rate=rate,
        steps=steps * published["epochs"],
        delta=published["delta"],
    )
    found = calibrate_noise(
        epsilon=target, sample_rate=rate, steps=steps * training["epochs"], delta=published["delta"]
    )
    return round(float(found), 4)


def gradient_noise(effective: float, count_noise: float | None, *, centred: bool) -> float:
    """σ = (σ_eff⁻² - (c σ_b)⁻²)^(-1/2): the gradient's noise where counts are released beside it.

    >>> round(gradient_noise(0.8, 8.0, centred=False), 5), gradient_noise(0.8, None, centred=False)
    (0.80403, 0.8)
    """
    if count_noise is None:
        return effective
    scale = 2 * count_noise if centred else count_noise
    return (effective**-2 - scale**-2) ** -0.5


def private_facts(run_folder: Path) -> dict[str, Any]:
    """What a private training says of its guarantee; nothing where it was not private."""
    path = run_folder / "privacy.json"
    if not path.exists():
        return {}
    found = json.loads(path.read_text(encoding="utf-8"))
    names = ("effective_noise_multiplier", "sample_rate", "steps", "delta", "epsilon", "sampling", "backend")
    return {name: found[name] for name in names}


def main(arguments: list[str]) -> None:
    """Run the job in a folder."""
    folder = Path(arguments[0])
    given = json.loads((folder / JOB).read_text(encoding="utf-8"))
    run(given["paper"], Job(given["experiment"], given["method"], given["seed"], given["plan"]), folder)


if __name__ == "__main__":
    main(sys.argv[1:])
