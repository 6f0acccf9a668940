"""A worker process of a pool, started by the processes executor: ``python -m assay.pools.worker FOLDER --threads T``.

Standard input    one line for each unit to train, a JSON list of its models; its end says that the parent needs no
                  more, or is gone
Standard output   one line for each event, as JSON: ``{"event": "ready"}``, and of a unit ``advance`` (with
                  ``models``), ``done``, ``busy``, ``failed`` (with ``cause``) or ``stopped``
Standard error    the log

A training under way when standard input ends saves its state first: no worker outlives its parent by more than that.
"""

from __future__ import annotations

import argparse
import json
import os
import queue
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from typing import Any

from ..core.errors import EXIT_INCOMPLETE, EXIT_OK, AssayError, Incomplete
from ..training.interrupts import Interrupts
from .executors.tally import why
from .pool import Pool
from .units import Busy, Unit, do_unit

GRACE = 60.0
"""Seconds that a training may take to save its state once it is told to stop."""


class _Orders(threading.Thread):
    """Reads the units to train; at the end of input a training under way is told to save its state and stop."""

    def __init__(self, descriptor: int) -> None:
        super().__init__(daemon=True)
        self.units: queue.SimpleQueue[Unit | None] = queue.SimpleQueue()
        self.working = False
        self.ended = False
        self._descriptor = descriptor

    def run(self) -> None:
        with open(self._descriptor, "rb") as lines:
            for line in lines:
                self.units.put(tuple(json.loads(line)))
        self.ended = True
        self.units.put(None)
        if self.working:
            os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(GRACE)
        os._exit(EXIT_INCOMPLETE)


def main(argv: Sequence[str] | None = None) -> int:
    """Serve one parent until it is done.

    Returns:
        The exit code: 0 at the end, 3 where a training was stopped, 2 where the pool cannot be read.
    """
    parser = argparse.ArgumentParser(
        prog="python -m assay.pools.worker",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("folder", help="the folder of the pool")
    parser.add_argument("--threads", type=int, default=1, help="threads of torch")
    arguments = parser.parse_args(argv)
    orders = _Orders(os.dup(0))
    orders.start()
    tell = _teller()
    try:
        pool = Pool.open(arguments.folder)
    except AssayError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    with Interrupts():  # so that a signal that comes just after a unit is no more than noted
        tell(event="ready")
        while (unit := orders.units.get()) is not None:
            orders.working = True
            if orders.ended or not _attempt(pool, unit, arguments.threads, tell):
                return EXIT_INCOMPLETE
            orders.working = False
    return EXIT_OK


def _attempt(pool: Pool, unit: Unit, threads: int, tell: Callable[..., None]) -> bool:
    """Train one unit and say what came of it; False if it was stopped."""
    try:
        do_unit(pool, unit, threads=threads, advance=lambda models: tell(event="advance", models=models))
    except Busy:
        tell(event="busy")
    except Incomplete:
        tell(event="stopped")
        return False
    except Exception as error:
        traceback.print_exc()
        tell(event="failed", cause=why(error))
    else:
        tell(event="done")
    return True


def _teller() -> Callable[..., None]:
    """What writes events; whatever else prints goes to the log."""
    events = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)

    def tell(**content: Any) -> None:
        events.write(json.dumps(content) + "\n")
        events.flush()

    return tell


if __name__ == "__main__":
    code = main()
    sys.stderr.flush()
    os._exit(code)  # threads of native libraries can outlive the interpreter, and hang
