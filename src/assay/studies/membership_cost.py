"""What a study of membership will take, told before it starts."""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..core.probes import Cost
from ..membership.asking import plan_pool

if TYPE_CHECKING:
    from ..membership.trained_as import Training
    from ..membership.universe import Universe
    from ..pools.forecast import PoolForecast


@dataclass(frozen=True, kw_only=True)
class Forecast:
    """What a study will take.

    Args:
        models: shadow models.
        left: of them not trained yet.
        records: members and non-members.
        members, nonmembers: of each.
        seconds: wall time of training, optimising and asking.
        bytes: on the disk, models and answers.
        lines: all of it in plain sentences.
    """

    models: int
    left: int
    records: int
    members: int
    nonmembers: int
    seconds: float
    bytes: int
    lines: tuple[str, ...]


def forecast_pool(
    universe: Universe,
    training: Training,
    plan: dict[str, Any],
    root: Path,
    *,
    asked: int,
    optimised: int = 0,
    workers: int | None = None,
    batch_size: int = 256,
) -> Forecast:
    """Time and space of a pool that may be there in part, and of what it is asked.

    Args:
        universe: the records.
        training: of every shadow model.
        plan: shadows, design, method and seed.
        root: where pools lie.
        asked: images that models will be shown.
        optimised: forward and backward passes of an optimisation.
        workers: processes; default: one a processor.
        batch_size: images in one forward pass.

    Cost: a few training steps and forward passes.
    """
    count = workers or os.cpu_count() or 1
    with tempfile.TemporaryDirectory(prefix="assay-forecast-") as folder:
        found = _forecast(folder, root, universe, training, plan, count)
    pace = _pace(universe, training, batch_size)
    asking = pace.seconds(Cost(forward=asked))
    searching = pace.seconds(Cost(forward=optimised, backward=optimised))
    answers = 4 * asked * universe.data.num_classes
    lines = [
        f"{universe.members:,} members and {universe.nonmembers:,} non-members; {found}.",
        f"Asking them takes about {_time(asking)}, and {answers / 1e6:,.0f} MB for {asked:,} answers.",
    ]
    if optimised:
        lines.insert(1, f"Optimising the queries takes about {_time(searching)}.")
    total = found.seconds + asking + searching
    lines.append(f"About {_time(total)} in all on this machine. What is finished is kept when it is stopped.")
    return Forecast(
        models=found.models,
        left=found.left,
        records=len(universe),
        members=universe.members,
        nonmembers=universe.nonmembers,
        seconds=total,
        bytes=found.bytes + answers,
        lines=tuple(lines),
    )


def _forecast(
    folder: str, root: Path, universe: Universe, training: Training, plan: dict[str, Any], workers: int
) -> PoolForecast:
    """Of the pool in ``root`` if it was begun there, else of one that is planned for this moment."""
    from ..pools import Pool

    planned = plan_pool(folder, universe, training, **plan)
    there = root / planned.id
    return (Pool.open(there) if (there / "pool.json").is_file() else planned).forecast(workers)


def _pace(universe: Universe, training: Training, batch_size: int) -> Any:
    from ..subjects.loaders import load_target
    from .cost import measure_pace

    data = universe.data
    network = load_target(f"network:{training.network}", num_classes=data.num_classes, image_shape=data.shape)
    return measure_pace(network, data, batch_size=batch_size)


def _time(seconds: float) -> str:
    if seconds < 120:
        return f"{max(1, round(seconds))} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
