"""Which path runs, C or NumPy, and on how many threads."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import lru_cache
from itertools import pairwise

from ...core.errors import SettingError
from .native import Native, load, problem

C, NUMPY = "c", "numpy"
ENVIRONMENT = "ASSAY_KERNEL"
MOST_THREADS = 256

_forced: str | None = None
_threads = 1


def backend() -> str:
    """The path that runs: ``"c"``, or ``"numpy"`` where the kernel was not built or ``ASSAY_KERNEL=numpy`` is set.

    >>> backend() in ("c", "numpy")
    True
    """
    return NUMPY if native() is None else C


def native() -> Native | None:
    """The C kernel, or None when the NumPy path is to run."""
    wanted = _forced or os.environ.get(ENVIRONMENT)
    return None if wanted == NUMPY else load()


@contextmanager
def using(name: str) -> Iterator[None]:
    """Force one path for a while, for the whole process: how tests compare them.

    Args:
        name: ``"c"`` or ``"numpy"``.

    Raises:
        SettingError: the name is neither, or the C kernel is not there.

    >>> with using("numpy"):
    ...     backend()
    'numpy'
    """
    global _forced
    if name not in (C, NUMPY):
        raise SettingError(f"kernel {name!r} is not known; allowed: 'c', 'numpy'.")
    if name == C and load() is None:
        raise SettingError(f"kernel 'c' is {problem()}; install a C compiler and install assay-ml again.")
    before, _forced = _forced, name
    try:
        yield
    finally:
        _forced = before


def threads() -> int:
    """Threads that long calls are split over."""
    return _threads


def set_threads(number: int) -> None:
    """Split the rows of long calls over so many threads; results do not depend on it.

    Args:
        number: 1 to 256.

    Raises:
        SettingError: outside that range.
    """
    global _threads
    if not isinstance(number, int) or not 1 <= number <= MOST_THREADS:
        raise SettingError(f"threads is {number!r}; allowed: a whole number from 1 to {MOST_THREADS}.")
    _threads = number


@lru_cache(maxsize=1)
def _pool(workers: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(workers, thread_name_prefix="assay-kernel")


if hasattr(os, "register_at_fork"):  # a forked process has none of its parent's threads
    os.register_at_fork(after_in_child=_pool.cache_clear)


def over_rows(work: Callable[[int, int], None], rows: int, least: int = 1) -> None:
    """Run ``work(start, stop)`` over 0 … rows, in as many parts as there are threads and no part below ``least``."""
    parts = min(_threads, max(1, rows // max(1, least)))
    if parts == 1:
        work(0, rows)
        return
    edges = [rows * part // parts for part in range(parts + 1)]
    for done in [_pool(_threads).submit(work, *pair) for pair in pairwise(edges)]:
        done.result()
