"""Detection of many documents as columns of numbers, in blocks that survive an interruption."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from ..core.errors import DataError
from ..core.estimates import Estimate, bootstrap
from ..core.progress import Progress
from .windows import window_sizes

if TYPE_CHECKING:
    from ..core.shards import Shards
    from .watermark import Watermark

BLOCK = 64
NO_WINDOWS = "none"
Columns = dict[str, np.ndarray]


def score(
    watermark: Watermark,
    documents: Sequence[np.ndarray],
    *,
    windows: str = NO_WINDOWS,
    unique: bool = True,
    shards: Shards | None = None,
    name: str = "documents",
    progress: Progress | None = None,
) -> Columns:
    """Detect every document, plainly and by windows.

    Args:
        watermark: the mark that is looked for.
        documents: int64 [n] ids each.
        windows: sizes for :meth:`Watermark.detect_windows`, or ``"none"`` for no windows.
        unique: whether repeated n-grams count once.
        shards: where finished blocks are kept; nowhere by default.
        name: of the blocks.
        progress: where progress is shown.

    Returns:
        Columns [N]: ``tokens``, ``scored``, ``hit_share``, ``z``, ``log10_p``, and with windows ``window_z``,
        ``window_log10_p``, ``window_start``, ``window_end``.

    Cost: one pass over the tokens; windows take a simulation for each document.
    """
    blocks = []
    with (progress or Progress(enabled=False)).task(f"Detecting {name}", total=len(documents)) as task:
        for number, first in enumerate(range(0, len(documents), BLOCK)):
            key = f"{name}/{number}"
            given = documents[first : first + BLOCK]
            if shards is None or key not in shards:
                found = _block(watermark, given, windows, unique)
                if shards is not None:
                    shards.put(key, **found)
            blocks.append(found if shards is None else shards.get(key))
            task.advance(len(given))
    if not blocks:
        raise DataError(f"There are no {name}; at least one document is needed.")
    return {column: np.concatenate([block[column] for block in blocks]) for column in blocks[0]}


def _block(watermark: Watermark, documents: Sequence[np.ndarray], windows: str, unique: bool) -> Columns:
    plain = list(watermark.detect_many(documents, unique_ngrams=unique))
    found = {
        "tokens": np.array([len(ids) for ids in documents], dtype=np.int64),
        "scored": np.array([one.scored for one in plain], dtype=np.int64),
        "hit_share": np.array([one.green_fraction for one in plain], dtype=np.float64),
        "z": np.array([one.z for one in plain], dtype=np.float64),
        "log10_p": np.array([one.log10_p for one in plain], dtype=np.float64),
    }
    if windows == NO_WINDOWS:
        return found
    spans = [watermark.detect_windows(ids, sizes=windows) for ids in documents]
    return found | {
        "window_z": np.array([one.z for one in spans], dtype=np.float64),
        "window_log10_p": np.array([_log10(one.p_value) for one in spans], dtype=np.float64),
        "window_start": np.array([one.start for one in spans], dtype=np.int64),
        "window_end": np.array([one.end for one in spans], dtype=np.int64),
    }


def check_windows(windows: str) -> None:
    """SettingError unless these are window sizes, or ``"none"``."""
    if windows != NO_WINDOWS:
        window_sizes(windows, 1)


def digest(documents: Sequence[np.ndarray], *others: object) -> str:
    """What tells these documents from others: 32 hexadecimal digits over their ids and order.

    Args:
        documents: int64 [n] ids each.
        others: whatever else matters; by their ``repr``.
    """
    total = hashlib.blake2b(repr(others).encode(), digest_size=16)
    for ids in documents:
        total.update(len(ids).to_bytes(8, "little"))
        total.update(np.ascontiguousarray(ids, dtype="<i8").tobytes())
    return total.hexdigest()


def outcome(watermark: Watermark, documents: Sequence[np.ndarray]) -> str:
    """What tells one key from another without naming it: a digest of what is detected in the documents.

    It holds nothing that the table of the results does not hold, and two keys that it cannot tell apart have the
    same results.

    Cost: one pass over the tokens.
    """
    found = _block(watermark, documents, NO_WINDOWS, unique=True)
    return hashlib.blake2b(found["scored"].tobytes() + found["z"].tobytes(), digest_size=16).hexdigest()


def mean(values: np.ndarray, *, seed: int) -> Estimate:
    """The mean of finite values with its bootstrap interval."""
    return bootstrap(values[np.isfinite(values)], seed=seed)


def columns_of(found: Mapping[str, np.ndarray]) -> list[tuple[str, str, str]]:
    """(name in metrics, column of z, column of log10 p) of the detectors that were used."""
    both = [("", "z", "log10_p")]
    return [*both, ("windowed_", "window_z", "window_log10_p")] if "window_z" in found else both


def _log10(p: float) -> float:
    return math.log10(p) if p > 0 else -math.inf
