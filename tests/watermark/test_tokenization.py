"""Tokenizers: every token has its characters, and one that does not fit a mark is noticed."""

from __future__ import annotations

import contextlib
import json
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from assay.core.errors import DataError, MissingExtra, ModelError, SettingError
from assay.watermark.tokenization import Encoded, Tokenizer, check_tokenizer, load_tokenizer, lost, round_trip

from .tiny import plain_words, save_tokenizer


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tokenizer(tmp_path_factory.mktemp("tokenizer"))


@pytest.fixture(scope="module")
def tokenizer(folder: Path) -> Tokenizer:
    return load_tokenizer(f"hf:{folder}")


@given(texts=st.lists(st.text(max_size=30), max_size=3))
def test_tokens_and_their_characters(tokenizer: Tokenizer, texts: list[str]) -> None:
    for text, encoded in zip(texts, tokenizer.encode_many(texts), strict=True):
        assert encoded.ids.tolist() == tokenizer.encode(text)
        assert tokenizer.decode(encoded.ids) == text
        pieces = encoded.pieces(text)
        assert pieces is not None
        assert len(pieces) == len(encoded.ids)
        assert "".join(pieces) == text
        assert round_trip(tokenizer, encoded.ids) == 1
        assert lost(tokenizer, text) == 0
        if len(encoded.ids):
            assert encoded.characters(0, len(encoded.ids)) == (0, len(text))


def test_no_special_tokens_are_added_and_all_are_shown(tokenizer: Tokenizer) -> None:
    end = tokenizer.encode("<end>")
    assert len(end) == 1
    assert end[0] not in tokenizer.encode("water")
    assert tokenizer.decode(end) == "<end>"
    assert tokenizer.tokens([end[0], *tokenizer.encode(" the")])[0] == "<end>"


def test_characters_and_pieces_of_gaps_and_shared_characters() -> None:
    encoded = Encoded(np.arange(4), np.array([[0, 2], [4, 6], [4, 6], [6, 7]]))
    assert encoded.pieces("ab  cdE!") == ["ab", "  cd", "", "E"]
    assert encoded.characters(1, 3) == (4, 6)
    assert encoded.characters(2, 2) is None
    assert Encoded(np.arange(4)).pieces("x") is None
    assert Encoded(np.arange(4)).characters(0, 2) is None


def test_round_trip_counts_what_comes_back(tokenizer: Tokenizer) -> None:
    ids = tokenizer.encode(plain_words(60))
    letters = [tokenizer.encode(letter)[0] for letter in "the"]
    assert round_trip(tokenizer, ids[:20] + letters + ids[20:]) > 0.8
    assert round_trip(tokenizer, letters) < 0.5
    assert round_trip(tokenizer, []) == 1


def test_size_and_digest(folder: Path, tokenizer: Tokenizer, tmp_path: Path) -> None:
    assert tokenizer.size == 400
    assert load_tokenizer(f"run:{folder}").digest == tokenizer.digest
    assert load_tokenizer(f"hf:{save_tokenizer(tmp_path, size=390)}").digest != tokenizer.digest
    assert json.dumps(tokenizer.description)
    assert repr(tokenizer) == f"Tokenizer({folder.name!r}, size=400)"


def test_a_tokenizer_that_does_not_fit_a_mark(tokenizer: Tokenizer) -> None:
    assert check_tokenizer(tokenizer, 400) == check_tokenizer(tokenizer, 420, known=tokenizer.description) == []
    with pytest.raises(DataError, match=r"ids up to 399.*for 399 ids"):
        check_tokenizer(tokenizer, 399)
    (remark,) = check_tokenizer(tokenizer, 400, known={"name": "other", "digest": "0" * 32})
    assert "'other'" in remark


def test_a_tokenizer_that_loses_text(tokenizer: Tokenizer) -> None:
    class Lossy:
        is_fast = False

        def get_vocab(self) -> dict[str, int]:
            return {"a": 0}

        def __call__(self, texts: list[str], **_: object) -> dict[str, list[list[int]]]:
            return {"input_ids": [[0] * text.count("a") for text in texts]}

        def decode(self, ids: list[int], **_: object) -> str:
            return "a" * len(ids)

    assert lost(Tokenizer(Lossy(), "lossy"), "a banana") == pytest.approx(3 / 7)
    assert Tokenizer(Lossy(), "lossy").encode_many(["a"])[0].offsets is None


def test_what_cannot_be_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for spec in ("tiny", "hf:", "python:x:y"):
        with pytest.raises(SettingError, match="hf:FOLDER"):
            load_tokenizer(spec)
    with pytest.raises(ModelError, match="no folder"):
        load_tokenizer("hf:org/name")
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(ModelError, match="cannot be loaded as a tokenizer"):
        load_tokenizer(f"hf:{tmp_path}")
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(MissingExtra, match=r"assay-ml\[hf\]"):
        load_tokenizer(f"hf:{tmp_path}")


def test_code_beside_a_tokenizer_is_not_run(tmp_path: Path) -> None:
    save_tokenizer(tmp_path)
    config = json.loads((tmp_path / "tokenizer_config.json").read_text())
    config["auto_map"] = {"AutoTokenizer": ["evil.Evil", "evil.Evil"]}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    (tmp_path / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w').close()\nEvil = None\n")
    with contextlib.suppress(ModelError):
        assert load_tokenizer(f"hf:{tmp_path}").size == 400
    assert not (tmp_path / "ran").exists()
