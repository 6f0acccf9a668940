"""Run a suite of tests on an image classifier, check its claims, and write a report.

Without a model, a small network is first trained on the real handwritten digits
that come with scikit-learn. The same command goes on where it was stopped.
"""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

from ..core.errors import SettingError
from ..core.settings import build
from .common import (
    add_data_flags,
    add_model_flags,
    add_work_flags,
    command_line,
    fit_threads,
    note,
    read_data,
    read_target,
    seed_number,
    to_device,
    whole,
)
from .output import figure, show_results, table

if TYPE_CHECKING:
    from ..core.progress import Progress
    from ..data.dataset import Dataset
    from ..studies.auditing import Study
    from ..studies.suite import Suite
    from ..subjects.target import Target

BUILT_IN_DATA = "digits"
BUILT_IN_NETWORK = "tiny-cnn"
BUILT_IN_EPOCHS = 20


def parse(parser: argparse.ArgumentParser, words: list[str]) -> argparse.Namespace:
    """Flags of ``assay audit``."""
    parser.add_argument(
        "--suite", default="standard", metavar="SUITE", help="standard, quick, or a YAML file (default: standard)"
    )
    parser.add_argument(
        "--limit", type=whole, metavar="N", help="use the first N samples (default: what the suite says)"
    )
    parser.add_argument(
        "--seed", type=seed_number, metavar="N", help="seed of everything random (default: what the suite says)"
    )
    parser.add_argument(
        "--out", default="runs/audit", metavar="FOLDER", help="folder for the results (default: runs/audit)"
    )
    add_model_flags(parser, required=False)
    add_data_flags(parser, default=BUILT_IN_DATA)
    add_work_flags(parser)
    arguments = parser.parse_args(words)
    arguments.command = command_line("audit", words)
    return arguments


def run(arguments: argparse.Namespace) -> int:
    """Audit, or tell what an audit would cost."""
    from ..studies.suite import load_suite

    suite = load_suite(arguments.suite)
    limit = arguments.limit or suite.data.limit
    split = arguments.split or suite.data.split
    suite = dataclasses.replace(
        suite,
        data=dataclasses.replace(suite.data, limit=limit, split=split),
        seed=suite.seed if arguments.seed is None else arguments.seed,
    )
    data = read_data(arguments, limit=limit, split=split)
    return examine(arguments, suite, data)


def examine(arguments: argparse.Namespace, suite: Suite, data: Dataset) -> int:
    """Get the model, run the suite, print what came of it."""
    from ..core.progress import Progress
    from ..studies.auditing import audit

    if arguments.dry_run:
        return _tell_cost(arguments, suite, data)
    fit_threads(data)
    with Progress(enabled=not arguments.no_progress, verbose=True) as progress:
        target = read_target(arguments, data) if arguments.model else _built_in(arguments, data, suite.seed, progress)
        study = audit(
            target,
            data,
            suite,
            out=arguments.out,
            batch_size=arguments.batch_size,
            progress=progress,
            command=arguments.command,
        )
    return _conclude(study)


def _conclude(study: Study) -> int:
    show_results(study.runs, study.verdicts)
    for entry in study.record["runs"]:
        if entry["status"] == "failed":
            note(f"error: the probe {entry['probe']} failed: {entry['error']}")
    print(f"Report: {study.report}")
    return study.exit_code


def _built_in(arguments: argparse.Namespace, data: Dataset, seed: int, progress: Progress) -> Target:
    """The reference network trained on the digits; trained once for each folder and seed."""
    from ..data import load_data
    from ..subjects import load_target
    from ..training import TrainSettings, train

    _refuse_other_data(arguments)
    folder = Path(arguments.out) / "model"
    train(
        "standard",
        network=BUILT_IN_NETWORK,
        data=load_data(BUILT_IN_DATA, split="train"),
        settings=build(TrainSettings, {"epochs": BUILT_IN_EPOCHS}),
        out=folder,
        seed=seed,
        progress=progress,
    )
    return to_device(load_target(f"run:{folder}"), arguments.device)


def _refuse_other_data(arguments: argparse.Namespace) -> None:
    if arguments.data != BUILT_IN_DATA:
        raise SettingError(
            f"--data is {arguments.data!r} without a --model, and the built-in model only knows {BUILT_IN_DATA}. "
            "Name your model with --model, or train one: assay train standard --data "
            f"{arguments.data} --out runs/model"
        )


def _tell_cost(arguments: argparse.Namespace, suite: Suite, data: Dataset) -> int:
    from ..studies.cost import plan
    from ..subjects import load_target

    if arguments.model:
        target = read_target(arguments, data)
    else:
        _refuse_other_data(arguments)
        untrained = load_target(f"network:{BUILT_IN_NETWORK}", num_classes=data.num_classes, image_shape=data.shape)
        target = to_device(untrained, arguments.device)
        print("The built-in network would be trained first, which takes well under a minute.\n")
    planned = plan(target, data, suite, batch_size=arguments.batch_size)
    rows = [
        [item.probe, item.settings, _count(item.forward), _count(item.backward), figure(item.seconds, "")]
        for item in planned
    ]
    table(
        f"Suite {suite.name!r} on {len(data)} samples, at most",
        ["probe", "settings", "forward passes", "backward passes", "seconds"],
        rows,
        right=[2, 3, 4],
    )
    known = [item.seconds for item in planned if item.seconds is not None]
    unknown = len(planned) - len(known)
    rest = f", and what {unknown} of the probes cost, which cannot be told beforehand" if unknown else ""
    print(f"\nAt most {sum(known):.0f} seconds on this machine{rest}; less where attacks succeed early.")
    print("Nothing was written.")
    return 0


def _count(passes: int | None) -> str:
    return "not known" if passes is None else f"{passes:,}"
