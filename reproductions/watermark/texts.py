"""The texts: files that the user has, each document once, a part of them held out from every training.

Files below the folder of data sets: ``text/ag_news/dev.tsv`` and ``test.tsv``, ``text/reviews/books_train.tsv`` and
``books_test.tsv``, ``text/sst2/train.tsv`` and ``dev.tsv``, ``text/tinyshakespeare.txt``.
"""

from __future__ import annotations

import csv
import hashlib
import html
import io
import re
from collections.abc import Callable, Iterator, Mapping

from assay.core.errors import DataError, MissingExtra, did_you_mean
from reproductions import datasets

HELD_OUT = 8
"""One document in so many is in no training."""


def documents(source: str, part: str = "all") -> list[str]:
    """The documents of a source, in the order of the files; one that came before is left out.

    Args:
        source: ``"ag-news"``, ``"reviews"``, ``"sst2"``, ``"shakespeare"``, ``"python-docs"``, which every Python has,
            or ``"c4-news"``, which is downloaded.
        part: ``"train"``, ``"held-out"`` or ``"all"``; which one a document is in follows from its text.

    Raises:
        DataError: a file is not there, or there is no such source.
    """
    if source not in SOURCES:
        raise DataError(f"There is no text named {source!r}.{did_you_mean(source, SOURCES)}")
    found = dict.fromkeys(text.strip() for text in SOURCES[source]())
    return [text for text in found if text and part in ("all", "held-out" if held_out(text) else "train")]


def held_out(text: str) -> bool:
    """Whether a document is kept from training; texts that differ in spaces and case only go together."""
    same = re.sub(r"\W+", " ", text).strip().casefold()
    return int.from_bytes(hashlib.blake2b(same.encode(), digest_size=4).digest(), "big") % HELD_OUT == 0


def _read(name: str) -> str:
    path = datasets.folder() / "text" / name
    if not path.is_file():
        raise DataError(f"The text {str(path)!r} is not there; the folder of data sets is named by ASSAY_DATA.")
    return path.read_text(encoding="utf-8")


def _news() -> Iterator[str]:
    for name in ("dev", "test"):
        for line in _read(f"ag_news/{name}.tsv").splitlines():
            text = line.rpartition("\t")[0].replace("\\", " ")
            text = html.unescape(re.sub(r" ?(#\d+|amp|quot|lt|gt|nbsp|hellip);", r"&\1;", text))  # "It #39;s"
            yield re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", text))


def _reviews() -> Iterator[str]:
    for name in ("train", "test"):
        rows = csv.DictReader(io.StringIO(_read(f"reviews/books_{name}.tsv")), delimiter="\t")
        yield from (re.sub(r"\s+", " ", row["sentence"]) for row in rows)


def _sst2() -> Iterator[str]:
    for name in ("train", "dev"):
        yield from (line.rpartition("\t")[0] for line in _read(f"sst2/{name}.tsv").splitlines()[1:])


def _shakespeare() -> Iterator[str]:
    speeches = _read("tinyshakespeare.txt").split("\n\n")
    yield from ("\n\n".join(speeches[first : first + 20]) for first in range(0, len(speeches), 20))


def _python_docs() -> Iterator[str]:
    from assay.data.texts import load_texts

    yield from load_texts("python-docs", split="all").texts


def _c4_news() -> Iterator[str]:
    """The validation part of C4 RealNewsLike, some 13,800 articles; downloaded once, by the package datasets."""
    try:
        import datasets as huggingface
    except ImportError:
        raise MissingExtra("datasets", "hf", "C4") from None
    yield from huggingface.load_dataset("allenai/c4", "realnewslike", split="validation")["text"]


SOURCES: Mapping[str, Callable[[], Iterator[str]]] = {
    "ag-news": _news,
    "reviews": _reviews,
    "sst2": _sst2,
    "shakespeare": _shakespeare,
    "python-docs": _python_docs,
    "c4-news": _c4_news,
}
