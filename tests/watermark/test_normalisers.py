"""Normalisers undo disguises and leave honest text alone."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assay.core.errors import SettingError
from assay.watermark.normalisers import homoglyphs, lookalikes, normaliser, unicode

ENGLISH = st.text("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ .,'!?-0123456789\n\t", max_size=60)
INVISIBLE = ["\u200b", "\u200c", "\u200d", "\u2060", "\ufeff", "\u00ad", "\u202e", "\u2066", "\u034f", "\u3164", "\ufe0f", "\x00", "\x1b", "\x7f", "\u180e", "\U000e0041", "\U000e0100", "\u2800", "\u115f"]  # fmt: skip  # noqa: E501


@given(text=ENGLISH)
def test_plain_text_stays(text: str) -> None:
    assert unicode(text) == homoglyphs(text) == text


@given(text=ENGLISH, where=st.lists(st.tuples(st.integers(0, 60), st.sampled_from(INVISIBLE)), max_size=8))
def test_invisible_characters_go(text: str, where: list[tuple[int, str]]) -> None:
    disguised = text
    for place, character in where:
        disguised = disguised[:place] + character + disguised[place:]
    assert unicode(disguised) == text


@given(text=st.text(max_size=40))
def test_unicode_is_done_once(text: str) -> None:
    once = unicode(text)
    assert unicode(once) == once
    assert not [c for c in once if unicodedata.category(c) in ("Cf", "Cc") and c not in "\n\t"]
    assert not set(once) & set(INVISIBLE)


def test_forms_of_letters_and_spaces_become_plain() -> None:
    assert unicode("𝐓𝐡𝐞 ｆｕｌｌ ﬁne e\u0301\u00a0x\u3000y\r\nz\ru") == "The full fine é x y\nz\nu"


@given(text=ENGLISH, choice=st.randoms(use_true_random=False))
def test_replaced_letters_come_back(text: str, choice: object) -> None:
    replace: dict[str, list[str]] = {}
    for strange, latin in lookalikes().items():
        replace.setdefault(latin, []).append(strange)
    words = []
    for word in text.split(" "):
        letters = [c if choice.random() < 0.5 else choice.choice(replace.get(c, [c])) for c in word]  # type: ignore[attr-defined]
        words.append("".join(letters) if any(c.isascii() and c.isalpha() for c in letters) and len(word.split()) == 1 and word.isalpha() else word)  # fmt: skip  # noqa: E501
    assert homoglyphs(" ".join(words)) == text


@pytest.mark.parametrize(
    "text",
    ["Мама мыла раму.", "Η γλώσσα είναι ωραία", "Ես հայ եմ", "на", "The word Москва is a name", "naïve Zoë ısı"],
)
def test_other_scripts_stay(text: str) -> None:
    assert homoglyphs(text) == text


def test_a_lone_letter_in_latin_text() -> None:
    assert homoglyphs("this is \N{CYRILLIC SMALL LETTER A} test") == "this is a test"


def test_every_lookalike_is_a_letter_that_becomes_one_latin_letter() -> None:
    assert len(lookalikes()) > 70
    for strange, latin in lookalikes().items():
        assert strange.isalpha()
        assert not strange.isascii()
        assert latin.isascii()
        assert latin.isalpha()
        assert unicodedata.normalize("NFKC", strange) == strange


def test_order_and_names() -> None:
    assert normaliser(["homoglyphs", "unicode"])("ｐ\u0430\u200by") == "pay"
    assert normaliser(" unicode , ")("\u200ba") == "a"
    with pytest.raises(SettingError, match="Did you mean 'unicode'"):
        normaliser("unicod")
