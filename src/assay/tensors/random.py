"""Random streams that belong to a sample: counter-based, so a draw depends on nothing but its name.

Each sample carries one 64-bit seed (``assay.core.seeds.seed``). Element ``i`` of
stream ``s`` of that sample is SplitMix64's output function applied to
``mix(seed + s * odd) + (i + 1) * golden``: the same on every device, for every
batch size, in every order.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from ..core.seeds import seed


def _signed(value: int) -> int:
    return value - (1 << 64) if value >= 1 << 63 else value


_GOLDEN = _signed(0x9E3779B97F4A7C15)
_STREAM = _signed(0xD1B54A32D192ED03)
_FIRST = _signed(0xBF58476D1CE4E5B9)
_SECOND = _signed(0x94D049BB133111EB)


def sample_seeds(root: int, sample_ids: Sequence[int], *names: str | int) -> Tensor:
    """One int64 seed a sample, ``seed(root, *names, sample_id)``: [B]."""
    return torch.tensor([seed(root, *names, int(sample)) for sample in sample_ids], dtype=torch.int64)


def bits(seeds: Tensor, count: int, stream: int | Tensor = 0) -> Tensor:
    """``count`` words of 64 random bits for each seed: [B, count], int64.

    Args:
        seeds: [B] int64.
        count: words a sample.
        stream: which of the sample's streams; an integer, or [B] with one a sample.
    """
    stream = torch.as_tensor(stream, dtype=torch.int64, device=seeds.device)  # as a tensor, its product wraps around
    start = _mix(seeds + _GOLDEN + stream * _STREAM)
    index = torch.arange(1, count + 1, dtype=torch.int64, device=seeds.device)
    return _mix(start[:, None] + index * _GOLDEN)


class Words:
    """Single words of one stream of many samples, for draws that all samples make again and again.

    ``Words(seeds)[i]`` holds the values of ``bits(seeds, i + 1)[:, i]``, as NumPy's
    uint64 [B], in an array that the next call overwrites. It costs 2 ns a sample on the CPU.

    >>> seeds = sample_seeds(0, range(3), "demo")
    >>> (Words(seeds)[4].astype("int64") == bits(seeds, 5)[:, 4].numpy()).all().item()
    True
    """

    def __init__(self, seeds: Tensor, stream: int = 0) -> None:
        offset = torch.as_tensor(stream, dtype=torch.int64) * _STREAM + _GOLDEN
        self._start = _mix(seeds.cpu() + offset).numpy().view(np.uint64)
        self._words, self._shifted = np.empty_like(self._start), np.empty_like(self._start)

    def __getitem__(self, index: int) -> np.ndarray:
        words, shifted = self._words, self._shifted
        np.add(self._start, np.uint64((index + 1) * _GOLDEN % 2**64), out=words)
        for places, factor in ((30, _FIRST), (27, _SECOND)):
            np.right_shift(words, np.uint64(places), out=shifted)
            np.bitwise_xor(words, shifted, out=words)
            np.multiply(words, np.uint64(factor % 2**64), out=words)
        np.right_shift(words, np.uint64(31), out=shifted)
        return np.bitwise_xor(words, shifted, out=words)


def uniform(seeds: Tensor, shape: Sequence[int], stream: int | Tensor = 0) -> Tensor:
    """Uniform draws in [0, 1) with 24 random bits: [B, *shape], float32.

    >>> seeds = sample_seeds(0, [3, 8], "demo")
    >>> bool((uniform(seeds, (2,))[1] == uniform(seeds[1:], (2,))[0]).all())
    True
    """
    words = bits(seeds, math.prod(shape), stream)
    return (_shift(words, 40).to(torch.float32) * 2.0**-24).reshape(len(seeds), *shape)


def normal(seeds: Tensor, shape: Sequence[int], stream: int | Tensor = 0) -> Tensor:
    """Standard normal draws by Box and Muller's transform, in float64, rounded: [B, *shape], float32."""
    count = math.prod(shape)
    words = bits(seeds, 2 * count, stream)
    radius = (_shift(words[:, :count], 11).to(torch.float64) + 0.5) * 2.0**-53
    angle = _shift(words[:, count:], 11).to(torch.float64) * (2.0**-53 * 2.0 * math.pi)
    draws = torch.sqrt(-2.0 * torch.log(radius)) * torch.cos(angle)
    return draws.to(torch.float32).reshape(len(seeds), *shape)


def signs(seeds: Tensor, shape: Sequence[int], stream: int | Tensor = 0) -> Tensor:
    """Draws of -1 or +1 with equal chance: [B, *shape], float32."""
    words = bits(seeds, math.prod(shape), stream)
    return torch.where(words < 0, -1.0, 1.0).reshape(len(seeds), *shape)


def _shift(words: Tensor, places: int) -> Tensor:
    """Logical right shift of int64 words."""
    return (words >> places) & ((1 << (64 - places)) - 1)


def _mix(words: Tensor) -> Tensor:
    words = (words ^ _shift(words, 30)) * _FIRST
    words = (words ^ _shift(words, 27)) * _SECOND
    return words ^ _shift(words, 31)
