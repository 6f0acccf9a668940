"""Signals: what an attack sees of reference models and of a target, one number for each answer.

:class:`Answers` keeps what models answered, and makes signals (see :mod:`.quantities`) when they are asked for, once,
reading one model at a time. Its doors, :func:`answers_from`, :func:`answers_from_probabilities` and
:func:`answers_from_labels`, check what they are given.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..core.errors import DataError, InputError, Unsupported
from ..core.probes import Finding
from . import checks
from .quantities import OF_CONFIDENCE, SIGNALS, confidence, key_of, signal_of

__all__ = [
    "SIGNALS",
    "Answers",
    "Scored",
    "Signals",
    "answers_from",
    "answers_from_labels",
    "answers_from_probabilities",
    "confidence",
    "signal_of",
]


@dataclass(frozen=True, eq=False, kw_only=True)
class Signals:
    """One number for each model, record and query.

    Args:
        reference: float64 [M, N, K], NaN where an answer is missing.
        in_mask: bool [M, N], true where a reference model was trained with the record.
        target: float64 [N, K].
        name: one of ``SIGNALS``.
        findings: remarks on missing answers.
    """

    reference: np.ndarray
    in_mask: np.ndarray
    target: np.ndarray
    name: str
    findings: tuple[Finding, ...] = ()

    def as_target(self, model: int) -> Signals:
        """Reference model ``model`` in the place of the target, the others as its references."""
        others = np.delete(np.arange(len(self.in_mask)), model)
        return Signals(
            reference=self.reference[others],
            in_mask=self.in_mask[others],
            target=self.reference[model],
            name=self.name,
            findings=self.findings,
        )

    def take(self, records: Any) -> Signals:
        """The signals of some records, by position or by a boolean mask [N]."""
        return Signals(
            reference=self.reference[:, records],
            in_mask=self.in_mask[:, records],
            target=self.target[records],
            name=self.name,
            findings=self.findings,
        )


@dataclass(frozen=True, eq=False, kw_only=True)
class Scored:
    """What an attack returns.

    Args:
        scores: float64 [N]; larger means more likely a member of the target's training data. NaN where the target has
            no answer.
        findings: remarks on trust, such as records that too few models know.
        about: one plain sentence: which form of the attack, and by which conventions.
    """

    scores: np.ndarray
    findings: list[Finding]
    about: str


@dataclass(frozen=True, eq=False, kw_only=True)
class Answers:
    """What M reference models and a target answered to K queries of each of N records.

    Make them with :func:`answers_from` (logits), :func:`answers_from_probabilities` or :func:`answers_from_labels`,
    which check everything; the class itself checks nothing.

    Args:
        reference: [M, N, K, C], or M arrays [N, K, C], which may be memory maps; read one model at a time.
            For ``kind="labels"`` C is 1 and holds the predicted class, -1 where there is none.
        in_mask: bool [M, N], true where a reference model was trained with the record.
        target: [N, K, C].
        labels: int64 [N].
        population_reference: [M, Z, K', C]: answers to records that no model was trained on, target included.
        population_target: [Z, K', C].
        population_labels: int64 [Z].
        kind: ``"logits"``, ``"probabilities"`` or ``"labels"``.
    """

    reference: Any
    in_mask: np.ndarray
    target: np.ndarray
    labels: np.ndarray
    population_reference: Any = None
    population_target: np.ndarray | None = None
    population_labels: np.ndarray | None = None
    kind: str = "logits"
    _made: dict[Any, Any] = field(default_factory=dict, repr=False)
    _source: Callable[..., Signals] | None = field(default=None, repr=False)

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def models(self) -> int:
        """The number of reference models, M."""
        return len(self.in_mask)

    @property
    def queries(self) -> int:
        """The number of queries of each record, K."""
        return int(self.target.shape[1])

    @functools.cached_property
    def population(self) -> Answers | None:
        """The answers to records no model was trained on, as answers of their own; None where none were given."""
        if self.population_reference is None or self.population_target is None or self.population_labels is None:
            return None
        return Answers(
            reference=self.population_reference,
            in_mask=np.zeros((self.models, len(self.population_labels)), dtype=bool),
            target=self.population_target,
            labels=self.population_labels,
            kind=self.kind,
        )

    def signal(
        self, name: str = "confidence", *, temperature: float = 1.0, order: int = 4, margin: float = 0.6
    ) -> Signals:
        """The signal of every answer (see :mod:`.quantities`); computed once and kept.

        Args:
            name: one of ``SIGNALS``.
            temperature: logits are divided by it; at any but 1, for confidence, loss and probabilities only.
            order: of the Taylor polynomial: even, so that it is positive everywhere.
            margin: taken from the true logit, for ``taylor-probability``.

        Raises:
            Unsupported: predicted labels were given, and ``name`` needs more than them.
            DataError: the target is one of the reference models.

        Cost: reads every answer once; 8 bytes are kept for each.
        """
        key = key_of(name, temperature, order, margin)
        if key not in self._made:
            self._made[key] = self._derived(key) if self._source is None else self._source(*key)
        found: Signals = self._made[key]
        return found

    def as_target(self, model: int) -> Answers:
        """Reference model ``model`` in the place of the target, the others as references (leave one out).

        Signals are cut out of those of all models, and not computed again. Whether it is a member is known:
        ``answers.in_mask[model]``.
        """
        if not 0 <= model < self.models:
            raise InputError(f"model is {model}; there are {self.models} reference models, 0 to {self.models - 1}.")
        population = self.population
        taken = Answers(
            reference=_Without(self.reference, model),
            in_mask=np.delete(self.in_mask, model, axis=0),
            target=self.reference[model],
            labels=self.labels,
            kind=self.kind,
            _source=lambda *key: self._get(key).as_target(model),
        )
        taken.__dict__["population"] = None if population is None else population.as_target(model)
        return taken

    def take(self, records: Any) -> Answers:
        """The answers on some records, by position or by a boolean mask [N]; the population stays."""
        taken = Answers(
            reference=_Taken(self.reference, records),
            in_mask=self.in_mask[:, records],
            target=self.target[records],
            labels=self.labels[records],
            kind=self.kind,
            _source=lambda *key: self._get(key).take(records),
        )
        taken.__dict__["population"] = self.population
        return taken

    def _get(self, key: tuple[Any, ...]) -> Signals:
        name, temperature, order, margin = key
        return self.signal(name, temperature=temperature, order=order, margin=margin)

    def _derived(self, key: tuple[Any, ...]) -> Signals:
        """A signal from the answers, or from the confidence, on which most depend alone."""
        name, temperature, order, margin = key
        if self.kind == "labels" and name != "correct":
            raise Unsupported(
                f"The signal {name!r} needs logits or probabilities, and only predicted labels were given. "
                "Use an attack on labels, such as 'gap'."
            )
        if name in OF_CONFIDENCE:
            whole = self._get(("confidence", temperature, order, margin))
            change = OF_CONFIDENCE[name]
            return Signals(
                reference=change(whole.reference),
                in_mask=whole.in_mask,
                target=change(whole.target),
                name=name,
                findings=whole.findings,
            )
        return self._read(name, lambda block: signal_of(block, self.labels, *key))

    def _read(self, name: str, compute: Callable[[np.ndarray], np.ndarray]) -> Signals:
        target = compute(self._logits(self.target, "the target's answers"))
        reference = np.empty((self.models, *target.shape), dtype=np.float64)
        for m in range(self.models):
            reference[m] = compute(self._logits(self.reference[m], f"the answers of reference model {m}"))
        if name != "correct":
            _refuse_target_among(reference, target)
        return Signals(
            reference=reference,
            in_mask=self.in_mask,
            target=target,
            name=name,
            findings=tuple(_missing(reference)),
        )

    def _logits(self, block: Any, name: str) -> np.ndarray:
        values = checks.as_array(block)
        if self.kind != "probabilities":
            return values
        checks.check_probabilities(values, name)
        with np.errstate(divide="ignore"):
            return np.asarray(np.log(values.astype(np.float64)))


def answers_from(
    reference_logits: Any,
    in_mask: Any,
    target_logits: Any,
    labels: Any,
    *,
    population_reference: Any = None,
    population_target: Any = None,
    population_labels: Any = None,
) -> Answers:
    """Answers from logits, checked.

    Args:
        reference_logits: [M, N, K, C] or [M, N, C]: arrays, memory maps or torch tensors, or a list of M of them.
            NaN and +inf are missing answers; -inf is a probability of zero. M may be 0 for attacks without references.
        in_mask: bool [M, N], true where a reference model was trained with the record.
        target_logits: [N, K, C] or [N, C], finite but for -inf.
        labels: [N], in 0..C-1.
        population_reference: [M, Z, K, C] or [M, Z, C]: records that no model was trained on (for RMIA).
        population_target: [Z, K, C] or [Z, C].
        population_labels: [Z].

    Raises:
        DataError: shapes, classes, labels or mask do not fit together; probabilities were given as logits; the target
            has answers that are not finite.

    Cost: reads the target's answers and those of one reference model.

    >>> answers = answers_from([[[2.0, 0.0]], [[0.5, 0.0]]], np.array([[True], [False]]), [[1.0, 0.0]], [0])
    >>> answers.signal().reference[:, 0, 0].tolist(), answers.signal().target[0, 0].item()
    ([2.0, 0.5], 1.0)
    """
    return _checked(
        "logits",
        (reference_logits, in_mask, target_logits, labels),
        (population_reference, population_target, population_labels),
    )


def answers_from_probabilities(
    reference_probabilities: Any,
    in_mask: Any,
    target_probabilities: Any,
    labels: Any,
    *,
    population_reference: Any = None,
    population_target: Any = None,
    population_labels: Any = None,
) -> Answers:
    """Answers of a black box that gives probabilities; shapes as in :func:`answers_from`.

    Their logarithms serve as logits, by which all signals but the Taylor probability are the same. Rounded
    probabilities cost power: a confidence rounded to 1.0 cannot be told from another.

    Raises:
        DataError: as :func:`answers_from`; or rows are negative or do not sum to 1 (within 0.05).

    >>> answers = answers_from_probabilities([[[0.8, 0.2]]], np.array([[True]]), [[0.5, 0.5]], [0])
    >>> round(float(answers.signal("probability").reference[0, 0, 0]), 6)
    0.8
    """
    return _checked(
        "probabilities",
        (reference_probabilities, in_mask, target_probabilities, labels),
        (population_reference, population_target, population_labels),
    )


def answers_from_labels(reference_predictions: Any, in_mask: Any, target_predictions: Any, labels: Any) -> Answers:
    """Answers of a black box that gives the predicted class alone; only the signal ``"correct"`` exists.

    Args:
        reference_predictions: integers [M, N, K] or [M, N]; -1 is a missing answer.
        in_mask: bool [M, N].
        target_predictions: integers [N, K] or [N].
        labels: [N].

    Raises:
        DataError: shapes do not fit together, or predictions are not whole numbers.

    >>> answers = answers_from_labels([[1, 0]], np.array([[True, False]]), [1, 1], [1, 0])
    >>> answers.signal("correct").target[:, 0].tolist()
    [1.0, 0.0]
    """
    found = []
    for name, given, axes in (
        ("reference_predictions", reference_predictions, 3),
        ("target_predictions", target_predictions, 2),
    ):
        values = checks.as_array(given)
        if values.dtype.kind not in "iu" and values.size:
            raise DataError(f"{name} are an array of {values.dtype}; whole numbers, the predicted classes, are needed.")
        values = values[..., None] if values.ndim == axes - 1 else values
        if values.ndim != axes:
            raise DataError(
                f"{name} has the shape {values.shape}; {axes} axes (or {axes - 1} for one query) are needed."
            )
        found.append(values[..., None])
    reference, target = found
    known = checks.check_labels(labels, len(target), None)
    if not target.size or (len(reference) and reference.shape[1:] != target.shape):
        raise DataError(
            f"reference_predictions are {reference.shape[:-1]} and target_predictions {target.shape[:-1]}; "
            "[M, N, K] and [N, K] over the same records and queries are needed, with at least one record."
        )
    mask = checks.check_mask(in_mask, (len(reference), len(target)))
    return Answers(reference=reference, in_mask=mask, target=target, labels=known, kind="labels")


def _checked(kind: str, given: tuple[Any, ...], population: tuple[Any, ...]) -> Answers:
    reference, target = _shaped(given[0], given[2], kind, "", "records")
    labels = checks.check_labels(given[3], len(target), target.shape[2])
    mask = checks.check_mask(given[1], (len(reference), len(target)))
    if all(one is None for one in population):
        return Answers(reference=reference, in_mask=mask, target=target, labels=labels, kind=kind)
    if any(one is None for one in population):
        raise DataError(
            "Of the population only some of reference answers, target answers and labels were given; give all three, "
            "or none."
        )
    others, aside = _shaped(population[0], population[1], kind, "population_", "population records")
    if len(others) != len(reference):
        raise DataError(
            f"{len(others)} reference models answered to the population and {len(reference)} to the records; the same "
            "models, in the same order, are needed."
        )
    if aside.shape[2] != target.shape[2]:
        raise DataError(
            f"Answers to the population have {aside.shape[2]} classes, those to the records {target.shape[2]}; "
            "the same are needed."
        )
    return Answers(
        reference=reference,
        in_mask=mask,
        target=target,
        labels=labels,
        population_reference=others,
        population_target=aside,
        population_labels=checks.check_labels(population[2], len(aside), aside.shape[2], "population_labels"),
        kind=kind,
    )


def _shaped(reference: Any, target: Any, kind: str, prefix: str, what: str) -> tuple[Any, np.ndarray]:
    """Reference and target answers with the axis of queries, checked against each other."""
    name = f"{prefix}target_{kind}"
    aside = checks.with_queries(checks.as_array(target), 3, name)
    none = len(reference) == 0
    models = np.empty((0, *aside.shape)) if none else checks.models(reference, f"{prefix}reference_{kind}")
    checks.check_shapes(models, aside, what)
    checks.check_target(aside, name)
    if kind == "logits":
        checks.refuse_probabilities(aside, name)
        if not none:
            checks.refuse_probabilities(checks.as_array(models[0]), f"{prefix}reference_{kind}")
    else:
        checks.check_probabilities(aside, name)
    return models, aside


def _refuse_target_among(reference: np.ndarray, target: np.ndarray) -> None:
    """Raise where the target answers exactly as one of the references, and these differ among themselves."""
    if len(np.unique(target)) < 3:
        return
    alike = np.flatnonzero((reference[:, 0] == target[0]).all(axis=1))
    same = [int(m) for m in alike if np.array_equal(reference[m], target)]
    if same and len(same) < len(reference):
        raise DataError(
            f"The target answers exactly as reference model {same[0]} on all {len(target)} records: it is one of its "
            f"own references. Leave model {same[0]} out, or use as_target({same[0]})."
        )


def _missing(reference: np.ndarray) -> list[Finding]:
    lost = np.isnan(reference)
    count = int(lost.sum())
    if not count:
        return []
    models = int(lost.any(axis=(1, 2)).sum())
    return [
        Finding(
            code="missing-answers",
            severity="warning",
            message=f"{count:,} of {reference.size:,} answers of reference models, in {models} of {len(reference)} "
            "models, are not finite numbers; they are left out.",
            remedy="Find out why: a model that diverged in training should be trained again.",
            value=float(count),
        )
    ]


class _Without(Sequence[Any]):
    """The answers of all models but one, read when asked for."""

    def __init__(self, reference: Any, model: int) -> None:
        self._reference, self._model = reference, model

    def __len__(self) -> int:
        return len(self._reference) - 1

    def __getitem__(self, place: Any) -> Any:
        if not -len(self) <= place < len(self):
            raise IndexError(place)
        place %= len(self)
        return self._reference[place + (place >= self._model)]


class _Taken(Sequence[Any]):
    """The answers of all models to some records, read when asked for."""

    def __init__(self, reference: Any, records: Any) -> None:
        self._reference, self._records = reference, records

    def __len__(self) -> int:
        return len(self._reference)

    def __getitem__(self, place: Any) -> Any:
        return checks.as_array(self._reference[place])[self._records]
