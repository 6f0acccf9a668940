"""Losses of canary queries: small where models that saw a record answer differently from models that did not.

``loss(logits [B, C], reference [B, 3]) -> [B]`` for the answers of one model. The reference holds the record's class
y, whether this model saw the record (1 IN, 0 OUT), and another class c. Named as in arXiv 2210.10750:

========================  ============================  ===================================
name                      IN                            OUT
========================  ============================  ===================================
target-logit              (z_y - 10)²                   z_y²
softmax                   (p_y - 1)²                    p_y²
log-logit                 (φ - 10)²                     φ², φ = z_y - logsumexp_{j≠y} z_j
ce                        -log p_y                      -log p_c
reverse-ce                -log p_y                      -log (1 - p_y)
cw                        max(max_{j≠y} z_j - z_y, -5)  max(max_{j≠c} z_j - z_c, -5)
reverse-cw                max(max_{j≠y} z_j - z_y, -5)  max(z_y - max_{j≠y} z_j, -5)
========================  ============================  ===================================

``kl`` compares two models, and is the negative mean of KL(p_in || p_out) and KL(p_out || p_in).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ...tensors import losses

FLOOR = -5.0
Loss = Callable[[Tensor, Tensor], Tensor]


def resolve(name: str, aims: tuple[float, float]) -> Loss:
    """The loss of a name; ``aims`` are the numbers that answers of IN and of OUT models are pulled to."""
    if name in _ANSWERS:
        answer = _ANSWERS[name]

        def pulled(logits: Tensor, reference: Tensor) -> Tensor:
            labels, seen = reference[:, 0], reference[:, 1] > 0
            return (answer(logits, labels) - torch.where(seen, aims[0], aims[1])).square()

        return pulled
    inside, outside = _PAIRS[name]

    def sided(logits: Tensor, reference: Tensor) -> Tensor:
        labels, seen, others = reference[:, 0], reference[:, 1] > 0, reference[:, 2]
        return torch.where(seen, inside(logits, labels, others), outside(logits, labels, others))

    return sided


def divergence(inside: Tensor, outside: Tensor) -> Tensor:
    """-½ (KL(p_in || p_out) + KL(p_out || p_in)) of logits [B, C]: [B]."""
    p, q = inside.log_softmax(1), outside.log_softmax(1)
    return -0.5 * ((p.exp() - q.exp()) * (p - q)).sum(1)


def scaled_confidence(logits: Tensor, labels: Tensor) -> Tensor:
    """φ = z_y - logsumexp_{j≠y} z_j: [B, C], [B] -> [B]."""
    others = logits.scatter(1, labels[:, None], -torch.inf)
    return _own(logits, labels) - others.logsumexp(1)


def _own(logits: Tensor, labels: Tensor) -> Tensor:
    return logits.gather(1, labels[:, None])[:, 0]


def _probability(logits: Tensor, labels: Tensor) -> Tensor:
    return _own(logits.softmax(1), labels)


def _ce(logits: Tensor, labels: Tensor, others: Tensor) -> Tensor:
    return losses.ce(logits, labels, ignore_index=None)


def _ce_other(logits: Tensor, labels: Tensor, others: Tensor) -> Tensor:
    return losses.ce(logits, others, ignore_index=None)


def _not_ce(logits: Tensor, labels: Tensor, others: Tensor) -> Tensor:
    """-log (1 - p_y) = softplus(φ), without cancellation."""
    return torch.nn.functional.softplus(scaled_confidence(logits, labels))


def _cw(logits: Tensor, labels: Tensor, others: Tensor) -> Tensor:
    return losses.margin(logits, labels).clamp_min(FLOOR)


def _cw_other(logits: Tensor, labels: Tensor, others: Tensor) -> Tensor:
    return losses.margin(logits, others).clamp_min(FLOOR)


def _not_cw(logits: Tensor, labels: Tensor, others: Tensor) -> Tensor:
    return (-losses.margin(logits, labels)).clamp_min(FLOOR)


_ANSWERS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "target-logit": _own,
    "softmax": _probability,
    "log-logit": scaled_confidence,
}
_PAIRS: dict[str, tuple[Callable[[Tensor, Tensor, Tensor], Tensor], Callable[[Tensor, Tensor, Tensor], Tensor]]] = {
    "ce": (_ce, _ce_other),
    "reverse-ce": (_ce, _not_ce),
    "cw": (_cw, _cw_other),
    "reverse-cw": (_cw, _not_cw),
}
