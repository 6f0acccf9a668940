"""Settings: names, limits, JSON, fingerprints."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as budget
from hypothesis import strategies as st

from assay.core.errors import DataError, SettingError
from assay.watermark import Watermark, WatermarkSettings
from assay.watermark.settings import NAMED, PRFS, check_key, parse_scheme

freeform = st.builds(
    lambda prf, width, salt: f"ff-{prf}-{width}-{salt}", st.sampled_from(PRFS), st.integers(2, 50), st.booleans()
)


@st.composite
def allowed(draw: st.DrawFn) -> WatermarkSettings:
    name = draw(st.one_of(st.sampled_from(sorted(NAMED)), freeform))
    recipe = parse_scheme(name)[1]
    bits = draw(st.integers(1, 6))
    return WatermarkSettings(
        scheme=name,
        vocab_size=draw(st.integers(100, 300_000)),
        gamma=draw(st.floats(0.05, 0.95)),
        delta=draw(st.floats(0, 50)),
        context_width=draw(st.one_of(st.none(), st.integers(1, 9))) if recipe.width is None else None,
        select_green_tokens=draw(st.booleans()) if recipe.family == "kgw" else True,
        hard=draw(st.booleans()) if recipe.family != "gumbel" else False,
        entropy_threshold=draw(st.one_of(st.none(), st.floats(0, 5))),
        payload=draw(st.one_of(st.none(), st.integers(0, 2**bits - 1))),
        payload_bits=bits,
        candidates=draw(st.one_of(st.none(), st.integers(1, 99))) if recipe.self_salt else None,
    )


@given(allowed())
def test_settings_survive_json(made: WatermarkSettings) -> None:
    again = WatermarkSettings.from_json(made.to_json())
    assert again == made
    assert again.fingerprint == made.fingerprint
    assert json.loads(made.to_json())["schema"] == 1
    assert WatermarkSettings.from_dict(json.loads(made.to_json())) == made


@given(allowed(), allowed())
def test_fingerprints_differ_where_settings_do(a: WatermarkSettings, b: WatermarkSettings) -> None:
    other = dataclasses.replace(a, vocab_size=a.vocab_size + 1)
    assert len({a.fingerprint, other.fingerprint}) == 2
    assert (a.fingerprint == b.fingerprint) <= (a.recipe == b.recipe)
    assert len(a.fingerprint) == 16


def test_fingerprints_do_not_ask_what_does_not_matter() -> None:
    def print_of(**values: Any) -> str:
        return WatermarkSettings(**{"scheme": "selfhash", "vocab_size": 500, **values}).fingerprint

    assert print_of(candidates=41) == print_of() == print_of(context_width=4) == print_of(payload_bits=5)
    assert print_of() == print_of(scheme="algorithm-3") == print_of(scheme="ff-anchored_minhash_prf-4-True")
    assert print_of(hard=True) == print_of(hard=True, delta=7)
    assert len({print_of(), print_of(payload=0), print_of(candidates=40), print_of(delta=1), print_of(gamma=0.5)}) == 5


@pytest.mark.parametrize(
    ("name", "width", "preceding"),
    [
        ("simple_1", 1, 1),
        ("lefthash", 1, 1),
        ("selfhash", 4, 3),
        ("algorithm-3", 4, 3),
        ("minhash", 4, 4),
        ("skipgram", 5, 5),
        ("hf-lefthash", 1, 1),
        ("hf-selfhash", 1, 0),
        ("unigram", None, 0),
        ("philox", 4, 4),
        ("gumbel", 4, 4),
        ("ff-position_prf-7-True", 7, 6),
        ("ff-additive_prf-1-True", 1, 0),
    ],
)
def test_widths(name: str, width: int | None, preceding: int) -> None:
    made = WatermarkSettings(scheme=name, vocab_size=500)
    assert (made.context_width, made.preceding) == (width, preceding)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"scheme": "simple"}, "Did you mean 'simple_1'"),
        ({"scheme": "ff-minhash-4-True"}, "no PRF 'minhash'"),
        ({"scheme": "ff-minhash_prf-0-True"}, "width '0'"),
        ({"scheme": "ff-minhash_prf-4-yes"}, "True or False"),
        ({"scheme": "ff-minhash_prf-4"}, "3 or 4 parts"),
        ({"scheme": "ff-minhash_prf-4-True-"}, "3 or 4 parts"),
        ({"scheme": "ff-minskipgram_prf-1-False"}, "2 or more"),
        ({"scheme": 4}, "name of a scheme"),
        ({"gamma": 0.0}, "gamma is 0.0"),
        ({"gamma": 1.0}, "gamma is 1.0"),
        ({"gamma": float("nan")}, "gamma"),
        ({"gamma": -0.5}, "gamma"),
        ({"scheme": "simple_1", "gamma": 0.001}, "makes 0 green"),
        ({"delta": -1.0}, "delta"),
        ({"delta": float("inf")}, "hard=True"),
        ({"vocab_size": 1}, "at least 2"),
        ({"vocab_size": -3}, "vocab_size"),
        ({"vocab_size": 2**31}, "vocab_size"),
        ({"vocab_size": 10.5}, "whole number"),
        ({"context_width": 0}, "context_width"),
        ({"scheme": "selfhash", "context_width": 5}, "always hashes 4"),
        ({"scheme": "unigram", "context_width": 1}, "always hashes 0"),
        ({"scheme": "simple_1", "candidates": 5}, "whole vocabulary"),
        ({"scheme": "selfhash", "candidates": 0}, "candidates"),
        ({"scheme": "philox", "select_green_tokens": False}, "legacy"),
        ({"scheme": "gumbel", "hard": True}, "hard"),
        ({"payload": 16, "payload_bits": 4}, "hold 0 to 15"),
        ({"payload": -1}, "payload"),
        ({"payload": 1, "payload_bits": 9}, "At most 8 bits"),
        ({"entropy_threshold": -1.0}, "entropy_threshold"),
        ({"hard": "perhaps"}, "true or false"),
    ],
)
def test_what_is_not_allowed_is_named(values: dict[str, Any], words: str) -> None:
    with pytest.raises(SettingError, match=words):
        Watermark(**{"vocab_size": 500, **values})


@pytest.mark.parametrize(
    ("text", "error", "words"),
    [
        ("", DataError, "no JSON"),
        ("[" * 100_000, DataError, "no JSON"),
        ("[1]", DataError, "'list'"),
        ("null", DataError, "'NoneType'"),
        ('{"vocab_size": 500}', DataError, "schema"),
        ('{"schema": 2, "vocab_size": 500}', DataError, "schema 2"),
        ('{"schema": true, "vocab_size": 500}', DataError, "schema"),
        ('{"schema": 1}', SettingError, "vocab_size"),
        ('{"schema": 1, "vocab_size": 500, "colour": "green"}', SettingError, "no setting 'colour'"),
        ('{"schema": 1, "vocab_size": 500, "key": 777123}', SettingError, "hold no key"),
        ('{"schema": 1, "vocab_size": 500, "hashing_key": 777123}', SettingError, "hold no key"),
        ('{"schema": 1, "vocab_size": 500, "scheme": "ff-minhash_prf-4-True-777123"}', SettingError, "hold no key"),
        ('{"schema": 1, "vocab_size": 500, "gamma": 2}', SettingError, "gamma"),
    ],
)
def test_damaged_settings_are_refused_and_keys_not_repeated(text: str, error: type, words: str) -> None:
    with pytest.raises(error, match=words) as caught:
        WatermarkSettings.from_json(text)
    assert "777123" not in str(caught.value)


@given(st.recursive(st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text()), st.lists, max_leaves=5))
@budget(max_examples=100)
def test_no_value_breaks_the_reader(value: Any) -> None:
    for name in (field.name for field in dataclasses.fields(WatermarkSettings)):
        content = {"schema": 1, "vocab_size": 500} | {name: value}
        try:
            made = WatermarkSettings.from_dict(content)
        except (SettingError, DataError):
            continue
        assert WatermarkSettings.from_json(made.to_json()) == made


def test_the_size_of_the_vocabulary_is_always_needed() -> None:
    with pytest.raises(SettingError, match="vocab_size is missing"):
        WatermarkSettings().build(5)
    with pytest.raises(TypeError, match="vocab_size"):
        Watermark("philox")  # type: ignore[call-arg]


def test_numbers_of_other_libraries_are_taken_and_words_are_not() -> None:
    import numpy as np

    assert check_key(np.uint64(2**64 - 1)) == 2**64 - 1
    assert Watermark(vocab_size=np.int64(50), gamma=np.float32(0.5), key=np.int32(5)).settings.vocab_size == 50
    assert Watermark(vocab_size=50, gamma="1/4").settings.gamma == 0.25  # type: ignore[arg-type]
