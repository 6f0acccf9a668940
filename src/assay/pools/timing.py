"""One model after another, or many at once: decided by timing both on a few steps of the pool itself."""

from __future__ import annotations

import dataclasses
import itertools
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch

from ..training.job import Job, make_job
from ..training.loop import Session
from ..training.surroundings import undisturbed
from .batched import eligible
from .group import Group
from .units import torch_threads

if TYPE_CHECKING:
    from .pool import Pool

SIZES = (8, 16, 32, 64)
CLEARLY = 0.9
"""Groups are taken where they need at most this share of the time."""
NEARLY = 1.05
"""Of groups within this factor of the fastest, the smallest is taken, which leaves more pieces to share and to save."""
LONG = 0.03
"""Seconds: steps of one model beyond this are nearly all arithmetic, and a group of them would take too long to try."""
HOPELESS = 2.0
"""A group whose first step takes this many times as long as those of its models is not measured more closely."""
ROUNDS, ROUND = 3, 0.02
"""Rounds of measurement, and seconds of each."""
BUDGET = 1.5
"""Seconds after which no larger group is tried."""
MEMORY = 2**30
"""Bytes that the weights of a group, with their gradients and moments, may take."""
PIECES = 4
BATCHES = 8


class Choice(NamedTuple):
    """How the models of a pool are trained.

    Args:
        method: ``"sequential"`` or ``"batched"``.
        group: models in a group; 1 where they are trained one by one.
        words: what was measured, as a sentence.
        share: time of a group as a share of that of its models one by one.
    """

    method: str
    group: int
    words: str
    share: float = 1.0


def choose(pool: Pool, threads: int = 1) -> Choice:
    """Time a few steps of one model and of groups of several sizes, and take what is clearly faster.

    Args:
        pool: the pool; nothing of it is trained or written.
        threads: of torch, as the training will have.

    Cost: one or two seconds; less where groups are out of the question.
    """
    if len(pool) < 2:
        return Choice("sequential", 1, "One model is trained alone.")
    job = pool.job(0)
    reason = eligible(job)
    if reason:
        return Choice("sequential", 1, f"Models are trained one by one: {reason}.")
    steps = job.settings.epochs * np.ceil(pool.in_mask.sum(1) / job.settings.batch_size)
    with torch_threads(threads), undisturbed(torch.device("cpu")):
        return _timed(_brief(job), steps)


def _timed(job: Job, steps: np.ndarray) -> Choice:
    """The choice for models with so many steps: [M]."""
    began = time.perf_counter()
    with _alone(job) as alone:
        single = min(_seconds(alone, 1), _seconds(alone, 1))
        if single > LONG:
            return Choice(
                "sequential",
                1,
                f"Models are trained one by one: a step takes {1e3 * single:.0f} ms, nearly all of it arithmetic.",
            )
        if single * steps.sum() < BUDGET:
            return Choice(
                "sequential", 1, "Models are trained one by one: all of them take no longer than a comparison."
            )
        shares: dict[int, float] = {}
        for size in _sizes(job, len(steps)):
            together, one = _together(job, size), single
            group = _seconds(together, 1)
            for _ in range(ROUNDS if group < HOPELESS * size * single else 0):
                one = min(one, _seconds(alone, _repeats(single)))
                group = min(group, _seconds(together, _repeats(size * single)))
            shares[size] = group / (size * one) * _waste(steps, size)
            if time.perf_counter() - began > BUDGET or shares[size] > 1 / CLEARLY:
                break
    return _choice(shares)


def _repeats(seconds: float) -> int:
    """Steps of about so many seconds that make up a round."""
    return max(1, min(BATCHES, round(ROUND / seconds)))


def _choice(shares: dict[int, float]) -> Choice:
    """What follows from the time of groups as a share of that of their models one by one.

    >>> _choice({8: 0.5, 16: 0.42, 32: 0.41})[:2], _choice({8: 0.95})[:2]
    (('batched', 16), ('sequential', 1))
    """
    measured = ", ".join(f"{share:.2f} for {size}" for size, share in shares.items())
    best = min(shares.values(), default=math.inf)
    if best > CLEARLY:
        return Choice(
            "sequential",
            1,
            "Models are trained one by one: training several at once took "
            f"{measured or 'too much memory'} of the time, which is not clearly faster.",
        )
    size = min(size for size, share in shares.items() if share <= NEARLY * best)
    return Choice(
        "batched",
        size,
        f"Models are trained {size} at once, which took {shares[size]:.2f} of the time of one after another; the "
        f"shares measured for groups were {measured}.",
        round(shares[size], 3),
    )


def _sizes(job: Job, models: int) -> list[int]:
    """Sizes of groups to try: those that leave ``PIECES`` of the pool for processes to share, and fit the memory."""
    with torch.device("meta"):
        weights = sum(value.numel() for value in job.product.build(job).parameters())
    most = min(models, MEMORY // (4 * 4 * weights + 1))
    sizes = [size for size in SIZES if size * PIECES <= models] or [min(models, SIZES[0])]
    return [size for size in sizes if size <= most]


def _waste(steps: np.ndarray, size: int) -> float:
    """Steps of groups, which end with their last model, over steps of the models: 1 where all have equally many."""
    groups = [steps[first : first + size] for first in range(0, len(steps), size)]
    return float(sum(len(own) * own.max() for own in groups) / steps.sum())


def _brief(job: Job) -> Job:
    """The same training on its first batches, long enough that no probe reaches its end."""
    settings = dataclasses.replace(job.settings, epochs=max(10_000, job.settings.epochs))
    data = job.data.subset(slice(0, BATCHES * settings.batch_size))
    return make_job(job.recipe, data=data, network=job.network, settings=settings, seed=job.seed)


@contextmanager
def _alone(job: Job) -> Iterator[Callable[[int], int]]:
    """What makes up to so many steps of one model and returns how many it made."""
    session = Session.of(job)
    with session.prepared() as state:
        batches = session.batches()

        def work(count: int) -> int:
            epoch, first = divmod(state.step, len(batches))
            made = 0
            for batch in itertools.islice(batches.epoch(epoch, first), count):
                state.begin_step()
                state.apply(job.recipe.step(state, batch))
                made += 1
            return made

        work(1)
        yield work


def _together(job: Job, size: int) -> Callable[[int], int]:
    """What makes up to so many steps of a group and returns how many it made."""
    group = Group([job] * size, job.data, [np.arange(len(job.data))] * size)

    def work(count: int) -> int:
        span = group.span(count)
        group.advance(span)
        return len(span)

    work(1)
    return work


def _seconds(work: Callable[[int], int], count: int) -> float:
    """Seconds of a step. On the CPU those of the processor, which other programs disturb least."""
    clock = time.perf_counter if torch.cuda.is_available() else time.process_time
    started = clock()
    steps = work(count)
    return (clock() - started) / steps
