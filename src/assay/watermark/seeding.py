"""From the ids of a context to a seed: the pseudo-random functions of the official watermark, in two forms.

``prf`` is one context at a time in Python's whole numbers; ``seeds`` is any number of contexts in NumPy's wrapping
64-bit arithmetic. Both follow one table; products marked ⊗ and sums marked Σ⊕ wrap as int64, those marked · do not:

    multiplicative     k · ⊗ x_i                  minhash            min H(k⊗x_i)
    additive           k · Σ⊕ x_i                 anchored_minhash   min (k ⊗ H(x_i) ⊗ H(x_last)), signed
    minfunc            k · min x_i                minskipgram        min over i<j of H(k⊗x_i) ⊗ H(k⊗x_j)
    simple_skip        ⊗ H(k⊗x_i), i = 0, 2, ...  noncomm            q ← (q ⊗ H(q⊗x_i)) mod 2^32, from q = k
    skipgram           H(k⊗x_0)                   position           Σ⊕ k ⊗ x_i ⊗ (i+1)
    anchored_skipgram  H(k⊗x_0) ⊗ H(k⊗x_last)

The seed is the value mod 2^64 - 1, never negative.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from ..core.errors import SettingError, did_you_mean
from .hashing import SEED, hash_int, hashed
from .settings import PRFS, check_key

MODULUS = 2**64 - 1
_LOW = np.uint64(0xFFFFFFFF)
_HALF = np.uint64(32)


def wrap(value: int) -> int:
    """A whole number as int64 holds it, in two's complement."""
    return (value + 2**63) % 2**64 - 2**63


def prf(name: str, context: Iterable[int], key: int) -> int:
    """Value of an official pseudo-random function, before it is reduced mod 2^64 - 1.

    Args:
        name: ``"anchored_minhash_prf"``, say, or without ``_prf``; the module's table has all.
        context: the ids that are hashed, oldest first, at least one (minskipgram: two).
        key: whole number from 1 to 2^64 - 1; in products that wrap it acts as int64.

    Returns:
        A whole number, which may be negative or longer than 64 bits.

    Raises:
        SettingError: unknown name, too few ids, or a key that is not allowed.

    Citation: Kirchenbauer et al., On the Reliability of Watermarks for Large Language Models, arXiv 2306.04634.

    >>> prf("additive", [3, 4], 100)
    700
    """
    name, key = _full(name), check_key(key)
    x = [int(token) for token in context]
    least = 2 if name == "minskipgram_prf" else 1
    if len(x) < least:
        raise SettingError(f"The context of {name} has {len(x)} ids; at least {least} are needed.")
    return _VALUES[name](x, key)


def seeds(name: str, contexts: np.ndarray, key: int) -> np.ndarray:
    """Seeds of many contexts: ``prf(...) mod (2^64 - 1)``.

    Args:
        name: as for ``prf``.
        contexts: int64 [n, h].
        key: 1 to 2^64 - 1.

    Returns:
        uint64 [n]. Cost: a few passes over the array.

    >>> seeds("additive", np.array([[3, 4]]), 100)
    array([700], dtype=uint64)
    """
    name = _full(name)
    contexts = np.asarray(contexts, dtype=np.int64)
    with np.errstate(over="ignore"):
        if name in _PLAIN:
            return _times(_PLAIN[name](contexts), key)
        return _reduced(_WRAPPED[name](contexts, np.int64(wrap(key))))


def anchored_minhash(contexts: np.ndarray, key: int, table_seed: int = SEED) -> np.ndarray:
    """Seeds of the anchored minhash under any hash table: uint64 [n] for int64 [n, h]."""
    with np.errstate(over="ignore"):
        return _reduced(_anchored_minhash(np.asarray(contexts, dtype=np.int64), np.int64(wrap(key)), table_seed))


def _full(name: str) -> str:
    full = name if name.endswith("_prf") else f"{name}_prf"
    if full not in PRFS:
        raise SettingError(f"There is no PRF {name!r}.{did_you_mean(name, PRFS)}")
    return full


# One context, whole numbers.


def _product(factors: Iterable[int]) -> int:
    result = 1
    for factor in factors:
        result = wrap(result * factor)
    return result


def _noncomm_value(x: list[int], k: int) -> int:
    q = k
    for token in x:
        q = q * hash_int(wrap(q * token)) % 2**32
    return q


_VALUES: dict[str, Callable[[list[int], int], int]] = {
    "multiplicative_prf": lambda x, k: k * _product(x),
    "additive_prf": lambda x, k: k * wrap(sum(x)),
    "minfunc_prf": lambda x, k: k * min(x),
    "simple_skip_prf": lambda x, k: _product(hash_int(wrap(k * token)) for token in x[::2]),
    "skipgram_prf": lambda x, k: hash_int(wrap(k * x[0])),
    "anchored_skipgram_prf": lambda x, k: hash_int(wrap(k * x[0])) * hash_int(wrap(k * x[-1])),
    "minhash_prf": lambda x, k: min(hash_int(wrap(k * token)) for token in x),
    "anchored_minhash_prf": lambda x, k: min(wrap(k * hash_int(token) * hash_int(x[-1])) for token in x),
    "minskipgram_prf": lambda x, k: min(
        hash_int(wrap(k * a)) * hash_int(wrap(k * b)) for a, b in itertools.combinations(x, 2)
    ),
    "noncomm_prf": _noncomm_value,
    "position_prf": lambda x, k: wrap(sum(k * token * (i + 1) for i, token in enumerate(x))),
}


# Many contexts, wrapping int64.


def _reduced(values: np.ndarray) -> np.ndarray:
    """int64 mod (2^64 - 1): a negative P is P + 2^64 - 1, one less than its bits say."""
    return values.view(np.uint64) - (values < 0)


def _times(values: np.ndarray, key: int) -> np.ndarray:
    """``key * value mod (2^64 - 1)`` without wrap: 2^64 counts as 1, so the halves of the product are added."""
    negative = values < 0
    size = np.where(negative, -values, values).view(np.uint64)  # -(-2^63) wraps to 2^63, which is right unsigned
    k = np.uint64(key)
    if key < 2**32 and not (size >> _HALF).any():
        total = size * k
    else:
        low, high = size & _LOW, size >> _HALF
        k_low, k_high = k & _LOW, k >> _HALF
        first, second, third = low * k_low, high * k_low, low * k_high
        middle = (first >> _HALF) + (second & _LOW) + (third & _LOW)
        bottom = (middle << _HALF) | (first & _LOW)
        top = high * k_high + (second >> _HALF) + (third >> _HALF) + (middle >> _HALF)
        total = bottom + top
        total += total < bottom  # the carry out of 64 bits counts as 1 too
        total[total == MODULUS] = 0
    return np.where(negative & (total != 0), np.uint64(MODULUS) - total, total)


def _anchored_minhash(x: np.ndarray, k: np.int64, table_seed: int = SEED) -> np.ndarray:
    h = hashed(x, table_seed)
    values: np.ndarray = (h * (k * h[:, -1:])).min(axis=1)
    return values


def _minskipgram(x: np.ndarray, k: np.int64) -> np.ndarray:
    h = np.partition(hashed(k * x), 1, axis=1)  # all are positive: the two smallest make the smallest product
    values: np.ndarray = h[:, 0] * h[:, 1]
    return values


def _noncomm(x: np.ndarray, k: np.int64) -> np.ndarray:
    q = np.full(len(x), k)
    for column in x.T:
        q = (q * hashed(q * column)) & np.int64(0xFFFFFFFF)
    return q


_PLAIN: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "multiplicative_prf": lambda x: np.multiply.reduce(x, axis=1),
    "additive_prf": lambda x: np.add.reduce(x, axis=1),
    "minfunc_prf": lambda x: x.min(axis=1),
}
_WRAPPED: dict[str, Callable[[np.ndarray, Any], np.ndarray]] = {
    "simple_skip_prf": lambda x, k: np.multiply.reduce(hashed(k * x[:, ::2]), axis=1),
    "skipgram_prf": lambda x, k: hashed(k * x[:, 0]),
    "anchored_skipgram_prf": lambda x, k: hashed(k * x[:, 0]) * hashed(k * x[:, -1]),
    "minhash_prf": lambda x, k: hashed(k * x).min(axis=1),
    "anchored_minhash_prf": _anchored_minhash,
    "minskipgram_prf": _minskipgram,
    "noncomm_prf": _noncomm,
    "position_prf": lambda x, k: np.add.reduce(k * x * np.arange(1, x.shape[1] + 1), axis=1),
}
