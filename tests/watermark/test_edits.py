"""Edits: each does what it says, by properties; strengths, streams and the short form; what is refused."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from assay.core.errors import DataError, InputError, SettingError
from assay.core.methods import cards
from assay.watermark.edits.base import NamedEdit, Surroundings, edit_document, named_edits, stream
from assay.watermark.edits.case import Case
from assay.watermark.edits.copy_paste import CopyPaste
from assay.watermark.edits.delete import Delete
from assay.watermark.edits.homoglyph import LOOKALIKES, Homoglyph
from assay.watermark.edits.insert import Insert
from assay.watermark.edits.retokenise import Retokenise
from assay.watermark.edits.substitute import Substitute
from assay.watermark.edits.swap import Swap
from assay.watermark.edits.truncate import Truncate
from assay.watermark.edits.zero_width import INVISIBLE, ZeroWidth
from assay.watermark.normalisers import homoglyphs, normaliser, unicode

VOCABULARY = 50
documents = st.lists(st.integers(0, VOCABULARY - 1), max_size=40).map(lambda ids: np.array(ids, dtype=np.int64))
rates = st.one_of(st.floats(0, 1), st.sampled_from([0.0, 0.5, 1.0]))
seeds = st.integers(0, 1000)
texts = st.text(max_size=60)


def around(seed: int = 0, human: Sequence[np.ndarray] = (), vocab_size: int = VOCABULARY) -> Surroundings:
    return Surroundings(rng=np.random.default_rng(seed), vocab_size=vocab_size, human=human)


class Letters:
    """A tokenizer: a character is an id."""

    def encode(self, text: str) -> list[int]:
        return [ord(letter) for letter in text]

    def decode(self, ids: Sequence[int]) -> str:
        return "".join(map(chr, ids))


@given(documents, rates, seeds)
def test_substitution_changes_so_many_tokens(ids: np.ndarray, rate: float, seed: int) -> None:
    found = Substitute(rate=rate).apply(ids, around(seed))
    assert len(found) == len(ids)
    assert (found != ids).sum() == round(rate * len(ids))
    assert ((found >= 0) & (found < VOCABULARY)).all()


@given(documents, st.floats(0, 3), seeds)
def test_insertion_keeps_the_document_in_order(ids: np.ndarray, rate: float, seed: int) -> None:
    found = Insert(rate=rate).apply(ids, around(seed))
    assert len(found) == len(ids) + round(rate * len(ids))
    left = iter(found.tolist())
    assert all(token in left for token in ids.tolist()), "the document is a subsequence"


@given(documents, rates, seeds)
def test_deletion_leaves_a_subsequence(ids: np.ndarray, rate: float, seed: int) -> None:
    found = Delete(rate=rate).apply(ids, around(seed))
    assert len(found) == len(ids) - round(rate * len(ids))
    left = iter(ids.tolist())
    assert all(token in left for token in found.tolist())


@given(st.integers(0, 30), rates, seeds)
def test_swaps_are_disjoint_pairs_of_neighbours(n: int, rate: float, seed: int) -> None:
    ids = np.arange(n)
    found = Swap(rate=rate).apply(ids, around(seed))
    moved = np.flatnonzero(found != ids)
    assert len(moved) == 2 * min(n // 2, round(rate * n / 2))
    for left, right in moved.reshape(-1, 2):
        assert right == left + 1
        assert (found[left], found[right]) == (ids[right], ids[left])


def test_every_set_of_pairs_is_as_likely() -> None:
    """Two pairs among five tokens: {01, 23}, {01, 34}, {12, 34}."""
    counts = Counter(tuple(Swap(rate=0.8).apply(np.arange(5), around(seed)).tolist()) for seed in range(900))
    assert len(counts) == 3
    assert min(counts.values()) > 240


@given(documents, rates)
def test_truncation_keeps_the_beginning(ids: np.ndarray, rate: float) -> None:
    found = Truncate(rate=rate).apply(ids, around())
    assert found.tolist() == ids[: len(ids) - round(rate * len(ids))].tolist()


@given(st.integers(1, 60), st.floats(0.01, 1), st.integers(1, 6), seeds)
def test_copy_paste_hides_spans_in_human_text(n: int, share: float, spans: int, seed: int) -> None:
    marked, human = np.arange(n), np.arange(1000, 1200)
    found = CopyPaste(share=share, spans=spans).apply(marked, around(seed, [human], vocab_size=2000))
    assert len(found) == n
    own, others = found[found < 1000], found[found >= 1000]
    assert len(own) == round(share * n)
    assert (np.diff(own) > 0).all(), "the spans come in their order, none twice"
    assert (np.diff(others) == 1).all(), "the human text is one passage"
    runs = 1 + int((np.diff(own) != 1).sum()) if len(own) else 0
    assert runs <= spans


def test_copy_paste_joins_short_human_texts() -> None:
    human = [np.arange(100, 105), np.arange(200, 205)]
    found = CopyPaste(share=0.2).apply(np.arange(10), around(0, human, vocab_size=300))
    assert set(found[found >= 100].tolist()) < set(np.concatenate(human).tolist())


def test_copy_paste_needs_enough_human_text() -> None:
    with pytest.raises(DataError, match="needs 8 tokens of unmarked text, and there are 5 in 1 documents"):
        CopyPaste(share=0.2).apply(np.arange(10), around(0, [np.arange(5)]))


def test_all_of_a_document_needs_no_human_text() -> None:
    assert CopyPaste(share=1.0).apply(np.arange(10), around()).tolist() == list(range(10))


@given(texts, rates, seeds, st.sampled_from(["swap", "upper", "lower"]))
def test_case_changes_only_case(text: str, rate: float, seed: int, how: str) -> None:
    found = Case(rate=rate, how=how).apply(text, around(seed))
    changes = {"swap": str.swapcase, "upper": str.upper, "lower": str.lower}[how]
    could = [word for word in re.findall(r"\w+", text) if changes(word) != word]
    if rate == 0:
        assert found == text
    if rate == 1:
        assert found == re.sub(r"\w+", lambda word: changes(word[0]), text)
    if text.isascii():
        assert found.lower() == text.lower()
        before, after = re.findall(r"\w+", text), re.findall(r"\w+", found)
        assert sum(a != b for a, b in zip(before, after, strict=True)) == round(rate * len(could))


@given(texts, rates, seeds)
def test_homoglyphs_replace_so_many_letters(text: str, rate: float, seed: int) -> None:
    found = Homoglyph(rate=rate).apply(text, around(seed))
    changed = [(a, b) for a, b in zip(text, found, strict=True) if a != b]
    assert all(LOOKALIKES[a] == b for a, b in changed)
    assert len(changed) == round(rate * sum(letter in LOOKALIKES for letter in text))


def test_lookalikes_are_of_other_scripts_and_known_to_the_normaliser() -> None:
    for latin, other in LOOKALIKES.items():
        assert unicodedata.name(latin).startswith("LATIN")
        assert unicodedata.name(other).split()[0] in ("CYRILLIC", "GREEK")
        assert unicodedata.category(latin) == unicodedata.category(other)
        assert homoglyphs(f"{other}QQ zzz") == f"{latin}QQ zzz"


@given(texts, rates, seeds)
def test_zero_width_characters_leave_the_text_within(text: str, rate: float, seed: int) -> None:
    plain = "".join(letter for letter in text if letter not in INVISIBLE)
    found = ZeroWidth(rate=rate).apply(plain, around(seed))
    assert "".join(letter for letter in found if letter not in INVISIBLE) == plain
    assert len(found) - len(plain) == round(rate * max(0, len(plain) - 1))
    assert found[:1] == plain[:1]
    assert found[-1:] == plain[-1:]


def test_zero_width_characters_are_taken_out_by_the_normaliser() -> None:
    assert unicode(ZeroWidth(rate=1.0).apply("plain text", around())) == "plain text"


def test_retokenisation_may_tidy_white_space() -> None:
    assert Retokenise().apply(" a\n b ", around()) == " a\n b "
    assert Retokenise(whitespace="tidy").apply(" a\n b ", around()) == "a b"


@pytest.mark.parametrize("item", cards("edit"), ids=lambda item: item.name)
def test_every_edit_has_strengths_and_leaves_its_input_alone(item: Any) -> None:
    ids = np.array([ord(letter) for letter in "The quick brown fox  jumps."] * 3)
    before = ids.copy()
    for edit in named_edits(item.name):
        found = edit_document(edit, ids, root=0, vocab_size=10_000, human=[np.arange(500)], tokenizer=Letters())
        assert found.dtype == np.int64
        assert (ids == before).all()
        if edit.edit.strength:
            assert edit.strength == getattr(edit.edit, edit.edit.strength)
            assert f"{edit.edit.strength}={edit.strength:g}" in edit.label
            assert edit.family == item.name
    assert len({edit.label for edit in named_edits(item.name)}) == len(named_edits(item.name))


@pytest.mark.parametrize("name", [item.name for item in cards("edit")])
def test_no_edit_minds_an_empty_document(name: str) -> None:
    for edit in named_edits(name):
        found = edit_document(
            edit, np.zeros(0, np.int64), root=0, vocab_size=10, human=[np.arange(5)], tokenizer=Letters()
        )
        assert len(found) == 0


def apply(edit: NamedEdit, ids: np.ndarray, root: int = 0) -> list[int]:
    return edit_document(edit, ids, root=root, vocab_size=VOCABULARY).tolist()


def test_a_document_is_edited_alike_whatever_is_beside_it() -> None:
    edits = named_edits("substitute:0.3,0.5")
    ids, other = np.arange(30), np.arange(30)[::-1].copy()
    alone = apply(edits[0], ids)
    apply(edits[0], other)
    apply(edits[1], ids)
    assert apply(edits[0], ids) == alone
    assert apply(edits[0], ids, root=1) != alone
    draws = {stream(0, edit, document).integers(2**60) for edit in edits for document in (ids, other)}
    assert len(draws) == 4


def test_the_detector_may_clean_edited_text() -> None:
    (edit,) = named_edits("homoglyph:0.3")
    ids = np.array([ord(letter) for letter in "The big dog ran down under a small red bridge."])
    plain = edit_document(edit, ids, root=0, vocab_size=2000, tokenizer=Letters())
    cleaned = edit_document(edit, ids, root=0, vocab_size=2000, tokenizer=Letters(), clean=normaliser("homoglyphs"))
    assert plain.tolist() != ids.tolist()
    assert cleaned.tolist() == ids.tolist()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("substitude:0.1", "Did you mean 'substitute'"),
        ("substitute:2", "allowed: at least 0 and at most 1"),
        ("substitute:many", "a number is needed"),
        ("copy-paste:spams=3", "Did you mean 'spans'"),
        ("retokenise:0.5", "has no strength"),
        ("case:how=big", "allowed: one of swap, upper, lower"),
    ],
)
def test_what_is_no_edit(text: str, message: str) -> None:
    with pytest.raises(SettingError, match=message):
        named_edits(text)


def test_text_needs_a_tokenizer() -> None:
    (edit,) = named_edits("retokenise")
    with pytest.raises(InputError, match="there is no tokenizer"):
        apply(edit, np.arange(3))


def test_ids_lie_in_the_vocabulary() -> None:
    with pytest.raises(DataError, match=r"ids \[n\] in 0\.\.49"):
        apply(named_edits("delete")[0], np.array([50]))
