"""The page in a real browser: silent on the network, within its window, readable in light and dark."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from assay.core.probes import Finding, Gallery, Measurement
from assay.report import write_report

from .builder import accuracy, make_study, moving, pictures, rate, write_run
from .scenery import cross_task, matrix, panels

pytestmark = pytest.mark.browser

CHROMIUM = Path("/usr/bin/chromium")
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--no-first-run",
    "--disable-component-update",
    "--disable-sync",
]
LONG = "a_very_long_name_without_any_place_to_break_" * 6
CONTRAST = """selector => {
  const channels = text => (text.match(/[\\d.]+/g) || []).map(Number);
  const behind = element => {
    for (let at = element; at; at = at.parentElement) {
      const colour = getComputedStyle(at).backgroundColor;
      if (channels(colour)[3] !== 0) return channels(colour);
    }
    return [255, 255, 255];
  };
  const luminance = rgb => rgb.slice(0, 3).map(v => v / 255)
    .map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  return [...document.querySelectorAll(selector)].map(element => {
    const pair = [channels(getComputedStyle(element).color), behind(element)].map(luminance).sort((a, b) => b - a);
    return [(pair[0] + 0.05) / (pair[1] + 0.05), element.outerHTML.slice(0, 80)];
  }).sort((a, b) => a[0] - b[0])[0];
}"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    if not CHROMIUM.exists():
        pytest.skip(f"Debian's chromium is not installed at {CHROMIUM}: apt-get install chromium")
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: pip install 'assay-ml[dev]'")
    with api.sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=str(CHROMIUM), args=FLAGS)
        yield started
        started.close()


@pytest.fixture(scope="module")
def page_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("audit")
    runs, study, verdicts = make_study(folder)
    return write_report(folder, runs, study=study, verdicts=verdicts)


@pytest.fixture(scope="module")
def long_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("long")
    original, changed = pictures(1, channels=3, side=32)
    caption = dict.fromkeys(("sample_id", "label", "before", "after", "norm"), LONG) | {"distance": 0.5}
    caption |= {"before_confidence": 0.5, "after_confidence": 0.4}
    measurement = accuracy((LONG, "<b>bold</b>", *(f"class number {i}" for i in range(40))))
    measurement.metrics.append(rate(LONG, 1, 2, estimand=LONG))
    measurement.findings.append(Finding(code="x", severity="serious", message=LONG, remedy=LONG))
    measurement.gallery = Gallery(title=LONG, caption=LONG, original=original, changed=changed, captions=[caption])
    measurement.samples = {"correct": np.ones(3, dtype=bool)}
    run = write_run(folder / "runs", "clean-accuracy", measurement, settings={"norm": "linf", LONG: LONG})
    empty = write_run(folder / "runs", "calibration", Measurement(not_applicable=LONG))
    study = {"command": ["assay", LONG, LONG], "not_tested": [LONG], "target": {"name": LONG}, "status": "ok"}
    return write_report(folder, [run, empty], study=study, verdicts=[])


@pytest.fixture(scope="module")
def moving_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two figures that move, one of them with words that no line holds, and one that stands."""
    folder = tmp_path_factory.mktemp("moving")
    figures = [*moving().figures, *accuracy().figures]
    figures += [dataclasses.replace(frame, title=LONG, moment=LONG) for frame in moving("margin", 3).figures]
    run = write_run(folder / "runs", "clean-accuracy", Measurement(figures=figures))
    return write_report(folder, [run], study=None, verdicts=[])


@pytest.fixture(scope="module")
def panels_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Panels and matrices, also with words that no line holds."""
    folder = tmp_path_factory.mktemp("panels")
    run = write_run(folder / "runs", "clean-accuracy", cross_task())
    (sheet, other) = panels(caption=LONG, rows=1)
    sheet.columns, sheet.title, other.legend = (LONG,) * 5, LONG, ((LONG, "#112233"),)
    strained = Measurement(figures=[matrix(caption=LONG, title=LONG, y_label=LONG)], panels=[sheet, other])
    runs = [run, write_run(folder / "runs", "calibration", strained)]
    return write_report(folder, runs, study=None, verdicts=[])


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 800, 1280])
@pytest.mark.parametrize("which", ["page_file", "long_file", "moving_file", "panels_file"])
def test_fits_its_window_and_asks_for_nothing(
    browser: Any, request: pytest.FixtureRequest, which: str, width: int, scheme: str
) -> None:
    file = request.getfixturevalue(which)
    page = browser.new_page(viewport={"width": width, "height": 800}, color_scheme=scheme)
    asked: list[str] = []
    complaints: list[str] = []
    page.on("request", lambda sent: asked.append(sent.url))
    page.on("console", lambda message: complaints.append(message.text))
    page.goto(file.as_uri())
    page.evaluate("document.querySelectorAll('details').forEach(element => element.open = true)")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert [url for url in asked if not url.startswith(("file:", "data:"))] == []
    assert complaints == []
    page.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_from_what_is_behind_it(browser: Any, page_file: Path, scheme: str) -> None:
    page = browser.new_page(viewport={"width": 1280, "height": 800}, color_scheme=scheme)
    page.goto(page_file.as_uri())
    for selector in ("body, p, td, th, dd, li, code", ".soft, .hint, dt, figcaption, summary, a, .chip", "svg text"):
        ratio, where = page.evaluate(CONTRAST, selector)
        assert ratio >= 4.5, where
    page.close()


def test_light_and_dark_differ(browser: Any, page_file: Path) -> None:
    colours = set()
    for scheme in ("light", "dark"):
        page = browser.new_page(color_scheme=scheme)
        page.goto(page_file.as_uri())
        colours.add(page.evaluate("getComputedStyle(document.body).backgroundColor"))
        page.close()
    assert len(colours) == 2


def test_without_javascript_everything_is_there_and_details_open(browser: Any, page_file: Path) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(page_file.as_uri())
    for text in ("Failed", "Key figures", "Threat model and budget", "What was not tested", "Provenance"):
        assert page.get_by_text(text, exact=False).first.is_visible()
    table = page.locator("figure details table").first
    assert not table.is_visible()
    page.locator("figure summary").first.click()
    assert table.is_visible()
    context.close()


def test_figures_and_pictures_are_drawn(browser: Any, page_file: Path) -> None:
    page = browser.new_page(viewport={"width": 360, "height": 800})
    page.goto(page_file.as_uri())
    boxes = page.eval_on_selector_all("figure > svg", "all => all.map(e => [e.clientWidth, e.clientHeight])")
    assert len(boxes) == 5
    assert all(width > 250 and height > 150 for width, height in boxes)
    assert page.eval_on_selector_all(".gallery img", "all => all.every(e => e.naturalWidth === 8)")
    assert page.locator(".gallery img").first.evaluate("e => getComputedStyle(e).imageRendering") == "pixelated"
    page.close()


def test_panels_stand_side_by_side_where_there_is_room(browser: Any, panels_file: Path) -> None:
    for width, least, most in ((1280, 5, 5), (360, 2, 3)):
        page = browser.new_page(viewport={"width": width, "height": 800})
        page.goto(panels_file.as_uri())
        row = page.locator(".sheet .pictures").first
        tops = row.evaluate("row => [...row.children].map(child => child.getBoundingClientRect().top)")
        assert least <= tops.count(tops[0]) <= most
        assert page.eval_on_selector_all(".sheet img", "all => all.every(e => e.naturalWidth === 48 && e.width >= 90)")
        page.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_matrix_is_read_at_every_width_and_scrolls_by_itself(browser: Any, panels_file: Path, scheme: str) -> None:
    for width in (360, 1280):
        page = browser.new_page(viewport={"width": width, "height": 800}, color_scheme=scheme)
        page.goto(panels_file.as_uri())
        box = page.locator(".matrix").first
        assert box.evaluate("box => box.querySelector('svg').clientWidth") >= 570
        assert box.evaluate("box => box.scrollWidth > box.clientWidth") == (width == 360)
        box.focus()
        assert box.evaluate("box => box === document.activeElement")
        for selector in (".matrix svg text", ".legend li", ".sheet p, .sheet .pictures span"):
            ratio, where = page.evaluate(CONTRAST, selector)
            assert ratio >= 4.5, where
        page.close()


def test_a_hostile_page_runs_nothing(browser: Any, tmp_path: Path) -> None:
    hostile = "</style></title><script>document.title = 'owned'</script><img src=x onerror=\"document.title='owned'\">"
    measurement = accuracy((hostile, "b"))
    run = write_run(tmp_path / "runs", "clean-accuracy", measurement, data={"digest": "d", "name": hostile})
    file = write_report(tmp_path, [run], study={"command": [hostile], "not_tested": [hostile]}, verdicts=[])
    page = browser.new_page()
    page.goto(file.as_uri())
    assert not page.title().startswith("owned")
    assert page.locator("script").count() == 0
    assert page.locator("img").count() == 0
    page.close()


def test_prints_to_paper(browser: Any, page_file: Path) -> None:
    page = browser.new_page()
    page.goto(page_file.as_uri())
    printed = page.pdf(format="A4")
    assert printed.startswith(b"%PDF")
    assert 3 <= len(re.findall(rb"/Type\s*/Page\b", printed)) <= 20
    page.close()


SHOWN = """figure => [...figure.querySelectorAll(":scope > .still")]
  .map((still, index) => still.checkVisibility() ? index : -1).filter(index => index >= 0)"""


def shown(page: Any) -> list[list[int]]:
    """The numbers of the frames that are seen, for each moving figure."""
    return [figure.evaluate(SHOWN) for figure in page.locator("figure.moving").all()]


def test_the_slider_chooses_a_frame_and_figures_move_apart(browser: Any, moving_file: Path) -> None:
    page = browser.new_page()
    page.goto(moving_file.as_uri())
    assert shown(page) == [[0], [0]]
    first, second = page.locator("figure.moving input").all()
    first.fill("3")
    assert shown(page) == [[2], [0]]
    assert first.get_attribute("aria-valuetext") == "step 400 of 600, frame 3 of 4"
    assert page.get_by_text("step 400 of 600").first.is_visible()
    second.focus()
    for key, frame in (("ArrowRight", 1), ("End", 2), ("ArrowLeft", 1), ("Home", 0)):
        page.keyboard.press(key)
        assert shown(page) == [[2], [frame]]
    page.close()


def test_an_open_table_stays_open_from_frame_to_frame(browser: Any, moving_file: Path) -> None:
    page = browser.new_page()
    page.goto(moving_file.as_uri())
    figure = page.locator("figure.moving").first
    figure.locator("summary >> visible=true").click()
    figure.locator("input").fill("4")
    assert figure.locator("table >> visible=true").count() == 1
    assert shown(page)[0] == [3]
    page.close()


@pytest.mark.parametrize("motion", ["no-preference", "reduce"])
def test_play_runs_once_to_the_end_and_can_be_stopped(browser: Any, moving_file: Path, motion: str) -> None:
    page = browser.new_page(reduced_motion=motion)
    page.clock.install(time=datetime(2026, 1, 1, tzinfo=UTC))
    page.goto(moving_file.as_uri())
    page.clock.pause_at(datetime(2026, 1, 2, tzinfo=UTC))
    button, slider = page.locator("figure.moving button").first, page.locator("figure.moving input").first
    page.clock.run_for(10_000)
    assert shown(page) == [[0], [0]]
    button.focus()
    page.keyboard.press("Space")
    assert button.text_content() == "Pause"
    page.clock.run_for(1_500)
    assert shown(page) == [[2], [0]]
    button.click()
    page.clock.run_for(10_000)
    assert (shown(page), button.text_content()) == ([[2], [0]], "Play")
    button.click()
    page.clock.run_for(10_000)
    assert (shown(page), button.text_content(), slider.input_value()) == ([[3], [0]], "Play", "4")
    button.click()
    assert shown(page) == [[0], [0]]
    slider.fill("2")
    page.clock.run_for(10_000)
    assert (shown(page), button.text_content()) == ([[1], [0]], "Play")
    page.close()


def test_all_frames_are_there_without_javascript_and_on_paper(browser: Any, moving_file: Path) -> None:
    alone = next(moving_file.parent.glob("runs/*/figures/speed.html"))
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    for file in (moving_file, alone):
        page.goto(file.as_uri())
        tops = [still.bounding_box()["y"] for still in page.locator("figure.moving").first.locator(".still").all()]
        assert len(tops) == 4
        assert tops == sorted(set(tops))
        assert not page.locator(".player").first.is_visible()
    context.close()
    page = browser.new_page()
    page.goto(moving_file.as_uri())
    page.emulate_media(media="print")
    assert shown(page) == [[0, 1, 2, 3], [0, 1, 2]]
    assert not page.locator(".player").first.is_visible()
    page.close()


@pytest.mark.parametrize("width", [360, 1280])
def test_a_moving_figure_has_a_page_of_its_own(browser: Any, moving_file: Path, width: int) -> None:
    page = browser.new_page(viewport={"width": width, "height": 800})
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(message.text))
    page.goto(moving_file.as_uri())
    page.get_by_role("link", name="figures/speed.html").click()
    assert page.url.endswith("/figures/speed.html")
    page.get_by_role("slider").fill("2")
    assert shown(page) == [[1]]
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert complaints == []
    page.close()


def test_the_policy_stops_every_other_script(browser: Any, moving_file: Path, tmp_path: Path) -> None:
    text = moving_file.read_text(encoding="utf-8")
    spoilt = tmp_path / "spoilt.html"
    hostile = "<script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\">"
    spoilt.write_text(text.replace("<header", hostile + "<header", 1), encoding="utf-8")
    page = browser.new_page()
    page.goto(spoilt.as_uri())
    page.locator("figure.moving input").first.fill("2")
    assert shown(page)[0] == [1]
    assert page.title() != "owned"
    page.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_player_stands_out_from_what_is_behind_it(browser: Any, moving_file: Path, scheme: str) -> None:
    page = browser.new_page(color_scheme=scheme)
    page.goto(moving_file.as_uri())
    for selector in (".player button", ".moment, .moment *", ".moving svg text"):
        ratio, where = page.evaluate(CONTRAST, selector)
        assert ratio >= 4.5, where
    page.close()
