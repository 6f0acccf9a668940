"""Losses of one sample's views: plain, stability, consistency and MACER, each a function of that sample alone.

``outputs`` holds logits [B, K + 1, C]: view 0 is the clean image, views 1 to K carry
Gaussian noise. Every loss maps it, with labels [B], to [B] and reads no row but its
own, so that a sample's gradient is that of its loss over its own views, and clipping
it bounds what the sample can do. Published code that lays views out in one batch
pairs views of different images there, and its stated privacy does not follow.

All of them run under ``torch.func.vmap`` with B = 1: no decision depends on a value.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..core.errors import DataError

FORMS: dict[str, tuple[str, ...]] = {
    "stability": ("dp-cert", "original"),
    "consistency": ("dp-cert", "original", "xent", "kl", "mse"),
    "macer": ("dp-cert", "original"),
}
"""The forms each regulariser was published in; the first is the one used for private training."""


PUBLISHED: dict[tuple[str, str], dict[str, float]] = {
    # The element mean of the official stability term divides by the ten classes of every data set used there.
    ("stability", "dp-cert"): {"weight": 0.1},
    ("stability", "original"): {"weight": 2.0},
    ("consistency", "dp-cert"): {"weight": 0.5, "entropy_weight": 0.5},
    ("consistency", "original"): {"weight": 10.0, "entropy_weight": 0.5},
    ("consistency", "xent"): {"weight": 3.0},
    ("consistency", "kl"): {"weight": 10.0},
    ("consistency", "mse"): {"weight": 10.0},
    ("macer", "dp-cert"): {"weight": 16.0, "beta": 16.0, "gamma": 0.1},
    ("macer", "original"): {"weight": 12.0, "beta": 16.0, "gamma": 8.0},
}
"""What each form was published with, by the names of its keyword arguments.

Noisy views: 2 for dp-cert on images of 28 pixels and 1 on CIFAR-10; in the originals
1 for stability, 2 for consistency, 16 for MACER. For ``kl`` and ``mse`` no weight is
stated, so that of the original stands there.
"""


def views_cross_entropy(outputs: Tensor, labels: Tensor) -> Tensor:
    """Mean cross-entropy of a sample's views, (1/V) Σ_k CE(z_k, y): [B, V, C], [B] -> [B].

    >>> views_cross_entropy(torch.zeros(1, 3, 10), torch.tensor([4])).exp()
    tensor([10.])
    """
    places = labels[:, None, None].expand(-1, outputs.shape[1], 1)
    return -outputs.log_softmax(-1).gather(-1, places)[..., 0].mean(-1)


def stability(outputs: Tensor, labels: Tensor, *, weight: float, form: str = "dp-cert") -> Tensor:
    """Noisy views should be answered as the clean one: [B, K + 1, C], [B] -> [B].

    With p_k the softmax of view k and w = ``weight``:
    dp-cert: (1/(K+1)) Σ_{k>=0} CE(z_k, y) + w (1/K) Σ_{k>=1} KL(p_0 || p_k);
    original: CE(z_0, y) + w (1/K) Σ_{k>=1} -Σ_c p_0c log p_kc, which is the same
    divergence plus the entropy of p_0, and so sharpens the clean answer too.
    Gradients flow through both arguments.

    Args:
        outputs: logits, the clean view first.
        labels: class indices.
        weight: w. The official private training takes the mean over classes instead
            of the sum, so its term is this one with w = 1 / C.
        form: ``"dp-cert"`` (Wu et al., arXiv 2306.08656) or ``"original"``
            (Li et al., arXiv 1809.03113, one noisy view).

    Raises:
        DataError: no noisy view.
    """
    noisy = _noisy(outputs, 1, "stability")
    log_clean, log_noisy = outputs[:, :1].log_softmax(-1), noisy.log_softmax(-1)
    if form == "original":
        term = -(log_clean.exp() * log_noisy).sum(-1).mean(-1)
        return views_cross_entropy(outputs[:, :1], labels) + weight * term
    term = (log_clean.exp() * (log_clean - log_noisy)).sum(-1).mean(-1)
    return views_cross_entropy(outputs, labels) + weight * term


def consistency(
    outputs: Tensor, labels: Tensor, *, weight: float, entropy_weight: float = 0.0, form: str = "dp-cert"
) -> Tensor:
    """Noisy views should agree with each other: [B, m + 1, C], [B] -> [B].

    With p̄ = (1/m) Σ_{k>=1} p_k over the m noisy views, λ = ``weight``, η = ``entropy_weight``:
    D = (1/m) Σ_k KL(p̄ || p_k), H = -Σ_c p̄_c log p̄_c, and the loss is a cross-entropy plus
    dp-cert, original: λ D + η H; xent: λ (D + H); kl: λ D;
    mse: λ times the mean of ||p_j - p_k||² over pairs of noisy views.
    The cross-entropy is the mean over all views for dp-cert and over the noisy ones
    otherwise. Gradients flow through p̄. H is computed from log p̄ itself, without
    the floor of 1e-20 of the official code.

    Args:
        outputs: logits, the clean view first.
        labels: class indices.
        weight: λ.
        entropy_weight: η; read by the forms ``dp-cert`` and ``original``.
        form: one of ``FORMS["consistency"]`` (Jeong and Shin, arXiv 2006.04062;
            dp-cert: Wu et al., arXiv 2306.08656).

    Raises:
        DataError: no noisy view, or a single one where the form compares two.
    """
    noisy = _noisy(outputs, 2 if form in ("kl", "mse") else 1, f"consistency in the form {form!r}")
    classification = views_cross_entropy(outputs if form == "dp-cert" else noisy, labels)
    log_p = noisy.log_softmax(-1)
    count = noisy.shape[1]
    if form == "mse":
        p = log_p.exp()
        # Σ_{j<k} ||p_j - p_k||² = m Σ_k ||p_k - p̄||², over m (m - 1) / 2 pairs.
        spread = (p - p.mean(1, keepdim=True)).square().sum((-1, -2))
        return classification + weight * spread * (2 / (count - 1))
    log_mean = log_p.logsumexp(1) - math.log(count)
    mean = log_mean.exp()
    divergence = (mean[:, None] * (log_mean[:, None] - log_p)).sum(-1).mean(-1)
    if form == "kl":
        return classification + weight * divergence
    entropy = -(mean * log_mean).sum(-1)
    return classification + weight * divergence + (weight if form == "xent" else entropy_weight) * entropy


def macer(
    outputs: Tensor,
    labels: Tensor,
    *,
    sigma: float,
    weight: float,
    beta: float = 16.0,
    gamma: float = 8.0,
    form: str = "dp-cert",
) -> Tensor:
    r"""Enlarge the certified radius of samples that are answered rightly: [B, K + 1, C], [B] -> [B].

    With P = (1/V) Σ_k softmax(β z_k), a = P_y, b = max_{c≠y} P_c and ξ = Φ⁻¹(a) - Φ⁻¹(b),
    (σ/2) ξ estimates the radius that smoothing certifies, and

      L = classification + λ (σ/2) (γ - ξ) 1[a >= b, ξ finite, ξ <= γ].

    The indicator is not differentiated. A sample whose a rounds to 1, or whose b
    underflows, has an infinite ξ and drops out. dp-cert averages over all K + 1 views
    and classifies by their mean cross-entropy; original averages over the noisy views
    and classifies by -log(mean_k softmax(z_k)_y + 1e-10). dp-cert's γ = 0.1 leaves the
    term to samples with nearly tied classes: :func:`macer_active` tells how many.

    Args:
        outputs: logits, the clean view first.
        labels: class indices.
        sigma: σ, standard deviation of the views' noise, in units of the raw input.
        weight: λ.
        beta: β, inverse temperature of the softmax in P.
        gamma: γ, in units of ξ.
        form: ``"dp-cert"`` (Wu et al., arXiv 2306.08656) or ``"original"``
            (Zhai et al., arXiv 2001.02378).

    Raises:
        DataError: no noisy view for the original form.
    """
    views = _noisy(outputs, 1, "MACER in its original form") if form == "original" else outputs
    a, b = _two_scores(views, labels, beta)
    active = _active(a, b, gamma)
    # Replaced before the quantile: where() alone would multiply an infinite derivative by zero.
    half = torch.full_like(a, 0.5)
    gap = torch.special.ndtri(torch.where(active, a, half)) - torch.special.ndtri(torch.where(active, b, half))
    hinge = torch.where(active, gamma - gap, torch.zeros_like(gap))
    if form == "original":
        mean = views.softmax(-1).mean(1)
        classification = -torch.log(mean.gather(-1, labels[:, None])[:, 0] + 1e-10)
    else:
        classification = views_cross_entropy(views, labels)
    return classification + weight * sigma / 2 * hinge


def macer_active(
    outputs: Tensor, labels: Tensor, *, beta: float = 16.0, gamma: float = 8.0, form: str = "dp-cert"
) -> Tensor:
    """Which samples receive MACER's robustness term: [B, K + 1, C], [B] -> [B] bool."""
    views = outputs[:, 1:] if form == "original" else outputs
    return _active(*_two_scores(views, labels, beta), gamma)


def _two_scores(views: Tensor, labels: Tensor, beta: float) -> tuple[Tensor, Tensor]:
    """Mean tempered probability of the label, and the largest of another class: [B] each."""
    mean = (beta * views).softmax(-1).mean(1)
    own = labels[:, None] == torch.arange(mean.shape[-1], device=mean.device)
    return mean.gather(-1, labels[:, None])[:, 0], mean.masked_fill(own, 0).amax(-1)


def _active(a: Tensor, b: Tensor, gamma: float) -> Tensor:
    finite = (a < 1) & (b >= torch.finfo(b.dtype).tiny)
    return (a >= b) & finite & (torch.special.ndtri(a.detach()) - torch.special.ndtri(b.detach()) <= gamma)


def _noisy(outputs: Tensor, least: int, what: str) -> Tensor:
    """The noisy views [B, K, C], at least ``least`` of them."""
    count = outputs.shape[1] - 1
    if count < least:
        raise DataError(
            f"The outputs have {count} noisy views beside the clean one; {what} needs at least {least}. "
            "Train with more views."
        )
    return outputs[:, 1:]
