"""How many tokens a detection needs, before any text is marked: theorem 4.2 with a spike entropy given or estimated.

The entropy of a model on one's own prompts is the mean spike entropy of its distributions, before the mark, over
the steps of unmarked continuations. Low entropy (code, lists, quotations) carries little of a mark.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.special import ndtri

from ..core.errors import DataError, SettingError
from ..core.estimates import Estimate, bootstrap
from ..core.files import plain
from ..core.progress import Progress
from ..core.seeds import seed as named_seed
from .theory import (
    choices_entropy,
    green_rate,
    perplexity_bound,
    spike_entropy,
    spike_modulus,
    tokens_needed,
    tokens_needed_gumbel,
)

if TYPE_CHECKING:
    from ..subjects.language import LanguageModel

CHOICES = (1.5, 2.0, 3.0, 5.0, 10.0)


@dataclass(frozen=True, kw_only=True)
class Need:
    """Tokens needed at one entropy, error rate and power.

    Args:
        entropy: average spike entropy S*.
        choices: so many equally likely tokens at every step would have this entropy.
        green: least share of green tokens in marked text, q; None for the Gumbel mark.
        fpr: share of unmarked texts that may be called marked.
        z: the normal quantile that belongs to it, for comparison with published thresholds.
        power: share of marked texts that is found, at least.
        tokens: the number; infinite where the theorem promises no excess of green tokens.
    """

    entropy: float
    choices: float
    green: float | None
    fpr: float
    z: float
    power: float
    tokens: float


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a mark needs, and what it costs.

    Args:
        scheme: ``"green"`` for every scheme with green lists, or ``"gumbel"``.
        gamma: share of green tokens.
        delta: bonus, nats; infinite for a hard mark.
        modulus: of the spike entropies.
        perplexity: largest factor on a token's expected perplexity term (theorem 4.3); None for the Gumbel mark.
        entropy: the estimate from a model and prompts, or None where entropies were given.
        needs: one for each entropy, error rate and power.
    """

    scheme: str
    gamma: float
    delta: float
    modulus: float
    perplexity: float | None
    entropy: Estimate | None
    needs: tuple[Need, ...]

    def tokens(self, entropy: float, fpr: float, power: float) -> float:
        """The number of tokens of one entry."""
        for need in self.needs:
            if (need.entropy, need.fpr, need.power) == (entropy, fpr, power):
                return need.tokens
        raise SettingError(f"The plan has no entry for entropy {entropy:g}, fpr {fpr:g} and power {power:g}.")

    def as_dict(self) -> dict[str, Any]:
        """Plain values; what is infinite is None, and ``"reachable"`` is false."""
        needs = [
            {
                **asdict(need),
                "choices": _finite(need.choices),
                "tokens": _finite(need.tokens),
                "reachable": math.isfinite(need.tokens),
            }
            for need in self.needs
        ]
        return {
            "scheme": self.scheme,
            "gamma": self.gamma,
            "delta": _finite(self.delta),
            "hard": math.isinf(self.delta),
            "modulus": self.modulus,
            "perplexity_factor_bound": None if self.perplexity is None else _finite(self.perplexity),
            "entropy": None if self.entropy is None else plain(asdict(self.entropy)),
            "needs": needs,
        }

    def sentences(self) -> list[str]:
        """The plan in plain words, for its first error rate and power."""
        if not self.needs:
            return []
        fpr, power = self.needs[0].fpr, self.needs[0].power
        wrong = f"{fpr:.0%}" if fpr >= 0.01 else f"1 in {1 / fpr:,.0f}"
        goal = f"to find {power:.0%} of the marked texts while {wrong} of the unmarked texts is called marked"
        shown = [need for need in self.needs if (need.fpr, need.power) == (fpr, power)]
        if len(shown) > 1:
            shown = [shown[0], shown[len(shown) // 2], shown[-1]]
        said = []
        if self.entropy is not None:
            ends = (self.entropy.lo, self.entropy.hi)
            between = f", between {ends[0]:.3g} and {ends[1]:.3g}" if all(map(math.isfinite, ends)) else ""
            said.append(
                f"The model's mean spike entropy on these prompts is {self.entropy.value:.3g}{between}, measured over "
                f"{self.entropy.n:,} tokens." + (" More prompts would tell how sure that is." if not between else "")
            )
        for need in shown:
            where = f"At a spike entropy of {need.entropy:.3g}, as if among {need.choices:.3g} equally likely tokens,"
            if math.isinf(need.tokens):
                said.append(f"{where} no length is enough: such text cannot carry the mark.")
            else:
                said.append(f"{where} {need.tokens:,.0f} tokens are enough {goal}.")
        if self.perplexity is not None:
            said.append(
                f"The mark raises the expected perplexity term of a token by a factor of at most {self.perplexity:.3g}."
                if math.isfinite(self.perplexity)
                else "A hard mark has no bound on what it costs in perplexity."
            )
        return said


def plan(
    gamma: float = 0.25,
    delta: float = 2.0,
    *,
    fprs: Sequence[float] = (1e-6,),
    powers: Sequence[float] = (0.95,),
    entropies: Sequence[float] | Estimate | None = None,
    scheme: str = "green",
) -> Plan:
    """How many tokens are needed, for every entropy, error rate and power.

    Args:
        gamma: share of green tokens, in (0, 1).
        delta: bonus of green tokens, nats; ``math.inf`` for a hard mark.
        fprs: error rates, in (0, 1).
        powers: shares of marked texts to be found, in (0, 1).
        entropies: average spike entropies at the modulus z of gamma and delta, from ``1 / (1 + z)``, no choice, to 1;
            or an estimate, of which the value and both ends are used. Default: those of 1.5 to 10 equally likely
            tokens.
        scheme: ``"green"``, or ``"gumbel"``, whose need depends on entropy alone: gamma and delta then only give
            entropies their meaning.

    Raises:
        SettingError: a value is not allowed.

    >>> plan(0.5, math.inf, fprs=[3e-5], powers=[0.5], entropies=[0.8]).needs[0].tokens
    16
    """
    if not fprs or not powers:
        raise SettingError("fprs or powers are empty; give at least one of each, such as 1e-6 and 0.95.")
    if scheme not in ("green", "gumbel"):
        raise SettingError(f"scheme is {scheme!r}; allowed: 'green' for every scheme with green lists, or 'gumbel'.")
    estimate = entropies if isinstance(entropies, Estimate) else None
    modulus = spike_modulus(gamma, delta)
    if estimate is not None:
        values = _ends(estimate)
    else:
        given = [choices_entropy(n, gamma, delta) for n in CHOICES] if entropies is None else entropies
        values = [float(value) for value in given]  # type: ignore[union-attr]
    for value in values:
        if not 1 / (1 + modulus) - 1e-9 <= value <= 1:
            raise SettingError(
                f"entropy is {value:g}; with gamma {gamma:g} and delta {delta:g} a spike entropy lies between "
                f"{1 / (1 + modulus):.3g}, where there is no choice, and 1."
            )
    needs = []
    for fpr in fprs:
        for power in powers:
            for entropy in values:
                number = choices(entropy, modulus)
                green = None if scheme == "gumbel" else green_rate(entropy, gamma, delta)
                tokens = (
                    tokens_needed_gumbel(number, fpr=fpr, power=power)
                    if scheme == "gumbel"
                    else tokens_needed(gamma, delta, entropy, fpr=fpr, power=power)
                )
                z = float(-ndtri(fpr))
                needs.append(
                    Need(entropy=entropy, choices=number, green=green, fpr=fpr, z=z, power=power, tokens=tokens)
                )
    return Plan(
        scheme=scheme,
        gamma=gamma,
        delta=delta,
        modulus=modulus,
        perplexity=None if scheme == "gumbel" else perplexity_bound(gamma, delta),
        entropy=estimate,
        needs=tuple(needs),
    )


def choices(entropy: float, modulus: float) -> float:
    """How many equally likely tokens have this spike entropy: ``S = N / (N + z)`` solved for N, at least 1.

    >>> round(choices(0.8, 1.0), 3)
    4.0
    """
    if not 0 < entropy <= 1:
        raise SettingError(f"entropy is {entropy}; a spike entropy is above 0 and at most 1.")
    return max(1.0, modulus * entropy / (1 - entropy)) if entropy < 1 else math.inf


def estimate_entropy(
    lm: LanguageModel,
    prompts: Sequence[Sequence[int]],
    gamma: float = 0.25,
    delta: float = 2.0,
    *,
    new_tokens: int = 100,
    temperature: float = 1.0,
    top_k: int = 0,
    top_p: float = 1.0,
    seed: int = 0,
    batch_size: int = 16,
    progress: Progress | None = None,
) -> Estimate:
    """The mean spike entropy of a model over unmarked continuations of prompts.

    The distribution of a step is the model's, before temperature and other warpers: there the mark is applied.

    Args:
        lm: the model.
        prompts: ids of each prompt, at least one.
        gamma, delta: of the mark, for the modulus.
        new_tokens: length of each continuation.
        temperature, top_k, top_p: how continuations are drawn.
        seed: root of the random streams.
        batch_size: prompts at once.
        progress: where progress is shown.

    Returns:
        The mean over steps with a bootstrap interval over prompts; n counts steps.

    Cost: two passes of the model over each new token.
    """
    from .generation import generate

    if not prompts:
        raise DataError("There is no prompt; give at least one, as the model is used.")
    progress = progress or Progress(enabled=False)
    texts = generate(
        lm,
        [list(prompt) for prompt in prompts],
        None,
        new_tokens=new_tokens,
        temperature=temperature,
        top_k=top_k,
        top_p=top_p,
        seed=seed,
        batch_size=batch_size,
        progress=progress,
    )
    modulus = spike_modulus(gamma, delta)
    found, clusters = [], []
    with progress.task("Spike entropies", total=len(texts)) as task:
        for number, (prompt, ids) in enumerate(zip(prompts, texts, strict=True)):
            if ids:
                rows = lm.next_probabilities([*prompt, *ids])[len(prompt) - 1 :]
                values = np.asarray(spike_entropy(rows, modulus=modulus), dtype=np.float64)
                found.append(values)
                clusters.append(np.full(len(values), number))
            task.advance()
    if not found:
        raise DataError("The model ended every text at once, so that there is no step to measure. Give other prompts.")
    return bootstrap(
        np.concatenate(found), clusters=np.concatenate(clusters), seed=named_seed(seed, "watermark-plan", "entropy")
    )


def _ends(estimate: Estimate) -> list[float]:
    """Lower end, value and upper end of an estimate, where they are different and finite."""
    values = [estimate.lo, estimate.value, estimate.hi]
    return sorted({min(1.0, max(1e-9, value)) for value in values if math.isfinite(value)})


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
