"""What an exposure means, in words for people who answer for the records and are no statisticians."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from scipy.special import ndtr, ndtri

from ..core.estimates import Estimate, holm
from ..core.probes import Finding
from . import evidence

if TYPE_CHECKING:
    from .exposure import Exposure

USUAL_MODELS = 64
LEVEL = 0.05


def findings(exposure: Exposure) -> list[Finding]:
    """Who is exposed and how surely, what that means, and what to know before trusting it."""
    return [
        *_named(exposure),
        *_pairs(exposure),
        *_epsilon(exposure),
        *_worth(exposure),
        *_strata(exposure),
        *_size(exposure),
        *_alike(exposure),
        *_null(exposure),
        *_trust(exposure),
    ]


def out_of_100(value: float) -> str:
    """A share as so many of a hundred.

    >>> out_of_100(0.0712), out_of_100(0.5), out_of_100(0.0004), out_of_100(1.0)
    ('7.1', '50', '0.04', '100')
    """
    return f"{100 * value:.0f}" if value >= 0.1 else f"{100 * value:.2g}"


def _range(estimate: Estimate) -> str:
    return f"{out_of_100(estimate.lo)} to {out_of_100(estimate.hi)}"


def _guess(fpr: float) -> str:
    """A false positive rate as so many wrong accusations.

    >>> _guess(0.01), _guess(0.05)
    ('1 wrong accusation in 100', '5 wrong accusations in 100')
    """
    count = 100 if fpr >= 0.01 else round(1 / fpr)
    wrong = f"{fpr * count:g}"
    return f"{wrong} wrong accusation{'s' * (wrong != '1')} in {count:,}"


def _named(exposure: Exposure) -> list[Finding]:
    main, fpr = exposure.main, exposure.questions.main
    line = main.lines.get(fpr)
    if line is None:
        rate = main.rates[fpr]
        exposed = rate.lo > fpr
        return [
            Finding(
                code="records-named",
                severity="warning" if exposed else "info",
                message=f"Of 100 training records an attacker who accepts {_guess(fpr)} names {out_of_100(rate.value)} "
                f"({_range(rate)}); guessing names {100 * fpr:g}. The line was drawn on these records themselves, "
                "which flatters the attack a little.",
                remedy=_remedy(exposed),
                value=rate.value,
            )
        ]
    exposed = line.tpr.lo > line.fpr.hi
    told = (
        f"Of 100 training records an attacker names {out_of_100(line.tpr.value)} ({_range(line.tpr)}), and wrongly "
        f"accuses {out_of_100(line.fpr.value)} of 100 other records ({_range(line.fpr)}), by a line that was drawn for "
        f"{_guess(fpr)} on models of its own. "
    )
    meaning = (
        "For a named record, its use in training is no secret."
        if exposed
        else "The two cannot be told apart with certainty here: no record stands out beyond what chance explains."
    )
    return [
        Finding(
            code="records-named",
            severity="warning" if exposed else "info",
            message=told + meaning,
            remedy=_remedy(exposed),
            value=line.tpr.value,
        )
    ]


def _remedy(exposed: bool) -> str:
    if not exposed:
        return ""
    return (
        "Train with privacy ('assay train dp-sgd'), or with less overfitting, and withhold the model's scores where "
        "nobody needs them. Whether being in the data is sensitive is for you to judge."
    )


def _pairs(exposure: Exposure) -> list[Finding]:
    area = exposure.main.auc
    told = (
        f"Shown one training record and one other record, the attack {exposure.main.label} picks the training record "
        f"in {out_of_100(area.value)} of 100 cases ({_range(area)}); guessing picks it in 50."
    )
    if area.lo <= 0.5 <= area.hi:
        told += " That is within what chance explains. It is no proof of privacy: another attack may find more."
    elif area.hi < 0.5:
        told += " Below 50 the scores point the wrong way: members and non-members may be swapped, or differ by nature."
    return [
        Finding(
            code="attack-advantage",
            severity="warning" if area.hi < 0.5 else "info",
            message=told,
            remedy="Check which file holds the members." if area.hi < 0.5 else "",
            value=area.value,
        )
    ]


def _epsilon(exposure: Exposure) -> list[Finding]:
    bound, stated = exposure.main.bound, exposure.questions.stated_epsilon
    if stated is not None and bound.epsilon > stated:
        return [
            Finding(
                code="epsilon-contradicted",
                severity="serious",
                message=f"The training states ε <= {stated:.3g} at δ = {bound.delta:g}, and the attack shows ε >= "
                f"{bound.epsilon:.3g} with {bound.level:.0%} confidence: the stated guarantee does not hold for this "
                "model, or these data are not what it was trained on.",
                remedy="Do not rely on the stated ε. Check which data were used, whether records come several times, "
                "and the code of the private training.",
                value=bound.epsilon,
            )
        ]
    message = str(bound)
    if bound.epsilon > 0:
        message += (
            f" No training with a smaller ε lets this happen: ε = {bound.epsilon:.2g} lets the belief in a record's "
            f"membership grow by a factor of e^ε = {math.exp(bound.epsilon):.2g}. The true ε may be far larger."
        )
    if stated is not None:
        message += f" It agrees with the ε <= {stated:.3g} that the training states."
    return [Finding(code="epsilon-lower-bound", severity="info", message=message, value=bound.epsilon)]


def _worth(exposure: Exposure) -> list[Finding]:
    line = exposure.main.lines.get(exposure.questions.main)
    if line is None or not exposure.questions.priors:
        return []
    prior = exposure.questions.priors[0]
    worth = line.predictive_value(prior)
    if math.isnan(worth.value):
        return []
    return [
        Finding(
            code="worth-of-an-accusation",
            severity="info",
            message=f"An accusation is worth less the rarer members are: where {out_of_100(prior)} in 100 of the "
            f"records that are looked at were used in training, {out_of_100(worth.value)} of 100 accusations are right "
            f"({_range(worth)}).",
            value=worth.value,
        )
    ]


def _strata(exposure: Exposure) -> list[Finding]:
    """Strata that leak more than chance explains, and more than the others, each family corrected by Holm."""
    found = []
    for kind in ("class", "group"):
        known = [(name, estimate) for at, name, estimate in exposure.by_stratum if at == kind]
        if len(known) < 2:
            continue
        p_values = holm([_above_half(estimate) for _, estimate in known])
        leaking = [name for (name, _), p in zip(known, p_values, strict=True) if p <= LEVEL]
        name, worst = max(known, key=lambda one: one[1].value)
        plural = "classes" if kind == "class" else "groups"
        named = f": {', '.join(leaking[:10])}" if leaking else ""
        message = (
            f"{len(leaking)} of {len(known)} {plural} {'is' if len(leaking) == 1 else 'are'} exposed beyond chance, "
            f"after Holm's correction for looking at all of them{named}. The most exposed {kind} is {name} "
            f"(AUC {worst.value:.2f}, {worst.lo:.2f} to {worst.hi:.2f}). "
        )
        apart = _apart(known)
        message += (
            f"More exposed than the other {plural} together: {', '.join(apart)}."
            if apart
            else f"That the {plural} differ from one another is not shown: the order of their bars may be chance."
        )
        found.append(
            Finding(
                code=f"exposure-by-{kind}",
                severity="warning" if apart else "info",
                message=message,
                remedy=f"Look at how many records these {plural} have, and how well they are learnt." if apart else "",
                value=float(len(leaking)),
            )
        )
    return found


def _logit(estimate: Estimate) -> tuple[float, float]:
    """The AUC on the logit, and its standard error there, from an interval that is symmetric on it."""
    value, lo, hi = (float(np.clip(end, 1e-6, 1 - 1e-6)) for end in (estimate.value, estimate.lo, estimate.hi))
    spread = (math.log(hi / (1 - hi)) - math.log(lo / (1 - lo))) / (2 * float(ndtri((1 + estimate.level) / 2)))
    return math.log(value / (1 - value)), max(spread, 1e-9)


def _above_half(estimate: Estimate) -> float:
    """One-sided p-value of an AUC of at most one half."""
    place, spread = _logit(estimate)
    return float(ndtr(-place / spread))


def _apart(known: list[tuple[str, Estimate]]) -> list[str]:
    """Strata whose AUC lies above the weighted mean of the others', after Holm's correction."""
    places = [_logit(estimate) for _, estimate in known]
    weights = np.array([1 / spread**2 for _, spread in places])
    values = np.array([place for place, _ in places])
    p_values = []
    for own in range(len(known)):
        others = np.arange(len(known)) != own
        mean = float(weights[others] @ values[others] / weights[others].sum())
        spread = math.sqrt(1 / weights[own] + 1 / weights[others].sum())
        p_values.append(float(ndtr(-(values[own] - mean) / spread)))
    return [name for (name, _), p in zip(known, holm(p_values), strict=True) if p <= LEVEL]


def _size(exposure: Exposure) -> list[Finding]:
    if not exposure.models or exposure.models >= USUAL_MODELS:
        return []
    asked = f"{exposure.queries} {'query' if exposure.queries == 1 else 'queries'} a record"
    return [
        Finding(
            code="small-pool",
            severity="info",
            message=f"The attacker of this audit trained {exposure.models} models of its own and asked {asked}. "
            "Published attacks use 64 to 256 models and find more, above all where hardly any accusation may be wrong. "
            "What was found is there; what was not found may be found by a larger attack.",
            remedy=exposure.questions.remedy,
            value=float(exposure.models),
        )
    ]


def _alike(exposure: Exposure) -> list[Finding]:
    blind = exposure.blind
    if blind is None or blind.lo <= 0.5 <= blind.hi:
        return []
    return [
        Finding(
            code="members-differ-by-nature",
            severity="warning",
            message=f"Models that never saw either already tell members from non-members (AUC {blind.value:.2f}, "
            f"{blind.lo:.2f} to {blind.hi:.2f}; 0.5 is expected): the two sets differ by nature, and part of what the "
            "attack finds may be that difference and not memory.",
            remedy="Give non-members that were drawn like the training data, such as a random part that was held out.",
            value=blind.value,
        )
    ]


def _null(exposure: Exposure) -> list[Finding]:
    shuffled = exposure.main.null.shuffled
    if shuffled.lo <= 0.5 <= shuffled.hi:
        return []
    return [
        Finding(
            code="null-is-off",
            severity="serious",
            message=f"With shuffled truths the AUC is {shuffled.lo:.3f} to {shuffled.hi:.3f}, where 0.5 must lie "
            "within: the scores or the evaluation are broken.",
            remedy="Report this with the data that show it.",
            value=shuffled.value,
        )
    ]


def _trust(exposure: Exposure) -> list[Finding]:
    """What sizes do not allow, lines that were not kept, and what the attacks themselves remarked."""
    main = exposure.main
    found = evidence.small_sets(main.curve, exposure.questions.fprs)
    for line in main.lines.values():
        found += line.findings()
    for judged in exposure.judged.values():
        found += judged.findings
    seen: set[tuple[str, str]] = set()
    return [one for one in found if (one.code, one.message) not in seen and not seen.add((one.code, one.message))]  # type: ignore[func-returns-value]
