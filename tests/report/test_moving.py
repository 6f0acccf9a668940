"""Figures that move, on the page and on a page of their own: one script of ours, and no word of a record in it."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import re
from pathlib import Path

import pytest

from assay.core.probes import Measurement
from assay.core.runs import Run
from assay.report import write_report

from .builder import accuracy, moving, write_run
from .test_page import HOSTILE, Tags


def report(folder: Path, measurement: Measurement, place: str = "") -> tuple[str, Run]:
    run = write_run(folder / "runs", "clean-accuracy", measurement)
    return write_report(folder / place, [run], study=None, verdicts=[]).read_text(encoding="utf-8"), run


def script(page: str) -> str:
    (found,) = re.findall(r"<script>(.*?)</script>", page, re.DOTALL)
    return str(found)


def test_only_our_script_may_run_and_only_where_something_moves(tmp_path: Path) -> None:
    still, _ = report(tmp_path / "still", accuracy())
    assert "script" not in Tags(still).names
    assert "script-src" not in still
    page, run = report(tmp_path / "moving", moving())
    alone = (run.path / "figures" / "speed.html").read_text(encoding="utf-8")
    for text in (page, alone):
        digest = base64.b64encode(hashlib.sha256(script(text).encode()).digest()).decode()
        assert f"default-src 'none'; script-src 'sha256-{digest}'; style-src" in text
    assert script(page) == script(alone)
    assert not re.search(r"https?:|fetch|eval|innerHTML|import", script(page))


def test_each_frame_has_its_drawing_moment_and_table(tmp_path: Path) -> None:
    page, run = report(tmp_path, moving())
    alone = (run.path / "figures" / "speed.html").read_text(encoding="utf-8")
    for text in (page, alone):
        tags = Tags(text)
        assert tags.names.count("button") == 1
        assert ("max", "4") in tags.attributes
        assert ("aria-label", "Frame of: Margin and speed") in tags.attributes
        assert len(re.findall('<figure class="still">', text)) == 4
        assert tags.text.count("Table of this frame") == 4
        for step in (0, 200, 400, 600):
            assert f"step {step} of 600" in tags.text
        assert tags.text.count("Each point is a sample.") == 1
        assert "1 point lies outside the axes or has no finite place, and is not drawn." in tags.text
        assert len(tags.ids) == len(set(tags.ids))
        addresses = {value for name, value in tags.attributes if name in ("src", "href") and value[:1] != "#"}
        assert addresses <= {f"runs/{run.path.name}/figures/speed.html"}
    assert all((run.path / "figures" / f"speed-{step}.svg").exists() for step in range(4))


def test_the_link_leads_to_the_file_and_no_further_than_the_next_folder(tmp_path: Path) -> None:
    for place, expected in ((".", "runs/"), ("a page?", "../runs/"), ("deep/down", None)):
        page, run = report(tmp_path / place.replace("/", "-"), moving(), place)
        links = [value for name, value in Tags(page).attributes if name == "href" and value.endswith(".html")]
        assert links == ([] if expected is None else [f"{expected}{run.path.name}/figures/speed.html"])


def test_words_of_a_record_stay_words(tmp_path: Path) -> None:
    frames = [
        dataclasses.replace(figure, title=HOSTILE, caption=HOSTILE + figure.name, moment=HOSTILE)
        for figure in moving().figures
    ]
    page, run = report(tmp_path, Measurement(figures=frames))
    alone = (run.path / "figures" / "speed.html").read_text(encoding="utf-8")
    clean, _ = report(tmp_path / "clean", moving())
    for text in (page, alone):
        tags = Tags(text)
        assert tags.names.count("script") == 1
        assert script(text) == script(clean)
        assert "img" not in tags.names
        assert not any(name.startswith("on") for name, _ in tags.attributes)
        assert tags.text.count("<script>alert(1)</script>") >= 9


def test_one_frame_needs_no_player_and_a_frame_needs_no_words(tmp_path: Path) -> None:
    (only,) = moving(frames=1).figures
    page, run = report(tmp_path, Measurement(figures=[dataclasses.replace(only, moment="", title="")]))
    assert "frame 1 of 1" in page
    assert "<title>speed</title>" in (run.path / "figures" / "speed.html").read_text(encoding="utf-8")


def test_the_same_run_gives_the_same_bytes(tmp_path: Path) -> None:
    page, run = report(tmp_path, moving())
    first = (run.path / "figures" / "speed.html").read_bytes()
    assert write_report(tmp_path, [run], study=None, verdicts=[]).read_text(encoding="utf-8") == page
    assert (run.path / "figures" / "speed.html").read_bytes() == first


@pytest.mark.parametrize(("frames", "points", "most"), [(10, 512, 600_000), (40, 100, 1_000_000)])
def test_a_page_of_many_points_can_still_be_mailed(tmp_path: Path, frames: int, points: int, most: int) -> None:
    page, _ = report(tmp_path, moving(frames=frames, points=points))
    assert len(page.encode()) < most
