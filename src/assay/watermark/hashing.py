"""The integer hash of the official watermark: a fixed permutation of 1000003 numbers."""

from __future__ import annotations

import functools
import operator
from typing import Any, overload

import numpy as np

from ..core.errors import DataError
from . import kernel

SIZE = 1_000_003
SEED = 2971215073


@functools.lru_cache(maxsize=4)
def hash_table(seed: int) -> np.ndarray:
    """``torch.randperm(1000003)`` under a seed, plus 1: int64 [1000003], read-only, made once (8 MB).

    Args:
        seed: only the low 32 bits act, as in torch's CPU generator.
    """
    table = np.asarray(kernel.randperm(seed % 2**32, SIZE), dtype=np.int64) + 1
    table.flags.writeable = False
    return table


def hashed(values: np.ndarray, seed: int = SEED) -> np.ndarray:
    """H of every number of an int64 array."""
    if values.size and (values.min() < 0 or values.max() >= SIZE):  # a 64-bit division costs more than the look-up
        values = np.mod(values, SIZE)
    return hash_table(seed % 2**32)[values]


@overload
def hash_int(x: int) -> int: ...
@overload
def hash_int(x: np.ndarray) -> np.ndarray: ...


def hash_int(x: Any) -> Any:
    """``H(x) = table[x mod 1000003] + 1``, the modulo being non-negative: a number from 1 to 1000003.

    The table is a permutation drawn by ``torch.randperm`` on the CPU under the seed 2971215073; it knows no key.

    Args:
        x: any whole number, or an array of them (int64).

    Raises:
        DataError: other numbers.

    Returns:
        An int, or int64 of the shape given. Cost: one look-up; the table is made at the first call.

    Citation: Kirchenbauer et al., A Watermark for Large Language Models, arXiv 2301.10226.

    >>> hash_int(0) == hash_int(1000003) == hash_int(-1000003)
    True
    """
    try:
        return int(hash_table(SEED)[operator.index(x) % SIZE])
    except TypeError:
        array = np.asarray(x)
    if array.dtype.kind not in "iu":
        raise DataError(f"Only whole numbers are hashed, not {array.dtype}; give an int or an array of int64.")
    return hashed(array.astype(np.int64))
