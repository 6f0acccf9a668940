"""Payloads: what was written is read, every message is scored as if alone, and p-values know how many were tried."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assay.core.errors import SettingError
from assay.watermark import Watermark
from assay.watermark.detection import detect
from assay.watermark.payload import decode, message_scores
from assay.watermark.schemes.base import BERNOULLI, EXPONENTIAL

from .toys import Toy, marked, not_above


@pytest.mark.parametrize("options", [{}, {"null": EXPONENTIAL}, {"fixed": True}, {"preceding": 2, "strict": True}])
def test_the_message_is_read(options: dict[str, Any]) -> None:
    for message in (0, 5, 63):
        scheme = Toy(payload_bits=6, **options)
        found = decode(scheme, marked(scheme, 250, shift=message))
        assert found.payload == message
        assert found.messages == 64
        assert found.verdict() == "marked"
        assert found.scores[message] == found.scores.max() > found.runner_up == np.sort(found.scores)[-2]
        assert found.scores[message] == pytest.approx(found.score)
        carried = Toy(payload=message, payload_bits=6, **options)
        alone = detect(carried, marked(scheme, 250, shift=message))
        assert (alone.z, alone.green, alone.payload) == (found.z, found.green, message)
        assert alone.mask.tolist() == found.mask.tolist()
        assert found.log_p == pytest.approx(alone.log_p + 6 * math.log(2))


@given(st.lists(st.integers(0, 19), max_size=40), st.booleans(), st.integers(0, 2), st.integers(1, 4))
@settings(max_examples=40, deadline=None)
def test_lists_are_read_at_all_shifts_as_tokens_one_by_one(
    ids: list[int], fixed: bool, preceding: int, bits: int
) -> None:
    scheme = Toy(vocab_size=20, fixed=fixed, preceding=preceding)
    contexts = np.lib.stride_tricks.sliding_window_view(np.array([0] * 3 + ids), 3)[1:][:, : scheme.preceding]
    targets = np.array(ids, dtype=np.int64)
    slow = [int(np.sum(scheme.score(contexts, targets, shift=m))) for m in range(2**bits)]
    assert message_scores(scheme, contexts, targets, 2**bits).tolist() == slow
    scheme.green = 5  # now by whole rows
    assert message_scores(scheme, contexts, targets, 2**bits).tolist() == slow


@pytest.mark.parametrize("name", ["simple_1", "selfhash", "minhash", "hf-selfhash", "unigram", "philox", "gumbel"])
def test_real_schemes_score_messages_as_they_score_shifts(name: str) -> None:
    mark = Watermark(name, vocab_size=64, gamma=0.3, key=11, payload_bits=5)
    ids = np.random.default_rng(0).integers(0, 64, 40)
    found = mark.decode(ids)
    for message in (0, 1, 31):
        carried = Watermark(name, vocab_size=64, gamma=0.3, key=11, payload_bits=5, payload=message).detect(ids)
        assert found.scores[message] == pytest.approx(carried.values[found.counted].sum())


def test_text_that_carries_a_message_of_a_real_scheme_is_read() -> None:
    mark = Watermark("philox", vocab_size=256, key=3, payload=171)
    rng, ids = np.random.default_rng(0), [1, 2, 3, 4]
    while len(ids) < 150:
        ids.append(int(rng.choice(mark.green_ids(ids))))
    assert mark.decode(ids).payload == 171
    assert mark.detect(ids).verdict() == "marked"


@pytest.mark.parametrize("null", [BERNOULLI, EXPONENTIAL])
def test_p_values_are_corrected_for_the_messages_tried(null: str) -> None:
    scheme = Toy(vocab_size=5000, null=null, payload_bits=4)
    docs = np.random.default_rng(0).integers(0, 5000, (800, 50))
    found = [decode(scheme, doc) for doc in docs]
    not_above([one.p_value for one in found])
    assert np.mean([one.log_p - math.log(16) <= math.log(0.05) for one in found]) > 0.2  # the best one, uncorrected


def test_no_text_no_message() -> None:
    for options in ({}, {"fixed": True}, {"null": EXPONENTIAL}):
        found = decode(Toy(payload_bits=3, **options), [])
        assert (found.z, found.p_value, found.p_value_normal, found.scored) == (0.0, 1.0, 1.0, 0)
        assert found.verdict() == "not enough tokens"
        assert found.tokens_needed(1e-4) == detect(Toy(**options), []).tokens_needed(1e-4 / 8)


@pytest.mark.parametrize("bits", [0, 25, 11])
def test_lengths_of_payloads_that_do_not_fit(bits: int) -> None:
    with pytest.raises(SettingError, match="bits is"):
        decode(Toy(), [1, 2, 3], bits=bits)
