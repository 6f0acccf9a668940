"""Prove that small changes of its inputs cannot alter what a smoothed image classifier answers.

The smoothed classifier answers what the model gives most often when Gaussian noise is
added to the input. Counting its votes proves a radius for every input: no change of a
smaller Euclidean length alters the answer. The same command goes on where it was stopped.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from .audit import examine
from .common import (
    add_data_flags,
    add_model_flags,
    add_work_flags,
    command_line,
    numbers,
    read_data,
    seed_number,
    whole,
)

if TYPE_CHECKING:
    from ..data.dataset import Dataset

PROBE = "certified-accuracy"


def parse(parser: argparse.ArgumentParser, words: list[str]) -> argparse.Namespace:
    """Flags of ``assay certify``."""
    parser.add_argument("run", nargs="?", metavar="MODEL", help="folder of 'assay train', or as --model")
    parser.add_argument(
        "--sigma", default="0.5", metavar="SIGMA", help="standard deviation of the noise, raw pixels (default: 0.5)"
    )
    parser.add_argument(
        "--radii", type=numbers, metavar="R[,R...]", help="L2 radii to decide (default: 0,0.25,0.5,0.75)"
    )
    parser.add_argument("--radius", type=numbers, metavar="R", help="one radius to decide; short for --radii R")
    parser.add_argument(
        "--mode",
        default="grid",
        metavar="MODE",
        help="grid: count until every radius is decided; fixed: count all n; estimate: until the radius is known "
        "within the tolerance (default: grid)",
    )
    parser.add_argument("--n", default="100000", metavar="N", help="noisy copies to count at most (default: 100000)")
    parser.add_argument("--n0", default="100", metavar="N", help="noisy copies that choose the class (default: 100)")
    parser.add_argument("--alpha", default="0.001", metavar="A", help="chance of a wrong certificate (default: 0.001)")
    parser.add_argument("--tolerance", default="0.1", metavar="T", help="relative, for mode estimate (default: 0.1)")
    parser.add_argument("--dtype", default="float32", metavar="NAME", help="float32 or bfloat16 (default: float32)")
    parser.add_argument("--no-local-metrics", action="store_true", help="leave out Lipschitz constant and curvature")
    parser.add_argument("--limit", type=whole, metavar="N", help="use the first N samples (default: all)")
    parser.add_argument("--csv", metavar="FILE", help="the table of certificates (default: certificates.tsv in --out)")
    parser.add_argument(
        "--seed", type=seed_number, default=0, metavar="N", help="seed of everything random (default: 0)"
    )
    parser.add_argument(
        "--out", default="runs/certify", metavar="FOLDER", help="folder for the results (default: runs/certify)"
    )
    add_model_flags(parser, required=False)
    add_data_flags(parser, default=None)
    add_work_flags(parser)
    arguments = parser.parse_args(words)
    if (arguments.run is None) == (arguments.model is None):
        parser.error("name the model once: 'assay certify runs/model ...' or 'assay certify --model MODEL ...'")
    if arguments.radius and (arguments.radii or len(arguments.radius) > 1):
        parser.error("--radius takes one radius; use --radii for several")
    arguments.model = arguments.model or arguments.run
    arguments.command = command_line("certify", words)
    return arguments


def run(arguments: argparse.Namespace) -> int:
    """A suite of two probes, made from the flags, and the table of certificates beside it."""
    from ..studies.suite import parse_suite

    settings = {name: getattr(arguments, name) for name in ("sigma", "mode", "n", "n0", "alpha", "tolerance", "dtype")}
    radii = arguments.radius or arguments.radii
    settings |= {"limit": None, "local_metrics": not arguments.no_local_metrics}
    settings |= {"radii": list(radii)} if radii else {}
    suite = parse_suite(
        {
            "name": "certify",
            "data": {"limit": arguments.limit, "split": arguments.split},
            "seed": arguments.seed,
            "probes": ["clean-accuracy", {PROBE: settings}],
        },
        where="the command line",
    )
    data = read_data(arguments, limit=arguments.limit)
    try:
        return examine(arguments, suite, data)
    finally:
        if not arguments.dry_run:
            _write_table(arguments, data)


def _write_table(arguments: argparse.Namespace, data: Dataset) -> None:
    """What is certified so far, also where the work was stopped."""
    from ..certify.table import finished_lines, labels_by_name, write_table
    from ..core.files import read_json
    from ..core.shards import Shards
    from ..studies.auditing import RECORD

    out = Path(arguments.out)
    if not (out / RECORD).is_file():
        return
    for entry in read_json(out / RECORD).get("runs", []):
        if entry.get("probe") == PROBE and entry.get("id"):
            shards = Shards(out / "runs" / entry["id"] / "shards")
            lines = finished_lines(shards, labels_by_name(data.sample_ids.tolist(), data.labels.tolist()))
            path = write_table(arguments.csv or out / "certificates.tsv", lines)
            print(f"Certificates: {path} ({len(lines)} of {len(data)} samples)")
