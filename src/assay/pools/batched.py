"""Many small models trained at once, each as :func:`assay.training.train` would train it alone.

The weights of a group are stacked, and one pass moves all of them. Step t of a
model is its own step t: it has the batch, the learning rate and the place in the
schedule of its own training, whatever the sizes of the others' data. Only the order in which
sums are rounded differs.
"""

from __future__ import annotations

import contextlib
import io
import json
import pickle
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

import numpy as np
import torch
from torch import Tensor, nn

from ..core.errors import Incomplete, InputError, RunError
from ..core.files import make_folder, remove, remove_leftovers, write_atomic
from ..core.probes import Cost, Finding
from ..core.progress import Progress
from ..core.runs import RunWriter
from ..training import folder
from ..training.interrupts import Interrupts
from ..training.loop import Session
from ..training.outcome import measure
from ..training.recipe import Report
from ..training.standard import Standard
from ..training.state import TrainState
from ..training.surroundings import undisturbed
from .group import REMEDY, Group

if TYPE_CHECKING:
    from ..training.job import Job
    from .pool import Pool

GROUPS = "groups"
PERIOD = 20.0
"""Seconds between checkpoints of a group."""
WRITERS = 8
"""Folders that are written at the same time."""


def eligible(job: Job) -> str:
    """Why a training cannot be batched with others of its kind, as half a sentence; ``""`` where it can.

    Args:
        job: the training of one model of the group; the others differ in data and seed alone.
    """
    settings = job.settings
    obstacles = (
        (
            type(job.recipe) is not Standard,
            f"the recipe is {job.card.name!r}, not 'standard'",
        ),
        (settings.precision != "fp32", f"the precision is {settings.precision}"),
        (job.validation is not None, "the models are validated on the way"),
        (settings.select != "last", f"the weights are selected by {settings.select}"),
        (settings.watch > 0, "weights are kept on the way"),
    )
    for stands, reason in obstacles:
        if stands:
            return reason
    return _obstacle_in(job)


def _obstacle_in(job: Job) -> str:
    """What in the network keeps its copies from being stacked."""
    with undisturbed(torch.device("cpu")), torch.device("meta"):
        network = job.product.build(job)
    if next(network.buffers(), None) is not None:
        return f"{job.network} keeps statistics beside its weights, as BatchNorm does"
    if any(isinstance(module, nn.modules.dropout._DropoutNd) for module in network.modules()):
        return f"{job.network} has dropout"
    weights = list(network.parameters())
    if not weights or not all(value.requires_grad and value.dtype == torch.float32 for value in weights):
        return f"{job.network} has weights that are not trained, or not in float32"
    return ""


def train_group(pool: Pool, unit: tuple[int, ...], advance: Callable[[int], None] | None = None) -> None:
    """Train the models of a unit at once, each into its own folder as :func:`assay.training.train` leaves it.

    The group has one checkpoint, and the same call goes on from there to the same bits.
    The last one is written before the first model, so what is finished is never trained again.

    Args:
        pool: the pool.
        unit: models to train; the folders of those that are finished are left alone.
        advance: called with the number of models that have just been finished.

    Raises:
        Incomplete: stopped by Ctrl-C or SIGTERM; a checkpoint was saved.
        InputError: the models cannot be trained in a group, or some of them diverged; the others are finished.
    """
    left = [place for place, m in enumerate(unit) if not pool.is_finished(m)]
    if not left:
        return
    jobs = [pool.job(m) for m in unit]
    reason = eligible(jobs[0])
    if reason:
        raise InputError(
            f"Models of this pool cannot be trained in groups: {reason}. Plan the pool with method='sequential'."
        )
    sitting = _Sitting(pool, unit, jobs)
    try:
        sitting.open(left)
        with undisturbed(Session.of(jobs[0]).accelerator.device), Interrupts() as interrupts:
            sitting.train(interrupts)
            sitting.write(advance)
            if interrupts.noted:
                raise Incomplete("Stopped after a group of models. Repeat the same command to go on.")
    except BaseException as error:
        sitting.fail(error)
        raise


class _Sitting:
    """One sitting of a group: from its last checkpoint to the end, or to the next interruption."""

    def __init__(self, pool: Pool, unit: tuple[int, ...], jobs: list[Job]) -> None:
        self.pool, self.unit, self.jobs = pool, unit, jobs
        self.out = pool.folder / GROUPS / f"{unit[0]:04d}-{unit[-1]:04d}"
        self.identity = f"{pool.id} {unit[0]}-{unit[-1]}"
        self.writers: dict[int, RunWriter] = {}

    def open(self, places: list[int]) -> None:
        """Take the folders of the models that are to be written."""
        remove_leftovers(make_folder(self.out))
        for _ in _at_once(self._open, places):
            pass

    def _open(self, place: int) -> None:
        self.writers[place] = folder.open_run(self.jobs[place], self.pool.path(self.unit[place]), ())

    def fail(self, error: BaseException) -> None:
        """Record how it stopped in the folders that are not finished."""
        for writer in self.writers.values():
            if not writer.finished:
                writer.fail(error)

    def train(self, interrupts: Interrupts) -> None:
        """The steps that are left, with checkpoints on the way and one at the end."""
        members = self.pool.in_mask[list(self.unit)]
        used = np.flatnonzero(members.any(0))
        rows = [np.searchsorted(used, np.flatnonzero(own)) for own in members]
        self.group = Group(self.jobs, self.pool.data.subset(used), rows)
        self._restore()
        self.log = folder.Log(places=self.group.score.places)
        self.log.arrive(self._as_state())
        clock = saved = time.monotonic()
        while self.group.step < self.group.total and not interrupts.noted:
            self.group.advance(self.group.span(), lambda: interrupts.noted)
            now = time.monotonic()
            self.group.score.seconds += now - clock
            clock = now
            if now - saved > PERIOD or interrupts.noted or self.group.step == self.group.total:
                self._save()
                saved = now
        if interrupts.noted:
            raise Incomplete(
                f"Stopped after step {self.group.step} of {self.group.total} of models {self.unit[0]} to "
                f"{self.unit[-1]}; the state is saved in {str(self.out)!r}. Repeat the same command to go on."
            )

    def write(self, advance: Callable[[int], None] | None) -> None:
        """The folders of the models; InputError in the end if some of them failed."""
        causes = dict(self.group.score.failures)
        for place in sorted(self.writers):
            if place not in causes and not all(bool(value.isfinite().all()) for value in self._weights(place)):
                causes[place] = f"Training diverged at the last step: weights are not finite. {REMEDY}"
        for place, cause in causes.items():
            if place in self.writers:
                self.writers.pop(place).fail(InputError(cause))
        whole = [place for place, writer in self.writers.items() if not writer.finished]
        for _ in _at_once(self._finish, whole):
            if advance is not None:
                advance(1)
        if causes:
            first = min(causes)
            raise InputError(
                f"{len(causes)} of the {len(self.unit)} models trained together failed: "
                f"{', '.join(str(self.unit[place]) for place in sorted(causes))}. Model {self.unit[first]}: "
                f"{causes[first]}"
            )
        remove(self.out / folder.CHECKPOINT)
        with contextlib.suppress(OSError):  # it stays where a damaged checkpoint was set aside
            self.out.rmdir()

    def _weights(self, place: int) -> Iterable[Tensor]:
        return self.group.trained(place).values()

    def _finish(self, place: int) -> None:
        job, score, writer, weights = self.jobs[place], self.group.score, self.writers[place], self.group.trained(place)
        log = folder.Log(history=score.histories[place], places=score.places)
        passes = len(job.data) * job.settings.epochs
        state = self._as_state(Cost(forward=passes, backward=passes))
        measurement = measure(job, state, log, weights, None, lambda: None, Progress(enabled=False))
        measurement.cost.seconds = score.seconds / len(self.unit)
        others = len(self.unit) - 1
        measurement.findings.append(
            Finding(
                code="trained-in-group",
                severity="info",
                message=f"The model was trained at once with {others} other{'s' * (others > 1)} of its pool. The time "
                f"in this record is its share, 1/{len(self.unit)} of the group's; its last bits may differ from those "
                "of a training of its own.",
                remedy="Plan the pool with method='sequential' if models are to be trained one by one.",
            )
        )
        write_atomic(writer.path / folder.HISTORY, "".join(json.dumps(row) + "\n" for row in log.history))
        folder.finish(writer, job, weights, measurement, Report())

    def _as_state(self, cost: Cost | None = None) -> TrainState:
        """What records ask of the state of a training: where it runs, and what it has cost."""
        return cast(TrainState, SimpleNamespace(accelerator=self.group.accelerator, cost=cost))

    def _save(self) -> None:
        buffer = io.BytesIO()
        torch.save({"identity": self.identity, "state": self.group.state_dict()}, buffer)
        write_atomic(self.out / folder.CHECKPOINT, buffer.getvalue())

    def _restore(self) -> None:
        """Go back to the last checkpoint; a damaged one is set aside, and the group begins anew."""
        folder.set_damaged_aside(self.out)
        path = self.out / folder.CHECKPOINT
        if not path.exists():
            return
        try:
            content = torch.load(path, map_location="cpu", weights_only=True)
        except (pickle.UnpicklingError, RuntimeError, EOFError, OSError) as error:
            raise RunError(f"{str(path)!r} cannot be read: {error}. Remove it to train the group anew.") from error
        if content["identity"] != self.identity:
            raise RunError(f"{str(path)!r} belongs to another pool. Remove it to train the group anew.")
        self.group.load_state_dict(content["state"])


def _at_once(work: Callable[[int], None], places: Iterable[int]) -> Iterator[None]:
    """Work on the folders of several models, which wait for the disk together; errors are raised after the others."""
    with ThreadPoolExecutor(WRITERS) as threads:
        for future in [threads.submit(work, place) for place in places]:
            yield future.result()
