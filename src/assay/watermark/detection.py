"""Whether texts carry a mark: the score of every n-gram, z, and the exact p-value."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ..core.errors import DataError, SettingError
from .ngrams import Ngrams, as_ids, counted_once, distinct_lookups, ngrams_of
from .schemes.base import EXPONENTIAL
from .statistics import Null, normal_tail
from .theory import TYPICAL_CHOICES, choices_entropy, tokens_needed, tokens_needed_gumbel
from .weighting import weighted_log_tail

if TYPE_CHECKING:
    from .schemes.base import Scheme

BLOCK = 1 << 18
"""Tokens that are scored at once: many short texts share the cost of a call, long corpora stay in bounded memory."""
_LN10 = math.log(10.0)


class Detection:
    """What one text says about one mark. Holds no key.

    Attributes:
        z: score above its mean under the null, in standard deviations; 0 without n-grams.
        p_value_normal: chance by the normal approximation, as published; far too small for short texts.
        score: sum over what counted: the green ones, or for exponential scores their sum.
        green: hits among the n-grams that counted.
        scored: how many n-grams counted.
        mask: whether each n-gram is a hit, in text order, repeats included, bool [n].
        counted: which n-grams counted, bool [n].
        values: the score of each n-gram, float64 [n].
        offset: the token of n-gram i is ``ids[i + offset]``.
        payload: the message the mark carries, if any was read or is part of the settings.
    """

    __slots__ = (
        "_log_p",
        "_null",
        "_values",
        "counted",
        "green",
        "mask",
        "offset",
        "p_value_normal",
        "payload",
        "score",
        "scored",
        "z",
    )

    def __init__(
        self,
        null: Null,
        z: float,
        log_p: float,
        p_value_normal: float,
        score: float,
        green: int,
        scored: int,
        mask: np.ndarray,
        counted: np.ndarray,
        values: np.ndarray | None,
        offset: int,
        payload: int | None = None,
    ) -> None:
        self._null, self._values, self._log_p = null, values, log_p
        self.z, self.p_value_normal = z, p_value_normal
        self.score, self.green, self.scored = score, green, scored
        self.mask, self.counted, self.offset, self.payload = mask, counted, offset, payload

    @property
    def log_p(self) -> float:
        """Natural logarithm of the p-value."""
        return self._log_p

    @property
    def log10_p(self) -> float:
        """Decimal logarithm of the p-value: finite where the p-value itself underflows to 0."""
        return self.log_p / _LN10

    @property
    def p_value(self) -> float:
        """Exact chance that text without the mark scores as high; 1 without n-grams."""
        return math.exp(self.log_p)

    @property
    def green_fraction(self) -> float:
        """Share of hits among the n-grams that counted; 0 without any."""
        return self.green / self.scored if self.scored else 0.0

    @property
    def values(self) -> np.ndarray:
        """The score of each n-gram in text order, repeats included, float64 [n]."""
        return self.mask.astype(np.float64) if self._values is None else self._values

    def tokens_needed(self, fpr: float = 1e-6, *, choices: float = TYPICAL_CHOICES, power: float = 0.5) -> float:
        """How many n-grams must count before marked text is found with chance ``power``; ``math.inf`` if never.

        By theorem 4.2 (``theory.tokens_needed``) for text in which every token is chosen as if among ``choices``
        equally likely ones. The default is the paper's average for news text; code and quotations offer less.

        Args:
            fpr: false positive rate of the detection, in (0, 1).
            choices: at least 1.
            power: in (0, 1).
        """
        null = self._null
        if null.kind == EXPONENTIAL:
            return tokens_needed_gumbel(choices, fpr=fpr, power=power)
        entropy = choices_entropy(choices, null.gamma, null.delta)
        return tokens_needed(null.gamma, null.delta, entropy, fpr=fpr, power=power)

    def enough(self, fpr: float = 1e-6) -> bool:
        """Whether as many n-grams counted as a detection at ``fpr`` needs: ``scored >= tokens_needed(fpr)``."""
        return self.scored >= self.tokens_needed(fpr)

    def verdict(self, fpr: float = 1e-6) -> str:
        """``"marked"`` if the p-value is at most ``fpr``; else ``"not marked"``, or ``"not enough tokens"``.

        A text that shows no mark tells nothing if marked text of its length would be missed in more than half of
        all cases: that is "not enough tokens", and ``tokens_needed(fpr)`` says how many there should be.
        """
        if self._at_most(fpr):
            return "marked"
        return "not marked" if self.enough(fpr) else "not enough tokens"

    def as_dict(self) -> dict[str, Any]:
        """The numbers, without the arrays; what a JSON record holds."""
        names = ("z", "p_value", "p_value_normal", "log10_p", "green", "scored", "green_fraction", "payload")
        return {name: getattr(self, name) for name in names}

    def _at_most(self, fpr: float) -> bool:
        if not 0 < fpr < 1:
            raise SettingError(f"fpr is {fpr}; a false positive rate above 0 and below 1 is needed, such as 1e-6.")
        return self.log10_p <= math.log10(fpr)

    def __repr__(self) -> str:
        shown = f"z={self.z:.2f}, p_value={self.p_value:.3g}, green={self.green}, scored={self.scored}"
        return f"{type(self).__name__}({shown}{'' if self.payload is None else f', payload={self.payload}'})"


@dataclass(frozen=True, slots=True)
class Scores:
    """The scores of a block of texts, before they are summed.

    Attributes:
        ngrams: of all texts.
        values: score of every n-gram, bool or float64 [n].
        hits: bool [n].
        counted: bool [n].
        distinct: whether no token counted twice in a text although one list serves every context.
    """

    ngrams: Ngrams
    values: np.ndarray
    hits: np.ndarray
    counted: np.ndarray
    distinct: bool


def detect(
    scheme: Scheme,
    ids: Any,
    *,
    unique_ngrams: bool = True,
    strict: bool | None = None,
    entropies: Any = None,
    weights: Any = None,
    entropy_threshold: float | None = None,
) -> Detection:
    """Tell whether one text carries the mark of a scheme.

    With g green among T n-grams that count, ``z = (g - γT) / sqrt(γ(1-γ)T)``, and the p-value is
    ``P(X >= g)`` for X ~ Binomial(T, γ); hypergeometric where one list serves every context and each token counts
    once; for exponential scores ``P(Gamma(T, 1) >= Σ -ln(1-u))``. Different n-grams may look the same token up in the
    same list (selfhash, minhash, skipgram: the list hangs on few of the ids) and then score alike: green and scored
    count them all, as published, and the p-value only the first. A binomial of all would call real text marked several
    times too often there.

    Args:
        scheme: the keyed rule.
        ids: token ids without the prompt and without a leading BOS: list, array or tensor [T] (or [1, T]).
        unique_ngrams: count each n-gram once. Without it repetitions make p-values too small.
        strict: count each context once, whatever token follows, and each token once in each list, where different
            contexts lead to one list. None: as is usual for the scheme, which is without for those that published code
            counts without.
        entropies: float [T], entropy of the distribution each token was drawn from; tokens below the threshold do not
            count, nor do those where it is NaN.
        weights: float [T], >= 0: how much each token counts. Then z and p-value are those of the weighted sum.
        entropy_threshold: replaces that of the settings.

    Returns:
        The evidence. Cost: the scheme's score of every n-gram; O(T) besides.

    Raises:
        DataError: ids, entropies or weights cannot be used.
        SettingError: options that contradict each other.

    >>> from assay.watermark import Watermark
    >>> scheme = Watermark("unigram", vocab_size=100, gamma=0.5, key=7).scheme
    >>> green = [token for token in range(100) if scheme.rows(np.zeros((1, 0), dtype=np.int64))[0, token]]
    >>> found = detect(scheme, green[:30])
    >>> found.green, found.scored, found.verdict(), f"{found.p_value:.1e}"
    (30, 30, 'marked', '1.6e-12')
    """
    options = (unique_ngrams, strict, entropy_threshold)
    return _block(scheme, [as_ids(ids)], 0, *options, _one(entropies), _one(weights))[0]


def detect_many(
    scheme: Scheme,
    texts: Iterable[Any],
    *,
    unique_ngrams: bool = True,
    strict: bool | None = None,
    entropies: Iterable[Any] | None = None,
    weights: Iterable[Any] | None = None,
    entropy_threshold: float | None = None,
) -> list[Detection]:
    """``detect`` for many texts of any lengths, in the order given; results do not depend on what else is there.

    Args:
        scheme: the keyed rule.
        texts: each as for ``detect``.
        entropies, weights: one array for each text.
        unique_ngrams, strict, entropy_threshold: as for ``detect``.

    >>> from assay.watermark import Watermark
    >>> scheme = Watermark("philox", vocab_size=100, key=7).scheme
    >>> [found.scored for found in detect_many(scheme, [[1, 2, 3, 4, 5, 6], [], (1, 2, 3, 4, 5)])]
    [2, 0, 1]
    """
    return list(
        detect_stream(
            scheme,
            texts,
            unique_ngrams=unique_ngrams,
            strict=strict,
            entropies=entropies,
            weights=weights,
            entropy_threshold=entropy_threshold,
        )
    )


def detect_stream(
    scheme: Scheme,
    texts: Iterable[Any],
    *,
    unique_ngrams: bool = True,
    strict: bool | None = None,
    entropies: Iterable[Any] | None = None,
    weights: Iterable[Any] | None = None,
    entropy_threshold: float | None = None,
) -> Iterator[Detection]:
    """``detect_many`` one after another, with about ``BLOCK`` tokens in memory at a time."""
    options = (unique_ngrams, strict, entropy_threshold)
    along, heavy = _beside(entropies, "entropies"), _beside(weights, "weights")
    waiting: list[np.ndarray] = []
    beside: tuple[list[Any] | None, list[Any] | None] = (
        None if along is None else [],
        None if heavy is None else [],
    )
    size = first = 0
    for number, ids in enumerate(texts):
        waiting.append(as_ids(ids, name=f"ids of text {number}"))
        for one, source in zip(beside, (along, heavy), strict=True):
            if one is not None and source is not None:
                one.append(_next(source, number))
        size += len(waiting[-1])
        if size >= BLOCK:
            yield from _block(scheme, waiting, first, *options, *beside)
            first, size = number + 1, 0
            waiting, beside = [], (beside[0] and [], beside[1] and [])
    if waiting:
        yield from _block(scheme, waiting, first, *options, *beside)


def score_texts(
    scheme: Scheme,
    texts: list[np.ndarray],
    *,
    unique_ngrams: bool = True,
    strict: bool | None = None,
    among: list[np.ndarray] | None = None,
    first: int = 0,
    shift: int | None = None,
    independent: bool = False,
) -> Scores:
    """Score every n-gram of a block of texts and tell which count: the part all detections share.

    Args:
        scheme: the keyed rule.
        texts: from ``as_ids``.
        unique_ngrams, strict: as for ``detect``.
        among: for each text bool [T], the tokens that may count.
        first: number of the first text, for messages.
        shift: as for ``Scheme.score``; None: that of the payload in the settings.
        independent: of n-grams that look the same token up in the same list only the first counts; strict implies it.
    """
    if strict and not unique_ngrams:
        raise SettingError("strict is True and unique_ngrams False; strict says which n-grams are the same one.")
    ngrams = ngrams_of(texts, scheme.preceding, scheme.settings.vocab_size, first=first)
    values = scheme.score(ngrams.contexts, ngrams.targets, shift=scheme.settings.shift if shift is None else shift)
    allowed = None if among is None else _per_ngram(among, ngrams)
    if unique_ngrams:
        strict = bool(scheme.strict) if strict is None else strict
        counted = counted_once(ngrams, strict=strict, among=allowed)
        lists = _lists(scheme, ngrams) if strict or independent else None
        if lists is not None:
            counted = distinct_lookups(ngrams, lists, counted)
    else:
        counted = np.ones(len(ngrams), dtype=bool) if allowed is None else allowed
    distinct = unique_ngrams and not ngrams.preceding
    return Scores(ngrams, values, Null.of(scheme).hits(values), counted, distinct)


def _block(
    scheme: Scheme,
    texts: list[np.ndarray],
    first: int,
    unique_ngrams: bool,
    strict: bool | None,
    threshold: float | None,
    entropies: list[Any] | None,
    weights: list[Any] | None,
) -> list[Detection]:
    """Detections of a block of texts: one pass over its n-grams, and no work a text that could be done for all."""
    null = Null.of(scheme)
    among = None
    if entropies is not None:
        threshold = scheme.settings.entropy_threshold if threshold is None else threshold
        if threshold is None:
            raise SettingError("entropies need a threshold: set entropy_threshold, or pass weights instead.")
        among = [row >= threshold for row in _floats("entropies", entropies, texts, first)]
    elif threshold is not None:
        raise SettingError("entropy_threshold is given without entropies; give one for each token.")
    made = score_texts(
        scheme,
        texts,
        unique_ngrams=unique_ngrams,
        strict=strict,
        among=among,
        first=first,
        independent=weights is not None,
    )
    bounds, offset, payload = made.ngrams.bounds, scheme.preceding, scheme.settings.payload
    scored = _sums(made.counted, bounds)
    green = _sums(made.counted & made.hits, bounds)
    exponential = null.kind == EXPONENTIAL
    score = np.bincount(made.ngrams.texts, made.values * made.counted, len(texts)) if exponential else green
    if weights is None:
        z, evidence = null.z(score, scored), (score, scored)
        lists = _lists(scheme, made.ngrams) if unique_ngrams else None
        if lists is not None:
            once = distinct_lookups(made.ngrams, lists, made.counted)
            evidence = (_sums(once & made.hits, bounds), _sums(once, bounds))
        log_p = _log_tails(null, *evidence, made.distinct)
    else:
        score, z, log_p = _weighted(null, made, _floats("weights", weights, texts, first))
    columns = (z, log_p, normal_tail(z), score, green, scored)
    if not (scored > 0).all():
        empty = scored == 0
        for column, value in zip(columns[:3], (0.0, 0.0, 1.0), strict=True):
            column[empty] = value
    found = []
    edges = bounds.tolist()
    for i, (above, log, normal, total, hits, count) in enumerate(zip(*(one.tolist() for one in columns), strict=True)):
        part = slice(edges[i], edges[i + 1])
        values = made.values[part].copy() if exponential else None
        mask, counted = made.hits[part].copy(), made.counted[part].copy()
        numbers = (above, log, normal, total, hits, count)
        found.append(Detection(null, *numbers, mask, counted, values, offset, payload))
    return found


def _log_tails(null: Null, score: np.ndarray, count: np.ndarray, distinct: bool) -> np.ndarray:
    """Exact tails; of hits, each (score, count) once."""
    if null.kind == EXPONENTIAL or len(score) < 32:
        return null.log_tail(score, count, distinct=distinct)
    width = int(score.max()) + 1
    pairs, inverse = np.unique(count * width + score, return_inverse=True)
    return null.log_tail(pairs % width, pairs // width, distinct=distinct)[inverse]


def _lists(scheme: Scheme, ngrams: Ngrams) -> np.ndarray | None:
    """Seed of the list each n-gram is looked up in; None where distinct n-grams always mean distinct lookups."""
    seeds = getattr(scheme, "seeds", None)
    if seeds is None or scheme.preceding + scheme.self_salt < 2:
        return None
    found: np.ndarray = seeds(ngrams.rows if scheme.self_salt else ngrams.contexts)
    return found


def _weighted(null: Null, made: Scores, weights: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    heavy = _per_ngram(weights, made.ngrams)
    score, z, log_p = (np.zeros(len(weights)) for _ in range(3))
    for i in range(len(weights)):
        part = slice(made.ngrams.bounds[i], made.ngrams.bounds[i + 1])
        chosen = made.counted[part]
        score[i], z[i], log_p[i] = weighted_log_tail(null, made.values[part][chosen], heavy[part][chosen])
    return score, z, log_p


def _sums(flags: np.ndarray, bounds: np.ndarray) -> np.ndarray:
    return np.diff(np.concatenate([[0], np.cumsum(flags)])[bounds])


def _per_ngram(rows: list[np.ndarray], ngrams: Ngrams) -> np.ndarray:
    """Values of the tokens that n-grams end with, all texts after one another."""
    return np.concatenate([row[ngrams.preceding :] for row in rows]) if rows else np.zeros(0, dtype=bool)


def _floats(name: str, rows: list[Any], texts: list[np.ndarray], first: int) -> list[np.ndarray]:
    """One row of numbers a text, one number a token."""
    found = []
    for number, (values, text) in enumerate(zip(rows, texts, strict=True), start=first):
        if hasattr(values, "detach"):
            values = values.detach().cpu().double().numpy()
        try:
            row = np.asarray(values, dtype=np.float64).reshape(-1)
        except (TypeError, ValueError):
            raise DataError(f"{name} of text {number} are no numbers; one for each token is needed.") from None
        if len(row) != len(text):
            raise DataError(
                f"{name} of text {number} are {len(row)} for {len(text)} ids; one for each token is needed."
            )
        found.append(row)
    return found


def _one(values: Any) -> list[Any] | None:
    return None if values is None else [values]


def _beside(values: Iterable[Any] | None, name: str) -> Iterator[Any] | None:
    return None if values is None else iter(values)


def _next(source: Iterator[Any], number: int) -> Any:
    try:
        return next(source)
    except StopIteration:
        raise DataError(f"There are fewer entropies or weights than texts: none for text {number}.") from None
