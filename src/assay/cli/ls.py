"""List what there is: probes measure, attacks search for objectives, recipes train, suites combine."""

from __future__ import annotations

import argparse

from ..core.methods import cards
from .output import byline, table

KINDS = {
    "probe": "Probes",
    "attack": "Attacks",
    "objective": "Objectives of attacks",
    "recipe": "Recipes",
    "head": "Heads on frozen encoders",
    "inference": "Attacks that infer membership",
    "watermark": "Watermarks for generated text",
    "edit": "Edits of text, as attacks on a watermark",
}
SUITES = {"suite": "Suites"}


def parse(parser: argparse.ArgumentParser, words: list[str]) -> argparse.Namespace:
    """Flags of ``assay ls``."""
    parser.add_argument("kind", nargs="?", choices=[*KINDS, *SUITES], help="list only these")
    return parser.parse_args(words)


def run(arguments: argparse.Namespace) -> int:
    """Print one table a kind."""
    kinds = [arguments.kind] if arguments.kind else [*KINDS, *SUITES]
    for index, kind in enumerate(kinds):
        if index:
            print()
        if kind in SUITES:
            _suites()
        else:
            found = cards(kind)
            tasks = [[", ".join(card.tasks)] if any(item.tasks for item in found) else [] for card in found]
            rows = [
                [card.name, *task, card.summary, byline(card.citation) if card.citation else "common practice"]
                for card, task in zip(found, tasks, strict=True)
            ]
            table(KINDS[kind], ["name", *["for"] * bool(tasks and tasks[0]), "what it does", "source"], rows)
    if not arguments.kind:
        print("\n'assay show NAME' explains one of them.")
    return 0


def _suites() -> None:
    from ..studies.reading import read_yaml_file
    from ..studies.suite import BUILT_IN

    suites = [read_yaml_file(path) for path in sorted(BUILT_IN.glob("*.yaml"))]
    table("Suites", ["name", "what it is for"], [[str(suite["name"]), str(suite["description"])] for suite in suites])
