"""Attack an image classifier and tell its robust accuracy at the given budgets.

For an encoder that serves several tasks, 'assay evade --encoder ENCODER' measures them all, attacked on the
embedding and at the output of each task: see 'assay evade --encoder --help'.
"""

from __future__ import annotations

import argparse

from . import evade_encoder
from .audit import examine
from .common import add_data_flags, add_model_flags, add_work_flags, command_line, read_data, seed_number, whole


def parse(parser: argparse.ArgumentParser, words: list[str]) -> argparse.Namespace:
    """Flags of ``assay evade``; with ``--encoder`` those of :mod:`assay.cli.evade_encoder`."""
    if any(word == "--encoder" or word.startswith("--encoder=") for word in words):
        return evade_encoder.parse(parser, words)
    parser.add_argument("--norm", default="linf", metavar="NORM", help="linf, l2 or l1 (default: linf)")
    parser.add_argument(
        "--eps", default="8/255", metavar="EPS[,EPS...]", help="budgets, such as 4/255,8/255 (default: 8/255)"
    )
    parser.add_argument(
        "--attack", default="standard", metavar="ATTACK", help="a name from 'assay ls attack' (default: standard)"
    )
    parser.add_argument("--limit", type=whole, metavar="N", help="use the first N samples (default: all)")
    parser.add_argument(
        "--seed", type=seed_number, default=0, metavar="N", help="seed of everything random (default: 0)"
    )
    parser.add_argument(
        "--out", default="runs/evade", metavar="FOLDER", help="folder for the results (default: runs/evade)"
    )
    add_model_flags(parser, required=True)
    add_data_flags(parser, default=None)
    add_work_flags(parser)
    arguments = parser.parse_args(words)
    arguments.command = command_line("evade", words)
    return arguments


def run(arguments: argparse.Namespace) -> int:
    """A suite of two probes, made from the flags; or an encoder on its tasks."""
    if hasattr(arguments, "encoder"):
        return evade_encoder.run(arguments)
    from ..studies.suite import parse_suite

    threat = {"norm": arguments.norm, "eps": arguments.eps, "attack": arguments.attack}
    suite = parse_suite(
        {
            "name": "evade",
            "data": {"limit": arguments.limit, "split": arguments.split},
            "seed": arguments.seed,
            "probes": ["clean-accuracy", {"robust-accuracy": threat}],
        },
        where="the command line",
    )
    return examine(arguments, suite, read_data(arguments, limit=arguments.limit))
