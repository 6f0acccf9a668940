"""Train a reference network on labelled images by a named recipe.

Stop it when you like: the same command goes on to the same result, bit for bit.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from ..core.errors import DataError
from ..core.methods import MethodCard, card, cards, settings_of
from .common import add_data_flags, command_line, read_data, seed_number, whole
from .flags import add_settings_flags, settings_from
from .output import byline, metric_rows, sentences, show_findings, table

if TYPE_CHECKING:
    from ..data import Dataset
    from ..training.job import Recipe

DEFAULT_NETWORK = "small-cnn"


def parse(parser: argparse.ArgumentParser, words: list[str]) -> argparse.Namespace:
    """Flags of ``assay train RECIPE``: those of every training, and those of the recipe."""
    if not words or words[0].startswith("-"):
        parser.add_argument("recipe", metavar="RECIPE", help="one of the recipes below")
        parser.epilog = recipes() + "\n\n'assay train RECIPE --help' lists the flags of a recipe."
        return parser.parse_args(words)
    recipe = card(words[0], "recipe")
    from ..training import TrainSettings

    parser.prog = f"assay train {recipe.name}"
    parser.description = describe(recipe)
    parser.add_argument(
        "--network", default=DEFAULT_NETWORK, metavar="NAME", help=f"reference network (default: {DEFAULT_NETWORK})"
    )
    parser.add_argument("--out", required=True, metavar="FOLDER", help="folder for the model and its record")
    parser.add_argument(
        "--seed", type=seed_number, default=0, metavar="N", help="seed of everything random (default: 0)"
    )
    parser.add_argument("--validation", metavar="SPLIT", help="split to validate on, such as test (default: none)")
    parser.add_argument("--no-progress", action="store_true", help="show no progress bars")
    parser.add_argument("--dry-run", action="store_true", help="tell what it would cost, and stop")
    parser.add_argument("--limit", type=whole, metavar="N", help="train on the first N samples (default: all)")
    add_data_flags(parser, default=None, default_split="train")
    add_settings_flags(parser, settings_of(recipe), title=f"recipe {recipe.name}")
    add_settings_flags(parser, TrainSettings, title="training")
    arguments = parser.parse_args(words[1:])
    arguments.card = recipe
    arguments.command = command_line("train", words)
    return arguments


def run(arguments: argparse.Namespace) -> int:
    """Train, or tell what training would cost."""
    from ..core.progress import Progress
    from ..training import TrainSettings, forecast, train

    recipe: Recipe = settings_from(arguments, settings_of(arguments.card))
    settings = settings_from(arguments, TrainSettings)
    data = training_data(arguments)
    validation = read_data(arguments, split=arguments.validation) if arguments.validation else None
    what = {
        "data": data,
        "network": arguments.network,
        "validation": validation,
        "settings": settings,
        "seed": arguments.seed,
    }
    if arguments.dry_run:
        ahead = forecast(recipe, **what)
        print(f"{arguments.card.title} of {arguments.network} on {len(data)} samples: {ahead}.")
        sentences(ahead.outlook)
        print("Nothing was written.")
        return 0
    with Progress(enabled=not arguments.no_progress, verbose=True) as progress:
        done = train(recipe, **what, out=arguments.out, progress=progress, command=arguments.command)
    if done.metrics:
        table("Result", ["metric", "value", "95% interval", "n"], metric_rows([done]), right=[1, 3])
    show_findings([done])
    sentences(recipe.closing(done.path))
    print(f"Model: {arguments.out}\nExamine it: assay audit --model run:{arguments.out} --data {arguments.data}")
    return 0


def training_data(arguments: argparse.Namespace) -> Dataset:
    """The split that was named; else the training split; else, where there are no splits, everything."""
    if arguments.split is not None:
        return read_data(arguments, limit=arguments.limit)
    try:
        return read_data(arguments, split="train", limit=arguments.limit)
    except DataError:
        return read_data(arguments, split="all", limit=arguments.limit)


def recipes() -> str:
    """The recipes with their papers, for ``assay train --help``."""
    lines = ["recipes:"]
    for item in cards("recipe"):
        lines.append(f"  {item.name:<12} {item.summary}")
        if item.citation:
            place = f", arXiv {item.citation.arxiv}" if item.citation.arxiv else ""
            lines.append(f"  {'':<12} {byline(item.citation)}, {item.citation.title}{place}")
    return "\n".join(lines)


def describe(recipe: MethodCard) -> str:
    """Title, summary and source of a recipe."""
    source = (
        f"\n{recipe.citation.authors} ({recipe.citation.year}): {recipe.citation.title}." if recipe.citation else ""
    )
    return f"{recipe.title}. {recipe.summary}{source}\n\nStop it when you like: the same command goes on where it was."
