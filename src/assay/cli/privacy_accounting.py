"""``assay privacy epsilon`` and ``calibrate``: accounting without training."""

from __future__ import annotations

import argparse
import math
from typing import Any, NamedTuple

from ..core.errors import EXIT_OK, SettingError
from ..core.settings import number
from .common import whole

EPSILON_HELP = """\
Tell the epsilon of a private training: by RDP and PRV, which are upper bounds, and by GDP, an approximation.

Protected is the participation of single records (adding or removing one), for Poisson sampling.
Give --sample-rate and --steps, or --batch-size, --samples and --epochs."""
CALIBRATE_HELP = """\
Tell the noise multiplier that a target epsilon needs, by RDP and by PRV.

Give --sample-rate and --steps, or --batch-size, --samples and --epochs."""


class Plan(NamedTuple):
    """Sampling rate, steps, and the number of records where it was given."""

    sample_rate: float
    steps: int
    records: int | None


def epsilon_flags(parser: argparse.ArgumentParser) -> None:
    """Flags of ``assay privacy epsilon``."""
    parser.description = EPSILON_HELP
    parser.add_argument(
        "--noise-multiplier", type=real, required=True, metavar="SIGMA", help="noise over sensitivity, from 0 up"
    )
    _step_flags(parser)


def calibrate_flags(parser: argparse.ArgumentParser) -> None:
    """Flags of ``assay privacy calibrate``."""
    parser.description = CALIBRATE_HELP
    parser.add_argument("--epsilon", type=real, required=True, metavar="EPS", help="target epsilon, above 0")
    _step_flags(parser)


def _step_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--delta", type=real, required=True, metavar="DELTA", help="above 0, below one over records")
    parser.add_argument("--json", action="store_true", help="print JSON, with every digit")
    group = parser.add_argument_group("steps")
    group.add_argument("--sample-rate", type=real, metavar="Q", help="chance of a record to be in a batch, 0 to 1")
    group.add_argument("--steps", type=whole, metavar="T", help="number of steps")
    group.add_argument("--batch-size", type=whole, metavar="B", help="expected batch size")
    group.add_argument("--samples", type=whole, metavar="N", help="number of training records")
    group.add_argument("--epochs", type=real, metavar="E", help="passes over the records")
    group = parser.add_argument_group("counts released beside the gradient (global-adapt, per-group)")
    group.add_argument("--count-noise", type=real, metavar="SIGMA_B", help="standard deviation of their noise")
    group.add_argument("--centred", action="store_true", help="a record changes a count by one half")


def tell_epsilon(arguments: argparse.Namespace) -> int:
    """Epsilon by every accountant, and in words."""
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


def tell_noise(arguments: argparse.Namespace) -> int:
    """The noise that a target epsilon needs, by RDP and PRV."""
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


def real(text: str) -> float:
    """A number or fraction of a flag."""
    try:
        return number(text)
    except SettingError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
