"""Text with a mark on every token, and how to show it to people without being fooled by what it holds.

Nothing hangs on hue alone: green tokens are underlined, repeats are pale. Characters that cannot be seen, or that
change the order in which others are seen, are shown by name.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass

from .errors import InputError, did_you_mean

GREEN, RED, REPEAT, NONE = "green", "red", "repeat", "none"
MARKS = {
    GREEN: "green: favoured by the key",
    RED: "red: not favoured",
    REPEAT: "repeat: seen before, not counted again",
    NONE: "not counted",
}
_NAMES = {
    0x00A0: "NBSP",
    0x00AD: "SHY",
    0x034F: "CGJ",
    0x061C: "ALM",
    0x200B: "ZWSP",
    0x200C: "ZWNJ",
    0x200D: "ZWJ",
    0x200E: "LRM",
    0x200F: "RLM",
    0x202A: "LRE",
    0x202B: "RLE",
    0x202C: "PDF",
    0x202D: "LRO",
    0x202E: "RLO",
    0x2060: "WJ",
    0x2066: "LRI",
    0x2067: "RLI",
    0x2068: "FSI",
    0x2069: "PDI",
    0xFEFF: "BOM",
}
# Letters and marks that draw nothing: fillers, the blank Braille pattern, variation selectors.
_BLANK = {0x034F, 0x115F, 0x1160, 0x17B4, 0x17B5, 0x2800, 0x3164, 0xFFA0}
_HIDDEN = frozenset(("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp", "Zs"))
_ANSI = {GREEN: "32;4", RED: "31", REPEAT: "2", NONE: ""}
_BARE = {GREEN: "4", RED: "", REPEAT: "2", NONE: ""}


@dataclass(frozen=True, kw_only=True)
class Passage:
    """A text as its tokens, each with a mark.

    Args:
        caption: what is said about it; it may be hostile: escape it where it is shown.
        pieces: text of every token; together they are the text. Just as hostile.
        marks: one for each piece: ``"green"``, ``"red"``, ``"repeat"`` or ``"none"`` (not counted).
        span: first piece and the one after the last of a part to outline, or ``None``.

    >>> Passage(caption="", pieces=("a", " b"), marks=("none", "green")).text
    'a b'
    """

    caption: str
    pieces: tuple[str, ...]
    marks: tuple[str, ...]
    span: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        for name in ("pieces", "marks"):
            values = getattr(self, name)
            if isinstance(values, str) or not all(isinstance(value, str) for value in values):
                raise InputError(f"Passage.{name} is not a sequence of texts; give one text a token.")
            object.__setattr__(self, name, tuple(values))
        if len(self.pieces) != len(self.marks):
            raise InputError(
                f"A passage has {len(self.pieces)} pieces and {len(self.marks)} marks; give one mark a piece."
            )
        for mark in dict.fromkeys(self.marks):
            if mark not in MARKS:
                raise InputError(f"A mark of a passage is {mark!r:.40}.{did_you_mean(mark, MARKS)}")
        if self.span is not None:
            start, end = map(int, self.span)
            if not 0 <= start < end <= len(self.pieces):
                raise InputError(
                    f"Passage.span is {(start, end)} for {len(self.pieces)} pieces; give the first piece and the one "
                    "after the last, or None."
                )
            object.__setattr__(self, "span", (start, end))

    @property
    def text(self) -> str:
        """The whole text."""
        return "".join(self.pieces)

    def count(self, mark: str) -> int:
        """Tokens with this mark."""
        return self.marks.count(mark)


@dataclass(frozen=True, kw_only=True)
class Passages:
    """Texts under one heading.

    Args:
        title: heading.
        caption: what is seen.
        rows: the texts, in order.
    """

    title: str
    caption: str
    rows: tuple[Passage, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "rows", tuple(self.rows))


def hidden(character: str) -> bool:
    """Whether a character shows nothing, or changes how others are shown; a plain space, line and tab do not count.

    >>> hidden("a"), hidden(" "), hidden(chr(0x202E)), hidden(chr(0x200B))
    (False, False, True, True)
    """
    if character in " \n\t":
        return False
    if " " < character < "\x7f":
        return False
    code = ord(character)
    if unicodedata.category(character) in _HIDDEN or code in _BLANK:
        return True
    return 0xFE00 <= code <= 0xFE0F or 0xE0100 <= code <= 0xE01EF or 0x180B <= code <= 0x180F


def name(character: str) -> str:
    """A short name for a hidden character: ``"ZWSP"``, ``"RLO"``, else its code point.

    >>> name(chr(0x202E)), name(chr(7)), name(chr(0xE0041))
    ('RLO', 'U+0007', 'U+E0041')
    """
    return _NAMES.get(ord(character), f"U+{ord(character):04X}")


def parts(text: str) -> Iterator[tuple[str, str]]:
    """The text in parts that are safe to show as they are, and names of what lies between: ``(shown, name)``.

    One of the two is empty. A line break is ``("\\n", "")`` of its own.

    >>> list(parts("ad" + chr(0x202E) + "min\\n"))
    [('ad', ''), ('', 'RLO'), ('min', ''), ('\\n', '')]
    """
    begin = 0
    for at, character in enumerate(text):
        if character != "\n" and not hidden(character):
            continue
        if begin < at:
            yield text[begin:at], ""
        begin = at + 1
        yield ("\n", "") if character == "\n" else ("", name(character))
    if begin < len(text):
        yield text[begin:], ""


def visible(text: str) -> str:
    """Text for a terminal: no control sequence and no change of direction gets through.

    >>> visible("red" + chr(27) + "[31m")
    'red⟨U+001B⟩[31m'
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(shown or f"⟨{named}⟩" for shown, named in parts(text))


def ansi(passage: Passage, *, colour: bool = True) -> str:
    """A passage for a terminal: green is underlined, repeats are pale, the span stands in ⟦ ⟧.

    Args:
        passage: what is shown.
        colour: whether hue is used besides; without it, only the underline and the paleness are.

    >>> ansi(Passage(caption="", pieces=("a", "b"), marks=("none", "green"), span=(1, 2)), colour=False)
    'a\\x1b[1m⟦\\x1b[0m\\x1b[4mb\\x1b[0m\\x1b[1m⟧\\x1b[0m'
    """
    styles = _ANSI if colour else _BARE
    start, end = passage.span or (-1, -1)
    pieces: list[str] = []
    for at, (piece, mark) in enumerate(zip(passage.pieces, passage.marks, strict=True)):
        if at == start:
            pieces.append(_styled("⟦", "1"))
        # A style does not run across a line break: terminals would underline the rest of the line.
        pieces.append("\n".join(_styled(line, styles[mark]) for line in visible(piece).split("\n")))
        if at + 1 == end:
            pieces.append(_styled("⟧", "1"))
    return "".join(pieces)


def ansi_legend(*, colour: bool = True) -> str:
    """What the styles of ``ansi`` mean, in one line."""
    styles = _ANSI if colour else _BARE
    return "   ".join(_styled(text, styles[mark]) for mark, text in MARKS.items())


def _styled(text: str, style: str) -> str:
    return f"\x1b[{style}m{text}\x1b[0m" if style and text else text
