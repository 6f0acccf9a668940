"""The two watermarks of Hugging Face transformers, bit for bit: lefthash and selfhash.

lefthash seeds with key · (last id) mod (2^64 - 1): with one vocabulary it is the official simple_1. ``context_width``
changes only which n-grams count as repeated, and how long a prompt must be.
selfhash seeds with min_i key ⊗ F(x_i) ⊗ F(x_last) mod (2^64 - 1) over the last ``context_width`` ids with the candidate
as the last, F being a table drawn under the key itself: other lists than the official selfhash, which draws it under a
fixed number. The 40 likeliest tokens are tested; of equal scores the lowest ids. With ``context_width`` 1, the default
of transformers, its lists depend on the token alone, and whoever counts tokens can read them.

Text that transformers marked on CUDA carries other lists and cannot be detected here.

Cost a step: as the official schemes. Kirchenbauer et al., arXiv 2301.10226 and 2306.04634.
"""

from __future__ import annotations

import numpy as np

from assay.core.methods import MethodCard

from .. import seeding
from ..settings import WatermarkSettings
from .kgw import KIRCHENBAUER
from .lists import PermutationLists

CARD_LEFTHASH = MethodCard(
    name="hf-lefthash",
    kind="watermark",
    title="Green lists of transformers, lefthash",
    summary="The last id and the key seed the green list, exactly as in Hugging Face transformers.",
    settings="WatermarkSettings",
    citation=KIRCHENBAUER,
)
CARD_SELFHASH = MethodCard(
    name="hf-selfhash",
    kind="watermark",
    title="Green lists of transformers, selfhash",
    summary="Each candidate is hashed with the ids before it, exactly as in Hugging Face transformers.",
    settings="WatermarkSettings",
    citation=KIRCHENBAUER,
)


class LeftHash(PermutationLists):
    """transformers' ``seeding_scheme="lefthash"``."""

    def seeds(self, hashed: np.ndarray) -> np.ndarray:
        """key · (last id): uint64 [n]."""
        return seeding.seeds("additive_prf", hashed[:, -1:], self._key)


class SelfHash(PermutationLists):
    """transformers' ``seeding_scheme="selfhash"``, which marks only prompts of ``context_width`` ids and more."""

    def __init__(self, settings: WatermarkSettings, key: int) -> None:
        super().__init__(settings, key)
        self.least = self.preceding + 1

    def seeds(self, hashed: np.ndarray) -> np.ndarray:
        """Anchored minhash with the key's own table: uint64 [n]."""
        return seeding.anchored_minhash(hashed, self._key, table_seed=self._key)
