"""What a private training is going to do, in the numbers that its privacy depends on."""

from __future__ import annotations

import functools
import importlib.util
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .accounting import calibrate_noise, effective_noise, epsilon
from .ledger import Event, Ledger
from .statements import not_valid

if TYPE_CHECKING:
    from .dp_sgd import DPSGD

DEFAULT_NOISE = 1.0


@dataclass(frozen=True)
class Plan:
    """A fixed number of equal steps.

    Args:
        noise_multiplier: σ, the gradient noise as a multiple of the clip rule's sensitivity.
        effective: noise multiplier of gradient and counts together, which is what is charged.
        sample_rate: probability q of a sample to take part in a step.
        steps: number of steps.
        delta: δ.
        population: number of samples, taken as public.
        sampling: ``"poisson"`` or ``"shuffled"``.
        target: the epsilon that was asked for, or None.
    """

    noise_multiplier: float
    effective: float
    sample_rate: float
    steps: int
    delta: float
    population: int
    sampling: str
    target: float | None

    @property
    def event(self) -> Event:
        """What one step charges."""
        return Event(noise_multiplier=self.effective, sample_rate=self.sample_rate, sampling=self.sampling)

    @property
    def not_valid(self) -> str:
        """Why no epsilon can be stated, as the end of a sentence after "because"; ``""`` where one can."""
        ledger = Ledger()
        ledger.charge(self.event, self.steps)
        return not_valid(ledger)

    def epsilon(self, accountant: str, steps: int | None = None) -> float:
        """ε after so many steps, all of them by default; for sampling that allows one."""
        return epsilon(
            noise_multiplier=self.effective,
            sample_rate=self.sample_rate,
            steps=self.steps if steps is None else steps,
            delta=self.delta,
            accountant=accountant,
        )

    def allows(self, steps: int) -> bool:
        """Whether so many steps stay within the target epsilon, if there is one."""
        return steps <= self.steps or self.target is None or self.epsilon("rdp", steps) <= self.target


def plan_of(recipe: DPSGD, *, population: int, batch_size: int, steps: int) -> Plan:
    """The plan of a recipe's settings for a number of samples and steps.

    Raises:
        SettingError: no noise reaches the target epsilon.
        MissingExtra: the accountants are not installed.
    """
    rule, rate = recipe.rule(), min(1.0, batch_size / population)
    centred = bool(getattr(rule, "centred", False))
    noise = recipe.noise_multiplier if recipe.noise_multiplier is not None else DEFAULT_NOISE
    if recipe.epsilon is not None:
        noise = _calibrated(recipe.epsilon, rate, steps, recipe.delta, rule.count_noise, centred)
    plan = Plan(
        noise_multiplier=noise,
        effective=effective_noise(noise, rule.count_noise, centred),
        sample_rate=rate,
        steps=steps,
        delta=recipe.delta,
        population=population,
        sampling=recipe.sampling,
        target=recipe.epsilon,
    )
    if importlib.util.find_spec("opacus") is None:
        plan.epsilon("rdp")  # fails now rather than after the training; the import itself takes seconds
    return plan


@functools.lru_cache(maxsize=64)
def _calibrated(
    target: float, rate: float, steps: int, delta: float, count_noise: float | None, centred: bool
) -> float:
    return calibrate_noise(target, sample_rate=rate, steps=steps, delta=delta, count_noise=count_noise, centred=centred)
