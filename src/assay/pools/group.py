"""A group of models in training: batches laid out side by side, one step for all, one state to save."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from ..core.seeds import seed as named_seed
from ..training.batches import crop_flip
from ..training.loop import Session
from ..training.schedules import factor
from ..training.standard import Standard
from ..training.state import _forgetful
from .stacked import Descent, Stack

if TYPE_CHECKING:
    from ..data.dataset import Dataset
    from ..training.job import Job

REMEDY = "Train with a smaller learning_rate, warmup_epochs or gradient_clip, in a new pool."
SPAN = 64
"""Steps whose batches are laid out at a time."""


class Course:
    """The batches of one model of a group, laid out in rows of equal length.

    Args:
        job: its training.
        rows: position of each of its samples in the data of the group.
        session: device and processes.
    """

    def __init__(self, job: Job, rows: np.ndarray, session: Session) -> None:
        self.settings = job.settings
        self.samples = len(job.data)
        self.per_epoch, self.total = job.steps_per_epoch, job.total_steps
        self.warmup = round(job.settings.warmup_epochs * job.steps_per_epoch)
        self._rows = torch.from_numpy(np.asarray(rows, dtype=np.int64))
        self._batches = session.batches()
        self._epoch = -1

    def rate(self, step: int) -> float:
        """The learning rate of a step."""
        settings = self.settings
        return settings.learning_rate * factor(settings.schedule, step, total=self.total, warmup=self.warmup)

    def until_epoch_ends(self, step: int) -> int:
        """Steps from here to the end of the open epoch; 0 where the training is over."""
        return self.per_epoch - step % self.per_epoch if step < self.total else 0

    def sizes(self, step: int, count: int) -> Tensor:
        """Samples in each of ``count`` batches of one epoch; 0 once the training is over: [count]."""
        if step >= self.total:
            return torch.zeros(count, dtype=torch.float64)
        first = (torch.arange(count) + step % self.per_epoch) * self.settings.batch_size
        return (self.samples - first).clamp(max=self.settings.batch_size).double()

    def lay_out(self, step: int, count: int, width: int) -> tuple[Tensor, Tensor]:
        """Rows of the group's data and seeds of the samples of ``count`` batches of one epoch: [count, width] each.

        A short batch is filled up with its first sample.
        """
        if step >= self.total:
            return self._rows[:1].expand(count, width), torch.zeros(count, width, dtype=torch.int64)
        epoch, first = divmod(step, self.per_epoch)
        if epoch != self._epoch:
            self._epoch, self._table = epoch, self._padded(self._batches.order(epoch), width)
            self._seeds = self._batches.epoch_seeds(epoch) if self.settings.augment != "none" else None
        places = self._table[first : first + count]
        seeds = torch.zeros_like(places) if self._seeds is None else self._seeds[places]
        return self._rows[places], seeds

    def _padded(self, order: Tensor, width: int) -> Tensor:
        """Positions in batches of equal length: [N] -> [batches, width]."""
        filler = order[(self.per_epoch - 1) * width].expand(self.per_epoch * width - len(order))
        return torch.cat([order, filler]).view(self.per_epoch, width)


@dataclass
class Span:
    """Steps that lie within one epoch of every model.

    Args:
        first: number of the first step.
        rows, seeds: samples and their random streams: [steps, B, G].
        shares: 1 / batch size, or 0 for a sample that only fills up: [steps, B, G].
        sizes: samples in the batches: [steps, G].
    """

    first: int
    rows: Tensor
    seeds: Tensor
    shares: Tensor
    sizes: Tensor

    def __len__(self) -> int:
        return len(self.rows)


@dataclass
class Score:
    """What became of a group so far, besides its weights: plain values and one tensor.

    Args:
        sums: sums of the losses over the samples of each model's open epoch: [G].
        histories: one row of numbers for each closed epoch of each model.
        failures: why models stand still, by their place in the group.
        seconds: time spent, over all sittings.
        places: where.
    """

    sums: Tensor
    histories: list[list[dict[str, float]]]
    failures: dict[int, str] = field(default_factory=dict)
    seconds: float = 0.0
    places: list[str] = field(default_factory=list)


class Group:
    """G models in training.

    Args:
        jobs: their trainings: one recipe, network and settings.
        data: samples of all of them.
        rows: for each model, the positions of its samples in ``data``.

    Attributes:
        step: updates made; models with fewer steps stand still after their last.
    """

    def __init__(self, jobs: list[Job], data: Dataset, rows: list[np.ndarray]) -> None:
        first = jobs[0]
        self.jobs, self.settings = jobs, first.settings
        self.accelerator = accelerator = Session.of(first).accelerator
        self.device = accelerator.device
        self.smoothing = cast(Standard, first.recipe).label_smoothing
        self.courses = [Course(job, own, Session(job, accelerator)) for job, own in zip(jobs, rows, strict=True)]
        self.images = torch.from_numpy(data.images()).to(self.device)
        self.labels = torch.from_numpy(np.asarray(data.labels, dtype=np.int64)).to(self.device)
        moments = torch.tensor([job.normalization for job in jobs], dtype=torch.float32, device=self.device)
        self.mean, self.std = moments[:, 0, :, None, None], moments[:, 1, :, None, None]
        self.stack = Stack([_network(job) for job in jobs], self.device)
        self.descent = Descent(self.stack, first.settings)
        self.average = self._copy() if first.settings.ema is not None else None
        self.width = min(first.settings.batch_size, max(len(job.data) for job in jobs))
        self.total = max(course.total for course in self.courses)
        self.step = 0
        self.score = Score(torch.zeros(len(jobs), dtype=torch.float64, device=self.device), [[] for _ in jobs])

    def _copy(self) -> dict[str, Tensor]:
        return {name: value.detach().clone() for name, value in self.stack.weights.items()}

    @cached_property
    def paces(self) -> list[tuple[Course, list[int], Callable[[float], None]]]:
        """Models that still move, those with as many steps together, and what updates them; anew after each change."""
        together: dict[int, list[int]] = {}
        for place, course in enumerate(self.courses):
            if self.step < course.total and place not in self.score.failures:
                together.setdefault(course.total, []).append(place)
        return [
            (self.courses[members[0]], members, self.descent.of(members, self.step)) for members in together.values()
        ]

    def span(self, most: int = SPAN) -> Span:
        """The batches of the next steps, up to where the first model ends an epoch."""
        left = (course.until_epoch_ends(self.step) for course in self.courses)
        count = min(most, *(steps for steps in left if steps))
        drawn = [course.lay_out(self.step, count, self.width) for course in self.courses]
        rows, seeds = (torch.stack(parts, 2) for parts in zip(*drawn, strict=True))
        sizes = torch.stack([course.sizes(self.step, count) for course in self.courses], 1)
        counted = torch.arange(self.width)[:, None] < sizes[:, None]
        shares = (counted / sizes[:, None].clamp(min=1)).float()
        return Span(self.step, *(part.to(self.device) for part in (rows, seeds, shares, sizes)))

    def advance(self, span: Span, stop: Callable[[], bool] = bool) -> None:
        """Make the steps of a span, or those before ``stop()`` is true; then close epochs that ended."""
        for number in range(len(span)):
            losses = self._gradients(span, number)
            if not math.isfinite(float(losses.sum())):
                self._set_failed_aside(losses)
            self.descent.clip()
            for course, _, update in self.paces:
                update(course.rate(self.step))
            self.step += 1
            self._average()
            self.score.sums += losses.double() * span.sizes[number]
            if stop():
                break
        self._close_epochs()

    def _gradients(self, span: Span, number: int) -> Tensor:
        rows = span.rows[number]
        flat = rows.flatten()
        images = self.images.index_select(0, flat)
        if self.settings.augment == "crop-flip":
            images = crop_flip(images, span.seeds[number].flatten())
        images = images.view(*rows.shape, *images.shape[1:]).sub_(self.mean).div_(self.std)
        labels = self.labels.index_select(0, flat).view(rows.shape)
        return self.stack.backward(images, labels, span.shares[number], self.smoothing)

    def _set_failed_aside(self, losses: Tensor) -> None:
        """Models whose loss is not finite stand still from here on."""
        for _, members, _ in self.paces:
            for place in members:
                loss = float(losses[place])
                if not math.isfinite(loss):
                    epoch, within = divmod(self.step, self.courses[place].per_epoch)
                    self.score.failures[place] = (
                        f"Training diverged: at step {within + 1} of epoch {epoch + 1} the loss is {loss:g}. {REMEDY}"
                    )
        self._silence()
        for place in self.score.failures:
            losses[place] = 0.0
        self.__dict__.pop("paces", None)

    @torch.no_grad()
    def _silence(self) -> None:
        """Failed models have weights of zero, so that nothing of theirs is infinite again."""
        for value in self.stack.weights.values():
            for place in self.score.failures:
                value[place] = 0.0

    @torch.no_grad()
    def _average(self) -> None:
        """a <- d a + (1 - d) w, for the models that moved."""
        if self.average is None or self.settings.ema is None:
            return
        decay = _forgetful(self.settings.ema, self.step)
        for _, members, _ in self.paces:
            for name, value in self.stack.weights.items():
                if len(members) == len(self.jobs):
                    self.average[name].lerp_(value, 1 - decay)
                    continue
                for place in members:
                    self.average[name][place].lerp_(value[place], 1 - decay)

    def _close_epochs(self) -> None:
        """Write the rows of the epochs that ended with the last step."""
        ended = [place for course, members, _ in self.paces if self.step % course.per_epoch == 0 for place in members]
        for place in ended:
            history = self.score.histories[place]
            loss = float(self.score.sums[place]) / self.courses[place].samples
            history.append({"epoch": len(history) + 1, "step": self.step, "training_loss": loss})
            self.score.sums[place] = 0.0
        if any(self.step == self.courses[place].total for place in ended):
            self.__dict__.pop("paces", None)

    def trained(self, place: int) -> dict[str, Tensor]:
        """The weights to use of one model, on the CPU: the average where there is one."""
        source = self.stack.weights if self.average is None else self.average
        return {name: value[place].detach().cpu().clone() for name, value in source.items()}

    def state_dict(self) -> dict[str, Any]:
        """All that a bit-exact continuation needs."""
        return {
            "weights": {name: value.detach() for name, value in self.stack.weights.items()},
            "moments": self.descent.moments,
            "average": self.average,
            "step": self.step,
            "score": vars(self.score),
        }

    @torch.no_grad()
    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go back to a saved state."""
        pairs = [(self.stack.weights, state["weights"]), *zip(self.descent.moments, state["moments"], strict=True)]
        if self.average is not None:
            pairs.append((self.average, state["average"]))
        for own, saved in pairs:
            for name, value in own.items():
                value.copy_(saved[name])
        self.step = state["step"]
        self.score = Score(**{**state["score"], "sums": state["score"]["sums"].to(self.device)})
        self.__dict__.pop("paces", None)


def _network(job: Job) -> nn.Module:
    """The network with its first weights, which are those of :func:`assay.training.train`."""
    torch.manual_seed(named_seed(job.seed, "weights"))
    return job.product.build(job)
