"""Philox uniforms in torch, on the device where ids and scores are: the same bits as the kernel gives on a CPU.

A 32-bit word lives in an int64. The 64-bit products wrap around, which is their value modulo 2^64: all that is read of
them. On a CPU the kernel itself is some hundred times as fast.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ...core.errors import DataError
from . import checks
from .plain import STATE, TOKEN, WEYL

LOW = 0xFFFFFFFF
MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)

Words = tuple[Tensor, Tensor, Tensor, Tensor]


def philox_states(contexts: Tensor, key: int) -> Tensor:
    """Fold every context into four words; see `assay.watermark.kernel.philox_states`.

    Args:
        contexts: the ids before a token, oldest first, whole numbers [n, W]; -1 where there is none.
        key: 0 to 2^64 - 1.

    Returns:
        int64 [n, 4] on the device of the contexts, every entry a 32-bit word.

    Raises:
        DataError: contexts have another shape, or are no whole numbers. SettingError: the key is out of range.

    >>> philox_states(torch.tensor([[1, 2, 3, 4]]), 5).shape
    torch.Size([1, 4])
    """
    _whole("contexts", contexts)
    key, width = checks.key(key), contexts.shape[1]
    words = contexts.to(torch.int64) & LOW
    first = words.new_zeros(len(words))
    state: Words = (first + STATE, first + width, first, first)
    for offset in range(0, width, 4):
        block = [words[:, offset + i] if offset + i < width else LOW - i for i in range(4)]
        a, b, c, d = (word ^ other for word, other in zip(state, block, strict=True))
        state = _philox((a, b, c, d), (key & LOW) ^ offset, key >> 32)
    return torch.stack(state, dim=1)


def philox_rows(states: Tensor, vocab_size: int, key: int) -> Tensor:
    """The uniforms of a whole vocabulary after each context; see `assay.watermark.kernel.philox_rows`.

    Args:
        states: int64 [n, 4] of `philox_states`.
        vocab_size: V, 1 to 2^31 - 1.
        key: the key of the states.

    Returns:
        float32 [n, V] in (0, 1) on the device of the states. Cost: a quarter of a Philox call a token, and for a
        moment about six times the memory of the result.

    >>> philox_rows(philox_states(torch.tensor([[1, 2]]), 5), 10, 5).shape
    torch.Size([1, 10])
    """
    _whole("states", states)
    vocab_size, key = checks.whole("vocab_size", vocab_size, 1, checks.MOST_TOKENS), checks.key(key)
    calls = torch.arange((vocab_size + 3) // 4, device=states.device)
    s0, s1, s2, s3 = (states[:, i : i + 1] for i in range(4))
    words = _philox((calls, s0, s1, s2), s3 ^ (key & LOW), (key >> 32) ^ TOKEN)
    return _uniforms(torch.stack(words, dim=2).flatten(1)[:, :vocab_size])


def _philox(counter: tuple[Tensor, ...], k0: Tensor | int, k1: int) -> Words:
    """Philox4x32-10; the parts of the counter broadcast against one another."""
    c0, c1, c2, c3 = counter
    for _ in range(10):
        a, b = c0 * MULTIPLIERS[0], c2 * MULTIPLIERS[1]
        c0, c1 = (b >> 32) & LOW ^ c1 ^ k0, b & LOW
        c2, c3 = (a >> 32) & LOW ^ c3 ^ k1, a & LOW
        k0, k1 = (k0 + WEYL[0]) & LOW, (k1 + WEYL[1]) & LOW
    return c0, c1, c2, c3


def _uniforms(words: Tensor) -> Tensor:
    """((word >> 8) + 1) / (2^24 + 1), rounded to float32: the float just below ((word >> 8) + 1) / 2^24."""
    above = ((words >> 8) + 1).to(torch.float32) * 2.0**-24
    return (above.view(torch.int32) - 1).view(torch.float32)


def _whole(name: str, given: Tensor) -> None:
    whole = not (given.is_floating_point() or given.is_complex())
    if given.ndim != 2 or not whole:
        raise DataError(f"{name} are {given.dtype} {list(given.shape)}; needed: whole numbers [n, length].")
