"""Print the BibTeX entries that runs or methods owe: credit for the attacks and recipes behind a result."""

from __future__ import annotations

import argparse
from pathlib import Path

from ..core.methods import Citation, card, cards, with_members


def parse(parser: argparse.ArgumentParser, words: list[str]) -> argparse.Namespace:
    """Flags of ``assay cite``."""
    parser.add_argument(
        "names", nargs="+", metavar="RUNS_OR_METHOD", help="run folders, audit folders, or names from 'assay ls'"
    )
    return parser.parse_args(words)


def run(arguments: argparse.Namespace) -> int:
    """Print every entry once."""
    owed: dict[str, Citation] = {}
    for name in arguments.names:
        owed.update({citation.key: citation for citation in citations(name)})
    print("\n\n".join(citation.bibtex() for citation in owed.values()) or "% nothing to cite: common practice only")
    return 0


def citations(name: str) -> list[Citation]:
    """What one run folder, audit folder or method owes; a method's name comes first."""
    known = {(item.kind, item.name): item for item in cards()}
    named = [item for item in known.values() if item.name == name]
    if named or not Path(name).exists():
        whole = [member for item in named or [card(name)] for member in with_members(item, known)]
        return [item.citation for item in whole if item.citation]
    from ..core.runs import find_runs
    from ..report.citations import credits

    return [credit.citation for credit in credits(find_runs(name))]
