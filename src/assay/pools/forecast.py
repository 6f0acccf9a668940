"""What the rest of a pool will cost: time from a short probe or from its finished models, and space on the disk."""

from __future__ import annotations

import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from ..core.errors import RunError
from ..core.files import read_json, remove, write_atomic
from ..core.runs import RECORD
from ..training.dry_run import forecast as forecast_training
from ..training.job import Job
from .folder import read_units
from .units import torch_threads

if TYPE_CHECKING:
    from .pool import Pool

SMALL_FILES = 32 * 1024
"""Bytes of the record, the tables and the figures of one model."""

PER_EPOCH = 512
"""Bytes that an epoch adds to them."""

TRIAL = ".probe"
RECENT = 8
"""Finished models whose seconds are looked up."""


@dataclass(frozen=True)
class PoolForecast:
    """What is left of a pool.

    Args:
        models: M.
        left: models that are not finished.
        seconds: wall time of the models that are left.
        processor_seconds: time that they take one after another.
        bytes: space that they need on the disk, checkpoints included.
        workers: processes that share the work.

    >>> str(PoolForecast(models=64, left=40, seconds=600, processor_seconds=1200, bytes=8_000_000, workers=2))
    '40 of 64 models to train: about 10 min with 2 workers, and 8 MB on the disk'
    """

    models: int
    left: int
    seconds: float
    processor_seconds: float
    bytes: int
    workers: int = 1

    def __str__(self) -> str:
        if not self.left:
            return f"all {self.models} models are trained"
        return (
            f"{self.left} of {self.models} models to train: about {_duration(self.seconds)} with {self.workers} "
            f"worker{'s' * (self.workers > 1)}, and {_megabytes(self.bytes)} on the disk"
        )


def forecast(pool: Pool, workers: int | None = None, *, threads: int = 1) -> PoolForecast:
    """Estimate what is left to do.

    Args:
        pool: the pool.
        workers: processes that train at the same time; 1 if not given.
        threads: threads of torch in each.

    Cost: where no model is finished, four steps of one training and a checkpoint written once.
    """
    workers = max(1, workers or 1)
    finished = pool.finished
    left = np.flatnonzero(~finished)
    if not len(left):
        return PoolForecast(len(pool), 0, 0.0, 0.0, 0, workers)
    sizes = pool.in_mask.sum(1)
    done = np.flatnonzero(finished)
    a_sample = _known(pool, done, sizes) if len(done) else _probed(pool, int(left[0]), threads)
    seconds = a_sample * sizes[left]
    total = float(seconds.sum())
    share = max(total / workers, float(seconds.max()))
    return PoolForecast(len(pool), len(left), share, total, _bytes(pool, left, workers), workers)


def check_space(pool: Pool, workers: int | None = None) -> None:
    """RunError where the models that are left will not fit on the disk."""
    left = np.flatnonzero(~pool.finished)
    if len(left):
        _check(pool.folder, f"the {len(left)} models that are left", _bytes(pool, left, workers or 1))


def check_space_for_data(folder: Path, needed: int) -> None:
    """RunError where the records of a pool will not fit on the disk."""
    _check(folder, "the records of the pool", needed)


def _check(folder: Path, what: str, needed: int) -> None:
    there = shutil.disk_usage(folder).free
    if needed > there:
        raise RunError(
            f"The disk of {str(folder)!r} is too full: {what} need about {_megabytes(needed)}, and "
            f"{_megabytes(there)} are free. Free some space, or choose another folder, a smaller network or fewer "
            "models."
        )


def _known(pool: Pool, done: np.ndarray, sizes: np.ndarray) -> float:
    """Seconds a record of the training data, from models that were trained already."""
    rates = [read_json(pool.path(m) / RECORD)["cost"]["seconds"] / sizes[m] for m in done[-RECENT:].tolist()]
    return float(np.median(rates))


def _probed(pool: Pool, m: int, threads: int) -> float:
    """Seconds a record, from timed steps and a timed checkpoint; groups take the share that their timing found."""
    job = pool.job(m)
    with torch_threads(threads):
        found = forecast_training(
            job.recipe, data=job.data, network=job.network, settings=job.settings, seed=job.seed
        ).seconds
    found *= float((read_units(pool.folder) or {}).get("share", 1.0))
    saves = job.settings.epochs + 1
    if job.settings.checkpoint_every:
        saves += job.total_steps // job.settings.checkpoint_every
    return (found + saves * _saving(pool.folder, _checkpoint(job))) / len(job.data)


def _saving(folder: Path, size: int) -> float:
    """Seconds to save a checkpoint and a history."""
    path = folder / TRIAL
    started = time.perf_counter()
    for content in (bytes(size), bytes(PER_EPOCH)):
        write_atomic(path, content)
    spent = time.perf_counter() - started
    remove(path)
    return spent


def _weights(job: Job) -> int:
    with torch.random.fork_rng(devices=[]), torch.device("meta"):
        tensors = job.product.build(job).state_dict().values()
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def _checkpoint(job: Job) -> int:
    """Bytes of network, optimiser and weight average."""
    copies = 1 + (2 if job.settings.optimizer == "adamw" else 1) + (job.settings.ema is not None)
    return copies * _weights(job)


def _bytes(pool: Pool, left: np.ndarray, workers: int) -> int:
    """Models for good, and for every model under way a checkpoint with its successor being written beside it."""
    job = pool.job(int(left[0]))
    moments = 1 + job.total_steps // job.settings.watch if job.settings.watch else 0
    kept = _weights(job) * (1 + moments) + SMALL_FILES + PER_EPOCH * job.settings.epochs
    group = int((read_units(pool.folder) or {}).get("group", 1))
    return len(left) * kept + min(workers * group, len(left)) * 2 * _checkpoint(job)


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def _megabytes(count: float) -> str:
    return f"{count / 1e6:,.0f} MB" if count >= 1e7 else f"{count / 1e6:.2g} MB"
