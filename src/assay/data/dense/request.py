"""What a caller asks of a reader of dense data."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from ...core.errors import DataError
from ..request import Request

KEYS = ("images_key", "masks_key", "depth_key", "labels_key")


@dataclass(frozen=True, kw_only=True)
class DenseRequest(Request):
    """The options of ``load_dense``, as every reader receives them.

    ``bare``: images alone are wanted, so masks and depths are neither read nor needed, and labels that cannot be used
    are left out; ``labelled``: with bare images, labels are wanted after all.
    """

    masks_key: str | None = None
    depth_key: str | None = None
    num_classes: int | None = None
    class_names: tuple[str, ...] | None = None
    ignore_index: int | None = 255
    depth_scale: float = 1000.0
    max_depth: float | None = None
    bare: bool = False
    labelled: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, low in (("num_classes", 2), ("ignore_index", 0)):
            value = getattr(self, name)
            if value is None:
                continue
            if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < low:
                raise DataError(f"{name} is {value!r}; a whole number of at least {low}, or None, is needed.")
        for name in ("depth_scale", "max_depth"):
            value = getattr(self, name)
            if value is None and name == "max_depth":
                continue
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < math.inf:
                raise DataError(f"{name} is {value!r}; a number above 0 is needed.")
        if self.num_classes is not None and self.class_names is not None and len(self.class_names) != self.num_classes:
            raise DataError(
                f"num_classes is {self.num_classes}, but {len(self.class_names)} class names were given. "
                "Leave num_classes out, or correct the names."
            )
