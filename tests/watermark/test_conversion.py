"""Settings of transformers and of the official repository, taken over and given back."""

from __future__ import annotations

from typing import Any

import pytest

from assay.core.errors import SettingError, Unsupported
from assay.watermark import Watermark
from assay.watermark.conversion import from_official, from_transformers, split_key, to_transformers

transformers = pytest.importorskip("transformers")

SECRET = 31415926


@pytest.mark.parametrize("kind", ["lefthash", "selfhash"])
@pytest.mark.parametrize("width", [1, 4])
def test_a_configuration_of_transformers_comes_back_unchanged(kind: str, width: int) -> None:
    config = transformers.WatermarkingConfig(
        greenlist_ratio=0.4, bias=2.5, hashing_key=SECRET, seeding_scheme=kind, context_width=width
    )
    made = Watermark.from_transformers(config, 1000)
    assert made.settings.scheme == f"hf-{kind}"
    assert (made.settings.gamma, made.settings.delta, made.settings.context_width) == (0.4, 2.5, width)
    assert made.settings.vocab_size == 1000
    assert made.to_transformers().to_dict() == config.to_dict()
    assert from_transformers(config.to_dict(), 1000) == from_transformers(config, 1000) == (made.settings, SECRET)
    inside = transformers.GenerationConfig(watermarking_config=config)
    assert from_transformers(inside, 1000) == (made.settings, SECRET)


def test_what_is_left_out_has_the_default_of_transformers() -> None:
    default = transformers.WatermarkingConfig()
    assert from_transformers({}, 50) == from_transformers(default, 50)
    assert Watermark("hf-lefthash", vocab_size=50).to_transformers().to_dict() == default.to_dict()


def test_the_official_simple_1_is_lefthash() -> None:
    config = Watermark("simple_1", vocab_size=50, key=SECRET).to_transformers()
    assert (config.seeding_scheme, config.context_width, config.hashing_key) == ("lefthash", 1, SECRET)


@pytest.mark.parametrize(
    ("config", "error", "words"),
    [
        (transformers.SynthIDTextWatermarkingConfig(ngram_len=5, keys=[SECRET]), Unsupported, "SynthID"),
        ({"hash_key": SECRET}, SettingError, "hash_key"),
        ({"seeding_scheme": "minhash"}, SettingError, "minhash"),
        ({"greenlist_ratio": 1.0}, SettingError, "gamma"),
        ({"hashing_key": 0}, SettingError, "key is 0"),
        ({"hashing_key": -SECRET}, SettingError, "negative"),
        ({"bias": "much"}, SettingError, "delta"),
        (3, SettingError, "int"),
        (None, SettingError, "NoneType"),
    ],
)
def test_other_configurations_are_refused(config: Any, error: type, words: str) -> None:
    with pytest.raises(error, match=words) as caught:
        from_transformers(config, 1000)
    assert str(SECRET) not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"scheme": "philox"}, "philox"),
        ({"scheme": "selfhash"}, "selfhash"),
        ({"scheme": "hf-lefthash", "payload": 3}, "payload"),
        ({"scheme": "hf-lefthash", "hard": True}, "hard"),
        ({"scheme": "hf-lefthash", "entropy_threshold": 0.5}, "entropy_threshold"),
        ({"scheme": "hf-selfhash", "candidates": 41}, "candidates"),
        ({"scheme": "simple_1", "select_green_tokens": False}, "select_green_tokens"),
    ],
)
def test_what_transformers_lacks_is_not_given_to_it(options: dict[str, Any], words: str) -> None:
    with pytest.raises(Unsupported, match=words):
        to_transformers(Watermark(vocab_size=500, **options).settings, SECRET)


def test_official_arguments_and_their_defaults() -> None:
    assert from_official(vocab_size=500)[0] == Watermark("selfhash", vocab_size=500, gamma=0.25, delta=2.0).settings
    minimal, key = from_official(vocab=list(range(400)), edition="minimal")
    assert minimal == Watermark("simple_1", vocab_size=400, gamma=0.5, delta=2.0).settings
    assert key == 15485863
    made = Watermark.from_official(
        vocab_size=500, seeding_scheme=f"ff-minhash_prf-3-False-{SECRET}", gamma=0.3, delta=1, select_green_tokens=False
    )
    direct = Watermark(
        "ff-minhash_prf-3-False", vocab_size=500, gamma=0.3, delta=1, select_green_tokens=False, key=SECRET
    )
    assert made.settings == direct.settings
    assert made.green_ids([1, 2, 3]).tolist() == direct.green_ids([1, 2, 3]).tolist()


@pytest.mark.parametrize("device", ["cuda", "cuda:1", "mps"])
def test_text_marked_on_another_device_is_refused_with_the_reason(device: str) -> None:
    with pytest.raises(Unsupported, match=r"different stream.*cannot be reproduced"):
        Watermark.from_official(vocab_size=500, generator_device=device)
    import torch

    with pytest.raises(Unsupported, match="different stream"):
        from_official(vocab_size=500, generator_device=torch.device(device))
    assert from_official(vocab_size=500, generator_device=torch.device("cpu"))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, "neither"),
        ({"vocab": [1, 2, 3], "vocab_size": 4}, "3 entries.*4"),
        ({"vocab_size": 500, "edition": "new"}, "edition"),
        ({"vocab_size": 500, "edition": "minimal", "seeding_scheme": "selfhash"}, "minimal"),
        ({"vocab_size": 500, "hash_key": 0}, "key is 0"),
        ({"vocab_size": 500, "hash_key": SECRET, "seeding_scheme": "ff-minhash_prf-3-False-5"}, "another key"),
    ],
)
def test_official_arguments_that_are_not_allowed(options: dict[str, Any], words: str) -> None:
    with pytest.raises(SettingError, match=words) as caught:
        from_official(**options)
    assert str(SECRET) not in str(caught.value)


def test_a_scheme_that_is_no_text_is_refused() -> None:
    with pytest.raises(SettingError, match="int"):
        split_key(5)  # type: ignore[arg-type]
