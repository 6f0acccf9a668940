"""Upper bounds on ε for composed subsampled Gaussian steps: by Rényi divergence, by numerical composition, by CLT.

All three stand on Opacus' analysis functions; what is added here is where those end: orders beyond
theirs, results below 0, and inputs on which the numerical composition fails or fills the memory.
Adjacency is adding or removing one record, sampling is Poisson.
"""

from __future__ import annotations

import functools
import math
import warnings
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from ..core.errors import MissingExtra, Unsupported

_FRACTIONS = tuple(1 + tenth / 10 for tenth in range(1, 100))
_ORDERS = (*_FRACTIONS, *(float(order) for order in range(11, 64)))
_LOW_ORDERS = (1.002, 1.005, 1.01, 1.02, 1.05)  # only these reach the optimum where epsilon is in the hundreds
_HIGH_ORDERS = (72.0, 80.0, 96.0, 112.0, 128.0, 160.0, 192.0, 224.0, 256.0, 320.0, 384.0, 448.0, 512.0, 768.0, 1024.0)
_CLOSED_ORDERS = tuple(np.geomspace(1152, 1e8, 120).tolist())  # for q = 1, where the divergence has a closed form

_EPS_ERROR = 0.01  # Opacus' own; the result includes it, so it stays an upper bound
_LEAST_ERROR = 0.001
_MAX_POINTS = 1 << 22  # 4 M points: about 2 s and 300 MB
_MAX_RANGE = 650.0  # beyond it exp(range) leaves float64


class Steps(NamedTuple):
    """``number`` steps of the Gaussian mechanism with multiplier ``noise`` on Poisson samples of rate ``rate``."""

    noise: float
    rate: float
    number: int


def rdp(steps: Sequence[Steps], delta: float) -> float:
    """ε by Rényi differential privacy: min over orders α of the converted Σ_steps T · RDP_α(q, σ).

    Reference:
        Mironov et al., Rényi Differential Privacy of the Sampled Gaussian Mechanism, 2019, arXiv:1908.10530;
        conversion: Balle et al., 2020, arXiv:1905.09982.
    """
    orders: tuple[float, ...] = _ORDERS
    value, best = _converted(steps, delta, orders)
    if best <= orders[0]:
        value, best = _converted(steps, delta, (*_LOW_ORDERS, *orders))
    elif best >= orders[-1]:
        beyond = _CLOSED_ORDERS if all(step.rate == 1 for step in steps) else ()
        value, best = _converted(steps, delta, (*orders, *_HIGH_ORDERS, *beyond))
    return max(value, 0.0)


def prv(steps: Sequence[Steps], delta: float) -> float:
    """ε by numerical composition of privacy loss random variables, never above ``rdp``.

    The upper end of the error interval is returned; its half width is 0.01, down to 0.001 where ε is
    small, and more (at most ε/50) where 0.01 would take more than 4 million points. Opacus' routine is exact only up to
    such a width, so for ε of that order the Rényi bound is the smaller one and is returned.

    Opacus composes the loss for removing a record, the larger of the two directions for one step (both for the
    Gaussian without sampling); no case is known where adding one is the larger after composition.

    Raises:
        Unsupported: ε or the number of steps is so large that the discretisation does not fit into
            float64 or memory; the message gives the bound by ``rdp``.

    Cost: about 0.1 to 3 s.

    Reference:
        Gopi, Lee, Wutschitz, Numerical Composition of Differential Privacy, 2021, arXiv:2106.02848.
    """
    analysis = _analysis("prv")
    ceiling = rdp(steps, delta)
    if ceiling == 0:
        return 0.0
    delta_error = delta / 1000
    total = sum(step.number for step in steps)
    tails = [rdp(steps, delta_error / 4), *(rdp([s._replace(number=1)], delta_error / (8 * total)) for s in steps)]
    reach = max(tails) + 3
    spread = math.sqrt(total * math.log(12 / delta_error) / 2)  # mesh = eps_error / spread
    eps_error = max(min(_EPS_ERROR, max(ceiling / 100, _LEAST_ERROR)), 2 * reach * spread / _MAX_POINTS)
    if not reach <= _MAX_RANGE or eps_error > max(_EPS_ERROR, ceiling / 50) or eps_error >= 1:
        raise _out_of_reach(ceiling, f"a range of ±{reach:.3g} in steps of {_EPS_ERROR / spread:.1g}")
    for widening in (1, 3, 10):  # a coarser mesh tolerates more error in the quadrature of the mean
        width = eps_error * widening
        if width > max(_EPS_ERROR, ceiling / 50):
            break
        bound = _composed(analysis, steps, delta, delta_error, width, reach, width / spread)
        if bound is not None:
            return max(min(bound, ceiling), 0.0)
    raise _out_of_reach(ceiling, "Opacus' discretisation is not accurate enough there")


def gdp(steps: Sequence[Steps], delta: float) -> float:
    """ε by the central limit theorem of Gaussian differential privacy. **An approximation, not a bound.**

    μ² = Σ T q² (exp(σ^-2) - 1), and ε is that of one Gaussian mechanism with σ = 1/μ. Good for many
    steps at a small sample rate; elsewhere it can be too small.

    Reference:
        Bu, Dong, Long, Su, Deep Learning with Gaussian Differential Privacy, 2020, arXiv:1911.11607.
    """
    analysis = _analysis("gdp")
    with np.errstate(over="ignore"):
        parts = [
            float(
                analysis.compute_mu_poisson(
                    steps=step.number, noise_multiplier=np.float64(step.noise), sample_rate=step.rate
                )
            )
            for step in steps
        ]
    mu = math.hypot(*parts)
    return gaussian(1 / mu, delta) if mu > 0 else 0.0


def gaussian(noise: float, delta: float) -> float:
    """ε of the Gaussian mechanism, exact: the root of Φ(1/2σ - εσ) - e^ε Φ(-1/2σ - εσ) = δ, at least 0."""
    from scipy.optimize import brentq
    from scipy.special import log_ndtr

    if noise == 0:
        return math.inf

    def excess(epsilon: float) -> float:
        """log δ(ε) - log δ; decreasing."""
        first = float(log_ndtr(0.5 / noise - epsilon * noise))
        ratio = epsilon + float(log_ndtr(-0.5 / noise - epsilon * noise)) - first
        return first + math.log(-math.expm1(ratio)) - math.log(delta) if ratio < 0 else -math.inf

    if excess(0.0) <= 0:
        return 0.0
    high = 1.0
    while excess(high) > 0:
        high *= 2
        if high > 1e15:
            return math.inf
    root = brentq(lambda epsilon: max(excess(epsilon), -1e300), 0.0, high, xtol=1e-13, rtol=1e-12)
    return float(root)


ACCOUNTANTS: dict[str, Callable[[Sequence[Steps], float], float]] = {"rdp": rdp, "prv": prv, "gdp": gdp}


def _converted(steps: Sequence[Steps], delta: float, orders: tuple[float, ...]) -> tuple[float, float]:
    analysis = _analysis("rdp")
    divergence = np.zeros(len(orders))
    for step in steps:
        divergence += step.number * np.array(_divergences(step.rate, step.noise, orders))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # "optimal order is the largest": the caller extends the orders
        value, best = analysis.get_privacy_spent(orders=list(orders), rdp=divergence, delta=delta)
    return (float(value), float(best)) if math.isfinite(value) else (math.inf, orders[0])


@functools.lru_cache(maxsize=512)
def _divergences(rate: float, noise: float, orders: tuple[float, ...]) -> tuple[float, ...]:
    """RDP of one step at each order; an order at which the series fails gives no bound."""
    analysis = _analysis("rdp")
    found = []
    with np.errstate(all="ignore"):
        for order in orders:
            try:
                value = float(analysis.compute_rdp(q=rate, noise_multiplier=noise, steps=1, orders=order))
            except (ValueError, OverflowError):
                value = math.inf
            found.append(math.inf if math.isnan(value) else max(value, 0.0))
    return tuple(found)


def _composed(
    analysis: Any, steps: Sequence[Steps], delta: float, delta_error: float, eps_error: float, reach: float, mesh: float
) -> float | None:
    """Upper end of the interval for ε, or None where Opacus' routine says that it is not accurate."""
    domain = analysis.Domain.create_aligned(-reach, reach, mesh)
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of scipy's quadrature; its error shows in the mean, which is checked
        try:
            parts = []
            for step in steps:
                variable = analysis.PoissonSubsampledGaussianPRV(step.rate, step.noise)
                truncated = analysis.TruncatedPrivacyRandomVariable(variable, domain.t_min, domain.t_max)
                parts.append(analysis.discretize(truncated, domain))
            whole = analysis.compose_heterogeneous(dprvs=parts, num_self_compositions=[step.number for step in steps])
            upper = float(whole.compute_epsilon(delta, delta_error, eps_error)[2])
        except (RuntimeError, ValueError):
            return None
    return upper if math.isfinite(upper) else None


def _out_of_reach(ceiling: float, why: str) -> Unsupported:
    return Unsupported(
        f"The accountant 'prv' cannot compose these steps numerically: {why}. "
        f"Use accountant='rdp', which bounds epsilon by {ceiling:.4g}, or ask for fewer steps or more noise."
    )


def _analysis(name: str) -> Any:
    """Opacus' analysis module; importing it takes seconds, so it is done when a figure is asked for."""
    import importlib

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return importlib.import_module(f"opacus.accountants.analysis.{name}")
    except ImportError as error:
        raise MissingExtra("opacus", "privacy", "Privacy accounting") from error
