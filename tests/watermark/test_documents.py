"""Documents come out as they are in the files, whatever else is there, and in bounded memory."""

from __future__ import annotations

import gzip
import io
import json
import os
import sys
import tracemalloc
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from assay.core.errors import DataError, SettingError
from assay.watermark import documents
from assay.watermark.documents import BadLine, Document, cut, list_files, read

TEXTS = st.text(max_size=30)


def plain(items: Any) -> list[Any]:
    """What matters, for comparison."""
    return [
        (item.source, item.line, item.id, item.text if item.ids is None else item.ids.tolist(), item.start, item.last)
        if isinstance(item, Document)
        else (item.source, item.line, "bad")
        for item in items
    ]


GOOD = st.fixed_dictionaries({"text": TEXTS}, optional={"id": st.integers(0, 99) | st.text(min_size=1, max_size=4)})
BAD = st.sampled_from(["nonsense", "{", "[1]", '"x"', "3", "{}", '{"text": 1}', '{"text": null}', "NaN", '{"text": "a', '{"id": [1], "text": "a"}', "\x00", "[" * 5000, '{"text": ' + "9" * 5000 + "}"])  # fmt: skip  # noqa: E501


@given(lines=st.lists(GOOD | BAD | st.just("")), ending=st.sampled_from(["\n", "\r\n"]))
def test_bad_lines_are_named_and_the_others_are_read(tmp_path_factory: Any, lines: list[Any], ending: str) -> None:
    path = str(tmp_path_factory.getbasetemp() / "mixed.jsonl")
    with open(path, "wb") as file:
        for line in lines:
            file.write((line if isinstance(line, str) else json.dumps(line)).encode() + ending.encode())
    expected: list[Any] = []
    for number, line in enumerate(lines, 1):
        if isinstance(line, dict):
            name = str(line["id"]) if "id" in line else f"{path}:{number}"
            expected.append((path, number, name, line["text"], 0, True))
        elif line:
            expected.append((path, number, "bad"))
    assert plain(read([path])) == expected


@given(content=st.binary(max_size=120), kind=st.sampled_from(["text", "ids"]), name=st.sampled_from(["f.jsonl", "f.txt", "f.jsonl.gz", "f.txt.gz"]))  # fmt: skip  # noqa: E501
def test_any_bytes_are_documents_or_bad_lines(tmp_path_factory: Any, content: bytes, kind: str, name: str) -> None:
    if kind == "ids" and ".txt" in name:
        return
    path = tmp_path_factory.getbasetemp() / name
    path.write_bytes(content)
    for item in read([path], kind=kind):
        assert isinstance(item, Document | BadLine)
        if isinstance(item, Document) and item.text is not None:
            item.text.encode()


@given(
    value=st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["ids", "id", "text"]), inner),
        max_leaves=8,
    ),
    kind=st.sampled_from(["text", "ids"]),
)
def test_any_json_is_a_document_or_a_bad_line(tmp_path_factory: Any, value: Any, kind: str) -> None:
    path = tmp_path_factory.getbasetemp() / "any.jsonl"
    path.write_text(json.dumps(value) + "\n")
    (item,) = read([path], kind=kind)
    if isinstance(item, Document) and kind == "ids":
        assert item.ids is not None
        assert item.ids.dtype == np.int64


def test_ids(tmp_path: Path) -> None:
    path = tmp_path / "ids.jsonl"
    lines = ['{"id": "a", "ids": [1, 2]}', "[3]", '{"ids": []}', '{"ids": [1, 2.0]}', '{"ids": [true]}', '{"ids": [-1]}', '{"ids": [2147483648]}', '{"ids": "1 2"}']  # fmt: skip  # noqa: E501
    path.write_text("\n".join(lines))
    found = list(read([path], kind="ids"))
    assert [item.ids.tolist() for item in found[:3]] == [[1, 2], [3], []]  # type: ignore[union-attr]
    reasons = [str(item) for item in found[3:]]
    assert [f"line {number}" in reason for number, reason in enumerate(reasons, 4)] == [True] * 5
    assert "a number at position 1" in reasons[0]
    assert "true or false" in reasons[1]


def test_other_fields(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"name": "n", "answer": "x"}\n{"name": 7}\n')
    first, second = read([path], field="answer", id_field="name")
    assert (first.id, first.text) == ("n", "x")  # type: ignore[union-attr]
    assert str(second) == f"{path}, line 2: no field 'answer'; its fields: 'name'"


@given(
    text=st.text("ab \n", max_size=200),
    piece=st.integers(4, 40),
    share=st.floats(0, 0.5),
    chunk=st.integers(1, 50),
)
def test_pieces_cover_the_text_and_overlap(text: str, piece: int, share: float, chunk: int) -> None:
    overlap = int(piece * share)
    pieces = list(cut([text], piece, overlap))
    chunks = [text[i : i + chunk] for i in range(0, len(text), chunk)]
    assert list(cut(chunks, piece, overlap)) == pieces, "pieces depend on how the text arrives"
    assert [last for _, _, last in pieces] == [False] * (len(pieces) - 1) + [True]
    end = 0
    for number, (start, part, _) in enumerate(pieces):
        assert text[start : start + len(part)] == part
        assert len(part) <= piece
        assert start <= end, "something is missing between two pieces"
        assert number == 0 or end - start >= overlap - overlap // 4, "the pieces overlap by less than was promised"
        assert number == 0 or start > pieces[number - 1][0]
        end = start + len(part)
    assert end == len(text)


def test_pieces_end_between_words() -> None:
    text = "word " * 1000
    pieces = [part for _, part, _ in cut([text], 333, 0)]
    assert "".join(pieces) == text
    assert all(part.endswith(" ") for part in pieces)


def test_long_documents_come_in_pieces(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("word " * 50)
    (tmp_path / "b.jsonl").write_text(json.dumps({"id": "b", "text": "word " * 50}) + "\n")
    (tmp_path / "c.jsonl").write_text(json.dumps({"id": "c", "ids": list(range(250))}) + "\n")
    for names, kind in ((["a.txt", "b.jsonl"], "text"), (["c.jsonl"], "ids")):
        for name in names:
            found = [
                item for item in read([tmp_path / name], kind=kind, piece=100, overlap=10) if isinstance(item, Document)
            ]
            assert [item.part for item in found] == list(range(len(found)))
            assert [item.last for item in found] == [False] * (len(found) - 1) + [True]
            assert "piece 2" in found[1].label
            for item in found:
                whole = "word " * 50 if kind == "text" else list(range(250))
                inside = item.text if item.ids is None else item.ids.tolist()
                assert inside is not None
                assert inside == whole[item.start : item.start + len(inside)]


def test_a_giant_line_is_reported_and_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(documents, "LONGEST_LINE", 1000)
    path = tmp_path / "a.jsonl"
    giant = json.dumps({"text": "x" * 300_000})
    path.write_text('{"text": "a"}\n' + giant + "\n" + '{"text": "b"}\n' + giant)
    found = list(read([path]))
    assert [getattr(item, "text", "bad") for item in found] == ["a", "bad", "b", "bad"]
    assert [item.line for item in found] == [1, 2, 3, 4]


def test_large_files_are_read_in_bounded_memory(tmp_path: Path) -> None:
    path = tmp_path / "large.txt"
    path.write_text("some words of a long text\n" * 200_000)
    tracemalloc.start()
    length = sum(len(item.text or "") for item in read([path], piece=50_000) if isinstance(item, Document))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert length == path.stat().st_size
    assert peak < 1_000_000


def files(folder: Path, names: Sequence[str]) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text('{"text": "x"}\n' if "jsonl" in name else "x")


def test_folders_and_patterns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    files(tmp_path, ["c/b.txt", "c/a.jsonl", "c/d/e.md", "c/.hidden.txt", "c/.git/x.txt", "c/image.png", "c/z.JSONL"])
    assert list_files(["c"]) == ["c/a.jsonl", "c/b.txt", "c/d/e.md", "c/z.JSONL"]
    assert list_files(["c/*.txt", "c/d"]) == ["c/b.txt", "c/d/e.md"]
    assert list_files(["c/**/*.md"]) == ["c/d/e.md"]
    assert list_files(["-"]) == ["-"]
    (tmp_path / "empty").mkdir()
    (tmp_path / "[1].txt").write_text("x")
    assert list_files(["[1].txt"]) == ["[1].txt"]
    for paths, why in {
        ("none.txt",): "no file or folder",
        ("*.jsonl",): "no file or folder",
        ("c/image.png",): "no known kind",
        ("empty",): "holds no",
        ("c", "c/b.txt"): "given twice",
        ("a\0b",): "no file or folder",
    }.items():
        with pytest.raises(DataError, match=why):
            list_files(paths)
    with pytest.raises(DataError, match="token ids are wanted"):
        read(["c/b.txt"], kind="ids")
    with pytest.raises(SettingError, match="kind"):
        read(["c"], kind="words")
    with pytest.raises(SettingError, match="overlap"):
        read(["c"], piece=100, overlap=51)


@pytest.mark.parametrize(
    ("content", "texts", "reason"),
    [
        (b"\xef\xbb\xbfone\r\ntwo", ["one\r\ntwo"], ""),
        ("naïve ✓".encode(), ["naïve ✓"], ""),
        (b"", [""], ""),
        (b"good\nb\xffad", ["good\nb"], "line 2: not UTF-8"),
        (b"cut \xe2\x82", ["cut "], "line 1: not UTF-8"),
        ("x".encode("utf-16"), [], "UTF-16"),
        (b"\x7fELF\x00\x01", [], "binary"),
    ],
)
def test_plain_text(tmp_path: Path, content: bytes, texts: list[str], reason: str) -> None:
    (tmp_path / "a.txt").write_bytes(content)
    found = list(read([tmp_path / "a.txt"]))
    assert [item.text for item in found if isinstance(item, Document)] == texts
    bad = [str(item) for item in found if isinstance(item, BadLine)]
    assert len(bad) == bool(reason)
    assert all(reason in line for line in bad)


def test_compressed_files_and_broken_ones(tmp_path: Path) -> None:
    content = gzip.compress(b'{"text": "a"}\n' + os.urandom(4000).hex().encode() + b'\n{"text": "b"}\n')
    (tmp_path / "a.jsonl.gz").write_bytes(content)
    (tmp_path / "b.jsonl.gz").write_bytes(content[: len(content) // 2])
    (tmp_path / "c.jsonl.gz").write_bytes(b"no gzip at all")
    assert [getattr(item, "text", "bad") for item in read([tmp_path / "a.jsonl.gz"])] == ["a", "bad", "b"]
    found = list(read([tmp_path]))
    assert [item.source.rsplit("/", 1)[1][0] for item in found if isinstance(item, BadLine)] == ["a", "b", "c"]


def test_a_file_that_vanishes_does_not_stop_the_others(tmp_path: Path) -> None:
    files(tmp_path, ["a.txt", "b.txt", "c.txt"])
    found = read([tmp_path])
    assert isinstance(next(found), Document)
    (tmp_path / "b.txt").unlink()
    bad, good = found
    assert isinstance(bad, BadLine)
    assert "No such file" in bad.reason
    assert isinstance(good, Document)


@pytest.mark.parametrize(
    ("content", "kind", "expected"),
    [
        (b'{"text": "a"}\n{"text": "b"}\n', "text", ["a", "b"]),
        (b'\xef\xbb\xbf\n  {"text": "a"}\n', "text", ["a"]),
        (b"An essay.\nTwo lines.", "text", ["An essay.\nTwo lines."]),
        (b"", "text", [""]),
        (b'{"ids": [1]}', "ids", [[1]]),
        (b"essay", "ids", ["bad"]),
    ],
)
def test_standard_input(monkeypatch: pytest.MonkeyPatch, content: bytes, kind: str, expected: list[Any]) -> None:
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(content)))
    found = [
        "bad" if isinstance(item, BadLine) else item.text if item.ids is None else item.ids.tolist()
        for item in read(["-"], kind=kind)
    ]
    assert found == expected


def test_half_characters_become_replacement_characters(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"id": "\\ud800", "text": "a\\ud83d b \\ud83d\\ude00"}\n')
    (item,) = read([tmp_path / "a.jsonl"])
    assert isinstance(item, Document)
    assert (item.id, item.text) == ("\ufffd", "a\ufffd b 😀")
