"""Readers of text files: .txt, .jsonl, .tsv, and folders of them."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from ...core.errors import DataError
from ..request import given_name, listed, reading, shown, split_of, usual_name

USUAL = ("text", "content", "document", "body", "sentence", "article")
PIECE = 2000
"""Characters after which a .txt file that stands alone is cut at the next blank line."""

Named = tuple[str, str, str | None]
"""Name of a document, its text, and the split that its source says it belongs to."""


def read_folder(folder: Path, text_key: str | None) -> list[Named]:
    """The documents of all files below a folder, in the order of their paths.

    A file or a first folder whose name speaks of a split decides for its documents.
    """
    files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in READERS and path.is_file())
    if not files:
        raise DataError(f"{shown(folder)} holds no texts. Files with the suffixes {', '.join(READERS)} are read.")
    found: list[Named] = []
    for path in files:
        place = path.relative_to(folder)
        own = split_of(place.parts[0] if len(place.parts) > 1 else place.stem)
        key = None if path.suffix.lower() == ".txt" else text_key
        found += [
            (place.as_posix() + name, text, own or inner) for name, text, inner in read_file(path, key, whole=True)
        ]
    return found


def read_file(path: Path, text_key: str | None, *, whole: bool) -> list[Named]:
    """The documents of one file.

    Args:
        path: the file.
        text_key: field or column with the text.
        whole: whether a .txt file is one document, rather than cut at blank lines.
    """
    suffix = path.suffix.lower()
    if suffix not in READERS:
        raise DataError(
            f"{shown(path)} has the suffix {path.suffix!r}, for which there is no reader of texts. "
            f"Allowed: {', '.join(READERS)}."
        )
    if suffix == ".txt" and text_key is not None:
        raise DataError(f"text_key={text_key!r} has no meaning for {shown(path)}: a .txt file has no fields.")
    with reading(shown(path), "UTF-8 text"):
        content = path.read_bytes().decode("utf-8-sig")
    own = None if whole else split_of(path.stem)
    return [(name, text, own) for name, text in READERS[suffix](content, path, text_key, whole)]


def _txt(content: str, path: Path, text_key: str | None, whole: bool) -> Iterator[tuple[str, str]]:
    lines = content.splitlines(keepends=True)
    if whole:
        yield "", content
        return
    piece: list[str] = []
    size = number = 0
    for line in lines:
        piece.append(line)
        size += len(line)
        if size >= PIECE and not line.strip():
            yield f"#{number}", "".join(piece).strip("\r\n")
            piece, size, number = [], 0, number + 1
    yield f"#{number}", "".join(piece).strip("\r\n")


def _jsonl(content: str, path: Path, text_key: str | None, whole: bool) -> Iterator[tuple[str, str]]:
    for number, line in enumerate(content.split("\n"), 1):
        if not line.strip():
            continue
        place = f"Line {number} of {shown(path)}"
        try:
            value = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise DataError(f"{place} is not JSON: {error}. One object a line is needed.") from error
        if not isinstance(value, dict):
            raise DataError(f"{place} holds a {type(value).__name__}; an object with a text is needed.")
        key = _key(list(value), text_key, place)
        if not isinstance(value[key], str):
            raise DataError(f"{place} has a {type(value[key]).__name__} under {key!r}; text is needed.")
        yield f"#{number}", value[key]


def _tsv(content: str, path: Path, text_key: str | None, whole: bool) -> Iterator[tuple[str, str]]:
    csv.field_size_limit(sys.maxsize)
    with reading(shown(path), "a table"):
        rows = list(csv.reader(content.replace("\r\n", "\n").split("\n"), delimiter="\t", quoting=csv.QUOTE_NONE))
    if not any(rows):
        return
    if text_key is not None and text_key.isdigit():
        column, first = int(text_key), 0
    else:
        column, first = rows[0].index(_key(rows[0], text_key, shown(path))), 1
    for number, row in enumerate(rows[first:], first + 1):
        if not row:
            continue
        if column >= len(row):
            raise DataError(
                f"Line {number} of {shown(path)} has {len(row)} columns, and the text is in column {column} (from 0). "
                "Name another one with text_key, or repair the line."
            )
        yield f"#{number}", row[column]


def _key(names: list[str], given: str | None, where: str) -> str:
    if given is not None:
        return given_name(names, given, "text_key", where)
    found = usual_name(names, USUAL)
    if found is None:
        raise DataError(
            f"{where}: no text was found under the usual names ({', '.join(USUAL)}). There are: {listed(names)}. "
            "Say which with text_key; text_key=0 is the first column of a .tsv file without a header."
        )
    return found


READERS: dict[str, Callable[[str, Path, str | None, bool], Iterator[tuple[str, str]]]] = {
    ".txt": _txt,
    ".jsonl": _jsonl,
    ".tsv": _tsv,
}
