"""Several marks tried on the same text: keys, schemes, tokenizers. Who asks more often must believe less."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from ..core.errors import DataError, SettingError
from ..core.estimates import log10_holm
from .detection import Detection, detect
from .windows import detect_windows


@dataclass(frozen=True, slots=True)
class Named:
    """What a text says about one of several marks.

    Attributes:
        name: of the mark.
        detection: as if only this mark had been tried.
        log10_p: log10 of the p-value, corrected for all that were tried.
        tried: how many were.
    """

    name: str
    detection: Detection
    log10_p: float
    tried: int = 1

    @property
    def p_value(self) -> float:
        """Corrected for all that were tried; 0 where it is too small for a float."""
        return float(10.0**self.log10_p)

    @property
    def z(self) -> float:
        """As of the detection."""
        return self.detection.z

    def verdict(self, fpr: float = 1e-6) -> str:
        """As ``Detection.verdict``, with the corrected p-value: at most ``fpr`` of unmarked texts are called marked."""
        if not 0 < fpr < 1:
            raise SettingError(f"fpr is {fpr}; a false positive rate above 0 and below 1 is needed, such as 1e-6.")
        if self.log10_p <= math.log10(fpr):
            return "marked"
        return "not marked" if self.detection.enough(fpr / self.tried) else "not enough tokens"


def detect_several(
    marks: Iterable[Any],
    ids: Any = None,
    *,
    sizes: Any = None,
    unique_ngrams: bool = True,
    strict: bool | None = None,
) -> list[Named]:
    """Try several marks on one text, and correct their p-values for it (Holm).

    The chance that an unmarked text is called marked by any of them is at most the level, however the marks depend on
    each other. Every reading of the text counts as a mark tried: keys, schemes, tokenizers.

    Args:
        marks: each a ``Watermark`` (or scheme), a pair (name, mark), or (name, mark, ids) where the mark has ids of its
            own because its tokenizer differs.
        ids: the text for marks without ids of their own.
        sizes: None to detect over the whole text; otherwise as for ``detect_windows``.
        unique_ngrams, strict: as for ``detect``.

    Returns:
        One for each mark, in the order given.

    Raises:
        SettingError: two marks have the same name, or there is none.
        DataError: a mark has no ids.

    >>> from assay.watermark import Watermark
    >>> ours, theirs = (Watermark("unigram", vocab_size=256, key=key) for key in (7, 8))
    >>> ids = ours.green_ids([])[:40]
    >>> [(one.name, one.verdict()) for one in detect_several([("ours", ours), ("theirs", theirs)], ids)]
    [('ours', 'marked'), ('theirs', 'not enough tokens')]
    """
    found: list[tuple[str, Detection]] = []
    for number, given in enumerate(marks):
        name, mark, own = _taken_apart(given, number)
        own = ids if own is None else own
        if own is None:
            raise DataError(f"There are no ids for the mark {name!r}: give ids, or (name, mark, ids).")
        scheme = getattr(mark, "scheme", mark)
        if sizes is None:
            found.append((name, detect(scheme, own, unique_ngrams=unique_ngrams, strict=strict)))
        else:
            found.append((name, detect_windows(scheme, own, sizes, unique_ngrams=unique_ngrams, strict=strict)))
    return corrected(found)


def corrected(found: Sequence[tuple[str, Detection]]) -> list[Named]:
    """Detections of several marks in one text, with p-values corrected for their number (Holm).

    Args:
        found: names and what was detected, every mark that was tried.
    """
    names = [name for name, _ in found]
    if not names:
        raise SettingError("There is no mark; at least one is needed.")
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise SettingError(f"Two marks are called {twice!r}; every mark needs a name of its own.")
    logs = log10_holm([detection.log10_p for _, detection in found])
    return [Named(name, detection, p, len(found)) for (name, detection), p in zip(found, logs, strict=True)]


def _taken_apart(given: Any, number: int) -> tuple[str, Any, Any]:
    if isinstance(given, (tuple, list)):
        if len(given) not in (2, 3) or not isinstance(given[0], str):
            raise SettingError("A mark is a Watermark, (name, mark) or (name, mark, ids), with a text as its name.")
        return given[0], given[1], given[2] if len(given) == 3 else None
    return f"mark {number}", given, None
