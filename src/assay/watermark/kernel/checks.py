"""Checks of arguments, done once where a call enters the kernel."""

from __future__ import annotations

from typing import Any

import numpy as np

from ...core.errors import DataError, SettingError

MOST_SHUFFLED = 0xFFFFFFFF // 20 - 1
"""From 2^32 / 20 entries on torch draws 64-bit words; no vocabulary comes near."""
MOST_TOKENS = 2**31 - 1


def array(name: str, given: Any, dtype: Any, shape: tuple[int | None, ...]) -> np.ndarray:
    """A contiguous array of whole numbers of that type; None in ``shape`` stands for any length."""
    found = np.asarray(given)
    if found.size == 0:
        found = found.astype(dtype)
    if found.dtype.kind not in "iub":
        raise DataError(f"{name} holds {found.dtype}; needed: whole numbers ({np.dtype(dtype)}).")
    wanted = ", ".join("any" if length is None else str(length) for length in shape)
    if found.ndim != len(shape) or any(w not in (None, f) for w, f in zip(shape, found.shape, strict=True)):
        raise DataError(f"{name} has shape {tuple(found.shape)}; needed: [{wanted}].")
    return np.ascontiguousarray(found, dtype=dtype)


def whole(name: str, given: Any, least: int, most: int) -> int:
    """A whole number within bounds."""
    number = int(given) if isinstance(given, (int, np.integer)) else None
    if number is None or not least <= number <= most:
        raise SettingError(f"{name} is {given!r}; allowed: a whole number from {least} to {most}.")
    return number


def key(given: Any) -> int:
    """A 64-bit key; the error does not repeat it."""
    if not isinstance(given, (int, np.integer)) or not 0 <= int(given) < 2**64:
        raise SettingError("the key is not a whole number from 0 to 2^64 - 1 (it is not shown); give one that is.")
    return int(given)


def ids(name: str, given: np.ndarray, vocab_size: int) -> None:
    """Every id lies in the vocabulary."""
    if given.size and (given.min() < 0 or given.max() >= vocab_size):
        at = int(np.flatnonzero((given < 0) | (given >= vocab_size))[0])
        raise DataError(
            f"{name}[{at}] is {int(given[at])}; allowed: ids from 0 to {vocab_size - 1}. "
            "Use the tokenizer and the vocabulary size of the mark."
        )


def scores(given: Any, rows: int, width: int | None = None) -> np.ndarray:
    """Scores that can be changed in place: float32 [rows, width], contiguous and writable."""
    wanted = f"float32 array [{rows}, {'V' if width is None else width}]"
    if not isinstance(given, np.ndarray):
        raise DataError(f"scores are {type(given).__name__}; needed: a {wanted}.")
    fits = given.ndim == 2 and len(given) == rows and width in (None, given.shape[1])
    if given.dtype != np.float32 or not fits:
        raise DataError(f"scores are {given.dtype} {list(given.shape)}; needed: a {wanted}.")
    if not (given.flags.c_contiguous and given.flags.writeable):
        raise DataError("scores are not contiguous, or cannot be written; give a contiguous copy.")
    return given
