"""What heads are compared with: labels, masks or depth maps, checked once."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ...core.errors import DataError
from ...core.probes import Finding
from ...data.dense.dataset import DenseDataset
from ...subjects.dense_tasks import Depth, Segmentation
from .settings import HeadTask

_AT_ONCE = 64


class References:
    """The references of a data set for one task, [n, ...] at a time.

    Args:
        data: N images with references for the task.
        task: what for.

    Attributes:
        usable: bool [N], images with at least one pixel that counts.
        largest: depth: the largest depth that counts.

    Raises:
        DataError: unknown ids, or no image with a pixel that counts.
    """

    def __init__(self, data: DenseDataset, task: HeadTask) -> None:
        self.data, self.task = data, task
        self.largest = 0.0
        self.usable = np.ones(len(data), dtype=bool)
        for start in range(0, len(data), _AT_ONCE):
            rows = np.arange(start, min(start + _AT_ONCE, len(data)))
            found = self.read(rows)
            if isinstance(task, Segmentation | Depth):
                self.usable[rows] = task.valid(found).flatten(1).any(1).numpy()
            if isinstance(task, Depth):
                self.largest = max(self.largest, float(found.max()))
        if not self.usable.any():
            what = "masks" if isinstance(task, Segmentation) else "depth maps"
            raise DataError(
                f"None of the {len(data)} {what} of {data.name!r} has a pixel that counts. "
                "Check ignore_index, or the scale and the limits of the depths."
            )

    def read(self, rows: np.ndarray) -> Tensor:
        """References of some images: int64 [n], int64 [n, H, W] or float32 [n, H, W].

        Args:
            rows: int64 [n], positions in the data.
        """
        found = torch.from_numpy(self.data.references(self.task.name, rows))
        return self.task.check_references(found, torch.empty(len(rows), 1, *self.data.shape[1:]))

    def findings(self) -> list[Finding]:
        """What a reader should know of them."""
        empty = int((~self.usable).sum())
        if not empty:
            return []
        return [
            Finding(
                code="images-without-reference",
                severity="warning" if empty > len(self.usable) // 10 else "info",
                message=f"{empty} of {len(self.usable)} images have no pixel that counts; they were left out.",
                remedy="Check the masks or depth maps of these images if that is not intended.",
                value=float(empty),
            )
        ]
