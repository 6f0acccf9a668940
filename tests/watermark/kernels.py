"""What tests of the kernel share: the paths that are there, and torch's own permutation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from assay.watermark import kernel

PATHS = ("numpy", "c") if not kernel.problem() else ("numpy",)


def on_every_path(work: Callable[[], Any]) -> list[Any]:
    """What ``work`` gives in NumPy and, where it was built, in C."""
    results = []
    for path in PATHS:
        with kernel.using(path):
            results.append(work())
    return results


def permutation(seed: int, n: int) -> np.ndarray:
    """``torch.randperm`` of a CPU generator."""
    return torch.randperm(n, generator=torch.Generator("cpu").manual_seed(seed)).numpy()


def seeds(*numbers: int) -> np.ndarray:
    return np.array(numbers, dtype=np.uint64)
