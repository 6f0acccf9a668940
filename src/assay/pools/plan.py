"""The plan of a pool: checked as a whole, then written, the memberships first and the record last."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from ..core.errors import DataError, RunError, SettingError, did_you_mean
from ..core.files import checksum, make_folder, plain, read_bytes, read_json, to_json, write_atomic
from ..core.runs import RECORD as RUN_RECORD
from ..core.seeds import seed as named_seed
from ..core.settings import as_dict, build
from ..data.dataset import Dataset
from ..training.job import Job, TrainSettings, make_job
from ..training.recipe import Recipe
from . import folder as files
from .designs import membership
from .forecast import check_space_for_data
from .store import ABOUT, read_data, size_of, write_data

METHODS = ("auto", "sequential", "batched")
SMALLEST, LARGEST, PIECES = 8, 16, 4
"""Models in a group where groups are asked for and nothing was timed; and groups that leave work to share."""

SHOWN = 6


@dataclass(frozen=True)
class Plan:
    """What a pool will be.

    Args:
        record: the content of ``pool.json``.
        in_mask: memberships, bool [M, N].
        data: the N records.
        recipe: how every model is trained.
        group: models in a group; None: to be decided before the first training.
    """

    record: dict[str, Any]
    in_mask: np.ndarray
    data: Dataset
    recipe: Recipe
    group: int | None

    @classmethod
    def of(
        cls,
        data: Dataset,
        recipe: Recipe | str,
        network: str | None,
        settings: TrainSettings | None,
        *,
        models: int,
        design: str | np.ndarray,
        seed: int,
        method: str,
    ) -> Plan:
        """Check everything that can be checked before anything is written; the arguments are those of ``Pool.plan``."""
        if method not in METHODS:
            raise SettingError(f"method is {method!r}; allowed: {', '.join(METHODS)}.{did_you_mean(method, METHODS)}")
        job = make_job(recipe, data=data, network=network, settings=settings, seed=seed)
        if job.product.reads != "images" or not job.product.labelled:
            raise DataError(
                f"The recipe {job.card.name!r} does not make classifiers of images; pools hold those alone today."
            )
        in_mask = membership(design, models if isinstance(design, str) else len(design), len(data), seed)
        _check_subsets(in_mask, data)
        return cls(_record(job, in_mask, design, seed), in_mask, data, job.recipe, _group(method, job, len(in_mask)))

    def write(self, out: Path) -> None:
        """Write what is missing or damaged.

        Raises:
            RunError: the folder holds another pool, or one that is trained by another method; the disk is full.
        """
        earlier = files.readable_record(out)
        if earlier is not None and earlier["id"] != self.record["id"]:
            changes = files.differences(earlier, self.record)
            raise RunError(
                f"{str(out)!r} holds a pool of other settings: {'; '.join(changes[:SHOWN])}"
                f"{'; ...' * (len(changes) > SHOWN)}. Repeat the earlier command to go on with it, or choose another "
                "folder."
            )
        if earlier is None:
            self._refuse_other_models(out)
        files.tidy(out)
        self._write_membership(out / files.MEMBERSHIP)
        self._write_data(out / files.DATA)
        self._write_units(out)
        if earlier is None:
            write_atomic(out / files.RECORD, to_json(self.record))

    def job(self, m: int) -> Job:
        """The training of a model, on the records as they were given."""
        return make_job(
            self.recipe,
            data=self.data.subset(self.in_mask[m]),
            network=self.record["network"],
            settings=build(TrainSettings, self.record["training"]),
            seed=model_seed(self.record, m),
        )

    def _refuse_other_models(self, out: Path) -> None:
        """RunError where a folder without a readable record holds models or data of another pool."""
        about = out / files.DATA / ABOUT
        wrong = _value(about, "digest") not in (None, self.data.digest)
        for m in range(len(self.in_mask)):
            path = files.model_folder(out, m) / RUN_RECORD
            if path.is_file() and not wrong:
                wrong = not _same_training(path, self.job(m))
        if wrong:
            raise RunError(
                f"{str(out)!r} holds no readable {files.RECORD}, and its models or records are not those of the pool "
                "that is asked for. Repeat the command that planned it, or choose another folder."
            )

    def _write_membership(self, path: Path) -> None:
        if not path.is_file() or checksum(read_bytes(path)) != self.record["membership"]:
            write_atomic(path, files.membership_bytes(self.in_mask))

    def _write_data(self, place: Path) -> None:
        try:
            found = read_data(place)
            if (found.digest, found.sample_id_digest) == (self.data.digest, self.data.sample_id_digest):
                return
        except RunError:
            pass
        check_space_for_data(make_folder(place), size_of(self.data))
        write_data(place, self.data)

    def _write_units(self, out: Path) -> None:
        if self.group is None:
            return
        method = "batched" if self.group > 1 else "sequential"
        found = files.read_units(out)
        if found is None:
            files.write_units(out, method=method, group=self.group, words="as asked for")
        elif found["method"] != method:
            raise RunError(
                f"{str(out)!r} holds a pool whose models are trained by the method {found['method']!r}; now it is "
                f"{method!r}, which gives other last bits. Use method='auto' to go on with it, or another folder."
            )


def model_seed(record: Mapping[str, Any], m: int) -> int:
    """The root seed of the training of model m."""
    return named_seed(int(record["seed"]), "pool", m)


def _same_training(path: Path, job: Job) -> bool:
    """Whether a run record is that of a job, as far as can be told without reading the pixels; or is damaged."""
    try:
        found = read_json(path)
        seed, data, settings = found["seeds"]["root"], found["data"], found["settings"]["resolved"]
        rows = data["n"], data["sample_id_digest"]
    except (RunError, KeyError, TypeError):
        return True
    expected = len(job.data), job.data.sample_id_digest
    return bool(seed == job.seed and rows == expected and settings == plain(job.resolved()))


def _value(path: Path, key: str) -> Any:
    """One value of a JSON file; ``None`` where there is none."""
    try:
        return read_json(path)[key]
    except (RunError, KeyError, TypeError):
        return None


def _group(method: str, job: Job, models: int) -> int | None:
    if method == "auto":
        return None
    if method == "sequential":
        return 1
    from .batched import eligible

    reason = eligible(job)
    if reason:
        raise SettingError(f"method is 'batched', but {reason}. Use 'auto' or 'sequential'.")
    return min(models, max(SMALLEST, min(LARGEST, models // PIECES)))


def _check_subsets(in_mask: np.ndarray, data: Dataset) -> None:
    """DataError where a model would see no record, or records of one class."""
    for m, row in enumerate(in_mask):
        labels = data.labels[row]
        if len(labels) == 0 or bool((labels == labels[0]).all()):
            what = "no record" if len(labels) == 0 else f"{len(labels)} records, all of class {int(labels[0])}"
            raise DataError(
                f"Model {m} of the pool would be trained on {what}; at least two classes are needed. Use more records, "
                "another design, or another number of models."
            )


def _record(job: Job, in_mask: np.ndarray, design: str | np.ndarray, seed: int) -> dict[str, Any]:
    settings = as_dict(job.recipe)
    record: dict[str, Any] = {
        "schema": files.SCHEMA,
        "kind": "pool",
        "recipe": {
            "name": job.card.name,
            "version": job.card.version,
            "registered": bool(job.card.module) and build(type(job.recipe), settings) == job.recipe,
            "settings": settings,
            "identity": job.recipe.identity(job),
        },
        "network": job.network,
        "training": as_dict(job.settings),
        "models": len(in_mask),
        "design": design if isinstance(design, str) else "given",
        "membership": checksum(files.membership_bytes(in_mask)),
        "seed": seed,
        "data": job.data.describe(),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    return {**record, "id": files.identity(record)}
