"""From token ids to n-grams: the ids before a token and the token, for many texts at once, and which of them count."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..core.errors import DataError, SettingError
from .kernel import first_seen


@dataclass(frozen=True, slots=True)
class Ngrams:
    """The n-grams of a block of texts, one after another.

    Attributes:
        contexts: ids before each token, oldest first, int64 [n, preceding].
        targets: the tokens, int64 [n].
        texts: number of the text each n-gram stands in, int64 [n], non-decreasing.
        bounds: n-grams ``bounds[i]`` to ``bounds[i + 1]`` belong to text i, int64 [texts + 1].
    """

    contexts: np.ndarray
    targets: np.ndarray
    texts: np.ndarray
    bounds: np.ndarray

    @property
    def rows(self) -> np.ndarray:
        """Contexts with their tokens, int64 [n, preceding + 1]."""
        return np.concatenate([self.contexts, self.targets[:, None]], axis=1)

    def __len__(self) -> int:
        return len(self.targets)

    @property
    def preceding(self) -> int:
        """Ids before each token: token ``i + preceding`` of a text is the target of its n-gram i."""
        return int(self.contexts.shape[1])


def as_ids(ids: Any, *, name: str = "ids") -> np.ndarray:
    """Token ids as an integer array [T]; a list, tuple, array or tensor of shape [T] or [1, T] is taken.

    Raises:
        DataError: they are not whole numbers, or are several texts.

    >>> as_ids([5, 7]).tolist(), as_ids([]).tolist()
    ([5, 7], [])
    """
    if hasattr(ids, "detach"):
        ids = ids.detach().cpu().numpy()
    try:
        array = np.asarray(ids)
    except (ValueError, TypeError, OverflowError):
        array = np.asarray(None)
    if array.ndim == 2 and len(array) == 1:
        array = array[0]
    if array.ndim == 2:
        raise DataError(f"{name} have the shape {array.shape}: several texts. Give one text, or use detect_many.")
    if array.size == 0 and array.ndim == 1:
        return np.zeros(0, dtype=np.int64)
    if array.ndim != 1 or array.dtype.kind not in "iu":
        shown = "text" if isinstance(ids, str) else f"{array.dtype} of shape {array.shape}"
        raise DataError(f"{name} are {shown}; whole numbers are needed, a list or an array [T] of token ids.")
    return array


def ngrams_of(texts: Sequence[np.ndarray], preceding: int, vocab_size: int, *, first: int = 0) -> Ngrams:
    """All n-grams of the texts; a text of T ids has ``max(0, T - preceding)``.

    Args:
        texts: arrays of ids, from ``as_ids``.
        preceding: ids before each token.
        vocab_size: ids must be below it.
        first: number of the first text, for messages.

    Raises:
        DataError: an id is outside 0..vocab_size-1; text, position and value are named.
    """
    lengths = np.fromiter(map(len, texts), dtype=np.int64, count=len(texts))
    flat = np.concatenate(texts) if len(texts) else np.zeros(0, dtype=np.int64)
    ends = np.cumsum(lengths)
    if flat.size and (flat.min() < 0 or flat.max() >= vocab_size):
        _outside(flat, ends - lengths, vocab_size, first, len(texts))
    flat = flat.astype(np.int64, copy=False)
    counts = np.maximum(lengths - preceding, 0)
    bounds = np.concatenate([[0], np.cumsum(counts)])
    begin = np.arange(bounds[-1]) + np.repeat(ends - lengths - bounds[:-1], counts)
    if preceding and bounds[-1]:
        contexts = np.lib.stride_tricks.sliding_window_view(flat, preceding)[begin]
    else:
        contexts = np.zeros((int(bounds[-1]), preceding), dtype=np.int64)
    return Ngrams(contexts, flat[begin + preceding], np.repeat(np.arange(len(texts)), counts), bounds)


def counted_once(ngrams: Ngrams, *, strict: bool, among: np.ndarray | None = None) -> np.ndarray:
    """Which n-grams count when each is taken once within its text: the first of its kind. bool [n].

    Text repeats itself, and a repeated n-gram scores the same again: it is no new evidence, and to count it makes
    p-values too small.

    Args:
        ngrams: of a block of texts.
        strict: n-grams with the same context are of a kind, whatever token follows; otherwise the token must agree too.
        among: bool [n], the only n-grams that may count.

    Raises:
        SettingError: strict, but there is no context.
    """
    if strict and not ngrams.preceding:
        raise SettingError("strict is True, but the n-grams of this scheme are single tokens: use strict=False.")
    if among is None:
        return first_seen(ngrams.contexts if strict else ngrams.rows, ngrams.texts)
    counted = among.copy()
    counted[among] = first_seen((ngrams.contexts if strict else ngrams.rows)[among], ngrams.texts[among])
    return counted


def distinct_lookups(ngrams: Ngrams, lists: np.ndarray, counted: np.ndarray) -> np.ndarray:
    """Of the n-grams that count, the first that looks a token up in its list: the same one is no new evidence.

    Different contexts may lead to one list: where only the last id is hashed, or the least hash of several ids.

    Args:
        ngrams: of a block of texts.
        lists: seed of the list each n-gram was looked up in, [n].
        counted: bool [n].
    """
    kept = counted.copy()
    seeds = lists[counted].astype(np.uint64) & np.uint64(0xFFFFFFFF)  # torch's CPU generator takes 32 bits
    rows = np.stack([seeds.astype(np.int64), ngrams.targets[counted]], axis=1)
    kept[counted] = first_seen(rows, ngrams.texts[counted])
    return kept


def _outside(flat: np.ndarray, starts: np.ndarray, vocab_size: int, first: int, texts: int) -> None:
    at = int(np.flatnonzero((flat < 0) | (flat >= vocab_size))[0])
    text = int(np.searchsorted(starts, at, side="right")) - 1
    where = f"position {at - int(starts[text])}" + (f" of text {first + text}" if texts > 1 or first else "")
    raise DataError(
        f"The id {int(flat[at])} at {where} is outside the vocabulary 0..{vocab_size - 1}: "
        "these ids come from another tokenizer, or vocab_size is not that of the marked model."
    )
