"""The privacy statement: what a private training promises, under which assumptions, in plain sentences."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from ..core.errors import SettingError, Unsupported
from .accounting import check_delta
from .ledger import Event, Ledger


def statement(
    ledger: Ledger,
    delta: float,
    *,
    population: int,
    secure: bool,
    count_noise: float | None = None,
    spent: Mapping[str, Any] | None = None,
) -> list[str]:
    """What may be said of a training, for a reader who is not a specialist: one fact a sentence or two.

    Args:
        ledger: what was spent.
        delta: δ in (0, 1).
        population: number of training records N.
        secure: the noise came from the operating system, not from a seed.
        count_noise: standard deviation of the noise on released counts, None if there were none.
        spent: ε by accountant (``{"rdp": 5.9, "prv": 5.44}``) where it is known already.

    Returns:
        Sentences. Where the sampling was not Poisson or a step had no noise, the first says that no guarantee is
        valid and why, and none of them states an ε.

    Cost: that of ``Ledger.epsilon`` by RDP and PRV, unless ``spent`` is given.

    >>> lines = statement(Ledger(), 1e-5, population=1000, secure=True)
    >>> lines[0]
    'No training step was taken: nothing about the training records has been released.'
    """
    check_delta(delta)
    if population < 1:
        raise SettingError(f"population is {population!r}; allowed: at least 1, the number of training records.")
    if not ledger.steps:
        return ["No training step was taken: nothing about the training records has been released."]
    reason = not_valid(ledger)
    if reason:
        lines = [
            f"Not valid: no privacy guarantee can be stated for this training, because {reason}.",
            "Clipping and noise may still make some attacks harder, but nothing is proven; "
            "treat the weights as if they could tell about any single training record.",
        ]
    else:
        lines = _guarantee(spent if spent is not None else _spent(ledger, delta), delta)
    lines += [_sampling(event) for event in ledger.events]
    if count_noise is not None and not reason:
        lines.append(
            "The clip rule also released counts of the samples of each batch, with noise of standard deviation "
            f"{count_noise:g}. Counts and gradient come from the same batch and are charged together, as one "
            "mechanism; the noise multiplier above is that of both."
        )
    if not reason:
        remark = delta_remark(delta, population)
        lines += [remark] if remark else []
        lines += [_source(secure), *_ASSUMPTIONS]
    return lines


def delta_remark(delta: float, population: int) -> str | None:
    """A warning where δ > 1/N, otherwise None.

    >>> delta_remark(1e-5, 50_000) is None
    True
    """
    if delta <= 1 / population:
        return None
    return (
        f"delta = {delta:g} is above one over the number of training records (1/{population} = {1 / population:.2g}): "
        "publishing one record chosen at random would satisfy it, so the guarantee protects little. "
        f"Choose delta well below, such as {0.1 / population:.0e}."
    )


def not_valid(ledger: Ledger) -> str:
    """Why no ε can be stated for a ledger, as the end of a sentence after "because"; ``""`` where one can."""
    for event in ledger.events:
        if event.sampling != "poisson":
            return (
                f"the batches of {_steps(event.steps)} were {event.sampling}, not drawn by Poisson sampling, "
                "which the accounting assumes"
            )
        if event.noise_multiplier == 0:
            return f"{_steps(event.steps)} added no noise (noise multiplier 0), so epsilon is infinite"
    return ""


def _spent(ledger: Ledger, delta: float) -> dict[str, float | None]:
    found: dict[str, float | None] = {"rdp": ledger.epsilon(delta, "rdp")}
    try:
        found["prv"] = ledger.epsilon(delta, "prv")
    except Unsupported:
        found["prv"] = None
    return found


def _guarantee(spent: Mapping[str, Any], delta: float) -> list[str]:
    known = {name: float(spent[name]) for name in ("rdp", "prv") if spent.get(name) is not None}
    if not known:
        return [f"At delta = {delta:g} no accountant could give an epsilon for this training; none is stated."]
    names = {"rdp": "Rényi (RDP) accountant", "prv": "numerical (PRV) accountant, which is tighter"}
    stated = " and ".join(f"epsilon = {value:.3g} by the {names[name]}" for name, value in known.items())
    if "prv" not in known:
        stated += "; the numerical (PRV) accountant could not be computed"
    best = min(known.values())
    factor = f"{math.exp(best):.3g}" if best < 50 else f"e^{best:.3g}"
    guess = (1 + delta * math.exp(-best)) / (1 + math.exp(-best))
    shown = f"{100 * guess:.1f} %" if guess < 0.999 else "nearly 100 %"
    return [
        "Protected is the participation of each single training record (differential privacy; neighbouring data sets "
        "differ by adding or removing one record). Someone who contributed several records is protected less.",
        f"At delta = {delta:g} the guarantee is {stated}. Each is a proven upper bound.",
        f"In words: with or without one record, no outcome of the training becomes more than {factor} times as likely, "
        f"except for a chance of {delta:g}; who guesses from even odds whether a record was used is right at most "
        f"{shown} of the time, whatever else is known.",
    ]


def _sampling(event: Event) -> str:
    drawn = (
        "drew every record by a coin of its own (Poisson sampling)"
        if event.sampling == "poisson"
        else f"took {event.sampling} batches"
    )
    return (
        f"{_steps(event.steps)} {drawn}, each with sample rate {event.sample_rate:.4g} and noise multiplier "
        f"{event.noise_multiplier:.4g} (noise over the most that one record can move the result)."
    )


def _steps(number: int) -> str:
    return f"{number:,} step{'s' if number != 1 else ''}"


def _source(secure: bool) -> str:
    if secure:
        return (
            "The noise came from the operating system's cryptographic generator and cannot be reproduced. It is "
            "computed in floating point, for which the proof holds approximately only; attacks on its last digits "
            "are made hard, not impossible."
        )
    return (
        "The noise came from a seed that stands in this record. Whoever knows the seed can subtract the noise: the "
        "guarantee does not hold against readers of the record. To release the weights under it, train with secure "
        "noise, or keep seed, code and checkpoints secret."
    )


_ASSUMPTIONS = (
    "Taken as public: the number of records, the expected batch size, all settings, and the list of groups or classes.",
    "Counted is this training alone. Choosing settings by looking at other trainings on the same records, or keeping "
    "the best of several, spends further budget that is not in these figures.",
    "Not covered: anything computed from the training records outside the private steps (preprocessing, evaluation on "
    "training records, diagnostics of single gradients), the validation and test records, and facts about people that "
    "can be learned without their records.",
)
