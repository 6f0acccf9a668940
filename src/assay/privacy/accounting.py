"""Privacy accounting: what a number of private steps cost, and how much noise a budget needs."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from ..core.errors import SettingError, Unsupported, did_you_mean
from ..core.settings import number
from .accountants import ACCOUNTANTS, Steps, gaussian

_LEAST_NOISE, _MOST_NOISE = 2.0**-6, 2.0**20
_PRECISION = 1e-3


def epsilon(
    *,
    noise_multiplier: float,
    sample_rate: float,
    steps: int,
    delta: float,
    accountant: str = "rdp",
    count_noise: float | None = None,
    centred: bool = False,
) -> float:
    """ε of T steps of the Gaussian mechanism on Poisson samples, each perhaps with a noisy count.

    Gradient sum and count come from the same batch and are charged as **one** mechanism,
    σ_eff = (σ^-2 + σ_b^-2)^(-1/2), with 2 σ_b for a half-centred count. Charging them as two
    independently sampled mechanisms, as published code does, understates ε.

    Args:
        noise_multiplier: σ >= 0, noise standard deviation over sensitivity; 0 gives ``inf``.
        sample_rate: q in (0, 1], the chance of each record to be in a step's batch.
        steps: T >= 0; 0 gives 0.0.
        delta: δ in (0, 1).
        accountant: ``rdp`` (a bound, fast), ``prv`` (a tighter bound) or ``gdp`` (an approximation).
        count_noise: σ_b, standard deviation of the noise on the released counts; None if there are none.
        centred: the count is half-centred, so that one record changes it by ½.

    Returns:
        ε >= 0 for adding or removing one record.

    Raises:
        SettingError: a value is out of range.
        Unsupported: ``prv`` cannot compose these steps.
        MissingExtra: Opacus is not installed.

    Cost: rdp 0.05 s, prv 0.1 to 3 s; the first call imports Opacus (seconds).

    >>> round(epsilon(noise_multiplier=0.8, sample_rate=256 / 54676, steps=12780, delta=1e-6), 2)
    5.9
    """
    noise = effective_noise(noise_multiplier, count_noise, centred)
    return composed([Steps(noise, sample_rate, steps)], delta, accountant)


def effective_noise(noise_multiplier: float, count_noise: float | None = None, centred: bool = False) -> float:
    """Multiplier of the gradient and the counts as one Gaussian mechanism: (σ^-2 + σ_b^-2)^(-1/2).

    In units of their noise, one record moves the sum by 1/σ and the counts by 1/σ_b (½/σ_b if half-centred):
    together by sqrt(1/σ² + 1/σ_b²), which is what one Gaussian mechanism of multiplier σ_eff moves.

    Args:
        noise_multiplier: σ >= 0.
        count_noise: σ_b > 0, or None: no count is released and σ_eff = σ.
        centred: use 2 σ_b.

    >>> effective_noise(3.0, 4.0), effective_noise(3.0, 2.0, centred=True)
    (2.4, 2.4)
    """
    sigma = number(noise_multiplier, name="noise_multiplier")
    if sigma < 0:
        raise SettingError(f"noise_multiplier is {sigma:g}; allowed: at least 0 (noise deviation over sensitivity).")
    if count_noise is None:
        return sigma
    counts = number(count_noise, name="count_noise")
    if counts <= 0:
        raise SettingError(
            f"count_noise is {counts:g}; allowed: above 0. A count released without noise has no privacy guarantee; "
            "use None if the clip rule releases no counts."
        )
    counts *= 2 if centred else 1
    if sigma == 0 or math.isinf(counts):
        return sigma
    return counts if math.isinf(sigma) else sigma * counts / math.hypot(sigma, counts)


def composed(steps: Sequence[Steps], delta: float, accountant: str = "rdp") -> float:
    """ε of several kinds of steps together; ``epsilon`` is the case of one. ``noise`` counts as effective."""
    check_delta(delta)
    if accountant not in ACCOUNTANTS:
        raise SettingError(f"There is no accountant {accountant!r}.{did_you_mean(accountant, ACCOUNTANTS)}")
    taken = []
    for step in steps:
        check_rate(step.rate)
        count = number(step.number, name="steps")
        if count < 0 or not count.is_integer():
            raise SettingError(f"steps is {step.number!r}; allowed: a whole number, at least 0.")
        if not step.noise >= 0:
            raise SettingError(f"noise_multiplier is {step.noise!r}; allowed: at least 0.")
        if count and not math.isinf(step.noise):
            taken.append(Steps(float(step.noise), float(step.rate), int(count)))
    if not taken:
        return 0.0
    if any(step.noise == 0 for step in taken):
        return math.inf
    return ACCOUNTANTS[accountant](taken, delta)


def gaussian_epsilon(sigma: float, delta: float) -> float:
    """ε of one Gaussian mechanism, exact: δ = Φ(1/2σ - εσ) - e^ε Φ(-1/2σ - εσ), solved for ε.

    T steps on the whole data (sample rate 1) are one with sigma = σ/√T. No Opacus needed.

    Args:
        sigma: noise standard deviation over sensitivity, at least 0; 0 gives ``inf``.
        delta: δ in (0, 1).

    Reference:
        Balle and Wang, Improving the Gaussian Mechanism for Differential Privacy, 2018, arXiv:1805.06530.

    >>> round(gaussian_epsilon(1.0, 1e-5), 3)
    4.377
    """
    check_delta(delta)
    noise = number(sigma, name="sigma")
    if noise < 0:
        raise SettingError(f"sigma is {noise:g}; allowed: at least 0.")
    return 0.0 if math.isinf(noise) else gaussian(noise, delta)


def calibrate_noise(
    epsilon: float | None = None,
    *,
    sample_rate: float,
    steps: int,
    delta: float,
    accountant: str = "rdp",
    count_noise: float | None = None,
    centred: bool = False,
    target_epsilon: float | None = None,
) -> float:
    """The smallest noise multiplier, to a part in a thousand, whose ε does not exceed the target.

    Args:
        epsilon: target ε above 0. ``target_epsilon`` is another name for it; give one of the two.
        sample_rate, steps, delta, accountant, count_noise, centred: as for ``epsilon``; steps >= 1.

    Returns:
        σ of the gradient noise; the noise on the counts is accounted for and comes on top.

    Raises:
        SettingError: the target cannot be reached; the message names what can, and what to change.
        Unsupported: ``prv`` cannot compose the steps.

    Cost: about 15 evaluations of ``epsilon``.

    >>> round(calibrate_noise(3.0, sample_rate=0.01, steps=1000, delta=1e-5), 2)
    0.87
    """
    target = _target(epsilon, target_epsilon)
    if steps < 1:
        raise SettingError(f"steps is {steps!r}; allowed: at least 1. No step needs no noise.")

    def cost(sigma: float, by: str = accountant) -> float:
        noise = effective_noise(sigma, count_noise, centred)
        return composed([Steps(noise, sample_rate, steps)], delta, by)

    if accountant == "prv":
        # Never above the Rényi bound, so its noise is a safe start close by; prv evaluations are dear.
        high, factor = _search(lambda sigma: cost(sigma, "rdp"), target, 1.0, 2.0, count_noise), 1.05
        return _search(cost, target, high, factor, count_noise)
    return _search(cost, target, 1.0, 2.0, count_noise)


def _search(
    cost: Callable[[float], float], target: float, start: float, factor: float, count_noise: float | None
) -> float:
    """Bracket the target by steps that grow, then bisect in log σ; the upper end is always on the safe side."""
    high = start
    while (reached := cost(high)) > target:
        if high >= _MOST_NOISE:
            raise SettingError(_too_small(target, reached, count_noise))
        high *= 2
    low = high
    while True:
        low = max(low / factor, _LEAST_NOISE)
        reached = _or_infinite(cost, low)
        if reached > target:
            break
        if low <= _LEAST_NOISE:
            raise SettingError(
                f"The target epsilon {target:g} is out of reach from above: already a noise multiplier of {low:.2g}, "
                f"which protects nobody, gives epsilon = {reached:.4g}. Choose a target of at most {reached:.4g}."
            )
        high, factor = low, min(factor**2, 2.0)
    while high / low > 1 + _PRECISION:
        middle = math.sqrt(low * high)
        if _or_infinite(cost, middle) <= target:
            high = middle
        else:
            low = middle
    return high


def _or_infinite(cost: Callable[[float], float], sigma: float) -> float:
    """Where ``prv`` cannot compose, ε is too large for it."""
    try:
        return cost(sigma)
    except Unsupported:
        return math.inf


def _too_small(target: float, reached: float, count_noise: float | None) -> str:
    text = (
        f"The target epsilon {target:g} is out of reach: with a noise multiplier of {_MOST_NOISE:.0e} it is still "
        f"{reached:.4g}, the smallest that can be shown for this sample rate, number of steps and delta. "
    )
    if count_noise is not None:
        return text + (
            f"The released counts (count_noise = {count_noise:g}) cost this much by themselves: "
            "raise count_noise, centre the count, or choose a clip rule that releases none."
        )
    return text + "Choose a larger epsilon or delta, fewer steps, or a smaller sample rate; 'prv' and 'rdp' end apart."


def _target(first: float | None, second: float | None) -> float:
    if (first is None) == (second is None):
        raise SettingError("Give the target once: as epsilon or as target_epsilon.")
    target = number(first if first is not None else second, name="epsilon")
    if not 0 < target < math.inf:
        raise SettingError(f"The target epsilon is {target:g}; allowed: a finite number above 0.")
    return target


def check_delta(delta: float) -> None:
    """δ is a probability, neither 0 nor 1."""
    if not 0 < number(delta, name="delta") < 1:
        raise SettingError(
            f"delta is {delta!r}; allowed: between 0 and 1, usually below one over the number of records."
        )


def check_rate(rate: float) -> None:
    """q is a probability above 0."""
    if not 0 < number(rate, name="sample_rate") <= 1:
        raise SettingError(f"sample_rate is {rate!r}; allowed: above 0 and at most 1 (batch size over records).")
