"""Tables for people: drawn by rich on a terminal, plain aligned text in a file or a pipe."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..core.claims import Verdict
    from ..core.methods import Citation
    from ..core.probes import Metric
    from ..core.runs import Run

SYMBOLS = {"passed": "PASS", "failed": "FAIL", "not_run": "NOT RUN"}


def table(title: str, heads: Sequence[str], rows: Iterable[Sequence[str]], *, right: Iterable[int] = ()) -> None:
    """Print a table.

    Args:
        title: line above it.
        heads: one heading a column.
        rows: texts, one a column; they may come from outside and are shown as they are.
        right: columns to align at the right.
    """
    cells = [[printable(cell) for cell in row] for row in rows]
    if sys.stdout.isatty():
        _rich(title, heads, cells, set(right))
    else:
        print(plain_table(title, heads, cells, right=right))


def sentences(lines: Iterable[str]) -> None:
    """Print sentences, one a line; on a terminal broken between words."""
    import shutil
    import textwrap

    width = shutil.get_terminal_size().columns
    for line in map(printable, lines):
        print(textwrap.fill(line, width, subsequent_indent="  ") if sys.stdout.isatty() else line)


def plain_table(title: str, heads: Sequence[str], rows: Sequence[Sequence[str]], *, right: Iterable[int] = ()) -> str:
    """The table as text.

    >>> print(plain_table("Fruit", ["name", "n"], [["apple", "12"]], right=[1]))
    Fruit
    name    n
    apple  12
    """
    at_right = set(right)
    widths = [max(len(row[i]) for row in [heads, *rows]) for i in range(len(heads))]
    lines = [title] if title else []
    for row in [heads, *rows]:
        cells = [
            cell.rjust(width) if i in at_right else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def metric_rows(runs: Iterable[Run], *, strata: bool = False) -> list[list[str]]:
    """name, value, interval, n of every metric of these runs."""
    chosen = [metric for run in runs for metric in run.metrics if strata or not metric.stratum]
    return [[metric.label, figure(metric.value, metric.unit), ends(metric), f"{metric.n:,}"] for metric in chosen]


def verdict_rows(verdicts: Iterable[Verdict]) -> list[list[str]]:
    """outcome, claim, reason."""
    return [[SYMBOLS[verdict.outcome], verdict.claim.text, verdict.reason] for verdict in verdicts]


def show_results(runs: Sequence[Run], verdicts: Sequence[Verdict]) -> None:
    """Metrics, findings and verdicts, as an audit ends."""
    table("Measured", ["metric", "value", "95% interval", "n"], metric_rows(runs), right=[1, 3])
    print()
    show_findings(runs)
    show_verdicts(verdicts)


def show_findings(runs: Iterable[Run]) -> None:
    """What to know before trusting the numbers, the same remark once."""
    rows = {(finding.severity, finding.message): finding for run in runs for finding in run.findings}
    if not rows:
        return
    print("Findings")
    for finding in rows.values():
        remedy = f" {finding.remedy}" if finding.remedy else ""
        print(printable(f"  {finding.severity}: {finding.message}{remedy}"))
    print()


def show_verdicts(verdicts: Sequence[Verdict]) -> None:
    """One line a claim; silence where nothing was claimed."""
    if verdicts:
        table("Claims", ["verdict", "claim", "because"], verdict_rows(verdicts))
        print()


def figure(value: float | None, unit: str = "share") -> str:
    """A number as text: four digits, its unit, a dash for what is missing."""
    if value is None or math.isnan(value):
        return "-"
    suffix = f" {unit}" if unit not in ("share", "") else ""
    return f"{value:.3f}{suffix}" if unit == "share" else f"{value:.4g}{suffix}"


def ends(metric: Metric) -> str:
    """The interval as text."""
    if metric.lo is None and metric.hi is None:
        return "-"
    low, high = (figure(end, "share" if metric.unit == "share" else "") for end in (metric.lo, metric.hi))
    return f"{low} .. {high}"


def byline(citation: Citation) -> str:
    """Authors and year as a text cites them: ``"Croce and Hein 2020"``, ``"Madry et al. 2018"``."""
    names = [name.split(",")[0] if "," in name else name.split()[-1] for name in citation.authors.split(" and ")]
    shown = f"{names[0]} et al." if len(names) > 2 else " and ".join(names)
    return f"{shown} {citation.year}"


def printable(text: str) -> str:
    """Text without control characters, so that nobody's file name can drive the terminal."""
    return "".join(character if character.isprintable() else " " for character in str(text))


def _rich(title: str, heads: Sequence[str], rows: list[list[str]], right: set[int]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    drawn = Table(title=title or None, title_justify="left", title_style="bold")
    for index, head in enumerate(heads):
        drawn.add_column(head, justify="right" if index in right else "left", overflow="fold")
    styles = {"PASS": "green", "FAIL": "bold red", "NOT RUN": "yellow"}
    for row in rows:
        drawn.add_row(*(Text(cell, style=styles.get(cell, "")) for cell in row))
    Console().print(drawn)
