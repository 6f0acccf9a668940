"""Maps: a class id or a depth for every pixel, held as one array."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

import numpy as np

_CHUNK = 16


class Maps(Protocol):
    """Where a DenseDataset keeps its masks or its depths: shared by all its subsets, read by row."""

    shape: tuple[int, int]

    def read(self, rows: np.ndarray) -> np.ndarray:
        """Masks int64 [n, H, W], or depths float32 [n, H, W] in metres with 0 where there is none."""

    def content(self, rows: np.ndarray) -> Iterator[bytes]:
        """The stored bytes of the rows, for the digest."""


class ArrayMaps:
    """Maps in one array [N, H, W]: ids of any whole type, or depths as float32 metres.

    Args:
        array: [N, H, W].
        kind: ``"mask"`` or ``"depth"``.
    """

    def __init__(self, array: np.ndarray, kind: str) -> None:
        self.array = array
        self.kind = kind
        self.shape: tuple[int, int] = (array.shape[1], array.shape[2])

    def read(self, rows: np.ndarray) -> np.ndarray:
        return self.array[rows].astype(np.int64 if self.kind == "mask" else np.float32)

    def content(self, rows: np.ndarray) -> Iterator[bytes]:
        wanted = np.dtype("<i8") if self.kind == "mask" else np.dtype("<f4")
        yield f"{self.kind} {self.shape}".encode()
        for start in range(0, len(rows), _CHUNK):
            yield np.ascontiguousarray(self.array[rows[start : start + _CHUNK]], dtype=wanted).tobytes()
