"""Whether an encoder still tells images apart: how far its embeddings spread, and over how many directions."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

FLAT, NARROW = 0.02, 1.5


class Spread(NamedTuple):
    """What is said of embeddings [N, D].

    Args:
        deviation: mean over the dimensions of the standard deviation of z / ||z||, times sqrt(D): 0 for
            a constant embedding, about 1 for one that fills the sphere evenly.
        effective_rank: exp of the entropy of the covariance's eigenvalues, as shares of their sum: 1 to D.
    """

    deviation: float
    effective_rank: float

    @property
    def collapsed(self) -> bool:
        """Whether embeddings hardly depend on the image, or on one of its properties alone."""
        return self.deviation < FLAT or self.effective_rank < NARROW


def spread(embeddings: np.ndarray) -> Spread:
    """Spread of embeddings [N, D] (Chen and He, arXiv 2011.10566, Figure 2; Roy and Vetterli, EUSIPCO 2007).

    >>> spread(np.ones((4, 3)))
    Spread(deviation=0.0, effective_rank=1.0)
    >>> round(spread(np.concatenate([np.eye(3), -np.eye(3)])).effective_rank, 6)
    3.0
    """
    values = np.asarray(embeddings, dtype=np.float64)
    length = np.linalg.norm(values, axis=1, keepdims=True)
    unit = values / np.maximum(length, 1e-12)
    deviation = float(unit.std(0).mean() * np.sqrt(values.shape[1]))
    centred = values - values.mean(0)
    powers = np.linalg.svd(centred, compute_uv=False) ** 2
    scale = max(float(np.square(values).sum()), 1e-300)
    if powers.sum() <= 1e-12 * scale:
        return Spread(deviation if deviation > 1e-9 else 0.0, 1.0)
    shares = powers[powers > 0] / powers.sum()
    return Spread(deviation, float(np.exp(-(shares * np.log(shares)).sum())))
