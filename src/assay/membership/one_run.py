"""A lower bound on ε from one training run, of records whose membership was decided by fair coins."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import betainc, expit, gammaln

from ..core.errors import InputError, did_you_mean
from .sides import generator, pair, rate

ENDS = ("both", "high")
SHARES = (0.02, 0.1, 0.5, 1.0)
_LARGEST = 60.0


@dataclass(frozen=True, kw_only=True)
class GuessBound:
    """A lower bound on ε from guesses about the records of one model.

    Args:
        epsilon: the bound; 0 where nothing can be shown.
        guesses: how many records were guessed.
        correct: how many of them rightly.
        records: how many there were to guess.
        ends: ``"both"`` if the lowest scores were guessed to be non-members, ``"high"`` if they were left alone.
        delta: δ.
        level: confidence of the bound.
        candidates: how many numbers of guesses the error was divided among.
    """

    epsilon: float
    guesses: int
    correct: int
    records: int
    ends: str
    delta: float
    level: float
    candidates: int

    def __float__(self) -> float:
        return self.epsilon

    def __str__(self) -> str:
        """One plain sentence."""
        seen = f"{self.correct:,} of {self.guesses:,} guesses about {self.records:,} records are right"
        if self.epsilon == 0:
            return f"{seen}, which shows no ε above 0 at {self.level:.0%} confidence; that is no proof of privacy."
        return (
            f"{seen}: ε is at least {self.epsilon:.3g} at δ = {self.delta:g} with {self.level:.0%} confidence, if a "
            "fair coin decided for each of them whether the model was trained on it."
        )


def epsilon_from_guesses(
    scores: ArrayLike,
    member: ArrayLike,
    guesses: int | Sequence[int] | None = None,
    delta: float = 0.0,
    level: float = 0.95,
    *,
    ends: str = "both",
    seed: int = 0,
) -> GuessBound:
    """The largest ε under which so many right guesses about one model's records would be too lucky.

    The highest scores are guessed to be members, and with ``ends="both"`` as many of the lowest non-members. If a
    fair coin decided for each of m records, apart from the others, whether an (ε, δ)-private training had it, then of
    r guesses at least v are right with a probability of at most

        f(v) + 2 m δ max_i (f(v - i) - f(v)) / i,   f(v) = P(Binomial(r, e^ε / (1 + e^ε)) >= v)

    (Steinke, Nasr and Jagielski, Advances in Neural Information Processing Systems, 2023). Guesses may depend on the
    scores in any way, but not on the labels: ties are broken by ``seed``. Several numbers of guesses share the error.

    Args:
        scores: [N]; larger means more likely a member; NaN are not guessed.
        member: [N] booleans, drawn by fair coins.
        guesses: how many records to guess, or several such numbers stated beforehand; 2, 10, 50 and 100 % by default.
        delta: δ, in [0, 1).
        level: confidence, in (0, 1).
        ends: ``"both"``, or ``"high"`` to guess members alone.
        seed: of the order among ties.

    Cost: one sort, and about 60 sums over the guesses for each number of guesses.

    >>> found = epsilon_from_guesses([1.0] * 500 + [0.0] * 500, [True] * 500 + [False] * 500, guesses=1000)
    >>> found.correct, round(found.epsilon, 1)
    (1000, 5.8)
    """
    values, mask = pair(scores, member)
    rate("level", level, ends=False)
    if not 0 <= delta < 1:
        raise InputError(f"delta is {delta}; a number from 0 to below 1 is needed, such as 1e-5.")
    if ends not in ENDS:
        raise InputError(f"ends is {ends!r}.{did_you_mean(ends, ENDS)}")
    known = np.flatnonzero(~np.isnan(values))
    known = generator(seed).permutation(known)
    ranked = mask[known[np.argsort(values[known], kind="stable")]]
    m = len(ranked)
    counts = _counts(guesses, m)
    error = (1 - level) / len(counts)
    best: tuple[float, int, int] = (-1.0, 0, 0)
    for count in counts:
        low = count // 2 if ends == "both" else 0
        correct = int(ranked[m - (count - low) :].sum() + (~ranked[:low]).sum())
        best = max(best, (_largest(correct, count, m, delta, error), count, correct), key=lambda one: one[0])
    return GuessBound(
        epsilon=best[0],
        guesses=best[1],
        correct=best[2],
        records=m,
        ends=ends,
        delta=delta,
        level=level,
        candidates=len(counts),
    )


def _counts(guesses: int | Sequence[int] | None, m: int) -> list[int]:
    given = sorted({round(share * m) for share in SHARES} - {0}) if guesses is None else np.atleast_1d(guesses).tolist()
    if not given or any(count != int(count) or not 1 <= count <= m for count in given):
        raise InputError(f"guesses is {guesses!r}; whole numbers from 1 to {m}, the records with a score, are needed.")
    return [int(count) for count in given]


def _largest(correct: int, guesses: int, m: int, delta: float, error: float) -> float:
    """The largest ε whose probability of so many right guesses is at most ``error``; any such ε is a valid bound."""
    low, high = 0.0, _LARGEST
    if correct == 0 or _chance(correct, guesses, m, 0.0, delta) > error:
        return 0.0
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (middle, high) if _chance(correct, guesses, m, middle, delta) <= error else (low, middle)
    return low


def _chance(correct: int, guesses: int, m: int, epsilon: float, delta: float) -> float:
    """The largest probability of at least so many right guesses under (ε, δ)."""
    right, wrong = float(expit(epsilon)), float(expit(-epsilon))
    tail = float(betainc(correct, guesses - correct + 1, right))
    if delta == 0:
        return tail
    k = np.arange(correct - 1, -1, -1)
    logs = gammaln(guesses + 1) - gammaln(k + 1) - gammaln(guesses - k + 1)
    masses = np.exp(logs + k * math.log(right) + (guesses - k) * math.log(wrong))
    steepest = float((np.cumsum(masses) / np.arange(1, correct + 1)).max())
    return min(1.0, tail + 2 * m * delta * steepest)
