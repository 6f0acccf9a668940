"""load_texts: from a name or a path to a Corpus."""

from __future__ import annotations

import os
from pathlib import Path

from ...core.errors import DataError
from ..request import close_to, short_name, shown
from .corpus import Corpus
from .readers import READERS, read_file, read_folder

PYTHON_DOCS = "python-docs"
KINDS = f"{PYTHON_DOCS} (built in), a {', '.join(READERS)} file, or a folder of these"


def load_texts(
    spec: str | os.PathLike[str], *, split: str | None = None, text_key: str | None = None, limit: int | None = None
) -> Corpus:
    """Read documents from files or the built-in corpus.

    Args:
        spec: ``"python-docs"``, the English of Python's own documentation and docstrings, which is the same for one
            version of Python; or a path: a .txt file, which is cut into documents at blank lines; .jsonl with an
            object a line; .tsv; or a folder of these, in which a .txt file is one document.
        split: ``"train"``, ``"test"`` or ``"all"``. Files and folders named for splits decide; else one document of
            ten is for testing, by its name.
        text_key: field or column with the text, if not under a usual name. A whole number counts the columns of a
            .tsv file without a header, from 0.
        limit: the first so many documents only.

    Returns:
        A Corpus.

    Raises:
        DataError: the texts are missing, damaged or not text; the message says what to do.

    >>> corpus = load_texts("python-docs", split="test")
    >>> len(corpus) > 20, corpus.split
    (True, 'test')
    """
    if spec == PYTHON_DOCS:
        from .python_docs import read_python_docs

        if text_key is not None:
            raise DataError(f"text_key={text_key!r} has no meaning for {PYTHON_DOCS}. Leave it out.")
        found = read_python_docs(split)
    else:
        found = _from_path(spec, split, text_key)
    return found if limit is None else found.head(limit)


def _from_path(spec: str | os.PathLike[str], split: str | None, text_key: str | None) -> Corpus:
    if not isinstance(spec, (str, os.PathLike)) or not os.fspath(spec):
        raise DataError(f"The texts are {spec!r}; a name or a path is needed: {KINDS}.")
    path = Path(spec)
    try:
        folder, file = path.is_dir(), path.is_file()
    except (OSError, ValueError) as error:
        raise DataError(f"{shown(path)} cannot be opened: {error}.") from error
    if not folder and not file:
        known = [PYTHON_DOCS, *(entry.name for entry in os.scandir(path.parent))] if path.parent.is_dir() else []
        raise DataError(f"There are no texts at {shown(path)}.{close_to(path.name, known)} Texts are {KINDS}.")
    documents = read_folder(path, text_key) if folder else read_file(path, text_key, whole=False)
    return Corpus.assemble(documents, name=short_name(path), source=path.name, split=split)
