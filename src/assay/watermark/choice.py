"""What choice a model had at each token: with the model at hand, detection listens where the mark could speak.

A token that had to follow carries no mark. Entropies need the model, unlike the counting of green tokens, and the
prompt is not known: each token is judged after the text before it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from .theory import spike_entropy, spike_modulus
from .weighting import entropy_weights

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch

    from ..subjects.language import LanguageModel
    from .settings import WatermarkSettings


def by_choice(lm: LanguageModel, settings: WatermarkSettings, texts: Sequence[np.ndarray]) -> dict[str, Any]:
    """Entropies or weights of the tokens of texts, as ``detect_many`` takes them.

    With ``entropy_threshold`` in the settings: the Shannon entropy (nats) of the distribution each token followed, so
    that those below the threshold, which were not marked, do not count. Otherwise weights, by how far the spike
    entropy exceeds that of a certain token (Lu et al., arXiv 2403.13485). The first token has neither.

    Args:
        lm: the model that may have written the texts.
        settings: of the mark.
        texts: ids, each [T].

    Returns:
        ``{"entropies": [...]}`` or ``{"weights": [...]}``, one array [T] a text.

    Raises:
        DataError: ids outside the model's vocabulary.

    Cost: one forward pass over each text; 4 T V bytes.

    >>> by_choice(lm, mark.settings, [ids])  # doctest: +SKIP
    {'weights': [array([0.  , 0.31, 0.07, ...])]}
    """
    rows = (lm.next_probabilities(text.tolist()) if len(text) > 1 else None for text in texts)
    if settings.entropy_threshold is not None:
        return {"entropies": [_along(text, row, _shannon) for text, row in zip(texts, rows, strict=True)]}
    modulus = spike_modulus(settings.gamma, np.inf if settings.hard else settings.delta)

    def spikes(row: torch.Tensor) -> np.ndarray:
        return np.asarray(spike_entropy(row, modulus=modulus), dtype=np.float64)

    found = (_along(text, row, spikes) for text, row in zip(texts, rows, strict=True))
    return {"weights": [entropy_weights(values, 1 / (1 + modulus)) for values in found]}


def _along(text: np.ndarray, rows: torch.Tensor | None, measure: Any) -> np.ndarray:
    """One number a token; NaN for the first, which follows nothing."""
    values = np.full(len(text), np.nan)
    if rows is not None:
        values[1:] = measure(rows)
    return values


def _shannon(rows: torch.Tensor) -> np.ndarray:
    import torch

    entropy: np.ndarray = torch.special.entr(rows.double()).sum(1).numpy()
    return entropy
