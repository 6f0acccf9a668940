"""Trains a pool in this process: one unit after another."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from ...core.errors import Incomplete
from ...core.progress import Progress
from ..units import Busy, Unit, do_unit
from .tally import SHORTEST, Tally, why

if TYPE_CHECKING:
    from ..pool import Pool


def run(pool: Pool, *, workers: int | None = None, threads: int = 1, progress: Progress | None = None) -> None:
    """Train what is left of a pool, in order; units that another command trains come last.

    Args:
        pool: the pool.
        workers: not used; there is one process.
        threads: of torch, as in every other executor.
        progress: where progress is shown; nowhere by default.

    Raises:
        Incomplete: stopped by Ctrl-C or SIGTERM; the state of the model under way is saved.
        InputError: models cannot be trained; the others are finished.
    """
    from ...training.interrupts import Interrupts

    with Tally(pool, progress or Progress(enabled=False)) as tally, Interrupts() as interrupts:
        while tally.waiting or tally.elsewhere:
            if interrupts.noted:
                raise tally.stopped()
            tally.call_back()
            if not tally.waiting:
                time.sleep(min(tally.patience() or 0.0, SHORTEST))
                continue
            unit = tally.waiting.popleft()
            tally.begins(unit)
            _attempt(tally, unit, threads)
        if interrupts.noted:
            raise tally.stopped()
    tally.settle()


def _attempt(tally: Tally, unit: Unit, threads: int) -> None:
    try:
        do_unit(tally.pool, unit, threads=threads, advance=lambda models: tally.advance(unit, models))
    except Busy:
        tally.busy(unit)
    except Incomplete:
        raise tally.stopped() from None
    except Exception as error:
        tally.failed(unit, why(error))
    else:
        tally.done(unit)
