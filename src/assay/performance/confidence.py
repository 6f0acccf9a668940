"""Probabilities from what a model returns, and a finding when it returns them already."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..core.probes import Finding

TOLERANCE = 1e-4


class Beliefs(NamedTuple):
    """What the model believes of every sample.

    probabilities: [N, K] float64, rows sum to 1.
    log_probabilities: [N, K] float64, never below log(1e-12).
    findings: remarks on the outputs.
    """

    probabilities: np.ndarray
    log_probabilities: np.ndarray
    findings: list[Finding]


def beliefs(logits: Tensor) -> Beliefs:
    """softmax(z) in float64; outputs that are probabilities already are taken as they are.

    Args:
        logits: [N, K].
    """
    values = logits.to(torch.float64)
    findings = []
    if look_like_probabilities(values):
        findings.append(
            Finding(
                code="outputs-are-probabilities",
                severity="warning",
                message="Every output lies in [0, 1] and every row sums to 1: these are probabilities, not logits. "
                "They were taken as they are; gradients of attacks through a softmax are weak.",
                remedy="Return the logits, the values before the softmax.",
            )
        )
        probabilities = values
        logarithms = values.log()
    else:
        logarithms = values.log_softmax(1)
        probabilities = logarithms.exp()
    floor = float(np.log(1e-12))
    return Beliefs(probabilities.numpy(), logarithms.clamp_min(floor).numpy(), findings)


def look_like_probabilities(outputs: Tensor) -> bool:
    """Whether every row is a distribution: within [0, 1], summing to 1 within 1e-4.

    >>> look_like_probabilities(torch.tensor([[0.5, 0.5]])), look_like_probabilities(torch.tensor([[2.0, -1.0]]))
    (True, False)
    """
    inside = bool(((outputs >= -TOLERANCE) & (outputs <= 1 + TOLERANCE)).all())
    return inside and bool(((outputs.sum(1) - 1).abs() <= TOLERANCE).all())
