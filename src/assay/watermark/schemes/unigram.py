"""One green list for every step: robust to edits, and readable from the statistics of enough text.

int(gamma V) True and the rest False, shuffled by ``numpy.random.default_rng(s).shuffle``; s = the first 4 bytes,
little-endian, of SHA-256 over the key as an 8-byte little-endian integer. Green tokens get +delta at every step.

Cost a step: one addition over the vocabulary. Zhao et al., Provable Robust Watermarking for AI-Generated Text,
arXiv 2306.17439.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import numpy as np

from assay.core.methods import Citation, MethodCard

from ..keyed import Keyed
from ..settings import WatermarkSettings
from .base import BERNOULLI
from .scores import forbidden, shifted

if TYPE_CHECKING:
    from torch import Tensor

CARD = MethodCard(
    name="unigram",
    kind="watermark",
    title="Unigram",
    summary="One secret green list is favoured at every step, which survives editing better than lists of a context.",
    settings="WatermarkSettings",
    citation=Citation(
        key="zhao2023provable",
        title="Provable Robust Watermarking for AI-Generated Text",
        authors="Zhao, Xuandong and Ananth, Prabhanjan and Li, Lei and Wang, Yu-Xiang",
        year=2023,
        venue="arXiv preprint",
        arxiv="2306.17439",
    ),
)


class Unigram(Keyed):
    """A fixed list; see the module."""

    null = BERNOULLI
    strict = False
    fixed = True
    self_salt = False
    preceding = 0
    least = 0

    def __init__(self, settings: WatermarkSettings, key: int) -> None:
        self.settings = settings
        self.gamma = settings.gamma
        self.green: int | None = settings.green_size
        mask = np.arange(settings.vocab_size) < settings.green_size
        seed = int.from_bytes(hashlib.sha256(key.to_bytes(8, "little")).digest()[:4], "little")
        np.random.default_rng(seed).shuffle(mask)
        mask.flags.writeable = False
        self._mask = mask
        self._marked = shifted(mask, settings.shift).copy()

    def score(self, contexts: np.ndarray, targets: np.ndarray, *, shift: int = 0) -> np.ndarray:
        """Whether each token is in the list: bool [n]."""
        hits: np.ndarray = self._mask[(targets + shift) % self.settings.vocab_size if shift else targets]
        return hits

    def rows(self, contexts: np.ndarray) -> np.ndarray:
        """The list once for every context: bool [n, V], read-only."""
        return np.broadcast_to(self._mask, (len(contexts), len(self._mask)))

    def bias(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Scores with the mark."""
        import torch

        green = torch.from_numpy(self._marked).to(scores.device)
        if self.settings.hard:
            return forbidden(scores, green)
        return scores.detach() + green.to(scores.dtype) * self.settings.delta
