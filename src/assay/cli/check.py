"""Check claims against finished runs; the exit code says whether they hold (0), fail (1) or were not run (3)."""

from __future__ import annotations

import argparse

from .output import show_verdicts


def parse(parser: argparse.ArgumentParser, words: list[str]) -> argparse.Namespace:
    """Flags of ``assay check``."""
    parser.add_argument("runs", nargs="+", metavar="RUNS", help="folders of audits or runs")
    parser.add_argument("claims", metavar="CLAIMS", help="YAML file: a list of claims, or a suite with claims")
    return parser.parse_args(words)


def run(arguments: argparse.Namespace) -> int:
    """Print the verdicts."""
    from ..core.claims import exit_code
    from ..studies.checking import check_runs, load_claims

    verdicts = check_runs(arguments.runs, load_claims(arguments.claims))
    show_verdicts(verdicts)
    return exit_code(verdicts)
