"""What every watermark scheme answers; detection, generation and the statistics are written against this alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor

    from ..settings import WatermarkSettings

BERNOULLI, EXPONENTIAL = "bernoulli", "exponential"


class Scheme(Protocol):
    """A keyed rule that says, for the ids before a token, which tokens are favoured there.

    An n-gram is ``preceding`` ids and the token that follows them. Under the null, text that knows nothing of the
    key, the score of an n-gram is one draw of Bernoulli(gamma), or of Exp(1).

    Attributes:
        settings: what the scheme was built from; the key is not in it.
        preceding: ids before a token that the n-gram holds. Self-salted schemes hash the token besides.
        least: ids a prompt must have to be marked: ``preceding``, or what the original demands.
        self_salt: whether the token itself is hashed.
        null: ``"bernoulli"`` or ``"exponential"``.
        gamma: chance of a hit under the null; 0.5 for exponential scores, which hit above their median.
        strict: whether a context counts once by default, whatever token follows.
        fixed: whether one list serves every context, so that tokens are drawn from it without replacement.
        green: tokens in a list, where their number is fixed; None where it varies.
    """

    settings: WatermarkSettings
    preceding: int
    least: int
    self_salt: bool
    null: str
    gamma: float
    strict: bool
    fixed: bool
    green: int | None

    def score(self, contexts: np.ndarray, targets: np.ndarray, *, shift: int = 0) -> np.ndarray:
        """Score every n-gram.

        Args:
            contexts: ids before each token, oldest first, int64 [n, preceding].
            targets: the tokens, int64 [n].
            shift: a token t is taken for (t + shift) mod V, by which payloads are embedded.

        Returns:
            bool [n], or float64 [n] for exponential scores.
        """
        ...

    def rows(self, contexts: np.ndarray) -> np.ndarray:
        """What a whole vocabulary would score after each context: bool or float64 [n, V], shift 0.

        Args:
            contexts: int64 [n, preceding]; for a self-salted scheme int64 [n, preceding + 1], the candidate being the
                last id: its own list.
        """
        ...

    def bias(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Marked scores for the next token; the given ones are not changed.

        Args:
            input_ids: int64 [B, T], T at least ``least``.
            scores: [B, V], checked before.
        """
        ...
