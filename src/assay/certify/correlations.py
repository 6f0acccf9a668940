"""Whether certified radii fall where the model changes sharply: rank correlations with intervals."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy.stats import rankdata

from ..core.estimates import Estimate, bootstrap
from ..core.probes import Metric
from ..core.seeds import seed as named_seed

if TYPE_CHECKING:
    from .certificates import Certificates

RESAMPLES = 1000
FEWEST_FOR_A_CORRELATION = 10
LOCAL = {
    "local_lipschitz": "local Lipschitz constant of the probabilities",
    "gradient_norm": "L2 norm of the input gradient of the loss",
    "hessian": "largest eigenvalue of the input Hessian of the loss",
}


def spearman(first: np.ndarray, second: np.ndarray, *, seed: int = 0) -> Estimate:
    """Rank correlation of Spearman with its bootstrap interval; NaN for few or constant values.

    Args:
        first, second: [N], finite.
        seed: of the draws.

    >>> spearman(np.arange(20.0), np.arange(20.0) ** 3).value
    1.0
    """

    def correlation(pairs: np.ndarray) -> float:
        ranks = rankdata(pairs, axis=0)
        ranks = ranks - ranks.mean(0)
        scale = float(np.sqrt((ranks**2).sum(0).prod()))
        return round(float((ranks[:, 0] * ranks[:, 1]).sum()) / scale, 12) if scale else 0.0

    pairs = np.stack([first, second], axis=1)
    if len(pairs) < FEWEST_FOR_A_CORRELATION or min(len(np.unique(part)) for part in (first, second)) < 2:
        nothing = float("nan")
        return Estimate(value=nothing, lo=nothing, hi=nothing, n=len(pairs), method="bootstrap")
    return bootstrap(pairs, correlation, resamples=RESAMPLES, seed=seed)


def correlations(found: Certificates, local: dict[str, np.ndarray], root: int) -> list[Metric]:
    metrics = []
    for name, words in LOCAL.items():
        if name not in local:
            continue
        known = np.isfinite(local[name])
        estimate = spearman(found.radius[known], local[name][known], seed=named_seed(root, "radius_vs", name))
        metrics.append(
            Metric.from_estimate(
                f"radius_vs_{name}",
                estimate,
                estimand=f"rank correlation (Spearman) between the certified radius and the {words}, -1 to 1",
                unit="",
                direction="none",
            )
        )
    return metrics
