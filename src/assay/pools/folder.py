"""The folder of a pool, and what names it.

membership.npy     bool [M, N], written first
data/              the records themselves, so that a worker needs nothing else
pool.json          what is trained, written last: a folder with it is whole
units.json         which models are trained together, decided once
models/0007/       the training run of model 7: run.json, model.safetensors, model.json
locks/0007/        the lock of the unit that begins with model 7
groups/, logs/     the state of a group in training, and what workers said
"""

from __future__ import annotations

import errno
import hashlib
import io
import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from ..core.errors import RunError
from ..core.files import Lock, checksum, make_folder, plain, read_bytes, read_json, remove, to_json, write_atomic

SCHEMA = 1
RECORD, MEMBERSHIP, UNITS, DATA, MODELS, LOCKS = "pool.json", "membership.npy", "units.json", "data", "models", "locks"
IDENTITY = ("recipe", "network", "training", "models", "membership", "seed", "data")
PATIENCE, PAUSE = 900.0, 0.2


class Busy(RunError):
    """Another process holds the lock."""


@contextmanager
def locked(folder: Path, *, patience: float = 0.0) -> Iterator[None]:
    """Hold the lock of a folder inside.

    Args:
        folder: created if missing.
        patience: seconds to wait for another process to let go.

    Raises:
        Busy: another process holds it still.
    """
    make_folder(folder)
    ends = time.monotonic() + patience
    lock = None
    while lock is None:
        try:
            lock = Lock(folder)
        except RunError as error:
            cause = error.__cause__
            if not isinstance(cause, OSError) or cause.errno != errno.EWOULDBLOCK:
                raise
            if time.monotonic() >= ends:
                raise Busy(str(error)) from cause
            time.sleep(PAUSE)
    try:
        yield
    finally:
        lock.release()


def identity(record: Mapping[str, Any]) -> str:
    """The name of a pool: recipe, network, settings, membership, seed and the content of the data; 16 hex digits."""
    text = json.dumps(_named(record), sort_keys=True, separators=(",", ":"))
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def _named(record: Mapping[str, Any]) -> dict[str, Any]:
    """What a pool is named by: of the data, their content and which rows they are, not their name."""
    about = {key: plain(record.get(key)) for key in IDENTITY}
    about["data"] = {key: record.get("data", {}).get(key) for key in ("digest", "sample_id_digest")}
    return about


def differences(earlier: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """What names two pools differently, in words."""
    before, after = _flat(_named(earlier)), _flat(_named(now))
    return [
        f"{key} was {before.get(key)!r} and is {after.get(key)!r}"
        for key in sorted(before.keys() | after.keys())
        if before.get(key) != after.get(key)
    ]


def _flat(value: Any, name: str = "") -> dict[str, Any]:
    if not isinstance(value, Mapping):
        return {name: value}
    parts = [_flat(item, f"{name}.{key}" if name else str(key)) for key, item in value.items()]
    return {key: item for part in parts for key, item in part.items()}


def read_record(folder: Path) -> dict[str, Any]:
    """The content of pool.json.

    Raises:
        RunError: there is none, or it is damaged.
    """
    path = folder / RECORD
    if not path.is_file():
        raise RunError(f"{str(folder)!r} holds no pool: there is no {RECORD} in it. Check the path, or plan the pool.")
    try:
        record = read_json(path)
    except RunError:
        record = None
    whole = isinstance(record, dict) and record.get("kind") == "pool" and record.get("schema") == SCHEMA
    if not whole or any(key not in record for key in (*IDENTITY, "id")) or identity(record) != record["id"]:
        raise RunError(
            f"{str(path)!r} is damaged or was changed: it is not the record of a pool as this version of Assay writes "
            "it. Repeat the command that planned the pool; finished models are kept."
        )
    return dict(record)


def readable_record(folder: Path) -> dict[str, Any] | None:
    """The record, or ``None`` where there is none that can be read."""
    try:
        return read_record(folder)
    except RunError:
        return None


def membership_bytes(in_mask: np.ndarray) -> bytes:
    """A membership matrix as the content of a .npy file."""
    buffer = io.BytesIO()
    np.save(buffer, np.ascontiguousarray(in_mask, dtype=bool), allow_pickle=False)
    return buffer.getvalue()


def read_membership(folder: Path, expected: str) -> np.ndarray:
    """The membership matrix bool [M, N], read-only, checked against the record.

    Raises:
        RunError: it is missing or damaged.
    """
    path = folder / MEMBERSHIP
    content = read_bytes(path)
    if checksum(content) != expected:
        raise RunError(
            f"{str(path)!r} is damaged or was changed. Repeat the command that planned the pool; "
            "finished models are kept."
        )
    array = np.asarray(np.load(io.BytesIO(content), allow_pickle=False))
    array.flags.writeable = False
    return array


def read_units(folder: Path) -> dict[str, Any] | None:
    """How models are grouped: ``method``, ``group``, ``words``; ``None`` before that is decided."""
    path = folder / UNITS
    if not path.is_file():
        return None
    try:
        found = read_json(path)
        if found["method"] in ("sequential", "batched") and int(found["group"]) >= 1:
            return dict(found)
    except (RunError, TypeError, KeyError, ValueError):
        pass
    raise RunError(
        f"{str(path)!r} is damaged. It says which models are trained together: restore it, or remove it to decide "
        "anew; models that are trained after that may differ in their last bits from what they would have been."
    )


def write_units(folder: Path, *, method: str, group: int, words: str, **more: Any) -> dict[str, Any]:
    """Keep how models are grouped: the method, the models in a group, why, and what else was found in timing them."""
    chosen = {"method": method, "group": group, "words": words, **more}
    write_atomic(folder / UNITS, to_json(chosen))
    return chosen


def model_folder(folder: Path, m: int) -> Path:
    """Where model m lies."""
    return folder / MODELS / f"{m:04d}"


def unit_folder(folder: Path, unit: tuple[int, ...]) -> Path:
    """Where a unit is locked."""
    return folder / LOCKS / f"{unit[0]:04d}"


def tidy(folder: Path) -> None:
    """Remove what killed writers left beside the record and the data."""
    for place in (folder, folder / DATA):
        for path in place.glob(".*.tmp"):
            remove(path)
