"""Slow, obvious versions of every scheme: torch's own generator and permutation, one token at a time."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable, Sequence

import numpy as np
import torch

SIZE = 1_000_003


def permutation(seed: int, n: int) -> list[int]:
    generator = torch.Generator("cpu")
    generator.manual_seed(seed)
    return torch.randperm(n, generator=generator).tolist()


@functools.lru_cache(maxsize=8)
def table(seed: int) -> torch.Tensor:
    return torch.tensor(permutation(seed, SIZE), dtype=torch.int64)


def integers(values: Sequence[int]) -> torch.Tensor:
    """int64, what does not fit reinterpreted by its low 64 bits."""
    return torch.tensor([v - 2**64 if (v := value % 2**64) >= 2**63 else v for value in values], dtype=torch.int64)


def hashed(x: torch.Tensor, seed: int = 2971215073) -> torch.Tensor:
    return table(seed)[x % SIZE] + 1


def value(name: str, context: Sequence[int], key: int) -> int:
    """The table of the official functions; torch's integers wrap where the table says so, Python's do not."""
    x, k = integers(context), integers([key])
    each = hashed(k * x)
    match name.removesuffix("_prf"):
        case "multiplicative":
            return key * int(x.prod())
        case "additive":
            return key * int(x.sum())
        case "minfunc":
            return key * int(x.min())
        case "simple_skip":
            return int(each[::2].prod())
        case "skipgram":
            return int(each[0])
        case "anchored_skipgram":
            return int(each[0] * each[-1])
        case "minhash":
            return int(each.min())
        case "anchored_minhash":
            return int((k * hashed(x) * hashed(x[-1])).min())
        case "minskipgram":
            return min(int(each[i] * each[j]) for j in range(len(x)) for i in range(j))
        case "noncomm":
            q = k
            for token in x:
                q = (q * hashed(q * token)) % 2**32
            return int(q)
        case "position":
            return int((k * x * torch.arange(1, len(x) + 1)).sum())
    raise AssertionError(name)


def huggingface_value(kind: str, context: Sequence[int], key: int) -> int:
    if kind == "hf-lefthash":
        return key * context[-1]
    x = integers(context)
    return int((integers([key]) * hashed(x, key) * hashed(x[-1], key)).min())


def green_list(seed: int, vocab_size: int, gamma: float, last: bool = False) -> set[int]:
    order = permutation(seed % (2**64 - 1), vocab_size)
    count = int(vocab_size * gamma)
    return set(order[vocab_size - count :] if last else order[:count])


def philox_block(counter: Sequence[int], key: Sequence[int]) -> tuple[int, ...]:
    c, k = list(counter), list(key)
    for _ in range(10):
        first, second = 0xD2511F53 * c[0], 0xCD9E8D57 * c[2]
        c = [(second >> 32) ^ c[1] ^ k[0], second % 2**32, (first >> 32) ^ c[3] ^ k[1], first % 2**32]
        k = [(k[0] + 0x9E3779B9) % 2**32, (k[1] + 0xBB67AE85) % 2**32]
    return tuple(c)


def uniform(context: Sequence[int], token: int, key: int) -> np.float32:
    low, high = key % 2**32, key >> 32
    state = (0x574D4358, len(context), 0, 0)
    for start in range(0, len(context), 4):
        block = [context[start + i] % 2**32 if start + i < len(context) else 0xFFFFFFFF - i for i in range(4)]
        state = philox_block([a ^ b for a, b in zip(state, block, strict=True)], (low ^ start, high))
    words = philox_block((token >> 2, *state[:3]), (low ^ state[3], high ^ 0x574D544B))
    return np.float32(((words[token & 3] >> 8) + 1) / (2**24 + 1))


def unigram_list(key: int, vocab_size: int, gamma: float) -> set[int]:
    count = int(gamma * vocab_size)
    mask = np.array([True] * count + [False] * (vocab_size - count))
    digest = hashlib.sha256(key.to_bytes(8, "little")).digest()
    np.random.default_rng(int.from_bytes(digest[:4], "little")).shuffle(mask)
    return set(np.flatnonzero(mask).tolist())


def marked_scores(
    scores: torch.Tensor, green_of: Callable[[int], bool], delta: float, candidates: int | None = None
) -> torch.Tensor:
    """One row with delta on green tokens; of the likeliest candidates only, if their number is given."""
    result = scores.clone()
    order = scores.sort(descending=True, stable=True).indices.tolist()
    for token in order[:candidates]:
        if green_of(token):
            result[token] = result[token] + delta
    return result
