"""The report for machines and other pages: Markdown, JUnit XML, and a Hugging Face model index."""

from __future__ import annotations

import math
import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from ..core.probes import Metric
from ..core.runs import Run
from . import words
from .content import MetricRow, Page, Section, VerdictRow
from .matrix import cells

_MARKDOWN = re.compile(r"([\\`*_{}\[\]<>()#+!|~&-])")
_NOT_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_TASKS = {
    "classification": "image-classification",
    "segmentation": "image-segmentation",
    "depth": "depth-estimation",
    "embedding": "image-feature-extraction",
}


def summary(page: Page) -> str:
    """``summary.md``: the verdict, the claims, the metrics, matrices and what was not tested, for a pull request."""
    head = page.headline
    lines = [f"# {head.symbol} {head.word}: {_md(page.title)}", "", _md(head.sentence), ""]
    lines += [f"- **{name}**: {_md(value)}" for name, value in head.facts]
    if page.verdicts:
        lines += ["", "## Claims", ""]
        lines += _table(("Outcome", "Claim", "Measured", "Interval", "n"), [_verdict_cells(v) for v in page.verdicts])
    metrics = [_metric_cells(part, row) for part in page.sections for row in part.metrics]
    if metrics:
        lines += ["", "## Measured", ""]
        lines += _table(("Probe", "Metric", "Value", "Interval", "n"), metrics)
    for figure in [place.frames[-1].figure for part in page.sections for place in part.matrices]:
        lines += ["", f"## {_md(figure.title)}{f', {_md(figure.moment)}' if figure.moment else ''}", ""]
        headings, *rows = [[_md(cell) for cell in row] for row in cells(figure)]
        lines += _table(headings, rows)
    findings = [(part, finding) for part in page.sections for finding in part.findings if finding.severity != "info"]
    if findings:
        lines += ["", "## Sanity findings", ""]
        lines += [
            f"- **{_md(finding.severity)}**, {_md(part.label)}: {_md(finding.message)} {_md(finding.remedy)}".rstrip()
            for part, finding in findings
        ]
    lines += ["", "## What was not tested", ""]
    lines += [f"- {_md(point)}" for point in page.not_tested] or ["Everything that is not listed above."]
    return "\n".join(lines) + "\n"


def junit(page: Page) -> str:
    """``junit.xml``: a test case for every claim and every run; not run is an error, never a pass."""
    claims, runs = ElementTree.Element("testsuite"), ElementTree.Element("testsuite")
    for verdict in page.verdicts:
        case = ElementTree.SubElement(claims, "testcase", classname="assay.claims", name=_xml(verdict.text))
        if verdict.outcome != "passed":
            kind = "failure" if verdict.outcome == "failed" else "error"
            problem = ElementTree.SubElement(case, kind, type=verdict.outcome, message=_xml(verdict.reason))
            problem.text = _xml(verdict.sentence)
    for part in page.sections:
        case = ElementTree.SubElement(runs, "testcase", classname="assay.runs", name=_xml(part.label))
        if part.status == "not_applicable":
            ElementTree.SubElement(case, "skipped", message=_xml(part.reason))
        elif part.status != "ok":
            ElementTree.SubElement(case, "error", type=part.status, message=_xml(part.reason or part.word))
    root = ElementTree.Element("testsuites", name=_xml(page.title))
    for suite, name in ((claims, "claims"), (runs, "runs")):
        suite.set("name", name)
        suite.set("tests", str(len(suite)))
        for kind, count in (("failure", "failures"), ("error", "errors"), ("skipped", "skipped")):
            suite.set(count, str(sum(case.find(kind) is not None for case in suite)))
        root.append(suite)
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="unicode", xml_declaration=False) + "\n"


def model_index(runs: Sequence[Run], study: Mapping[str, Any] | None) -> str:
    """``model-index.yaml``: the results as Hugging Face model cards hold them; unmeasured values are left out."""
    results = []
    for run in runs:
        metrics = [_index_metric(metric) for metric in run.metrics if math.isfinite(metric.value)]
        if run.status == "ok" and metrics:
            target, data = run.record.get("target") or {}, run.record.get("data") or {}
            task = str(target.get("task", "classification"))
            dataset = {"name": str(data.get("name", "unnamed")), "type": str(data.get("name", "unnamed"))}
            if data.get("split"):
                dataset["split"] = str(data["split"])
            results.append({"task": {"type": _TASKS.get(task, task)}, "dataset": dataset, "metrics": metrics})
    records = [study or {}, *(run.record for run in runs)]
    name = next((str(record["target"]["name"]) for record in records if (record.get("target") or {}).get("name")), "")
    index = {"model-index": [{"name": name or "unnamed", "results": results}]}
    return yaml.safe_dump(index, sort_keys=False, allow_unicode=True)


def _index_metric(metric: Metric) -> dict[str, Any]:
    entry: dict[str, Any] = {"type": metric.name.partition("@")[0], "name": metric.label, "value": metric.value}
    arguments: dict[str, Any] = {"n": metric.n, "unit": metric.unit}
    if metric.lo is not None and metric.hi is not None:
        arguments |= {"lo": metric.lo, "hi": metric.hi, "interval": metric.interval}
    return {**entry, "args": arguments}


def _verdict_cells(verdict: VerdictRow) -> tuple[str, ...]:
    measured = _measured(verdict.row) if verdict.row else (words.DASH,) * 3
    return (f"{verdict.symbol} {verdict.word}", _md(verdict.text), *measured)


def _metric_cells(part: Section, row: MetricRow) -> tuple[str, ...]:
    return (_md(part.label), _md(row.title), *_measured(row))


def _measured(row: MetricRow) -> tuple[str, ...]:
    return (f"{row.value} {_md(row.unit)}".strip(), row.interval, row.n)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return ["| " + " | ".join(cells) + " |" for cells in (head, ["---"] * len(head), *rows)]


def _md(text: str) -> str:
    """Text that Markdown shows as it is, on one line."""
    return _MARKDOWN.sub(r"\\\1", " ".join(str(text).split()))


def _xml(text: str) -> str:
    """Text without the characters that XML cannot hold."""
    return _NOT_XML.sub("\N{REPLACEMENT CHARACTER}", str(text))
