"""When to stop counting votes, and what the count proves then."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from scipy.special import ndtr, ndtri

from .bounds import CertifiedRadius, certified_radius, largest_radius, radius_of
from .sequences import confidence_sequence, shows_more_than

FIRST_LOOK = 32
GROWTH = 1.25


class Rule(Protocol):
    """Watches the votes of one sample; a fresh one for every sample."""

    def decided(self, count: int, n: int) -> bool: ...

    def result(self, count: int, n: int) -> CertifiedRadius: ...


def looks(n: int) -> list[int]:
    """The numbers of votes after which a sequential rule looks: 32, 64, ..., each 1.25 times the last, up to ``n``.

    Multiples of 32, so that they fill network calls. Fewer looks than votes are conservative: the bounds
    hold at every moment, and what would have been decided between two looks is decided at the next.

    >>> looks(300)
    [32, 64, 96, 128, 160, 224, 288, 300]
    """
    found, at = [], FIRST_LOOK
    while at < n:
        found.append(at)
        at = -(-max(at + FIRST_LOOK, int(at * GROWTH)) // FIRST_LOOK) * FIRST_LOOK
    return [*found, n]


class Fixed:
    """All n votes, then the bound of Clopper and Pearson."""

    def __init__(self, alpha: float, sigma: float) -> None:
        self.alpha, self.sigma = alpha, sigma

    def decided(self, count: int, n: int) -> bool:
        """Never before the end."""
        return False

    def result(self, count: int, n: int) -> CertifiedRadius:
        """Cohen's CERTIFY."""
        return certified_radius(count, n, self.alpha, self.sigma)


class Grid:
    """Until every radius is shown (p_A > Φ(r/σ) at level α) or given up (p_A < Φ(r/σ), at the same level)."""

    def __init__(self, alpha: float, sigma: float, radii: tuple[float, ...]) -> None:
        self.alpha, self.sigma = alpha, sigma
        self.radii = np.asarray(sorted(radii))
        self.levels = ndtr(self.radii / sigma)
        self.shown = np.zeros(len(radii), dtype=bool)

    def decided(self, count: int, n: int) -> bool:
        """Whether no radius is open any more; what was shown once stays shown."""
        self.shown |= shows_more_than(count, n, self.levels, self.alpha)
        return bool((self.shown | shows_more_than(n - count, n, 1 - self.levels, self.alpha)).all())

    def result(self, count: int, n: int) -> CertifiedRadius:
        """The radius of the lower bound at the end, or the largest that was shown on the way."""
        found = radius_of(confidence_sequence(count, n, self.alpha, side="lower").lower, self.sigma)
        if not self.shown.any():
            return found
        return CertifiedRadius(max(found.radius, float(self.radii[self.shown].max())), False)


class Within:
    """Until the interval of the radius is short: at most ``tolerance`` times its upper end, or times σ/4 below that.

    The upper end is no larger than what n votes could prove. A sample whose upper bound of p_A is below
    1/2 is settled: it abstains.
    """

    def __init__(self, alpha: float, sigma: float, tolerance: float, n: int) -> None:
        self.alpha, self.sigma, self.tolerance = alpha, sigma, tolerance
        self.most = largest_radius(n, alpha, sigma, sequential=True)
        self.best = 0.0

    def decided(self, count: int, n: int) -> bool:
        """Whether the interval is short enough."""
        self.best = max(self.best, confidence_sequence(count, n, self.alpha, side="lower").lower)
        upper = confidence_sequence(count, n, self.alpha, side="upper").upper
        if upper < 0.5:
            return True
        if self.best < 0.5:
            return False
        largest = min(self.most, float(self.sigma * ndtri(upper)))
        width = largest - self.sigma * float(ndtri(self.best))
        return bool(width <= self.tolerance * max(largest, self.sigma / 4))

    def result(self, count: int, n: int) -> CertifiedRadius:
        """The radius of the highest lower bound so far; bounds that hold at all times may be maximised."""
        return radius_of(self.best, self.sigma)
