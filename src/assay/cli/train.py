"""Train a network by a named recipe: a classifier, an encoder without labels, or a language model on texts.

Stop it when you like: the same command goes on to the same result, bit for bit.
"""

from __future__ import annotations

import argparse
import os
from typing import TYPE_CHECKING, Any

from ..core.errors import DataError, SettingError, did_you_mean
from ..core.methods import MethodCard, card, cards, settings_of
from .common import add_data_flags, command_line, read_data, reading, seed_number, whole
from .flags import add_settings_flags, destination, settings_from
from .output import byline, metric_rows, sentences, show_findings, table
from .train_texts import add_text_data_flags, read_tokens

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..data import Dataset
    from ..training.presets import Preset
    from ..training.recipe import Recipe

PROBE = "probe"
UNLABELLED_HELP = "images, with labels or without: a folder, scenes (built in), an .npz, .parquet or .csv file"


def parse(parser: argparse.ArgumentParser, words: list[str]) -> argparse.Namespace:
    """Flags of ``assay train RECIPE``: those of every training, and those of the recipe."""
    if words[:1] == [PROBE]:
        from .train_probe import parse as parse_probe

        return parse_probe(parser, words)
    if not words or words[0].startswith("-"):
        parser.add_argument("recipe", metavar="RECIPE", help="one of the recipes below")
        parser.epilog = recipes() + "\n\n'assay train RECIPE --help' lists the flags of a recipe."
        return parser.parse_args(words)
    recipe = card(words[0], "recipe")
    from ..training import TrainSettings

    kind: type[Recipe] = settings_of(recipe)
    parser.prog = f"assay train {recipe.name}"
    parser.description = describe(recipe)
    parser.set_defaults(preset=None)
    if kind.presets:
        parser.add_argument("--preset", metavar="NAME", help="begin with one of the presets below; other flags win")
        rows = [f"  {name}\n    {preset.remark}" for name, preset in kind.presets.items()]
        parser.epilog = "\n".join(["presets:", *rows])
    parser.add_argument("--network", metavar="NAME", help=f"reference network (default: {kind.product.network})")
    parser.add_argument("--out", required=True, metavar="FOLDER", help="folder for the model and its record")
    parser.add_argument(
        "--seed", type=seed_number, default=0, metavar="N", help="seed of everything random (default: 0)"
    )
    parser.add_argument("--validation", metavar="SPLIT", help="split to validate on, such as test (default: none)")
    parser.add_argument("--no-progress", action="store_true", help="show no progress bars")
    parser.add_argument("--dry-run", action="store_true", help="tell what it would cost, and stop")
    parser.add_argument("--limit", type=whole, metavar="N", help="train on the first N samples (default: all)")
    parser.add_argument(
        "--watch-boundary",
        type=every,
        metavar="every=N",
        help="keep the weights every N steps (--watch N), and run 'assay dynamics' on the training data at the end",
    )
    if kind.product.reads == "texts":
        add_text_data_flags(parser)
    else:
        unlabelled = "" if kind.product.labelled else UNLABELLED_HELP
        add_data_flags(parser, default=None, default_split="train", help=unlabelled)
    add_settings_flags(parser, kind, title=f"recipe {recipe.name}")
    add_settings_flags(parser, TrainSettings, title="training", base=kind.usual)
    arguments = parser.parse_args(words[1:])
    if arguments.watch_boundary:
        watch_from(arguments, destination(TrainSettings, "watch"))
    arguments.card = recipe
    arguments.command = command_line("train", words)
    return arguments


def run(arguments: argparse.Namespace) -> int:
    """Train, or tell what training would cost."""
    if getattr(arguments, "card", None) is None:
        from .train_probe import run as run_probe

        return run_probe(arguments)
    from ..core.progress import Progress
    from ..training import TrainSettings, forecast, train

    kind: type[Recipe] = settings_of(arguments.card)
    preset = preset_of(kind, arguments.preset)
    recipe = settings_from(arguments, kind, preset.recipe if preset else None)
    settings = settings_from(arguments, TrainSettings, preset.training if preset else kind.usual)
    network = arguments.network or (preset.network if preset else None) or kind.product.network
    what = {"network": network, "settings": settings, "seed": arguments.seed, **read_for(arguments, kind, recipe)}
    if arguments.dry_run:
        ahead = forecast(recipe, **what)
        trained = getattr(recipe, "encoder", network)
        print(f"{arguments.card.title} of {trained} on {len(what['data'])} samples: {ahead}.")
        if preset:
            print(f"Preset {arguments.preset}: {preset.remark}")
        sentences(ahead.outlook)
        print("Nothing was written.")
        return 0
    with Progress(enabled=not arguments.no_progress, verbose=True) as progress:
        done = train(recipe, **what, out=arguments.out, progress=progress, command=arguments.command)
    if done.metrics:
        table("Result", ["metric", "value", "95% interval", "n"], metric_rows([done]), right=[1, 3])
    show_findings([done])
    sentences(recipe.closing(done.path))
    examine = kind.product.examine.format(out=arguments.out, data=arguments.data)
    print(f"Model: {arguments.out}\nExamine it: {' '.join([examine, *reading(arguments.command)])}")
    if arguments.watch_boundary and os.environ.get("RANK", "0") == "0":
        from .dynamics import watch

        return watch(arguments, done.path, what["data"])
    return 0


def read_for(arguments: argparse.Namespace, kind: type[Recipe], recipe: Any) -> dict[str, Any]:
    """Training and validation data of the kind that the recipe learns from."""
    if kind.product.reads == "texts":
        return read_tokens(arguments, recipe)
    read = read_data if kind.product.labelled else read_images
    validation = read(arguments, split=arguments.validation) if arguments.validation else None
    return {"data": training_data(arguments, read), "validation": validation}


def preset_of(kind: type[Recipe], name: str | None) -> Preset | None:
    """The preset of a recipe by name; an unknown name is an error with a hint."""
    if name is None:
        return None
    if name not in kind.presets:
        raise SettingError(f"There is no preset named {name!r}.{did_you_mean(name, kind.presets)}")
    return kind.presets[name]


def every(text: str) -> int:
    """``every=N`` or N: a whole number from 1 up."""
    return whole(text.removeprefix("every="))


def watch_from(arguments: argparse.Namespace, place: str) -> None:
    """``--watch-boundary`` sets ``--watch``; both together must agree."""
    if getattr(arguments, place, None) not in (None, str(arguments.watch_boundary)):
        raise SettingError(
            f"--watch is {getattr(arguments, place)} and --watch-boundary {arguments.watch_boundary}; give one of them."
        )
    setattr(arguments, place, str(arguments.watch_boundary))


def training_data(arguments: argparse.Namespace, read: Callable[..., Dataset] = read_data) -> Dataset:
    """The split that was named; else the training split; else, where there are no splits, everything."""
    if arguments.split is not None:
        return read(arguments, limit=arguments.limit)
    try:
        return read(arguments, split="train", limit=arguments.limit)
    except DataError:
        return read(arguments, split="all", limit=arguments.limit)


def read_images(arguments: argparse.Namespace, *, limit: int | None = None, split: str | None = None) -> Dataset:
    """The images the flags name; labels are not needed."""
    from ..data import load_images

    for flag in ("labels_key", "group"):
        if getattr(arguments, flag) is not None:
            raise SettingError(
                f"--{flag.replace('_', '-')} has no meaning for a recipe that needs no labels. Leave it out."
            )
    return load_images(
        arguments.data,
        split=split or arguments.split,
        images_key=arguments.images_key,
        limit=limit,
        image_size=arguments.image_size,
    )


def recipes() -> str:
    """The recipes with their papers, for ``assay train --help``."""
    lines = ["recipes:"]
    for item in cards("recipe"):
        lines.append(f"  {item.name:<12} {item.summary}")
        if item.citation:
            place = f", arXiv {item.citation.arxiv}" if item.citation.arxiv else ""
            lines.append(f"  {'':<12} {byline(item.citation)}, {item.citation.title}{place}")
    lines.append(f"\nheads:\n  {PROBE:<12} A head for one task on an encoder that stays as it is.")
    return "\n".join(lines)


def describe(recipe: MethodCard) -> str:
    """Title, summary and source of a recipe."""
    source = (
        f"\n{recipe.citation.authors} ({recipe.citation.year}): {recipe.citation.title}." if recipe.citation else ""
    )
    return f"{recipe.title}. {recipe.summary}{source}\n\nStop it when you like: the same command goes on where it was."
