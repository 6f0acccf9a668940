"""Mark files: what was saved is loaded, another mark is never replaced, a key is never kept."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assay.core.errors import InputError, RunError, SettingError
from assay.watermark import Watermark, WatermarkSettings
from assay.watermark.marks import LARGEST_FILE, Mark, NamedMark, load, save

SETTINGS = WatermarkSettings(scheme="selfhash", vocab_size=500)
KNOWN = {"name": "tiny", "digest": "ab" * 16, "size": 498}


@given(
    scheme=st.sampled_from(["philox", "simple_1", "unigram", "hf-selfhash", "gumbel", "ff-minhash_prf-3-True"]),
    vocab_size=st.integers(300, 10**6),
    gamma=st.floats(0.05, 0.95),
    delta=st.floats(0, 20),
    payload=st.none() | st.integers(0, 255),
)
def test_what_is_saved_is_loaded(tmp_path_factory: pytest.TempPathFactory, **values: Any) -> None:
    path = tmp_path_factory.getbasetemp() / "mark.json"
    path.unlink(missing_ok=True)
    settings = WatermarkSettings(**values)
    save(path, settings, tokenizer=KNOWN)
    assert load(path) == Mark(settings, KNOWN)


def test_settings_alone_are_a_mark_too(tmp_path: Path) -> None:
    (tmp_path / "settings.json").write_text(SETTINGS.to_json())
    assert load(tmp_path / "settings.json") == Mark(SETTINGS, {})


def test_another_mark_is_never_replaced(tmp_path: Path) -> None:
    path = tmp_path / "mark.json"
    save(path, SETTINGS, tokenizer=KNOWN)
    before = path.read_bytes()
    save(path, SETTINGS, tokenizer=KNOWN)
    with pytest.raises(SettingError, match=r"another mark \(vocab_size 500 there, 501 here\)"):
        save(path, WatermarkSettings(scheme="selfhash", vocab_size=501), tokenizer=KNOWN)
    with pytest.raises(SettingError, match="another tokenizer"):
        save(path, SETTINGS)
    assert path.read_bytes() == before
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(SettingError, match="no mark file"):
        save(tmp_path / "notes.txt", SETTINGS)
    assert (tmp_path / "notes.txt").read_text() == "mine"
    with pytest.raises(RunError):
        save(tmp_path / "none" / "mark.json", SETTINGS)


def written(path: Path, change: Any) -> Path:
    content = {"format": "assay-watermark", "version": 1, "settings": json.loads(SETTINGS.to_json()), "tokenizer": {}}
    change(content)
    path.write_text(json.dumps(content))
    return path


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda c: c.update(key=48151623), "holds a key"),
        (lambda c: c["settings"].update(hashing_key=48151623), "holds a key"),
        (lambda c: c["settings"].update(scheme="ff-minhash_prf-4-True-48151623"), "ends with a key"),
        (lambda c: c["settings"].update(gama=0.5), "gama"),
        (lambda c: c["settings"].update(gamma=2), "gamma"),
        (lambda c: c["settings"].pop("vocab_size"), "vocab_size"),
        (lambda c: c.update(version=2), "version"),
        (lambda c: c.update(format="other"), "no mark file"),
        (lambda c: c.update(settings=[1]), "damaged"),
        (lambda c: c.update(tokenizer=3), "damaged"),
    ],
)
def test_what_is_no_mark_file_is_refused(tmp_path: Path, change: Any, why: str) -> None:
    with pytest.raises(SettingError, match=why) as caught:
        load(written(tmp_path / "m.json", change))
    assert "48151623" not in str(caught.value)


def test_settings_of_transformers_get_a_hint(tmp_path: Path) -> None:
    (tmp_path / "m.json").write_text('{"greenlist_ratio": 0.25, "hashing_key": 48151623}')
    with pytest.raises(SettingError, match="hf-lefthash") as caught:
        load(tmp_path / "m.json")
    assert "48151623" not in str(caught.value)


def test_other_files(tmp_path: Path) -> None:
    (tmp_path / "long").write_bytes(b" " * (LARGEST_FILE + 1))
    (tmp_path / "deep").write_text("[" * 60_000)
    for name, error in {"long": SettingError, "deep": SettingError, "none": RunError, ".": RunError}.items():
        with pytest.raises(error):
            load(tmp_path / name)


@given(content=st.binary(max_size=200) | st.recursive(st.integers() | st.text(max_size=5), lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["format", "settings", "schema", "version", "scheme"]), inner, max_size=4)).map(lambda value: json.dumps(value).encode()))  # fmt: skip  # noqa: E501
def test_any_bytes_are_a_mark_or_an_input_error(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "fuzz.json"
    path.write_bytes(content)
    with pytest.raises(InputError):
        load(path)


def test_a_named_mark_shows_no_key() -> None:
    mark = NamedMark("a", Watermark.from_settings(SETTINGS, key=48151623), source="k")
    assert "48151623" not in repr(mark)
    assert "48151623" not in json.dumps(mark.identity)
