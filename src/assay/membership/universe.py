"""Members and non-members of a model, joined to one data set that shadow models are trained on halves of.

An attack is judged by records whose truth is known. A record on both sides has no truth, so that an overlap by
content is an error; copies within one side are counted, and kept together where intervals are made.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from ..core.errors import DataError
from ..core.probes import Finding
from ..data.dataset import Dataset
from ..data.pixels import ArrayPixels

_CHUNK = 1024
_LEVELS = 65535  # finer than 8 bits, coarser than rounding: the same picture as uint8 and as floats is one picture
_SHOWN = 5


@dataclass(frozen=True, eq=False, kw_only=True)
class Universe:
    """Records whose truth is known, made by :func:`join`.

    Args:
        data: members, then non-members; every record has a sample id of its own.
        member: [N] whether the target was trained with the record.
        rows: int64 [N], row of each record in the source it came from.
        clusters: int64 [N], the same number for records of the same picture.
        about: the two data sets, as records describe them.
    """

    data: Dataset
    member: np.ndarray
    rows: np.ndarray
    clusters: np.ndarray
    about: dict[str, Any]

    def __len__(self) -> int:
        return len(self.data)

    @property
    def members(self) -> int:
        """How many are members."""
        return int(self.member.sum())

    @property
    def nonmembers(self) -> int:
        """How many are not."""
        return len(self) - self.members

    @cached_property
    def copies(self) -> int:
        """Records that repeat the picture of an earlier one."""
        return len(self) - len(np.unique(self.clusters))

    def findings(self) -> list[Finding]:
        """What to know of the records before trusting an attack on them."""
        if not self.copies:
            return []
        return [
            Finding(
                code="repeated-records",
                severity="warning",
                message=f"{self.copies} of {len(self):,} records repeat the picture of another one. A shadow model may "
                "know the picture from the copy although the record was held out, which hides its exposure.",
                remedy="Remove the copies. Intervals keep copies together, as one record.",
                value=float(self.copies),
            )
        ]

    def describe(self) -> dict[str, Any]:
        """What a record says of the data: both sides, and one digest over pictures, labels and truth."""
        state = hashlib.blake2b(digest_size=16)
        for piece in (self.data.digest, self.data.sample_id_digest, self.member.tobytes().hex()):
            state.update(piece.encode())
        return {
            "name": self.data.name,
            "source": self.data.source,
            "split": "members and non-members",
            "n": len(self),
            "shape": list(self.data.shape),
            "classes": list(self.data.class_names),
            "groups": None if self.data.groups is None else sorted(set(self.data.groups.tolist())),
            "digest": state.hexdigest(),
            **self.about,
        }


def join(members: Dataset, nonmembers: Dataset) -> Universe:
    """Members and non-members as one data set.

    Args:
        members: records the target was trained with.
        nonmembers: records of the same kind that it was not trained with.

    Raises:
        DataError: shapes or classes differ, a side is empty, or a picture is on both sides.

    Cost: every image is read once; they are kept as uint8 where nothing is lost by it, else as float32.

    >>> from assay import load_data
    >>> universe = join(load_data("digits", split="train"), load_data("digits", split="test"))
    >>> universe.members, universe.nonmembers, universe.copies
    (1347, 450, 0)
    """
    _check(members, nonmembers)
    pixels, prints = _pixels([members, nonmembers])
    member = np.arange(len(prints)) < len(members)
    _refuse_overlap(prints, member, members, nonmembers)
    first: dict[bytes, int] = {}
    clusters = np.array([first.setdefault(mark, place) for place, mark in enumerate(prints)], dtype=np.int64)
    rows = np.concatenate([members.sample_ids, nonmembers.sample_ids]).astype(np.int64)
    data = Dataset(
        name=members.name if members.name == nonmembers.name else f"{members.name} and {nonmembers.name}",
        source=members.source if members.source == nonmembers.source else f"{members.source} and {nonmembers.source}",
        split="all",
        pixels=pixels,
        rows=np.arange(len(prints), dtype=np.int64),
        labels=np.concatenate([members.labels, nonmembers.labels]),
        class_names=members.class_names,
        sample_ids=_unique_ids(rows, member),
        groups=_groups(members, nonmembers),
    )
    about = {"members": members.describe(), "nonmembers": nonmembers.describe()}
    return Universe(data=data, member=member, rows=rows, clusters=clusters, about=about)


def without(data: Dataset, others: Dataset) -> Dataset:
    """The records of ``data`` whose picture is not among ``others``."""
    known = set(fingerprints(others))
    return data.subset(np.array([mark not in known for mark in fingerprints(data)], dtype=bool))


def fingerprints(data: Dataset) -> list[bytes]:
    """A digest of the picture of each record, the same for one picture stored as uint8 and as floats."""
    found: list[bytes] = []
    for first in range(0, len(data), _CHUNK):
        found += _prints(data.images(np.arange(first, min(first + _CHUNK, len(data)))))
    return found


def _prints(images: np.ndarray) -> list[bytes]:
    levels = np.rint(images * _LEVELS).astype("<u2")
    return [hashlib.blake2b(level.tobytes(), digest_size=16).digest() for level in levels]


def _check(members: Dataset, nonmembers: Dataset) -> None:
    for role, data in (("members", members), ("non-members", nonmembers)):
        if data.holds != "images":
            raise DataError(f"The {role} hold {data.holds}; labelled images are needed.")
        if len(data) < 2:
            raise DataError(f"There are {len(data)} {role}; at least 2 are needed, and hundreds to see anything.")
    if members.shape != nonmembers.shape:
        raise DataError(
            f"Members have images of {_sides(members)}, non-members of {_sides(nonmembers)}; both must have one shape. "
            "Prepare both in the same way."
        )
    if members.class_names != nonmembers.class_names:
        raise DataError(
            f"Members have {members.num_classes} classes ({_names(members)}) and non-members {nonmembers.num_classes} "
            f"({_names(nonmembers)}); both must have the same classes, in the same order."
        )


def _sides(data: Dataset) -> str:
    return "x".join(str(side) for side in data.shape)


def _names(data: Dataset) -> str:
    return ", ".join(data.class_names[:_SHOWN]) + ", ..." * (data.num_classes > _SHOWN)


def _refuse_overlap(prints: list[bytes], member: np.ndarray, members: Dataset, nonmembers: Dataset) -> None:
    inside = {mark: place for place, mark in reversed(list(enumerate(prints[: len(members)])))}
    shared = [(inside[mark], place) for place, mark in enumerate(prints[len(members) :]) if mark in inside]
    if not shared:
        return
    shown = ", ".join(
        f"{int(members.sample_ids[first])} = {int(nonmembers.sample_ids[second])}" for first, second in shared[:_SHOWN]
    )
    raise DataError(
        f"{len(shared)} of {len(nonmembers)} non-members show a picture that is among the members too (row of the "
        f"members = row of the non-members: {shown}{', ...' * (len(shared) > _SHOWN)}). Nobody can be right about a "
        "record on both sides: remove them from one."
    )


def _pixels(parts: list[Dataset]) -> tuple[ArrayPixels, list[bytes]]:
    """All images in one array, uint8 where that is exact, and a digest of each picture."""
    count, shape = sum(map(len, parts)), parts[0].shape
    bytes_only, array = True, np.empty((count, *shape), dtype=np.uint8)
    prints: list[bytes] = []
    for data in parts:
        for first in range(0, len(data), _CHUNK):
            images = data.images(np.arange(first, min(first + _CHUNK, len(data))))
            place = slice(len(prints), len(prints) + len(images))
            if bytes_only:
                levels = np.rint(images * 255).astype(np.uint8)
                bytes_only = bool((np.divide(levels, np.float32(255), dtype=np.float32) == images).all())
                if not bytes_only:
                    array = _as_floats(array)
            array[place] = levels if bytes_only else images
            prints += _prints(images)
    return ArrayPixels(array), prints


def _as_floats(array: np.ndarray) -> np.ndarray:
    return np.divide(array, np.float32(255), dtype=np.float32)


def _unique_ids(rows: np.ndarray, member: np.ndarray) -> np.ndarray:
    """Row numbers of the sources where no two are alike, else positions."""
    return rows if len(np.unique(rows)) == len(rows) else np.arange(len(rows), dtype=np.int64)


def _groups(members: Dataset, nonmembers: Dataset) -> np.ndarray | None:
    if members.groups is None or nonmembers.groups is None:
        return None
    return np.concatenate([members.groups.astype(str), nonmembers.groups.astype(str)])
