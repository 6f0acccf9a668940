"""The audit: every probe of a suite becomes a run, and the runs answer the claims."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..core.claims import Verdict, check, exit_code
from ..core.errors import AssayError, Incomplete, RunError
from ..core.files import make_folder, read_json, to_json, write_atomic
from ..core.progress import Progress
from ..core.runs import Run, RunWriter, load_run
from ..core.settings import as_dict
from ..report import write_report
from .not_tested import not_tested
from .suite import PlannedProbe, Suite

if TYPE_CHECKING:
    from ..data.dataset import Dataset
    from ..subjects.examination import Examination
    from ..subjects.target import Target

SCHEMA = 1
RECORD = "audit.json"


@dataclass(kw_only=True)
class Study:
    """An audit on disk: its runs, the verdicts on its claims, and the page."""

    path: Path
    record: dict[str, Any]
    runs: list[Run] = field(default_factory=list)
    verdicts: list[Verdict] = field(default_factory=list)
    report: Path | None = None

    @property
    def status(self) -> str:
        """``ok``, ``failed`` (a probe stopped with an error) or ``incomplete``."""
        return str(self.record["status"])

    @property
    def exit_code(self) -> int:
        """0 all claims hold, 1 a claim failed, 3 something did not finish."""
        return exit_code(self.verdicts, incomplete=self.status != "ok")


def audit(
    target: Target,
    data: Dataset,
    suite: Suite,
    *,
    out: str | Path,
    seed: int | None = None,
    batch_size: int = 256,
    progress: Progress | None = None,
    command: Sequence[str] = (),
) -> Study:
    """Run a suite on a target, check its claims and write the report.

    Finished runs under ``out/runs`` are taken over and incomplete ones go on
    where they stopped, so issuing the same audit again is how it is resumed. A
    probe that fails is recorded as failed and the others go on.

    Args:
        target: the model under examination.
        data: labelled samples; all of them are used.
        suite: what to measure and claim, from :func:`load_suite`.
        out: folder of the study; its runs go to ``out/runs``.
        seed: root of every random stream; default: the suite's.
        batch_size: samples in one forward pass; the results do not depend on it.
        progress: where to show progress; default: nowhere.
        command: the command line to print in the report, when there was one.

    Returns:
        The study, whose ``exit_code`` is meant for a shell.

    Raises:
        DataError, ModelError: data and model do not fit together; nothing was written.
        Incomplete: the work was interrupted; what was done is kept.
        RunError: ``out`` cannot be written.

    Cost: see :func:`assay.studies.plan`.
    """
    root = suite.seed if seed is None else seed
    progress = progress or Progress(enabled=False)
    examination = _examination(target, data, root, batch_size, progress)
    study = Study(path=Path(out), record=_record(suite, target, data, root, command))
    save(study)
    examination.work = study.path / "pools"
    try:
        for number, probe in enumerate(suite.probes, start=1):
            stage = progress.task(f"{number}/{len(suite.probes)} {probe.card.title}", total=len(data))
            _run_probe(probe, examination, study, command)
            stage.advance(len(data))
            stage.done()
            save(study)
    except KeyboardInterrupt:
        save(study)
        raise Incomplete(f"Stopped; what is done is kept in {out}. Run the same command to go on.") from None
    return _conclude(study, suite, data)


def _examination(target: Target, data: Dataset, seed: int, batch_size: int, progress: Progress) -> Examination:
    """Check that model and data fit together, by one forward pass over the data."""
    from ..subjects.examination import Examination

    examination = Examination(target=target, data=data, seed=seed, batch_size=batch_size, progress=progress)
    examination.images = target.check_images(examination.images)
    examination.labels = target.check_labels(examination.labels, len(examination.images))
    examination.predictions()
    return examination


def _run_probe(probe: PlannedProbe, examination: Examination, study: Study, command: Sequence[str]) -> None:
    entry: dict[str, Any] = {"probe": probe.card.name, "settings": as_dict(probe.settings), "id": None}
    study.record["runs"] = [*study.record["runs"], entry]
    writer = RunWriter.open(
        study.path / "runs",
        method=probe.card,
        given=probe.given,
        resolved=as_dict(probe.settings),
        target=study.record["target"],
        data=study.record["data"],
        seeds={"root": examination.seed},
        command=list(command),
    )
    fill(writer, entry, study, lambda: _measure(probe, examination, writer))


def fill(writer: RunWriter, entry: dict[str, Any], study: Study, measure: Callable[[], None]) -> None:
    """Do the work of a run unless it is done, and take its result, or why it failed, into the study.

    Args:
        writer: the opened run.
        entry: the run's line in the record of the study.
        study: what the run belongs to.
        measure: finishes the run; what it raises is recorded, but for a RunError, which ends the study.
    """
    entry.update(id=writer.id, status="incomplete")
    with writer:
        if not writer.finished:
            try:
                measure()
            except RunError:
                raise
            except Exception as error:
                writer.fail(error)
                entry["error"] = sentence(error)
    run = load_run(writer.path)
    entry["status"] = run.status
    study.runs.append(run)


def _measure(probe: PlannedProbe, examination: Examination, writer: RunWriter) -> None:
    examination.shards = writer.shards
    measurement = probe.settings.measure(examination)
    writer.finish(measurement, sample_ids=measurement.samples.pop("sample_id", examination.sample_ids))


def _conclude(study: Study, suite: Suite, data: Dataset) -> Study:
    failed = [entry for entry in study.record["runs"] if entry["status"] == "failed"]
    study.verdicts = check(suite.claims, study.runs)
    study.record.update(
        status="failed" if failed else "ok",
        verdicts=[verdict.as_dict() for verdict in study.verdicts],
        not_tested=not_tested(
            [entry for entry in study.record["runs"] if entry["status"] == "ok"],
            strata=data.groups is not None,
            limited=len(data) if suite.data.limit == len(data) else None,
        ),
    )
    save(study)
    record = read_json(study.path / RECORD)  # as it will be read whenever the report is made again
    study.report = write_report(study.path, study.runs, study=record, verdicts=study.verdicts)
    return study


def _record(suite: Suite, target: Target, data: Dataset, seed: int, command: Sequence[str]) -> dict[str, Any]:
    return {
        "schema": SCHEMA,
        "kind": "study",
        "status": "incomplete",
        "suite": suite.as_dict(),
        "seed": seed,
        "command": list(command),
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "target": target.describe(),
        "data": data.describe(),
        "runs": [],
        "verdicts": [],
        "not_tested": [],
    }


def save(study: Study) -> None:
    """Write the record of a study."""
    write_atomic(make_folder(study.path) / RECORD, to_json(study.record))


def sentence(error: Exception) -> str:
    """What went wrong, in words for the record."""
    return str(error) if isinstance(error, AssayError) else f"{type(error).__name__}: {error}"
