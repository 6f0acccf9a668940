"""Certify: robustness that is proved, by randomized smoothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..core.lazy import lazy

if TYPE_CHECKING:
    from .bounds import CertifiedRadius, certified_radius, clopper_pearson_lower, clopper_pearson_upper, largest_radius
    from .certificates import Certificates
    from .local import hessian_top_eigenvalue, input_gradient_norm, local_lipschitz
    from .prediction import Predictions, predict
    from .sequences import confidence_sequence
    from .smoothing import certify

METHODS = ("certified_accuracy",)

__all__ = [
    "Certificates",
    "CertifiedRadius",
    "Predictions",
    "certified_radius",
    "certify",
    "clopper_pearson_lower",
    "clopper_pearson_upper",
    "confidence_sequence",
    "hessian_top_eigenvalue",
    "input_gradient_norm",
    "largest_radius",
    "local_lipschitz",
    "predict",
]

__getattr__, __dir__ = lazy(
    __name__,
    {
        "Certificates": ".certificates",
        "CertifiedRadius": ".bounds",
        "Predictions": ".prediction",
        "certified_radius": ".bounds",
        "certify": ".smoothing",
        "clopper_pearson_lower": ".bounds",
        "clopper_pearson_upper": ".bounds",
        "confidence_sequence": ".sequences",
        "hessian_top_eigenvalue": ".local",
        "input_gradient_norm": ".local",
        "largest_radius": ".bounds",
        "local_lipschitz": ".local",
        "predict": ".prediction",
    },
)
