"""Green lists of the official repository: simple_1, selfhash, minhash, skipgram and every freeform scheme.

The last h ids x, in self-salted schemes the token itself among them, make a seed s = PRF_key(x) mod (2^64 - 1); the
first int(gamma V) entries of ``torch.randperm(V)`` under s are green and get +delta. Self-salted schemes test the 41
likeliest tokens, each as the last of its own context; of equal scores the lowest ids are tested.

Text marked by the official code with its generator on CUDA carries other lists, a different random stream: it cannot
be detected here, nor by the official code on a CPU.

Cost a step: gamma V draws and swaps a row; self-salted 41 membership tests a row. Kirchenbauer et al., A Watermark
for Large Language Models, arXiv 2301.10226; On the Reliability of Watermarks for Large Language Models, 2306.04634.
"""

from __future__ import annotations

import numpy as np

from assay.core.methods import Citation, MethodCard

from .. import seeding
from ..settings import WatermarkSettings as WatermarkSettings
from .lists import PermutationLists

KIRCHENBAUER = Citation(
    key="kirchenbauer2023watermark",
    title="A Watermark for Large Language Models",
    authors="Kirchenbauer, John and Geiping, Jonas and Wen, Yuxin and Katz, Jonathan and Miers, Ian and Goldstein, Tom",
    year=2023,
    venue="International Conference on Machine Learning",
    arxiv="2301.10226",
)

CARD = MethodCard(
    name="kgw",
    kind="watermark",
    title="Green lists, official form",
    summary="A key and the last ids split the vocabulary; green tokens are favoured, and their number is the evidence.",
    settings="WatermarkSettings",
    citation=KIRCHENBAUER,
)


class KGW(PermutationLists):
    """The official schemes; ``settings.scheme`` names the pseudo-random function and its width."""

    def seeds(self, hashed: np.ndarray) -> np.ndarray:
        """PRF of the ids under the key: uint64 [n]."""
        return seeding.seeds(self.settings.recipe.prf, hashed, self._key)
