"""Green tokens by counter-based random numbers: the same on every device, no list, no state, one pass.

Philox4x32-10 under the 64-bit key turns the last W ids into a state, and state and token into a uniform number u in
(0, 1); a token is green iff u < gamma. There are as many lists as contexts, and detection asks one number a token.

Cost a step: one Philox call for four tokens of the vocabulary; detection a few calls a token. Green lists after
Kirchenbauer et al., arXiv 2301.10226; the generator is of Salmon et al., Parallel Random Numbers: As Easy as 1, 2, 3,
SC 2011.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from assay.core.methods import MethodCard

from .. import kernel
from ..keyed import Keyed
from ..settings import WatermarkSettings
from .base import BERNOULLI
from .kgw import KIRCHENBAUER
from .scores import forbidden, in_float32, raised, shifted, to_numpy

if TYPE_CHECKING:
    from torch import Tensor

CARD = MethodCard(
    name="philox",
    kind="watermark",
    title="Green tokens by Philox",
    summary="Green tokens come from counter-based random numbers, the same on CPU and GPU and quick to detect.",
    settings="WatermarkSettings",
    citation=KIRCHENBAUER,
)


class Philox(Keyed):
    """Uniform numbers of tokens after contexts, for the schemes that rest on them."""

    self_salt = False
    strict = True
    fixed = False
    green: int | None = None

    def __init__(self, settings: WatermarkSettings, key: int) -> None:
        self.settings = settings
        self.preceding = self.least = settings.preceding
        self._key = key

    def uniforms(self, contexts: np.ndarray, targets: np.ndarray, shift: int = 0) -> np.ndarray:
        """float32 [n] in (0, 1)."""
        wanted = (targets + shift) % self.settings.vocab_size if shift else targets
        return kernel.philox_uniforms(kernel.philox_states(contexts, self._key), wanted, self._key)

    def uniform_rows(self, contexts: np.ndarray) -> np.ndarray:
        """float32 [n, V] in (0, 1)."""
        return kernel.philox_rows(kernel.philox_states(contexts, self._key), self.settings.vocab_size, self._key)

    def uniforms_on_device(self, input_ids: Tensor) -> Tensor:
        """float32 [B, V] for the next token, payload included, computed where the ids are."""
        import torch

        contexts = input_ids[:, input_ids.shape[1] - self.preceding :]
        if contexts.device.type == "cpu":
            return torch.from_numpy(shifted(self.uniform_rows(to_numpy(contexts)), self.settings.shift))
        return self._in_torch(contexts)

    def _in_torch(self, contexts: Tensor) -> Tensor:
        """float32 [B, V], payload included, by torch's own operations on any device."""
        import torch

        from ..kernel import device

        states = device.philox_states(contexts, self._key)
        rows = device.philox_rows(states, self.settings.vocab_size, self._key)
        return torch.roll(rows, -self.settings.shift, dims=1) if self.settings.shift else rows


class PhiloxLists(Philox):
    """Bernoulli green tokens: u < gamma."""

    null = BERNOULLI

    def __init__(self, settings: WatermarkSettings, key: int) -> None:
        super().__init__(settings, key)
        self.gamma = settings.gamma

    def score(self, contexts: np.ndarray, targets: np.ndarray, *, shift: int = 0) -> np.ndarray:
        """Whether each token is green: bool [n]."""
        green: np.ndarray = self.uniforms(contexts, targets, shift) < np.float32(self.gamma)
        return green

    def rows(self, contexts: np.ndarray) -> np.ndarray:
        """Green tokens after each context: bool [n, V]."""
        green: np.ndarray = self.uniform_rows(contexts) < np.float32(self.gamma)
        return green

    def bias(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Scores with the mark."""
        spec = self.settings
        if not spec.hard and input_ids.device.type == "cpu":
            states = kernel.philox_states(to_numpy(input_ids[:, input_ids.shape[1] - self.preceding :]), self._key)

            def add(rows: np.ndarray, delta: float) -> None:
                kernel.add_philox_green(rows, states, self._key, spec.gamma, delta, shift=spec.shift)

            marked = in_float32(scores, spec.delta, add)
            if marked is not None:
                return marked
        uniforms = self.uniforms_on_device(input_ids).to(scores.device)
        green = uniforms < float(np.float32(self.gamma))
        return forbidden(scores, green) if spec.hard else raised(scores, green, spec.delta)
