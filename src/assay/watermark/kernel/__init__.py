"""The arithmetic of watermarks: green lists bit for bit as torch makes them, Philox, and scans over text.

Every function runs in C where the package was built with a compiler, and in NumPy where it was not; the results are
the same to the last bit. Functions are pure, take and return NumPy arrays, and split long work over `threads()`.
"""

from __future__ import annotations

from .backends import backend, set_threads, threads, using
from .lists import add_to_green, green_lists, green_rows, member, randperm
from .native import problem
from .philox import add_philox_green, philox_rows, philox_states, philox_uniforms
from .sequences import best_window, count_windows, first_seen

__all__ = [
    "add_philox_green",
    "add_to_green",
    "backend",
    "best_window",
    "count_windows",
    "first_seen",
    "green_lists",
    "green_rows",
    "member",
    "philox_rows",
    "philox_states",
    "philox_uniforms",
    "problem",
    "randperm",
    "set_threads",
    "threads",
    "using",
]
