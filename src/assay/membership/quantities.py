"""Quantities: the number that is read off one answer of a model, given the true class.

With logits z and the true class y, the quantities are

    confidence           φ = z_y − log Σ_{c≠y} exp z_c        (the logit of the true class's probability)
    loss                 −log p_y = log(1 + exp(−φ))
    probability          p_y, with log-probability its logarithm
    hinge                z_y − max_{c≠y} z_c
    taylor-probability   T(z_y/τ − m) / (T(z_y/τ − m) + Σ_{c≠y} T(z_c/τ)),  T(u) = Σ_{k≤n} u^k / k!
    correct              1 where the answer is the true class (the first of several largest logits), else 0

all in float64 and from logits in closed form, so that nothing is rounded away where a model is sure. A logit of -inf
is a probability of zero; a confidence that is infinite by it is taken as if that probability were 2^-149, the least
that float32 can hold: ±103.3. Answers with NaN or +inf, or with -inf for every class, are missing answers (NaN).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from scipy.special import expit, log_expit

from ..core.errors import SettingError, did_you_mean
from . import checks

SIGNALS = ("confidence", "loss", "hinge", "probability", "log-probability", "taylor-probability", "correct")
CAP = 149 * math.log(2)
_CHUNK = 1 << 17


def signal_of(
    logits: Any, labels: Any, name: str = "confidence", temperature: float = 1.0, order: int = 4, margin: float = 0.6
) -> np.ndarray:
    """One signal of logits [..., C] with labels that belong to the first axes; float64 [...].

    Args:
        logits: [..., C]; for ``"correct"`` also predicted classes [..., 1].
        labels: int; its shape is the first axes of the logits, such as [N] for [N, K, C].
        name: one of ``SIGNALS``.
        temperature: logits are divided by it.
        order: of the Taylor polynomial.
        margin: of the Taylor probability.
    """
    name, temperature, order, margin = key_of(name, temperature, order, margin)
    if name in OF_CONFIDENCE:
        return OF_CONFIDENCE[name](signal_of(logits, labels, "confidence", temperature))
    values, truth = checks.as_array(logits), checks.as_array(labels).astype(np.int64)
    if name == "correct" and values.shape[-1] == 1:
        same = values[..., 0] == truth.reshape(truth.shape + (1,) * (values.ndim - 1 - truth.ndim))
        return np.where(values[..., 0] == -1, np.nan, same.astype(np.float64))
    rows = values.reshape(-1, values.shape[-1])
    classes = np.repeat(truth.ravel(), len(rows) // max(truth.size, 1))
    out = np.empty(len(rows), dtype=np.float64)
    for start, part in _columns(rows):
        if temperature != 1:
            part /= temperature
        y = classes[start : start + part.shape[1]]
        with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
            if name == "taylor-probability":
                out[start : start + len(y)] = _taylor(part, y, order, margin)
            else:
                out[start : start + len(y)] = _of_columns(part, y, name)
    return out.reshape(values.shape[:-1])


def confidence(logits: Any, labels: Any) -> np.ndarray:
    """The logit-scaled confidence φ = z_y − log Σ_{c≠y} exp z_c, in float64.

    Args:
        logits: [..., C].
        labels: int; its shape is the first axes of the logits, such as [N] for [N, K, C].

    Returns:
        [...]; NaN where an answer is missing, ±103.3 where it would be infinite.

    Carlini et al. 2022 (arXiv 2112.03570).

    >>> confidence([[3.0, 1.0], [0.0, -np.inf]], [0, 1]).round(3).tolist()
    [2.0, -103.279]
    """
    return signal_of(logits, labels)


def key_of(name: str, temperature: float, order: int, margin: float) -> tuple[str, float, int, float]:
    """What a signal depends on, with settings that it does not read at their defaults."""
    if name not in SIGNALS:
        raise SettingError(f"There is no signal named {name!r}.{did_you_mean(name, SIGNALS)}")
    if not (temperature > 0 and math.isfinite(temperature)):
        raise SettingError(f"temperature is {temperature}; a number above 0 is needed, 1 for the model as it is.")
    if name == "taylor-probability":
        if order < 2 or order % 2:
            raise SettingError(
                f"order is {order}; an even number from 2 is needed, so that no probability is negative."
            )
        return name, temperature, order, margin
    return name, 1.0 if name in ("hinge", "correct") else temperature, 4, 0.6


OF_CONFIDENCE: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "loss": lambda phi: -log_expit(phi),
    "probability": expit,
    "log-probability": log_expit,
}


def _columns(rows: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """Pieces of [R, C] as float64 [C, r], small enough for the cache."""
    step = max(1, _CHUNK // rows.shape[1])
    for start in range(0, len(rows), step):
        yield start, np.array(rows[start : start + step].T, dtype=np.float64, order="C")


def _of_columns(part: np.ndarray, y: np.ndarray, name: str) -> np.ndarray:
    """Confidence, hinge or correctness of columns [C, r]; ``part`` is overwritten."""
    places = np.arange(len(y))
    true = part[y, places]
    first = part.argmax(axis=0) if name == "correct" else None
    part[y, places] = -np.inf
    top = part.max(axis=0)
    missing = ~(np.maximum(true, top) < np.inf) | (np.maximum(true, top) == -np.inf)
    if first is not None:
        return np.where(missing, np.nan, (first == y).astype(np.float64))
    if name == "hinge":
        found = true - top
    else:
        shift = np.where(np.isfinite(top), top, 0.0)
        part -= shift
        np.exp(part, out=part)
        found = true - shift - np.log(part.sum(axis=0))
    found = np.where(np.isinf(found), np.copysign(CAP, found), found)
    return np.where(missing, np.nan, found)


def _taylor(part: np.ndarray, y: np.ndarray, order: int, margin: float) -> np.ndarray:
    """SM-Taylor probability of columns [C, r]; ``part`` is overwritten. Needs finite logits."""
    part[y, np.arange(len(y))] -= margin
    missing = ~np.isfinite(part).all(axis=0)
    total = np.ones_like(part)
    for k in range(order, 0, -1):
        total *= part
        total /= k
        total += 1
    found = total[y, np.arange(len(y))] / total.sum(axis=0)
    return np.where(missing, np.nan, found)
