"""Writes one run over and over, killed at each of its system calls in turn. Started by test_crashes.

Every attempt is a forked child that kills itself (SIGKILL) at its k-th write,
fsync or rename; after each the run on disk is read, as another process would.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from assay.core.artifacts import pack_samples
from assay.core.provenance import code, environment
from assay.core.runs import find_runs
from tests.core.recording import measure, run_to_the_end


def dying_at(call: int) -> None:
    """Arm this process: it is killed before or half-way through its ``call``-th durable operation."""
    made = 0

    def counted(operation: Callable[..., Any]) -> Callable[..., Any]:
        def wrapper(*arguments: Any) -> Any:
            nonlocal made
            made += 1
            if made == call:
                os.kill(os.getpid(), signal.SIGKILL)
            return operation(*arguments)

        return wrapper

    os.fsync = counted(lambda descriptor: None)  # what a killed process has written survives without it
    os.replace = counted(os.replace)


def attempt(folder: Path, call: int) -> int:
    """Exit status of a child that works in ``folder`` and dies at ``call``; negative if it was killed."""
    child = os.fork()
    if child == 0:
        dying_at(call)
        run_to_the_end(folder)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def main(root: Path) -> None:
    measure(np.ones(20, dtype=bool))
    pack_samples(range(2), {"right": np.ones(2)})  # what this loads need not be loaded again by every child
    environment(), code()
    killed = 0
    for call in range(1, 200):
        folder = root / str(call)
        folder.mkdir()
        if attempt(folder, call) == 0:
            break
        killed += 1
        for run in find_runs(folder) if list(folder.glob("*/run.json")) else []:
            assert run.status in ("incomplete", "ok"), run.status
            if run.status == "ok":
                assert len(run.figures()) == 1
                assert run.gallery() is not None
        attempt(folder, 3)
        assert attempt(folder, 10_000) == 0
        assert not list(folder.rglob("*.tmp"))
    print(json.dumps({"killed": killed}))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
