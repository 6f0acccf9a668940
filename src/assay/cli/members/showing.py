"""What the studies of membership print: a line for each attack, what it means, and where the report is."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from ..common import note
from ..output import ends, figure, metric_rows, sentences, show_findings, show_verdicts, table

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ...core.probes import Metric
    from ...studies.auditing import Study
    from ...studies.recipes import PoolRecipe

HEADS = {"auc": "AUC", "epsilon_lower_bound": "epsilon at least"}
_RATE = re.compile(r"tpr_at_(.+)_fpr")


def conclude(study: Study) -> int:
    """The attacks side by side, the rest of the metrics, findings, and the exit code."""
    runs = [run for run in study.runs if run.status == "ok"]
    metrics = [metric for run in runs for metric in run.metrics if not metric.stratum]
    side_by_side = [metric for metric in metrics if _column(metric) is not None]
    if side_by_side:
        _show_attacks(side_by_side)
    rest = {id(metric) for metric in metrics} - {id(metric) for metric in side_by_side}
    rows = [row for metric, row in zip(metrics, metric_rows(runs), strict=True) if id(metric) in rest]
    if rows:
        table("Measured", ["metric", "value", "95% interval", "n"], rows, right=[1, 3])
        print()
    show_findings(runs)
    show_verdicts(study.verdicts)
    for entry in study.record["runs"]:
        if entry["status"] == "failed":
            note(f"error: {entry.get('error', 'see its run')}")
    print(f"Report: {study.report}")
    return study.exit_code


def tell_cost(forecast: Any, recipe: PoolRecipe) -> int:
    """What it would take, and that nothing was done."""
    print(f"Shadow models: {recipe}.")
    sentences(forecast.lines)
    print("Nothing was written.")
    return 0


def _column(metric: Metric) -> str | None:
    """The heading under which a metric of an attack stands, or None."""
    name, at, _ = metric.name.rpartition("@")
    if not at:
        return None
    rate = _RATE.fullmatch(name)
    return f"TPR at FPR {rate[1]}" if rate else HEADS.get(name)


def _show_attacks(metrics: Iterable[Metric]) -> None:
    rows: dict[str, dict[str, str]] = {}
    for metric in metrics:
        column = _column(metric)
        assert column is not None
        value = figure(metric.value, metric.unit if metric.unit == "share" else "")
        low = ends(metric)
        rows.setdefault(metric.name.rpartition("@")[2], {})[column] = value if low == "-" else f"{value} ({low})"
    columns = list(dict.fromkeys(column for row in rows.values() for column in row))
    cells = [[attack, *(row.get(column, "-") for column in columns)] for attack, row in rows.items()]
    table("Attacks, with 95% intervals", ["attack", *columns], cells, right=range(1, 1 + len(columns)))
    print()
