"""Detection against one n-gram at a time and transformers' own detector; p-values against simulated nulls."""

from __future__ import annotations

import math
import pickle
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from scipy.special import gammaincc

from assay.core.errors import DataError, SettingError
from assay.watermark import Watermark, detection
from assay.watermark.detection import Detection, detect, detect_many, detect_stream
from assay.watermark.schemes.base import EXPONENTIAL
from assay.watermark.statistics import critical_count, log_binomial_tail

from .toys import Toy, marked, matches, not_above

ids_lists = st.lists(st.lists(st.integers(0, 5), max_size=30), min_size=1, max_size=5)


def slow(scheme: Any, ids: list[int], unique: bool, strict: bool) -> tuple[list[bool], list[bool]]:
    """Hits and counted flags, one n-gram after another."""
    seen, hits, counted = set(), [], []
    for i in range(scheme.preceding, len(ids)):
        context = ids[i - scheme.preceding : i]
        value = scheme.score(np.array([context], dtype=np.int64).reshape(1, -1), np.array([ids[i]]))[0]
        hits.append(bool(value > math.log(2)) if scheme.null == EXPONENTIAL else bool(value))
        kind = tuple(context) if strict else (*context, ids[i])
        counted.append(not unique or kind not in seen)
        seen.add(kind)
    return hits, counted


@given(ids_lists, st.integers(1, 3), st.booleans(), st.booleans(), st.sampled_from(["bernoulli", "exponential"]))
@settings(max_examples=60, deadline=None)
def test_many_texts_at_once_are_one_text_at_a_time(
    docs: list[list[int]], preceding: int, unique: bool, strict: bool, null: str
) -> None:
    scheme = Toy(vocab_size=6, preceding=preceding, null=null)
    strict = strict and unique
    for ids, found in zip(docs, detect_many(scheme, docs, unique_ngrams=unique, strict=strict), strict=True):
        hits, counted = slow(scheme, ids, unique, strict)
        assert found.mask.tolist() == hits
        assert found.counted.tolist() == counted
        assert found.scored == sum(counted)
        assert found.green == sum(map(all, zip(hits, counted, strict=True)))
        assert found.offset == preceding
        assert len(found.values) == len(hits)
        if not found.scored:
            assert (found.z, found.p_value, found.p_value_normal, found.log10_p) == (0.0, 1.0, 1.0, 0.0)
        elif null == "bernoulli":
            T, g = found.scored, found.green
            assert found.z == pytest.approx((g - 0.25 * T) / math.sqrt(T * 0.25 * 0.75))
            assert found.log10_p == pytest.approx(float(log_binomial_tail(g, T, 0.25)) / math.log(10))
        else:
            total = found.values[found.counted].sum()
            assert found.score == pytest.approx(total)
            assert found.p_value == pytest.approx(float(gammaincc(found.scored, total)))
            assert found.z == pytest.approx((total - found.scored) / math.sqrt(found.scored))
        alone = detect(scheme, ids, unique_ngrams=unique, strict=strict)
        assert (alone.z, alone.log_p, alone.score) == (found.z, found.log_p, found.score)


def test_results_do_not_depend_on_the_block(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    scheme = Toy(null=EXPONENTIAL)
    docs = [rng.integers(0, 1000, n).tolist() for n in (0, 1, 50, 3, 200, 2, 90)]
    weights = [rng.random(len(doc)) for doc in docs]
    whole = detect_many(scheme, docs, weights=weights)
    monkeypatch.setattr(detection, "BLOCK", 10)
    assert [one.log_p for one in detect_stream(scheme, iter(docs), weights=iter(weights))] == [
        one.log_p for one in whole
    ]
    plain = detect_many(scheme, docs)
    monkeypatch.setattr(detection, "BLOCK", 10_000)
    assert [one.log_p for one in detect_many(scheme, docs)] == [one.log_p for one in plain]


def test_a_stream_reads_no_further_than_a_block(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(detection, "BLOCK", 10)
    read = []

    def texts() -> Any:
        for number in range(100):
            read.append(number)
            yield [1, 2, 3, 4, 5]

    next(detect_stream(Toy(), texts()))
    assert read == [0, 1]


def test_marked_text_is_found_and_other_text_is_not() -> None:
    for scheme in (Toy(), Toy(null=EXPONENTIAL), Toy(fixed=True), Toy(preceding=3, strict=True)):
        found = detect(scheme, marked(scheme, 300))
        assert found.p_value < 1e-12
        assert found.verdict() == "marked"
        assert found.z > 5
        assert found.green_fraction > 0.6
        plain = detect(scheme, np.random.default_rng(0).integers(0, 1000, 300))
        assert plain.p_value > 1e-4
        assert plain.verdict() == "not marked"


def test_p_values_below_the_smallest_float_keep_their_logarithm() -> None:
    scheme = Toy(vocab_size=100_000, fixed=True)
    green = np.flatnonzero(scheme.list)[:5000]
    found = detect(scheme, green)
    assert found.p_value == 0.0
    assert -4000 < found.log10_p < -1000
    assert math.isfinite(found.z)
    found = detect(Toy(gamma=0.5, vocab_size=10**6), marked(Toy(gamma=0.5, vocab_size=10**6), 1500, share=1.0))
    assert found.log10_p < -350
    assert found.verdict(1e-300) == "marked"


@pytest.mark.parametrize("length", [0, 1, 2, 3])
def test_texts_that_are_too_short_say_so(length: int) -> None:
    found = detect(Toy(preceding=3), [1, 2, 3][:length])
    assert (found.z, found.p_value, found.scored, found.green_fraction) == (0.0, 1.0, 0, 0.0)
    assert found.verdict() == "not enough tokens"
    assert not found.enough()
    assert found.tokens_needed() > 10
    assert found.mask.shape == found.counted.shape == (0,)


def test_the_verdict_tells_too_few_tokens_from_no_mark() -> None:
    scheme = Toy()
    needed = int(detect(scheme, []).tokens_needed(1e-6))
    rng = np.random.default_rng(1)
    short, long = (detect(scheme, rng.integers(0, 1000, n)) for n in (needed // 2, 2 * needed))
    assert short.verdict(1e-6) == "not enough tokens"
    assert long.verdict(1e-6) == "not marked"
    assert short.verdict(0.5) in ("marked", "not marked")  # few tokens are enough for a lax threshold
    assert detect(Toy(delta=0.5), []).tokens_needed() > 3 * needed > 30
    assert detect(Toy(hard=True), []).tokens_needed(1e-6) == 10 == math.ceil(math.log(1e-6) / math.log(0.25))
    assert detect(Toy(delta=0.0), []).tokens_needed() == math.inf
    assert detect(scheme, []).tokens_needed(power=0.95) > needed > detect(scheme, []).tokens_needed(choices=30)
    with pytest.raises(SettingError, match="fpr is 0"):
        short.verdict(0)


def test_one_list_is_drawn_from_without_replacement() -> None:
    scheme = Toy(vocab_size=40, fixed=True, gamma=0.5)
    ids = [*np.flatnonzero(scheme.list)[:15].tolist(), 0, 1, 0, 1]
    found = detect(scheme, ids)
    distinct = len(set(ids))
    exact = sum(
        math.comb(20, k) * math.comb(20, distinct - k) for k in range(found.green, min(20, distinct) + 1)
    ) / math.comb(40, distinct)
    assert found.scored == distinct
    assert found.p_value == pytest.approx(exact)
    repeated = detect(scheme, ids, unique_ngrams=False)
    assert repeated.log_p == pytest.approx(float(log_binomial_tail(repeated.green, len(ids), 0.5)))


def test_low_entropy_tokens_do_not_count() -> None:
    scheme = Toy(entropy_threshold=0.5)
    ids = [1, 2, 3, 2, 3, 4]
    entropies = [math.nan, 0.1, 0.9, 0.5, 2.0, math.nan]
    found = detect(scheme, ids, entropies=entropies)
    assert found.counted.tolist() == [False, True, True, False, False]
    assert len(found.mask) == 5
    assert detect(scheme, ids, entropies=entropies, entropy_threshold=1.0).counted.tolist() == [False] * 3 + [
        True,
        False,
    ]
    assert detect(scheme, ids, entropies=torch.tensor(entropies)).scored == 2
    assert [one.scored for one in detect_many(scheme, [ids, ids], entropies=[entropies, [1.0] * 6])] == [2, 4]


def test_options_that_cannot_be_followed() -> None:
    scheme = Toy()
    with pytest.raises(SettingError, match="need a threshold"):
        detect(scheme, [1, 2], entropies=[1.0, 1.0])
    with pytest.raises(SettingError, match="without entropies"):
        detect(scheme, [1, 2], entropy_threshold=1.0)
    with pytest.raises(SettingError, match="strict is True and unique_ngrams False"):
        detect(scheme, [1, 2], unique_ngrams=False, strict=True)
    with pytest.raises(SettingError, match="single tokens"):
        detect(Toy(fixed=True), [1, 2], strict=True)
    with pytest.raises(DataError, match="weights of text 0 are 1 for 2 ids"):
        detect(scheme, [1, 2], weights=[1.0])
    with pytest.raises(DataError, match="weights of text 0 are no numbers"):
        detect(scheme, [1, 2], weights=["a", "b"])
    with pytest.raises(DataError, match="fewer entropies or weights than texts: none for text 1"):
        detect_many(scheme, [[1, 2], [1, 2]], weights=[[1.0, 1.0]])
    with pytest.raises(DataError, match="ids of text 1 are float64"):
        detect_many(scheme, [[1], [0.5]])
    with pytest.raises(DataError, match="id 1000 at position 1 of text 1"):
        detect_many(scheme, [[1], [0, 1000]])


def test_a_detection_shows_and_carries_no_key() -> None:
    key = 918273645546372819
    for name in ("philox", "gumbel", "unigram"):
        found = Watermark(name, vocab_size=100, key=key).detect([1, 2, 3, 4, 5, 6])
        assert str(key) not in repr(found) + str(found.as_dict())
        again = pickle.loads(pickle.dumps(found))
        assert again.log_p == found.log_p
        assert again.verdict() == found.verdict()
        assert key.to_bytes(8, "little") not in pickle.dumps(found)


def test_the_record_of_a_detection_is_plain() -> None:
    record = detect(Toy(), marked(Toy(), 60)).as_dict()
    assert {type(value) for value in record.values()} <= {int, float, type(None)}
    assert record["scored"] == 59 or record["scored"] < 59


def oracle(config: Any, vocab_size: int, ids: np.ndarray, repeated: bool, bos: int = -1) -> Any:
    transformers = pytest.importorskip("transformers")
    model = transformers.GPT2Config(vocab_size=vocab_size, bos_token_id=bos)
    detector = transformers.WatermarkDetector(
        model, device="cpu", watermarking_config=config, ignore_repeated_ngrams=repeated
    )
    return detector(torch.tensor(ids)[None], return_dict=True)


@pytest.mark.parametrize("repeated", [True, False])
@pytest.mark.parametrize(("scheme", "width"), [("lefthash", 1), ("selfhash", 4), ("selfhash", 1)])
def test_z_is_that_of_transformers(scheme: str, width: int, repeated: bool) -> None:
    transformers = pytest.importorskip("transformers")
    config = transformers.WatermarkingConfig(greenlist_ratio=0.3, seeding_scheme=scheme, context_width=width)
    mine = Watermark(f"hf-{scheme}", vocab_size=60, gamma=0.3, context_width=width)
    rng = np.random.default_rng(0)
    for length in (width + 1, 40, 120):
        ids = rng.integers(0, 12, length)  # few tokens: many repeats
        theirs = oracle(config, 60, ids, repeated)
        found = mine.detect(ids, unique_ngrams=repeated)
        assert found.scored == theirs.num_tokens_scored[0]
        assert found.green == theirs.num_green_tokens[0]
        assert found.z == pytest.approx(float(theirs.z_score[0]), rel=1e-6)
        assert found.p_value_normal == pytest.approx(float(theirs.p_value[0]), rel=1e-5)


def null_texts(count: int, length: int, vocab_size: int, seed: int) -> list[np.ndarray]:
    """Texts with repetitions, as people write: ids by Zipf's law, and some passages said twice."""
    rng = np.random.default_rng(seed)
    share = 1 / np.arange(1, vocab_size + 1)
    found = []
    for _ in range(count):
        ids = rng.choice(vocab_size, length, p=share / share.sum())
        ids[length // 2 : length // 2 + length // 5] = ids[: length // 5]
        found.append(ids)
    return found


def test_p_values_of_exponential_scores_are_uniform() -> None:
    docs = null_texts(4000, 60, 3000, 0)
    matches(
        [one.p_value for one in detect_many(Toy(null=EXPONENTIAL, preceding=2, vocab_size=3000), docs, strict=True)]
    )


@pytest.mark.parametrize("strict", [True, False])
def test_p_values_of_hits_are_exact(strict: bool) -> None:
    """P(p <= alpha) is the chance of the critical count, text by text: sums are compared within six deviations."""
    found = detect_many(Toy(preceding=2, vocab_size=3000), null_texts(4000, 60, 3000, 1), strict=strict)
    not_above([one.p_value for one in found])
    lengths = np.array([one.scored for one in found])
    for alpha in (0.2, 0.05, 0.01):
        chances = np.exp(log_binomial_tail(critical_count(lengths, 0.25, alpha), lengths, 0.25))
        count = sum(one.p_value <= alpha for one in found)
        assert abs(count - chances.sum()) < 6 * math.sqrt(chances.sum())


def test_p_values_under_one_list_are_calibrated_over_keys() -> None:
    ids = null_texts(1, 150, 400, 2)[0]
    scheme, p_values = Toy(vocab_size=400, fixed=True), []
    for key in range(1500):
        scheme.list = np.random.default_rng(key).permutation(400) < 100
        p_values.append(detect(scheme, ids).p_value)
    not_above(p_values)
    assert 0.4 < np.mean(p_values) < 0.62


def test_repeats_make_p_values_too_small_unless_they_count_once() -> None:
    docs = [np.tile(doc[:20], 5) for doc in null_texts(2000, 40, 3000, 3)]
    scheme = Toy(vocab_size=3000)
    assert np.mean([one.p_value <= 0.01 for one in detect_many(scheme, docs, unique_ngrams=False)]) > 0.05
    not_above([one.p_value for one in detect_many(scheme, docs)])


@pytest.mark.parametrize("name", ["philox", "gumbel", "unigram"])
def test_p_values_of_real_schemes_are_calibrated(name: str) -> None:
    docs = null_texts(2500 if name != "unigram" else 3, 80, 500, 4)
    if name == "unigram":
        found = [Watermark(name, vocab_size=500, key=key + 1).detect(doc) for key in range(400) for doc in docs[:1]]
    else:
        found = Watermark(name, vocab_size=500, key=77).detect_many(docs)
    not_above([one.p_value for one in found])
    assert isinstance(found[0], Detection)


def test_a_list_that_many_contexts_share_is_no_new_evidence_in_strict_mode() -> None:
    """hf-lefthash with a wide context looks at the last id alone, though n-grams of five ids are told apart."""
    rng = np.random.default_rng(5)
    docs = [rng.integers(0, 6, 150) for _ in range(300)]
    mark = Watermark("hf-lefthash", vocab_size=40, gamma=0.25, context_width=4, key=5)
    found = mark.detect_many(docs)
    naive = np.array([stats.binom.sf(one.green - 1, one.scored, 0.25) for one in found])
    assert np.mean(naive <= 0.01) > 0.05 or np.mean(naive >= 0.99) > 0.05
    strict = mark.detect_many(docs, strict=True)
    assert max(one.scored for one in strict) <= 36


def zipf_texts(count: int, tokens: int, vocab_size: int) -> list[np.ndarray]:
    """Texts with few frequent ids, as language has: different n-grams often have the same least hash."""
    rng = np.random.default_rng(3)
    weights = 1 / np.arange(1, vocab_size + 1)
    return [rng.choice(vocab_size, tokens, p=weights / weights.sum()) for _ in range(count)]


@pytest.mark.parametrize("name", ["selfhash", "minhash", "skipgram", "hf-selfhash", "hf-lefthash"])
def test_unmarked_text_of_frequent_ids_is_not_called_marked_too_often(name: str) -> None:
    """Different n-grams share lookups there; with a plain binomial selfhash errs at 0.01 in 1 of 30 texts."""
    width = {"context_width": 4} if name.startswith("hf") else {}
    texts = zipf_texts(25, 150, 300)
    logs = [
        found.log10_p
        for key in range(1, 41)
        for found in detect_many(Watermark(name, vocab_size=300, key=key, **width).scheme, texts)
    ]
    for alpha in (0.1, 0.01):
        small = int((np.array(logs) <= np.log10(alpha)).sum())
        assert stats.binom.sf(small - 1, len(logs), alpha) > 1e-4, f"{small} of {len(logs)} at {alpha}"


def test_shared_lookups_enter_the_p_value_once() -> None:
    """Scored and green are those that are published; the p-value is that of the distinct lookups."""
    scheme = Watermark("skipgram", vocab_size=50, gamma=0.25, key=5).scheme  # the list hangs on the first id of five
    ids = [7, 1, 2, 3, 4, 9, 7, 5, 6, 8, 10, 9, 7, 11, 12, 13, 14, 20]
    found = detect(scheme, ids)
    assert found.scored == len(ids) - 5
    lookups = {(ids[i], ids[i + 5]): bool(found.mask[i]) for i in range(len(ids) - 5)}
    assert len(lookups) == found.scored - 1
    assert found.p_value == pytest.approx(stats.binom.sf(sum(lookups.values()) - 1, len(lookups), 0.25))


def test_detection_of_ids_starts_without_torch() -> None:
    """Importing it takes longer than the detection of a hundred texts."""
    program = (
        "import sys; import assay.watermark.judging, assay.watermark.scanning; from assay.watermark import Watermark\n"
        "for name in ('simple_1', 'selfhash', 'hf-selfhash', 'unigram', 'philox', 'gumbel'):\n"
        "    Watermark(name, vocab_size=100).detect(list(range(60)))\n"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
