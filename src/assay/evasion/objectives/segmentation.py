r"""Losses of segmentation models as objectives.

Notation: pixel i with logits z_i and class y_i, V the pixels that count, c_i = 1
where the pixel is still right (constant in the backward pass), CE_i its cross-entropy. Every
loss is a mean over V. Whatever is pushed, plain cross-entropy decides on step sizes, and the
point kept is the one with the lowest pixel accuracy over V, of equals the one with the larger cross-entropy.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ...core.methods import Citation, MethodCard
from ...core.settings import option, settings
from ...subjects.dense_tasks import Segmentation
from ...tensors import losses
from .registry import Aim, Sizes

SEA = Citation(
    key="croce2024segmentation",
    title="Towards Reliable Evaluation and Fast Training of Robust Semantic Segmentation Models",
    authors="Croce, Francesco and Singh, Naman D and Hein, Matthias",
    year=2024,
    venue="European Conference on Computer Vision",
    arxiv="2306.12941",
)

CARD_MASKED = MethodCard(
    name="masked-ce",
    kind="objective",
    title="Masked cross-entropy",
    summary="The cross-entropy of the pixels that are still right; wrong ones are given up.",
    settings="MaskedCrossEntropy",
    citation=SEA,
    tasks=("segmentation",),
)
CARD_SEGPGD = MethodCard(
    name="seg-pgd",
    kind="objective",
    title="SegPGD",
    summary="Right pixels first, and towards the end right and wrong ones alike.",
    settings="SegPGD",
    citation=Citation(
        key="gu2022segpgd",
        title="SegPGD: An Effective and Efficient Adversarial Attack for Evaluating and Boosting Segmentation "
        "Robustness",
        authors="Gu, Jindong and Zhao, Hengshuang and Tresp, Volker and Torr, Philip",
        year=2022,
        venue="European Conference on Computer Vision",
        arxiv="2207.12391",
    ),
    tasks=("segmentation",),
)
CARD_COSPGD = MethodCard(
    name="cos-pgd",
    kind="objective",
    title="CosPGD",
    summary="Every pixel's cross-entropy, weighted by how well its prediction still agrees with its class.",
    settings="CosPGD",
    citation=Citation(
        key="agnihotri2024cospgd",
        title="CosPGD: an efficient white-box adversarial attack for pixel-wise prediction tasks",
        authors="Agnihotri, Shashank and Jung, Steffen and Keuper, Margret",
        year=2024,
        venue="International Conference on Machine Learning",
        arxiv="2302.02213",
    ),
    tasks=("segmentation",),
)
CARD_JS = MethodCard(
    name="js",
    kind="objective",
    title="Jensen-Shannon divergence",
    summary="The divergence of the prediction from the right class, which saturates and so gives up wrong pixels.",
    settings="JensenShannon",
    citation=SEA,
    tasks=("segmentation",),
)
CARD_CORRLOG = MethodCard(
    name="mask-norm-corrlog",
    kind="objective",
    title="Masked normalised right logit",
    summary="The right logit divided by the length of the logits, pushed down where the pixel is still right.",
    settings="MaskNormCorrLog",
    citation=SEA,
    tasks=("segmentation",),
)


def _aim(
    name: str, task: Segmentation, loss: Callable[..., Tensor], tracked: Callable[..., Tensor] | None = None
) -> Aim:
    """A loss of ``tensors.losses``, with plain cross-entropy as the tracked value if no other is given."""
    ignored = task.ignore_index

    def follow(output: Tensor, reference: Tensor) -> Tensor:
        return (tracked or losses.ce)(output, reference, ignore_index=ignored)

    def push(output: Tensor, reference: Tensor, t: int, T: int) -> Tensor:
        return loss(output, reference, ignore_index=ignored)

    def push_by_step(output: Tensor, reference: Tensor, t: int, T: int) -> Tensor:
        return loss(output, reference, t, T, ignore_index=ignored)

    return Aim(name, push_by_step if loss is losses.seg_pgd else push, follow)


def _unmasked_corrlog(logits: Tensor, target: Tensor, *, ignore_index: int | None) -> Tensor:
    """(1/|V|) Σ_V -z_iy / ||z_i||: what the search on the masked form follows (arXiv 2306.12941)."""
    valid = torch.ones_like(target, dtype=torch.bool) if ignore_index is None else target != ignore_index
    own = logits.gather(1, torch.where(valid, target, 0)[:, None])[:, 0]
    part = torch.where(valid, -own / logits.norm(dim=1).clamp_min(losses.TINY), 0.0)
    total = part.flatten(1).sum(1, dtype=torch.float64) / valid.flatten(1).sum(1).clamp_min(1)
    return total.to(logits.dtype)


@settings
class MaskedCrossEntropy:
    """(1/|V|) Σ c_i CE_i."""

    def aims(self, task: Segmentation, sizes: Sizes) -> list[Aim]:
        """One search."""
        return [_aim("masked-ce", task, losses.masked_ce)]


@settings
class SegPGD:
    """(1/|V|) Σ ((1-λ) c_i + λ (1-c_i)) CE_i, λ = t / 2T at step t of T."""

    def aims(self, task: Segmentation, sizes: Sizes) -> list[Aim]:
        """One search."""
        return [_aim("seg-pgd", task, losses.seg_pgd)]


@settings
class CosPGD:
    """(1/|V|) Σ w_i CE_i, w_i the cosine of softmax(z_i) and the one-hot class, constant in the backward pass."""

    variant: str = option(
        default="softmax", help="what the cosine is taken of; 'sea' uses the sigmoid", choices=("softmax", "sea")
    )

    def aims(self, task: Segmentation, sizes: Sizes) -> list[Aim]:
        """One search."""

        def loss(output: Tensor, reference: Tensor, *, ignore_index: int | None) -> Tensor:
            return losses.cos_pgd(output, reference, ignore_index=ignore_index, variant=self.variant)

        return [_aim("cos-pgd", task, loss)]


@settings
class JensenShannon:
    """log 2 + ½ (p log p - (1+p) log(1+p)), p the probability of the right class, the mean over V."""

    def aims(self, task: Segmentation, sizes: Sizes) -> list[Aim]:
        """One search."""
        return [_aim("js", task, losses.js)]


@settings
class MaskNormCorrLog:
    """-(1/|V|) Σ c_i z_iy / ||z_i||; step sizes follow the form without c_i."""

    def aims(self, task: Segmentation, sizes: Sizes) -> list[Aim]:
        """One search."""
        return [_aim("mask-norm-corrlog", task, losses.mask_norm_corrlog, _unmasked_corrlog)]
