"""Corpus: documents with names, divided into splits by their names."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from ...core.errors import DataError
from ...core.seeds import seed
from ..dataset import add_piece, positions
from ..request import choose_split, printable

TEST_SHARE = 10
"""One document of this many is for testing, where the source has no splits of its own."""


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Corpus:
    """Documents, each one piece of text.

    Args:
        name: a short name.
        source: where it came from, as given by the caller.
        split: ``"train"``, ``"test"``, ``"validation"`` or ``"all"``.
        texts: the documents.
        names: one name for each, such as its file, unique in the source.
        notes: plain sentences on what was done to the texts on the way in.
    """

    name: str
    source: str
    split: str
    texts: tuple[str, ...]
    names: tuple[str, ...]
    notes: tuple[str, ...] = ()

    @classmethod
    def assemble(
        cls,
        documents: Sequence[tuple[str, str, str | None]],
        *,
        name: str,
        source: str,
        split: str | None,
        notes: tuple[str, ...] = (),
    ) -> Corpus:
        """What readers call: ``documents`` are names, texts, and the split each belongs to where the source says so.

        Where no document has a split of its own, the names decide: whether a document is for testing depends on its
        name alone, so that more documents change nothing for the others.
        """
        documents = [(printable(key), printable(text), own) for key, text, own in documents if text.strip()]
        if not documents:
            raise DataError(f"{source!r} holds no text. At least one document that is not blank is needed.")
        if any(own for _, _, own in documents):
            divided = [(key, text, own or "all") for key, text, own in documents]
        else:
            divided = [(key, text, "test" if held_out(key) else "train") for key, text, _ in documents]
        if split is not None and split != "all":
            chosen = choose_split({own for _, _, own in divided}, split, repr(source))
            divided = [item for item in divided if item[2] == chosen]
        return cls(
            name=printable(name),
            source=printable(source),
            split=split or "all",
            texts=tuple(text for _, text, _ in divided),
            names=tuple(key for key, _, _ in divided),
            notes=notes,
        )

    def __len__(self) -> int:
        return len(self.texts)

    def __repr__(self) -> str:
        return f"Corpus({self.name!r}, split={self.split!r}, n={len(self)}, characters={self.characters:,})"

    @cached_property
    def characters(self) -> int:
        """Length of all documents together."""
        return sum(map(len, self.texts))

    def subset(self, indices: Any) -> Corpus:
        """The documents at some positions, in that order."""
        where = positions(indices, len(self)).tolist()
        return replace(self, texts=tuple(self.texts[i] for i in where), names=tuple(self.names[i] for i in where))

    def head(self, n: int) -> Corpus:
        """The first ``n`` documents, or all if there are fewer."""
        if n < 1:
            raise DataError(f"head({n}) would be empty; at least 1 document is needed.")
        return self.subset(slice(0, n))

    @cached_property
    def digest(self) -> str:
        """Hash of the documents in their order; not of names or paths."""
        state = hashlib.blake2b(digest_size=16)
        for text in self.texts:
            add_piece(state, text.encode())
        return state.hexdigest()

    def describe(self) -> dict[str, Any]:
        """What a record says of the texts; plain JSON values."""
        return {
            "name": self.name,
            "split": self.split,
            "n": len(self),
            "characters": self.characters,
            "digest": self.digest,
            "sample_id_digest": hashlib.blake2b("\0".join(self.names).encode(), digest_size=16).hexdigest(),
            "notes": list(self.notes),
        }


def held_out(name: str) -> bool:
    """Whether a document is for testing, where nothing but its name decides: one of ten is."""
    return seed(0, "texts", name) % TEST_SHARE == 0
