"""Provenance: which code, packages, threads and device made a result. No secrets, no host name."""

from __future__ import annotations

import functools
import importlib.metadata
import os
import platform
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

PACKAGES = (
    "assay-ml",
    "torch",
    "numpy",
    "scipy",
    "scikit-learn",
    "accelerate",
    "safetensors",
    "pyarrow",
    "pillow",
    "transformers",
)
THREAD_SETTINGS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")


def environment() -> dict[str, Any]:
    """Python, platform, package versions, thread settings, and the device if torch is loaded already."""
    return {
        "python": platform.python_version(),
        "platform": {"system": platform.system(), "release": platform.release(), "machine": platform.machine()},
        "packages": {name: version for name in PACKAGES if (version := _version(name))},
        "threads": {name: os.environ[name] for name in THREAD_SETTINGS if name in os.environ},
        **_torch_state(),
    }


def code() -> dict[str, Any]:
    """The version of Assay; in a git checkout of it also its commit and whether files were changed."""
    return dict(_code())


def peak_memory() -> int:
    """The largest resident memory of this process so far, in bytes."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


@functools.cache
def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return ""


def _torch_state() -> dict[str, Any]:
    torch = sys.modules.get("torch")
    if torch is None:
        return {}
    on_gpu = torch.cuda.is_available()
    return {
        "device": torch.cuda.get_device_name() if on_gpu else "cpu",
        "flags": {
            "torch_threads": torch.get_num_threads(),
            "deterministic_algorithms": torch.are_deterministic_algorithms_enabled(),
            "matmul_precision": torch.get_float32_matmul_precision(),
        },
    }


@functools.cache
def _code() -> dict[str, Any]:
    found: dict[str, Any] = {"version": _version("assay-ml")}
    here = Path(__file__)
    # A user's own checkout may hold an installed Assay: only a file that git tracks belongs to its commit.
    if _git(here.parent, "ls-files", "--error-unmatch", here.name) is None:
        return found
    commit = _git(here.parent, "rev-parse", "HEAD")
    changes = _git(here.parent, "status", "--porcelain", "--untracked-files=no")
    return found if commit is None else {**found, "commit": commit, "dirty": bool(changes)}


def _git(folder: Path, *arguments: str) -> str | None:
    """What git prints, or ``None`` if it is absent or fails."""
    try:
        done = subprocess.run(
            ["git", "--no-optional-locks", *arguments],
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
