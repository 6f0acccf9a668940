"""Certificates: what was proved for each sample, and what it amounts to."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from ..core.estimates import Estimate, bootstrap, proportion
from ..core.probes import Cost, Finding


@dataclass(kw_only=True)
class Certificates:
    """What randomized smoothing proved for N samples; all arrays are [N].

    A certificate says: with probability at least 1 - ``alpha`` over the noise that was
    drawn, the smoothed classifier answers ``predicted`` everywhere in the open L2 ball of
    ``radius`` around this input. It holds for each sample by itself; for a joint statement
    over N samples certify with ``alpha / N``.

    Args:
        sigma: standard deviation of the noise.
        alpha: probability of a wrong certificate, per sample.
        n0: noisy copies that chose the class.
        n: noisy copies to count at most.
        mode: ``"fixed"``, ``"radius"``, ``"grid"`` or ``"estimate"``.
        radii: the radii that were asked for; () in the other modes.
        dtype: precision of the model that was certified.
        sample_ids: names of the samples.
        labels: true classes.
        candidates: the class that was counted.
        predicted: that class, -1 where the smoothed classifier abstained.
        radius: proved radius, 0 where it abstained. In the modes ``radius`` and ``grid`` counting stops
            when the radii asked for are decided, so that more might be provable.
        counts: votes of the candidate among ``samples_used - n0`` copies.
        samples_used: noisy copies in all, those that chose the class included.
        seconds: time each sample took.
        disagreements: of 16 noisy copies, those that the caller's module in float32 answered otherwise.
        findings: what to know before trusting the certificates.
        cost: noisy passes and seconds.
    """

    sigma: float
    alpha: float
    n0: int
    n: int
    mode: str
    radii: tuple[float, ...]
    dtype: str
    sample_ids: np.ndarray
    labels: np.ndarray
    candidates: np.ndarray
    predicted: np.ndarray
    radius: np.ndarray
    counts: np.ndarray
    samples_used: np.ndarray
    seconds: np.ndarray
    disagreements: np.ndarray
    findings: list[Finding] = field(default_factory=list)
    cost: Cost = field(default_factory=Cost)

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def abstained(self) -> np.ndarray:
        """Where the smoothed classifier gives no answer: [N] bool."""
        return self.predicted < 0

    @property
    def correct(self) -> np.ndarray:
        """Where it answers, and rightly: [N] bool."""
        return self.predicted == self.labels

    def certified(self, radius: float) -> np.ndarray:
        """Samples that are answered rightly with a proved radius of at least ``radius``: [N] bool."""
        return self.correct & (self.radius >= radius)

    def certified_accuracy(self, radius: float) -> Estimate:
        """Share of samples with a right answer and at least this radius, with its Clopper-Pearson interval."""
        found = self.certified(radius)
        return proportion(int(found.sum()), len(found))

    @property
    def average_certified_radius(self) -> Estimate:
        """Mean of radius times correct: a wrong answer counts 0 however firmly it is certified."""
        return bootstrap(self.radius * self.correct)
