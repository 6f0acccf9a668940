"""The diagnosis of a private training: who pays for privacy, and why, on one page.

Two audits of one model: accuracy, guarantee and privacy cost by group on data the model
has not seen, and gradients on its training data. Their runs lie in one folder, and one
record and one report are made of both.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..core.files import read_json, to_json, write_atomic
from ..core.progress import Progress
from ..report import write_report
from .auditing import RECORD, Study, audit
from .not_tested import not_tested
from .suite import Suite

if TYPE_CHECKING:
    from ..data.dataset import Dataset
    from ..subjects.target import Target


@dataclass(frozen=True, kw_only=True)
class Part:
    """One audit of a diagnosis: what is measured on which data."""

    data: Dataset
    suite: Suite


def diagnose(
    target: Target,
    parts: Sequence[Part],
    *,
    out: str | Path,
    batch_size: int = 256,
    progress: Progress | None = None,
    command: Sequence[str] = (),
) -> Study:
    """Audit one model on several data sets, and write one report over all runs.

    Issuing the same diagnosis again goes on where it was stopped, as for an audit.

    Args:
        target: the model.
        parts: what is measured on which data, in the order of the report; the first names the report.
        out: folder of the study; all runs go to ``out/runs``.
        batch_size, progress, command: as for :func:`assay.studies.audit`.

    Returns:
        The study; its record is the first part's, with the runs of all.

    Raises:
        As :func:`assay.studies.audit`.
    """
    studies = [
        audit(
            target,
            part.data,
            part.suite,
            out=out,
            batch_size=batch_size,
            progress=progress,
            command=command,
        )
        for part in parts
    ]
    whole = Study(path=Path(out), record=_joined(studies, parts), runs=[run for study in studies for run in study.runs])
    write_atomic(whole.path / RECORD, to_json(whole.record))
    whole.report = write_report(whole.path, whole.runs, study=read_json(whole.path / RECORD), verdicts=[])
    return whole


def _joined(studies: Sequence[Study], parts: Sequence[Part]) -> dict[str, Any]:
    entries = [entry for study in studies for entry in study.record["runs"]]
    suites = [study.record["suite"] for study in studies]
    statuses = {study.status for study in studies}
    return {
        **studies[0].record,
        "status": next((status for status in ("failed", "incomplete") if status in statuses), "ok"),
        "suite": {**suites[0], "probes": [probe for suite in suites for probe in suite["probes"]]},
        "runs": entries,
        "not_tested": not_tested(
            [entry for entry in entries if entry["status"] == "ok"],
            strata=parts[0].data.groups is not None,
            limited=None,
        ),
    }
