"""Write the report of finished runs again: report.html, summary.md, junit.xml and model-index.yaml."""

from __future__ import annotations

import argparse
from pathlib import Path

from ..core.errors import RunError


def parse(parser: argparse.ArgumentParser, words: list[str]) -> argparse.Namespace:
    """Flags of ``assay report``."""
    parser.add_argument("runs", nargs="+", metavar="RUNS", help="folder of an audit, or folders of runs")
    parser.add_argument("--out", metavar="FOLDER", help="where to write (default: the folder of the audit or run)")
    return parser.parse_args(words)


def run(arguments: argparse.Namespace) -> int:
    """Write the four files and tell where the page is."""
    from ..core.claims import Verdict
    from ..core.files import make_folder, read_json
    from ..core.runs import find_runs
    from ..report import write_report

    folders = [Path(path) for path in arguments.runs]
    record = folders[0] / "audit.json"
    study = read_json(record) if len(folders) == 1 and record.is_file() else None
    if study is not None and (not isinstance(study, dict) or study.get("kind") != "study"):
        raise RunError(f"{record} is not the record of an audit. Repeat the audit's command to write it again.")
    runs = find_runs(folders)
    verdicts = [Verdict.from_dict(item) for item in (study or {}).get("verdicts", [])]
    if study is not None:
        order = {entry.get("id"): index for index, entry in enumerate(study.get("runs", []))}
        runs = sorted((run for run in runs if run.id in order), key=lambda run: order[run.id])
    place = make_folder(Path(arguments.out) if arguments.out else folders[0])
    print(f"Report: {write_report(place, runs, study=study, verdicts=verdicts)}")
    return 0
