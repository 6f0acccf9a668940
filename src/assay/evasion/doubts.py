"""Reasons to doubt an attack on any task: what answers, gradients and references give away."""

from __future__ import annotations

from typing import NamedTuple, NoReturn

import torch
from torch import Tensor

from ..core.errors import DataError, ModelError
from ..core.probes import Finding
from ..search.threat import ThreatModel

_CLOSE = 1e-4


class Signs(NamedTuple):
    """Counts of samples.

    Args:
        probabilities: whose answer looks like probabilities in place of logits.
        still: whose gradient was zero at the start of a search.
        unmoved: that no search made worse than the clean input, successes at the clean input left out.
    """

    probabilities: int = 0
    still: int = 0
    unmoved: int = 0

    def plus(self, other: Signs) -> Signs:
        """Counts of more samples."""
        return Signs(*(mine + theirs for mine, theirs in zip(self, other, strict=True)))


def are_probabilities(output: Tensor, task: str) -> Tensor:
    """Whose answers [B, K, ...] are not below 0 and add up to 1 over classes: [B] bool."""
    if task not in ("classification", "segmentation"):
        return torch.zeros(len(output), dtype=torch.bool)
    flat = output.flatten(1)
    sums = output.sum(1).reshape(len(output), -1)
    return (flat >= -_CLOSE).all(1) & ((sums - 1).abs() < _CLOSE).all(1)


def of_model(randomised: bool) -> list[Finding]:
    """A model that does not repeat itself."""
    if not randomised:
        return []
    return [
        Finding(
            code="randomised",
            severity="serious",
            message="The model answers the same inputs differently when asked again.",
            remedy="Switch its randomness off: an attack on single answers understates the harm, and its result cannot "
            "be repeated.",
        )
    ]


def of_excluded(excluded: Tensor) -> list[Finding]:
    """Images that cannot be attacked."""
    count = int(excluded.sum())
    if not count:
        return []
    return [
        Finding(
            code="no-valid-pixels",
            severity="warning",
            message=f"{count} of {len(excluded)} images have no pixel that counts; they were left as they are and "
            "count in no result.",
            remedy="Check their references: ignored classes, missing depth, or limits that are too tight.",
            value=count / len(excluded),
        )
    ]


def of_signs(signs: Signs, count: int, threat: ThreatModel) -> list[Finding]:
    """What the course of an attack on ``count`` samples gives away."""
    findings = []
    if signs.probabilities:
        findings.append(
            Finding(
                code="probabilities",
                severity="serious",
                message=f"{signs.probabilities} of {count} answers look like probabilities, not logits: a softmax on "
                "top of them flattens the gradient, and the attack is too weak.",
                remedy="Have the model return what goes into its softmax; with sliding windows, average logits.",
                value=signs.probabilities / count,
            )
        )
    if signs.still > 0.05 * count:
        findings.append(
            Finding(
                code="zero-gradients",
                severity="serious" if signs.still > 0.5 * count else "warning",
                message=f"{signs.still} of {count} samples have no gradient at a random point near the clean input.",
                remedy="Gradients vanish or are cut off: try another objective, and look for rounding, detach() or "
                "saturated answers in the model.",
                value=signs.still / count,
            )
        )
    if threat.eps > 0 and signs.unmoved > 0.05 * count:
        findings.append(
            Finding(
                code="unmoved",
                severity="warning",
                message=f"For {signs.unmoved} of {count} samples no point was worse than the clean input.",
                remedy="Try more steps, more restarts or another objective before calling these samples robust.",
                value=signs.unmoved / count,
            )
        )
    return findings


def of_gradients(broken: int) -> list[Finding]:
    """Gradients that are not numbers."""
    if not broken:
        return []
    return [
        Finding(
            code="broken-gradients",
            severity="warning",
            message=f"{broken} gradients held NaN or infinity; those entries counted as 0.",
            remedy="Look for divisions by zero and square roots at zero in the model.",
            value=float(broken),
        )
    ]


def refuse_shapes(reference: Tensor, clean: Tensor) -> NoReturn:
    """Raise for references that are not of the shape of the answers."""
    raise DataError(
        f"The references have shape {tuple(reference.shape[1:])} a sample and the model's representations "
        f"{tuple(clean.shape[1:])}. Give those of the same model and space, or None for those of the clean images."
    )


def refuse_vectors(clean: Tensor, objective: str) -> NoReturn:
    """Raise for representations without places where patches are attacked."""
    raise ModelError(
        f"The objective {objective!r} needs a patch map [B, D, h, w], and the model returns {tuple(clean.shape[1:])} a "
        f"sample. Give an Encoder, or use {objective.replace('-patch', '')!r}."
    )
