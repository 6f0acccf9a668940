"""Pool: M models trained by one recipe on subsets of one data set, planned first, trained once, kept on disk."""

from __future__ import annotations

import importlib
import json
import os
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..core.errors import Incomplete, InputError, RunError, SettingError, did_you_mean
from ..core.files import checksum, read_bytes, read_json, remove
from ..core.methods import card, settings_of
from ..core.progress import Progress
from ..core.runs import FINISHED
from ..core.runs import RECORD as RUN_RECORD
from ..core.settings import build
from ..data.dataset import Dataset
from ..training.folder import CHECKPOINT, MODEL, WEIGHTS
from ..training.job import Job, TrainSettings, make_job
from ..training.recipe import Recipe
from . import folder as files
from .plan import Plan, model_seed
from .store import read_data

if TYPE_CHECKING:
    from ..subjects.target import Target
    from .forecast import PoolForecast

EXECUTORS = {"in-process": "in_process", "local": "processes", "ray": "ray"}


class Pool:
    """Models trained on subsets of one data set, in a folder of their own.

    Made by :meth:`plan`, :meth:`cached` or :meth:`open`. The same plan finds the
    models that are there already, and :meth:`train` makes those that are missing.

    Attributes:
        folder: where everything lies.
        id: 16 hex digits that name recipe, network, settings, membership, seed and data by content.
        record: what ``pool.json`` says.
    """

    def __init__(self, folder: str | Path, record: dict[str, Any], recipe: Recipe | None) -> None:
        self.folder = Path(folder)
        self.record = record
        self.id: str = record["id"]
        self._recipe = recipe

    def __repr__(self) -> str:
        return f"Pool({str(self.folder)!r}, {len(self)} models of {self.network} on {self.in_mask.shape[1]} records)"

    def __len__(self) -> int:
        return int(self.record["models"])

    @classmethod
    def plan(
        cls,
        out: str | Path,
        *,
        data: Dataset,
        recipe: Recipe | str = "standard",
        network: str | None = None,
        settings: TrainSettings | None = None,
        models: int = 64,
        design: str | np.ndarray = "half",
        seed: int = 0,
        method: str = "auto",
    ) -> Pool:
        """Decide which model sees which records, and write that down with all that training needs.

        Args:
            out: the folder of the pool. One that holds the same pool is opened, and what was damaged in its plan
                is written again; finished models are kept.
            data: the N records.
            recipe, network, settings: as for :func:`assay.training.train`; without validation data.
            models: M; an array of memberships brings its own number.
            design: which model sees which records, as in :func:`assay.pools.membership`.
            seed: root of memberships and trainings; model m is trained with ``seed(seed, "pool", m)``.
            method: ``"sequential"``, ``"batched"`` (several models at once), or ``"auto"``: timed before the
                first training.

        Raises:
            RunError: the folder holds another pool (the message says what differs), or the disk is full.
            InputError: what cannot be trained: a subset that is empty or of one class, data that are not images.
        """
        plan = Plan.of(data, recipe, network, settings, models=models, design=design, seed=seed, method=method)
        return cls._planned(Path(out), plan)

    @classmethod
    def cached(
        cls,
        root: str | Path,
        *,
        data: Dataset,
        recipe: Recipe | str = "standard",
        network: str | None = None,
        settings: TrainSettings | None = None,
        models: int = 64,
        design: str | np.ndarray = "half",
        seed: int = 0,
        method: str = "auto",
    ) -> Pool:
        """The pool of these arguments of :meth:`plan` in ``root/<id>``, where it is found if it was ever planned."""
        plan = Plan.of(data, recipe, network, settings, models=models, design=design, seed=seed, method=method)
        return cls._planned(Path(root) / plan.record["id"], plan)

    @classmethod
    def _planned(cls, out: Path, plan: Plan) -> Pool:
        with files.locked(out, patience=files.PATIENCE):
            plan.write(out)
            return cls(out, files.read_record(out), plan.recipe)

    @classmethod
    def open(cls, out: str | Path) -> Pool:
        """The pool in a folder.

        Raises:
            RunError: there is none, or it is damaged.
        """
        record = files.read_record(Path(out))
        return cls(out, record, _rebuilt(record["recipe"]))

    @property
    def network(self) -> str:
        """Name of the network of every model."""
        return str(self.record["network"])

    @property
    def portable(self) -> bool:
        """Whether other processes can train it: its recipe is one that Assay lists."""
        return bool(self.record["recipe"]["registered"])

    @cached_property
    def in_mask(self) -> np.ndarray:
        """Which model is trained on which record: bool [M, N], read-only."""
        return files.read_membership(self.folder, self.record["membership"])

    @cached_property
    def data(self) -> Dataset:
        """The N records, memory-mapped from the folder."""
        data = read_data(self.folder / files.DATA)
        if any(getattr(data, key) != self.record["data"][key] for key in ("digest", "sample_id_digest")):
            raise RunError(
                f"The records in {str(self.folder)!r} are not those of its plan. Plan the pool again from the same "
                "data; finished models are kept."
            )
        return data

    def path(self, m: int) -> Path:
        """The training run of a model."""
        if not 0 <= m < len(self):
            raise SettingError(f"Model {m} of a pool of {len(self)}; allowed: 0 to {len(self) - 1}.")
        return files.model_folder(self.folder, m)

    def is_finished(self, m: int) -> bool:
        """Whether a model is trained: its record says so, and its weights are there in full length."""
        path = self.path(m)
        try:
            status = read_json(path / RUN_RECORD)["status"]
        except (RunError, KeyError, TypeError):
            return False
        return status in FINISHED and (path / MODEL).is_file() and _full_length(path / WEIGHTS)

    @property
    def finished(self) -> np.ndarray:
        """Which models are trained: bool [M], read anew each time."""
        return np.array([self.is_finished(m) for m in range(len(self))])

    @property
    def complete(self) -> bool:
        """Whether every model is trained."""
        return bool(self.finished.all())

    def job(self, m: int) -> Job:
        """What the training of a model is: its recipe, network, records, settings and seed."""
        self.path(m)
        if self._recipe is None:
            raise RunError(
                f"The pool in {str(self.folder)!r} is trained by {self.record['recipe']['name']!r}, which is not a "
                "recipe of Assay, so it cannot be made from the folder alone. Plan it again with the recipe itself, "
                "and train with executor='in-process'."
            )
        return make_job(
            self._recipe,
            data=self.data.subset(self.in_mask[m]),
            network=self.network,
            settings=self._settings,
            seed=model_seed(self.record, m),
        )

    @cached_property
    def _settings(self) -> TrainSettings:
        return build(TrainSettings, self.record["training"], where=str(self.folder / files.RECORD))

    def units(self, *, threads: int = 1) -> list[tuple[int, ...]]:
        """The models in the pieces that they are trained in.

        Decided once, and then kept in the folder, so that every executor and machine makes the same models.

        Args:
            threads: threads of torch, for the timing at the first call.
        """
        chosen = files.read_units(self.folder) or self._choose(threads)
        group = int(chosen["group"])
        return [tuple(range(first, min(first + group, len(self)))) for first in range(0, len(self), group)]

    def _choose(self, threads: int) -> dict[str, Any]:
        with files.locked(self.folder, patience=files.PATIENCE):
            found = files.read_units(self.folder)
            if found is None:
                from .timing import choose

                found = files.write_units(self.folder, **choose(self, threads)._asdict())
            return found

    def train(
        self,
        executor: str = "local",
        *,
        workers: int | None = None,
        threads: int = 1,
        progress: Progress | None = None,
    ) -> Pool:
        """Train the models that are missing; the same call goes on where the last one stopped.

        Any number of machines that share the folder may call this at the same time: each takes up what no other
        holds, and all of them return when the pool is complete.

        Args:
            executor: ``"local"`` (processes), ``"in-process"``, or ``"ray"``; the models are the same to the last bit.
            workers: processes; by default as the executor sees fit.
            threads: threads of torch in each; the weights depend on it in their last bits.
            progress: where progress is shown; nowhere by default.

        Raises:
            Incomplete: stopped by Ctrl-C or SIGTERM; finished models are kept.
            InputError: models that cannot be trained (the others are trained first), or a disk that is too full.
        """
        run = self._executor(executor, workers, threads)
        if not self.complete:
            from .forecast import check_space

            self.units(threads=threads)
            check_space(self, workers)
            try:
                run(self, workers=workers, threads=threads, progress=progress)
            except KeyboardInterrupt as error:
                raise Incomplete(
                    f"Stopped with {int(self.finished.sum())} of {len(self)} models trained. Repeat the same command "
                    "to go on."
                ) from error
        for m in range(len(self)):
            remove(self.path(m) / CHECKPOINT)
        return self

    def _executor(self, executor: str, workers: int | None, threads: int) -> Any:
        if executor not in EXECUTORS:
            raise SettingError(f"There is no executor {executor!r}.{did_you_mean(executor, EXECUTORS)}")
        for name, value in (("workers", workers), ("threads", threads)):
            if value is not None and value < 1:
                raise SettingError(f"{name} is {value}; at least 1 is needed.")
        if int(os.environ.get("WORLD_SIZE", "1")) > 1:
            raise InputError(
                "A pool trains many models side by side and needs no launcher: run the command without accelerate "
                "launch or torchrun, and choose the number of workers."
            )
        if not self.portable and executor != "in-process":
            raise SettingError(
                f"The recipe {self.record['recipe']['name']!r} is not one of Assay's, so other processes cannot make "
                f"it; the executor is {executor!r}. Use executor='in-process'."
            )
        return importlib.import_module(f".executors.{EXECUTORS[executor]}", __package__).run

    def model(self, m: int) -> Target:
        """One trained model.

        Raises:
            RunError: it is not trained yet, or its files are damaged.
        """
        from ..subjects.loaders import load_target

        path = self.path(m)
        if not self.is_finished(m):
            raise RunError(f"Model {m} of the pool in {str(self.folder)!r} is not trained yet. Call train() first.")
        expected = read_json(path / RUN_RECORD).get("files", {})
        for name in (MODEL, WEIGHTS):
            if checksum(read_bytes(path / name)) != expected.get(name):
                raise RunError(
                    f"{str(path / name)!r} is damaged or was changed. Remove the folder {str(path)!r} and call train() "
                    "to train this model anew."
                )
        return load_target(f"run:{path}")

    def models(self, indices: Iterable[int] | None = None) -> list[Target]:
        """Trained models: all, or those of the indices.

        Raises:
            RunError: some are not trained yet.
        """
        wanted = list(range(len(self))) if indices is None else [int(m) for m in indices]
        missing = [m for m in wanted if not self.is_finished(m)]
        if missing:
            raise RunError(
                f"{len(missing)} of {len(wanted)} models of the pool in {str(self.folder)!r} are not trained yet, such "
                f"as model {missing[0]}. Call train() first: finished models are kept."
            )
        return [self.model(m) for m in wanted]

    def forecast(self, workers: int | None = None, *, threads: int = 1) -> PoolForecast:
        """Time and space that the missing models will take on this machine, with so many processes.

        Cost: where no model is finished, four steps of one training.
        """
        from .forecast import forecast

        return forecast(self, workers, threads=threads)


def _full_length(path: Path) -> bool:
    """Whether a safetensors file is as long as its own header says."""
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            header = file.read(length) if length <= 100_000_000 else b""
        ends = [item["data_offsets"][1] for key, item in json.loads(header).items() if key != "__metadata__"]
        return path.stat().st_size == 8 + length + max(ends, default=0)
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return False


def _rebuilt(about: dict[str, Any]) -> Recipe | None:
    """The recipe that a record describes; ``None`` where it is not one of Assay's."""
    if not about["registered"]:
        return None
    made: Recipe = build(settings_of(card(about["name"], "recipe")), about["settings"])
    return made
