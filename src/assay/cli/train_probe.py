"""Train a head for one task on an encoder that stays as it is.

The features of every image are computed once; a head then takes seconds. Its record holds how good it is
on data that it was not trained on, with intervals over images.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from ..core.errors import DataError
from .common import (
    add_data_flags,
    add_dense_flags,
    command_line,
    numbers,
    quoted,
    read_dense,
    reading,
    seed_number,
    to_device,
    whole,
)
from .flags import add_settings_flags, settings_from
from .output import metric_rows, sentences, show_findings, table

if TYPE_CHECKING:
    from ..data.dense.dataset import DenseDataset
    from ..subjects.encoders import Encoder
    from ..subjects.target import Target

TASKS = ("classification", "segmentation", "depth")
ENCODER_HELP = """\
an encoder: hf:FOLDER (a model of transformers), the folder of 'assay train dino' or the like,
python:MODULE:FUNCTION, or network:NAME (a reference encoder, with --weights)"""


def parse(parser: argparse.ArgumentParser, words: list[str]) -> argparse.Namespace:
    """Flags of ``assay train probe``.

    Args:
        parser: of ``assay train``.
        words: after ``assay train``, the first of them ``probe``.
    """
    from ..training.heads import HeadSettings

    parser.prog = "assay train probe"
    parser.description = __doc__
    parser.add_argument("--task", required=True, metavar="TASK", choices=TASKS, help=f"one of {', '.join(TASKS)}")
    parser.add_argument("--out", required=True, metavar="FOLDER", help="folder for the head and its record")
    parser.add_argument("--preset", metavar="NAME", help="begin with these settings: published; other flags win")
    parser.add_argument(
        "--validation", metavar="SPLIT", help="split to measure on, or none (default: test if there is one)"
    )
    parser.add_argument(
        "--seed", type=seed_number, default=0, metavar="N", help="seed of everything random (default: 0)"
    )
    parser.add_argument("--limit", type=whole, metavar="N", help="at most N images of either split (default: all)")
    parser.add_argument("--cache", metavar="FOLDER", help="keep features there for other heads (default: in memory)")
    parser.add_argument("--no-progress", action="store_true", help="show no progress bars")
    parser.add_argument("--dry-run", action="store_true", help="tell what it would cost, and stop")
    add_encoder_flags(parser)
    add_data_flags(parser, default=None, default_split="train")
    add_dense_flags(parser)
    add_settings_flags(parser, HeadSettings, title="head")
    arguments = parser.parse_args(words[1:])
    arguments.command = command_line("train", words)
    return arguments


def run(arguments: argparse.Namespace) -> int:
    """Train a head, or tell what that would cost."""
    from ..core.progress import Progress
    from ..training.heads import HeadSettings, forecast_head, train_head

    preset = HeadSettings.preset_values(arguments.preset, arguments.task) if arguments.preset else None
    settings = settings_from(arguments, HeadSettings, preset)
    data = training_data(arguments)
    validation = validation_data(arguments, data)
    encoder = read_encoder(arguments, data)
    what = {"task": arguments.task, "settings": settings, "seed": arguments.seed, "validation": validation}
    if arguments.dry_run:
        ahead = forecast_head(encoder, data, **what)
        held = "" if validation is None else f", measured on {len(validation):,}"
        print(f"A {arguments.task} head on {encoder.name} from {len(data):,} images{held}: {ahead}.")
        sentences(ahead.outlook)
        print("Nothing was written.")
        return 0
    with Progress(enabled=not arguments.no_progress, verbose=True) as progress:
        done = train_head(
            encoder,
            data,
            **what,
            cache=arguments.cache,
            out=arguments.out,
            progress=progress,
            command=arguments.command,
        )
    assert done.run is not None
    if done.metrics:
        table("Result", ["metric", "value", "95% interval", "n"], metric_rows([done.run]), right=[1, 3])
    show_findings([done.run])
    print(f"Head: {arguments.out}")
    if arguments.window is None:
        words = ["assay", "evade", "--encoder", arguments.encoder, "--heads", arguments.out]
        words += ["--task", arguments.task, "--data", arguments.data, *reading(arguments.command)]
        print(f"Attack it: {quoted(words)}")
    return 0


def add_encoder_flags(parser: argparse.ArgumentParser) -> None:
    """``--encoder`` and how its inputs are prepared."""
    group = parser.add_argument_group("encoder")
    group.add_argument("--encoder", metavar="ENCODER", required=True, help=ENCODER_HELP)
    group.add_argument("--weights", metavar="FILE", help="weights for it: .safetensors, or .pt holding tensors only")
    group.add_argument(
        "--mean", type=numbers, metavar="M,M,M", help="the encoder expects (x - mean) / std; one value a channel"
    )
    group.add_argument("--std", type=numbers, metavar="S,S,S", help="see --mean")
    group.add_argument(
        "--window",
        type=window,
        metavar="CROP,STRIDE",
        help="slide it over the image: side of a crop and pixels between crops, multiples of the patch",
    )
    group.add_argument("--device", metavar="NAME", help="cpu, cuda, cuda:1 ... (default: cuda if there is one)")


def window(text: str) -> tuple[int, int]:
    """``"518,341"`` as crop and stride."""
    sides = [whole(part) for part in text.split(",")]
    if len(sides) != 2:
        raise argparse.ArgumentTypeError(f"{text!r} is not allowed; two numbers are needed, such as 518,341")
    return sides[0], sides[1]


def read_encoder(arguments: argparse.Namespace, data: DenseDataset) -> Encoder:
    """The encoder the flags name, on its device."""
    from ..subjects import encoder

    channels, height, width = data.shape
    found = encoder(
        arguments.encoder,
        weights=arguments.weights,
        mean=arguments.mean,
        std=arguments.std,
        in_channels=channels,
        image_size=(height, width) if arguments.window is None else (arguments.window[0],) * 2,
    )
    if arguments.window is not None:
        found = found.sliding(*arguments.window)
    whole_network: Target[Any] = found.target("global")
    to_device(whole_network, arguments.device)
    return found


def training_data(arguments: argparse.Namespace) -> DenseDataset:
    """The split that was named; else the training split; else, where there are no splits, everything."""
    if arguments.split is not None:
        return read_dense(arguments, limit=arguments.limit)
    try:
        return read_dense(arguments, split="train", limit=arguments.limit)
    except DataError:
        return read_dense(arguments, split="all", limit=arguments.limit)


def validation_data(arguments: argparse.Namespace, data: DenseDataset) -> DenseDataset | None:
    """The split that was named; else the test or validation split, where there is one that was not trained on."""
    if arguments.validation == "none":
        return None
    if arguments.validation is not None:
        return read_dense(arguments, split=arguments.validation, limit=arguments.limit)
    for split in ("test", "validation"):
        if data.split in (split, "all"):
            continue
        try:
            return read_dense(arguments, split=split, limit=arguments.limit)
        except DataError:
            continue
    return None
