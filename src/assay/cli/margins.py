"""Measure how far every sample lies from the decision boundary, and show the most fragile ones.

The margin of a sample is its distance to the nearest point at which the model's answer
changes, negative where the model is wrong already. The same command goes on where it was
stopped.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from .audit import examine
from .common import add_data_flags, add_model_flags, add_work_flags, command_line, read_data, seed_number, whole
from .output import table

PROBE = "margins"
SHOWN = 10


def parse(parser: argparse.ArgumentParser, words: list[str]) -> argparse.Namespace:
    """Flags of ``assay margins``."""
    parser.add_argument("--versus", metavar="MODEL2", help="a second model to show beside it; named as --model is")
    parser.add_argument("--norm", default="linf", metavar="NORM", help="linf or l2 (default: linf)")
    parser.add_argument(
        "--temperature",
        default="none",
        metavar="T",
        help="sharpness of a soft boundary, 5 in the paper; none: the exact decision boundary (default: none)",
    )
    parser.add_argument(
        "--below", metavar="R", help="radius below which a sample is vulnerable (default: 8/255 in linf, 0.5 in l2)"
    )
    parser.add_argument("--steps", default="20", metavar="N", help="iterations of the search (default: 20)")
    parser.add_argument("--limit", type=whole, metavar="N", help="use the first N samples (default: all)")
    parser.add_argument(
        "--seed", type=seed_number, default=0, metavar="N", help="seed of everything random (default: 0)"
    )
    parser.add_argument(
        "--out", default="runs/margins", metavar="FOLDER", help="folder for the results (default: runs/margins)"
    )
    add_model_flags(parser, required=True)
    add_data_flags(parser, default=None)
    add_work_flags(parser)
    arguments = parser.parse_args(words)
    arguments.command = command_line("margins", words)
    return arguments


def run(arguments: argparse.Namespace) -> int:
    """A suite of two probes, made from the flags, and a table of the samples nearest to the boundary."""
    from ..studies.suite import parse_suite

    settings = {name: getattr(arguments, name) for name in ("norm", "temperature", "steps")}
    settings |= {"below": arguments.below} if arguments.below else {}
    settings |= {"baseline": arguments.versus} if arguments.versus else {}
    suite = parse_suite(
        {
            "name": "margins",
            "data": {"limit": arguments.limit, "split": arguments.split},
            "seed": arguments.seed,
            "probes": ["clean-accuracy", {PROBE: settings}],
        },
        where="the command line",
    )
    code = examine(arguments, suite, read_data(arguments, limit=arguments.limit))
    if not arguments.dry_run:
        _show_fragile(Path(arguments.out))
    return code


def _show_fragile(out: Path) -> None:
    """The correctly classified samples with the smallest margins, as the gallery has them."""
    from ..core.files import read_json
    from ..core.runs import load_run
    from ..studies.auditing import RECORD

    for entry in read_json(out / RECORD).get("runs", []):
        if entry.get("probe") != PROBE or entry.get("status") != "ok":
            continue
        gallery = load_run(out / "runs" / entry["id"]).gallery()
        if gallery is None:
            continue
        table(
            "\nMost fragile samples",
            ["sample", "label", "at the boundary with", "margin"],
            [
                [str(one["sample_id"]), str(one["label"]), str(one["after"]), f"{one['distance']:.4g}"]
                for one in gallery.captions[:SHOWN]
            ],
            right=[0, 3],
        )
