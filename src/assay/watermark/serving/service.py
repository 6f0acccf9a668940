"""What the service knows and answers, without HTTP."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from ...core.settings import as_dict
from ..colouring import token_marks
from ..judging import MARKED, NOT_MARKED, TOO_SHORT, Finding, best, judge, outside
from .limits import Limits
from .reading import Asked, Query, too_long
from .refusals import Refusal, unprocessable

if TYPE_CHECKING:
    from ..marks import NamedMark
    from ..tokenization import Encoded, Tokenizer


class Service:
    """Marks, their tokenizers, and detection with them.

    Args:
        marks: at least one, each of another name; keys stay inside.
        tokenizers: by the name of the mark, for those whose text can be examined.
        limits: what a request may cost.
    """

    def __init__(
        self,
        marks: Sequence[NamedMark],
        tokenizers: Mapping[str, Tokenizer] | None = None,
        limits: Limits | None = None,
    ) -> None:
        self.limits = limits or Limits()
        self._marks = {mark.name: mark for mark in marks}
        self._tokenizers = dict(tokenizers or {})
        self.names = tuple(self._marks)

    def __repr__(self) -> str:
        return f"Service(marks={list(self.names)})"

    def describe(self) -> list[dict[str, Any]]:
        """Settings and fingerprints of the marks; no key and no path."""
        return [
            {
                "name": name,
                "fingerprint": mark.watermark.fingerprint,
                "settings": as_dict(mark.watermark.settings),
                "text": name in self._tokenizers,
            }
            for name, mark in self._marks.items()
        ]

    def answer(self, query: Query) -> list[dict[str, Any]]:
        """Examine every document of a query.

        Each is examined with every mark that fits it, and the p-values of its marks are corrected by Holm; where
        parts are searched, the whole text and its best part count as two. Documents are not corrected for one another.

        Args:
            query: what was asked.

        Returns:
            One result a document, in order, or ``{"id", "error"}`` with the reason why there is none.
        """
        work = [_Work(document) for document in query.documents]
        for one in work:
            one.refusal = one.document.wrong
        self._prepare(work, query)
        groups: dict[tuple[str, ...], list[_Work]] = {}
        for one in work:
            if one.refusal is None:
                groups.setdefault(one.names, []).append(one)
        for names, rows in groups.items():
            found = judge(
                [self._marks[name] for name in names],
                [one.ids for one in rows],
                fpr=query.fpr,
                windows="max" if query.windows else None,
            )
            for one, findings in zip(rows, found, strict=True):
                one.found = findings
        return [self._result(one, query) for one in work]

    def _prepare(self, work: Sequence[_Work], query: Query) -> None:
        """The ids of every document for every mark that fits it."""
        for one in work:
            if one.refusal is None:
                try:
                    one.names = self._fitting(one.document, query)
                except Refusal as refusal:
                    one.refusal = refusal
        by_tokenizer: dict[int, tuple[Tokenizer, list[_Work]]] = {}
        for one in work:
            if one.refusal is None and one.document.text is not None:
                for tokenizer in {id(self._tokenizers[name]): self._tokenizers[name] for name in one.names}.values():
                    by_tokenizer.setdefault(id(tokenizer), (tokenizer, []))[1].append(one)
        for key, (tokenizer, rows) in by_tokenizer.items():
            for one, encoded in zip(rows, tokenizer.encode_many([str(one.document.text) for one in rows]), strict=True):
                if len(encoded.ids) > self.limits.tokens:
                    one.refusal = too_long("The text", len(encoded.ids), self.limits)
                one.encoded[key] = encoded
        for one in work:
            for name in one.names if one.refusal is None else ():
                if one.document.ids is not None:
                    one.ids[name] = np.array(one.document.ids, dtype=np.int64)
                else:
                    one.ids[name] = one.encoded[id(self._tokenizers[name])].ids
                reason = outside(one.ids[name], int(self._marks[name].watermark.settings.vocab_size))
                if reason and one.refusal is None:
                    one.refusal = unprocessable(
                        f"{reason[0].upper()}{reason[1:]} ({name!r}).",
                        "Send ids of this mark's tokenizer, or name the marks that fit in 'marks'.",
                    )

    def _fitting(self, document: Asked, query: Query) -> tuple[str, ...]:
        """Names of the marks that a document is examined with."""
        names = query.marks or self.names
        if document.text is not None:
            fitting = tuple(name for name in names if name in self._tokenizers)
            lacking = [name for name in names if name not in self._tokenizers]
            if not fitting or (query.marks and lacking):
                raise unprocessable(
                    f"The mark {lacking[0]!r} has no tokenizer here, so text cannot be examined with it.",
                    "Send token ids, name other marks, or start the service with --tokenizer.",
                )
            return fitting
        kinds = {self._tokenizers[name].digest if name in self._tokenizers else None for name in names}
        if len(kinds) > 1 and query.marks is None:
            raise unprocessable(
                "The marks here belong to different tokenizers, and ids mean something with one of them alone.",
                "Name in 'marks' those whose tokenizer made the ids; GET /marks tells the names.",
            )
        return names

    def _result(self, one: _Work, query: Query) -> dict[str, Any]:
        if one.refusal is not None:
            return {"id": one.document.name, **one.refusal.as_dict()}
        rows = [self._row(one, found, query) for found in one.found]
        strongest = best(one.found)
        verdicts = {found.verdict for found in one.found}
        return {
            "id": one.document.name,
            "verdict": next(word for word in (MARKED, NOT_MARKED, TOO_SHORT) if word in verdicts),
            "mark": strongest.mark if strongest.verdict == MARKED else None,
            "fpr": query.fpr,
            "marks": rows,
        }

    def _row(self, one: _Work, found: Finding, query: Query) -> dict[str, Any]:
        """What one mark says of one document."""
        detection, ids = found.detection, one.ids[found.mark]
        assert detection is not None  # ids outside the vocabulary were refused before
        needed = detection.tokens_needed(query.fpr / (len(one.found) * (2 if query.windows else 1)))
        row: dict[str, Any] = {
            "mark": found.mark,
            "fingerprint": self._marks[found.mark].watermark.fingerprint,
            "verdict": found.verdict,
            "p_value": _power(detection.log10_p),
            "p_value_corrected": _power(found.log10_p),
            "log10_p": float(detection.log10_p),
            "log10_p_corrected": float(found.log10_p),
            "z": float(detection.z),
            "green": int(detection.green),
            "scored": int(detection.scored),
            "green_fraction": float(detection.green_fraction),
            "tokens": len(ids),
            "tokens_needed": math.ceil(needed) if math.isfinite(needed) else None,
            "payload": detection.payload,
        }
        encoded = one.encoded.get(id(self._tokenizers.get(found.mark)))
        if query.windows:
            row["log10_p_best_part"] = found.window
            row["spans"] = [
                {
                    "start": span.start,
                    "end": span.end,
                    "characters": encoded.characters(span.start, span.end) if encoded is not None else None,
                    "z": span.z,
                    "log10_p": span.log10_p,
                }
                for span in found.spans
            ]
        if query.tokens:
            row["token_marks"] = token_marks(detection, len(ids))
            row["pieces"] = encoded.pieces(str(one.document.text)) if encoded is not None else None
        return row


@dataclass
class _Work:
    """A document on its way through a query."""

    document: Asked
    names: tuple[str, ...] = ()
    refusal: Refusal | None = None
    encoded: dict[int, Encoded] = field(default_factory=dict)
    ids: dict[str, np.ndarray] = field(default_factory=dict)
    found: list[Finding] = field(default_factory=list)


def _power(log10_p: float) -> float:
    """The number of a logarithm; 0 where no float is as small."""
    return float(10.0**log10_p) if log10_p > -307 else 0.0
