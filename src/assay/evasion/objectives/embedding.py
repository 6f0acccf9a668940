r"""Distances of representations as objectives: they need no label and no task.

Notation: f the representation of the clean image, computed once and constant, f' that of
the attacked image. At f' = f the gradient is zero, so searches begin at random points. The
patch objectives and the one on both need an Encoder, or a model that returns patch maps.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ...core.methods import MethodCard
from ...core.settings import option, settings
from ...subjects.dense_tasks import Embedding
from ...tensors import losses
from .depth import BENCHMARK
from .registry import Aim, Sizes

CARD_L2 = MethodCard(
    name="embedding-l2",
    kind="objective",
    title="Squared distance of embeddings",
    summary="The mean squared difference to the embedding of the clean image.",
    settings="EmbeddingL2",
    citation=BENCHMARK,
    tasks=("embedding",),
)
CARD_COSINE = MethodCard(
    name="embedding-cosine",
    kind="objective",
    title="Cosine distance of embeddings",
    summary="The angle to the embedding of the clean image.",
    settings="EmbeddingCosine",
    citation=BENCHMARK,
    tasks=("embedding",),
)
CARD_CE = MethodCard(
    name="embedding-softmax-ce",
    kind="objective",
    title="Cross-entropy of softmaxed embeddings",
    summary="The cross-entropy between the two embeddings, both taken as logits.",
    settings="EmbeddingSoftmaxCE",
    citation=BENCHMARK,
    tasks=("embedding",),
)
CARD_PATCH_L2 = MethodCard(
    name="embedding-patch-l2",
    kind="objective",
    title="Squared distance of patch maps",
    summary="The mean squared difference to the patch features of the clean image.",
    settings="EmbeddingPatchL2",
    citation=BENCHMARK,
    tasks=("embedding",),
)
CARD_PATCH_COSINE = MethodCard(
    name="embedding-patch-cosine",
    kind="objective",
    title="Cosine distance of patch maps",
    summary="The mean angle between the patch features of the attacked and of the clean image.",
    settings="EmbeddingPatchCosine",
    citation=BENCHMARK,
    tasks=("embedding",),
)
CARD_BOTH = MethodCard(
    name="embedding-both-cosine",
    kind="objective",
    title="Cosine distance of embeddings and patch maps",
    summary="The angle to the clean embedding and the mean angle to the clean patch features together.",
    settings="EmbeddingBothCosine",
    tasks=("embedding",),
)


def _aim(name: str, loss: Callable[[Tensor, Tensor], Tensor]) -> list[Aim]:
    return [Aim(name, lambda output, reference, t, T: loss(output, reference))]


@settings
class EmbeddingL2:
    """(1/D) ||f' - f||²."""

    def aims(self, task: Embedding, sizes: Sizes) -> list[Aim]:
        """One search."""
        return _aim("embedding-l2", losses.embedding_l2)


@settings
class EmbeddingCosine:
    """1 - cos(f', f); for a patch map the mean over patches."""

    def aims(self, task: Embedding, sizes: Sizes) -> list[Aim]:
        """One search."""
        return _aim("embedding-cosine", losses.embedding_cosine)


@settings
class EmbeddingSoftmaxCE:
    """-Σ_j softmax(f)_j log softmax(f')_j."""

    def aims(self, task: Embedding, sizes: Sizes) -> list[Aim]:
        """One search."""
        return _aim("embedding-softmax-ce", losses.softmax_ce)


@settings
class EmbeddingPatchL2:
    """Mean over features and patches of (f'_ij - f_ij)²."""

    @property
    def space(self) -> str:
        """What of an encoder is attacked."""
        return "patch"

    def aims(self, task: Embedding, sizes: Sizes) -> list[Aim]:
        """One search."""
        return _aim("embedding-patch-l2", losses.embedding_l2)


@settings
class EmbeddingPatchCosine:
    """Mean over patches of 1 - cos(f'_j, f_j)."""

    @property
    def space(self) -> str:
        """What of an encoder is attacked."""
        return "patch"

    def aims(self, task: Embedding, sizes: Sizes) -> list[Aim]:
        """One search."""
        return _aim("embedding-patch-cosine", losses.embedding_cosine)


@settings
class EmbeddingBothCosine:
    """1 - cos(f', f) + w (mean over patches of 1 - cos(f'_j, f_j))."""

    patch_weight: float = option(default=1.0, help="weight w of the patches", at_least=0)

    @property
    def space(self) -> str:
        """What of an encoder is attacked."""
        return "both"

    def aims(self, task: Embedding, sizes: Sizes) -> list[Aim]:
        """One search."""

        def loss(output: Tensor, reference: Tensor) -> Tensor:
            whole, parts = zip(*(_apart(side, sizes) for side in (output, reference)), strict=True)
            return losses.embedding_cosine(*whole) + self.patch_weight * losses.embedding_cosine(*parts)

        return _aim("embedding-both-cosine", loss)


def _apart(joined: Tensor, sizes: Sizes) -> tuple[Tensor, Tensor]:
    """[B, D + D'hw] -> embedding [B, D] and patches [B, D', hw]."""
    whole, parts = torch.split(joined, [sizes.dim, joined.shape[1] - sizes.dim], 1)
    return whole, parts.reshape(len(joined), sizes.patch_dim, -1)
