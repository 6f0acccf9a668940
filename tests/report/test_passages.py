"""Passages on the page: every token with its mark, in any light, and no markup from outside."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assay.core.passages import MARKS, Passage, Passages, hidden
from assay.core.probes import Measurement
from assay.report import write_passages, write_report
from assay.report.page import fill
from assay.report.passages import MOST_PARTS, MOST_TOKENS, readings

from .builder import write_run
from .test_browser import CHROMIUM, CONTRAST, FLAGS
from .test_page import Tags

HOSTILE = "</div></style><script>alert(1)</script>\"'><img src=x onerror=alert(1)>{{ 7*7 }}"
UNSEEN = "a\u202eb\u200bc\u0007"


def sample(**more: Any) -> Passage:
    pieces = ("In", " the", " be", "gin", "ning\n", " was", UNSEEN, "x" * 400)
    marks = ("none", "green", "red", "repeat", "green", "red", "green", "red")
    return Passage(**{"caption": "Marked: z = 4.1", "pieces": pieces, "marks": marks, "span": (1, 6), **more})


def body(passage: Passage) -> str:
    page = fill(
        "passages.html", title="t", label="", items=readings([Passages(title="t", caption="", rows=(passage,))])
    )
    found = re.search(r'<div class="tokens passage"[^>]*>(.*?)</div>', page, re.S)
    assert found
    return found[1]


def test_every_token_has_its_mark_and_the_span_its_outline(tmp_path: Path) -> None:
    run = write_run(
        tmp_path / "runs", "clean-accuracy", Measurement(passages=[Passages(title="T", caption="C", rows=(sample(),))])
    )
    page = write_report(tmp_path, [run], study=None, verdicts=[]).read_text(encoding="utf-8")
    shown = page[page.index('<div class="tokens passage"') :]
    for piece in (
        "In<mark><u> the</u>",
        "<span> be</span>",
        "<i>gin</i>",
        "<span> was</span></mark>",
        "<kbd>RLO</kbd>b",
    ):
        assert piece in shown
    assert "3 of 6 counted tokens are green (50\u202f%), 1 repeat." in page
    for text in (*MARKS.values(), "outlined", "cannot be seen"):
        assert text in page
    assert "\u202e" not in page
    assert "\u200b" not in page


@given(st.lists(st.tuples(st.text(), st.sampled_from(sorted(MARKS))), max_size=10))
def test_the_text_survives_as_text(pairs: list[tuple[str, str]]) -> None:
    pieces, marks = zip(*pairs, strict=True) if pairs else ((), ())
    shown = re.sub(r"<kbd>.*?</kbd>|<small[^>]*>↵</small>", "", body(sample(pieces=pieces, marks=marks, span=None)))
    text = html.unescape(re.sub(r"</?(?:u|i|span)>", "", shown))
    expected = "".join(character for piece in pieces for character in piece if not hidden(character))
    assert text == expected.encode(errors="replace").decode()


def test_texts_are_never_markup(tmp_path: Path) -> None:
    hostile = Passage(caption=HOSTILE, pieces=(HOSTILE, *HOSTILE), marks=("green",) * (1 + len(HOSTILE)))
    sets = [Passages(title=HOSTILE, caption=HOSTILE, rows=(hostile,))]
    page = write_passages(tmp_path / "new" / "p.html", sets, label=HOSTILE).read_text(encoding="utf-8")
    tags = Tags(page)
    assert "script" not in tags.names
    assert "img" not in tags.names
    assert "49" not in re.sub(r"\s+", " ", page[page.index("<main") :])
    run = write_run(tmp_path / "runs", "clean-accuracy", Measurement(passages=sets))
    report = Tags(write_report(tmp_path, [run], study=None, verdicts=[]).read_text(encoding="utf-8"))
    assert "script" not in report.names
    assert "img" not in report.names


def test_a_long_text_is_cut_and_says_so() -> None:
    many = sample(pieces=("a",) * (MOST_TOKENS + 7), marks=("green",) * (MOST_TOKENS + 7), span=None)
    (reading,) = readings([Passages(title="", caption="", rows=(many,))])
    assert reading.rows[0].left_out == 7
    dense = sample(pieces=("\u200b" * (2 * MOST_PARTS), "b"), marks=("green", "red"), span=(0, 2))
    (reading,) = readings([Passages(title="", caption="", rows=(dense,))])
    assert sum(len(token.parts) for _, tokens in reading.rows[0].groups for token in tokens) <= MOST_PARTS
    assert reading.rows[0].left_out >= 1


def test_same_passages_same_bytes(tmp_path: Path) -> None:
    one = Passages(title="T", caption="C", rows=(sample(),))
    files = [write_passages(tmp_path / name, one).read_bytes() for name in ("a.html", "b.html")]
    assert files[0] == files[1]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    if not CHROMIUM.exists():
        pytest.skip(f"Debian's chromium is not installed at {CHROMIUM}: apt-get install chromium")
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: pip install 'assay-ml[dev]'")
    with api.sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=str(CHROMIUM), args=FLAGS)
        yield started
        started.close()


@pytest.mark.browser
def test_marks_differ_without_hue_and_fit_the_window(browser: Any, tmp_path: Path) -> None:
    file = write_passages(tmp_path / "p.html", Passages(title=HOSTILE, caption="c" * 500, rows=(sample(), sample())))
    asked: list[str] = []
    for scheme in ("light", "dark"):
        page = browser.new_page(viewport={"width": 360, "height": 800}, color_scheme=scheme)
        page.on("request", lambda sent: asked.append(sent.url))
        page.on("dialog", lambda dialog: asked.append("dialog"))
        page.goto(file.as_uri())
        assert page.evaluate("document.documentElement.scrollWidth") <= 360
        styles = page.evaluate(
            """['u', 'span', 'i'].map(tag => {
              const style = getComputedStyle(document.querySelector('.passage ' + tag));
              return [style.borderBottomStyle, parseFloat(style.borderBottomWidth)];
            })"""
        )
        assert [line for line, _ in styles] == ["solid", "dotted", "none"]
        assert styles[0][1] >= 2
        ratio, where = page.evaluate(
            CONTRAST, ".tokens, .tokens u, .tokens span, .tokens i, .tokens kbd, .tokens small"
        )
        assert ratio >= 4.5, where
        assert [url for url in asked if not url.startswith("file:")] == []
        page.close()
