"""Passages on the page: every token marked, nothing hidden, and nothing of the text taken for markup."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..core.files import make_folder, write_atomic
from ..core.passages import GREEN, MARKS, NONE, RED, REPEAT, Passage, Passages, parts, visible

MOST_TOKENS = 4000
MOST_PARTS = 20_000  # a hostile token can hold many hidden characters, each with a box of its own
TAGS = {GREEN: "u", RED: "span", REPEAT: "i", NONE: ""}  # underlined even where no style is applied


@dataclass(frozen=True, kw_only=True)
class Token:
    """A token: the tag that marks it or ``""``, and its text as (shown, name of a hidden character) pairs."""

    tag: str
    parts: tuple[tuple[str, str], ...]


@dataclass(frozen=True, kw_only=True)
class Excerpt:
    """A passage, ready to print.

    Args:
        caption: what is said about it.
        counts: how many tokens have each mark, in words.
        groups: whether it lies within the outlined span -> tokens, in text order.
        left_out: tokens that are not shown.
    """

    caption: str
    counts: str
    groups: list[tuple[bool, list[Token]]]
    left_out: int


@dataclass(frozen=True, kw_only=True)
class Reading:
    """Passages under one heading, ready to print; the legend has the marks and signs that occur."""

    title: str
    caption: str
    legend: list[tuple[str, str]]
    rows: list[Excerpt]


def readings(passages: Iterable[Passages]) -> list[Reading]:
    """Every set of passages, in order."""
    return [
        Reading(
            title=one.title, caption=one.caption, legend=_legend(one.rows), rows=[_excerpt(row) for row in one.rows]
        )
        for one in passages
    ]


def write_passages(
    path: str | Path, passages: Passages | Sequence[Passages], *, title: str = "", label: str = ""
) -> Path:
    """Write passages as an HTML page of their own: no network, no script, light and dark, every text escaped.

    Args:
        path: the file; its folder is made if it is not there.
        passages: one set or several.
        title: of the page; default: the title of the first set.
        label: what they were made from, for the foot of the page.

    Raises:
        RunError: the file cannot be written.

    Cost: at most 4,000 tokens of a passage are shown; the page says how many are left out.
    """
    from .page import fill

    sets = [passages] if isinstance(passages, Passages) else list(passages)
    title = title or next((one.title for one in sets if one.title), "Passages")
    items = [dataclasses.replace(item, title="" if item.title == title else item.title) for item in readings(sets)]
    make_folder(Path(path).parent)
    write_atomic(path, fill("passages.html", title=title, label=label, items=items))
    return Path(path)


def _excerpt(passage: Passage) -> Excerpt:
    groups: list[tuple[bool, list[Token]]] = []
    start, end = passage.span or (0, 0)
    shown = room = 0
    for index, (piece, mark) in enumerate(zip(passage.pieces, passage.marks, strict=True)):
        inside = tuple(parts(piece[:MOST_PARTS]))
        room += max(1, len(inside))
        if index >= MOST_TOKENS or room > MOST_PARTS:
            break
        if not groups or groups[-1][0] != (start <= index < end):
            groups.append((start <= index < end, []))
        groups[-1][1].append(Token(tag=TAGS[mark], parts=inside))
        shown += 1
    return Excerpt(
        caption=visible(passage.caption),
        counts=_counts(passage),
        groups=groups,
        left_out=len(passage.pieces) - shown,
    )


def _counts(passage: Passage) -> str:
    green, red, repeats = (passage.count(mark) for mark in (GREEN, RED, REPEAT))
    counted = green + red
    if not counted:
        return f"None of {len(passage.pieces):,} tokens counted."
    share = f" ({100 * green / counted:.0f}\u202f%)"
    more = f", {repeats:,} repeat{'s' * (repeats > 1)}" if repeats else ""
    return f"{green:,} of {counted:,} counted tokens are green{share}{more}."


def _legend(rows: Sequence[Passage]) -> list[tuple[str, str]]:
    """(tag, meaning) of the marks in use; ``"mark"`` is the outline and ``"kbd"`` a hidden character."""
    used = {mark for row in rows for mark in row.marks}
    legend = [(TAGS[mark], text) for mark, text in MARKS.items() if mark in used]
    if any(row.span for row in rows):
        legend.append(("mark", "outlined: the strongest part"))
    if any(named for row in rows for piece in row.pieces if not piece.isascii() for _, named in parts(piece)):
        legend.append(("kbd", "a character that cannot be seen, by name"))
    return legend
