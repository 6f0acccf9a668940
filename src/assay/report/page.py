"""The report: one HTML file that a person reads, and its exports, made from runs alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..core.claims import Verdict
from ..core.files import make_folder, write_atomic
from ..core.runs import Run
from . import words
from .content import Page, page
from .exports import junit, model_index, summary
from .figures import standalone


def write_report(
    folder: str | Path, runs: Sequence[Run], *, study: Mapping[str, Any] | None, verdicts: Sequence[Verdict]
) -> Path:
    """Write ``report.html``, ``summary.md``, ``junit.xml`` and ``model-index.yaml``, and draw every run's figures.

    The page is one file: no network, no JavaScript, light and dark. Every
    string of the record is escaped. The same records give the same bytes.

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
        for drawing in part.drawings:
            write_atomic(run.path / "figures" / f"{drawing.figure.name}.svg", standalone(drawing.svg))
    write_atomic(place / "summary.md", summary(content))
    write_atomic(place / "junit.xml", junit(content))
    write_atomic(place / "model-index.yaml", model_index(runs, study))
    write_atomic(place / "report.html", render(content))
    return place / "report.html"


def render(content: Page) -> str:
    """The page as HTML."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("assay.report"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    template = environment.get_template("report.html")
    return template.render(page=content, severities=words.SEVERITIES, number=words.number).lstrip() + "\n"
