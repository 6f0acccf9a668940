"""The report: one HTML file that a person reads, and its exports, made from runs alone."""

from __future__ import annotations

import base64
import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from ..core.claims import Verdict
from ..core.files import make_folder, write_atomic
from ..core.runs import Run
from . import words
from .content import Page, page
from .exports import junit, model_index, summary
from .panels import Panel
from .svg import standalone

if TYPE_CHECKING:
    from jinja2 import Environment
    from markupsafe import Markup


def write_report(
    folder: str | Path, runs: Sequence[Run], *, study: Mapping[str, Any] | None, verdicts: Sequence[Verdict]
) -> Path:
    """Write ``report.html``, ``summary.md``, ``junit.xml`` and ``model-index.yaml``, and draw every run's figures.

    The page is one file: no network, light and dark, whole without JavaScript.
    A script stands on it only where figures move, to show one frame at a time;
    no other may run. Every string of the record is escaped. The same records
    give the same bytes.

    Each figure becomes ``figures/NAME.svg`` of its run, and the frames of a
    moving one also ``figures/SEQUENCE.html``, a page of its own.

    Args:
        folder: where the four files go; made if it is not there.
        runs: runs in the order they are shown, finished or not; may be empty.
        study: record of the audit the runs belong to, or ``None``.
        verdicts: what became of each claim.

    Returns:
        Path of ``report.html``.

    Raises:
        RunError: the folder cannot be written.
    """
    place = make_folder(folder)
    content = page(runs, study, verdicts)
    for run, part in zip(runs, content.sections, strict=True):
        for panel in [*part.matrices, *part.panels]:
            for drawing in panel.frames:
                write_atomic(run.path / "figures" / f"{drawing.figure.name}.svg", standalone(drawing.svg))
            if panel.sequence:
                write_atomic(run.path / "figures" / f"{panel.sequence}.html", render_moving(panel, part.label))
    folders = {
        part.anchor: _link(place, run.path / "figures") for run, part in zip(runs, content.sections, strict=True)
    }
    write_atomic(place / "summary.md", summary(content))
    write_atomic(place / "junit.xml", junit(content))
    write_atomic(place / "model-index.yaml", model_index(runs, study))
    write_atomic(place / "report.html", render(content, folders))
    return place / "report.html"


def render(content: Page, folders: Mapping[str, str] | None = None) -> str:
    """The page as HTML.

    Args:
        content: what it says.
        folders: anchor of a section -> address of the figures of its run, as seen from the page; ``""`` for none.
    """
    moving = any(panel.sequence for part in content.sections for panel in [*part.matrices, *part.panels])
    places = {part.anchor: (folders or {}).get(part.anchor, "") for part in content.sections}
    return fill("report.html", page=content, folders=places, script=_player() if moving else None)


def render_moving(panel: Panel, label: str) -> str:
    """A moving figure as a page of its own."""
    return fill("moving.html", panel=panel, label=label, script=_player())


def fill(template: str, **values: Any) -> str:
    """A template with its values, escaped."""
    environment = _environment()
    text = environment.get_template(template).render(severities=words.SEVERITIES, number=words.number, **values)
    return text.lstrip() + "\n"


def _environment() -> Environment:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    return Environment(
        loader=PackageLoader("assay.report"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )


@dataclass(frozen=True)
class Script:
    """A script of ours, and how the page's policy names it, so that no other runs."""

    text: Markup
    source: Markup


def _player() -> Script:
    """The script that plays figures: the same bytes for every page, with nothing of a record in them."""
    from markupsafe import Markup

    text = files("assay.report").joinpath("templates/player.js").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
    return Script(text=Markup(text), source=Markup(f"'sha256-{digest}'"))


def _link(place: Path, folder: Path) -> str:
    """The address of a folder as seen from the page, or ``""`` where it lies too far off to go along with it."""
    way = os.path.relpath(folder.resolve(), place.resolve())
    return "" if way.startswith(os.path.join("..", "..")) else quote(way)
