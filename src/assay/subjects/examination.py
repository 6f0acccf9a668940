"""What a probe is given: the model under examination, the data, and where to keep its work."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from ..core.probes import Measurement
from ..core.progress import Progress
from ..core.shards import Shards
from ..data.dataset import Dataset
from .target import Target


@dataclass
class Examination:
    """One probe's view of its work.

    Args:
        target: the model under examination.
        data: labelled samples.
        seed: root of every random stream.
        batch_size: samples held in work at a time; results do not depend on it.
        shards: where finished parts are kept so that a killed run can go on; None keeps nothing.
        progress: where progress is shown.
        work: folder for large things that outlast one probe, such as pools of models; None keeps nothing.
    """

    target: Target
    data: Dataset
    seed: int = 0
    batch_size: int = 256
    shards: Shards | None = None
    progress: Progress = field(default_factory=lambda: Progress(enabled=False))
    work: Path | None = None

    @cached_property
    def images(self) -> Tensor:
        """Raw images [N, C, H, W], float32."""
        return torch.from_numpy(self.data.images())

    @cached_property
    def labels(self) -> Tensor:
        """Class indices [N], int64."""
        return torch.from_numpy(self.data.labels)

    @cached_property
    def sample_ids(self) -> list[int]:
        """Row numbers in the source: the names of the samples."""
        return [int(row) for row in self.data.sample_ids]

    @cached_property
    def _predictions(self) -> Tensor:
        return self.target.predict(self.images, batch_size=self.batch_size)

    def predictions(self) -> Tensor:
        """The caller's own model's logits on the clean images [N, K], computed once."""
        return self._predictions


class Probe(Protocol):
    """A measurement; implemented by the settings class of a card of kind ``"probe"``."""

    def measure(self, examination: Examination) -> Measurement: ...
