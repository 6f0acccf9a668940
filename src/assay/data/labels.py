"""Labels: integer class indices 0..K-1 or class names, checked once, with an optional group column."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from ..core.errors import DataError
from .request import printable

MOST_CLASSES = 100_000
MISSING = ("", "nan", "null")
NUMBER = re.compile(r"[+-]?[0-9]{1,15}(\.[0-9]{0,15})?")


class Labels(NamedTuple):
    """Class indices int64 [N] with the names of all K classes."""

    indices: np.ndarray
    class_names: tuple[str, ...]
    notes: tuple[str, ...] = ()


def read_labels(
    values: Any, *, where: str, class_names: Sequence[str] | None = None, others: Iterable[Any] = ()
) -> Labels:
    """Class indices from integers, whole floats, booleans or strings.

    Args:
        values: [N] or [N, 1]; integers are class indices, strings class names (sorted to give the indices).
        where: what the labels belong to, for messages.
        class_names: names known from elsewhere; integers must lie below their number.
        others: labels of the other splits, so that every split has the same classes.

    Raises:
        DataError: negative, fractional, missing or impossibly large labels, or none at all.
    """
    mine = _plain(values, where)
    if len(mine) == 0:
        raise DataError(f"{where} is empty: it has no samples. At least one labelled sample is needed.")
    rest = [_plain(other, where) for other in others]
    if class_names is not None and mine.dtype.kind == "U":
        return _named(mine, [printable(str(name)) for name in class_names], where)
    if any(part.dtype.kind != mine.dtype.kind for part in rest if len(part)):
        raise DataError(f"{where}: some splits have integer labels and others names. Use the same kind in all.")
    if mine.dtype.kind == "U":
        return _named(mine, sorted(set(np.concatenate([mine, *rest]).tolist())), where)
    known = None if class_names is None else tuple(printable(str(name)) for name in class_names)
    return _numbered(mine, max([int(part.max()) for part in (mine, *rest) if len(part)]), known, where)


def read_groups(values: Any, length: int, where: str) -> np.ndarray:
    """A group (stratum) for each sample, as text [N]; a missing value becomes ``"unknown"``."""
    array = np.asarray(values, dtype=object)
    if array.shape != (length,):
        raise DataError(f"{where}: the group column has shape {array.shape}; one value for each of {length} samples.")
    return np.array(["unknown" if value is None else _text(value) for value in array.tolist()], dtype=np.str_)


def check_lengths(images: int, labels: int, where: str, kind: str = "labels") -> None:
    """As many images as labels, or whatever else there is one of for each image."""
    if images != labels:
        raise DataError(
            f"{where} has {images} images but {labels} {kind}. "
            "One for each image is needed: check that both come from the same split."
        )


def _numbered(indices: np.ndarray, largest: int, names: tuple[str, ...] | None, where: str) -> Labels:
    if names is not None and largest >= len(names):
        wrong = int((indices >= len(names)).sum())
        raise DataError(
            f"{where}: {wrong} of {len(indices)} labels are out of range: the largest is {largest}, but there are "
            f"{len(names)} classes, so 0 to {len(names) - 1} are allowed. Correct the labels or the class names."
        )
    notes: tuple[str, ...] = ()
    if largest > 0 and int(indices.min()) == 1 and int(indices.max()) == largest:
        notes = (
            f"No sample has label 0 and the largest label is {largest}: if the classes are counted from 1, "
            "subtract 1 from every label.",
        )
    return Labels(indices, names or tuple(str(index) for index in range(largest + 1)), notes)


def _named(values: np.ndarray, names: list[str], where: str) -> Labels:
    place = {name: index for index, name in enumerate(names)}
    unknown = sorted({value for value in values.tolist() if value not in place})
    if unknown:
        raise DataError(
            f"{where}: {len(unknown)} labels are not among the class names, such as {unknown[0]!r}. "
            f"There are: {', '.join(names[:20])}."
        )
    return Labels(np.array([place[value] for value in values.tolist()], dtype=np.int64), tuple(names))


def _plain(values: Any, where: str) -> np.ndarray:
    """Labels as int64 [N] or text [N]."""
    array = np.asarray(values)
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim != 1:
        hint = " One-hot labels become indices by argmax over the classes." if array.ndim == 2 else ""
        raise DataError(f"{where}: labels have shape {array.shape}; one label for each sample, [N], is needed.{hint}")
    if array.dtype.kind == "O":
        array = _from_objects(array, where)
    if array.dtype.kind in "SU":
        array = _from_text([_text(value) for value in array.tolist()], where)
    if array.dtype.kind == "U":
        return array
    if array.dtype.kind not in "buif":
        raise DataError(f"{where}: labels are of type {array.dtype}; integers or names are needed.")
    return _whole(array, where)


def _from_objects(array: np.ndarray, where: str) -> np.ndarray:
    items = array.tolist()
    _refuse_missing(sum(item is None for item in items), len(items), where)
    if all(isinstance(item, str) for item in items):
        return np.array(items, dtype=np.str_)
    if all(isinstance(item, (int, float)) for item in items):
        return np.array(items)
    raise DataError(f"{where}: labels are neither all integers nor all names. Use one kind for all samples.")


def _from_text(items: list[str], where: str) -> np.ndarray:
    """Numbers written as text are numbers: sorted as text, "10" would come before "2"."""
    _refuse_missing(sum(item.lower() in MISSING for item in items), len(items), where)
    if all(NUMBER.fullmatch(item) for item in items):
        return np.array(items, dtype=np.float64)
    return np.array(items, dtype=np.str_)


def _refuse_missing(missing: int, total: int, where: str) -> None:
    if missing:
        raise DataError(
            f"{where}: {missing} of {total} labels are missing. Remove those rows, or choose another "
            "column with labels_key."
        )


def _whole(array: np.ndarray, where: str) -> np.ndarray:
    wrong, rule = 0, ""
    if array.dtype.kind == "f":
        finite = np.isfinite(array)
        wrong, rule = int((~finite).sum()), "NaN or infinite"
        if not wrong:
            wrong, rule = int((array != np.floor(array)).sum()), "not whole numbers"
    if not wrong:
        wrong, rule = int((array < 0).sum()), "negative"
    if not wrong:
        wrong, rule = int((array >= MOST_CLASSES).sum()), f"{MOST_CLASSES} or more"
    if wrong:
        raise DataError(
            f"{where}: {wrong} of {len(array)} labels are {rule} (range {array.min()} to {array.max()}). "
            f"Labels are class indices 0 to K-1, with K at most {MOST_CLASSES}, or class names: correct them, "
            "or choose another column with labels_key."
        )
    return array.astype(np.int64)


def _text(value: Any) -> str:
    return printable(value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else str(value))
