"""Exponential-minimum sampling: the key, not chance, draws the token, and the distribution stays what it was.

With u_v uniform in (0, 1) for every token v after the last W ids, the next token is argmax_v u_v^(1/p_v). Over keys it
is a draw from p, so nothing is distorted; after one context the same distribution always gives the same token. The
score of a token is -log(1 - u): Exp(1) in text that knows nothing of the key, larger in marked text. The uniforms are
those of the philox scheme; the choice is made in logarithms, argmax(log p - log(-log u)).

Cost a step: a softmax and one Philox call for four tokens. Aaronson, talk of 2022; Fernandez et al., Three Bricks to
Consolidate Watermarks for Large Language Models, arXiv 2308.00113.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from assay.core.methods import Citation, MethodCard

from ..settings import WatermarkSettings as WatermarkSettings
from .base import EXPONENTIAL
from .philox import Philox

if TYPE_CHECKING:
    from torch import Tensor

CARD = MethodCard(
    name="gumbel",
    kind="watermark",
    title="Exponential-minimum sampling",
    summary="The key draws each token from the model's own distribution, which leaves single texts undistorted.",
    settings="WatermarkSettings",
    citation=Citation(
        key="fernandez2023three",
        title="Three Bricks to Consolidate Watermarks for Large Language Models",
        authors="Fernandez, Pierre and Chaffin, Antoine and Tit, Karim and Chappelier, Vivien and Furon, Teddy",
        year=2023,
        venue="IEEE International Workshop on Information Forensics and Security",
        arxiv="2308.00113",
    ),
)


class Gumbel(Philox):
    """Tokens drawn by the key; see the module. A hit is a score above its median, log 2."""

    null = EXPONENTIAL
    gamma = 0.5

    def score(self, contexts: np.ndarray, targets: np.ndarray, *, shift: int = 0) -> np.ndarray:
        """-log(1 - u) of each token: float64 [n]."""
        return _exponential(self.uniforms(contexts, targets, shift))

    def rows(self, contexts: np.ndarray) -> np.ndarray:
        """-log(1 - u) of the whole vocabulary: float64 [n, V]."""
        return _exponential(self.uniform_rows(contexts))

    def bias(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Scores in which the drawn token alone is finite; give those of the filtered distribution (top-k, top-p)."""
        import torch

        scores = scores.detach()
        drawn = _drawn(scores, self.uniforms_on_device(input_ids).to(scores.device))
        alone = torch.full_like(scores, float("-inf"), memory_format=torch.contiguous_format)
        return alone.scatter_(1, drawn, scores.gather(1, drawn))


def _drawn(scores: Tensor, uniforms: Tensor) -> Tensor:
    """argmax_v u_v^(1/p_v) in float64, of equal values the lowest id: int64 [B, 1].

    log p is the score less a number that a row has in common. float32 decides wherever the best is ahead of the
    others by more than its errors, which are below 1e-5 and 1e-6 of the best; the few other rows are computed again.
    """
    import torch

    rough = scores.to(torch.float32) - torch.log(-torch.log(uniforms))
    best = rough.max(dim=1, keepdim=True)
    drawn: Tensor = best.indices
    limit = best.values - (1e-4 + 1e-5 * best.values.abs())
    unsure = (rough >= limit).sum(dim=1) != 1  # none is, where the best is infinite
    if bool(unsure.any()):
        noise = -torch.log(-torch.log(uniforms[unsure].to(torch.float64)))
        drawn[unsure] = (scores[unsure].to(torch.float64) + noise).argmax(dim=1, keepdim=True)
    return drawn


def _exponential(uniforms: np.ndarray) -> np.ndarray:
    scores: np.ndarray = -np.log1p(-uniforms.astype(np.float64))
    return scores
