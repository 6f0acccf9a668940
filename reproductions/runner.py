"""Runs the jobs of a tier: finished ones are skipped, stopped ones go on, each has a folder and a log of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from assay.core.errors import AssayError
from assay.core.files import make_folder, to_json, write_atomic

from .job import JOB, RECORD, RESULT, RUN, run
from .spec import HERE, Job, Spec

LOG = "log.txt"
PAUSE = 0.5


def work_folder(paper: str, tier: str) -> Path:
    """``runs/reproductions/PAPER/TIER`` below the repository, or below the folder named by ASSAY_RUNS."""
    root = Path(os.environ.get("ASSAY_RUNS", HERE.parent / "runs" / "reproductions"))
    return root / paper / tier


def finished(folder: Path, job: Job) -> dict[str, Any] | None:
    """The result of a job that has ended, or None."""
    path = folder / job.folder / RESULT
    if not path.exists():
        return None
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found


def ready(folder: Path, job: Job) -> bool:
    """Whether the jobs that this one needs, and the training that it starts from, have ended.

    The measurement of the training need not have.
    """
    if not all((folder / other / RESULT).exists() for other in job.plan.get("needs", {}).values()):
        return False
    start = job.plan.get("start")
    if start is None or start["encoder"] is not None:
        return True
    record = folder / start["folder"] / RUN / RECORD
    return record.exists() and json.loads(record.read_text(encoding="utf-8"))["status"] == "ok"


def gather(folder: Path, jobs: Sequence[Job]) -> list[dict[str, Any]]:
    """The results there are, in the order of the jobs."""
    return [found for job in jobs if (found := finished(folder, job)) is not None]


def work(
    spec: Spec, jobs: Sequence[Job], folder: Path, *, workers: int, say: Callable[[str], None] = print
) -> list[Job]:
    """Run what is not finished; the jobs that failed.

    Args:
        workers: processes at a time, one thread each; 0 runs one job after another in this process.
        say: told when a job begins and ends.
    """
    open_jobs = [job for job in jobs if finished(folder, job) is None]
    say(f"{len(jobs) - len(open_jobs)} of {len(jobs)} jobs are finished; {len(open_jobs)} to run in {folder}")
    for job in open_jobs:
        make_folder(folder / job.folder)
        write_atomic(folder / job.folder / JOB, to_json({"paper": spec.paper, **job.as_dict()}))
    if workers == 0:
        return _in_turn(spec, open_jobs, folder, say)
    return _in_processes(open_jobs, folder, workers, say)


def _in_turn(spec: Spec, jobs: Sequence[Job], folder: Path, say: Callable[[str], None]) -> list[Job]:
    failed = []
    for number, job in enumerate(jobs, 1):
        if not ready(folder, job):
            failed += _stuck([job], say)
            continue
        try:
            result = run(spec.paper, job, folder / job.folder)
        except AssayError as error:
            failed.append(job)
            say(f"[{number}/{len(jobs)}] {job.name} failed: {error}")
        else:
            say(f"[{number}/{len(jobs)}] {job.name} done in {result['wall_seconds']:.0f} s")
    return failed


@dataclass
class _Working:
    job: Job
    process: subprocess.Popen[bytes]
    started: float


def _in_processes(jobs: Sequence[Job], folder: Path, workers: int, say: Callable[[str], None]) -> list[Job]:
    waiting, working, failed, ended = list(jobs), list[_Working](), list[Job](), 0
    earlier = signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    try:
        while waiting or working:
            while len(working) < workers and (chosen := next((job for job in waiting if ready(folder, job)), None)):
                waiting.remove(chosen)
                working.append(_start(chosen, folder))
                say(f"{chosen.name} begins")
            if not working:
                return failed + _stuck(waiting, say)
            time.sleep(PAUSE)
            for item in [item for item in working if item.process.poll() is not None]:
                working.remove(item)
                ended += 1
                seconds = time.monotonic() - item.started
                if item.process.returncode:
                    failed.append(item.job)
                    log = folder / item.job.folder / LOG
                    last = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-1:]
                    say(f"[{ended}/{len(jobs)}] {item.job.name} failed after {seconds:.0f} s: {' '.join(last)} ({log})")
                else:
                    say(f"[{ended}/{len(jobs)}] {item.job.name} done in {seconds:.0f} s")
    finally:
        for item in working:
            item.process.terminate()
        for item in working:
            item.process.wait()
        signal.signal(signal.SIGTERM, earlier)
    return failed


def _stuck(jobs: Sequence[Job], say: Callable[[str], None]) -> list[Job]:
    """Jobs that start from one that has not ended, or need one."""
    for job in jobs:
        if "start" in job.plan:
            say(f"{job.name} cannot begin: it starts from {job.plan['start']['folder']}, which has not ended")
        else:
            say(f"{job.name} cannot begin: it needs {', '.join(job.plan['needs'].values())}, which have not all ended")
    return list(jobs)


def _start(job: Job, folder: Path) -> _Working:
    """A process for one job: its training saves its state when it is asked to end."""
    own = folder / job.folder
    threads = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    with (own / LOG).open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "reproductions.job", str(own.resolve())],
            cwd=HERE.parent,
            env={**os.environ, **threads},
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    return _Working(job, process, time.monotonic())
