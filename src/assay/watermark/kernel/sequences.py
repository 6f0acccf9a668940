"""Scans over text: which n-grams are new, and where hits are densest."""

from __future__ import annotations

import secrets

import numpy as np

from ...core.errors import DataError, SettingError
from . import checks, plain
from .backends import native, over_rows

SALT = secrets.randbits(64)
"""Changes the order of hash tables from process to process, never a result: texts cannot aim at it."""
PART = 1 << 20
"""Windows that are worth a thread of their own."""


def first_seen(rows: np.ndarray, documents: np.ndarray) -> np.ndarray:
    """Where a row appears for the first time within its document.

    Rows are compared in full, so no two different rows are ever taken for one.

    Args:
        rows: n-grams, int64 [n, k]; k may be 0, then only the first row of a document is new.
        documents: number of each row's document, int64 [n], never decreasing.

    Returns:
        bool [n].

    Raises:
        DataError: document numbers decrease, or lengths differ.

    >>> import numpy as np
    >>> first_seen(np.array([[1], [2], [1], [1]]), np.array([0, 0, 0, 1])).tolist()
    [True, True, False, True]
    """
    rows = checks.array("rows", rows, np.int64, (None, None))
    documents = checks.array("documents", documents, np.int64, (len(rows),))
    if (documents[1:] < documents[:-1]).any():
        raise DataError("document numbers decrease; the rows of a document must follow one another in order.")
    out = np.empty(len(rows), dtype=bool)
    if (run := native()) is None:
        plain.first_seen(rows, documents, SALT, out)
    else:
        run("first_seen", rows, documents, len(rows), rows.shape[1], SALT, out)
    return out


def best_window(hits: np.ndarray, gamma: float, sizes: np.ndarray) -> tuple[float, int, int]:
    """The window with the largest z = (C - γw) / sqrt(wγ(1 - γ)), C the hits among its w n-grams.

    Of equal z the longest window wins, then the earliest.

    Args:
        hits: 0 or 1 for every n-gram, uint8 [n].
        gamma: chance of a hit under the null, inside (0, 1).
        sizes: window sizes in ascending order, int64 [s], at least 1; sizes above n are left out.

    Returns:
        z, start and size; (0.0, 0, 0) if no size fits. Cost: O(n s).

    >>> import numpy as np
    >>> best_window(np.array([0, 1, 1, 1, 1, 0], dtype=np.uint8), 0.5, np.arange(1, 7))
    (2.0, 1, 4)
    """
    hits = _hits(hits, 1)
    if not 0.0 < gamma < 1.0:
        raise SettingError(f"gamma is {gamma!r}; allowed: above 0 and below 1.")
    sizes = _sizes(sizes)
    sizes = sizes[sizes <= len(hits)]
    if not len(sizes):
        return 0.0, 0, 0
    if (run := native()) is None:
        return plain.best_window(hits, float(gamma), sizes)
    z, start, size = np.empty(1), np.empty(1, dtype=np.int64), np.empty(1, dtype=np.int64)
    run("best_window", hits, len(hits), gamma, sizes, len(sizes), z, start, size)
    return float(z[0]), int(start[0]), int(size[0])


def count_windows(hits: np.ndarray, sizes: np.ndarray, least: np.ndarray) -> np.ndarray:
    """How many windows of each row hold at least so many hits as their size asks for.

    Args:
        hits: 0 or 1, uint8 [m, n].
        sizes: window sizes, int64 [s], ascending; sizes above n are left out.
        least: hits that a window of each size needs, int64 [s].

    Returns:
        int64 [m]. Cost: O(m n s).

    >>> import numpy as np
    >>> count_windows(np.array([[1, 1, 0, 1]], dtype=np.uint8), np.array([2]), np.array([1])).tolist()
    [3]
    """
    hits = _hits(hits, 2)
    sizes = _sizes(sizes)
    least = checks.array("least", least, np.int64, (len(sizes),))
    n = hits.shape[1]
    sizes, least = sizes[sizes <= n], least[sizes <= n]
    out = np.zeros(len(hits), dtype=np.int64)
    if (run := native()) is None:
        plain.count_windows(hits, sizes, least, out)
        return out
    over_rows(
        lambda a, b: run("count_windows", hits[a:b], b - a, n, sizes, least, len(sizes), out[a:b]),
        len(hits),
        1 + PART // max(1, n * len(sizes)),
    )
    return out


def _hits(given: np.ndarray, dimensions: int) -> np.ndarray:
    hits = checks.array("hits", given, np.uint8, (None,) * dimensions)
    checks.whole("number of n-grams", hits.shape[-1], 0, checks.MOST_TOKENS)
    if hits.size and hits.max() > 1:
        raise DataError(f"hits hold {int(hits.max())}; allowed: 0 and 1.")
    return hits


def _sizes(given: np.ndarray) -> np.ndarray:
    sizes = checks.array("sizes", given, np.int64, (None,))
    if len(sizes) and (sizes[0] < 1 or (sizes[1:] <= sizes[:-1]).any()):
        raise SettingError("window sizes must be at least 1 and ascend.")
    return sizes
