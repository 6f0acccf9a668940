"""What a recipe may decide beyond its step: the order of the data, what is remembered, what is reported.

The loop asks these questions of every recipe; each has an answer that suits
ordinary training, so that a recipe with a step alone is complete.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from torch import Tensor

from ..core.errors import InputError
from ..core.probes import Figure, Finding, Metric
from ..data.dataset import Dataset
from .batches import Batch, Batches
from .presets import Preset
from .product import Product

if TYPE_CHECKING:
    from pathlib import Path

    from .inner import InnerProblem
    from .job import Job
    from .state import TrainState

CHUNK = 4096


class Halted(InputError):
    """A recipe ends its training before the last step; the weights so far are kept as the model."""


@dataclass
class Report:
    """What a recipe adds to the record of a finished training.

    Args:
        metrics, findings, figures: added to those of every training.
        files: names in the run folder, already written, that belong to the result.
    """

    metrics: list[Metric] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    figures: list[Figure] = field(default_factory=list)
    files: list[str] = field(default_factory=list)


class Companion:
    """What a recipe keeps beside the model through one training; this one keeps nothing.

    It lives in ``state.companion``, one in each process.
    """

    def state_dict(self) -> dict[str, Any]:
        """What a bit-exact continuation needs, in tensors and plain values; it goes into the checkpoint."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go back to a saved state."""

    def columns(self) -> dict[str, float]:
        """Numbers for the row of an epoch in the history, by name."""
        return {}

    def report(self) -> Report:
        """What the record of the finished training says besides; asked of the first process alone."""
        return Report()


class Recipe:
    """A way to train. The settings class of a card of kind ``"recipe"`` derives from it and defines ``step``.

    Attributes:
        presets: whole configurations by name, for ``assay train RECIPE --preset NAME``.
        product: what kind of model it makes; a classifier, unless it says otherwise.
        usual: fields of ``TrainSettings`` whose defaults do not suit it, with those that do.
    """

    presets: ClassVar[Mapping[str, Preset]] = {}
    product: ClassVar[Product] = Product()
    usual: ClassVar[Mapping[str, Any]] = {}

    def step(self, state: TrainState, batch: Batch) -> dict[str, Tensor]:
        """Compute the gradients of one step with ``state.logits`` and ``state.backward``.

        The recipe owns its step: it may run an inner attack, use two backward
        passes, or weigh samples. It reduces losses [b] by ``batch.mean``, so
        that the sum over processes is the mean over the global batch. The loop
        calls ``state.apply`` afterwards.

        Returns:
            Scalars reduced by ``batch.mean``, written to the history as means over the
            epoch; ``"loss"`` is checked to be finite.
        """
        raise NotImplementedError(f"{type(self).__name__} defines no step.")

    def check(self, job: Job) -> None:
        """Raise InputError where this recipe cannot do the job; nothing has been written yet."""

    def foundation(self, job: Job) -> Any:
        """What the training begins with besides its data, such as an encoder; asked once, for ``job.foundation``."""
        return None

    def identity(self, job: Job) -> dict[str, Any]:
        """What, besides settings and data, makes this another training, such as the weights it begins with."""
        return {}

    def adversary(self) -> InnerProblem | None:
        """The attack that validation holds answers against; None: clean images alone."""
        return None

    def normalization(self, data: Dataset) -> tuple[list[float], list[float]]:
        """Mean and standard deviation of each channel in the preprocessing: by default those of the data."""
        return moments(data)

    def batches(self, data: Dataset, **place: Any) -> Batches:
        """Which samples come when; ``place`` holds the other arguments of :class:`Batches`."""
        return Batches(data, **place)

    def companion(self, job: Job, state: TrainState, out: Path | None) -> Companion:
        """What is kept beside the model.

        Args:
            out: the run folder in the process that writes to it, and None elsewhere.
        """
        return Companion()

    def outlook(self, job: Job) -> list[str]:
        """Sentences on what the training will amount to, for a dry run."""
        return []

    def closing(self, out: Path) -> list[str]:
        """Sentences on what a finished training in this folder amounts to."""
        return []


def moments(data: Dataset) -> tuple[list[float], list[float]]:
    """Mean and standard deviation of each channel of the images, rounded to 6 digits."""
    channels = data.shape[0]
    total, squares, count = np.zeros(channels), np.zeros(channels), 0
    for start in range(0, len(data), CHUNK):
        images = data.images(slice(start, start + CHUNK))
        total += images.sum((0, 2, 3), dtype=np.float64)
        squares += np.square(images).sum((0, 2, 3), dtype=np.float64)
        count += images[:, 0].size
    mean = total / count
    spread = np.sqrt(np.maximum(squares / count - mean**2, 0))
    return [round(float(m), 6) for m in mean], [round(float(s), 6) if s > 1e-3 else 1.0 for s in spread]
