from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from assay.core.errors import DataError, SettingError
from assay.watermark import kernel
from assay.watermark.kernel import device, plain
from assay.watermark.kernel.philox import green_limit

from .kernels import on_every_path

KEYS = st.one_of(st.integers(0, 2**64 - 1), st.sampled_from([0, 1, 2**32, 2**64 - 1]))

# Random123, kat_vectors: counter, key and answer of philox4x32 with ten rounds.
KNOWN = [
    ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
    ((0xFFFFFFFF,) * 4, (0xFFFFFFFF,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
    (
        (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
        (0xA4093822, 0x299F31D0),
        (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
    ),
]


def slow_philox(counter: list[int], key: list[int]) -> list[int]:
    """Ten rounds on Python's whole numbers."""
    c, k = list(counter), list(key)
    for _ in range(10):
        a, b = 0xD2511F53 * c[0], 0xCD9E8D57 * c[2]
        c = [(b >> 32) ^ c[1] ^ k[0], b & 0xFFFFFFFF, (a >> 32) ^ c[3] ^ k[1], a & 0xFFFFFFFF]
        k = [(k[0] + 0x9E3779B9) & 0xFFFFFFFF, (k[1] + 0xBB67AE85) & 0xFFFFFFFF]
    return c


def slow_state(context: list[int], key: int) -> list[int]:
    state = [0x574D4358, len(context), 0, 0]
    for offset in range(0, len(context), 4):
        block = [x & 0xFFFFFFFF for x in context[offset : offset + 4]]
        block += [0xFFFFFFFF - i for i in range(len(block), 4)]
        words = [s ^ b for s, b in zip(state, block, strict=True)]
        state = slow_philox(words, [(key & 0xFFFFFFFF) ^ offset, key >> 32])
    return state


def slow_uniform(state: list[int], token: int, key: int) -> np.float32:
    words = slow_philox([token >> 2, *state[:3]], [(key & 0xFFFFFFFF) ^ state[3], (key >> 32) ^ 0x574D544B])
    return np.float32(((words[token & 3] >> 8) + 1) / (2**24 + 1))


@pytest.mark.parametrize(("counter", "key", "answer"), KNOWN)
def test_known_answers(counter: tuple[int, ...], key: tuple[int, int], answer: tuple[int, ...]) -> None:
    """A context of four words is one call, with the counter XORed to a constant."""
    assert tuple(slow_philox(list(counter), list(key))) == answer
    context = np.array([counter]) ^ np.array([0x574D4358, 4, 0, 0])
    number = key[0] | key[1] << 32
    for states in on_every_path(lambda: kernel.philox_states(context, number)):
        assert tuple(states[0].tolist()) == answer
    assert tuple(device.philox_states(torch.from_numpy(context), number)[0].tolist()) == answer


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 9), st.integers(0, 40), st.integers(0, 2**32), KEYS)
def test_states(width: int, rows: int, seed: int, key: int) -> None:
    contexts = np.random.default_rng(seed).integers(-1, 2**31 - 1, (rows, width))
    wanted = np.array([slow_state(row.tolist(), key) for row in contexts], dtype=np.uint32).reshape(rows, 4)
    for states in on_every_path(lambda: kernel.philox_states(contexts, key)):
        assert states.dtype == np.uint32
        assert np.array_equal(states, wanted)
    assert np.array_equal(device.philox_states(torch.from_numpy(contexts), key).numpy(), wanted)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 50), st.integers(0, 2**32), KEYS)
def test_uniforms(rows: int, seed: int, key: int) -> None:
    random = np.random.default_rng(seed)
    states = random.integers(0, 2**32, (rows, 4), dtype=np.uint32)
    tokens = random.integers(0, 2**31 - 1, rows)
    tokens[: rows // 2] %= 9
    pairs = zip(states.tolist(), tokens.tolist(), strict=True)
    wanted = np.array([slow_uniform(state, token, key) for state, token in pairs], dtype=np.float32)
    for uniforms in on_every_path(lambda: kernel.philox_uniforms(states, tokens, key)):
        assert uniforms.dtype == np.float32
        assert np.array_equal(uniforms, wanted)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 5000), st.integers(0, 3), st.integers(0, 2**32), KEYS)
def test_rows_are_the_uniforms_of_all_tokens(size: int, rows: int, seed: int, key: int) -> None:
    states = np.random.default_rng(seed).integers(0, 2**32, (rows, 4), dtype=np.uint32)
    wanted = kernel.philox_uniforms(states.repeat(size, axis=0), np.tile(np.arange(size), rows), key)
    for found in on_every_path(lambda: kernel.philox_rows(states, size, key)):
        assert np.array_equal(found, wanted.reshape(rows, size))
    there = device.philox_rows(torch.from_numpy(states.astype(np.int64)), size, key)
    assert there.dtype == torch.float32
    assert np.array_equal(there.numpy(), wanted.reshape(rows, size))


def test_every_uniform_lies_inside_zero_and_one() -> None:
    """All 2^24 of them, and the three ways to compute them; they ascend, so a threshold splits them once."""
    words = np.arange(0, 2**32, 2**8, dtype=np.uint64)
    uniforms = plain.uniforms_of(words)
    assert uniforms[0] > 0
    assert uniforms[-1] < 1
    assert (np.diff(uniforms) > 0).all()
    there = device._uniforms(torch.from_numpy(words[::97].astype(np.int64)))
    assert np.array_equal(there.numpy(), uniforms[::97])
    for gamma in (0.1, 0.25, 1 / 3, 0.5, 0.9, 1e-7, 1 - 1e-7):
        assert green_limit(gamma) == np.count_nonzero(uniforms < np.float32(gamma))


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 5000),
    st.integers(0, 2**32),
    st.floats(0.01, 0.99),
    st.floats(-9, 9),
    st.integers(-9, 9000),
)
def test_scores_below_gamma_rise(size: int, seed: int, gamma: float, delta: float, shift: int) -> None:
    random = np.random.default_rng(seed)
    states = random.integers(0, 2**32, (3, 4), dtype=np.uint32)
    scores = random.standard_normal((3, size)).astype(np.float32)
    scores[:, 0] = -np.inf
    green = np.roll(kernel.philox_rows(states, size, seed) < np.float32(gamma), -shift, axis=1)
    wanted = np.where(green, scores + np.float32(delta), scores)

    def marked() -> np.ndarray:
        changed = scores.copy()
        kernel.add_philox_green(changed, states, seed, gamma, delta, shift=shift)
        return changed

    for found in on_every_path(marked):
        assert np.array_equal(found, wanted)


@pytest.fixture
def two_threads() -> Iterator[None]:
    kernel.set_threads(2)
    yield
    kernel.set_threads(1)


@pytest.mark.usefixtures("two_threads")
def test_threads_change_nothing() -> None:
    random = np.random.default_rng(1)
    contexts, tokens = random.integers(0, 50000, (40_000, 3)), random.integers(0, 50000, 40_000)

    def everything() -> list[np.ndarray]:
        states = kernel.philox_states(contexts, 99)
        scores = np.zeros((5, 3001), dtype=np.float32)
        kernel.add_philox_green(scores, states[:5], 99, 0.25, 1.0)
        return [
            states,
            scores,
            kernel.philox_uniforms(states, tokens, 99),
            kernel.philox_rows(states[:7], 1001, 99),
        ]

    split = everything()
    kernel.set_threads(1)
    assert all(np.array_equal(a, b) for a, b in zip(split, everything(), strict=True))


@pytest.mark.parametrize("key", [-1, 2**64, 1.5, "secret-7c1", None])
def test_a_bad_key_is_not_repeated(key: int) -> None:
    for call in (
        lambda: kernel.philox_states(np.zeros((1, 1), np.int64), key),
        lambda: device.philox_states(torch.zeros((1, 1), dtype=torch.int64), key),
    ):
        with pytest.raises(SettingError, match="from 0 to 2\\^64 - 1") as caught:
            call()
        assert "secret" not in str(caught.value)
        assert "1.5" not in str(caught.value)


def test_arrays_that_do_not_fit() -> None:
    states = kernel.philox_states(np.zeros((2, 1), np.int64), 1)
    with pytest.raises(DataError, match=r"states has shape \(2, 3\); needed: \[any, 4\]"):
        kernel.philox_rows(states[:, :3], 10, 1)
    with pytest.raises(DataError, match=r"tokens\[1\] is -1"):
        kernel.philox_uniforms(states, np.array([0, -1]), 1)
    with pytest.raises(SettingError, match="vocab_size is 0"):
        kernel.philox_rows(states, 0, 1)
    with pytest.raises(DataError, match="contexts are"):
        device.philox_states(torch.zeros((2, 2)), 1)
    with pytest.raises(DataError, match=r"states are torch.int64 \[4\]"):
        device.philox_rows(torch.zeros(4, dtype=torch.int64), 10, 1)
