"""What is checked of answers before anything is computed from them: shapes, classes, labels, masks, probabilities."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..core.errors import DataError

_SUM_TO_ONE = 1e-3
_ROUNDED = 0.05  # probabilities that a service rounded need not sum to 1 exactly


def as_array(value: Any) -> np.ndarray:
    """An array of a NumPy array, a memory map (not read), a torch tensor on any device, or nested lists."""
    if hasattr(value, "detach"):
        value = value.detach().cpu()
        return np.asarray(value.numpy() if "bfloat16" not in str(value.dtype) else value.float().numpy())
    try:
        return np.asarray(value)
    except ValueError as error:
        raise DataError(f"Lists of different lengths were given, and one array is needed ({error}).") from None


def with_queries(values: np.ndarray, axes: int, name: str) -> np.ndarray:
    """``[..., C]`` as ``[..., 1, C]``: one query a record, where the axis of queries was left out.

    Args:
        values: with ``axes`` axes, or one less.
        axes: the number of axes with queries.
        name: of the argument, for the error.
    """
    if values.dtype.kind not in "fiub":
        raise DataError(f"{name} is an array of {values.dtype}; numbers are needed.")
    if values.ndim == axes - 1:
        return np.expand_dims(values, -2)
    if values.ndim != axes:
        inner = "N, C], or [N, K, C]" if axes == 3 else "M, N, C], or [M, N, K, C]"
        raise DataError(f"{name} has the shape {values.shape}; [{inner} with K queries a record, is needed.")
    return values


def models(values: Any, name: str) -> Any:
    """The answers of M models: one array ``[M, N, K, C]``, or a list of M arrays ``[N, K, C]`` read one at a time.

    Raises:
        DataError: shapes are not these, or differ between models.
    """
    if isinstance(values, Sequence) and any(hasattr(one, "shape") for one in values):
        listed = [with_queries(as_array(one), 3, f"{name}[{m}]") for m, one in enumerate(values)]
        shapes = {one.shape for one in listed}
        if len(shapes) > 1:
            found = ", ".join(map(str, sorted(shapes)))
            raise DataError(f"The models of {name} answered with different shapes: {found}. One for all is needed.")
        return listed
    return with_queries(as_array(values), 4, name)


def check_shapes(reference: Any, target: np.ndarray, name: str) -> None:
    """Reference models and target must have answered to the same queries, with the same classes.

    Args:
        reference: [M, N, K, C], or M arrays [N, K, C].
        target: [N, K, C].
        name: what they are answers to, such as ``"records"``.
    """
    if not target.shape[0] or not target.shape[1]:
        raise DataError(f"There are no {name}: the target's answers have the shape {target.shape}. Give at least one.")
    if target.shape[2] < 2:
        raise DataError(
            f"The target's answers have the shape {target.shape}, that is one class; at least two are needed. "
            "For a binary model with one logit z, give the two logits [0, z]."
        )
    if not len(reference):
        return
    shape = tuple(reference[0].shape)
    for axis, what in ((0, name), (1, "queries of each of the " + name), (2, "classes")):
        if shape[axis] != target.shape[axis]:
            raise DataError(
                f"The reference models answered with {shape[axis]} {what}, the target with {target.shape[axis]}; "
                "both must answer to the same queries, with the same classes in the same order."
            )


def check_mask(in_mask: Any, shape: tuple[int, int]) -> np.ndarray:
    """The membership of references: booleans ``[M, N]``."""
    mask = as_array(in_mask)
    if mask.dtype != bool:
        raise DataError(
            f"in_mask is an array of {mask.dtype}; booleans are needed, true where a model was trained with a record. "
            "Use mask.astype(bool) if it holds 0 and 1."
        )
    if mask.shape != shape:
        raise DataError(
            f"in_mask has the shape {mask.shape}; {shape} is needed: {shape[0]} reference models, {shape[1]} records."
        )
    return mask


def check_labels(labels: Any, records: int, classes: int | None, name: str = "labels") -> np.ndarray:
    """Labels as int64 ``[N]``, within the classes of the model where their number is known."""
    found = as_array(labels)
    if found.dtype.kind not in "iu":
        raise DataError(f"{name} are an array of {found.dtype}; whole numbers are needed.")
    if found.shape != (records,):
        raise DataError(f"{name} have the shape {found.shape}; ({records},) is needed, one for each record.")
    top = classes if classes is not None else np.iinfo(np.int64).max
    wrong = np.flatnonzero((found < 0) | (found >= top))
    if len(wrong):
        raise DataError(
            f"{name}[{wrong[0]}] is {found[wrong[0]]}; 0 to {top - 1} are allowed for a model of {top} classes "
            f"({len(wrong)} of {records} labels are outside)."
        )
    return found.astype(np.int64)


def check_target(values: np.ndarray, name: str) -> None:
    """Every answer of the target must be usable: no NaN, no +inf, and not -inf for every class."""
    for start in range(0, len(values), 4096):
        top = np.max(values[start : start + 4096], axis=-1)
        wrong = np.argwhere(~np.isfinite(top))
        if len(wrong):
            record, query = int(wrong[0, 0]) + start, int(wrong[0, 1])
            raise DataError(
                f"{name}[{record}, {query}] holds {values[record, query].tolist()}; NaN, +inf, and -inf for every "
                "class are no answer. Leave the record out, or find out why the model gives no finite number."
            )


def looks_like_probabilities(values: np.ndarray) -> bool:
    """Whether all rows are nonnegative and sum to 1, as logits never do but in examples of one row or of 0 and 1."""
    if values.shape[0] * values.shape[1] < 2 or bool(np.isin(values, (0, 1)).all()):
        return False
    answered = 0
    for start in range(0, len(values), 4096):
        rows = np.asarray(values[start : start + 4096], dtype=np.float64).reshape(-1, values.shape[-1])
        rows = rows[~np.isnan(rows).any(axis=1)]
        answered += len(rows)
        if (rows < 0).any() or (abs(rows.sum(axis=1) - 1) > _SUM_TO_ONE).any():
            return False
    return answered > 0


def refuse_probabilities(values: np.ndarray, name: str) -> None:
    """Raise where what should be logits are probabilities."""
    if looks_like_probabilities(values):
        raise DataError(
            f"{name} are probabilities: every row is nonnegative and sums to 1. Logits are needed; give the logarithms "
            "of the probabilities, or use answers_from_probabilities."
        )


def check_probabilities(values: np.ndarray, name: str) -> None:
    """Raise where rows are not probabilities: nonnegative, with sum 1 (NaN is a missing answer)."""
    rows = np.asarray(values, dtype=np.float64)
    sums = rows.sum(axis=-1)
    wrong = np.argwhere((rows < 0).any(axis=-1) | (abs(sums - 1) > _ROUNDED))
    if len(wrong):
        place = tuple(int(index) for index in wrong[0])
        raise DataError(
            f"{name}{list(place)} holds {rows[place].tolist()}, with sum {sums[place]:g}; probabilities must be at "
            "least 0 and sum to 1. If these are logits, use answers_from."
        )
