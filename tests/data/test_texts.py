"""Corpora: what readers take from files, how documents are divided, and windows of tokens."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from assay.core.errors import DataError
from assay.data.texts import Corpus, load_texts, token_windows
from assay.data.texts.python_docs import prose


def corpus(*texts: str) -> Corpus:
    return Corpus(name="x", source="x", split="all", texts=texts, names=tuple(map(str, range(len(texts)))))


def as_bytes(texts: object) -> list[list[int]]:
    return [list(text.encode()) for text in texts]  # type: ignore[attr-defined]


def test_a_text_file_is_cut_at_blank_lines(tmp_path: Path) -> None:
    lines = [f"{'line of some length ' * 5}{n}\n" + ("\n" if n % 3 == 0 else "") for n in range(900)]
    file = tmp_path / "story.txt"
    file.write_text("".join(lines), encoding="utf-8")
    read = load_texts(file)
    assert len(read) > 30
    assert all(text.count("\n\n") for text in read.texts[:-1])
    assert "\n\n".join(read.texts).split() == "".join(lines).split()
    train, test = (load_texts(file, split=name) for name in ("train", "test"))
    assert sorted(train.names + test.names) == sorted(read.names)


def test_json_lines(tmp_path: Path) -> None:
    file = tmp_path / "docs.jsonl"
    file.write_text('{"text": "one"}\n\n{"text": "two", "id": 4}\n', encoding="utf-8")
    assert load_texts(file).texts == ("one", "two")
    with pytest.raises(DataError, match="no 'body'"):
        load_texts(file, text_key="body")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"text": ', "Line 2 of .* is not JSON"),
        ("[1]", "Line 2 of .* holds a list"),
        ('{"text": 5}', "Line 2 of .* has a int under 'text'"),
        ('{"words": "x"}', "no text was found under the usual names"),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, line: str, message: str) -> None:
    file = tmp_path / "docs.jsonl"
    file.write_text('{"text": "one"}\n' + line, encoding="utf-8")
    with pytest.raises(DataError, match=message):
        load_texts(file)


def test_tables_with_and_without_a_header(tmp_path: Path) -> None:
    file = tmp_path / "docs.tsv"
    file.write_text('label\tsentence\n1\tsaid "so\r\n0\ttwo\u2028 lines\n', encoding="utf-8")
    assert load_texts(file).texts == ('said "so', "two\u2028 lines")
    assert load_texts(file, text_key="0").texts == ("label", "1", "0")
    with pytest.raises(DataError, match=r"Line 1 of .* has 2 columns, and the text is in column 7"):
        load_texts(file, text_key="7")


def test_a_folder_holds_whole_documents_and_may_be_divided(tmp_path: Path) -> None:
    (tmp_path / "train").mkdir()
    (tmp_path / "train" / "a.txt").write_text("one\n\ntwo", encoding="utf-8")
    (tmp_path / "test.jsonl").write_text('{"text": "three"}', encoding="utf-8")
    assert load_texts(tmp_path, split="train").texts == ("one\n\ntwo",)
    assert load_texts(tmp_path, split="test").texts == ("three",)
    assert len(load_texts(tmp_path)) == 2
    with pytest.raises(DataError, match="has no split 'validation'"):
        load_texts(tmp_path, split="validation")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.txt", b"\xff\xfe\x00text", "cannot be read as UTF-8 text"),
        ("a.txt", b" \n\n ", "holds no text"),
        ("a.pdf", b"x", "has the suffix '.pdf'"),
        ("b.tsv", b"", "holds no text"),
    ],
)
def test_files_that_are_not_text(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=message):
        load_texts(tmp_path / name)


def test_places_without_texts(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"There are no texts at 'python-dox'.* Did you mean 'python-docs'"):
        load_texts("python-dox")
    with pytest.raises(DataError, match="holds no texts"):
        load_texts(tmp_path)
    with pytest.raises(DataError, match="a name or a path is needed"):
        load_texts("")
    with pytest.raises(DataError, match="has no meaning for python-docs"):
        load_texts("python-docs", text_key="text")


def test_more_documents_change_nothing_for_the_others(tmp_path: Path) -> None:
    file = tmp_path / "docs.jsonl"
    lines = [json.dumps({"text": f"document {n}"}) for n in range(200)]
    file.write_text("\n".join(lines[:100]), encoding="utf-8")
    before = load_texts(file, split="test").texts
    file.write_text("\n".join(lines), encoding="utf-8")
    after = load_texts(file, split="test").texts
    assert after[: len(before)] == before
    assert 5 < len(after) < 40


def test_the_built_in_corpus_is_english_and_the_same_in_every_process() -> None:
    read = load_texts("python-docs")
    assert read.characters > 500_000
    words = " ".join(read.texts).split()
    assert words.count("the") > 0.04 * len(words)
    code = "from assay.data.texts import load_texts; print(load_texts('python-docs').digest)"
    again = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=100)
    assert again.stdout.strip() == read.digest
    assert len({paragraph for text in read.texts for paragraph in text.split("\n")}) == sum(
        text.count("\n") + 1 for text in read.texts
    )


def test_prose_is_kept_and_code_is_not() -> None:
    text = """Return the name of the file, as :meth:`Path.name` does, or ``None`` if there is no *file* at all.

    >>> Return("the name of the file, or none if there is no file at all.")

    x = y_1 + z_2 * (a[1] - b[2]) / 5.6 % foo(bar, baz=3) and so on and so on.

    Too short.
    """
    assert list(prose(text)) == [
        'Return the name of the file, as Path.name does, or "None" if there is no file at all.'
    ]


@given(st.lists(st.text(alphabet="abc", min_size=1, max_size=30), min_size=1, max_size=8), st.integers(2, 9))
def test_windows_predict_every_token_once(texts: list[str], length: int) -> None:
    stream = [token for text in texts for token in (*text.encode(), 0)]
    if len(stream) < length:
        with pytest.raises(DataError, match="fewer than one window"):
            token_windows(corpus(*texts), as_bytes, length=length, stop=0, vocab_size=128)
        return
    data = token_windows(corpus(*texts), as_bytes, length=length, stop=0, vocab_size=128)
    ids = data.images()
    assert ids.dtype == np.int64
    assert [token for row in ids for token in row[1:]] == stream[1 : 1 + len(data) * (length - 1)]
    assert len(stream) - 1 - len(data) * (length - 1) < length - 1
    starts = np.cumsum([0, *(len(text) + 1 for text in texts)])
    for number, owner in enumerate(data.labels):
        assert starts[owner] <= number * (length - 1) < starts[owner + 1]


def test_a_dataset_of_tokens_is_a_dataset() -> None:
    data = token_windows(corpus("abcdefgh", "ij"), as_bytes, length=4, stop=0, vocab_size=128)
    assert (len(data), data.length) == (3, 4)
    assert data.subset([2, 0]).sample_ids.tolist() == [2, 0]
    assert data.subset([2, 0]).images().tolist() == data.images()[[2, 0]].tolist()
    assert data.head(2).digest != data.digest
    assert data.describe()["vocab_size"] == 128
    assert "length=4" in repr(data)
    other = token_windows(corpus("abcdefgh", "ij"), as_bytes, length=4, stop=0, vocab_size=128, vocabulary="{}")
    assert other.digest != data.digest


def test_ids_beyond_the_vocabulary_and_windows_too_short() -> None:
    with pytest.raises(DataError, match="allowed: 0 to 98"):
        token_windows(corpus("abcdefgh"), as_bytes, length=4, stop=0, vocab_size=99)
    with pytest.raises(DataError, match="at least 2"):
        token_windows(corpus("abcdefgh"), as_bytes, length=1, stop=0, vocab_size=128)


def test_a_corpus_describes_itself() -> None:
    one, two = corpus("a", "bc"), corpus("abc")
    assert one.digest != two.digest
    assert one.head(1).texts == ("a",)
    assert one.describe()["characters"] == 3
    assert "characters=3" in repr(one)
    with pytest.raises(DataError, match="at least 1 document"):
        one.head(0)
