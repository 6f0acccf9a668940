"""One verdict a text from several marks, and from the whole text and its parts: Holm's correction over all of them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ..core.errors import InputError, SettingError
from ..core.estimates import log10_holm
from .choice import by_choice
from .detection import Detection
from .marks import NamedMark

if TYPE_CHECKING:
    from ..subjects.language import LanguageModel

MARKED, NOT_MARKED, TOO_SHORT = "marked", "not marked", "not enough tokens"
MOST_SPANS = 16


@dataclass(frozen=True)
class Span:
    """A part of a text that carries a mark.

    Args:
        start: its first token.
        end: the token after its last.
        z: of the part.
        log10_p: calibrated: for the best part of the stretch that was searched.
    """

    start: int
    end: int
    z: float
    log10_p: float


@dataclass(frozen=True)
class Finding:
    """What one mark says about one text.

    Args:
        mark: its name.
        detection: over the whole text; None if the mark cannot be applied.
        window: log10 of the calibrated p-value of the best part; None if parts were not searched.
        log10_p: corrected for all that was tried on this text.
        verdict: at the wanted rate of false positives.
        spans: parts found, in text order.
        error: why the mark cannot be applied.
    """

    mark: str
    detection: Detection | None
    window: float | None = None
    log10_p: float = 0.0
    verdict: str = TOO_SHORT
    spans: tuple[Span, ...] = ()
    error: str = ""


def judge(
    marks: Sequence[NamedMark],
    texts: Sequence[Mapping[str, np.ndarray]],
    *,
    fpr: float,
    windows: str | None = None,
    payload: bool = False,
    lm: LanguageModel | None = None,
) -> list[list[Finding]]:
    """Examine texts with several marks.

    A text without any of the marks is called marked with a chance of at most ``fpr``: Holm's correction covers the
    marks and, where parts are searched, the whole text and its best part. Texts are not corrected for one another.

    Args:
        marks: at least one.
        texts: ids by the name of the mark, since marks may have tokenizers of their own.
        fpr: chance of a false alarm in one text, in (0, 1).
        windows: sizes of parts, as for ``detect_windows``; None: whole texts only.
        payload: read the message that the text carries, in the place of testing the one of the settings.
        lm: the model that may have written the texts: tokens then count by the choice it had (``choice``). Whole
            texts only, and no payloads.

    Returns:
        For every text a finding a mark, in the order of the marks.

    Cost: one pass a mark over all texts; searching parts costs more, see ``detect_windows``.
    """
    if not marks:
        raise SettingError("There is no mark to look for.")
    if not 0 < fpr < 1:
        raise SettingError(f"fpr is {fpr:g}; allowed: above 0 and below 1.")
    if lm is not None and payload:
        raise SettingError("Payloads are read from all tokens alike: leave out the model, or the payload.")
    table = [_examined(mark, [text[mark.name] for text in texts], windows, payload, lm) for mark in marks]
    tried = len(marks) * (1 if windows is None else 2)
    return [
        _corrected(list(row), marks, text, fpr, tried, windows)
        for row, text in zip(zip(*table, strict=True), texts, strict=True)
    ]


def best(findings: Sequence[Finding]) -> Finding:
    """The finding with the smallest p-value; of equal ones the first that could be applied."""
    return min(findings, key=lambda found: (bool(found.error), found.log10_p))


def _examined(
    mark: NamedMark, ids: list[np.ndarray], windows: str | None, payload: bool, lm: LanguageModel | None
) -> list[Finding]:
    """Uncorrected findings of one mark."""
    size = mark.watermark.settings.vocab_size
    wrong = {number: outside(text, size) for number, text in enumerate(ids)}
    good = [number for number, reason in wrong.items() if not reason]
    chosen = [ids[number] for number in good]
    beside = by_choice(lm, mark.watermark.settings, chosen) if lm is not None else {}
    detections = map(mark.watermark.decode, chosen) if payload else mark.watermark.detect_many(chosen, **beside)
    made: dict[int, Detection] = dict(zip(good, detections, strict=True))
    found = []
    for number, text in enumerate(ids):
        detection, window = made.get(number), None
        if detection is not None and windows is not None:
            window = _window(mark, text, windows, 0)
            found.append(Finding(mark.name, detection, window=window.log10_p if window else 0.0))
        else:
            found.append(Finding(mark.name, detection, error=wrong[number]))
    return found


def outside(ids: np.ndarray, size: int) -> str:
    """Why ids cannot be those of a vocabulary; empty if they can.

    >>> outside(np.array([1, 7]), 5)
    "the id 7 at position 1 is outside the mark's vocabulary of 5"
    """
    places = np.flatnonzero((ids < 0) | (ids >= size))
    if not len(places):
        return ""
    return f"the id {ids[places[0]]} at position {places[0]} is outside the mark's vocabulary of {size:,}"


def _corrected(
    row: list[Finding],
    marks: Sequence[NamedMark],
    text: Mapping[str, np.ndarray],
    fpr: float,
    tried: int,
    windows: str | None,
) -> list[Finding]:
    raw = [found.detection.log10_p for found in row if found.detection is not None]
    parts = [found.window for found in row if found.window is not None]
    corrected = iter(log10_holm([*raw, *parts], tried))
    whole = [next(corrected) if found.detection is not None else 0.0 for found in row]
    within = [next(corrected) if found.window is not None else 0.0 for found in row]
    result = []
    for mark, found, a, b in zip(marks, row, whole, within, strict=True):
        log10_p = min(a, b)
        spans: tuple[Span, ...] = ()
        if found.detection is None:
            verdict = TOO_SHORT
        elif log10_p <= math.log10(fpr):
            verdict = MARKED
            if windows is not None:
                spans = tuple(_spans(mark, text[mark.name], windows, math.log10(fpr / tried)))
        else:
            verdict = NOT_MARKED if found.detection.enough(fpr / tried) else TOO_SHORT
        result.append(Finding(found.mark, found.detection, found.window, log10_p, verdict, spans, found.error))
    return result


def _spans(mark: NamedMark, ids: np.ndarray, windows: str, bound: float) -> list[Span]:
    """Parts that pass, the best one first found, then what lies before and after it, in text order."""
    found: list[Span] = []
    waiting = [(0, len(ids))]
    while waiting and len(found) < MOST_SPANS:
        start, end = waiting.pop()
        span = _window(mark, ids[start:end], windows, start)
        if span is None or span.log10_p > bound:
            continue
        found.append(span)
        waiting += [(start, span.start), (span.end, end)]
    return sorted(found, key=lambda span: span.start)


def _window(mark: NamedMark, ids: np.ndarray, windows: str, start: int) -> Span | None:
    """The best part; None if the text is too short for any."""
    try:
        found: Any = mark.watermark.detect_windows(ids, sizes=windows)
    except InputError:
        if len(ids) <= mark.watermark.scheme.preceding:
            return None
        raise
    if found.end <= found.start:
        return None
    return Span(start + int(found.start), start + int(found.end), float(found.z), float(found.log10_p))
