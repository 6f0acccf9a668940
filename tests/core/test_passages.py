"""Passages: their text survives a run and a terminal, and hides nothing."""

from __future__ import annotations

import re
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assay.core.artifacts import pack_passages, unpack_passages
from assay.core.errors import InputError, RunError
from assay.core.passages import MARKS, Passage, Passages, ansi, ansi_legend, hidden, parts, visible
from assay.core.probes import Measurement
from assay.core.runs import load_run
from tests.report.builder import write_run

BIDI = [chr(code) for code in (0x061C, 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A))]
UNSEEN = [chr(code) for code in (0xA0, 0xAD, 0x200B, 0x200C, 0x200D, 0x2060, 0xFEFF, 0x115F, 0x3164, 0xFE0F, 0xE0041)]
CONTROL = [chr(code) for code in (0, 7, 8, 13, 27, 0x7F, 0x9B)]
texts = st.text(alphabet=st.one_of(st.characters(), st.sampled_from([*BIDI, *UNSEEN, *CONTROL, "\n", "\t", " "])))
tokens = st.lists(st.tuples(texts, st.sampled_from(sorted(MARKS))), max_size=12)
ESCAPE = re.compile("\x1b\\[[0-9;]*m")


def passage(pairs: list[tuple[str, str]], **more: object) -> Passage:
    pieces, marks = zip(*pairs, strict=True) if pairs else ((), ())
    return Passage(caption="c", pieces=pieces, marks=marks, **more)  # type: ignore[arg-type]


@given(tokens)
def test_what_is_packed_is_read(pairs: list[tuple[str, str]]) -> None:
    sets = [Passages(title="t", caption="", rows=(passage(pairs),)), Passages(title="", caption="x", rows=())]
    (first, second) = unpack_passages(pack_passages(sets))
    assert second == sets[1]
    assert first.rows[0].marks == sets[0].rows[0].marks
    if not any(unicodedata.category(c) == "Cs" for c in first.rows[0].text):
        assert first == sets[0] or "?" in first.rows[0].text  # JSON has no half of a surrogate pair


def test_a_run_keeps_passages_and_notices_damage(tmp_path: Path) -> None:
    sets = [Passages(title="t", caption="", rows=[passage([("a", "green"), ("b", "red")], span=(0, 1))])]
    run = write_run(tmp_path, "clean-accuracy", Measurement(passages=sets))
    assert load_run(run.path).passages() == sets
    assert write_run(tmp_path, "calibration", Measurement()).passages() == []
    (file,) = run.path.glob("artifacts/passages.json")
    file.write_text(file.read_text().replace("red", "read"))
    with pytest.raises(RunError, match="damaged"):
        load_run(run.path).passages()


@given(texts)
def test_no_hidden_character_gets_to_a_terminal(text: str) -> None:
    shown = visible(text)
    assert not any(hidden(character) for character in shown)
    assert "".join(part for part, _ in parts(text)) == "".join(c for c in text if not hidden(c))
    if not any(hidden(character) for character in text):
        assert shown == text


@pytest.mark.parametrize("character", [*BIDI, *UNSEEN, *CONTROL])
def test_what_changes_or_hides_text_is_named(character: str) -> None:
    assert hidden(character)
    assert visible(f"a{character}b") != f"a{character}b"


@given(tokens, st.booleans(), st.data())
def test_ansi_says_the_text_with_our_sequences_alone(
    pairs: list[tuple[str, str]], colour: bool, data: st.DataObject
) -> None:
    span = None
    if pairs:
        start = data.draw(st.integers(0, len(pairs) - 1))
        span = data.draw(st.none() | st.just((start, data.draw(st.integers(start + 1, len(pairs))))))
    one = passage(pairs, span=span)
    plain = ESCAPE.sub("", ansi(one, colour=colour))
    if span is not None:
        assert plain.count("⟦") >= 1
        plain = re.sub("[⟦⟧]", "", plain)
    assert plain == re.sub("[⟦⟧]", "", visible(one.text)) if span else plain == visible(one.text)
    for line in ansi(one, colour=colour).split("\n"):
        assert len(re.findall("\x1b\\[[0-9;]+m", line)) == 2 * line.count("\x1b[0m")


def test_green_differs_from_red_without_hue() -> None:
    styles = {mark: ansi(passage([("x", mark)]), colour=False) for mark in MARKS}
    assert styles["green"] == "\x1b[4mx\x1b[0m"
    assert styles["red"] == "x"
    assert styles["repeat"] == "\x1b[2mx\x1b[0m"
    assert "underlined" not in ansi_legend()
    assert "\x1b[32;4m" in ansi_legend()


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"marks": ("green",)}, "2 pieces and 1 marks"),
        ({"marks": ("green", "grene")}, "Did you mean 'green'"),
        ({"span": (1, 1)}, "for 2 pieces"),
        ({"span": (0, 3)}, "for 2 pieces"),
        ({"pieces": "ab"}, "sequence of texts"),
        ({"pieces": (1, 2)}, "sequence of texts"),
    ],
)
def test_what_does_not_fit_is_refused(wrong: dict[str, object], message: str) -> None:
    values: dict[str, object] = {"caption": "", "pieces": ("a", "b"), "marks": ("green", "red"), **wrong}
    with pytest.raises(InputError, match=message):
        Passage(**values)  # type: ignore[arg-type]
