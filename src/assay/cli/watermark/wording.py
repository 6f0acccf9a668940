"""Numbers as people read them: p-values of any size, counts, durations."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from ..output import printable

if TYPE_CHECKING:
    from ...watermark.marks import NamedMark


def p_value(log10_p: float) -> str:
    """A p-value of any size.

    >>> p_value(-0.5), p_value(-4.7), p_value(-412.3), p_value(-412.0000001)
    ('0.32', '2e-05', '5e-413', '1e-412')
    """
    if log10_p > -300:
        return f"{10.0**log10_p:.2g}"
    exponent = math.floor(log10_p)
    digit = round(10.0 ** (log10_p - exponent))
    return f"1e{exponent + 1}" if digit == 10 else f"{digit}e{exponent}"


def other_generators(marks: Iterable[NamedMark]) -> str:
    """What to know where text is not found although someone marked it on a GPU; empty if that changes nothing."""
    names = sorted({mark.watermark.settings.scheme for mark in marks if mark.watermark.settings.drawn_by_torch})
    if not names:
        return ""
    return (
        f"Green lists of {', '.join(names)} are those of torch's generator on a CPU. Text that the official code or "
        "transformers marked on a GPU has other lists, and is not found here."
    )


def short(number: float) -> str:
    """A count with a letter.

    >>> short(1_234_567), short(35_000), short(7)
    ('1.23M', '35k', '7')
    """
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= size:
            return f"{number / size:.3g}{letter}"
    return f"{number:.0f}"


def count(number: int, noun: str) -> str:
    """A number of things.

    >>> count(1, "text"), count(1200, "marked passage")
    ('1 text', '1,200 marked passages')
    """
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def duration(seconds: float) -> str:
    """A time in the unit that suits it.

    >>> duration(0.2), duration(600), duration(9000)
    ('1 second', '10 minutes', '2.5 hours')
    """
    if seconds < 90:
        whole = max(1, math.ceil(seconds))
        return f"{whole} second{'s' * (whole > 1)}"
    return f"{seconds / 60:.0f} minutes" if seconds < 5400 else f"{seconds / 3600:.1f} hours"


def place_of(record: Mapping[str, Any]) -> str:
    """Where a line stands; a hostile name of a file cannot drive the terminal.

    >>> place_of({"source": "a.jsonl", "line": 3})
    'a.jsonl, line 3'
    """
    line = f", line {record['line']}" if record["line"] else ""
    return f"{printable(record['source'])}{line}"
