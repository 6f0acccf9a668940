"""What the adversary may do: a norm and a budget, always in raw input space."""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor

from ..core.errors import SettingError, did_you_mean
from ..core.settings import number
from ..tensors.norms import NORMS, norm, project


@dataclass(frozen=True)
class ThreatModel:
    """Perturbations δ with ||δ|| <= eps that keep the input inside its bounds.

    Args:
        norm: ``"linf"``, ``"l2"`` or ``"l1"``.
        eps: the budget, in the units of the raw input (``8/255`` or ``"8/255"`` for
            images in [0, 1]); at least 0, finite.

    >>> ThreatModel("linf", eps="8/255")
    ThreatModel(norm='linf', eps=0.03137254901960784)
    """

    norm: str
    eps: float

    def __post_init__(self) -> None:
        kind = str(self.norm).lower()
        if kind not in NORMS:
            hint = did_you_mean(kind, NORMS)
            raise SettingError(f"ThreatModel.norm is {self.norm!r}, which is not a norm Assay knows.{hint}")
        eps = number(self.eps, name="ThreatModel.eps")
        if not (eps >= 0 and math.isfinite(eps)):
            raise SettingError(
                f"ThreatModel.eps is {self.eps!r}; allowed: a finite number of at least 0, such as 8/255."
            )
        object.__setattr__(self, "norm", kind)
        object.__setattr__(self, "eps", eps)

    def project(self, points: Tensor, centres: Tensor, bounds: tuple[float, float]) -> Tensor:
        """Points moved into the ball around ``centres`` and into the box: [B, ...]."""
        return project(points, centres, self.eps, self.norm, bounds)

    def holds(self, points: Tensor, centres: Tensor, bounds: tuple[float, float], tolerance: float = 1e-6) -> Tensor:
        """Which points keep budget and box, up to float32 rounding: [B] bool."""
        size = norm(points.double() - centres.double(), self.norm)
        flat = points.flatten(1)
        inside = (flat >= bounds[0] - tolerance).all(1) & (flat <= bounds[1] + tolerance).all(1)
        return (size <= self.eps * (1 + 1e-5) + tolerance) & inside
