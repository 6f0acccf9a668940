"""What the studies of a watermark print when they end."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...core.errors import EXIT_BAD_INPUT
from ..common import note
from ..output import show_findings, show_results, show_verdicts, table

if TYPE_CHECKING:
    from ...studies.auditing import Study


def conclude(study: Study, *, bad: int = 0, metrics: bool = True) -> int:
    """Metrics, findings, where the report is, and the exit code.

    Args:
        study: that has ended.
        bad: lines that could not be read.
        metrics: whether its metrics are printed.
    """
    runs = [run for run in study.runs if run.status == "ok"]
    if runs and metrics:
        show_results(runs, study.verdicts)
    elif runs:
        show_findings(runs)
        show_verdicts(study.verdicts)
    for entry in study.record["runs"]:
        if entry["status"] == "failed":
            note(f"error: {entry.get('error', 'see its run')}")
    if bad:
        note(f"error: {bad:,} lines could not be read; the others were used.")
    print(f"Report: {study.report}")
    return study.exit_code or (EXIT_BAD_INPUT if bad else 0)


def show_null(study: Study) -> None:
    """Stated and observed error rates side by side."""
    rows = []
    for metric in (metric for run in study.runs if run.status == "ok" for metric in run.metrics):
        kind = metric.stratum.removeprefix("kind=") or ("WinMax" if metric.name.startswith("windowed") else "exact")
        alpha = float(metric.name.partition(":")[2])
        low, high = metric.lo or 0.0, 1.0 if metric.hi is None else metric.hi
        counts = [f"{metric.n:,}", f"{metric.n * alpha:,.4g}", f"{metric.n * metric.value:,.0f}"]
        rows.append([kind, f"{alpha:g}", *counts, f"{metric.value:.3g}", f"{low:.3g} .. {high:.3g}"])
    heads = ["p-value", "stated", "n", "expected", "observed", "rate", "95% interval"]
    if rows:
        table("False positives", heads, rows, right=range(1, len(heads)))
        print()


def show_edits(study: Study) -> None:
    """The table of all edits."""
    for run in study.runs:
        if run.status != "ok":
            continue
        for figure in run.figures():
            if figure.kind == "matrix":
                heads = [figure.y_label, *(column.name for column in figure.columns)]
                share = {column.name: column.unit == "share" for column in figure.columns}
                rows = [
                    [series.label, *(_cell(series, place, share) for place in range(len(series.x)))]
                    for series in figure.series
                ]
                table(figure.title, heads, rows, right=range(1, len(heads)))
                print()


def _cell(series: object, place: int, share: dict[str, bool]) -> str:
    from ...core.probes import Series

    assert isinstance(series, Series)
    value = series.y[place]
    if not share.get(str(series.x[place])):
        return f"{value:.2f}"
    low, high = (series.lo or series.y)[place], (series.hi or series.y)[place]
    return f"{value:.3f} [{low:.2f}, {high:.2f}]"
