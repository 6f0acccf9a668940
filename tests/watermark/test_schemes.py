"""Every scheme against its slow version: lists, scores of tokens, payloads."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from assay.watermark import Watermark
from assay.watermark.schemes.philox import Philox
from assay.watermark.settings import NAMED, PRFS

from . import reference

OFFICIAL = {name: recipe for name, recipe in NAMED.items() if recipe.family == "kgw"}
names = st.one_of(
    st.sampled_from(sorted(OFFICIAL)),
    st.builds(
        lambda prf, width, salt: f"ff-{prf}-{width}-{salt}", st.sampled_from(PRFS), st.integers(2, 6), st.booleans()
    ),
)
keys = st.one_of(st.integers(1, 2**32 - 1), st.just(15485863))
gammas = st.sampled_from([0.1, 0.25, 0.5, 0.9])


def described(name: str) -> tuple[str, int, bool]:
    if name.startswith("ff-"):
        _, prf, width, salt = name.split("-")
        return prf, int(width), salt == "True"
    return OFFICIAL[name].prf, int(OFFICIAL[name].width or 0), OFFICIAL[name].self_salt


@given(names, st.integers(20, 400), gammas, keys, st.booleans(), st.integers(0, 2**32))
@settings(max_examples=120)
def test_official_lists_are_the_first_entries_of_torchs_permutation(
    name: str, size: int, gamma: float, key: int, first: bool, seed: int
) -> None:
    prf, width, salt = described(name)
    wm = Watermark(name, vocab_size=size, gamma=gamma, key=key, select_green_tokens=first)
    text = np.random.default_rng(seed).integers(0, size, 12).tolist()
    expected = reference.green_list(reference.value(prf, text[-width:], key), size, gamma, last=not first)
    assert wm.green_ids(text).tolist() == sorted(expected)

    preceding = width - salt
    grams = [text[i : i + preceding + 1] for i in range(len(text) - preceding)]
    hits = wm.scheme.score(
        np.array([gram[:-1] for gram in grams], dtype=np.int64).reshape(len(grams), preceding),
        np.array([gram[-1] for gram in grams]),
    )
    wanted = []
    for gram in grams:
        hashed = gram if salt else gram[:-1]
        seeded = reference.value(prf, hashed[-width:], key)
        wanted.append(gram[-1] in reference.green_list(seeded, size, gamma, last=not first))
    assert hits.tolist() == wanted


@given(
    st.sampled_from(["hf-lefthash", "hf-selfhash"]), st.integers(1, 5), st.integers(20, 300), gammas, st.integers(0, 99)
)
@settings(max_examples=60)
def test_lists_of_transformers(kind: str, width: int, size: int, gamma: float, seed: int) -> None:
    generator = np.random.default_rng(seed)
    key = [15485863, 42, 2**32 - 1][seed % 3]
    wm = Watermark(kind, vocab_size=size, gamma=gamma, key=key, context_width=width)
    text = generator.integers(0, size, 9).tolist()
    expected = reference.green_list(reference.huggingface_value(kind, text[-width:], key), size, gamma)
    assert wm.green_ids(text).tolist() == sorted(expected)
    assert wm.scheme.preceding == (width if kind == "hf-lefthash" else width - 1)


@given(st.integers(2, 1000), gammas, st.integers(1, 2**64 - 1))
@settings(max_examples=60)
def test_unigram_has_one_list(size: int, gamma: float, key: int) -> None:
    if not 0 < int(size * gamma) < size:
        return
    wm = Watermark("unigram", vocab_size=size, gamma=gamma, key=key)
    expected = reference.unigram_list(key, size, gamma)
    assert wm.green_ids([]).tolist() == wm.green_ids([1, 0]).tolist() == sorted(expected)
    hits = wm.scheme.score(np.zeros((size, 0), dtype=np.int64), np.arange(size))
    assert set(np.flatnonzero(hits).tolist()) == expected


def test_the_generator_of_the_reference_gives_the_known_answers_of_philox() -> None:
    ones, pi = 0xFFFFFFFF, (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344)
    assert reference.philox_block((0,) * 4, (0, 0)) == (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)
    assert reference.philox_block((ones,) * 4, (ones, ones)) == (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)
    assert reference.philox_block(pi, (0xA4093822, 0x299F31D0)) == (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1)


@given(st.integers(1, 9), st.integers(5, 60), gammas, st.integers(1, 2**64 - 1), st.integers(0, 2**32))
@settings(max_examples=60)
def test_philox_and_gumbel_rest_on_the_same_uniforms(width: int, size: int, gamma: float, key: int, seed: int) -> None:
    context = np.random.default_rng(seed).integers(0, size, width).tolist()
    uniforms = np.array([reference.uniform(context, token, key) for token in range(size)])
    given = {"vocab_size": size, "key": key, "context_width": width}
    lists = Watermark("philox", gamma=gamma, **given)
    assert lists.green_ids(context).tolist() == np.flatnonzero(uniforms < np.float32(gamma)).tolist()
    drawn = Watermark("gumbel", **given)
    assert drawn.green_ids(context).tolist() == np.flatnonzero(uniforms > 0.5).tolist()
    rows = np.tile(np.array(context), (size, 1))
    expected = -np.log1p(-uniforms.astype(np.float64))
    assert np.array_equal(drawn.scheme.score(rows, np.arange(size)), expected)
    assert np.array_equal(drawn.scheme.rows(rows[:1])[0], expected)
    assert np.array_equal(lists.scheme.score(rows, np.arange(size)), uniforms < np.float32(gamma))


@pytest.mark.parametrize("name", ["philox", "gumbel"])
@pytest.mark.parametrize("payload", [None, 3])
def test_other_devices_compute_the_same_uniforms(name: str, payload: int | None) -> None:
    wm = Watermark(name, vocab_size=83, key=2**63 + 9, context_width=5, payload=payload, payload_bits=2)
    ids = torch.randint(0, 83, (6, 9), generator=torch.Generator().manual_seed(1))
    scheme = wm.scheme
    assert isinstance(scheme, Philox)
    assert torch.equal(scheme._in_torch(ids[:, -5:]), scheme.uniforms_on_device(ids))


EVERY = ["simple_1", "selfhash", "skipgram", "hf-lefthash", "hf-selfhash", "unigram", "philox", "gumbel"]


@pytest.mark.parametrize("name", EVERY)
def test_a_payload_shifts_the_list_and_rows_and_scores_agree(name: str) -> None:
    size, generator = 61, np.random.default_rng(7)
    plain, shifted = Watermark(name, vocab_size=size), Watermark(name, vocab_size=size, payload=5, payload_bits=4)
    salt = plain.scheme.self_salt
    contexts = generator.integers(0, size, (40, plain.scheme.preceding))
    targets = generator.integers(0, size, 40)
    hashed = np.concatenate([contexts, targets[:, None]], axis=1) if salt else contexts
    rows = plain.scheme.rows(hashed)
    assert rows.shape == (40, size)
    for shift in (0, 5, 60):
        found = plain.scheme.score(contexts, targets, shift=shift)
        assert found.tolist() == rows[np.arange(40), (targets + shift) % size].tolist()
        assert found.tolist() == shifted.scheme.score(contexts, targets, shift=shift).tolist()
    green = set(plain.green_ids(hashed[0]).tolist())
    assert set(shifted.green_ids(hashed[0]).tolist()) == {(token - 5) % size for token in green}


@pytest.mark.parametrize("name", EVERY)
def test_a_scheme_says_what_it_is(name: str) -> None:
    scheme = Watermark(name, vocab_size=100, gamma=0.3).scheme
    assert scheme.null == ("exponential" if name == "gumbel" else "bernoulli")
    assert scheme.gamma == (0.5 if name == "gumbel" else 0.3)
    assert scheme.strict == (name in ("philox", "gumbel"))
    assert scheme.fixed == (name == "unigram")
    assert scheme.green == (None if name in ("philox", "gumbel") else 30)
    assert scheme.score(np.zeros((0, scheme.preceding), dtype=np.int64), np.zeros(0, dtype=np.int64)).shape == (0,)


def test_interoperability_follows_the_notes() -> None:
    """transformers' lefthash is the official simple_1; its selfhash is another scheme than the official one."""
    size, context = 1000, [5, 9, 200, 31]
    assert np.array_equal(
        Watermark("hf-lefthash", vocab_size=size).green_ids(context),
        Watermark("simple_1", vocab_size=size).green_ids(context),
    )
    theirs = Watermark("hf-selfhash", vocab_size=size, context_width=4).green_ids(context)
    ours = Watermark("selfhash", vocab_size=size).green_ids(context)
    assert not np.array_equal(theirs, ours)
    assert np.array_equal(ours, Watermark("ff-anchored_minhash_prf-4-True", vocab_size=size).green_ids(context))


def test_lists_of_two_sizes_have_nothing_in_common() -> None:
    a, b = (set(Watermark("simple_1", vocab_size=v).green_ids([77]).tolist()) for v in (50265, 50272))
    assert abs(len(a & b) / len(a) - 0.25) < 0.02


def test_the_green_share_is_cut_to_a_whole_number() -> None:
    assert len(Watermark("simple_1", vocab_size=50257, gamma=0.25).green_ids([3])) == 12564
    assert len(Watermark("unigram", vocab_size=10, gamma=0.29).green_ids([])) == 2
