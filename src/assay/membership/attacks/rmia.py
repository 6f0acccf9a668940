"""Robust membership inference: how many records that are no members does this record beat?

With p(x | θ) the probability of the true class and p(x) its marginal over models,

    ratio_x = p(x | θ*) / p(x),    score(x) = (1/Z) #{ z : ratio_x / ratio_z > γ }

over Z population records z, on which no model was trained, the target included. The marginals come from the reference
models, averaged over those that are present:

    online     p(x) = ½ (mean_IN p(x) + mean_OUT p(x)),            p(z) = mean p(z)
    offline    p(x) = ½ ((1 + a) mean_OUT p(x) + 1 − a),           p(z) likewise, with the same a

Offline stands on the model p_in = a p_out + 1 − a of models that would have seen the record. All references are OUT for
z. A record that no OUT model knows has p_out = (p_in + a − 1) / a, within [0, 1], with a = 0.3 there for a = 0; one
without IN models online has p(x) = mean_OUT p(x). Everything is done in logarithms, so that no ratio is 0/0.

The score takes one of Z + 1 values: few population records make many ties, and low false positive rates need many.

Queries of a record (``queries``): ``mean`` averages their probabilities before the ratio is made; ``scores`` scores
each query by itself, and averages; ``majority`` counts the z that are beaten by more than half of the queries. z has
one ratio in all of them, of the mean over its own queries.

Cost: one sort of Z numbers and a binary search for each record; no passes of a model.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from ...core.errors import DataError, InputError, SettingError
from ...core.methods import Citation, MethodCard
from ...core.probes import Finding
from ...core.roc import roc
from ...core.settings import option, settings
from ..signals import Answers, Scored, Signals, answers_from

CARD = MethodCard(
    name="rmia",
    kind="inference",
    title="Robust membership inference attack",
    summary="The share of population records whose likelihood ratio the record's own ratio exceeds.",
    settings="RMIA",
    citation=Citation(
        key="zarifzadeh2024lowcost",
        title="Low-Cost High-Power Membership Inference Attacks",
        authors="Zarifzadeh, Sajjad and Liu, Philippe and Shokri, Reza",
        year=2024,
        venue="International Conference on Machine Learning",
        arxiv="2312.03262",
    ),
)

MODES = ("online", "offline")
PROBABILITIES = ("softmax", "taylor")
QUERIES = ("mean", "scores", "majority")
OFFLINE_A = 0.3
GRID = tuple(step / 10 for step in range(11))
_LARGEST = 1e300
_SHARED = ("gamma", "strict", "probability", "temperature", "order", "margin", "queries")


class TunedA(NamedTuple):
    """The offline a that tells the members of mock targets best.

    Args:
        a: the choice; of several equally good ones the smallest.
        grid: what was tried.
        auc: mean area under the ROC of the mock targets, one for each of ``grid``.
    """

    a: float
    grid: tuple[float, ...]
    auc: tuple[float, ...]


@settings
class RMIA:
    """Settings of robust membership inference."""

    mode: str = option(default="online", help="online uses IN and OUT models, offline OUT models only", choices=MODES)
    gamma: float = option(default=1.0, help="by how much a ratio must exceed that of z", above=0)
    offline_a: float | None = option(
        default=None, help="offline only: a of p_in = a p_out + 1 - a; default: 0.3", at_least=0, at_most=1
    )
    tune: bool = option(default=False, help="offline only: choose a on a reference model in the target's place")
    strict: bool = option(default=True, help="a ratio must exceed γ, not equal it")
    probability: str = option(default="softmax", help="how logits become probabilities", choices=PROBABILITIES)
    temperature: float = option(default=1.0, help="logits are divided by it", above=0)
    order: int | None = option(default=None, help="taylor only: order of the polynomial, even; default: 4", at_least=2)
    margin: float | None = option(default=None, help="taylor only: taken from the true logit; default: 0.6")
    queries: str = option(default="mean", help="how several queries of a record become one score", choices=QUERIES)

    def __post_init__(self) -> None:
        if self.mode == "online" and (self.offline_a is not None or self.tune):
            given = f"offline_a is {self.offline_a}" if self.offline_a is not None else "tune is true"
            raise SettingError(f"RMIA.{given} with mode 'online', where it does nothing. Use mode 'offline'.")
        if self.tune and self.offline_a is not None:
            raise SettingError(f"RMIA.tune chooses a, and offline_a is {self.offline_a}. Give one of them.")
        if self.probability != "taylor" and (self.order is not None or self.margin is not None):
            raise SettingError("RMIA.order and RMIA.margin are for probability 'taylor' alone. Leave them out.")
        if self.order is not None and self.order % 2:
            raise SettingError(
                f"RMIA.order is {self.order}; an even number is needed, so that no probability is negative."
            )

    def score(self, answers: Answers) -> Scored:
        """Scores of all records; see the file for the formulas.

        Raises:
            DataError: there is no population, or no reference model.
        """
        population = answers.population
        if population is None:
            raise DataError(
                "RMIA compares records with a population, and none was given. Give the answers of all models to "
                "records that no model was trained on: population_reference, population_target and population_labels. "
                "Without such records use 'lira'."
            )
        if not answers.models:
            raise DataError("RMIA needs at least one reference model, and there is none. Use 'loss' without any.")
        tuned = tune_offline_a(answers, attack=self) if self.tune else None
        a = tuned.a if tuned else OFFLINE_A if self.offline_a is None else self.offline_a
        x, z = self._signal(answers), self._signal(population)
        findings = [*x.findings, *z.findings, *_short(len(population))]
        ratios_x = self._log_ratio(x, a, findings, each=self.queries != "mean")
        ratios_z = self._log_ratio(z, a, [])[:, 0]
        lost = int(np.isnan(ratios_z).sum())
        if lost == len(ratios_z):
            raise DataError("No population record has answers of the target and of a reference model.")
        scores = self._beaten(ratios_x, np.sort(ratios_z[~np.isnan(ratios_z)]))
        return Scored(scores=scores, findings=findings, about=self._about(answers, len(ratios_z) - lost, a, tuned))

    def _signal(self, answers: Answers) -> Signals:
        """Logarithms of the probabilities of the true class."""
        if self.probability == "softmax":
            return answers.signal("log-probability", temperature=self.temperature)
        order, margin = 4 if self.order is None else self.order, 0.6 if self.margin is None else self.margin
        plain = answers.signal("taylor-probability", temperature=self.temperature, order=order, margin=margin)
        return Signals(
            reference=np.log(plain.reference),
            in_mask=plain.in_mask,
            target=np.log(plain.target),
            name=plain.name,
            findings=plain.findings,
        )

    def _log_ratio(self, signals: Signals, a: float, findings: list[Finding], each: bool = False) -> np.ndarray:
        """log p(x | θ*) − log p(x), [N, K] where each query counts for itself, else [N, 1]."""
        reference, target = signals.reference, signals.target[None]
        if not each:
            reference, target = _mean_exp(reference, axis=2)[:, :, None], _mean_exp(target, axis=2)[:, :, None]
        chosen = np.broadcast_to(signals.in_mask[:, :, None], reference.shape)
        p_out, p_in = _mean_exp(reference, 0, ~chosen), _mean_exp(reference, 0, chosen)
        known_in, known_out = ~np.isnan(p_in), ~np.isnan(p_out)
        with np.errstate(divide="ignore", invalid="ignore"):
            if self.mode == "online":
                both = np.logaddexp(p_in, p_out) - math.log(2)
                marginal = np.where(known_in, np.where(known_out, both, p_in), p_out)
            else:
                inverse = a if a > 0 else OFFLINE_A
                guessed = np.log(np.clip((np.exp(p_in) + inverse - 1) / inverse, 0.0, 1.0))
                p_out = np.where(known_out, p_out, guessed)
                marginal = np.logaddexp(math.log1p(a) + p_out, np.log(1 - a)) - math.log(2)
        findings.extend(self._unbalanced(known_in, known_out))
        return np.asarray(target[0] - np.maximum(marginal, -_LARGEST))

    def _beaten(self, ratios: np.ndarray, population: np.ndarray) -> np.ndarray:
        """Shares of the population below ratio / γ, [N]."""
        limit = ratios - math.log(self.gamma)
        if self.queries == "majority":
            rank = ratios.shape[1] - 1 - ratios.shape[1] // 2
            lost = np.isnan(limit).any(axis=1, keepdims=True)
            limit = np.where(lost, np.nan, np.sort(limit, axis=1)[:, rank : rank + 1])
        shares = np.searchsorted(population, limit, side="left" if self.strict else "right") / len(population)
        return np.asarray(np.where(np.isnan(limit), np.nan, shares).mean(axis=1))

    def _unbalanced(self, known_in: np.ndarray, known_out: np.ndarray) -> list[Finding]:
        sides = [("OUT", known_out)] + ([("IN", known_in)] if self.mode == "online" else [])
        found = []
        for name, known in sides:
            none = int((~known).any(axis=1).sum())
            if none:
                found.append(
                    Finding(
                        code=f"few-{name.lower()}-models",
                        severity="warning",
                        message=f"{none:,} of {len(known):,} records have no {name} model; their marginal is made from "
                        "the other models alone.",
                        remedy="Train more reference models, each on a random half of the records.",
                        value=float(none),
                    )
                )
        return found

    def _about(self, answers: Answers, population: int, a: float, tuned: TunedA | None) -> str:
        chosen = f", a = {a:g}{' (tuned on a mock target)' if tuned else ''}" if self.mode == "offline" else ""
        queries = f", {answers.queries} queries ({self.queries})" if answers.queries > 1 else ""
        sign = ">" if self.strict else ">="
        return (
            f"RMIA {self.mode}{chosen}: share of {population} population records with a ratio of ratios {sign} "
            f"{self.gamma:g}, {self.probability} probabilities at temperature {self.temperature:g}{queries}, "
            f"{answers.models} reference models."
        )


def rmia_scores(
    reference_logits: Any,
    in_mask: Any,
    target_logits: Any,
    labels: Any,
    population_reference_logits: Any,
    population_target_logits: Any,
    population_labels: Any,
    mode: str = "online",
    gamma: float = 1.0,
    offline_a: float = OFFLINE_A,
    *,
    strict: bool = True,
    temperature: float = 1.0,
    queries: str = "mean",
) -> np.ndarray:
    """RMIA scores of N records; the formulas stand at the top of :mod:`assay.membership.attacks.rmia`.

    Args:
        reference_logits: [M, N, K, C] or [M, N, C] answers of M reference models.
        in_mask: bool [M, N], true where a model was trained with the record.
        target_logits: [N, K, C] or [N, C].
        labels: [N], in 0..C-1.
        population_reference_logits: [M, Z, K, C] or [M, Z, C] answers to records that no model was trained on.
        population_target_logits: [Z, K, C] or [Z, C].
        population_labels: [Z].
        mode: ``"online"`` (IN and OUT models) or ``"offline"`` (OUT models only).
        gamma: by how much a ratio must exceed that of a population record; above 0.
        offline_a: a of the offline marginal, in [0, 1]; nothing online. :func:`tune_offline_a` finds one.
        strict: a ratio must exceed ``gamma``, not equal it.
        temperature: logits are divided by it.
        queries: ``"mean"``, ``"scores"`` or ``"majority"``.

    Returns:
        float64 [N], multiples of 1/Z in [0, 1] (for one query); larger means more likely a member.

    Raises:
        DataError: answers, mask and labels do not fit together.
        SettingError: a setting is not allowed.

    Cost: no passes of a model; 8 bytes of memory for each of M (N + Z) K answers, about three times.

    Zarifzadeh et al. 2024 (arXiv 2312.03262).

    >>> sure, unsure, none = [2.0, 0.5], [0.5, 0.25], [0.0, 0.5]
    >>> rmia_scores(
    ...     [[unsure, unsure]], np.array([[False, False]]), [sure, none], [0, 0],
    ...     [[unsure, unsure]], [unsure, sure], [0, 0], mode="offline", offline_a=1.0,
    ... ).tolist()
    [0.5, 0.0]
    """
    if mode != "offline":
        RMIA(mode="offline", offline_a=offline_a)
    attack = RMIA(
        mode=mode,
        gamma=gamma,
        offline_a=offline_a if mode == "offline" else None,
        strict=strict,
        temperature=temperature,
        queries=queries,
    )
    answers = answers_from(
        reference_logits,
        in_mask,
        target_logits,
        labels,
        population_reference=population_reference_logits,
        population_target=population_target_logits,
        population_labels=population_labels,
    )
    return attack.score(answers).scores


def tune_offline_a(
    answers: Answers, *, mocks: Sequence[int] = (0,), grid: Sequence[float] = GRID, attack: RMIA | None = None
) -> TunedA:
    """The a of the offline marginal with the largest AUC on mock targets: reference models whose members are known.

    The mock takes the target's place for the records and for the population alike; the other models are its
    references. The real target is not looked at.

    Args:
        answers: with a population, and at least two reference models.
        mocks: reference models that play the target, one after the other; their AUCs are averaged.
        grid: values in [0, 1] to try.
        attack: other settings; by default those of ``RMIA(mode="offline")``.

    Raises:
        InputError: there are fewer than two models, or a mock was trained with all of the records or with none.

    Cost: one offline attack for each of ``grid`` and ``mocks``.
    """
    if answers.models < 2:
        raise InputError(
            f"Tuning a needs a reference model as a mock target and another as its reference; there are "
            f"{answers.models}. Train more, or give offline_a (0.3 is usual)."
        )
    base = {} if attack is None else {name: getattr(attack, name) for name in _SHARED}
    areas = np.zeros((len(mocks), len(grid)))
    for row, mock in enumerate(mocks):
        target = answers.as_target(mock)
        member = answers.in_mask[mock]
        if member.all() or not member.any():
            raise InputError(
                f"Reference model {mock} was trained with {'all' if member.any() else 'none'} of the records, and "
                "cannot be a mock target. Choose another in mocks."
            )
        for column, a in enumerate(grid):
            scored = RMIA(mode="offline", offline_a=a, **base).score(target)
            areas[row, column] = roc(scored.scores, member).auc
    mean = areas.mean(axis=0)
    return TunedA(a=float(grid[int(mean.argmax())]), grid=tuple(map(float, grid)), auc=tuple(map(float, mean)))


def _mean_exp(values: np.ndarray, axis: int, chosen: np.ndarray | None = None) -> np.ndarray:
    """log of the mean of exp(values) over those chosen that are not NaN; NaN where there are none."""
    present = ~np.isnan(values) if chosen is None else chosen & ~np.isnan(values)
    kept = np.where(present, values, -np.inf)
    top = kept.max(axis=axis, keepdims=True)
    shift = np.where(np.isfinite(top), top, 0.0)
    kept -= shift
    np.exp(kept, out=kept)
    count = present.sum(axis=axis)
    with np.errstate(divide="ignore", invalid="ignore"):
        found = np.log(kept.sum(axis=axis) / count) + np.squeeze(shift, axis=axis)
    return np.asarray(np.where(count > 0, found, np.nan))


def _short(population: int) -> list[Finding]:
    if population >= 1000:
        return []
    return [
        Finding(
            code="small-population",
            severity="warning",
            message=f"RMIA compares with {population:,} population records: scores are multiples of 1/{population:,}, "
            "and ties hide what happens at low false positive rates.",
            remedy="Give at least 1,000 records that no model was trained on.",
            value=float(population),
        )
    ]
