"""What the page shows, put together from runs alone; the template only lays it out."""

from __future__ import annotations

import json
import math
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..core.budgets import NORM_SYMBOLS, budget_text
from ..core.claims import Verdict
from ..core.probes import Finding, Metric
from ..core.runs import Run
from . import words
from .citations import Credit, card_of, credits
from .galleries import Exhibit, exhibits
from .panels import Panel, panels
from .passages import Reading, readings
from .sheets import Sheet, sheets

MOST_TILES = 6
WORST_SHOWN = 8
SEVERITY_ORDER = {"serious": 0, "warning": 1, "info": 2}


@dataclass(frozen=True, kw_only=True)
class Headline:
    """The verdict on top of the page."""

    outcome: str
    symbol: str
    word: str
    sentence: str
    facts: list[tuple[str, str]]
    serious: list[tuple[str, Finding]]


@dataclass(frozen=True, kw_only=True)
class MetricRow:
    """One line of a metrics table, ready to print; ``bar`` is ``(lo, value, hi)`` in [0, 1] or ``None``."""

    metric: Metric
    title: str
    explanation: str
    value: str
    unit: str
    interval: str
    method: str
    n: str
    bar: tuple[float, float, float] | None


@dataclass(frozen=True, kw_only=True)
class VerdictRow:
    """One claim, what was measured, and where the evidence stands."""

    text: str
    sentence: str
    outcome: str
    symbol: str
    word: str
    row: MetricRow | None
    reason: str
    anchor: str


@dataclass(frozen=True, kw_only=True)
class Strata:
    """One metric over classes or groups, worst first."""

    title: str
    kind: str
    worst: list[MetricRow]
    rest: list[MetricRow]


@dataclass(frozen=True, kw_only=True)
class Section:
    """The evidence of one run."""

    anchor: str
    label: str
    summary: str
    status: str
    symbol: str
    word: str
    reason: str
    threat: list[str]
    metrics: list[MetricRow]
    strata: list[Strata]
    matrices: list[Panel]
    panels: list[Panel]
    findings: list[Finding]
    gallery: Any
    exhibits: list[Exhibit]
    sheets: list[Sheet]
    readings: list[Reading]
    facts: list[tuple[str, str]]
    command: str


@dataclass(frozen=True, kw_only=True)
class Page:
    """Everything the template needs."""

    title: str
    headline: Headline
    verdicts: list[VerdictRow]
    tiles: list[tuple[MetricRow, str]]
    sections: list[Section]
    not_tested: list[str]
    provenance: list[tuple[str, list[tuple[str, str]]]]
    command: str
    credits: list[Credit] = field(default_factory=list)


def page(runs: Sequence[Run], study: Mapping[str, Any] | None, verdicts: Sequence[Verdict]) -> Page:
    """Put the page together.

    Args:
        runs: finished or not, in the order they are shown.
        study: the record of the audit they belong to, or ``None``.
        verdicts: what became of each claim.
    """
    study = study or {}
    labels = _labels(runs)
    sections = [section(run, f"run-{index}", labels[index - 1]) for index, run in enumerate(runs, 1)]
    anchors = {run.id: part.anchor for run, part in zip(runs, sections, strict=True)}
    rows = [_verdict_row(verdict, anchors) for verdict in verdicts]
    return Page(
        title=f"{_name(runs, study, 'target', 'a model')} on {_name(runs, study, 'data', 'no data')}",
        headline=_headline(runs, study, verdicts, sections),
        verdicts=rows,
        tiles=_tiles(sections),
        sections=sections,
        not_tested=_not_tested(runs, study, sections),
        provenance=_provenance(runs, study),
        command=command_text(study.get("command")) or next((part.command for part in sections if part.command), ""),
        credits=credits(runs),
    )


def section(run: Run, anchor: str, label: str) -> Section:
    """The evidence of one run, from its record."""
    card = card_of(run)
    symbol, word = words.STATUSES.get(run.status, ("?", run.status))
    rows = [metric_row(metric) for metric in run.metrics]
    gallery = run.gallery()
    target = run.record.get("target") or {}
    places = panels(run.figures(), anchor)
    return Section(
        anchor=anchor,
        label=label,
        summary=card.summary if card is not None else "",
        status=run.status,
        symbol=symbol,
        word=word,
        reason=reason(run),
        threat=words.threat(run.settings, target.get("bounds") or (0.0, 1.0)),
        metrics=[row for row in rows if not row.metric.stratum],
        strata=_strata([row for row in rows if row.metric.stratum]),
        matrices=[place for place in places if place.is_matrix],
        panels=[place for place in places if not place.is_matrix],
        findings=sorted(run.findings, key=lambda finding: SEVERITY_ORDER.get(finding.severity, 1)),
        gallery=gallery,
        exhibits=exhibits(gallery) if gallery is not None else [],
        sheets=sheets(run.panels()),
        readings=readings(run.passages()),
        facts=_run_facts(run),
        command=command_text(run.record.get("command")),
    )


def _labels(runs: Sequence[Run]) -> list[str]:
    """A heading for each run: the title of its method, with what tells it from others of the same title."""
    labels: list[str] = []
    for run in runs:
        title = str(run.method.get("title") or run.method.get("name") or "Run")
        norm = NORM_SYMBOLS.get(str(run.settings.get("norm")), "")
        label = f"{title}, {norm}" if norm else title
        repeats = sum(earlier == label or earlier.startswith(f"{label} (") for earlier in labels)
        labels.append(f"{label} ({repeats + 1})" if repeats else label)
    return labels


def metric_row(metric: Metric) -> MetricRow:
    """A metric in words."""
    return MetricRow(
        metric=metric,
        title=words.metric_title(metric.name),
        explanation=words.explanation(metric),
        value=words.number(metric.value, metric.unit if metric.unit == "share" else ""),
        unit="" if metric.unit == "share" else words.UNITS.get(metric.unit, metric.unit),
        interval=words.interval(metric),
        method=metric.interval,
        n=f"{metric.n:,}",
        bar=_bar(metric),
    )


def reason(run: Run) -> str:
    """Why a run has no result, in its own words; empty for a run that has one."""
    for key in ("not_applicable", "reason", "error"):
        value = run.record.get(key)
        if isinstance(value, Mapping):
            value = value.get("message") or value.get("type")
        if value:
            return str(value)
    return ""


def outcome(runs: Sequence[Run], study: Mapping[str, Any] | None, verdicts: Sequence[Verdict]) -> str:
    """``failed`` if any claim failed, else ``incomplete``, ``passed``, or ``measured`` where nothing was claimed."""
    status = (study or {}).get("status", "ok")
    if any(verdict.outcome == "failed" for verdict in verdicts):
        return "failed"
    unfinished = any(run.status not in ("ok", "not_applicable") for run in runs) or status != "ok" or not runs
    if unfinished or any(verdict.outcome != "passed" for verdict in verdicts):
        return "incomplete"
    return "passed" if verdicts else "measured"


def command_text(command: Any) -> str:
    """A command as one line for a shell."""
    if isinstance(command, str):
        return command
    return shlex.join(str(word) for word in command or [])


def _bar(metric: Metric) -> tuple[float, float, float] | None:
    ends = (metric.lo if metric.lo is not None else metric.value, metric.value, metric.hi)
    lo, value, hi = (metric.value if end is None else end for end in ends)
    if metric.unit != "share" or not all(math.isfinite(end) and -1e-9 <= end <= 1 + 1e-9 for end in (lo, value, hi)):
        return None
    return (lo, value, hi)


def _verdict_row(verdict: Verdict, anchors: Mapping[str, str]) -> VerdictRow:
    symbol, word = words.OUTCOMES[verdict.outcome]
    return VerdictRow(
        text=str(verdict.claim.text),
        sentence=words.claim_sentence(verdict),
        outcome=verdict.outcome,
        symbol=symbol,
        word=word,
        row=metric_row(verdict.metric) if verdict.metric is not None else None,
        reason=verdict.reason if _needs_reason(verdict) else "",
        anchor=anchors.get(verdict.run_id or "", ""),
    )


def _needs_reason(verdict: Verdict) -> bool:
    """Whether value and outcome do not speak for themselves."""
    if verdict.outcome == "passed":
        return False
    return verdict.metric is None or verdict.claim.confident or math.isnan(verdict.metric.value)


_WORDS = {"passed": "Passed", "failed": "Failed", "incomplete": "Incomplete", "measured": "Measured"}
_SYMBOLS = {"passed": "✓", "failed": "✗", "incomplete": "?", "measured": "•"}


def _headline(
    runs: Sequence[Run], study: Mapping[str, Any], verdicts: Sequence[Verdict], sections: Sequence[Section]
) -> Headline:
    result = outcome(runs, study, verdicts)
    data = _part(runs, study, "data")
    held = sum(verdict.outcome == "passed" for verdict in verdicts)
    failed = sum(verdict.outcome == "failed" for verdict in verdicts)
    open_claims = len(verdicts) - held - failed
    counts = f"{held} passed, {failed} failed, {open_claims} not run" if verdicts else "none made"
    unfinished = sum(run.status not in ("ok", "not_applicable") for run in runs)
    records = [study, *(run.record for run in runs)]
    facts = [
        ("Model", _name(runs, study, "target", "not recorded")),
        ("Data", _data_words(data)),
        ("Claims", counts),
        ("Runs", f"{len(runs)}" + (f", {unfinished} of them unfinished" if unfinished else "")),
        ("Date", words.date(str(next((r["created"] for r in records if r.get("created")), "")))),
    ]
    serious = [
        (part.anchor, finding) for part in sections for finding in part.findings if finding.severity == "serious"
    ]
    return Headline(
        outcome=result,
        symbol=_SYMBOLS[result],
        word=_WORDS[result],
        sentence=_sentence(result, held, failed, open_claims, unfinished, len(runs)),
        facts=[(name, value) for name, value in facts if value],
        serious=serious,
    )


def _sentence(result: str, held: int, failed: int, open_claims: int, unfinished: int, runs: int) -> str:
    total = held + failed + open_claims
    if not runs:
        return "Nothing was measured, so nothing can be said about this model."
    if result == "measured":
        return "No claim was made, so nothing could pass or fail; the measurements stand below."
    if result == "passed":
        return "The model met its claim." if total == 1 else f"The model met all {total} claims made about it."
    parts = []
    if failed:
        parts.append(f"The model did not meet {failed} of the {words.plural(total, 'claim')} made about it.")
    if open_claims:
        parts.append(f"{words.plural(open_claims, 'claim')} could not be checked, which does not count as passing.")
    if unfinished:
        parts.append(f"{unfinished} of {words.plural(runs, 'run')} did not finish.")
    return " ".join(parts) or "The audit did not run to its end."


def _tiles(sections: Sequence[Section]) -> list[tuple[MetricRow, str]]:
    """The first unstratified metrics of every run in turn, so that each run has a say."""
    columns = [[(row, part.anchor) for row in part.metrics] for part in sections if part.status == "ok"]
    depth = max(map(len, columns), default=0)
    return [column[level] for level in range(depth) for column in columns if level < len(column)][:MOST_TILES]


def _strata(rows: Sequence[MetricRow]) -> list[Strata]:
    tables: dict[tuple[str, str], list[MetricRow]] = {}
    for row in rows:
        tables.setdefault((row.metric.name, words.stratum_name(row.metric.stratum)[0]), []).append(row)
    result = []
    for (name, kind), members in tables.items():
        lower = members[0].metric.direction == "lower"
        members.sort(key=lambda row: _badness(row.metric, lower))
        cut = len(members) if len(members) <= WORST_SHOWN + 4 else WORST_SHOWN
        result.append(Strata(title=words.metric_title(name), kind=kind, worst=members[:cut], rest=members[cut:]))
    return result


def _badness(metric: Metric, lower: bool) -> float:
    if math.isnan(metric.value):
        return math.inf
    return -metric.value if lower else metric.value


def _not_tested(runs: Sequence[Run], study: Mapping[str, Any], sections: Sequence[Section]) -> list[str]:
    points = []
    for run, part in zip(runs, sections, strict=True):
        if run.status != "ok":
            because = f": {part.reason}" if part.reason else "."
            points.append(f"{part.label} ({part.word}){because}")
    for entry in study.get("runs") or []:
        if entry.get("id") not in {run.id for run in runs} and entry.get("status") not in ("ok", "not_applicable"):
            because = f": {entry['error']}" if entry.get("error") else "."
            points.append(f"{entry.get('probe', 'A probe')} ({entry.get('status', 'incomplete')}){because}")
    return points + [str(point) for point in study.get("not_tested") or []]


def _run_facts(run: Run) -> list[tuple[str, str]]:
    cost = run.cost
    facts = [("Run", run.id), ("Time", words.duration(cost.seconds))]
    if cost.forward or cost.backward:
        facts.append(("Passes", f"{cost.forward:,} forward and {cost.backward:,} backward, counted per sample"))
    if cost.peak_memory_bytes:
        facts.append(("Peak memory", words.size(cost.peak_memory_bytes)))
    facts.append(("Settings", ", ".join(f"{key} = {plain(value)}" for key, value in run.settings.items()) or "none"))
    facts += [(words.metric_title(metric.name), metric.estimand) for metric in run.metrics if not metric.stratum]
    return facts


def _provenance(runs: Sequence[Run], study: Mapping[str, Any]) -> list[tuple[str, list[tuple[str, str]]]]:
    parts = {name: _part(runs, study, name) for name in ("target", "data", "environment", "code", "seeds")}
    titles = {"target": "Model", "data": "Data", "code": "Code", "seeds": "Seeds", "environment": "Environment"}
    total = [
        ("Time", words.duration(sum(run.cost.seconds for run in runs))),
        ("Forward passes", f"{sum(run.cost.forward for run in runs):,}"),
        ("Backward passes", f"{sum(run.cost.backward for run in runs):,}"),
        ("Peak memory", words.size(max((run.cost.peak_memory_bytes for run in runs), default=0))),
    ]
    tables = [(title, _flat(parts[name])) for name, title in titles.items() if parts[name]]
    return [("Cost, all runs together", total), *tables]


def _flat(value: Mapping[str, Any], before: str = "") -> list[tuple[str, str]]:
    rows: list[tuple[str, str]] = []
    for key, item in value.items():
        if isinstance(item, Mapping) and item:
            rows += _flat(item, f"{before}{key} · ")
        elif item not in (None, "", [], {}):
            rows.append((f"{before}{key}", plain(item)))
    return rows


def plain(value: Any) -> str:
    """Any recorded value as text."""
    if isinstance(value, str):
        return value
    if isinstance(value, (list, tuple)):
        items = [plain(item) for item in value]
        return (" " if all(item.endswith(".") for item in items) else ", ").join(items)
    if isinstance(value, float):
        return budget_text(value)
    return json.dumps(value, ensure_ascii=False, default=str)


def _part(runs: Sequence[Run], study: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """A part of the record: the study's, or the first run's that has it."""
    candidates = [study.get(name), *(run.record.get(name) for run in runs)]
    return next((part for part in candidates if isinstance(part, Mapping) and part), {})


def _name(runs: Sequence[Run], study: Mapping[str, Any], part: str, absent: str) -> str:
    return str(_part(runs, study, part).get("name") or absent)


def _data_words(data: Mapping[str, Any]) -> str:
    if not data:
        return "not recorded"
    split = f", {data['split']} split" if data.get("split") else ""
    count = f", {data['n']:,} samples" if isinstance(data.get("n"), int) else ""
    return f"{data.get('name', 'unnamed')}{split}{count}"
