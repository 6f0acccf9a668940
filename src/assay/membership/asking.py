"""From records to answers: the pool of shadow models, what is asked of them, and a target that may be a black box."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..core.errors import DataError, SettingError, did_you_mean
from ..core.probes import Cost
from ..core.progress import Progress
from .checks import check_probabilities
from .queries import PlainQueries, Queries
from .signals import Answers, answers_from, answers_from_labels
from .store import AnswerStore, ask_pool

if TYPE_CHECKING:
    from ..data.dataset import Dataset
    from ..pools.pool import Pool
    from ..subjects.target import Target
    from .trained_as import Training
    from .universe import Universe

KINDS = ("logits", "probabilities", "labels")
ANSWERS = "answers"


@dataclass(frozen=True, kw_only=True, eq=False)
class BlackBox:
    """A target that nobody here holds: its answers to the records.

    Args:
        members: answers to the members, in their order: logits or probabilities [n, C] or [n, K, C]; or the predicted
            classes [n] or [n, K]. K must be the number of queries, which only the owner of the queries can ask.
        nonmembers: likewise.
        kind: ``"logits"``, ``"probabilities"`` or ``"labels"``.
        name: for the report.
        population: answers to records that no model saw, for RMIA; likewise, or None.
    """

    members: np.ndarray
    nonmembers: np.ndarray
    kind: str = "logits"
    name: str = "black box"
    population: np.ndarray | None = None

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise SettingError(f"BlackBox.kind is {self.kind!r}.{did_you_mean(self.kind, KINDS)}")
        axes = 2 if self.kind == "labels" else 3
        for name in ("members", "nonmembers", "population"):
            if getattr(self, name) is None:
                continue
            values = np.asarray(getattr(self, name))
            if values.ndim == axes - 1:
                values = values[:, None]
            if values.ndim != axes or not values.size:
                shape = "[n] or [n, K]" if self.kind == "labels" else "[n, C] or [n, K, C]"
                raise DataError(f"The answers to the {name} are {np.shape(getattr(self, name))}; {shape} is needed.")
            object.__setattr__(self, name, values)

    def answers(self, members: int, nonmembers: int, queries: int) -> np.ndarray:
        """Answers to all records: [N, K, C], or [N, K] for labels.

        Raises:
            DataError: there are not as many as records or queries.
        """
        for name, count in (("members", members), ("nonmembers", nonmembers)):
            values = getattr(self, name)
            if values.shape[:2] != (count, queries):
                raise DataError(
                    f"{self.name!r} answered to {len(values)} {name} with {values.shape[1]} answers each; there are "
                    f"{count} records of {queries} {'query' if queries == 1 else 'queries'}. Its answers must be in "
                    "the order of the records."
                )
        if self.members.shape[2:] != self.nonmembers.shape[2:]:
            raise DataError(
                f"{self.name!r} has {self.members.shape[-1]} classes for members, "
                f"{self.nonmembers.shape[-1]} for non-members; one number is needed."
            )
        return np.concatenate([self.members, self.nonmembers])

    def describe(self) -> dict[str, Any]:
        """What a record says of the target."""
        state = hashlib.blake2b(self.kind.encode(), digest_size=16)
        for values in filter(lambda one: one is not None, (self.members, self.nonmembers, self.population)):
            assert values is not None
            state.update(repr((values.shape, values.dtype.str)).encode())
            state.update(np.ascontiguousarray(values).tobytes())
        return {
            "name": self.name,
            "source": f"{self.kind} in a file",
            "digest": state.hexdigest(),
            "task": "classification",
        }


@dataclass(frozen=True, eq=False, kw_only=True)
class Asked:
    """Answers and what they cost.

    Args:
        answers: of the target and the pool.
        cost: passes, the training of the pool included.
    """

    answers: Answers
    cost: Cost = field(default_factory=Cost)


def plan_pool(
    root: str | Path,
    universe: Universe,
    training: Training,
    *,
    shadows: int,
    design: str | np.ndarray = "half",
    seed: int = 0,
    method: str = "auto",
) -> Pool:
    """The pool of shadow models, found in ``root`` if it was ever planned there; nothing is trained.

    Raises:
        SettingError: fewer than two models.
    """
    from ..pools import Pool

    if shadows < 2:
        raise SettingError(f"shadows is {shadows}; at least 2 are needed, one that saw a record and one that did not.")
    return Pool.cached(
        root,
        data=universe.data,
        recipe=training.recipe,
        network=training.network,
        settings=training.settings,
        models=shadows,
        design=design,
        seed=seed,
        method=method,
    )


def ask(
    pool: Pool,
    target: Target | BlackBox,
    universe: Universe,
    queries: Queries,
    *,
    population: Dataset | None = None,
    batch_size: int = 256,
    progress: Progress | None = None,
) -> Asked:
    """What the models of a finished pool and the target answer to the queries; models are asked once and for all.

    Args:
        pool: of shadow models, trained on the records.
        target: a model, or its answers.
        universe: the records.
        queries: of these records.
        population: records that no model saw, for RMIA; not for a black box.
        batch_size: images in one forward pass.
        progress: where to show progress.

    Raises:
        DataError: answers of a black box do not fit the records, or it is one of the shadow models.
    """
    classes = universe.data.num_classes
    store = AnswerStore(pool.folder / ANSWERS, queries, classes=classes)
    reference = ask_pool(pool, store, batch_size=batch_size, progress=progress)
    cost = pool_cost(pool, len(queries) * queries.count)
    key = "" if isinstance(target, BlackBox) else f"target-{target.digest[:16]}"
    more: dict[str, Any] = {}
    if population is not None:
        others = AnswerStore(pool.folder / ANSWERS, PlainQueries(population), classes=classes)
        more = {
            "population_target": _about_population(target, others, key, batch_size),
            "population_reference": ask_pool(
                pool, others, batch_size=batch_size, progress=progress, title="Asking about the population"
            ),
            "population_labels": population.labels,
        }
    if isinstance(target, BlackBox):
        answers = _of_black_box(target, universe, reference, pool.in_mask, queries.count, more)
    else:
        own = store.ask(key, target, batch_size=batch_size)
        answers = answers_from(reference, pool.in_mask, own, universe.data.labels, **more)
    return Asked(answers=answers, cost=cost)


def _about_population(target: Target | BlackBox, store: AnswerStore, key: str, batch_size: int) -> np.ndarray:
    if not isinstance(target, BlackBox):
        return store.ask(key, target, batch_size=batch_size)
    if target.population is None:
        raise SettingError(f"{target.name!r} cannot be asked about a population; leave it out, and RMIA with it.")
    return _as_logits(target.population[:, :1], target.kind)


def _of_black_box(
    target: BlackBox,
    universe: Universe,
    reference: Sequence[np.ndarray],
    in_mask: np.ndarray,
    queries: int,
    more: dict[str, Any],
) -> Answers:
    own = target.answers(universe.members, universe.nonmembers, queries)
    labels = universe.data.labels
    if target.kind == "labels":
        return answers_from_labels(np.stack([one.argmax(-1) for one in reference]), in_mask, own, labels)
    return answers_from(reference, in_mask, _as_logits(own, target.kind), labels, **more)


def _as_logits(values: np.ndarray, kind: str) -> np.ndarray:
    """Probabilities as their logarithms, which are logits of theirs."""
    if kind != "probabilities":
        return values
    check_probabilities(values, "the target's answers")
    with np.errstate(divide="ignore"):
        return np.asarray(np.log(values.astype(np.float64)))


def pool_cost(pool: Pool, asked: int) -> Cost:
    """Passes of training every model of the pool and of asking it and the target."""
    epochs = int(pool.record["training"]["epochs"])
    trained = int(pool.in_mask.sum()) * epochs
    return Cost(forward=trained + (len(pool) + 1) * asked, backward=trained)
