"""The built-in corpus: the English that every Python carries, in its help topics and its library's docstrings.

Nothing is imported: files are parsed, and string literals taken out of them. Of these the paragraphs of prose are kept,
unwrapped and without markup; code, tables and grammar are left out.
"""

from __future__ import annotations

import ast
import os
import platform
import re
import sysconfig
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from ...core.errors import DataError
from .corpus import Corpus

TOPICS = "pydoc_data/topics.py"
SKIPPED = re.compile(r"site-packages|dist-packages|tests?|idle_test|pydoc_data|__pycache__|config-.*")
SHORTEST = 60
PLAIN = 0.8
"""Share of a paragraph's words that consist of letters alone."""

_BLANK = re.compile(r"\n\s*\n")
_SPACE = re.compile(r"\s+")
_ROLE = re.compile(r":(?:[a-z]+:)?[a-z]+:`~?([^`<]+)[^`]*`")
_QUOTED = re.compile(r"`([^`]+)`_*")
_STRESS = re.compile(r"\*{1,2}([^*\s][^*]*)\*{1,2}")
_BULLET = re.compile(r"^[*\-] +")
_WORD = re.compile(r"[\"'(“]*[A-Za-z][a-z'’\-]*[\"')”]*[.,;:!?]*[\"')”]*")


def read_python_docs(split: str | None = None) -> Corpus:
    """The prose of this Python's help topics and docstrings; a topic or a module is a document.

    The same for one version of Python with its whole standard library. About 1.2 million characters.

    Raises:
        DataError: the standard library is not there as source files.

    Cost: about 3 s, once a process.
    """
    documents = _documents()
    if not documents:
        raise DataError(
            f"The standard library is not at {sysconfig.get_path('stdlib')!r} as source files, so there is no "
            "python-docs. Give a text file of your own."
        )
    notes = (f"Paragraphs of prose from the help topics and docstrings of Python {platform.python_version()}.",)
    return Corpus.assemble(documents, name="python-docs", source="python-docs", split=split, notes=notes)


@cache
def _documents() -> tuple[tuple[str, str, None], ...]:
    library = Path(sysconfig.get_path("stdlib"))
    seen: set[str] = set()
    found = []
    for name, texts in (*_topics(library), *_docstrings(library)):
        kept = []
        for paragraph in (paragraph for text in texts for paragraph in prose(text)):
            if paragraph not in seen:
                seen.add(paragraph)
                kept.append(paragraph)
        if kept:
            found.append((name, "\n".join(kept), None))
    return tuple(found)


def prose(text: str) -> Iterator[str]:
    """The paragraphs of a docstring that read as English, each on one line.

    >>> list(prose("Return the value of the named field, or the\\n    default where there is *none*.\\n\\n>>> get(1)"))
    ['Return the value of the named field, or the default where there is none.']
    """
    for block in _BLANK.split(text):
        line = _SPACE.sub(" ", block).strip()
        line = _ROLE.sub(r"\1", line).replace("``", '"')
        line = _BULLET.sub("", _STRESS.sub(r"\1", _QUOTED.sub(r"\1", line)))
        if len(line) < SHORTEST or not line[0].isupper() or line[-1] not in ".:!?" or ">>>" in line:
            continue
        words = line.split()
        if sum(_WORD.fullmatch(word) is not None for word in words) >= PLAIN * len(words):
            yield line


def _topics(library: Path) -> Iterator[tuple[str, list[str]]]:
    tree = _parsed(library / TOPICS)
    for node in ast.walk(tree) if tree else ():
        if isinstance(node, ast.Dict):
            for key, value in zip(node.keys, node.values, strict=True):
                name, text = (getattr(item, "value", None) for item in (key, value))
                if isinstance(name, str) and isinstance(text, str):
                    yield f"topic {name}", [text]


def _docstrings(library: Path) -> Iterator[tuple[str, list[str]]]:
    for name in sorted(_modules(library)):
        tree = _parsed(library / name)
        found = [ast.get_docstring(node) for node in _documented(tree)] if tree else []
        yield name, [text for text in found if text]


def _modules(library: Path) -> Iterator[str]:
    """The modules of the standard library, without its tests and what is installed beside it."""
    for folder, folders, files in os.walk(library):
        place = Path(folder).relative_to(library)
        folders[:] = [name for name in folders if not SKIPPED.fullmatch(name)]
        for name in files:
            if name.endswith(".py") and not name.startswith("_sysconfigdata"):
                yield (place / name).as_posix()


def _documented(node: ast.AST) -> Iterator[ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef]:
    """The module, classes and functions in the order of the file; expressions, most of a tree, are not looked into."""
    if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
        yield node
    for part in ("body", "handlers", "orelse", "finalbody"):
        for child in getattr(node, part, ()):
            if hasattr(child, "body"):
                yield from _documented(child)


def _parsed(path: Path) -> ast.Module | None:
    """The syntax tree of a file; None for one that is missing or not of this Python, such as a template."""
    try:
        return ast.parse(path.read_bytes())
    except (OSError, SyntaxError, ValueError):
        return None
