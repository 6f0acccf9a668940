"""Members, non-members and population of a study of membership, and how its shadow models are trained."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..core.errors import DataError, ModelError, SettingError
from ..core.probes import Finding
from ..core.settings import build
from ..membership.asking import BlackBox, plan_pool
from ..membership.trained_as import Training, trained_as
from ..membership.universe import Universe, fingerprints, join
from ..tensors.random import bits, sample_seeds

if TYPE_CHECKING:
    from ..data.dataset import Dataset
    from ..pools.pool import Pool
    from ..subjects.target import Target
    from ..training.job import TrainSettings
    from ..training.recipe import Recipe

POPULATION_SHARE = 0.2
FEWEST_OF_POPULATION = 20


class Sides:
    """Members, non-members and population of one study, and how shadow models are trained."""

    def __init__(
        self,
        target: Target | BlackBox,
        universe: Universe,
        training: Training,
        population: Dataset | None = None,
        findings: Sequence[Finding] = (),
        given: tuple[Dataset, Dataset] | None = None,
    ) -> None:
        self.target, self.universe, self.training = target, universe, training
        self.population, self.findings, self.given = population, tuple(findings), given

    @classmethod
    def of(
        cls,
        target: Target | BlackBox,
        members: Dataset,
        nonmembers: Dataset,
        recipe: Recipe | str | None,
        network: str | None,
        training: TrainSettings | None,
    ) -> Sides:
        known = _training(target, recipe, network, training)
        remarks = [Finding(code="shadows-differ", severity="info", message=remark) for remark in known.remarks]
        return cls(target, join(members, nonmembers), known, None, remarks, (members, nonmembers))

    def with_population(self, population: Dataset | None, seed: int) -> Sides:
        """The population that was given, or a part of the non-members that is set aside for it."""
        if population is not None:
            _refuse_known(population, self.universe)
            return Sides(self.target, self.universe, self.training, population, self.findings, self.given)
        assert self.given is not None
        members, nonmembers = self.given
        count = max(FEWEST_OF_POPULATION, round(POPULATION_SHARE * len(nonmembers)))
        if len(nonmembers) < 2 * count:
            raise DataError(
                f"RMIA compares with records that no model saw, and {len(nonmembers)} non-members are too few to set "
                f"{count} of them aside. Give a population, or leave rmia out."
            )
        words = bits(sample_seeds(seed, nonmembers.sample_ids.tolist(), "population"), 1)[:, 0].numpy()
        aside = np.zeros(len(nonmembers), dtype=bool)
        aside[np.argsort(words, kind="stable")[:count]] = True
        target = self.target
        if isinstance(target, BlackBox):
            target = BlackBox(
                members=target.members,
                nonmembers=target.nonmembers[~aside],
                population=target.nonmembers[aside],
                kind=target.kind,
                name=target.name,
            )
        told = Finding(
            code="population-set-aside",
            severity="info",
            message=f"RMIA needs records that no model saw: {count} of the {len(nonmembers):,} non-members were set "
            "aside for it, and are not among those that attacks are judged by.",
            remedy="Give a population of its own to keep them all.",
            value=float(count),
        )
        universe = join(members, nonmembers.subset(~aside))
        return Sides(target, universe, self.training, nonmembers.subset(aside), (*self.findings, told), self.given)

    def check(self) -> None:
        """Whether the target can answer to these records, before anything is trained."""
        data = self.universe.data
        if isinstance(self.target, BlackBox):
            self.target.answers(self.universe.members, self.universe.nonmembers, self.target.members.shape[1])
            return
        classes = self.target.task.num_classes
        if classes != data.num_classes:
            raise ModelError(
                f"The model tells {classes} classes apart, and the data have {data.num_classes}; they must be the same."
            )
        self.target.predict(self.target.check_images(_first(data)))

    def root(self, out: str | Path, pools: str | Path | None) -> Path:
        """Where pools lie."""
        return Path(out) / "pools" if pools is None else Path(pools)

    def pool(self, out: str | Path, pools: str | Path | None, **plan: Any) -> Pool:
        """The pool of this study, planned."""
        return plan_pool(self.root(out, pools), self.universe, self.training, **plan)

    def describe(self, pool: Pool) -> dict[str, Any]:
        """The data as a record describes them; the digest holds the pool and the population too."""
        about = self.universe.describe()
        others = "" if self.population is None else self.population.digest
        words = f"{about['digest']}|{pool.id}|{others}"
        record = pool.record
        return {
            **about,
            "digest": hashlib.blake2b(words.encode(), digest_size=16).hexdigest(),
            "population": None if self.population is None else self.population.describe(),
            "pool": {
                "id": pool.id,
                **{name: record[name] for name in ("recipe", "network", "training", "models", "design", "seed")},
            },
        }


def _first(data: Dataset) -> Any:
    import torch

    return torch.from_numpy(data.images(np.arange(min(2, len(data)))))


def _training(
    target: Target | BlackBox, recipe: Recipe | str | None, network: str | None, training: TrainSettings | None
) -> Training:
    """How shadow models are trained: as it was said, and where nothing was said as the target's record has it."""
    from ..training.job import TrainSettings, as_recipe

    folder = None if isinstance(target, BlackBox) else target.folder
    known = trained_as(folder) if recipe is None or network is None or training is None else ""
    if recipe is None and isinstance(known, str):
        raise SettingError(
            f"Shadow models must be trained as the target was, and {known}. Say how: name a recipe, network and "
            "settings (--recipe)."
        )
    made = known.recipe if recipe is None and isinstance(known, Training) else as_recipe(recipe or "standard")
    told = known if isinstance(known, Training) else None
    return Training(
        recipe=made,
        network=network or (told.network if told else made.product.network),
        settings=training or (told.settings if told else build(TrainSettings, made.usual)),
        data=told.data if told else {},
        seconds=told.seconds if told else 0.0,
        remarks=told.remarks if told else (),
    )


def _refuse_known(population: Dataset, universe: Universe) -> None:
    shared = set(fingerprints(population)) & set(fingerprints(universe.data))
    if shared:
        raise DataError(
            f"{len(shared)} pictures of the population are among the members or non-members. RMIA compares with "
            "records that no model saw: take them out of the population."
        )
    if (population.shape, population.class_names) != (universe.data.shape, universe.data.class_names):
        raise DataError("The population must have the shape and the classes of the other records.")
