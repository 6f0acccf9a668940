"""Finished samples of a certification, kept so that a stopped one goes on where it was."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from torch import Tensor

from ..core.shards import Shards

COLUMNS = ("candidates", "counts", "samples_used", "radius", "abstained", "seconds", "disagreements")
KEEP_EVERY = 64
KEEP_SECONDS = 2.0


@dataclass
class Store:
    """Finished samples: those of earlier runs, and those of this one, written every few seconds."""

    shards: Shards | None
    about: str
    rows: dict[int, dict[str, float]] = field(default_factory=dict)
    marks: dict[int, int] = field(default_factory=dict)
    pending: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.prefix = f"certify/{hashlib.blake2b(self.about.encode(), digest_size=8).hexdigest()}/"
        self.written = time.monotonic()
        for _, row, mark, values in kept(self.shards, self.prefix):
            self.rows[row], self.marks[row] = values, mark

    def has(self, sample_id: int, mark: int) -> bool:
        """Whether this very image was certified under this name."""
        return sample_id in self.rows and self.marks[sample_id] == mark

    def add(self, sample_id: int, mark: int, values: dict[str, float]) -> None:
        """A finished sample; it is on the disk after 64 more, or 2 seconds, or at the end."""
        self.rows[sample_id], self.marks[sample_id] = values, mark
        self.pending.append(sample_id)
        if len(self.pending) >= KEEP_EVERY or time.monotonic() - self.written > KEEP_SECONDS:
            self.flush()

    def flush(self) -> None:
        """Write what is pending."""
        if self.shards is not None and self.pending:
            columns = {name: np.asarray([self.rows[row][name] for row in self.pending]) for name in COLUMNS}
            marks = np.asarray([self.marks[row] for row in self.pending], dtype=np.uint64)
            key = f"{self.prefix}{self.pending[0]}-{self.marks[self.pending[0]]:016x}"
            self.shards.put(key, sample_ids=np.asarray(self.pending), marks=marks, **columns)
        self.pending, self.written = [], time.monotonic()

    def columns(self, ids: Sequence[int]) -> dict[str, np.ndarray]:
        """All columns in the order of the samples."""
        return {name: np.asarray([self.rows[sample][name] for sample in ids]) for name in COLUMNS}

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *_: object) -> None:
        self.flush()


def kept(shards: Shards | None, prefix: str = "certify/") -> Iterator[tuple[str, int, int, dict[str, float]]]:
    """Every finished sample in a store: settings' digest, name, fingerprint of the image, and its results."""
    for key in shards.keys() if shards is not None else ():
        if shards is not None and key.startswith(prefix):
            arrays = shards.get(key)
            for place, (sample, mark) in enumerate(zip(arrays["sample_ids"], arrays["marks"], strict=True)):
                values = {name: arrays[name][place].item() for name in COLUMNS}
                yield key.split("/")[1], int(sample), int(mark), values


def fingerprint(image: Tensor) -> int:
    """A fingerprint of an image, so that results are never taken over for another one."""
    data = image.contiguous().numpy().tobytes()
    return int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), "big")
