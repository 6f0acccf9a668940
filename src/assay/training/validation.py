"""Validation: how the model in training answers samples it does not learn from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from ..core.budgets import budget_text
from ..core.estimates import proportion
from ..core.probes import Measurement, Metric
from .batches import Batch, Batches
from .job import Job
from .losses import cross_entropy
from .state import TrainState

if TYPE_CHECKING:
    from ..core.progress import Progress
    from ..data.dataset import Dataset

BATCH = 256


@dataclass(frozen=True)
class Answers:
    """What the model said, one value a sample [N].

    Args:
        predicted: class on the clean image.
        loss: cross-entropy on the clean image.
        held: whether the answer is right on the perturbed image too; None without an adversary.
    """

    predicted: np.ndarray
    loss: np.ndarray
    held: np.ndarray | None

    def metrics(self, labels: np.ndarray) -> dict[str, float]:
        """``accuracy``, ``loss``, and ``robust_accuracy`` under the recipe's adversary."""
        found = {"accuracy": float((self.predicted == labels).mean()), "loss": float(self.loss.mean())}
        return found if self.held is None else {**found, "robust_accuracy": float(self.held.mean())}


class Validator:
    """Runs a model over the validation data; each process answers for its share.

    Random starts of the attack belong to the samples, not to the epoch, so that
    epochs are compared on the same ground. Validators of other products derive from this one.

    Args:
        job: what is trained.
        state: the model in training.
        data: the samples to answer.

    Attributes:
        name: prefix of its columns in the history.
        rows: numbers a sample that :meth:`columns` returns.
        batch: samples at once, in each process.
    """

    name = "validation"
    rows = 3
    batch = BATCH

    def __init__(self, job: Job, state: TrainState, data: Dataset) -> None:
        accelerator = state.accelerator
        self.labels = data.labels
        self.adversary = job.recipe.adversary()
        self.batches = Batches(
            data,
            size=self.batch * accelerator.num_processes,
            seed=job.seed,
            names=("validation",),
            device=accelerator.device,
            rank=accelerator.process_index,
            world=accelerator.num_processes,
        )

    def __len__(self) -> int:
        return len(self.labels)

    def answers(self, state: TrainState, pause: Callable[[], None], progress: Progress) -> Any:
        """Answers on every sample, with the averaged weights where there are any.

        Args:
            state: the model in training, left as it is.
            pause: called between batches; it may raise to stop.
            progress: where progress is shown.

        Cost: 1 forward pass a sample, and with an adversary its passes and one more.
        """
        columns = torch.zeros(self.rows, len(self), dtype=torch.float64)
        with state.evaluating(average=True), progress.task("validation", total=len(self.batches)) as task:
            for rows, batch in self.batches.in_order():
                pause()
                columns[:, rows] = self.columns(state, batch) * batch.weights.double().cpu()
                task.advance()
        if state.accelerator.num_processes > 1:
            columns = state.accelerator.reduce(columns.to(state.accelerator.device), "sum").cpu()
        return self.read(columns.numpy())

    def read(self, columns: np.ndarray) -> Any:
        """What :meth:`columns` found on all samples, [rows, N], by name."""
        predicted, loss, held = columns
        return Answers(predicted.astype(np.int64), loss, held > 0 if self.adversary is not None else None)

    def metrics(self, answers: Any) -> dict[str, float]:
        """Numbers for the row of an epoch in the history, by name; weights may be chosen by them."""
        found: dict[str, float] = answers.metrics(self.labels)
        return found

    def report(self, answers: Any, measurement: Measurement) -> None:
        """Add to the record what was measured with the weights that are kept."""
        correct = answers.predicted == self.labels
        measurement.samples = {"label": self.labels, "predicted": answers.predicted, "correct": correct}
        measurement.metrics = [
            _share("validation_accuracy", correct, "share of validation samples classified correctly")
        ]
        if answers.held is not None and self.adversary is not None:
            measurement.samples["correct_under_attack"] = answers.held
            name = f"validation_accuracy_under_attack@{self.adversary.norm}:{budget_text(self.adversary.eps)}"
            estimand = "share of validation samples classified correctly before and after the attack used in training"
            measurement.metrics.append(_share(name, answers.held, estimand))

    def columns(self, state: TrainState, batch: Batch) -> Tensor:
        """Predicted class, loss, and whether the answer held, of one slice: [3, b]."""
        with torch.no_grad():
            logits = state.logits(batch.images)
        held = torch.zeros(len(logits), device=logits.device)
        if self.adversary is not None:
            points = self.adversary.attack(state, batch)
            with torch.no_grad():
                attacked = state.logits(points).argmax(1)
            held = (attacked == batch.labels) & (logits.argmax(1) == batch.labels)
        return torch.stack(
            [column.double().cpu() for column in (logits.argmax(1), cross_entropy(logits, batch.labels), held)]
        )


def _share(name: str, flags: np.ndarray, estimand: str) -> Metric:
    return Metric.from_estimate(name, proportion(int(flags.sum()), len(flags)), estimand=estimand)
