"""Flags that several verbs share, and what they mean."""

from __future__ import annotations

import argparse
import math
import os
import shlex
import sys
from typing import TYPE_CHECKING

from ..core.errors import SettingError

if TYPE_CHECKING:
    from ..data.dataset import Dataset
    from ..data.dense.dataset import DenseDataset
    from ..subjects.target import Target

SMALL_IMAGE = 1024
READING = (
    "--image-size",
    "--images-key",
    "--labels-key",
    "--masks-key",
    "--depth-key",
    "--mask-classes",
    "--ignore-index",
    "--depth-scale",
    "--max-depth",
    "--layout",
)
MODEL_HELP = """\
a saved model: hf:FOLDER (Hugging Face image classifier), python:MODULE:FUNCTION,
network:NAME (a reference network, with --weights), or the folder of 'assay train'"""
DATA_HELP = "labelled images: digits or scenes (built in), an .npz, .parquet or .csv file, or a folder"


def add_model_flags(parser: argparse.ArgumentParser, *, required: bool) -> None:
    """``--model`` and how its inputs are prepared."""
    group = parser.add_argument_group("model")
    group.add_argument("--model", metavar="MODEL", required=required, help=MODEL_HELP)
    group.add_argument("--weights", metavar="FILE", help="weights for it: .safetensors, or .pt holding tensors only")
    group.add_argument("--num-classes", type=int, metavar="K", help="number of outputs, where it cannot be told")
    group.add_argument(
        "--mean", type=numbers, metavar="M,M,M", help="the model expects (x - mean) / std; one value a channel"
    )
    group.add_argument("--std", type=numbers, metavar="S,S,S", help="see --mean")
    group.add_argument("--bounds", type=numbers, metavar="LOW,HIGH", help="range of raw pixel values (default: 0,1)")
    group.add_argument("--device", metavar="NAME", help="cpu, cuda, cuda:1 ... (default: cuda if there is one)")


def add_data_flags(
    parser: argparse.ArgumentParser,
    *,
    default: str | None,
    default_split: str = "test if there is one",
    help: str = "",
) -> None:
    """``--data`` and how it is read."""
    group = parser.add_argument_group("data")
    more = f" (default: {default})" if default else ""
    group.add_argument(
        "--data", metavar="DATA", default=default, required=default is None, help=(help or DATA_HELP) + more
    )
    group.add_argument("--split", metavar="NAME", help=f"train, validation, test or all (default: {default_split})")
    group.add_argument(
        "--images-key", metavar="NAME", help="array or column with the images, if it has an unusual name"
    )
    group.add_argument(
        "--labels-key", metavar="NAME", help="array or column with the labels, if it has an unusual name"
    )
    group.add_argument("--group", metavar="NAME", help="array or column that names a group for each sample")
    group.add_argument(
        "--image-size", type=image_size, metavar="PIXELS", help="resize encoded images to this side, or HEIGHTxWIDTH"
    )


def add_dense_flags(parser: argparse.ArgumentParser) -> None:
    """What ``read_dense`` asks beyond ``add_data_flags``: masks and depth maps."""
    group = parser.add_argument_group("masks and depth maps")
    group.add_argument("--masks-key", metavar="NAME", help="array, column or folder with the masks")
    group.add_argument("--depth-key", metavar="NAME", help="array, column or folder with the depth maps")
    group.add_argument(
        "--mask-classes",
        metavar="K|A,B,...",
        help="number of mask classes, or their names (default: the largest id + 1)",
    )
    group.add_argument(
        "--ignore-index",
        metavar="ID",
        default="255",
        help="id of mask pixels that do not count, or none (default: 255)",
    )
    group.add_argument(
        "--depth-scale",
        type=positive,
        default=1000.0,
        metavar="N",
        help="units a metre in whole-number depth maps (default: 1000)",
    )
    group.add_argument(
        "--layout", choices=("NHWC", "NCHW"), help="order of the axes of image arrays, where it is unclear"
    )
    group.add_argument("--max-depth", type=positive, metavar="M", help="depths beyond this many metres do not count")


def add_work_flags(parser: argparse.ArgumentParser) -> None:
    """How the work is done; none of these changes a result."""
    group = parser.add_argument_group("work")
    group.add_argument("--batch-size", type=whole, default=256, metavar="N", help="samples at a time (default: 256)")
    group.add_argument("--no-progress", action="store_true", help="show no progress bars")
    group.add_argument("--dry-run", action="store_true", help="tell what it would cost, and stop")


def numbers(text: str) -> tuple[float, ...]:
    """``"0.5,0.5,0.5"`` as numbers; fractions are accepted."""
    from ..core.settings import number

    try:
        return tuple(number(part, name="value") for part in text.split(","))
    except SettingError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def whole(text: str) -> int:
    """A whole number from 1 up."""
    if not text.isascii() or not text.isdigit() or len(text) > 12 or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not allowed; a whole number from 1 up is needed")
    return int(text)


def positive(text: str) -> float:
    """A number above 0; fractions are accepted."""
    (value, *others) = numbers(text)
    if others or not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is not allowed; a number above 0 is needed")
    return value


def image_size(text: str) -> int | tuple[int, int]:
    """``"64"``, or ``"96x128"`` as (height, width)."""
    sides = [whole(part) for part in text.lower().split("x")]
    if len(sides) > 2:
        raise argparse.ArgumentTypeError(f"{text!r} is not allowed; a side such as 64, or 96x128 (height x width)")
    return sides[0] if len(sides) == 1 else (sides[0], sides[1])


def seed_number(text: str) -> int:
    """A seed: a whole number from 0 to 2**63 - 1."""
    if not text.isascii() or not text.isdigit() or len(text) > 19 or int(text) >= 2**63:
        raise argparse.ArgumentTypeError(f"{text!r} is not allowed; a whole number from 0 to 2**63 - 1 is needed")
    return int(text)


def read_data(arguments: argparse.Namespace, *, limit: int | None = None, split: str | None = None) -> Dataset:
    """The data the flags name."""
    from ..data import load_data

    return load_data(
        arguments.data,
        split=split or arguments.split,
        images_key=arguments.images_key,
        labels_key=arguments.labels_key,
        group=arguments.group,
        limit=limit,
        image_size=arguments.image_size,
    )


def read_dense(
    arguments: argparse.Namespace, spec: str | None = None, *, limit: int | None = None, split: str | None = None
) -> DenseDataset:
    """The data the flags of ``add_data_flags`` and ``add_dense_flags`` name; ``spec`` in the place of ``--data``."""
    from ..data import load_dense

    if getattr(arguments, "group", None) is not None:
        raise SettingError("--group has no meaning for masks and depth maps. Leave it out.")
    classes = arguments.mask_classes
    counted = classes is not None and classes.isascii() and classes.isdigit()
    ignored = arguments.ignore_index.lower()
    if ignored != "none" and not (ignored.isascii() and ignored.isdigit() and len(ignored) <= 9):
        raise SettingError(f"--ignore-index is {arguments.ignore_index!r}; allowed: an id such as 255, or none.")
    spec = arguments.data if spec is None else spec
    if spec == "scenes":
        classes, counted, ignored = None, False, "none"
    return load_dense(
        spec,
        split=split or arguments.split,
        limit=limit,
        image_size=arguments.image_size,
        images_key=arguments.images_key,
        masks_key=arguments.masks_key,
        depth_key=arguments.depth_key,
        labels_key=arguments.labels_key,
        num_classes=int(classes) if counted else None,
        class_names=None if classes is None or counted else classes.split(","),
        ignore_index=None if ignored == "none" else int(ignored),
        depth_scale=arguments.depth_scale,
        max_depth=arguments.max_depth,
        layout=arguments.layout,
    )


def read_target(arguments: argparse.Namespace, data: Dataset) -> Target:
    """The model the flags name, on its device."""
    from ..subjects import load_target

    if (arguments.mean is None) != (arguments.std is None):
        raise SettingError("Only one of --mean and --std was given; both are needed, one value a channel each.")
    bounds = arguments.bounds or (0.0, 1.0)
    if len(bounds) != 2:
        raise SettingError(f"--bounds has {len(bounds)} values; two are needed, such as 0,1.")
    knows_its_classes = not arguments.model.startswith(("python:", "network:"))
    target = load_target(
        arguments.model,
        weights=arguments.weights,
        num_classes=arguments.num_classes or (None if knows_its_classes else data.num_classes),
        bounds=(bounds[0], bounds[1]),
        mean=arguments.mean,
        std=arguments.std,
        image_shape=data.shape,
    )
    return to_device(target, arguments.device)


def fit_threads(data: Dataset) -> None:
    """One thread for small images, unless OMP_NUM_THREADS says otherwise.

    Networks on them make kernels so short that handing work to a second thread costs more than it
    saves: the built-in audit took 161 s with two threads and 142 s with one.
    """
    import torch

    if "OMP_NUM_THREADS" not in os.environ and math.prod(data.shape) < SMALL_IMAGE:
        torch.set_num_threads(1)


def to_device(target: Target, name: str | None) -> Target:
    """Move a freshly loaded model to a device: the one named, else a GPU if there is one."""
    import torch

    chosen = name or ("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(chosen)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise SettingError(f"--device is {chosen!r}, which cannot be used here ({reason}). Use cpu.") from None
    for module in (target.model, target.preprocess):
        if isinstance(module, torch.nn.Module):
            module.to(device)
    return target


def command_line(verb: str, words: list[str]) -> list[str]:
    """What to type to get the same again."""
    return ["assay", verb, *(word for word in words if word not in ("--debug", "--no-progress"))]


def reading(command: list[str]) -> list[str]:
    """The words of a command that say how data are read, for a command that reads the same.

    >>> reading(["assay", "train", "dino", "--image-size", "64", "--out=x", "--ignore-index=11"])
    ['--image-size', '64', '--ignore-index=11']
    """
    pairs = zip(command, [*command[1:], ""], strict=True)
    found = [[word] if "=" in word else [word, value] for word, value in pairs if word.partition("=")[0] in READING]
    return [word for words in found for word in words]


def note(text: str) -> None:
    """A remark for the person at the terminal; it never mixes with the output."""
    print(text, file=sys.stderr, flush=True)


def quoted(words: list[str]) -> str:
    """A command as one line for a shell."""
    return shlex.join(words)
