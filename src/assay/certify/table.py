"""Certificates as a table in the columns of Cohen et al.: idx, label, predict, radius, correct, time."""

from __future__ import annotations

import datetime
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from ..core.files import make_folder, write_atomic
from ..core.shards import Shards
from .store import kept

HEAD = ("idx", "label", "predict", "radius", "correct", "time")
_DIGITS = 10**6


class Line(NamedTuple):
    """One sample: its name, true class, answer (-1: none), proved radius, and the seconds it took."""

    idx: int
    label: int
    predict: int
    radius: float
    seconds: float

    def __str__(self) -> str:
        """Tab-separated; the radius is cut off, never rounded up, so that the file proves no more than the run."""
        cut = math.floor(self.radius * _DIGITS) / _DIGITS
        time = datetime.timedelta(seconds=max(0.0, self.seconds))
        return f"{self.idx}\t{self.label}\t{self.predict}\t{cut:.6f}\t{int(self.predict == self.label)}\t{time}"


def write_table(path: str | Path, lines: Iterable[Line]) -> Path:
    """Write the table, whole or not at all; one row a sample, sorted by ``idx``.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = write_table(f"{folder}/certificates.tsv", [Line(3, 7, 7, 0.51234567, 1.5)])
    ...     print(file.read_text().expandtabs(8))
    idx     label   predict radius  correct time
    3       7       7       0.512345        1       0:00:01.500000
    <BLANKLINE>
    """
    rows = ["\t".join(HEAD), *(str(line) for line in sorted(lines))]
    place = Path(path)
    make_folder(place.parent)
    write_atomic(place, "\n".join(rows) + "\n")
    return place


def finished_lines(shards: Shards, labels: Mapping[int, int]) -> list[Line]:
    """The samples that a certification has finished so far, stopped or not.

    Args:
        shards: the store that :func:`assay.certify.certify` was given.
        labels: true classes by sample; samples that are not in it are left out.
    """
    found = {}
    for _, sample, _, values in kept(shards):
        if sample in labels:
            answer = -1 if values["abstained"] else int(values["candidates"])
            found[sample] = Line(sample, labels[sample], answer, values["radius"], values["seconds"])
    return list(found.values())


def labels_by_name(sample_ids: Sequence[int], labels: Sequence[int]) -> dict[int, int]:
    """True classes by sample, for :func:`finished_lines`."""
    return {int(sample): int(label) for sample, label in zip(sample_ids, labels, strict=True)}
