"""Loads the C kernel, where it was built, and says what its functions take.

The library is plain C without anything of Python in it, so one `ctypes.CDLL` is all it needs, and a call releases
the interpreter's lock. A library of another version of these sources is not used.
"""

from __future__ import annotations

import ctypes
from functools import lru_cache
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path
from typing import Any

import numpy as np

ABI_VERSION = 1
NAME = "_native"

_P, _I8, _I32, _I64 = ctypes.c_void_p, ctypes.c_uint8, ctypes.c_int32, ctypes.c_int64
_U32, _U64, _F32, _F64 = ctypes.c_uint32, ctypes.c_uint64, ctypes.c_float, ctypes.c_double

SIGNATURES: dict[str, tuple[Any, ...]] = {
    "green_lists": (_P, _I64, _P, _I32, _I32, _P),
    "green_rows": (_P, _I64, _P, _I32, _I32, _I8, _P),
    "member": (_P, _P, _I64, _P, _P, _I32, _I32, _I8, _P),
    "add_to_green": (_P, _P, _I64, _P, _I32, _I32, _I8, _I32, _F32),
    "philox_states": (_P, _I64, _I64, _U64, _P),
    "philox_uniforms": (_P, _P, _I64, _U64, _P),
    "philox_rows": (_P, _I64, _I64, _U64, _P),
    "add_philox_green": (_P, _P, _I64, _I64, _U64, _U32, _I64, _F32),
    "first_seen": (_P, _P, _I64, _I64, _U64, _P),
    "best_window": (_P, _I64, _F64, _P, _I64, _P, _P, _P),
    "count_windows": (_P, _I64, _I64, _P, _P, _I64, _P),
}
"""Arguments of ``assay_<name>``: the same order as in kernel.h."""


class Native:
    """The functions of the C library, each taking arrays and numbers in the order of kernel.h."""

    def __init__(self, library: ctypes.CDLL) -> None:
        self._functions = {}
        for name, arguments in SIGNATURES.items():
            function = getattr(library, f"assay_{name}")
            function.argtypes, function.restype = arguments, ctypes.c_int32
            self._functions[name] = function

    def __call__(self, name: str, *arguments: np.ndarray | float) -> None:
        """Call one function; arrays are handed over by address and must be contiguous.

        Raises:
            MemoryError: the function found no memory to work in.
        """
        plain = [given.ctypes.data if isinstance(given, np.ndarray) else given for given in arguments]
        if self._functions[name](*plain):
            raise MemoryError(f"{name} of the watermark kernel found no memory; give it fewer rows at a time.")


@lru_cache(maxsize=1)
def load() -> Native | None:
    """The library, or None where it was not built or does not fit."""
    return _open()[0]


def problem() -> str:
    """Why there is no C kernel; empty if there is one."""
    return _open()[1]


@lru_cache(maxsize=1)
def _open() -> tuple[Native | None, str]:
    folder = Path(__file__).parent
    built = [path for suffix in EXTENSION_SUFFIXES if (path := folder / f"{NAME}{suffix}").exists()]
    if not built:
        return None, "not built"
    try:
        library = ctypes.CDLL(str(built[0]))
        if (version := library.assay_abi()) != ABI_VERSION:
            return None, f"of another version of assay-ml ({version}, needed {ABI_VERSION})"
        return Native(library), ""
    except (OSError, AttributeError) as error:
        return None, f"cannot be loaded: {error}"
