"""What a training must not disturb: the caller's random state and choice of kernels."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch


@contextmanager
def undisturbed(device: torch.device) -> Iterator[None]:
    """Random numbers of one's own and repeatable kernels inside; the caller's come back afterwards."""
    cudnn = torch.backends.cudnn
    earlier = cudnn.deterministic, cudnn.benchmark, random.getstate(), np.random.get_state()
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        try:
            cudnn.deterministic, cudnn.benchmark = True, False
            yield
        finally:
            cudnn.deterministic, cudnn.benchmark = earlier[:2]
            random.setstate(earlier[2])
            np.random.set_state(earlier[3])
