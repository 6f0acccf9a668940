"""What a reader sees: tables in README.md, figures, and the ``ours`` of expected.yaml, all from results.json alone."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from assay.core.errors import RunError
from assay.core.estimates import Estimate
from assay.core.files import make_folder, write_atomic

from .estimates import verdict
from .spec import Spec

RESULTS, EXPECTED, README, FIGURES = "results.json", "expected.yaml", "README.md", "figures"
Results = dict[str, list[dict[str, Any]]]
DIGITS = {"radius": 3, "times": 2, "nats": 5, "metres": 2, "distance": 3, "z": 2, "perplexity": 1}
MARKED = "<!-- begin {name} -->\n\n{body}\n\n<!-- end {name} -->"


def load_results(spec: Spec) -> Results:
    """The committed results by tier."""
    path = spec.folder / RESULTS
    found: Results = json.loads(path.read_text(encoding="utf-8"))["tiers"] if path.exists() else {}
    return found


def save_results(spec: Spec, tier: str, results: Sequence[dict[str, Any]]) -> Results:
    """Add the results of one tier to those that are there, in the order of the jobs; one line a training.

    What is there stays where it has no successor and its plan is still that of the specification, so that
    neither a part of the jobs nor an empty work folder takes anything away.
    """
    earlier = load_results(spec)
    rows = {(row["experiment"], row["method"], row["seed"]): row for row in [*earlier.get(tier, []), *results]}
    seeds = sorted({seed for _, _, seed in rows})
    jobs = spec.jobs(tier, seeds=seeds) if rows else []
    kept = [rows[key] for job in jobs if (key := (job.experiment, job.method, job.seed)) in rows]
    plans = {job.digest for job in jobs}
    tiers = {**earlier, tier: [row for row in kept if row["plan"] in plans]}
    lines = [
        f' "{name}": [\n  ' + ",\n  ".join(json.dumps(row, sort_keys=True) for row in content) + "\n ]"
        for name, content in sorted(tiers.items())
        if content
    ]
    write_atomic(spec.folder / RESULTS, '{"schema": 1, "tiers": {\n' + ",\n".join(lines) + "\n}}\n")
    return tiers


def write(spec: Spec) -> None:
    """Renew README.md, expected.yaml and the figures from the committed results."""
    from assay.report.figures import draw
    from assay.report.svg import standalone

    results = load_results(spec)
    write_atomic(spec.folder / EXPECTED, expected_text(spec, results))
    write_atomic(spec.folder / README, readme_text(spec, results))
    make_folder(spec.folder / FIGURES)
    for figure in spec.code().figures(spec, results):
        write_atomic(spec.folder / FIGURES / f"{figure.name}.svg", standalone(draw(figure, prefix=figure.name)) + "\n")


def expected(spec: Spec, results: Results) -> dict[str, Any]:
    """expected.yaml with our values and verdicts filled in; what people wrote stays."""
    content: dict[str, Any] = yaml.safe_load((spec.folder / EXPECTED).read_text(encoding="utf-8"))
    code = spec.code()
    known = {tier: code.quantities(spec, tier, rows) for tier, rows in results.items()}
    for item in [*content["values"], *content["claims"]]:
        name = item["quantity"]
        item["ours"] = {tier: _plain(found[name]) for tier, found in known.items() if name in found}
        if "above" in item:
            above = float(item["above"])
            item["verdict"] = {tier: verdict(found.get(name), above) for tier, found in known.items()}
    return content


def expected_text(spec: Spec, results: Results) -> str:
    """The text of expected.yaml, comments at its head kept."""
    earlier = (spec.folder / EXPECTED).read_text(encoding="utf-8")
    head = "".join(line for line in earlier.splitlines(keepends=True) if line.startswith("#"))
    return head + yaml.safe_dump(expected(spec, results), sort_keys=False, width=120, allow_unicode=True)


def readme_text(spec: Spec, results: Results) -> str:
    """The text of README.md with every marked table made anew.

    Raises:
        RunError: a table has no markers in the page, or markers no table.
    """
    text = (spec.folder / README).read_text(encoding="utf-8")
    content = expected(spec, results)
    tables = {**spec.code().tables(spec, results), "values": values_table(content), "claims": claims_table(content)}
    marked = set(re.findall(r"<!-- begin ([\w-]+) -->", text))
    if marked != set(tables):
        raise RunError(f"{spec.paper}/{README} marks {sorted(marked)}, but the tables are {sorted(tables)}.")
    for name, body in tables.items():
        pattern = re.compile(f"<!-- begin {name} -->.*?<!-- end {name} -->", re.DOTALL)
        text = pattern.sub(lambda _, name=name, body=body: MARKED.format(name=name, body=body), text)  # type: ignore[misc]
    return text


def values_table(content: Mapping[str, Any]) -> str:
    """The paper's values beside ours."""
    rows = [[item["what"], item["paper"], item.get("rerun", ""), *_ours(item)] for item in content["values"]]
    return table(["quantity", "paper", "rerun by others", "ours", "over"], rows)


def claims_table(content: Mapping[str, Any]) -> str:
    """What is claimed, what was measured, and whether it holds."""
    rows = []
    for item in content["claims"]:
        for tier, found in item["ours"].items() or [("", None)]:
            shown = cell(found, item.get("unit", "points")) if found else "–"
            what = item["verdict"].get(tier, "not run")
            rows.append([item["claim"], shown, _over(found, tier) if found else "", f"**{what}**"])
    return table(["claim", "measured", "over", "verdict"], rows)


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table.

    >>> print(table(["a", "b"], [["1", "2"]]))
    | a | b |
    |---|---|
    | 1 | 2 |
    """
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines).replace("| --- |", "|---|").replace(" --- |", "---|")


def cell(found: Estimate | Mapping[str, Any], unit: str = "percent") -> str:
    """A value with its interval: shares in percent or points, radii, ratios and nats as they are.

    >>> cell({"value": 0.5, "lo": 0.4, "hi": 0.6})
    '50.0 [40.0, 60.0]'
    """
    values = vars(found) if isinstance(found, Estimate) else found
    scale, digits = (100, 1) if unit in ("percent", "points") else (1, DIGITS[unit])
    value, lo, hi = (values[name] for name in ("value", "lo", "hi"))
    ends = lo is not None and hi is not None and math.isfinite(lo) and math.isfinite(hi)
    text = f"{scale * value:.{digits}f}"
    return f"{text} [{scale * lo:.{digits}f}, {scale * hi:.{digits}f}]" if ends else text


def _ours(item: Mapping[str, Any]) -> list[str]:
    if not item["ours"]:
        return ["not run", ""]
    found = [(cell(value, item.get("unit", "percent")), _over(value, tier)) for tier, value in item["ours"].items()]
    return ["<br>".join(part) for part in zip(*found, strict=True)]


def _over(found: Mapping[str, Any], tier: str) -> str:
    """What the interval is over: trainings, or, where there is one, its test samples."""
    count, interval = found["seeds"], found.get("interval", "")
    over_samples = count > 1 and any(words in interval for words in ("one training", "over test samples"))
    return f"{count} samples, {tier}" if over_samples else f"{count} seed{'s' * (count != 1)}, {tier}"


def _plain(estimate: Estimate) -> dict[str, Any]:
    def rounded(value: float) -> float | None:
        return round(float(value), 6) if math.isfinite(value) else None

    return {
        "value": rounded(estimate.value),
        "lo": rounded(estimate.lo),
        "hi": rounded(estimate.hi),
        "seeds": estimate.n,
        "interval": estimate.method,
    }
