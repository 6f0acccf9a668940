"""Documents from text files, JSON lines, folders and pipes, one after the other in bounded memory.

What cannot be read becomes a ``BadLine`` that says where and why, and the rest goes on. A document longer than a
piece is cut into pieces, at white space where there is some; pieces may overlap, so that nothing on a seam is missed.
"""

from __future__ import annotations

import codecs
import glob
import gzip
import json
import os
import sys
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from ..core.errors import DataError, SettingError

PIECE = 1_000_000
LONGEST_LINE = 64 * 2**20
LONGEST_NAME = 500
STANDARD_INPUT = "-"
_CHUNK = 2**16
_TEXT, _LINES = (".txt", ".md"), (".jsonl", ".ndjson")
_KINDS = {str: "text", bool: "true or false", int: "a number", float: "a number", list: "a list", dict: "a mapping"}


@dataclass(frozen=True, eq=False)
class Document:
    """A text, or token ids, or a piece of either.

    Args:
        source: the file as it was named, ``-`` for standard input.
        line: its line in a file of JSON lines, from 1; None for a file that is one document.
        id: its name: what the line says, else ``source:line`` or the source.
        text: None if ids are given.
        ids: int64 [T]; None if text is given.
        start: characters (or ids) of the document before this piece.
        part: number of the piece, from 0.
        last: whether the document ends with it.
        size: bytes of the file, about, that this piece took; for progress.
    """

    source: str
    line: int | None
    id: str
    text: str | None = None
    ids: np.ndarray | None = None
    start: int = 0
    part: int = 0
    last: bool = True
    size: int = 0

    @property
    def label(self) -> str:
        """The name, and which piece it is if there are several."""
        return self.id if self.last and not self.part else f"{self.id} (piece {self.part + 1})"


@dataclass(frozen=True)
class BadLine:
    """A line, or a whole file, that cannot be read."""

    source: str
    line: int | None
    reason: str

    def __str__(self) -> str:
        return f"{self.source}{f', line {self.line}' if self.line else ''}: {self.reason}"


class _Bad(Exception):
    """Why a line cannot be used."""


def read(
    paths: Iterable[str | Path],
    *,
    kind: str = "text",
    field: str | None = None,
    id_field: str = "id",
    piece: int = PIECE,
    overlap: int = 0,
) -> Iterator[Document | BadLine]:
    """The documents of files, folders and patterns, in a fixed order.

    A ``.txt`` or ``.md`` file is one document, a ``.jsonl`` or ``.ndjson`` file one document a line; either may be
    compressed (``.gz``). ``-`` is standard input: JSON lines if it begins with ``{`` (or if ids are wanted), else one
    text. Folders are searched for such files, in the order of their names; patterns such as ``*.jsonl`` are expanded.

    Args:
        paths: what to read.
        kind: ``"text"`` or ``"ids"``.
        field: field of a line with the text or ids; default: ``text`` or ``ids``.
        id_field: field with a document's name, which need not be there.
        piece: characters (or ids) of a piece at most; lines of more than 64 MiB are not read.
        overlap: characters (or ids) that a piece shares with the one before.

    Yields:
        Documents, their pieces in order, and bad lines where they stand.

    Raises:
        DataError: a path does not exist, is of no known kind, or a folder holds no texts; raised before anything is
            read.

    >>> import tempfile
    >>> with tempfile.NamedTemporaryFile("w", suffix=".jsonl") as file:
    ...     _ = file.write('{"id": "a", "text": "one"}\\nnot JSON\\n')
    ...     file.flush()
    ...     first, second = read([file.name])
    >>> first.id, first.text, second.line, second.reason
    ('a', 'one', 2, 'not JSON (Expecting value at character 1)')
    """
    if kind not in ("text", "ids"):
        raise SettingError(f"kind is {kind!r}; allowed: text, ids.")
    if not 0 <= overlap <= piece // 2:
        raise SettingError(f"overlap is {overlap}; allowed: 0 to half a piece, {piece // 2}.")
    files = list_files(paths)
    if kind == "ids":
        for path in files:
            if _suffix(path) in _TEXT:
                raise DataError(
                    f'{path!r} is plain text, and token ids are wanted: JSON lines such as {{"ids": [1, 2]}}.'
                )
    return _documents(files, kind, field or kind, id_field, piece, overlap)


def list_files(paths: Iterable[str | Path]) -> list[str]:
    """The files that ``read`` reads, in its order; ``-`` stays as it is.

    Raises:
        DataError: as for ``read``.
    """
    found: list[str] = []
    for path in map(str, paths):
        if path == STANDARD_INPUT:
            found.append(path)
        elif os.path.isdir(path):
            inside = sorted(_inside(path))
            if not inside:
                raise DataError(f"The folder {path!r} holds no .txt, .md or .jsonl file. Check the path.")
            found += inside
        elif os.path.lexists(path) if "\0" not in path else False:
            if _suffix(path) not in (*_TEXT, *_LINES) and not _is_pipe(path):
                raise DataError(
                    f"{path!r} is of no known kind. Known: .txt and .md (one document), .jsonl and .ndjson (a document "
                    "a line), each also with .gz; give anything else through standard input, as -."
                )
            found.append(path)
        else:
            matching = sorted(glob.glob(path, recursive=True)) if glob.has_magic(path) else []
            if not matching:
                raise DataError(f"There is no file or folder {path!r}. Check the path.")
            found += list_files(match for match in matching if os.path.isdir(match) or _known(match))
    repeated = {name for name in found if found.count(name) > 1} if len(found) < 1000 else set()
    if repeated:
        raise DataError(f"{sorted(repeated)[0]!r} is given twice. Name it once.")
    return found


def _inside(folder: str) -> Iterator[str]:
    for place, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        yield from (os.path.join(place, name) for name in names if not name.startswith(".") and _known(name))


def _suffix(path: str) -> str:
    return os.path.splitext(path.lower().removesuffix(".gz"))[1]


def _known(path: str) -> bool:
    return _suffix(path) in (*_TEXT, *_LINES)


def _is_pipe(path: str) -> bool:
    return os.path.exists(path) and not os.path.isfile(path)


def _documents(
    files: Sequence[str], kind: str, field: str, id_field: str, piece: int, overlap: int
) -> Iterator[Document | BadLine]:
    for source in files:
        try:
            with _opened(source) as file:
                lines, file = _holds_lines(source, file, kind)
                if lines:
                    for number, content in _lines(file):
                        yield from _of_line(source, number, content, kind, field, id_field, piece, overlap)
                else:
                    yield from _of_text(source, file, piece, overlap)
        except (OSError, EOFError, zlib.error) as error:
            yield BadLine(source, None, f"cannot be read on: {getattr(error, 'strerror', None) or error}")


@contextmanager
def _opened(source: str) -> Iterator[IO[bytes]]:
    if source == STANDARD_INPUT:
        yield sys.stdin.buffer
    elif source.lower().endswith(".gz"):
        with gzip.open(source, "rb") as file:
            yield file  # type: ignore[misc]
    else:
        with open(source, "rb") as file:
            yield file


class _Begun:
    """A stream whose first bytes were read already."""

    def __init__(self, head: bytes, file: IO[bytes]) -> None:
        self.head, self.file = head, file

    def read(self, n: int) -> bytes:
        if not self.head:
            return self.file.read(n)
        found, self.head = self.head[:n], self.head[n:]
        return found

    def readline(self, n: int) -> bytes:
        if not self.head:
            return self.file.readline(n)
        end = self.head.find(b"\n") + 1 or len(self.head)
        found, self.head = self.head[: min(end, n)], self.head[min(end, n) :]
        return found if found.endswith(b"\n") or len(found) == n else found + self.file.readline(n - len(found))


def _holds_lines(source: str, file: Any, kind: str) -> tuple[bool, Any]:
    """Whether a stream is JSON lines, and the stream; one without a telling name is judged by its first letter."""
    suffix = _suffix(source)
    if suffix in _TEXT or suffix in _LINES or kind == "ids":
        return suffix not in _TEXT, file
    head = b""
    while not head.strip() and len(head) < _CHUNK:
        more = file.read(64)
        if not more:
            break
        head += more
    return head.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"{"), _Begun(head, file)


def _lines(file: Any) -> Iterator[tuple[int, bytes | None]]:
    """(number, content) of every line; None for a line that is too long, which is passed over."""
    number = 0
    while content := file.readline(LONGEST_LINE + 1):
        number += 1
        if len(content) > LONGEST_LINE:
            while content and not content.endswith(b"\n"):
                content = file.readline(_CHUNK)
            yield number, None
        else:
            yield number, content


def _of_line(
    source: str, number: int, content: bytes | None, kind: str, field: str, id_field: str, piece: int, overlap: int
) -> Iterator[Document | BadLine]:
    if content is None:
        yield BadLine(source, number, f"longer than {LONGEST_LINE // 2**20} MiB; cut it, or give it as a .txt file")
        return
    if number == 1:
        content = content.removeprefix(codecs.BOM_UTF8)
    if not content.strip():
        return
    try:
        name, value = _parsed(content, kind, field, id_field)
        name = f"{source}:{number}" if name is None else name
        if kind == "ids":
            yield from _pieces_of_ids(source, number, name, _ids(value, field), piece, overlap, len(content))
            return
        if not isinstance(value, str):
            raise _Bad(f"the field {field!r} is {_kind(value)}; text is needed")
    except _Bad as bad:
        yield BadLine(source, number, str(bad))
        return
    for part, (start, text, last) in enumerate(cut([value], piece, overlap)):
        size = 0 if part else len(content)
        yield Document(source, number, name, text=text, start=start, part=part, last=last, size=size)


def _parsed(content: bytes, kind: str, field: str, id_field: str) -> tuple[str | None, Any]:
    """The name (None: it has none) and the value of a line."""
    try:
        value = json.loads(content.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise _Bad(f"not UTF-8 (at byte {error.start + 1})") from None
    except json.JSONDecodeError as error:
        raise _Bad(f"not JSON ({error.msg.split(':')[0]} at character {error.pos + 1})") from None
    except RecursionError:
        raise _Bad("JSON that is nested too deeply") from None
    except ValueError:
        raise _Bad("not JSON that can be read: a number has too many digits") from None
    if isinstance(value, list) and kind == "ids":
        return None, value
    if not isinstance(value, dict):
        raise _Bad(f'{_kind(value)}; a mapping such as {{"{field}": ...}} is needed')
    if field not in value:
        there = ", ".join(repr(str(name)[:30]) for name in list(value)[:6]) or "none"
        raise _Bad(f"no field {field!r}; its fields: {there}")
    return _name(value.get(id_field), id_field), value[field]


def _name(value: Any, field: str) -> str | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise _Bad(f"the field {field!r} is {_kind(value)}; a name or a whole number is needed")
    name = whole_characters(value) if isinstance(value, str) else str(value) if abs(value) < 10**30 else "x" * 1000
    if len(name) > LONGEST_NAME:
        raise _Bad(f"the field {field!r} is longer than {LONGEST_NAME} characters")
    return name


def _kind(value: Any) -> str:
    return _KINDS.get(type(value), "null")


def _ids(value: Any, field: str) -> np.ndarray:
    if not isinstance(value, list):
        raise _Bad(f"the field {field!r} is {_kind(value)}; a list of token ids is needed")
    for position, item in enumerate(value):
        if type(item) is not int:
            raise _Bad(f"the field {field!r} has {_kind(item)} at position {position}; whole numbers are needed")
        if not 0 <= item < 2**31:
            raise _Bad(f"the field {field!r} has an id at position {position} that is negative or 2^31 or more")
    return np.array(value, dtype=np.int64)


def _pieces_of_ids(
    source: str, number: int, name: str, ids: np.ndarray, piece: int, overlap: int, size: int
) -> Iterator[Document]:
    start = part = 0
    while True:
        last = start + piece >= len(ids)
        chosen = ids[start : start + piece]
        yield Document(source, number, name, ids=chosen, start=start, part=part, last=last, size=size)
        if last:
            return
        start, part, size = start + piece - overlap, part + 1, 0


def _of_text(source: str, file: Any, piece: int, overlap: int) -> Iterator[Document | BadLine]:
    name = "standard input" if source == STANDARD_INPUT else source
    bad: list[BadLine] = []
    for part, (start, text, last) in enumerate(cut(_decoded(source, file, bad), piece, overlap)):
        if text or not bad:
            size = max(0, len(text) - overlap * bool(part))
            yield Document(source, None, name, text=text, start=start, part=part, last=last, size=size)
    yield from bad


def _decoded(source: str, file: Any, bad: list[BadLine]) -> Iterator[str]:
    """Text in chunks; where it is no UTF-8, it ends, and ``bad`` says so."""
    decoder = codecs.getincrementaldecoder("utf-8-sig")()
    line, done = 1, False
    while not done:
        content = file.read(_CHUNK)
        done = not content
        if b"\0" in content:
            before = content[: content.index(b"\0")]
            bad.append(BadLine(source, line + before.count(b"\n"), _binary(content)))
            return
        try:
            text = decoder.decode(content, final=done)
        except UnicodeDecodeError as error:
            line += error.object[: error.start].count(b"\n")
            bad.append(BadLine(source, line, "not UTF-8; what follows is not read. Convert it, for example with iconv"))
            yield error.object[: error.start].decode("utf-8", errors="ignore")
            return
        line += content.count(b"\n")
        yield text


def _binary(content: bytes) -> str:
    if content[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
        return "UTF-16; convert it: iconv -f UTF-16 -t UTF-8"
    return "a binary file, not text; what follows is not read"


def cut(chunks: Iterable[str], piece: int, overlap: int) -> Iterator[tuple[int, str, bool]]:
    """Text that comes in chunks, as (start, piece, whether it is the last), pieces of at most ``piece`` characters.

    A piece ends after white space if there is some in its last tenth; the next begins ``overlap`` characters before
    that end, or a little later, after white space.

    >>> list(cut(["aaa bbb ", "ccc"], 8, 4))
    [(0, 'aaa bbb ', False), (4, 'bbb ccc', True)]
    """
    waiting, start = "", 0
    for chunk in chunks:
        waiting += chunk
        while len(waiting) > piece:
            end = _after_space(waiting, piece - piece // 10, piece, from_end=True) or piece
            yield start, whole_characters(waiting[:end]), False
            again = end - overlap
            if overlap:
                again = _after_space(waiting, again, again + overlap // 4, from_end=False) or again
            again = max(again, 1)
            start, waiting = start + again, waiting[again:]
    yield start, whole_characters(waiting), True


def _after_space(text: str, low: int, high: int, *, from_end: bool) -> int:
    """The place after white space between two places, the last or the first one; 0 if there is none."""
    places = range(high, low, -1) if from_end else range(low + 1, high + 1)
    return next((place for place in places if text[place - 1].isspace()), 0)


def whole_characters(text: str) -> str:
    """Text whose half surrogate pairs, which JSON may hold and no tokenizer takes, became U+FFFD."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text
