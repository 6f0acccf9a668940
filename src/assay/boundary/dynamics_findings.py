"""What a boundary-dynamics probe remarks: what was seen, and what to know before trusting it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from ..core.probes import Finding
from .conflict import conflict, left_out
from .dynamics_view import WORDS, View

if TYPE_CHECKING:
    from ..subjects.examination import Examination
    from .moments import Training

FEW = 20
DEVIATION = 0.01


def findings(view: View, training: Training, examination: Examination) -> list[Finding]:
    """What was seen, and what to know before trusting it."""
    found = [
        Finding(
            code="how-to-read",
            severity="info",
            message="A relative speed s below 0 says that the boundary comes closer to the sample if the weights "
            "move a little along the direction; s is the change of the margin in raw input units. The formula "
            "counts all pixels as free to change: where the closest boundary point lies at the end of the pixel "
            "range the true speed is larger in size and has the same sign.",
        ),
        *_seen(view),
        *_apart(view),
        *_trust(view),
    ]
    count = len(view.last.margin)
    if examination.data.digest != training.data_digest and training.data_digest:
        found.append(
            Finding(
                code="not-the-training-data",
                severity="info",
                message=f"The {count} samples were taken from other data than the training's (their digest differs "
                "from the one in the run's record): recipes are asked where they would go on these samples.",
                remedy="Give the training data with the split and the limit of the training.",
            )
        )
    if view.kept_moments and training.settings.ema is not None:
        found.append(
            Finding(
                code="weights-before-averaging",
                severity="info",
                message="The moments are the weights that were trained; the model of the run is their moving "
                "average, whose boundary lags behind.",
            )
        )
    return found


def _seen(view: View) -> list[Finding]:
    steps = ", ".join(f"{look.step:,}" for look in view.looks)
    when = f"Looked after {steps} steps" if view.kept_moments else "Looked at the finished weights alone"
    found = [
        Finding(
            code="moments",
            severity="info",
            message=f"{when}, at {len(view.last.margin)} samples; {int(view.vulnerable(view.last).sum())} of them "
            f"have a margin below {view.below:.4g} {view.at(view.last)}.",
            remedy=""
            if view.kept_moments
            else "The run kept no weights on the way; train with --watch N to see how the boundary moved.",
        )
    ]
    for look in [look for look in view.looks[-1:] if view.first in look.speeds]:
        share = conflict(look.speeds[view.first], look.margin, view.below)
        if share.n:
            found.append(
                Finding(
                    code="conflicting-dynamics",
                    severity="info",
                    message=f"Under {WORDS[view.first]} the boundary comes closer to {share.value:.0%} of the "
                    f"{share.n} vulnerable samples {view.at(look)} ({share.lo:.0%} to {share.hi:.0%})"
                    + _peak(view)
                    + ".",
                    value=share.value,
                )
            )
    return found


def _peak(view: View) -> str:
    """The moment at which most vulnerable samples lost margin, where there are several."""
    shares = [
        (conflict(look.speeds[view.first], look.margin, view.below), look)
        for look in view.looks
        if view.first in look.speeds
    ]
    shares = [(share, look) for share, look in shares if share.n >= FEW]
    if len(shares) < 2:
        return ""
    share, look = max(shares, key=lambda pair: pair[0].value)
    if look is view.last:
        return "; at no other moment was it more"
    return f"; at most it was {share.value:.0%} of {share.n} {view.at(look)}"


def _apart(view: View) -> list[Finding]:
    """The gradient flow of the recipe against the optimiser's step."""
    both = [look for look in view.looks if {"step", "own"} <= look.speeds.keys()]
    agree, count = 0, 0
    for look in both:
        one, other = look.speeds["own"], look.speeds["step"]
        known = view.vulnerable(look) & np.isfinite(one) & np.isfinite(other)
        agree, count = agree + int(((one < 0) == (other < 0))[known].sum()), count + int(known.sum())
    if not count:
        return []
    return [
        Finding(
            code="flow-and-step",
            severity="info",
            message=f"The recipe's gradient flow on these samples and the optimiser's step agree on whether a "
            f"vulnerable sample gains or loses margin in {agree / count:.0%} of {count} cases, over {len(both)} "
            "moments. The step is that of one batch of the training, with momentum, weight decay and running "
            "statistics.",
            value=agree / count,
        )
    ]


def _trust(view: View) -> list[Finding]:
    found = []
    lost = {look.step: int((~np.isfinite(look.margin)).sum()) for look in view.looks}
    missing = int((~np.isfinite(view.last.margin)).sum())
    if any(lost.values()):
        where = ", ".join(f"{count} after {step:,} steps" for step, count in lost.items() if count)
        found.append(
            Finding(
                code="no-boundary-point",
                severity="warning" if missing >= 0.1 * len(view.last.margin) else "info",
                message=f"Of {len(view.last.margin)} samples some have no boundary point that the search could "
                f"find, and are left out: {where}."
                + ("" if missing else " A model that has not learnt yet may have none within the pixel range."),
                remedy="Raise steps. Where the logits differ by less than log(K - 1) / temperature, the soft margin "
                "is below 0 everywhere and there is no boundary: train longer, or raise the temperature."
                if missing
                else "",
                value=float(max(lost.values())),
            )
        )
    flat = sum(
        left_out(speed[np.isfinite(look.margin)], look.margin[np.isfinite(look.margin)])
        for look in view.looks
        for speed in look.speeds.values()
    )
    if flat:
        found.append(
            Finding(
                code="no-speed",
                severity="info",
                message=f"{flat} speeds do not exist because the model is flat at the boundary point (its input "
                "gradient is 0), and are left out.",
            )
        )
    for name, reason in view.unavailable.items():
        found.append(
            Finding(code="direction-left-out", severity="info", message=f"No speeds under {WORDS[name]}: {reason}")
        )
    if math.isfinite(view.last.deviation):
        far = view.last.deviation > DEVIATION
        found.append(
            Finding(
                code="self-check",
                severity="warning" if far else "info",
                message="Forward-mode derivatives and finite differences in float64 differ by at most "
                f"{view.last.deviation:.1e} of the largest speed at the last moment.",
                remedy="The network has kinks at boundary points or rounds coarsely; trust signs of large speeds only."
                if far
                else "",
                value=view.last.deviation,
            )
        )
    few = int(view.vulnerable(view.last).sum())
    if few < FEW:
        found.append(
            Finding(
                code="few-vulnerable",
                severity="warning",
                message=f"Only {few} samples are vulnerable at the last moment, so shares among them say little.",
                remedy="Look at more samples, or at a larger radius (below).",
                value=float(few),
            )
        )
    return found
