"""What a training will cost, from a short timing probe; nothing is written."""

from __future__ import annotations

import dataclasses
import functools
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

from ..core.probes import Cost
from ..data.dataset import Dataset
from . import snapshots
from .batches import Batch
from .burn_in import BurnIn
from .job import Job, Recipe, TrainSettings, make_job
from .loop import Session
from .state import TrainState
from .validation import Validator

PROBES = 3


@dataclass(frozen=True)
class Forecast:
    """Steps, passes in samples, and seconds of a whole training, validation included.

    ``outlook`` holds sentences on what it will amount to: the recipe's own, and the space that kept weights take.
    """

    steps: int
    forward: int
    backward: int
    seconds: float
    outlook: tuple[str, ...] = ()

    def __str__(self) -> str:
        return (
            f"{self.steps:,} steps, {self.forward:,} forward and {self.backward:,} backward sample passes, "
            f"about {self.seconds:.0f} s"
        )


def forecast(
    recipe: Recipe | str,
    *,
    data: Dataset,
    network: str | None = None,
    validation: Dataset | None = None,
    settings: TrainSettings | None = None,
    seed: int = 0,
) -> Forecast:
    """Estimate the cost of ``train`` with the same arguments on this machine.

    Cost: four steps of training and of validation, the first of each to warm up; four more where there is a burn-in.
    """
    job = make_job(recipe, data=data, network=network, validation=validation, settings=settings, seed=seed)
    session = Session.of(job)
    with session.prepared() as state:
        _, batch = next(session.batches().in_order())
        total = Cost()
        for first, samples in _phases(job):
            total += _probe(state, batch, functools.partial(_step, job, state, batch, first), samples)
        validator = job.product.validator(job, state)
        if validator is not None:
            _, part = next(validator.batches.in_order())
            rounds = -(-job.settings.epochs // job.settings.validate_every) + 1
            total += _probe(state, part, functools.partial(_check, validator, state, part), len(validator) * rounds)
        outlook = (*job.recipe.outlook(job), *snapshots.outlook(state))
    return Forecast(job.total_steps, total.forward, total.backward, total.seconds, outlook)


def _phases(job: Job) -> list[tuple[int, float]]:
    """The parts of a training whose steps cost alike: the first step of each, and its samples."""
    burnt = job.recipe.burn_in_steps(job.total_steps) if isinstance(job.recipe, BurnIn) else 0
    a_step = len(job.data) * job.settings.epochs / job.total_steps
    parts = [(0, burnt * a_step), (burnt, (job.total_steps - burnt) * a_step)]
    return [(first, samples) for first, samples in parts if samples]


def _step(job: Job, state: TrainState, batch: Batch, number: int) -> None:
    state.step = number
    state.begin_step()
    state.apply(job.recipe.step(state, batch))


def _check(validator: Validator, state: TrainState, batch: Batch) -> None:
    with state.evaluating(average=True):
        validator.columns(state, batch)


def _probe(state: TrainState, batch: Batch, work: Callable[[], None], samples: float) -> Cost:
    """The cost of ``samples`` samples, from timed repetitions of work on one batch."""
    work()
    before = dataclasses.replace(state.cost)
    seconds = []
    for _ in range(PROBES):
        started = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - started)
    scale = samples / batch.size
    return Cost(
        seconds=statistics.median(seconds) * scale,
        forward=round((state.cost.forward - before.forward) * scale / PROBES),
        backward=round((state.cost.backward - before.backward) * scale / PROBES),
    )
