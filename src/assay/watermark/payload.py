"""Read the message a mark carries: every message is a cyclic shift of the green set, and one pass scores them all."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from ..core.errors import DataError, SettingError
from .detection import Detection, score_texts
from .ngrams import as_ids
from .schemes.base import EXPONENTIAL
from .statistics import Null, normal_tail
from .theory import TYPICAL_CHOICES

if TYPE_CHECKING:
    from .schemes.base import Scheme

_CELLS = 1 << 24  # of a table of whole vocabularies at a time


class Decoded(Detection):
    """The most likely message of a text, and whether there is any.

    Attributes:
        payload: the message; of equal scores the smallest.
        messages: how many were tried. p-values are corrected for them.
        runner_up: score of the second best message.
        scores: score of every message, [messages].
    """

    __slots__ = ("messages", "runner_up", "scores")

    messages: int
    runner_up: float
    scores: np.ndarray

    def tokens_needed(self, fpr: float = 1e-6, *, choices: float = TYPICAL_CHOICES, power: float = 0.5) -> float:
        """As for any detection, at the level that is left for one message."""
        return super().tokens_needed(fpr / self.messages, choices=choices, power=power)


def decode(
    scheme: Scheme,
    ids: Any,
    *,
    bits: int | None = None,
    unique_ngrams: bool = True,
    strict: bool | None = None,
) -> Decoded:
    """Find the message whose shift of the green set fits a text best.

    Text that carries message m is green where ``(t + m) mod V`` is in the list. With M messages the p-value is
    ``min(1, M p)``, p the exact one of the best message (the union bound): it is valid although the best was chosen.

    Args:
        scheme: the keyed rule; its settings say the length of the payload.
        ids: as for ``detect``.
        bits: length of the payload, 1 to 24; None: ``payload_bits`` of the settings.
        unique_ngrams, strict: as for ``detect``.

    Raises:
        SettingError: there are more messages than the vocabulary can be shifted by.

    >>> from assay.watermark import Watermark
    >>> mark = Watermark("unigram", vocab_size=256, key=7, payload=42)
    >>> decode(mark.scheme, mark.green_ids([])[:40]).payload
    42
    """
    settings = scheme.settings
    bits = settings.payload_bits if bits is None else bits
    if not 1 <= bits <= 24:
        raise SettingError(f"bits is {bits}; payloads have 1 to 24 bits.")
    messages = 1 << bits
    if messages > settings.vocab_size:
        raise SettingError(
            f"bits is {bits}: {messages} messages, but a vocabulary of {settings.vocab_size} has only as many shifts. "
            f"At most {settings.vocab_size.bit_length() - 1} bits fit."
        )
    null = Null.of(scheme)
    made = score_texts(scheme, [as_ids(ids)], unique_ngrams=unique_ngrams, strict=strict, shift=0, independent=True)
    contexts, targets = made.ngrams.contexts[made.counted], made.ngrams.targets[made.counted]
    scores = message_scores(scheme, contexts, targets, messages)
    best = int(np.argmax(scores))
    others = np.delete(scores, best)
    count = np.array([float(len(targets))])
    values = np.asarray(scheme.score(made.ngrams.contexts, made.ngrams.targets, shift=best))
    score = np.bincount(made.ngrams.texts, values * made.counted, 1)
    log_p, z = 0.0, 0.0
    if len(targets):
        log_p = min(0.0, float(null.log_tail(score, count, distinct=made.distinct)[0]) + bits * math.log(2.0))
        z = float(null.z(score, count)[0])
    hits = null.hits(values)
    green = int((hits & made.counted).sum())
    found = Decoded(
        null,
        z,
        log_p,
        min(1.0, float(normal_tail(z)) * messages) if len(targets) else 1.0,
        score.item() if null.kind == EXPONENTIAL else green,
        green,
        len(targets),
        hits,
        made.counted,
        values if null.kind == EXPONENTIAL else None,
        scheme.preceding,
        best,
    )
    found.messages, found.scores = messages, scores
    found.runner_up = float(others.max())
    return found


def message_scores(scheme: Scheme, contexts: np.ndarray, targets: np.ndarray, messages: int) -> np.ndarray:
    """Score of every message: sums over n-grams, [messages].

    Where a list must be made to test one token, it is made once for each distinct context and read at all shifts;
    otherwise single tokens are scored, one shift after another.

    Raises:
        DataError: the scheme returned rows of another width than its vocabulary.
    """
    if scheme.green is None:
        return np.array([scheme.score(contexts, targets, shift=m).sum() for m in range(messages)])
    size = scheme.settings.vocab_size
    given = np.concatenate([contexts, targets[:, None]], axis=1) if scheme.self_salt else contexts
    if given.shape[1]:
        distinct, which = np.unique(given, axis=0, return_inverse=True)
    else:
        distinct, which = given[:1], np.zeros(len(given), dtype=np.int64)
    order = np.argsort(which.reshape(-1), kind="stable")
    edges = np.searchsorted(which.reshape(-1)[order], np.arange(len(distinct) + 1))
    shifts = np.arange(messages)
    scores = np.zeros(messages, dtype=np.int64)
    step = max(1, _CELLS // size)
    for start in range(0, len(distinct), step):
        rows = scheme.rows(distinct[start : start + step])
        if rows.shape[1] != size:
            raise DataError(f"The scheme made rows of {rows.shape[1]} tokens for a vocabulary of {size}.")
        for i, row in enumerate(rows, start=start):
            tokens = targets[order[edges[i] : edges[i + 1]]]
            doubled = np.concatenate([row, row[:messages]]).view(np.uint8)
            if len(tokens) * 8 < messages:
                for token in tokens.tolist():
                    scores += doubled[token : token + messages]
            else:
                scores += doubled[(tokens[:, None] + shifts)].sum(axis=0, dtype=np.int64)
    return scores
