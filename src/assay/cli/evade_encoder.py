"""Attack encoders on every task they serve, and put it all into one matrix.

For each encoder and task, small heads are trained on its frozen features. Then clean images, random noise,
attacks on the embedding (which know neither labels nor head) and attacks on the output of the task are
measured: accuracy, mean IoU, depth error, and how far the embedding itself moves. The same command goes on
where it was stopped.

  assay evade --encoder network:resnet-micro --data scenes --limit 32 --eps 4/255,8/255
  assay evade --encoder hf:FOLDER --encoder runs/deacl --task segmentation,embedding --data camvid
  assay evade --encoder hf:FOLDER --data segmentation=camvid --data depth=nyu --data classification=cifar.parquet
"""

from __future__ import annotations

import argparse
import dataclasses
from typing import TYPE_CHECKING, Any

from ..core.errors import DataError, ModelError, SettingError, did_you_mean
from .common import (
    add_dense_flags,
    add_work_flags,
    command_line,
    fit_threads,
    image_size,
    note,
    numbers,
    read_dense,
    seed_number,
    to_device,
    whole,
)
from .output import show_findings, table

if TYPE_CHECKING:
    from ..data import DenseDataset
    from ..studies.auditing import Study
    from ..studies.encoders import Plan, TaskData
    from ..subjects.encoders import Encoder
    from ..training.heads import HeadSettings, TrainedHead

TASKS = ("classification", "segmentation", "depth", "embedding")
THREAT = ("norm", "eps", "attacks", "method", "steps", "restarts", "pictures")
BUILT_IN_DATA = "scenes"
NO_ENCODER = (
    "--encoder names no encoder. Give hf:FOLDER or hf:ORG/NAME (transformers), the folder of 'assay train "
    "dino|simsiam|deacl', python:MODULE:FACTORY, or network:resnet-micro, an untrained reference network to try it "
    "out. Without --data, the built-in scenes are used, which have every task."
)


def parse(parser: argparse.ArgumentParser, words: list[str]) -> argparse.Namespace:
    """Flags of ``assay evade --encoder``."""
    parser.description = __doc__
    parser.prog = "assay evade --encoder"
    parser.add_argument(
        "--encoder",
        metavar="[NAME=]ENCODER",
        action="append",
        nargs="?",
        const="",
        help="hf:FOLDER, the folder of 'assay train dino', python:MODULE:FACTORY or network:NAME; several are compared "
        "with the first",
    )
    parser.add_argument(
        "--task", metavar="TASK[,TASK...]", help=f"{', '.join(TASKS)} (default: all that the data have)"
    )
    parser.add_argument(
        "--heads", metavar="FOLDER", action="append", default=[], help="a head of 'assay train probe'; default: trained"
    )
    parser.add_argument(
        "--head-seeds", type=whole, default=3, metavar="N", help="heads trained a task and encoder (default: 3)"
    )
    parser.add_argument("--head-epochs", type=whole, metavar="N", help="epochs of their training (default: 30)")
    parser.add_argument(
        "--head-preset", metavar="NAME", help="train heads as published: published (default: Assay's own settings)"
    )
    _add_threat_flags(parser)
    parser.add_argument("--limit", type=whole, metavar="N", help="attack the first N images (default: all)")
    parser.add_argument("--train-limit", type=whole, metavar="N", help="train heads on the first N (default: all)")
    parser.add_argument(
        "--seed", type=seed_number, default=0, metavar="N", help="seed of everything random (default: 0)"
    )
    parser.add_argument(
        "--out", default="runs/matrix", metavar="FOLDER", help="folder for the results (default: runs/matrix)"
    )
    _add_encoder_flags(parser)
    _add_data_flags(parser)
    add_dense_flags(parser)
    add_work_flags(parser)
    parser.set_defaults(batch_size=64)
    arguments = parser.parse_args(words)
    arguments.command = command_line("evade", words)
    return arguments


def run(arguments: argparse.Namespace) -> int:
    """Measure all pairs of encoder and task, or tell what that would cost."""
    from ..core.progress import Progress
    from ..studies.encoders import evade_encoders

    plan = read_plan(arguments)
    if arguments.dry_run:
        return _tell_cost(plan)
    with Progress(enabled=not arguments.no_progress, verbose=True) as progress:
        study = evade_encoders(plan, out=arguments.out, progress=progress, command=arguments.command)
    return _conclude(study)


def read_plan(arguments: argparse.Namespace) -> Plan:
    """Encoders, data and heads that the flags name, checked against each other."""
    from ..studies.encoders import Plan

    specs = [_named(spec) for spec in arguments.encoder]
    if not all(spec for _, spec in specs):
        raise SettingError(NO_ENCODER)
    threat = {name: getattr(arguments, name) for name in THREAT if getattr(arguments, name) is not None}
    data = _Data(arguments)
    tests = data.tests()
    shape = next(iter(tests.values())).shape
    encoders = [_load(arguments, name, spec, shape) for name, spec in specs]
    fit_threads(next(iter(tests.values())).dataset())
    heads = [_head(folder, encoders) for folder in arguments.heads]
    given = {(head.encoder.digest, head.task.name) for head in heads}
    tasks: list[TaskData] = []
    for task, test in tests.items():
        complete = all((encoder.digest, task) in given for encoder in encoders)
        tasks.append(data.of(task, test, heads_given=complete))
    return Plan(
        encoders=encoders,
        tasks=tasks,
        threat=threat,
        heads=heads,
        head_seeds=arguments.head_seeds,
        head_settings=_head_settings(arguments, [task for task in tests if task != "embedding"]),
        seed=arguments.seed,
        batch_size=arguments.batch_size,
    )


class _Data:
    """The data of every task, each source read once a split."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self.arguments = arguments
        self.known: dict[tuple[str, str | None], DenseDataset] = {}
        self.sources: dict[str, str] = {}
        for item in arguments.data or [BUILT_IN_DATA]:
            task, equals, spec = item.partition("=")
            own = bool(equals) and task in TASKS
            self.sources[task if own else ""] = spec if own else item

    def tests(self) -> dict[str, DenseDataset]:
        """What is attacked, by task."""
        asked = self.arguments.task.split(",") if self.arguments.task else None
        for task in asked or ():
            if task not in TASKS:
                raise SettingError(f"--task names {task!r}.{did_you_mean(task, TASKS)}")
        found = {}
        for task in asked or TASKS:
            spec = self.sources.get(task, self.sources.get("", ""))
            if not spec and not (task == "embedding" and self.sources):
                if asked:
                    raise SettingError(f"--data names nothing for the task {task}. Add --data {task}=DATA.")
                continue
            test = self.read(spec or next(iter(self.sources.values())), None)
            if task == "embedding" or task in test.tasks:
                found[task] = test
            elif asked or task in self.sources:
                raise DataError(
                    f"The data {test.name!r} have references for {', '.join(test.tasks) or 'no task'}, not for {task}. "
                    f"Leave {task} out of --task, or add --data {task}=DATA."
                )
        return found

    def of(self, task: str, test: DenseDataset, *, heads_given: bool) -> TaskData:
        """One task with its training data, where heads must be trained."""
        from ..studies.encoders import TaskData

        if task == "embedding" or heads_given:
            return TaskData(task=task, test=test)
        return TaskData(
            task=task, test=test, train=self.read(self.sources.get(task, self.sources.get("", "")), "train")
        )

    def read(self, spec: str, split: str | None) -> DenseDataset:
        """One split of one source."""
        if (spec, split) not in self.known:
            limit = self.arguments.limit if split is None else self.arguments.train_limit
            self.known[spec, split] = read_dense(self.arguments, spec, limit=limit, split=split)
        return self.known[spec, split]


def _add_threat_flags(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("adversary")
    group.add_argument("--norm", metavar="NORM", help="linf, l2 or l1 (default: linf)")
    group.add_argument("--eps", metavar="EPS[,EPS...]", help="budgets (default: 2/255,4/255,8/255)")
    group.add_argument(
        "--attacks",
        metavar="NAME[,NAME...]",
        help="from 'assay ls objective'; each is used on the tasks it is for (default: embedding-l2, "
        "embedding-patch-l2 and the task's own)",
    )
    group.add_argument("--method", metavar="NAME", help="pgd, apgd or radii (default: pgd)")
    group.add_argument("--steps", metavar="N", help="gradient steps (default: 20)")
    group.add_argument("--restarts", metavar="N", help="restarts, of which the strongest counts (default: 1)")
    group.add_argument("--pictures", metavar="N", help="images to show in the report (default: 3)")


def _add_encoder_flags(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("encoder")
    group.add_argument("--weights", metavar="FILE", help="weights for network: and python: encoders")
    group.add_argument(
        "--mean", type=numbers, metavar="M,M,M", help="encoders expect (x - mean) / std; default: what they bring along"
    )
    group.add_argument("--std", type=numbers, metavar="S,S,S", help="see --mean")
    group.add_argument("--device", metavar="NAME", help="cpu, cuda, cuda:1 ... (default: cuda if there is one)")


def _add_data_flags(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("data")
    group.add_argument(
        "--data",
        metavar="[TASK=]DATA",
        action="append",
        help="scenes (built in, every task), a folder with images, masks and depth maps, a .parquet, .npz or .csv "
        f"file, hf:ID; again for tasks with data of their own (default: {BUILT_IN_DATA})",
    )
    group.add_argument("--split", metavar="NAME", help="what is attacked (default: test if there is one)")
    group.add_argument("--images-key", metavar="NAME", help="array, column or folder with the images")
    group.add_argument("--labels-key", metavar="NAME", help="array or column with the labels")
    group.add_argument("--image-size", type=image_size, metavar="SIZE", help="resize images: a side, or HEIGHTxWIDTH")


def _named(text: str) -> tuple[str | None, str]:
    """``NAME=SPEC`` in its parts; a spec alone has no name."""
    name, equals, spec = text.partition("=")
    named = bool(equals) and not any(sign in name for sign in ":/\\")
    return (name, spec) if named else (None, text)


def _load(arguments: argparse.Namespace, name: str | None, spec: str, shape: tuple[int, int, int]) -> Encoder:
    from ..subjects.encoders import encoder

    found = encoder(
        spec,
        mean=arguments.mean,
        std=arguments.std,
        in_channels=shape[0],
        image_size=(shape[1], shape[2]),
        weights=arguments.weights,
        name=name,
    )
    view: Any = found.target("global")
    to_device(view, arguments.device)
    return found


def _head(folder: str, encoders: list[Encoder]) -> TrainedHead:
    """A finished head on the one of the encoders that it was trained on."""
    from ..training.heads import load_head

    failures = []
    for encoder in encoders:
        try:
            return load_head(folder, encoder)
        except ModelError as error:
            failures.append(error)
    raise failures[0]


def _head_settings(arguments: argparse.Namespace, tasks: list[str]) -> dict[str, HeadSettings]:
    """How heads are trained, by task; nothing where no flag was given."""
    from ..training.heads import HeadSettings

    if arguments.head_epochs is None and arguments.head_preset is None:
        return {}
    found = {}
    for task in tasks:
        base = HeadSettings.preset(arguments.head_preset, task) if arguments.head_preset else HeadSettings()
        epochs = arguments.head_epochs or base.epochs
        found[task] = dataclasses.replace(base, epochs=epochs)
    return found


def _conclude(study: Study) -> int:
    from ..studies.encoders_matrix import plain_rows

    for run in study.runs[:1]:
        for figure in run.figures():
            if figure.kind == "matrix":
                heads, rows = plain_rows(figure)
                table(figure.title, heads, rows, right=range(1, len(heads)))
                print()
    show_findings(study.runs)
    for entry in study.record["runs"]:
        if entry["status"] == "failed":
            note(f"error: {entry['probe']} failed: {entry.get('error', 'see its run')}")
    print(f"Report: {study.report}")
    return study.exit_code


def _tell_cost(plan: Plan) -> int:
    from ..studies.encoders_cost import plan_cost

    pairs = plan_cost(plan)
    rows: list[list[Any]] = [
        [
            pair.encoder,
            pair.task,
            f"{pair.images:,}",
            str(pair.heads),
            f"{pair.training:,}",
            f"{pair.cost.forward:,}",
            f"{pair.cost.backward:,}",
            f"{pair.seconds:.0f}",
        ]
        for pair in pairs
    ]
    heads = ["encoder", "task", "images", "heads", "feature passes", "forward passes", "backward passes", "seconds"]
    table("Encoders across tasks", heads, rows, right=range(2, len(heads)))
    print(f"\nAbout {sum(pair.seconds for pair in pairs):.0f} seconds on this machine, and the training of the heads.")
    print("Nothing was written.")
    return 0
