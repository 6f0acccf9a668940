"""The training loop: one for every recipe, device and number of processes.

What a step does follows from the settings, the seed and the step's number alone,
so that a training that was stopped goes on to the same bits, and an epoch's
data come in the same order on one process or on many.
"""

from __future__ import annotations

import atexit
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from ..core.errors import AssayError, Incomplete, NotYetSupported, RunError
from ..core.progress import Progress
from ..core.runs import Run, RunWriter, load_run
from ..core.seeds import seed as named_seed
from ..data.dataset import Dataset
from . import folder, snapshots
from .batches import Batches
from .interrupts import Interrupts
from .job import Job, Recipe, TrainSettings, make_job
from .outcome import measure
from .recipe import Halted
from .state import TrainState
from .surroundings import undisturbed
from .validation import Validator

if TYPE_CHECKING:
    from accelerate import Accelerator


def train(
    recipe: Recipe | str,
    *,
    data: Dataset,
    out: str | Path,
    network: str | None = None,
    validation: Dataset | None = None,
    settings: TrainSettings | None = None,
    seed: int = 0,
    progress: Progress | None = None,
    command: Sequence[str] = (),
) -> Run:
    """Train a network; the same call again goes on where the last one stopped.

    Args:
        recipe: ``"standard"``, ``"adversarial"``, ``"trades"``, ``"mart"``, or the settings of one,
            such as ``Adversarial(eps="8/255", steps=7)``; ``"dino"`` and ``"simsiam"`` make an encoder, and
            ``DeACL(encoder=...)`` hardens one.
        data: training samples, images in [0, 1].
        out: the run directory; one training, one directory.
        network: a key of ``assay.subjects.NETWORKS``, for encoders of ``assay.subjects.BACKBONES``; by default
            the recipe's own choice.
        validation: samples to measure on after epochs and at the end.
        settings: optimiser, schedule, epochs and the like.
        seed: root of every random stream.
        progress: where progress is shown; nowhere by default.
        command: what to type to rerun it, for the record.

    Returns:
        The finished run: ``.metrics``, ``.samples``; ``load_target(f"run:{out}")`` loads the model,
        ``encoder(f"run:{out}")`` an encoder.

    Raises:
        Incomplete: stopped by Ctrl-C or SIGTERM; a checkpoint was saved.
        InputError: it cannot be done, or the loss became NaN; the message says what to change.

    Under ``accelerate launch`` or ``torchrun`` every process calls this with the
    same arguments and gets the same run; only the first writes.
    """
    job = make_job(recipe, data=data, network=network, validation=validation, settings=settings, seed=seed)
    out = Path(out)
    session = Session.of(job)
    opening = _open(session.accelerator, job, out, command)
    if opening.finished:
        return load_run(out)
    try:
        with session.prepared(out if opening.writer is not None else None) as state, Interrupts() as interrupts:
            _Training(session, state, out, opening, interrupts, progress or Progress(enabled=False)).run()
    except BaseException as error:
        opening.fail(error)
        raise
    session.accelerator.wait_for_everyone()
    return load_run(out)


def _leave_group() -> None:
    """Close the connections between processes while the interpreter still stands.

    Their threads outlive an exit that leaves them open, and then abort the process, whatever its exit code was.
    """
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


@dataclass(frozen=True)
class Session:
    """Device and processes for one job."""

    job: Job
    accelerator: Accelerator

    @classmethod
    def of(cls, job: Job) -> Session:
        """One process on the best device here, or what the launcher laid out.

        Raises:
            NotYetSupported: a launcher's plan that shards the model.
        """
        from accelerate import Accelerator
        from accelerate.utils import DistributedType

        # Without this flag Accelerate would let every process of a launcher train alone on a machine without GPU.
        several_on_cpu = int(os.environ.get("WORLD_SIZE", "1")) > 1 and not torch.cuda.is_available()
        accelerator = Accelerator(mixed_precision="no", cpu=several_on_cpu)
        if accelerator.num_processes > 1:
            atexit.register(_leave_group)
        plain = (DistributedType.NO, DistributedType.MULTI_CPU, DistributedType.MULTI_GPU)
        if accelerator.distributed_type not in plain:
            raise NotYetSupported(
                f"Training runs under {accelerator.distributed_type}; supported today: one process, or several "
                "that each hold the whole model (CPU or GPU). Choose that in 'accelerate config' or use torchrun."
            )
        return cls(job, accelerator)

    @contextmanager
    def prepared(self, out: Path | None = None) -> Iterator[TrainState]:
        """A fresh state; the caller's random state and kernel choices come back afterwards.

        Args:
            out: the run folder, where this process writes to one.
        """
        job = self.job
        with undisturbed(self.accelerator.device):
            torch.manual_seed(named_seed(job.seed, "weights"))
            state = TrainState(
                self.accelerator,
                job.product.build(job),
                job.product.preprocess(job),
                job.settings,
                steps_per_epoch=job.steps_per_epoch,
                seed=job.seed,
            )
            state.companion = job.recipe.companion(job, state, out)
            yield state

    def batches(self) -> Batches:
        """The training batches of this process."""
        return self.job.recipe.batches(
            self.job.data,
            size=self.job.settings.batch_size,
            seed=self.job.seed,
            names=("training",),
            device=self.accelerator.device,
            rank=self.accelerator.process_index,
            world=self.accelerator.num_processes,
            augment=self.job.settings.augment,
        )


@dataclass
class _Opening:
    """What the first process found in the folder, known to all."""

    id: str
    finished: bool
    writer: RunWriter | None

    def fail(self, error: BaseException) -> None:
        """Record how the training stopped; the first process does."""
        if self.writer is not None:
            self.writer.fail(error)


def _open(accelerator: Accelerator, job: Job, out: Path, command: Sequence[str]) -> _Opening:
    """Open the run in the first process; what it learns, or why it cannot, reaches every process."""
    from accelerate.utils import broadcast_object_list

    writer, answer = None, ["", False, ""]
    if accelerator.is_main_process:
        try:
            writer = folder.open_run(job, out, command)
            if not writer.finished:
                folder.set_damaged_aside(out)
            answer = [writer.id, writer.finished, ""]
        except AssayError as error:
            if accelerator.num_processes == 1:
                raise
            answer = ["", False, str(error)]
    if accelerator.num_processes > 1:
        broadcast_object_list(answer)
    if answer[2]:
        raise RunError(str(answer[2]))
    return _Opening(str(answer[0]), bool(answer[1]), writer)


@dataclass
class _Training:
    """One sitting: from the last checkpoint to the end, or to the next interruption."""

    session: Session
    state: TrainState
    out: Path
    opening: _Opening
    interrupts: Interrupts
    progress: Progress

    def run(self) -> None:
        """Restore, train the epochs that are left, and write what came of it."""
        self.log = folder.restore(self.out, self.opening.id, self.state)
        self.log.arrive(self.state)
        self._clock = time.monotonic()
        job = self.session.job
        batches = self.session.batches()
        validator = job.product.validator(job, self.state)
        try:
            while len(self.log.history) < job.settings.epochs:
                self._epoch(batches)
                self._close_epoch(validator)
            self._keep_moment()
        except Halted:
            self._save()
            if self.opening.writer is not None:
                folder.write_model(self.out, job, self.state.weights())
                self.state.companion.report()
            raise
        weights = self.log.best["weights"] if self.log.best else self.state.weights()
        measurement = measure(job, self.state, self.log, weights, validator, self._stop_if_asked, self.progress)
        if self.opening.writer is not None:
            self._save()
            measurement.cost.seconds = self.log.seconds
            folder.finish(self.opening.writer, job, weights, measurement, self.state.companion.report())

    def _epoch(self, batches: Batches) -> None:
        """The steps that are left of the open epoch."""
        state, settings = self.state, self.session.job.settings
        epoch = len(self.log.history)
        first = state.step - epoch * len(batches)
        with self.progress.task(f"epoch {epoch + 1}/{settings.epochs}", total=len(batches)) as task:
            task.advance(first)
            for batch in batches.epoch(epoch, first) if first < len(batches) else ():
                self._keep_moment()
                state.begin_step()
                values = state.apply(self.session.job.recipe.step(state, batch))
                for name, value in values.items():
                    self.log.sums[name] = self.log.sums.get(name, 0.0) + value * batch.size
                task.advance()
                if settings.checkpoint_every and state.step % settings.checkpoint_every == 0:
                    self._save()
                self._stop_if_asked()

    def _close_epoch(self, validator: Validator | None) -> None:
        """Validate where it is due, keep the best, write the row and the checkpoint."""
        job, log = self.session.job, self.log
        epoch = len(log.history) + 1
        row: dict[str, float] = {"epoch": epoch, "step": self.state.step}
        row |= {f"training_{name}": total / len(job.data) for name, total in log.sums.items()}
        row |= self.state.companion.columns()
        if validator is not None and (epoch % job.settings.validate_every == 0 or epoch == job.settings.epochs):
            answers = validator.answers(self.state, self._stop_if_asked, self.progress)
            found = validator.metrics(answers)
            row |= {f"{validator.name}_{name}": value for name, value in found.items()}
            if job.settings.select != "last":
                self._keep_best(found[job.settings.select], epoch)
        log.history.append(row)
        log.sums = {}
        self._save()

    def _keep_best(self, value: float, epoch: int) -> None:
        """The first of equal values wins."""
        sign = -1 if self.session.job.settings.select == "loss" else 1
        if self.log.best is None or sign * value > sign * self.log.best["value"]:
            self.log.best = {"value": value, "epoch": epoch, "weights": self.state.weights()}

    def _keep_moment(self) -> None:
        if self.opening.writer is not None:
            snapshots.keep(self.out, self.state)

    def _save(self) -> None:
        now = time.monotonic()
        self.log.seconds += now - self._clock
        self._clock = now
        if self.opening.writer is not None:
            folder.save(self.out, self.opening.id, self.state, self.log)

    def _stop_if_asked(self) -> None:
        if not self.interrupts.requested(self.session.accelerator):
            return
        self._save()
        raise Incomplete(
            f"Stopped after step {self.state.step} of {self.session.job.total_steps}; the state is saved in "
            f"{str(self.out)!r}. Repeat the same command to go on."
        )
