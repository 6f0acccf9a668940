"""Account for privacy, and show who pays for it in a trained model."""

from __future__ import annotations

import argparse
import math
from typing import TYPE_CHECKING, Any, NamedTuple

from ..core.errors import EXIT_OK, SettingError, did_you_mean
from ..core.settings import number
from .common import add_data_flags, add_work_flags, command_line, fit_threads, seed_number, to_device, whole

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..core.runs import Run
    from ..data.dataset import Dataset
    from ..studies.diagnosis import Part
    from ..subjects.target import Target

ACTIONS = {
    "epsilon": "tell the epsilon of a training from its noise, sampling rate and number of steps",
    "calibrate": "tell the noise that a target epsilon needs",
    "diagnose": "show who pays for privacy in a trained model, and why",
}
EPSILON_HELP = """\
Tell the epsilon of a private training: by RDP and PRV, which are upper bounds, and by GDP, an approximation.

Protected is the participation of single records (adding or removing one), for Poisson sampling.
Give --sample-rate and --steps, or --batch-size, --samples and --epochs."""
CALIBRATE_HELP = """\
Tell the noise multiplier that a target epsilon needs, by RDP and by PRV.

Give --sample-rate and --steps, or --batch-size, --samples and --epochs."""
DIAGNOSE_HELP = """\
Show who pays for privacy in a model of 'assay train dp-sgd', and why: guarantee and accuracy by group,
privacy cost against a baseline without privacy, and the excess loss of private steps split into direction,
length and noise. The last is computed from the private training data and must not be published."""


class Plan(NamedTuple):
    """Sampling rate, steps, and the number of records where it was given."""

    sample_rate: float
    steps: int
    records: int | None


def parse(parser: argparse.ArgumentParser, words: list[str]) -> argparse.Namespace:
    """Flags of ``assay privacy ACTION``."""
    if not words or words[0].startswith("-"):
        parser.add_argument("action", metavar="ACTION", help="one of the actions below")
        width = max(map(len, ACTIONS))
        rows = [f"  {name:<{width}}  {text}" for name, text in ACTIONS.items()]
        parser.epilog = "\n".join(["actions:", *rows, "", "'assay privacy ACTION --help' explains an action."])
        return parser.parse_args(words)
    action = words[0]
    if action not in ACTIONS:
        raise SettingError(f"There is no action {action!r} of 'assay privacy'.{did_you_mean(action, ACTIONS)}")
    parser.prog = f"assay privacy {action}"
    {"epsilon": _epsilon_flags, "calibrate": _calibrate_flags, "diagnose": _diagnose_flags}[action](parser)
    arguments = parser.parse_args(words[1:])
    arguments.action = action
    arguments.command = command_line("privacy", words)
    return arguments


def run(arguments: argparse.Namespace) -> int:
    """Do what was asked."""
    return {"epsilon": _epsilon, "calibrate": _calibrate, "diagnose": _diagnose}[arguments.action](arguments)


def _epsilon_flags(parser: argparse.ArgumentParser) -> None:
    parser.description = EPSILON_HELP
    parser.add_argument(
        "--noise-multiplier", type=_number, required=True, metavar="SIGMA", help="noise over sensitivity, from 0 up"
    )
    _step_flags(parser)


def _calibrate_flags(parser: argparse.ArgumentParser) -> None:
    parser.description = CALIBRATE_HELP
    parser.add_argument("--epsilon", type=_number, required=True, metavar="EPS", help="target epsilon, above 0")
    _step_flags(parser)


def _step_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--delta", type=_number, required=True, metavar="DELTA", help="above 0, below one over records")
    parser.add_argument("--json", action="store_true", help="print JSON, with every digit")
    group = parser.add_argument_group("steps")
    group.add_argument("--sample-rate", type=_number, metavar="Q", help="chance of a record to be in a batch, 0 to 1")
    group.add_argument("--steps", type=whole, metavar="T", help="number of steps")
    group.add_argument("--batch-size", type=whole, metavar="B", help="expected batch size")
    group.add_argument("--samples", type=whole, metavar="N", help="number of training records")
    group.add_argument("--epochs", type=_number, metavar="E", help="passes over the records")
    group = parser.add_argument_group("counts released beside the gradient (global-adapt, per-group)")
    group.add_argument("--count-noise", type=_number, metavar="SIGMA_B", help="standard deviation of their noise")
    group.add_argument("--centred", action="store_true", help="a record changes a count by one half")


def _diagnose_flags(parser: argparse.ArgumentParser) -> None:
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
    group.add_argument("--learning-rate", type=_number, metavar="LR", help="of the step (default: as in the training)")
    group.add_argument("--only", metavar="NAME[,NAME...]", help="diagnose these groups alone (default: all)")
    group.add_argument("--no-noise-term", action="store_true", help="leave out R_noise, the dearest part")
    add_data_flags(parser, default=None, default_split="train if there is one")
    add_work_flags(parser)


def _epsilon(arguments: argparse.Namespace) -> int:
    from ..core.errors import Unsupported
    from ..privacy import effective_noise, epsilon

    plan = _plan(arguments)
    counts = {"count_noise": arguments.count_noise, "centred": arguments.centred}
    what = {"sample_rate": plan.sample_rate, "steps": plan.steps, "delta": arguments.delta}
    found: dict[str, float | None] = {}
    reasons = []
    for accountant in ("rdp", "prv", "gdp"):
        try:
            found[accountant] = epsilon(
                noise_multiplier=arguments.noise_multiplier, accountant=accountant, **what, **counts
            )
        except Unsupported as error:
            found[accountant] = None
            reasons.append(str(error))
    effective = effective_noise(arguments.noise_multiplier, **counts)
    if arguments.json:
        _print_json({**_given(arguments, plan), "effective_noise_multiplier": effective, "epsilon": found})
        return EXIT_OK
    _rows(plan, arguments.delta)
    if arguments.count_noise is not None:
        print(f"noise multiplier, counts included: {effective:.4g}")
    names = {"rdp": "RDP, an upper bound", "prv": "PRV, a tighter upper bound", "gdp": "GDP, an approximation"}
    for accountant, value in found.items():
        print(f"epsilon by {names[accountant] + ':':<28}{_shown(value)}")
    print()
    bound = min((value for key, value in found.items() if key != "gdp" and value is not None), default=math.nan)
    print(_in_words(bound, arguments.delta))
    for remark in [*reasons, *_delta_remark(arguments.delta, plan)]:
        print(remark)
    return EXIT_OK


def _calibrate(arguments: argparse.Namespace) -> int:
    from ..core.errors import Unsupported
    from ..privacy import calibrate_noise, epsilon

    plan = _plan(arguments)
    what: dict[str, Any] = {
        "sample_rate": plan.sample_rate,
        "steps": plan.steps,
        "delta": arguments.delta,
        "count_noise": arguments.count_noise,
        "centred": arguments.centred,
    }
    found: dict[str, dict[str, float] | None] = {}
    for accountant in ("rdp", "prv"):
        try:
            sigma = calibrate_noise(arguments.epsilon, accountant=accountant, **what)
            reached = epsilon(noise_multiplier=sigma, accountant=accountant, **what)
            found[accountant] = {"noise_multiplier": sigma, "epsilon": reached}
        except Unsupported:
            found[accountant] = None
    if arguments.json:
        _print_json({**_given(arguments, plan), "by": found})
        return EXIT_OK
    _rows(plan, arguments.delta)
    for accountant, result in found.items():
        if result is None:
            print(f"noise multiplier by {accountant.upper()}: - (it cannot compose these steps)")
        else:
            sigma, reached = result["noise_multiplier"], result["epsilon"]
            print(f"noise multiplier by {accountant.upper()}: {sigma:.4f}, which gives epsilon {reached:.4g}")
    print("\nThe noise has this multiple of the clip rule's sensitivity as its standard deviation on the gradient sum.")
    print("'assay train dp-sgd --epsilon' calibrates by RDP; for the smaller noise by PRV give --noise-multiplier.")
    for remark in _delta_remark(arguments.delta, plan):
        print(remark)
    return EXIT_OK


def _diagnose(arguments: argparse.Namespace) -> int:
    from ..core.progress import Progress
    from ..studies.diagnosis import diagnose
    from .common import note
    from .output import metric_rows, show_findings, table

    test = _test_data(arguments)
    target = _private_target(arguments, test)
    parts = _parts(arguments, test, _training_data(arguments))
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


def _training_data(arguments: argparse.Namespace) -> Dataset:
    """The split that was named, else the training split, else everything, as 'assay train' takes it."""
    from .train import _training_data

    return _training_data(arguments)


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


def _plan(arguments: argparse.Namespace) -> Plan:
    """Rate and steps as given, or from batch size, samples and epochs."""
    direct = {"--sample-rate": arguments.sample_rate, "--steps": arguments.steps}
    derived = {"--batch-size": arguments.batch_size, "--samples": arguments.samples, "--epochs": arguments.epochs}
    direct_given = [name for name, value in direct.items() if value is not None]
    derived_given = [name for name, value in derived.items() if value is not None]
    if len(direct_given) == len(direct) and set(derived_given) <= {"--samples"}:
        return Plan(arguments.sample_rate, arguments.steps, arguments.samples)
    if not direct_given and len(derived_given) == len(derived):
        if arguments.batch_size > arguments.samples:
            raise SettingError(
                f"--batch-size is {arguments.batch_size}, more than --samples {arguments.samples}; it is the expected "
                "size of a Poisson batch: at most all samples."
            )
        if not 0 < arguments.epochs < math.inf:
            raise SettingError(f"--epochs is {arguments.epochs:g}; allowed: above 0.")
        steps = math.ceil(arguments.samples / arguments.batch_size) * arguments.epochs
        return Plan(arguments.batch_size / arguments.samples, max(1, math.ceil(steps)), arguments.samples)
    given = ", ".join([*direct_given, *derived_given]) or "none of them"
    raise SettingError(
        "The steps are needed once: --sample-rate and --steps, or --batch-size, --samples and --epochs; "
        f"given: {given}."
    )


def _given(arguments: argparse.Namespace, plan: Plan) -> dict[str, Any]:
    names = ("noise_multiplier", "epsilon", "count_noise")
    given = {name: getattr(arguments, name) for name in names if getattr(arguments, name, None) is not None}
    if "epsilon" in given:
        given["target_epsilon"] = given.pop("epsilon")
    return {
        **given,
        "centred": arguments.centred,
        "sample_rate": plan.sample_rate,
        "steps": plan.steps,
        "delta": arguments.delta,
    }


def _rows(plan: Plan, delta: float) -> None:
    print(f"sample rate {plan.sample_rate:.6g}, {plan.steps:,} steps, delta {delta:g}")


def _in_words(epsilon: float, delta: float) -> str:
    if math.isnan(epsilon) or math.isinf(epsilon):
        return "Nothing is guaranteed: epsilon is infinite. Add noise."
    if epsilon == 0:
        return "Nothing is released, so nothing can be learned of any record."
    likelier = f"{math.exp(epsilon):,.3g} times" if epsilon < 30 else f"e^{epsilon:.3g} times"
    return (
        f"In words: with or without one record, no outcome of the training becomes more than {likelier} as likely, "
        f"except for a chance of {delta:g}."
    )


def _delta_remark(delta: float, plan: Plan) -> list[str]:
    from ..privacy import delta_remark

    remark = None if plan.records is None else delta_remark(delta, plan.records)
    return [] if remark is None else [f"Warning: {remark}"]


def _shown(value: float | None) -> str:
    return "-" if value is None else "infinite" if math.isinf(value) else f"{value:.4g}"


def _print_json(content: dict[str, Any]) -> None:
    from ..core.files import to_json

    print(to_json(content), end="")


def _number(text: str) -> float:
    try:
        return number(text)
    except SettingError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
