"""Compare two audits (or two runs) sample by sample: McNemar's test, intervals, Holm's correction."""

from __future__ import annotations

import argparse

from .common import seed_number
from .output import figure, table


def parse(parser: argparse.ArgumentParser, words: list[str]) -> argparse.Namespace:
    """Flags of ``assay compare``."""
    parser.add_argument("first", metavar="A", help="folder of an audit or a run")
    parser.add_argument("second", metavar="B", help="another one, of the same suite on the same data")
    parser.add_argument("--seed", type=seed_number, default=0, metavar="N", help="seed of the bootstrap (default: 0)")
    return parser.parse_args(words)


def run(arguments: argparse.Namespace) -> int:
    """Print one line a comparison."""
    from ..studies.comparison import compare

    found = compare(arguments.first, arguments.second, seed=arguments.seed)
    rows = [
        [
            f"{item.probe} {item.column}",
            figure(item.first),
            figure(item.second),
            f"{item.difference.value:+.3f}",
            f"{item.difference.lo:+.3f} .. {item.difference.hi:+.3f}",
            f"{item.only_first} / {item.only_second}",
            f"{item.adjusted:.3g}",
            f"{item.pairs:,}",
        ]
        for item in found
    ]
    heads = ["measured", "A", "B", "A - B", "95% interval", "only A / only B", "p (Holm)", "pairs"]
    print(f"A: {arguments.first}\nB: {arguments.second}\n")
    table("", heads, rows, right=range(1, 8))
    print("\n'only A' counts samples where only A holds, or where A's distance is the larger one.")
    return 0
