"""Normalisers: undo what changes how text is written without changing how it reads, before tokens are made.

Letters keep their case: a model's tokenizer tells "The" from "the", and so does a watermark.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable

from ..core.errors import SettingError, did_you_mean

Normaliser = Callable[[str], str]

# Marks that are drawn as nothing, besides the categories Cf (format) and Cc (control).
_INVISIBLE = [0x034F, 0x115F, 0x1160, 0x17B4, 0x17B5, 0x2800, 0x3164, 0xFFA0]
_INVISIBLE += [*range(0x180B, 0x1810), *range(0xFE00, 0xFE10), *range(0xE0100, 0xE01F0)]
_KEPT = "\n\t"

# Letters of other scripts that look like a Latin one, by the last word of their names in the Unicode standard.
_CYRILLIC_BOTH = {
    "A": "a", "IE": "e", "O": "o", "ER": "p", "ES": "c", "U": "y", "HA": "x", "DZE": "s", "JE": "j", "QA": "q",
    "WE": "w", "BYELORUSSIAN-UKRAINIAN I": "i", "IZHITSA": "v",
}  # fmt: skip
_CYRILLIC_SMALL = {"PALOCHKA": "l", "KOMI DE": "d", "SHHA": "h"}
_CYRILLIC_CAPITAL = {"VE": "B", "KA": "K", "EM": "M", "EN": "H", "TE": "T", "STRAIGHT U": "Y"}
_GREEK_CAPITAL = {
    "ALPHA": "A", "BETA": "B", "EPSILON": "E", "ZETA": "Z", "ETA": "H", "IOTA": "I", "KAPPA": "K", "MU": "M", "NU": "N",
    "OMICRON": "O", "RHO": "P", "TAU": "T", "UPSILON": "Y", "CHI": "X",
}  # fmt: skip
_GREEK_SMALL = {"ALPHA": "a", "IOTA": "i", "NU": "v", "OMICRON": "o", "RHO": "p", "UPSILON": "u", "KAPPA": "k"}
_ARMENIAN_SMALL = {"OH": "o", "HO": "h", "VO": "n", "SEH": "u", "CO": "g", "ZA": "q"}
_ARMENIAN_CAPITAL = {"SEH": "U", "OH": "O", "TIWN": "S"}
_CHEROKEE = {"A": "D", "E": "R", "I": "T", "GO": "A", "GV": "E", "LA": "W", "LU": "M", "MI": "H", "SI": "b", "TLE": "L"}
_LATIN_SMALL = {"ALPHA": "a", "SCRIPT G": "g", "DOTLESS J": "j"}


def unicode(text: str) -> str:
    """NFKC, and no character that is drawn as nothing; line ends become ``\\n``.

    Combining forms are composed, full-width, mathematical and ligature forms become plain letters, and every kind of
    space a space. Zero-width, control, direction and variation characters are taken out.

    >>> unicode("ｆｉｎｅ\\u200b ofﬁce\\u00a0\\u202eA\\r\\n")
    'fine office A\\n'
    """
    text = text.replace("\r\n", "\n").replace("\r", "\n").replace("\u2028", "\n").replace("\u2029", "\n\n")
    if not text.isascii() or not text.isprintable():
        text = _drop(unicodedata.normalize("NFKC", _drop(text)))
    return text


def homoglyphs(text: str) -> str:
    """Letters that only look Latin become Latin, in words where they replace Latin letters.

    Those are words with a Latin letter in them, and, in text that is mostly Latin, words that consist of such letters
    alone. Text in another script stays as it is.

    >>> homoglyphs("p\\u0430yp\\u0430l and \\u0430"), homoglyphs("\\u043e\\u043d\\u0430 \\u0430")
    ('paypal and a', 'она а')
    """
    if text.isascii():
        return text
    letters = [letter for letter in text if letter.isalpha()]
    mostly = 2 * sum(map(_is_latin, letters)) > len(letters)

    def plain(word: re.Match[str]) -> str:
        found = word.group()
        if found.isascii() or not any(ord(letter) in _LOOKALIKES for letter in found):
            return found
        alone = all(ord(letter) in _LOOKALIKES for letter in found if letter.isalpha())
        mixed = any(_is_latin(letter) and ord(letter) not in _LOOKALIKES for letter in found)
        return found.translate(_LOOKALIKES) if mixed or (mostly and alone) else found

    return _WORD.sub(plain, text)


NORMALISERS: dict[str, Normaliser] = {"unicode": unicode, "homoglyphs": homoglyphs}


def normaliser(names: str | Iterable[str]) -> Normaliser:
    """Normalisers one after the other.

    Args:
        names: of ``NORMALISERS``, as a list or separated by commas; they are applied in the table's order, because a
            letter must be plain before it is compared. None: text stays as it is.

    Raises:
        SettingError: there is no normaliser of a name.

    >>> normaliser("homoglyphs,unicode")("ｐ\\u0430y")
    'pay'
    >>> normaliser("")("\\u200b") == "\\u200b"
    True
    """
    wanted = [name.strip() for name in names.split(",") if name.strip()] if isinstance(names, str) else list(names)
    for name in wanted:
        if name not in NORMALISERS:
            raise SettingError(f"There is no normaliser {name!r}.{did_you_mean(name, NORMALISERS)}")
    chosen = [step for name, step in NORMALISERS.items() if name in wanted]

    def apply(text: str) -> str:
        for step in chosen:
            text = step(text)
        return text

    return apply


def lookalikes() -> dict[str, str]:
    """The letters that ``homoglyphs`` replaces, and by what.

    >>> lookalikes()["\\N{CYRILLIC SMALL LETTER A}"]
    'a'
    """
    return {chr(code): letter for code, letter in _LOOKALIKES.items()}


def _drop(text: str) -> str:
    if text.isprintable():  # what is printable is neither a control nor a format character
        return text.translate(_NOTHING)
    kept = (c for c in text if c in _KEPT or unicodedata.category(c) not in ("Cf", "Cc"))
    return "".join(kept).translate(_NOTHING)


def _is_latin(letter: str) -> bool:
    return letter.isalpha() and unicodedata.name(letter, "").startswith("LATIN ")


def _table() -> dict[int, str]:
    found: dict[int, str] = {}

    def add(script: str, case: str, letters: dict[str, str], change: Callable[[str], str] = str) -> None:
        for name, latin in letters.items():
            found[ord(unicodedata.lookup(f"{script} {case}LETTER {name}"))] = change(latin)

    add("CYRILLIC", "SMALL ", _CYRILLIC_BOTH | _CYRILLIC_SMALL)
    add("CYRILLIC", "CAPITAL ", _CYRILLIC_BOTH, str.upper)
    add("CYRILLIC", "CAPITAL ", _CYRILLIC_CAPITAL)
    add("CYRILLIC", "", {"PALOCHKA": "I"})
    add("GREEK", "CAPITAL ", _GREEK_CAPITAL)
    add("GREEK", "SMALL ", _GREEK_SMALL)
    add("ARMENIAN", "SMALL ", _ARMENIAN_SMALL)
    add("ARMENIAN", "CAPITAL ", _ARMENIAN_CAPITAL)
    add("CHEROKEE", "", _CHEROKEE)
    add("LATIN", "SMALL ", _LATIN_SMALL)
    return found


_LOOKALIKES = _table()
_NOTHING = dict.fromkeys(_INVISIBLE)
_WORD = re.compile(r"\w+")
