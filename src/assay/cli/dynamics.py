"""Show how the decision boundary moves during a training, and for which samples it comes closer.

The folder of 'assay train ... --watch N' holds the weights at regular moments. At each of them the closest
boundary points of some training samples are found, and the speed of the boundary there, in the direction of
the training's own recipe, of others, and of the step really taken. The same command goes on where it was stopped.
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .audit import examine
from .common import add_data_flags, add_work_flags, command_line, fit_threads, note, seed_number, whole
from .output import table
from .train import training_data

if TYPE_CHECKING:
    from ..core.runs import Run
    from ..data.dataset import Dataset
    from ..studies.suite import Suite

PROBE = "boundary-dynamics"
SETTINGS = ("norm", "temperature", "samples", "moments", "below", "budget", "directions", "steps", "inner_steps")


def parse(parser: argparse.ArgumentParser, words: list[str]) -> argparse.Namespace:
    """Flags of ``assay dynamics``."""
    parser.add_argument("run", metavar="RUN", help="folder of 'assay train ... --watch N'")
    parser.add_argument("--norm", metavar="NAME", help="norm of the margins: linf or l2 (default: linf)")
    parser.add_argument(
        "--below", metavar="R", help="margin below which a sample is vulnerable (default: 8/255 in linf, 0.5 in l2)"
    )
    parser.add_argument(
        "--eps", dest="budget", metavar="R", help="budget of the recipes compared (default: as --below)"
    )
    parser.add_argument("--samples", metavar="N", help="training samples to look at (default: 256)")
    parser.add_argument("--moments", metavar="N", help="moments to look at, at most (default: 8)")
    parser.add_argument(
        "--directions",
        metavar="NAME[,NAME...]",
        help="where the weights move: own, standard, adversarial, trades, dyart, step, gradient-flow; the first is "
        "drawn in detail (default: all but the last)",
    )
    parser.add_argument("--temperature", metavar="T", help="sharpness of the soft margin (default: 5)")
    parser.add_argument("--steps", metavar="N", help="iterations of the search for boundary points (default: 20)")
    parser.add_argument("--inner-steps", metavar="N", help="attack steps of the recipes compared (default: 10)")
    parser.add_argument("--limit", type=whole, metavar="N", help="choose among the first N samples (default: all)")
    parser.add_argument(
        "--seed", type=seed_number, default=0, metavar="N", help="seed of everything random (default: 0)"
    )
    parser.add_argument(
        "--out", default="runs/dynamics", metavar="FOLDER", help="folder for the results (default: runs/dynamics)"
    )
    parser.add_argument("--device", metavar="NAME", help="cpu, cuda, cuda:1 ... (default: cuda if there is one)")
    add_data_flags(parser, default=None, default_split="train if there is one")
    add_work_flags(parser)
    parser.set_defaults(weights=None, num_classes=None, mean=None, std=None, bounds=None)
    arguments = parser.parse_args(words)
    arguments.model = f"run:{arguments.run.removeprefix('run:')}"
    arguments.command = command_line("dynamics", words)
    return arguments


def run(arguments: argparse.Namespace) -> int:
    """A suite of one probe, made from the flags, and a table of moments and directions."""
    given = {name: getattr(arguments, name) for name in SETTINGS if getattr(arguments, name) is not None}
    suite = _suite(given, arguments.seed)
    data = training_data(arguments)
    code = examine(arguments, suite, data)
    if not arguments.dry_run:
        _show(Path(arguments.out))
    return code


def watch(arguments: argparse.Namespace, folder: str | Path, data: Dataset) -> int:
    """The probe on a training that has just ended, with its report in ``dynamics`` of the run folder.

    A sample is vulnerable below the budget of the recipe, where it has one.

    Args:
        arguments: of ``assay train``.
        folder: of the run.
        data: its training data.
    """
    from ..boundary.moments import read_training
    from ..core.progress import Progress
    from ..studies.auditing import audit
    from ..subjects import load_target
    from .common import to_device

    folder = Path(folder)
    adversary = read_training(folder).recipe.adversary()
    given: dict[str, Any] = {}
    if adversary is not None and adversary.eps > 0:
        given = {"norm": adversary.norm, "below": adversary.eps}
    fit_threads(data)
    target = to_device(load_target(f"run:{folder}", image_shape=data.shape), getattr(arguments, "device", None))
    out = folder / "dynamics"
    with Progress(enabled=not getattr(arguments, "no_progress", False), verbose=True) as progress:
        study = audit(
            target,
            data,
            _suite(given, getattr(arguments, "seed", 0)),
            out=out,
            progress=progress,
            command=command_line("dynamics", [str(folder), "--out", str(out)]),
        )
    for entry in study.record["runs"]:
        if entry["status"] == "failed":
            note(f"error: the probe {entry['probe']} failed: {entry['error']}")
    _show(out)
    print(f"Report: {study.report}")
    return study.exit_code


def _suite(given: dict[str, Any], seed: int) -> Suite:
    from ..studies.suite import parse_suite

    if "directions" in given:
        given = {**given, "directions": [name for name in str(given["directions"]).split(",") if name]}
    return parse_suite({"name": "dynamics", "seed": seed, "probes": [{PROBE: given}]}, where="the command line")


def _show(out: Path) -> None:
    """One line a moment, one column a direction."""
    from ..core.files import read_json
    from ..core.runs import load_run
    from ..studies.auditing import RECORD

    for entry in read_json(out / RECORD).get("runs", []) if (out / RECORD).is_file() else []:
        if entry.get("probe") == PROBE and entry.get("status") == "ok":
            _table(load_run(out / "runs" / entry["id"]))


def _table(run: Run) -> None:
    """Shares of vulnerable samples that lose margin, with intervals."""
    shares: dict[str, dict[str, str]] = {}
    counts: dict[str, str] = {}
    for metric in run.metrics:
        words = dict(part.split("=", 1) for part in metric.stratum.split(", ") if "=" in part)
        step, direction = words.get("step", "end"), words.get("direction")
        if metric.name == "vulnerable_share":
            counts[step] = f"{round(metric.value * metric.n):,}"
        elif metric.name == "conflict_share" and direction:
            shares.setdefault(step, {})[direction] = _cell(metric.value, metric.lo, metric.hi)
    steps = [step for step in shares if step != "end"] or list(shares)
    names = list(dict.fromkeys(name for step in steps for name in shares[step]))
    steps.sort(key=lambda step: int(step) if step.isdigit() else 0)
    table(
        "\nVulnerable samples that the boundary comes closer to, % (95% interval)",
        ["step", "vulnerable", *names],
        [[step, counts.get(step, "-"), *(shares[step].get(name, "-") for name in names)] for step in steps],
        right=range(2 + len(names)),
    )


def _cell(value: float, low: float | None, high: float | None) -> str:
    if not math.isfinite(value) or low is None or high is None:
        return "-"
    return f"{100 * value:.0f} ({100 * low:.0f}-{100 * high:.0f})"
