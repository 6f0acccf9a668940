"""Marking scores: against the slow versions, in every precision, and whatever scores and ids come."""

from __future__ import annotations

import copy
import logging
import pickle
import traceback
import warnings
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from assay.core.errors import DataError, ModelError, SettingError, Unsupported
from assay.watermark import Watermark, WatermarkSettings, WatermarkWarning
from assay.watermark.schemes.gumbel import _drawn
from assay.watermark.schemes.scores import likeliest

from . import reference

SECRET = 918273645
EVERY = [
    "simple_1",
    "selfhash",
    "skipgram",
    "ff-position_prf-3-True",
    "hf-lefthash",
    "hf-selfhash",
    "unigram",
    "philox",
]
DTYPES = [torch.float32, torch.float64, torch.float16, torch.bfloat16]


def green_test(wm: Watermark, context: list[int]) -> Any:
    """Whether a token is green after a context, by lists of the whole vocabulary."""
    if wm.scheme.self_salt:
        return lambda token: token in set(wm.green_ids([*context, token]).tolist())
    green = set(wm.green_ids(context).tolist())
    return lambda token: token in green


@given(
    st.sampled_from(EVERY),
    st.sampled_from(DTYPES),
    st.integers(45, 90),
    st.integers(1, 3),
    st.integers(0, 2**32),
    st.sampled_from([None, 3]),
)
@settings(max_examples=80)
def test_scores_are_those_of_the_slow_version(
    name: str, dtype: torch.dtype, size: int, rows: int, seed: int, payload: int | None
) -> None:
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(0, size, (rows, 7), generator=generator)
    scores = (3 * torch.randn(rows, size, generator=generator)).to(dtype)
    scores[0, torch.randint(0, size, (5,), generator=generator)] = float("-inf")
    wm = Watermark(name, vocab_size=size, gamma=0.3, delta=1.3, key=SECRET, payload=payload, payload_bits=3)
    before = scores.clone()
    marked = wm.bias(ids, scores)
    assert torch.equal(scores, before)
    assert marked.dtype == dtype
    assert marked.data_ptr() != scores.data_ptr()
    for row in range(rows):
        test = green_test(wm, ids[row].tolist())
        assert torch.equal(marked[row], reference.marked_scores(scores[row], test, 1.3, wm.settings.candidates))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("kind", "width"), [("lefthash", 1), ("lefthash", 3), ("selfhash", 1), ("selfhash", 4)])
def test_scores_are_those_of_transformers(kind: str, width: int, dtype: torch.dtype) -> None:
    transformers = pytest.importorskip("transformers")
    size, generator = 257, torch.Generator().manual_seed(width)
    theirs = transformers.WatermarkLogitsProcessor(
        size, "cpu", greenlist_ratio=0.4, bias=1.7, hashing_key=SECRET, seeding_scheme=kind, context_width=width
    )
    wm = Watermark(f"hf-{kind}", vocab_size=size, gamma=0.4, delta=1.7, key=SECRET, context_width=width)
    for length in (width, width + 1, 9):
        ids = torch.randint(0, size, (3, length), generator=generator)
        scores = torch.randn(3, size, generator=generator).to(dtype)
        assert torch.equal(wm.bias(ids, scores), theirs(ids, scores))
    if width > 1:
        short = ids[:, : width - 1]
        assert torch.equal(wm.bias(short, scores), scores)


def test_ties_at_the_limit_of_the_candidates_go_to_the_lowest_ids() -> None:
    scores = torch.tensor([[1.0, 3.0, 1.0, 1.0, 2.0], [0.0, 0.0, 0.0, 0.0, 0.0], [5.0, 4.0, 3.0, 2.0, 1.0]])
    assert [sorted(row) for row in likeliest(scores, 3).tolist()] == [[0, 1, 4], [0, 1, 2], [0, 1, 2]]
    assert sorted(likeliest(scores, 9)[0].tolist()) == [0, 1, 2, 3, 4]


@given(st.integers(1, 50), st.integers(1, 12), st.integers(0, 2**32))
def test_the_likeliest_are_those_of_a_stable_sort(size: int, count: int, seed: int) -> None:
    scores = torch.from_numpy(np.random.default_rng(seed).integers(0, 4, (3, size))).to(torch.bfloat16)
    expected = scores.sort(dim=1, descending=True, stable=True).indices[:, :count].sort(dim=1).values
    assert torch.equal(likeliest(scores, count).sort(dim=1).values, expected)


@pytest.mark.parametrize("name", EVERY)
def test_the_hard_mark_forbids_red_tokens_and_leaves_rows_that_would_be_empty(name: str) -> None:
    size = 50
    wm = Watermark(name, vocab_size=size, hard=True, candidates=3 if "self" in name or "True" in name else None)
    ids = torch.arange(14).reshape(2, 7)
    scores = torch.linspace(-1, 1, size).repeat(2, 1)
    marked = wm.bias(ids, scores)
    for row in range(2):
        test = green_test(wm, ids[row].tolist())
        tested = scores[row].topk(wm.settings.candidates or size).indices.tolist()
        green = [token for token in tested if test(token)]
        if green:
            assert torch.isfinite(marked[row]).nonzero().flatten().tolist() == sorted(green)
            assert torch.equal(marked[row, green], scores[row, green])
        else:
            assert torch.equal(marked[row], scores[row])
    only_red = torch.full((1, size), float("-inf"))
    red = next(token for token in range(size) if not green_test(wm, ids[0].tolist())(token))
    only_red[0, red] = 1.0
    assert torch.equal(wm.bias(ids[:1], only_red), only_red)


@pytest.mark.parametrize("name", [*EVERY, "gumbel"])
def test_too_short_a_prompt_is_not_marked(name: str) -> None:
    wm = Watermark(name, vocab_size=60)
    scores = torch.randn(2, 60, generator=torch.Generator().manual_seed(1))
    for length in range(wm.scheme.least):
        out = wm.bias(torch.zeros(2, length, dtype=torch.long), scores)
        assert torch.equal(out, scores)
        assert out.data_ptr() != scores.data_ptr()
    assert not torch.equal(wm.bias(torch.zeros(2, wm.scheme.least, dtype=torch.long), scores), scores)
    assert wm.bias(torch.zeros(0, 9, dtype=torch.long), scores[:0]).shape == (0, 60)


def test_certain_steps_are_not_marked() -> None:
    wm = Watermark("philox", vocab_size=40, entropy_threshold=1.0, context_width=1)
    plain = Watermark("philox", vocab_size=40, context_width=1)
    scores = torch.zeros(3, 40)
    scores[1, 7] = 30.0
    scores[2, :2] = 30.0
    ids = torch.tensor([[1], [2], [3]])
    marked = wm.bias(ids, scores)
    assert torch.equal(marked[0], plain.bias(ids, scores)[0])
    assert torch.equal(marked[1:], scores[1:])
    assert torch.equal(wm.bias(ids[1:], scores[1:].bfloat16()), scores[1:].bfloat16())


def test_gumbel_draws_the_token_with_the_largest_power() -> None:
    size, width = 30, 2
    wm = Watermark("gumbel", vocab_size=size, key=SECRET, context_width=width)
    generator = torch.Generator().manual_seed(3)
    ids = torch.randint(0, size, (20, 5), generator=generator)
    scores = 2 * torch.randn(20, size, generator=generator)
    scores[:, 4] = float("-inf")
    marked = wm.bias(ids, scores)
    chances = torch.softmax(scores.double(), dim=1)
    for row in range(20):
        context = ids[row, -width:].tolist()
        uniforms = np.array([float(reference.uniform(context, token, SECRET)) for token in range(size)])
        powers = np.where(chances[row] > 0, uniforms ** (1 / chances[row].clamp_min(1e-300).numpy()), -1)
        drawn = int(powers.argmax())
        assert torch.isfinite(marked[row]).nonzero().flatten().tolist() == [drawn]
        assert marked[row, drawn] == scores[row, drawn]


@given(st.integers(0, 2**32), st.sampled_from([0.0, 1e-7, 1e-5, 1.0]), st.sampled_from([0.0, 1e4, -1e4]))
@settings(max_examples=60)
def test_gumbel_is_decided_in_float64(seed: int, spread: float, level: float) -> None:
    """Also where the best two are closer than float32 can tell."""
    generator = torch.Generator().manual_seed(seed)
    uniforms = torch.rand(4, 9, generator=generator).clamp(1e-7, 1 - 1e-7)
    noise = -torch.log(-torch.log(uniforms.double()))
    scores = level - noise + spread * torch.rand(4, 9, generator=generator, dtype=torch.float64)
    scores[:, 2] = float("-inf")
    assert torch.equal(_drawn(scores, uniforms)[:, 0], (scores + noise).argmax(dim=1))


def test_gumbel_does_not_distort_the_distribution() -> None:
    """Over contexts, tokens come as often as the model says: within 5 standard deviations."""
    size, chances = 60, torch.tensor([0.5, 0.25, 0.15, 0.1])
    wm = Watermark("gumbel", vocab_size=size, context_width=2, key=77)
    ids = torch.cartesian_prod(torch.arange(size), torch.arange(size))
    scores = torch.full((len(ids), size), float("-inf"))
    scores[:, :4] = chances.log()
    counts = torch.bincount(wm.bias(ids, scores).argmax(dim=1), minlength=size)
    assert counts.sum() == counts[:4].sum() == len(ids)
    deviation = (counts[:4] - len(ids) * chances) / (len(ids) * chances * (1 - chances)).sqrt()
    assert deviation.abs().max() < 5


@pytest.mark.parametrize(
    ("ids", "scores", "error", "words"),
    [
        (torch.zeros(1, 5, dtype=torch.long), torch.zeros(1, 57), ModelError, "57 scores.*vocab_size is 50"),
        (torch.zeros(1, 5, dtype=torch.long), torch.zeros(50), ModelError, "shape"),
        (torch.zeros(1, 5, dtype=torch.long), torch.zeros(1, 50, dtype=torch.long), ModelError, "floating-point"),
        (torch.zeros(1, 5, dtype=torch.long), [[0.0] * 50], ModelError, "list"),
        (torch.zeros(2, 5, dtype=torch.long), torch.zeros(1, 50), DataError, "2 rows, scores 1"),
        (torch.zeros(1, 5), torch.zeros(1, 50), DataError, "whole numbers"),
        (torch.zeros(5, dtype=torch.long), torch.zeros(1, 50), DataError, "shape"),
        (torch.tensor([[0, 0, -1, 0]]), torch.zeros(1, 50), DataError, "id -1 at position 2 of row 0"),
        (torch.tensor([[0, 0, 0, 50]]), torch.zeros(1, 50), DataError, "id 50 at position 3"),
    ],
)
def test_input_that_cannot_be_marked_is_named(ids: Any, scores: Any, error: type, words: str) -> None:
    with pytest.raises(error, match=words):
        Watermark("philox", vocab_size=50).bias(ids, scores)


@pytest.mark.parametrize("name", ["simple_1", "selfhash", "philox", "gumbel", "unigram"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_nan_is_refused_and_infinities_pass(name: str, dtype: torch.dtype) -> None:
    wm = Watermark(name, vocab_size=60)
    ids = torch.arange(10).reshape(2, 5)
    scores = torch.zeros(2, 60, dtype=dtype)
    scores[1, 3] = float("nan")
    with pytest.raises(ModelError, match="token 3 in row 1 is NaN"):
        wm.bias(ids, scores)
    scores[1] = float("-inf")
    scores[0, 0], scores[0, 1] = float("-inf"), float("inf")
    marked = wm.bias(ids, scores)
    assert bool((marked[1] == float("-inf")).all())
    assert marked[0, 0] == float("-inf")
    assert marked[0, 1] == float("inf")
    assert not marked.isnan().any()


def test_scores_need_not_be_contiguous_nor_without_gradient() -> None:
    wm = Watermark("simple_1", vocab_size=40)
    ids = torch.arange(6).reshape(3, 2)
    wide = torch.randn(40, 3, generator=torch.Generator().manual_seed(2))
    expected = wm.bias(ids, wide.T.contiguous())
    assert torch.equal(wm.bias(ids, wide.T), expected)
    assert torch.equal(wm.bias(ids.int(), wide.T.clone().requires_grad_()), expected)
    assert not wm.bias(ids, wide.T.clone().requires_grad_()).requires_grad


@pytest.mark.parametrize("name", ["selfhash", "hf-selfhash", "philox"])
def test_threads_share_a_watermark(name: str) -> None:
    wm = Watermark(name, vocab_size=200, key=SECRET)
    generator = torch.Generator().manual_seed(9)
    work = [
        (torch.randint(0, 200, (2, 6), generator=generator), torch.randn(2, 200, generator=generator))
        for _ in range(24)
    ]
    expected = [wm.bias(*each) for each in work]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda each: Watermark(name, vocab_size=200, key=SECRET).bias(*each), work))
        shared = list(pool.map(lambda each: wm.bias(*each), work))
    assert all(torch.equal(a, b) and torch.equal(a, c) for a, b, c in zip(expected, found, shared, strict=True))


def test_the_context_of_green_ids_is_checked() -> None:
    wm = Watermark("selfhash", vocab_size=50)
    assert np.array_equal(wm.green_ids([9, 1, 2, 3, 4]), wm.green_ids(torch.tensor([[1, 2, 3, 4]])))
    assert np.array_equal(wm.green_ids(np.array([1, 2, 3, 4])), wm.green_ids((1, 2, 3, 4)))
    with pytest.raises(DataError, match="3 ids, but 'selfhash' hashes 4"):
        wm.green_ids([1, 2, 3])
    with pytest.raises(DataError, match="id 50 at position 1"):
        wm.green_ids([1, 50, 2, 3, 4])
    with pytest.raises(DataError, match="whole numbers"):
        wm.green_ids("1234")
    with pytest.raises(DataError):
        wm.green_ids([1.5, 2, 3, 4])


def test_the_key_is_nowhere_to_be_seen(caplog: pytest.LogCaptureFixture) -> None:
    wm = Watermark(f"ff-anchored_minhash_prf-4-True-{SECRET}", vocab_size=500)
    seen = [repr(wm), str(wm), repr(wm.settings), wm.settings.to_json(), wm.fingerprint, repr(wm.scheme)]
    seen += [repr(wm.processor()), str(wm.__dict__["settings"]), wm.settings.scheme]
    with caplog.at_level(logging.DEBUG):
        logging.getLogger("assay").warning("%s %r", wm, wm)
    seen.append(caplog.text)
    for thing in (wm, wm.scheme, wm.processor()):
        with pytest.raises(Unsupported, match="not pickled") as caught:
            pickle.dumps(thing)
        seen.append(str(caught.value))
        assert copy.deepcopy(thing) is copy.copy(thing) is thing
    attempts = [
        lambda: Watermark(f"ff-minhash_prf-4-True-{SECRET}", vocab_size=500, key=5),
        lambda: Watermark(f"ff-minhash_prf-4-true-{SECRET}", vocab_size=500),
        lambda: Watermark(f"ff-minhash_prf-{SECRET}", vocab_size=500),
        lambda: Watermark(f"ff-minhash_prf-4-{SECRET}", vocab_size=500),
        lambda: Watermark(f"ff-minhash_prf-{SECRET}-4", vocab_size=500),
        lambda: Watermark(f"ff-{SECRET}-4-True", vocab_size=500),
        lambda: Watermark(f"ff-minhash_prf-4-True-x{SECRET}", vocab_size=500),
        lambda: Watermark(f"selfhash-{SECRET}", vocab_size=500),
        lambda: Watermark(vocab_size=500, key=-SECRET),
        lambda: Watermark(vocab_size=500, key=SECRET << 64),
        lambda: Watermark(vocab_size=500, key=str(SECRET)),  # type: ignore[arg-type]
        lambda: Watermark(vocab_size=500, key=float(SECRET)),  # type: ignore[arg-type]
        lambda: WatermarkSettings(scheme=f"ff-minhash_prf-4-True-{SECRET}", vocab_size=500),
        lambda: Watermark(vocab_size=0, key=SECRET),
        lambda: wm.bias(torch.zeros(1, 5, dtype=torch.long), torch.zeros(1, 3)),
    ]
    for attempt in attempts:
        with pytest.raises((SettingError, ModelError)) as failed:
            attempt()
        seen.append("".join(traceback.format_exception_only(failed.value)))
    assert not [text for text in seen if str(SECRET) in text or "918273645" in text]


def test_long_keys_warn_where_they_act_through_32_bits_only() -> None:
    for name in ("simple_1", "selfhash", "hf-lefthash", "hf-selfhash"):
        with pytest.warns(WatermarkWarning, match="32 bits") as caught:
            Watermark(name, vocab_size=50, key=2**63 + 12345)
        assert "12345" not in str(caught[0].message)
        assert caught[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for name in ("philox", "gumbel", "unigram"):
            Watermark(name, vocab_size=50, key=2**64 - 1)
        Watermark("simple_1", vocab_size=50, key=2**32 - 1)


def test_of_a_long_key_the_low_bits_act() -> None:
    with pytest.warns(WatermarkWarning):
        long = Watermark("simple_1", vocab_size=500, key=2**32 + 77)
    assert np.array_equal(long.green_ids([3]), Watermark("simple_1", vocab_size=500, key=77).green_ids([3]))


def test_a_key_in_the_name_counts_unless_another_is_given() -> None:
    name = "ff-minhash_prf-4-True"
    inside = Watermark(f"{name}-77", vocab_size=100)
    assert np.array_equal(
        inside.green_ids([1, 2, 3, 4]), Watermark(name, vocab_size=100, key=77).green_ids([1, 2, 3, 4])
    )
    Watermark(f"{name}-77", vocab_size=100, key=77)
    with pytest.raises(SettingError, match="another key"):
        Watermark(f"{name}-77", vocab_size=100, key=15485863)
    public = Watermark(name, vocab_size=100)
    assert np.array_equal(
        public.green_ids([1, 2, 3, 4]), Watermark(name, vocab_size=100, key=15485863).green_ids([1, 2, 3, 4])
    )


def test_settings_and_key_make_the_same_watermark_again() -> None:
    wm = Watermark("hf-selfhash", vocab_size=90, gamma=0.4, delta=3, key=5, context_width=3, candidates=7)
    again = Watermark.from_settings(WatermarkSettings.from_json(wm.settings.to_json()), key=5)
    assert again.settings == wm.settings
    assert again.fingerprint == wm.fingerprint == Watermark.from_settings(wm.settings, key=6).fingerprint
    assert np.array_equal(again.green_ids([1, 2, 3]), wm.green_ids([1, 2, 3]))
    assert not np.array_equal(Watermark.from_settings(wm.settings, key=6).green_ids([1, 2, 3]), wm.green_ids([1, 2, 3]))


@pytest.mark.parametrize("name", ["simple_1", "selfhash", "philox", "gumbel", "unigram", "hf-selfhash"])
def test_what_is_marked_is_detected(name: str) -> None:
    size = 120
    wm = Watermark(name, vocab_size=size, delta=6.0, key=SECRET)
    generator = torch.Generator().manual_seed(11)
    ids = torch.randint(0, size, (4, 5), generator=generator)
    for _ in range(60):
        scores = wm.bias(ids, torch.randn(4, size, generator=generator))
        noise = -torch.log(-torch.log(torch.rand(4, size, generator=generator)))
        ids = torch.cat([ids, (scores + noise).argmax(dim=1, keepdim=True)], dim=1)
    for found, row in zip(wm.detect_many(ids[:, 5:].tolist()), ids, strict=True):
        assert found.p_value < 1e-5
        assert wm.detect(row[5:]).z == found.z
    other = Watermark(name, vocab_size=size, delta=6.0, key=SECRET + 1)
    assert min(found.p_value for found in other.detect_many(ids[:, 5:])) > 1e-4


def test_a_payload_brings_the_bits_it_needs() -> None:
    assert Watermark(vocab_size=5000, key=3, payload=1234).settings.payload_bits == 11
    assert Watermark(vocab_size=5000, key=3, payload=5).settings.payload_bits == 8
    assert Watermark(vocab_size=100, key=3, payload=5).settings.payload_bits == 6
    with pytest.raises(SettingError, match="payload"):
        Watermark(vocab_size=5000, key=3, payload=300, payload_bits=8)
    with pytest.raises(SettingError, match="payload"):
        Watermark(vocab_size=100, key=3, payload=300)
