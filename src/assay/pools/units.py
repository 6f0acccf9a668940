"""Units: the pieces of work that a pool is trained in, each under a lock of its own.

Whoever holds the lock of a unit trains it; others pass it by. So processes, the
nodes of a cluster and machines that share a disk work on one pool side by side,
and a process that dies lets go of its unit, which the next one takes up from
the last checkpoint.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch

from ..core.files import remove
from ..training.folder import CHECKPOINT
from ..training.loop import train
from .folder import Busy, locked, unit_folder

if TYPE_CHECKING:
    from .pool import Pool

Unit = tuple[int, ...]

__all__ = ["Busy", "Unit", "do_unit", "torch_threads"]


def do_unit(pool: Pool, unit: Unit, *, threads: int = 1, advance: Callable[[int], None] | None = None) -> None:
    """Train the models of a unit that are not finished, each into its folder; go on where an earlier try stopped.

    Args:
        pool: the pool.
        unit: one of ``pool.units()``.
        threads: threads of torch while it trains; the weights depend on it in their last bits.
        advance: called with the number of models that have just been finished here.

    Raises:
        Busy: another process is training this unit.
        Incomplete: stopped by Ctrl-C or SIGTERM; a checkpoint was saved.
        InputError: a model cannot be trained; the message says why.
    """
    with locked(unit_folder(pool.folder, unit)), torch_threads(threads):
        if all(pool.is_finished(m) for m in unit):
            return
        if len(unit) == 1:
            _train(pool, *unit)
            if advance is not None:
                advance(1)
        else:
            from .batched import train_group

            train_group(pool, unit, advance)


def _train(pool: Pool, model: int) -> None:
    """One model, without its checkpoint in the end, which would take more space than the model itself."""
    job, out = pool.job(model), pool.path(model)
    train(job.recipe, data=job.data, out=out, network=job.network, settings=job.settings, seed=job.seed)
    remove(out / CHECKPOINT)


@contextmanager
def torch_threads(count: int) -> Iterator[None]:
    """So many threads of torch inside, as many as before afterwards."""
    earlier = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(earlier)
