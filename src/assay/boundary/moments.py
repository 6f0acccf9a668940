"""Moments of a training, looked at: closest boundary points, and their speeds in several directions."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from ..core.errors import ModelError, RunError, SettingError, Unsupported
from ..core.files import read_json
from ..core.methods import card, settings_of
from ..core.probes import Cost
from ..core.settings import build
from ..subjects.target import Target
from ..subjects.weights import load_weights, read_weights
from ..tensors.random import bits, sample_seeds
from ..training.flow import flow
from ..training.job import TrainSettings
from ..training.recipe import Recipe
from ..training.snapshots import Moment, read_moments
from .closest import closest_boundary_points
from .dyart import DyART
from .speed import check_speed, gradient_flow_direction, relative_speed, relative_speed_by_layer

if TYPE_CHECKING:
    from ..subjects.examination import Examination
    from .dynamics import Dynamics

RUN = "run.json"
CHECKED = 64


@dataclass(frozen=True, eq=False)
class Look:
    """What was seen at one moment; the samples are those of the observer.

    Args:
        step: steps taken before.
        learning_rate: of the next step; NaN where it is not known.
        margin: signed margins R, [n]; infinite where no boundary point was found.
        speeds: relative speeds by direction, [n] each; NaN where there is none.
        layers: speed of the run's own direction by layer, [n] each; at the last moment alone.
        deviation: of forward mode from finite differences; NaN where it was not looked at.
    """

    step: int
    learning_rate: float
    margin: np.ndarray
    speeds: dict[str, np.ndarray]
    layers: dict[str, np.ndarray]
    deviation: float


@dataclass(frozen=True)
class Training:
    """What the record of a run says of its training.

    Args:
        recipe: its recipe.
        settings: of the training.
        steps_per_epoch: 1 where the record does not tell.
        seed: root of its random streams.
        data_digest: of its data; ``""`` where the record does not tell.
    """

    recipe: Recipe
    settings: TrainSettings
    steps_per_epoch: int
    seed: int
    data_digest: str


def is_training(folder: Path | None) -> bool:
    """Whether a folder holds the record of a training."""
    if folder is None or not (folder / RUN).is_file():
        return False
    return _record(folder).get("method", {}).get("kind") == "recipe"


def read_training(folder: Path) -> Training:
    """The training of a run folder.

    Raises:
        ModelError: its record is damaged, or of a recipe that is not known here.
    """
    record = _record(folder)
    try:
        resolved, data = record["settings"]["resolved"], record["data"]
        recipe = _recipe(record["method"]["name"], resolved["recipe"])
        settings = build(TrainSettings, resolved["training"], where=str(folder))
        count, seed = int(data["n"]), int(record["seeds"]["root"])
    except (KeyError, TypeError, ValueError) as error:
        raise ModelError(f"{str(folder / RUN)!r} does not tell how the model was trained: {error}.") from error
    steps = max(1, -(-count // settings.batch_size))
    return Training(recipe, settings, steps, seed, str(data.get("digest", "")))


def moments_of(folder: Path, most: int) -> list[Moment]:
    """The moments that the run kept, evenly thinned to ``most``, the last among them; none if it kept none."""
    try:
        kept = read_moments(folder)
    except RunError as error:  # damage of the run is the model's: an audit goes on with its other probes
        raise ModelError(str(error)) from error
    places = np.unique(np.linspace(len(kept) - 1, 0, min(most, len(kept))).round().astype(int)) if kept else ()
    return [kept[place] for place in places]


class Observer:
    """Looks at moments of one training on some of its samples.

    Args:
        settings: of the probe.
        examination: the model of the run, and the training data.
        training: what the run's record says.
    """

    def __init__(self, settings: Dynamics, examination: Examination, training: Training) -> None:
        self.settings, self.examination, self.training = settings, examination, training
        target = examination.target
        if not isinstance(target.model, nn.Module):
            raise ModelError("The model is a plain function; the speed of its boundary needs a torch.nn.Module.")
        self.module = copy.deepcopy(target.model)
        self.target = Target(
            self.module,
            task=target.task,
            bounds=target.bounds,
            preprocess=copy.deepcopy(target.preprocess),
            name=target.name,
        )
        seeds = sample_seeds(examination.seed, examination.sample_ids, "boundary-dynamics")
        self.rows = bits(seeds, 1, 0)[:, 0].argsort(stable=True)[: settings.samples].sort().values
        self.images, self.labels = examination.images[self.rows], examination.labels[self.rows]
        self.sample_ids = [examination.sample_ids[row] for row in self.rows.tolist()]
        self.unavailable: dict[str, str] = {}
        self.cost = Cost()

    def look(self, moment: Moment | None, *, last: bool, advance: Callable[[], None] = lambda: None) -> Look:
        """Everything about one moment, from earlier attempts where it is there; None for the finished weights."""
        weights = None if moment is None else moment.file
        name = f"step-{0 if moment is None else moment.step}-{_digest(weights) if weights else 'final'}"
        if weights is not None:
            load_weights(self.module, read_weights(weights), where=repr(str(weights)))
        there = self._kept(f"{name}/points", self._closest)
        found = torch.from_numpy(there["found"])
        points, slope = torch.from_numpy(there["points"]), torch.from_numpy(there["slope"])
        advance()
        speeds: dict[str, np.ndarray] = {}
        layers: dict[str, np.ndarray] = {}
        deviation = np.nan
        for direction in self.settings.directions:
            if direction == "step" and (moment is None or moment.next_file is None):
                advance()
                continue
            detailed = last and direction == self.settings.directions[0]

            def seen(direction: str = direction, detailed: bool = detailed) -> dict[str, np.ndarray]:
                return self._speeds(direction, moment, points, found, slope, detailed=detailed)

            kept = self._kept(f"{name}/{direction}{'+layers' if detailed else ''}", seen)
            if "unavailable" in kept:
                self.unavailable[direction] = str(kept["unavailable"])
            else:
                speeds[direction] = kept.pop("speed")
                if detailed:
                    deviation = float(kept.pop("deviation"))
                    layers = {str(layer): kept["layers"][row] for row, layer in enumerate(kept["names"].tolist())}
            advance()
        return Look(
            step=0 if moment is None else moment.step,
            learning_rate=np.nan if moment is None else moment.learning_rate,
            margin=there["signed_margin"].astype(np.float64),
            speeds=speeds,
            layers=layers,
            deviation=deviation,
        )

    def _kept(self, key: str, work: Callable[[], dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
        shards = self.examination.shards
        if shards is not None and key in shards:
            return shards.get(key)
        arrays = work()
        if shards is not None:
            shards.put(key, **arrays)
        return arrays

    def _closest(self) -> dict[str, np.ndarray]:
        there = closest_boundary_points(
            self.target,
            self.images,
            self.labels,
            self.settings.norm,
            self.settings.temperature,
            self.settings.steps,
            self.examination.seed,
            batch_size=self.examination.batch_size,
            sample_ids=self.sample_ids,
        )
        self.cost += there.cost
        names = ("points", "signed_margin", "found", "slope")
        return {name: getattr(there, name).cpu().numpy() for name in names}

    def _speeds(
        self, direction: str, moment: Moment | None, points: Tensor, found: Tensor, slope: Tensor, *, detailed: bool
    ) -> dict[str, np.ndarray]:
        """Speeds [n], NaN where there is no boundary point; for a detailed look the layers' parts and a check."""
        try:
            moved = self._direction(direction, moment)
        except (Unsupported, SettingError) as error:
            return {"unavailable": np.array(str(error))}
        at, labels = points[found], self.labels[found]
        how = (self.settings.norm, self.settings.temperature)

        def spread(values: Tensor) -> np.ndarray:
            full = torch.full((len(found),), torch.nan, dtype=torch.float64)
            full[found] = values.detach().cpu().double()
            return full.numpy()

        speed = relative_speed(self.target, at, labels, moved, *how, slope=slope[found])
        self.cost += Cost(forward=3 * len(at))
        arrays = {"speed": spread(speed)}
        if detailed:
            parts = relative_speed_by_layer(self.target, at, labels, moved, *how, slope=slope[found])
            arrays["layers"] = np.stack([spread(part) for part in parts.values()])
            arrays["names"] = np.array(list(parts), dtype="U")
            temperature = self.settings.temperature
            arrays["deviation"] = np.array(
                check_speed(self.target, at[:CHECKED], labels[:CHECKED], moved, temperature) if len(at) else np.nan
            )
            self.cost += Cost(forward=2 * len(at) + 5 * CHECKED, backward=len(at))
        return arrays

    def _direction(self, name: str, moment: Moment | None) -> dict[str, Tensor]:
        count = len(self.images)
        if name == "gradient-flow":
            self.cost += Cost(forward=count, backward=count)
            return gradient_flow_direction(self.target, "cross-entropy", self.images, self.labels)
        if name == "step":
            assert moment is not None
            assert moment.next_file is not None
            return self._step(moment.next_file)
        own = name == "own"
        passes = 1 if name == "standard" else self.settings.inner_steps + 3
        self.cost += Cost(forward=passes * count, backward=passes * count)
        return flow(
            self.training.recipe if own else self._recipes[name],
            self.target,
            self.images,
            self.labels,
            step=moment.step if own and moment is not None else 0,
            steps_per_epoch=self.training.steps_per_epoch,
            seed=self.training.seed,
            sample_ids=self.sample_ids,
            settings=self.training.settings,
        )

    def _step(self, after: Path) -> dict[str, Tensor]:
        """What the optimiser did: momentum, weight decay and running statistics included."""
        now, then = self.module.state_dict(), read_weights(after)
        return {
            name: then[name].to(value.device) - value
            for name, value in now.items()
            if value.is_floating_point() and name in then
        }

    @cached_property
    def _recipes(self) -> dict[str, Recipe]:
        """Other recipes at the budget of the probe, without a burn-in."""
        chosen = self.settings
        inner: dict[str, Any] = {"norm": chosen.norm, "eps": chosen.eps, "steps": chosen.inner_steps}
        return {
            "standard": _recipe("standard", {}),
            "adversarial": _recipe("adversarial", inner),
            "trades": _recipe("trades", inner),
            "dyart": DyART(
                norm=chosen.norm,
                r0=2 * chosen.eps,
                temperature=chosen.temperature,
                steps=chosen.steps,
                burn_in=0.0,
            ),
        }


def _recipe(name: str, values: dict[str, Any]) -> Recipe:
    made: Recipe = build(settings_of(card(name, "recipe")), values)
    return made


def _record(folder: Path) -> dict[str, Any]:
    try:
        content = read_json(folder / RUN)
    except RunError as error:
        raise ModelError(str(error)) from error
    return content if isinstance(content, dict) else {}


def _digest(path: Path) -> str:
    return hashlib.blake2b(path.read_bytes(), digest_size=8).hexdigest()
