"""Texts on their way to a mark: in blocks, normalised, as the tokens of every mark's tokenizer."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from ..common import note

if TYPE_CHECKING:
    from ...watermark.documents import BadLine, Document
    from ...watermark.marks import NamedMark
    from ...watermark.tokenization import Encoded, Tokenizer

BLOCK_TEXTS, BLOCK_SIZE = 256, 500_000
LOOKED_AT, SAMPLE, MUCH = 20, 2000, 0.1


def blocks(documents: Iterable[Document | BadLine]) -> Iterator[list[Document | BadLine]]:
    """Documents and bad lines in their order, in blocks that are examined at once."""
    from ...watermark.documents import Document

    block: list[Document | BadLine] = []
    size = 0
    for item in documents:
        block.append(item)
        if isinstance(item, Document):
            size += len(item.text or "") if item.ids is None else len(item.ids)
        if len(block) >= BLOCK_TEXTS or size >= BLOCK_SIZE:
            yield block
            block, size = [], 0
    if block:
        yield block


class Reader:
    """Makes tokens of documents, and warns once where a tokenizer does not fit.

    Args:
        marks: that the texts are examined with.
        tokenizers: by the name of the mark.
        normalise: from text to text, before tokens are made.
        ids: whether documents hold token ids.
    """

    def __init__(
        self,
        marks: Sequence[NamedMark],
        tokenizers: Mapping[str, Tokenizer],
        normalise: Callable[[str], str],
        *,
        ids: bool,
    ) -> None:
        self.marks, self.tokenizers, self.normalise, self.ids = marks, tokenizers, normalise, ids
        self._looked_at = 0

    @property
    def digests(self) -> dict[str, str]:
        """Digests of the tokenizers by the name of the mark."""
        return {name: tokenizer.digest for name, tokenizer in self.tokenizers.items()}

    def read(self, documents: Sequence[Document]) -> tuple[list[str | None], list[dict[str, Encoded]]]:
        """The normalised texts, and tokens by the name of the mark; every tokenizer reads a text once."""
        from ...watermark.tokenization import Encoded

        texts = [None if document.text is None else self.normalise(document.text) for document in documents]
        rows: list[dict[str, Encoded]] = [{} for _ in documents]
        done: dict[int, list[Encoded]] = {}
        for mark in self.marks:
            tokenizer = self.tokenizers.get(mark.name)
            if tokenizer is not None and id(tokenizer) not in done:
                if not self.ids:
                    done[id(tokenizer)] = tokenizer.encode_many([text or "" for text in texts])
                self._look(tokenizer, documents, texts)
            for number, document in enumerate(documents):
                if document.ids is not None:
                    rows[number][mark.name] = Encoded(document.ids)
                elif tokenizer is not None:
                    rows[number][mark.name] = done[id(tokenizer)][number]
        return texts, rows

    def _look(self, tokenizer: Tokenizer, documents: Sequence[Document], texts: Sequence[str | None]) -> None:
        """A remark if the first texts, or ids, do not come back when they are read and written."""
        from ...watermark.tokenization import lost, round_trip

        for document, text in zip(documents, texts, strict=True):
            if self._looked_at >= LOOKED_AT:
                return
            self._looked_at += 1
            if text:
                share, what = lost(tokenizer, text[:SAMPLE]), "the characters"
            elif document.ids is not None and len(document.ids) and int(document.ids.max()) < tokenizer.size:
                share, what = 1 - round_trip(tokenizer, document.ids[:SAMPLE]), "the ids"
            else:
                continue
            if share > MUCH:
                note(
                    f"warning: {share:.0%} of {what} of {document.label!r} are lost when the tokenizer "
                    f"{tokenizer.name!r} writes and reads them; it is probably not that of the model, and then no mark "
                    "is found."
                )
                self._looked_at = LOOKED_AT
