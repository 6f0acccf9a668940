"""TokenDataset: windows of token ids, cut from a corpus, in the place of images."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import numpy as np

from ...core.errors import DataError
from ..dataset import Dataset, add_piece
from .corpus import Corpus


class Windows:
    """Ids of all windows [N, L], which a Dataset keeps where others keep pixels."""

    def __init__(self, ids: np.ndarray, notes: tuple[str, ...] = ()) -> None:
        self.ids, self.notes = ids, notes
        self.shape: tuple[int, int, int] = (1, 1, ids.shape[1])

    def __len__(self) -> int:
        return len(self.ids)

    def read(self, rows: np.ndarray) -> np.ndarray:
        """int64 [n, L]."""
        return self.ids[rows].astype(np.int64)

    def content(self, rows: np.ndarray) -> Iterator[bytes]:
        """The ids, for the digest."""
        yield f"tokens {self.ids.shape[1]}".encode()
        yield self.ids[rows].astype("<i8").tobytes()


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class TokenDataset(Dataset):
    """Windows of token ids: ``images()`` holds int64 [N, L], ``labels`` the document in which each window begins.

    Args:
        vocabulary: the tokenizer, as the JSON text of ``tokenizer.json``; empty where it is not known.
        vocab_size: number of ids V; all ids are below it.
    """

    holds: ClassVar[str] = "texts"

    vocabulary: str = ""
    vocab_size: int = 0

    def __repr__(self) -> str:
        return (
            f"TokenDataset({self.name!r}, split={self.split!r}, n={len(self)}, length={self.length}, "
            f"vocab_size={self.vocab_size})"
        )

    @property
    def length(self) -> int:
        """Ids of a window L."""
        return self.shape[2]

    @cached_property
    def digest(self) -> str:
        """Hash of the ids and the vocabulary."""
        state = hashlib.blake2b(digest_size=16)
        for piece in (*self.pixels.content(self.rows), self.vocabulary.encode(), str(self.vocab_size).encode()):
            add_piece(state, piece)
        return state.hexdigest()

    def describe(self) -> dict[str, Any]:
        """What a run record says of the data; plain JSON values."""
        return {
            "name": self.name,
            "source": self.source,
            "split": self.split,
            "n": len(self),
            "length": self.length,
            "vocab_size": self.vocab_size,
            "digest": self.digest,
            "sample_id_digest": self.sample_id_digest,
            "notes": list(self.notes),
        }


def token_windows(
    corpus: Corpus,
    encode: Callable[[Sequence[str]], list[list[int]]],
    *,
    length: int,
    stop: int,
    vocab_size: int,
    vocabulary: str = "",
) -> TokenDataset:
    """Cut a corpus into windows of ids.

    The documents follow each other, each with ``stop`` at its end. A window begins with the last id of the one before,
    so that every id but the first is predicted once. What is left at the end, less than a window, is not used.

    Args:
        corpus: the documents.
        encode: texts to ids.
        length: ids of a window, at least 2.
        stop: id that ends a document.
        vocab_size: number of ids.
        vocabulary: the tokenizer as JSON.

    Raises:
        DataError: less than one window of text, or ids outside the vocabulary.

    >>> corpus = Corpus(name="x", source="x", split="all", texts=("abc", "de"), names=("1", "2"))
    >>> encode = lambda texts: [list(text.encode()) for text in texts]
    >>> data = token_windows(corpus, encode, length=4, stop=0, vocab_size=128)
    >>> data.images().tolist(), data.labels.tolist()
    ([[97, 98, 99, 0], [0, 100, 101, 0]], [0, 0])
    """
    if length < 2:
        raise DataError(f"length is {length}; a window needs at least 2 ids, one to predict from the other.")
    pieces = [np.array([*ids, stop], dtype=np.int64) for ids in encode(corpus.texts)]
    stream = np.concatenate(pieces)
    if stream.min() < 0 or stream.max() >= vocab_size:
        raise DataError(f"The ids run from {stream.min()} to {stream.max()}; allowed: 0 to {vocab_size - 1}.")
    count = (len(stream) - 1) // (length - 1)
    if not count:
        raise DataError(
            f"{corpus.source!r} (split {corpus.split!r}) has {len(stream)} tokens, fewer than one window of {length}. "
            "Give more text, or a shorter context."
        )
    starts = np.arange(count) * (length - 1)
    owners = np.repeat(np.arange(len(pieces)), [len(piece) for piece in pieces])
    used = count * (length - 1) + 1
    notes = (
        *corpus.notes,
        f"{len(corpus)} documents, {len(stream)} tokens; windows of {length} use {used} of them.",
    )
    rows = np.arange(count, dtype=np.int64)
    return TokenDataset(
        name=corpus.name,
        source=corpus.source,
        split=corpus.split,
        pixels=Windows(stream[starts[:, None] + np.arange(length)], notes),
        rows=rows,
        labels=owners[starts].astype(np.int64),
        class_names=(),
        sample_ids=rows,
        notes=notes,
        vocabulary=vocabulary,
        vocab_size=vocab_size,
    )
