"""``assay privacy diagnose``: who pays for privacy in a trained model, and why."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ..core.errors import EXIT_OK, SettingError
from .common import add_data_flags, add_work_flags, fit_threads, seed_number, to_device, whole
from .privacy_accounting import real
from .train import training_data

if TYPE_CHECKING:
    from ..core.runs import Run
    from ..data.dataset import Dataset
    from ..studies.diagnosis import Part
    from ..subjects.target import Target

DIAGNOSE_HELP = """\
Show who pays for privacy in a model of 'assay train dp-sgd', and why: guarantee and accuracy by group,
privacy cost against a baseline without privacy, and the excess loss of private steps split into direction,
length and noise. The last is computed from the private training data and must not be published."""


def diagnose_flags(parser: argparse.ArgumentParser) -> None:
    """Flags of ``assay privacy diagnose``."""
    parser.description = DIAGNOSE_HELP
    parser.add_argument("run", metavar="RUN", help="folder of a private training")
    parser.add_argument(
        "--baseline", metavar="RUN2", help="the same training without privacy: its folder, or hf:FOLDER"
    )
    parser.add_argument(
        "--test-split", metavar="NAME", help="split for accuracy and cost (default: test if there is one)"
    )
    parser.add_argument("--limit", type=whole, metavar="N", help="the first N training samples (default: all)")
    parser.add_argument(
        "--seed", type=seed_number, default=0, metavar="N", help="seed of everything random (default: 0)"
    )
    parser.add_argument(
        "--out", default="runs/diagnosis", metavar="FOLDER", help="folder for the results (default: runs/diagnosis)"
    )
    parser.add_argument("--device", metavar="NAME", help="cpu, cuda, cuda:1 ... (default: cuda if there is one)")
    group = parser.add_argument_group("gradients")
    group.add_argument("--batches", type=whole, metavar="N", help="Poisson batches at each snapshot (default: 5)")
    group.add_argument("--snapshots", type=whole, metavar="N", help="most snapshots to look at (default: 10)")
    group.add_argument("--population", type=whole, metavar="N", help="samples that stand for a group (default: 100)")
    group.add_argument("--probes", type=whole, metavar="N", help="random vectors of a trace (default: 20)")
    group.add_argument("--learning-rate", type=real, metavar="LR", help="of the step (default: as in the training)")
    group.add_argument("--only", metavar="NAME[,NAME...]", help="diagnose these groups alone (default: all)")
    group.add_argument("--no-noise-term", action="store_true", help="leave out R_noise, the dearest part")
    add_data_flags(parser, default=None, default_split="train if there is one")
    add_work_flags(parser)


def show_who_pays(arguments: argparse.Namespace) -> int:
    """Diagnose, or tell what a diagnosis would cost."""
    from ..core.progress import Progress
    from ..studies.diagnosis import diagnose
    from .common import note
    from .output import metric_rows, show_findings, table

    test = _test_data(arguments)
    target = _private_target(arguments, test)
    parts = _parts(arguments, test, training_data(arguments))
    if arguments.dry_run:
        return _tell_cost(arguments, target, parts)
    fit_threads(test)
    with Progress(enabled=not arguments.no_progress, verbose=True) as progress:
        study = diagnose(
            target,
            parts,
            out=arguments.out,
            batch_size=arguments.batch_size,
            progress=progress,
            command=arguments.command,
        )
    rows = {row[0]: row for row in metric_rows(study.runs)}
    table("Measured", ["metric", "value", "95% interval", "n"], rows.values(), right=[1, 3])
    print()
    _table_by_group(study.runs)
    show_findings(study.runs)
    for entry in study.record["runs"]:
        if entry["status"] == "failed":
            note(f"error: the probe {entry['probe']} failed: {entry['error']}")
    print(f"Report: {study.report}")
    return study.exit_code


def _parts(arguments: argparse.Namespace, test: Dataset, training: Dataset) -> list[Part]:
    """What is measured on unseen data, and what on the training data."""
    from ..studies.diagnosis import Part
    from ..studies.suite import parse_suite

    gradients: dict[str, Any] = {
        name: getattr(arguments, name)
        for name in ("batches", "snapshots", "population", "probes", "learning_rate", "only")
        if getattr(arguments, name) is not None
    }
    if arguments.no_noise_term:
        gradients["trace"] = "off"
    cost = {"privacy-cost": {"baseline": arguments.baseline}} if arguments.baseline else "privacy-cost"
    probes = {"unseen": ["private-training", cost], "training": [{"gradient-misalignment": gradients}]}
    suites = {
        name: parse_suite(
            {"name": f"privacy diagnosis, {name} data", "seed": arguments.seed, "probes": chosen},
            where="the command line",
        )
        for name, chosen in probes.items()
    }
    return [Part(data=test, suite=suites["unseen"]), Part(data=training, suite=suites["training"])]


def _private_target(arguments: argparse.Namespace, data: Dataset) -> Target:
    """The model of the run, which must be a private training."""
    from ..privacy.reading import FILE, read_privacy
    from ..subjects import load_target

    folder = arguments.run.removeprefix("run:")
    target = to_device(load_target(f"run:{folder}", image_shape=data.shape), arguments.device)
    if read_privacy(target.folder) is None:
        raise SettingError(
            f"{folder!r} is no private training: it holds no {FILE}. Give the folder of 'assay train dp-sgd', and "
            "a training without privacy as --baseline."
        )
    return target


def _test_data(arguments: argparse.Namespace) -> Dataset:
    from ..data import load_data

    return load_data(
        arguments.data,
        split=arguments.test_split,
        images_key=arguments.images_key,
        labels_key=arguments.labels_key,
        group=arguments.group,
        image_size=arguments.image_size,
    )


def _tell_cost(arguments: argparse.Namespace, target: Target, parts: list[Part]) -> int:
    from ..studies.cost import plan
    from .output import figure, table

    planned = [
        (part, item) for part in parts for item in plan(target, part.data, part.suite, batch_size=arguments.batch_size)
    ]
    rows = [
        [item.probe, part.data.split, f"{item.forward:,}", f"{item.backward:,}", figure(item.seconds, "")]
        for part, item in planned
        if item.forward is not None and item.backward is not None
    ]
    table(
        f"Diagnosis of {target.name}, about",
        ["probe", "split", "forward passes", "backward passes", "seconds"],
        rows,
        right=[2, 3, 4],
    )
    print(f"\nAbout {sum(item.seconds or 0 for _, item in planned):.0f} seconds on this machine. Nothing was written.")
    return EXIT_OK


def _table_by_group(runs: Sequence[Run]) -> None:
    """One line a group: how it fares, what it pays, and why."""
    from .output import ends, figure, table

    columns = {
        "accuracy": "private_accuracy",
        "privacy cost": "privacy_cost",
        "R_dir": "r_dir",
        "R_mag": "r_mag",
        "R_noise": "r_noise",
        "clipped": "clip_rate",
    }
    found = {(metric.name, metric.stratum): metric for run in runs for metric in run.metrics if metric.stratum}
    strata = dict.fromkeys(stratum for name, stratum in found if name == "private_accuracy")
    shown = {head: name for head, name in columns.items() if any(key[0] == name for key in found)}
    rows = []
    for stratum in strata:
        cells = [stratum]
        for name in shown.values():
            metric = found.get((name, stratum))
            cells.append("-" if metric is None else figure(metric.value, "share" if metric.unit == "share" else ""))
            if name in ("private_accuracy", "privacy_cost"):
                cells.append("-" if metric is None else ends(metric))
        rows.append(cells)
    heads = ["group"]
    for head, name in shown.items():
        heads += [head, "95% interval"] if name in ("private_accuracy", "privacy_cost") else [head]
    if rows:
        right = [place for place, head in enumerate(heads) if head not in ("group", "95% interval")]
        table("By group; R in nats a step", heads, rows, right=right)
        print()
