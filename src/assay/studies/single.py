"""A study of one probe that needs more than a model and one data set: one run, its claims, and a report."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..core.claims import check, parse_claim
from ..core.errors import Incomplete
from ..core.files import read_json
from ..core.methods import MethodCard
from ..core.probes import Measurement
from ..core.progress import Progress
from ..core.runs import RunWriter
from ..core.settings import as_dict
from ..core.shards import Shards
from ..report import write_report
from .auditing import RECORD, SCHEMA, Study, fill, save


def single_run(
    card: MethodCard,
    settings: Any,
    measure: Callable[[Shards, Progress], Measurement],
    *,
    target: dict[str, Any],
    data: dict[str, Any],
    out: str | Path,
    seed: int,
    not_tested: Sequence[str],
    claims: Sequence[str] = (),
    progress: Progress | None = None,
    command: Sequence[str] = (),
    sample_ids: Sequence[int] | np.ndarray | None = None,
) -> Study:
    """A study of one run: measured unless it is done, judged by the claims, and its report written.

    Args:
        card, settings: of what is measured.
        measure: does the work, and keeps finished pieces in the store it is given.
        target, data: as the record describes them.
        out: folder of the study.
        seed: root of every random stream.
        not_tested: sentences on what stays open.
        claims: such as ``"auc >= 0.9"``.
        progress: where to show progress.
        command: the command line to print in the report.
        sample_ids: row numbers of the samples; default: 0, 1, 2 ...

    Raises:
        Incomplete: the work was interrupted; the same call goes on.
    """
    progress = progress or Progress(enabled=False)
    wanted = [parse_claim(claim) for claim in claims]
    record: dict[str, Any] = {
        "schema": SCHEMA,
        "kind": "study",
        "status": "incomplete",
        "seed": seed,
        "command": list(command),
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "target": target,
        "data": data,
        "runs": [],
        "verdicts": [],
        "not_tested": list(not_tested),
    }
    study = Study(path=Path(out), record=record)
    save(study)
    entry: dict[str, Any] = {"probe": card.name, "settings": as_dict(settings), "id": None}
    record["runs"] = [entry]
    try:
        writer = RunWriter.open(
            study.path / "runs",
            method=card,
            given=as_dict(settings),
            resolved=as_dict(settings),
            target=target,
            data=data,
            seeds={"root": seed},
            command=list(command),
        )

        def work() -> None:
            measurement = measure(writer.shards, progress)
            rows = len(next(iter(measurement.samples.values())))
            writer.finish(measurement, sample_ids=np.arange(rows) if sample_ids is None else sample_ids)

        fill(writer, entry, study, work)
    except KeyboardInterrupt:
        save(study)
        raise Incomplete(f"Stopped; what is done is kept in {out}. Run the same command to go on.") from None
    study.verdicts = check(wanted, study.runs)
    record["status"] = "ok" if entry["status"] == "ok" else "failed"
    record["verdicts"] = [verdict.as_dict() for verdict in study.verdicts]
    save(study)
    study.report = write_report(study.path, study.runs, study=read_json(study.path / RECORD), verdicts=study.verdicts)
    return study
