"""Where the randomness of private training comes from: a named seed for research, the operating system for release.

Whoever knows the noise can subtract it. A seed that stands in a record therefore gives a guarantee only
against people who do not see the record; ``SecureNoise`` leaves nothing to see, and no run to repeat.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from ..core.errors import InputError, SettingError
from ..core.seeds import seed
from ..tensors import random

_SUMMANDS = 4


class NoiseSource(Protocol):
    """Independent draws for one step; every call gives new ones."""

    secure: bool

    def normal(self, shape: Sequence[int], scale: float = 1.0) -> Tensor:
        """N(0, scale²) draws: [*shape], float32, on the CPU."""

    def uniform(self, n: int) -> Tensor:
        """Uniform draws in [0, 1) with 53 random bits: [n], float64, on the CPU."""


class SeededNoise:
    """Reproducible noise of one step: NumPy's Philox counter generator, keyed by the name of the step.

    The same root and step give the same draws in the same order of calls, on any number of processes,
    so that a training that was killed repeats the very releases it had made. **The guarantee holds only
    for people who do not know the seed.** Cost: about 10 ns a draw.

    Args:
        root: the run's seed.
        step: number of the step; each step has a stream of its own.

    >>> bool((SeededNoise(0, 5).normal([3]) == SeededNoise(0, 5).normal([3])).all())
    True
    """

    secure = False

    def __init__(self, root: int, step: int) -> None:
        key = np.array([seed(root, "privacy-noise", step), seed(root, "privacy-noise", step, "high")], dtype=np.uint64)
        self._generator = np.random.Generator(np.random.Philox(key=key))

    def normal(self, shape: Sequence[int], scale: float = 1.0) -> Tensor:
        """N(0, scale²) draws: [*shape], float32."""
        check_scale(scale)
        draws = self._generator.standard_normal(tuple(shape), dtype=np.float32)
        return torch.from_numpy(np.atleast_1d(draws)).reshape(tuple(shape)).mul_(scale)

    def uniform(self, n: int) -> Tensor:
        """Uniform draws in [0, 1): [n], float64."""
        return torch.from_numpy(self._generator.random(n))


class SecureNoise:
    """Noise from the operating system's cryptographic generator (``os.urandom``); no seed exists.

    Each draw is (G_1 + G_2 + G_3 + G_4) / 2 with independent standard normal G_i in float64, by Box and
    Muller's transform of 53-bit uniforms; scaled, and rounded to float32 once. A single floating-point
    Gaussian can be recognised in the sum it hides, because only some numbers are reachable; the sum of
    several makes the search for the uniforms behind a value infeasible (Holohan and Braghin). That is a
    mitigation, not a proof: the finite precision of the sum gradient + noise in float32 remains, and the
    tail ends near 17 standard deviations. A proof needs noise on a grid, such as the discrete Gaussian of
    Canonne, Kamath and Steinke.

    Cost: 32 random bytes and four transforms a draw, about 0.16 µs, some 15 times ``SeededNoise``.

    Reference:
        Holohan and Braghin, Secure Random Sampling in Differential Privacy, 2021, arXiv:2107.10138;
        Mironov, On Significance of the Least Significant Bits for Differential Privacy, 2012.

    >>> SecureNoise().normal([2, 3], scale=0.5).shape
    torch.Size([2, 3])
    """

    secure = True

    def normal(self, shape: Sequence[int], scale: float = 1.0) -> Tensor:
        """N(0, scale²) draws: [*shape], float32."""
        check_scale(scale)
        count = math.prod(shape)
        uniforms = _uniforms(_SUMMANDS * count).reshape(2, -1)
        radius = np.sqrt(-2.0 * np.log1p(-uniforms[0]))
        angle = 2.0 * np.pi * uniforms[1]
        gaussians = np.concatenate([radius * np.cos(angle), radius * np.sin(angle)]).reshape(_SUMMANDS, count)
        draws = gaussians.sum(0) * (scale / math.sqrt(_SUMMANDS))
        return torch.from_numpy(draws.astype(np.float32)).reshape(tuple(shape))

    def uniform(self, n: int) -> Tensor:
        """Uniform draws in [0, 1): [n], float64."""
        return torch.from_numpy(_uniforms(n))


def sampling_seeds(root: int, sample_ids: Sequence[int]) -> Tensor:
    """One seed a record for ``poisson_sample``: [N] int64. Make it once; about 2 µs a record."""
    return random.sample_seeds(root, sample_ids, "poisson-sampling")


def poisson_sample(source: Tensor | NoiseSource, n: int, rate: float, step: int = 0) -> Tensor:
    """Which of n records take part in a step: each with probability q by itself, so none may.

    Args:
        source: ``sampling_seeds`` [N], where record i's coin depends on its own seed and the step alone,
            not on the number of processes or on who else is in the data; or a noise source (of this step),
            which with several processes one must draw and hand to the others.
        n: number of records N.
        rate: q in (0, 1].
        step: number of the step, for seeds; at least 0.

    Returns:
        Rows in ascending order, int64; their number is Binomial(N, q), and may be 0.

    Cost: about 1 ms for N = 60,000.

    Reference:
        Abadi et al., 2016, arXiv:1607.00133; the accountants assume this sampling and no other.

    >>> poisson_sample(sampling_seeds(0, range(100)), 100, 0.03, step=7)
    tensor([], dtype=torch.int64)
    """
    if not 0 < rate <= 1:
        raise SettingError(f"The sample rate is {rate!r}; allowed: above 0 and at most 1 (batch size over records).")
    if isinstance(source, Tensor):
        if source.shape != (n,):
            raise InputError(f"There are seeds of the shape {tuple(source.shape)} for {n} records; give one a record.")
        words = random.bits(source, 1, stream=step)[:, 0]
        draws = ((words >> 11) & ((1 << 53) - 1)).to(torch.float64) * 2.0**-53
    else:
        draws = source.uniform(n)
    return torch.nonzero(draws < rate)[:, 0]


def check_scale(scale: float) -> None:
    """A standard deviation must be a finite number, at least 0."""
    if not 0 <= scale < math.inf:
        raise SettingError(f"The standard deviation of the noise is {scale!r}; allowed: a finite number, at least 0.")


def _uniforms(count: int) -> np.ndarray:
    words = np.frombuffer(os.urandom(8 * count), dtype=np.uint64)
    return (words >> np.uint64(11)).astype(np.float64) * 2.0**-53
