"""PREDICT: the answer of the smoothed classifier, or none where the noise leaves it open."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import bdtrc
from torch import Tensor

from ..core.errors import SettingError
from ..subjects.target import Target
from .smoothing import Smoothing
from .votes import NoisyModel


@dataclass(kw_only=True)
class Predictions:
    """Answers of the smoothed classifier; all arrays are [N].

    Args:
        predicted: class, -1 where it abstained.
        p_values: of the test that the two most frequent classes are equally likely.
        labels: true classes, or None if none were given.
    """

    predicted: np.ndarray
    p_values: np.ndarray
    labels: np.ndarray | None

    @property
    def abstained(self) -> np.ndarray:
        """Where there is no answer: [N] bool."""
        return self.predicted < 0

    @property
    def correct(self) -> np.ndarray:
        """Where the answer is right: [N] bool."""
        if self.labels is None:
            raise SettingError("No labels were given; call predict(target, images, labels, ...) to know what is right.")
        return self.predicted == self.labels


def predict(
    target: Target,
    images: Tensor,
    labels: Tensor | None = None,
    *,
    sigma: float,
    n: int = 1000,
    alpha: float = 0.001,
    seed: int = 0,
    batch_size: int = 256,
    sample_ids: Sequence[int] | None = None,
) -> Predictions:
    """PREDICT of Cohen et al. (arXiv 1902.02918): the most frequent class of ``n`` noisy copies, if it is clear.

    Clear means that n_A of n_A + n_B votes, for the two most frequent classes, are significant in
    the exact two-sided binomial test at 1/2. The probability of an answer other than that of the
    smoothed classifier is at most ``alpha``.

    Args:
        target: the model.
        images: [N, ...], raw; noisy copies are not clamped.
        labels: [N], to ask the result what is correct.
        sigma: standard deviation of the noise, above 0.
        n: noisy copies.
        alpha: probability of a wrong answer, in (0, 1).
        seed: root of the noise.
        batch_size: noisy copies in one call at most; the result does not depend on it.
        sample_ids: names of the samples; default 0, 1, ...

    Raises:
        SettingError, DataError, ModelError: what was given cannot be used.

    Cost: n forward passes a sample.
    """
    plan = Smoothing(sigma=sigma, n0=1, n=n, alpha=alpha)
    images = target.check_images(images)
    known = None if labels is None else target.check_labels(labels, len(images)).numpy()
    ids = range(len(images)) if sample_ids is None else sample_ids
    model = NoisyModel(target, plan.sigma, plan.dtype, tuple(images.shape[1:]), batch_size)
    predicted = np.full(len(images), -1, dtype=np.int64)
    p_values = np.ones(len(images))
    with target.undisturbed():
        for row, (image, sample) in enumerate(zip(images, ids, strict=True)):
            votes = model.stream(image, seed, int(sample), "predict").votes(plan.n)[0].numpy()
            order = np.argsort(-votes, kind="stable")
            p_values[row] = two_sided_p(int(votes[order[0]]), int(votes[order[1]]))
            if p_values[row] <= alpha:
                predicted[row] = order[0]
    return Predictions(predicted=predicted, p_values=p_values, labels=known)


def two_sided_p(first: int, second: int) -> float:
    """p-value of the exact two-sided test that two classes are equally likely: min(1, 2 P[Bin(n, 1/2) >= max]).

    >>> two_sided_p(9, 1) == 22 / 1024
    True
    """
    return min(1.0, 2.0 * float(bdtrc(max(first, second) - 1, first + second, 0.5))) if first + second else 1.0
