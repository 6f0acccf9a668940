"""Queries of a record: the image itself, and the image as an augmentation might have shown it to the training.

Every draw belongs to (seed, record, number of the query), so that a record's queries are the same alone and among
many, and more queries only add to fewer.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Protocol

import numpy as np
import torch
from torch import Tensor

from ..core.errors import DataError, SettingError, did_you_mean
from ..tensors.random import bits, sample_seeds
from ..training.batches import crop_flip

if TYPE_CHECKING:
    from ..data.dataset import Dataset

AUGMENTS = ("none", "mirror", "crop-flip")
_MOST = {"none": 1, "mirror": 2}


class Queries(Protocol):
    """What is asked about the records of a data set."""

    count: int
    identity: str

    def __len__(self) -> int: ...

    def of(self, rows: np.ndarray) -> Tensor:
        """Queries of some records: [n, K, C, H, W], float32 in [0, 1]."""


def plain_queries(
    images: Tensor | np.ndarray, ids: Sequence[int], count: int = 1, *, augment: str = "crop-flip", seed: int = 0
) -> Tensor:
    """The image itself, and ``count - 1`` augmented draws of it: [N, K, C, H, W].

    Args:
        images: [N, C, H, W] in [0, 1].
        ids: name of each record, whole numbers [N]; its draws belong to it.
        count: queries K of each record, the image included.
        augment: ``"none"`` (K = 1), ``"mirror"`` (K at most 2), or ``"crop-flip"``: shifts by up to an eighth of the
            side, every second one mirrored, as a training with ``augment=crop-flip`` sees its images.
        seed: root of the draws.

    Raises:
        SettingError: an unknown augmentation, or more queries than it has.
        DataError: not as many ids as images.

    >>> queries = plain_queries(torch.rand(3, 1, 8, 8), [4, 5, 6], 4)
    >>> queries.shape
    torch.Size([3, 4, 1, 8, 8])
    """
    check_queries(count, augment)
    pixels = torch.as_tensor(images, dtype=torch.float32)
    if len(ids) != len(pixels):
        raise DataError(f"There are {len(pixels)} images and {len(ids)} ids; one name a record is needed.")
    found = [pixels]
    if count > 1 and augment == "mirror":
        found.append(pixels.flip(-1))
    elif count > 1:
        seeds = sample_seeds(seed, ids, "query")
        found += [crop_flip(pixels, bits(seeds, 1, number)[:, 0]) for number in range(1, count)]
    return torch.stack(found, dim=1)


def check_queries(count: int, augment: str) -> None:
    """Whether there can be so many queries; SettingError says what can."""
    if augment not in AUGMENTS:
        raise SettingError(f"augment is {augment!r}.{did_you_mean(augment, AUGMENTS)}")
    if count < 1:
        raise SettingError(f"queries is {count}; at least 1 is needed, the image itself.")
    most = _MOST.get(augment, count)
    if count > most:
        raise SettingError(
            f"queries is {count}, and with augment {augment!r} there {'is' if most == 1 else 'are'} only {most}; ask "
            f"for {most}, or use augment 'crop-flip'."
        )


class PlainQueries:
    """The plain queries of a data set.

    Args:
        data: the records.
        count: queries K of each.
        augment: see :func:`plain_queries`.
        seed: root of the draws.
    """

    def __init__(self, data: Dataset, count: int = 1, *, augment: str = "none", seed: int = 0) -> None:
        check_queries(count, augment)
        self.data, self.count, self.augment, self.seed = data, count, augment, seed
        words = [data.digest, "" if count == 1 else [data.sample_id_digest, count, augment, seed]]
        self.identity = hashlib.blake2b(repr(words).encode(), digest_size=16).hexdigest()

    def __len__(self) -> int:
        return len(self.data)

    def of(self, rows: np.ndarray) -> Tensor:
        """Queries of some records: [n, K, C, H, W]."""
        ids = self.data.sample_ids[rows].tolist()
        return plain_queries(self.data.images(rows), ids, self.count, augment=self.augment, seed=self.seed)


class ReadyQueries:
    """Queries that exist already, such as canaries.

    Args:
        images: [N, K, C, H, W] in [0, 1].
    """

    def __init__(self, images: Tensor | np.ndarray) -> None:
        self.images = torch.as_tensor(images, dtype=torch.float32).contiguous()
        if self.images.ndim != 5 or not self.images.numel():
            raise DataError(
                f"Queries have the shape {tuple(self.images.shape)}; [N, K, C, H, W] with at least one is needed."
            )
        self.count = int(self.images.shape[1])
        state = hashlib.blake2b(repr(tuple(self.images.shape)).encode(), digest_size=16)
        state.update(self.images.numpy().tobytes())
        self.identity = state.hexdigest()

    def __len__(self) -> int:
        return len(self.images)

    def of(self, rows: np.ndarray) -> Tensor:
        """Queries of some records: [n, K, C, H, W]."""
        return self.images[torch.as_tensor(rows)]


def chunks(queries: Queries, images: int = 4096) -> Iterator[np.ndarray]:
    """Positions of the records, so many that they have at most ``images`` queries together (or one record)."""
    step = max(1, images // queries.count)
    for first in range(0, len(queries), step):
        yield np.arange(first, min(first + step, len(queries)))
