"""Philox uniforms: a counter-based green test that is the same on every device and needs no list.

The context is folded into a state of four words; the state and the key encrypt a token's number into its uniform.
One call of Philox4x32-10 (Salmon et al., 2011, "Parallel random numbers: as easy as 1, 2, 3") serves four tokens.
"""

from __future__ import annotations

import numpy as np

from . import checks, plain
from .backends import native, over_rows

PART = 1 << 14
"""Rows that are worth a thread of their own, where a row is one call."""


def philox_states(contexts: np.ndarray, key: int) -> np.ndarray:
    """Fold every context into four words.

    Args:
        contexts: the ids before a token, oldest first, int64 [n, W]; -1 where there is none.
        key: 0 to 2^64 - 1.

    Returns:
        uint32 [n, 4]. Cost: ceil(W / 4) calls of Philox a row.

    >>> import numpy as np
    >>> philox_states(np.array([[1, 2, 3, 4]]), 5).shape
    (1, 4)
    """
    contexts, key = checks.array("contexts", contexts, np.int64, (None, None)), checks.key(key)
    out = np.empty((len(contexts), 4), dtype=np.uint32)
    if (run := native()) is None:
        plain.philox_states(contexts, key, out)
        return out
    width = contexts.shape[1]
    over_rows(lambda a, b: run("philox_states", contexts[a:b], b - a, width, key, out[a:b]), len(out), PART)
    return out


def philox_uniforms(states: np.ndarray, tokens: np.ndarray, key: int) -> np.ndarray:
    """The uniform of one token after each context: ((word >> 8) + 1) / (2^24 + 1), within (0, 1).

    Args:
        states: uint32 [n, 4] of `philox_states`.
        tokens: ids, int64 [n], 0 to 2^31 - 2.
        key: the key of the states.

    Returns:
        float32 [n]. A token is green iff its uniform is below gamma, compared as float32.
    """
    states, key = checks.array("states", states, np.uint32, (None, 4)), checks.key(key)
    tokens = checks.array("tokens", tokens, np.int64, (len(states),))
    checks.ids("tokens", tokens, checks.MOST_TOKENS)
    out = np.empty(len(tokens), dtype=np.float32)
    if (run := native()) is None:
        plain.philox_uniforms(states, tokens, key, out)
        return out
    over_rows(lambda a, b: run("philox_uniforms", states[a:b], tokens[a:b], b - a, key, out[a:b]), len(out), PART)
    return out


def philox_rows(states: np.ndarray, vocab_size: int, key: int) -> np.ndarray:
    """The uniforms of a whole vocabulary after each context.

    Args:
        states: uint32 [n, 4] of `philox_states`.
        vocab_size: V, 1 to 2^31 - 1.
        key: the key of the states.

    Returns:
        float32 [n, V].
    """
    states, key = checks.array("states", states, np.uint32, (None, 4)), checks.key(key)
    vocab_size = checks.whole("vocab_size", vocab_size, 1, checks.MOST_TOKENS)
    out = np.empty((len(states), vocab_size), dtype=np.float32)
    if (run := native()) is None:
        plain.philox_rows(states, key, out)
        return out
    over_rows(lambda a, b: run("philox_rows", states[a:b], b - a, vocab_size, key, out[a:b]), len(out))
    return out


def add_philox_green(
    scores: np.ndarray, states: np.ndarray, key: int, gamma: float, delta: float, shift: int = 0
) -> None:
    """Add ``delta`` to the scores of tokens whose uniform is below gamma, in place.

    Args:
        scores: float32 [B, V], contiguous; changed.
        states: uint32 [B, 4] of `philox_states`.
        key: the key of the states.
        gamma: 0 to 1, compared as float32.
        delta: what is added, as float32.
        shift: token t is green iff (t + shift) mod V is.
    """
    states, key = checks.array("states", states, np.uint32, (None, 4)), checks.key(key)
    scores = checks.scores(scores, len(states))
    vocab_size, limit = scores.shape[1], green_limit(gamma)
    shift %= max(1, vocab_size)
    if (run := native()) is None:
        plain.add_philox_green(scores, states, key, limit, np.float32(delta), shift)
        return

    def part(a: int, b: int) -> None:
        run("add_philox_green", scores[a:b], states[a:b], b - a, vocab_size, key, limit, shift, float(delta))

    over_rows(part, len(scores))


def green_limit(gamma: float) -> int:
    """How many values of word >> 8 give a uniform below gamma.

    The uniform of m = (word >> 8) + 1 is m / (2^24 + 1) rounded to float32, which is the float just below m / 2^24:
    the exact quotient is smaller than m / 2^24 by m / 2^48 (1 - …), between half a step and a step of float32 there.
    So it is below gamma iff m <= 2^24 gamma.

    >>> green_limit(0.25)
    4194304
    """
    return int(np.float32(gamma) * np.float32(2**24))
