"""Green lists that are the first entries of a permutation drawn by torch's CPU generator from a seed.

The permutation itself is never made: a list needs only its first draws, and whether one token is in it not even an
array (``assay.watermark.kernel``). Lists are computed on the CPU wherever the scores are.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from .. import kernel
from ..keyed import Keyed
from .base import BERNOULLI
from .scores import copied, forbidden, in_float32, likeliest, raised, shifted, to_numpy

if TYPE_CHECKING:
    from torch import Tensor

    from ..settings import WatermarkSettings


class PermutationLists(Keyed):
    """A scheme with one list of int(gamma V) tokens for every seed; subclasses say what the seed is.

    Args:
        settings: of the scheme; ``vocab_size`` is known.
        key: 1 to 2^64 - 1.
    """

    null = BERNOULLI
    strict = False
    fixed = False

    def __init__(self, settings: WatermarkSettings, key: int) -> None:
        self.settings = settings
        self.preceding = settings.preceding
        self.self_salt = settings.recipe.self_salt
        self.gamma = settings.gamma
        self.green: int | None = settings.green_size
        self.least = self.preceding
        self._count = settings.green_size
        self._last = not settings.select_green_tokens
        self._key = key

    def seeds(self, hashed: np.ndarray) -> np.ndarray:
        """Seeds of the ids that are hashed, the token's own included for self-salted schemes: uint64 [n]."""
        raise NotImplementedError

    def score(self, contexts: np.ndarray, targets: np.ndarray, *, shift: int = 0) -> np.ndarray:
        """Whether each token is in its list: bool [n]."""
        hashed = np.concatenate([contexts, targets[:, None]], axis=1) if self.self_salt else contexts
        size = self.settings.vocab_size
        wanted = (targets + shift) % size if shift else targets
        return kernel.member(self.seeds(hashed), wanted, size, self._count, last=self._last)

    def rows(self, contexts: np.ndarray) -> np.ndarray:
        """Lists as masks: bool [n, V]."""
        return kernel.green_rows(self.seeds(contexts), self.settings.vocab_size, self._count, last=self._last)

    def bias(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Scores with the mark."""
        contexts = to_numpy(input_ids[:, input_ids.shape[1] - self.preceding :])
        return self._bias_candidates(contexts, scores) if self.self_salt else self._bias_all(contexts, scores)

    def _bias_all(self, contexts: np.ndarray, scores: Tensor) -> Tensor:
        import torch

        spec, seeds = self.settings, self.seeds(contexts)
        if not spec.hard:

            def add(rows: np.ndarray, delta: float) -> None:
                kernel.add_to_green(rows, seeds, spec.vocab_size, self._count, delta, last=self._last, shift=spec.shift)

            marked = in_float32(scores, spec.delta, add)
            if marked is not None:
                return marked
        mask = kernel.green_rows(seeds, spec.vocab_size, self._count, last=self._last)
        green = torch.from_numpy(shifted(mask, spec.shift)).to(scores.device)
        return forbidden(scores, green) if spec.hard else raised(scores, green, spec.delta)

    def _bias_candidates(self, contexts: np.ndarray, scores: Tensor) -> Tensor:
        """Only the likeliest tokens are tested, each in its own list; the others are red."""
        import torch

        spec = self.settings
        ids = likeliest(scores.detach(), spec.candidates or 1)
        count = ids.shape[1]
        hits = self.score(np.repeat(contexts, count, axis=0), to_numpy(ids).reshape(-1), shift=spec.shift)
        hit = torch.from_numpy(hits.reshape(ids.shape)).to(scores.device)
        if spec.hard:
            green = torch.zeros(scores.shape, dtype=torch.bool, device=scores.device).scatter_(1, ids, hit)
            return forbidden(scores, green)
        marked = copied(scores)
        values = marked.gather(1, ids)
        return marked.scatter_(1, ids, torch.where(hit, values + spec.delta, values))
