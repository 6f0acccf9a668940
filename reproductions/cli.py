"""``python -m reproductions PAPER --tier TIER``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from functools import partial

from assay.core.errors import EXIT_CLAIM_FAILED, EXIT_OK, AssayError

from . import pages
from .cost import table_of_costs
from .runner import gather, work, work_folder
from .spec import load_spec, papers

say = partial(print, flush=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; the exit code is 1 where a job failed, and 2 where the request cannot be met."""
    given = _parser().parse_args(arguments)
    try:
        return _run(given)
    except AssayError as error:
        print(error, file=sys.stderr)
        return error.exit_code


def _run(given: argparse.Namespace) -> int:
    spec = load_spec(given.paper)
    jobs = spec.jobs(given.tier, only=given.only, seeds=given.seeds)
    folder = work_folder(spec.paper, given.tier)
    if given.dry_run:
        say(table_of_costs(jobs, folder, workers=given.workers, code=spec.code()))
        return EXIT_OK
    failed = [] if given.report else work(spec, jobs, folder, workers=given.workers, say=say)
    results = gather(folder, jobs)
    if given.write or given.report:
        pages.save_results(spec, given.tier, results)
        pages.write(spec)
        say(f"Renewed results.json, expected.yaml, README.md and figures of {spec.folder}")
    for body in spec.code().tables(spec, {given.tier: results}).values():
        say(f"\n{body}")
    if failed:
        say(f"\n{len(failed)} jobs failed: {', '.join(job.name for job in failed)}; repeat the command to try again.")
    return EXIT_CLAIM_FAILED if failed else EXIT_OK


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m reproductions", description=__doc__)
    parser.add_argument("paper", help=f"one of: {', '.join(papers())}")
    parser.add_argument("--tier", default="cpu", help="how large: tiny (seconds), cpu (hours), published")
    parser.add_argument("--only", default="", metavar="REGEX", help="jobs with this in EXPERIMENT/METHOD/seed-N")
    parser.add_argument("--seeds", type=_seeds, metavar="0,1,2", help="these seeds in the place of the tier's")
    parser.add_argument("--workers", type=int, default=2, help="processes, one thread each; 0: in this one")
    parser.add_argument("--dry-run", action="store_true", help="what it will cost; nothing is run")
    parser.add_argument("--write", action="store_true", help="renew results.json, README.md and figures at the end")
    parser.add_argument("--report", action="store_true", help="the same from the jobs that have ended; run none")
    return parser


def _seeds(text: str) -> list[int]:
    return [int(part) for part in text.split(",")]
