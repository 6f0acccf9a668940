"""Files that are either whole or absent: atomic writes, checked reads, locks."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import json
import math
import os
import re
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from .errors import RunError

_NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_NOT_ALLOWED = (errno.EACCES, errno.EPERM, errno.EROFS)
_TEMPORARY = re.compile(r"\.[0-9a-f]{16}\.tmp")
_NOT_A_FOLDER = (errno.ENOTDIR, errno.EEXIST)


def write_atomic(path: str | Path, content: bytes | str) -> None:
    """Write a whole file or nothing: temporary file beside it, fsync, rename, fsync of the folder.

    Args:
        path: the file; its folder must exist. An older file of this name is replaced.
        content: bytes, or text that is written as UTF-8.

    Raises:
        RunError: the disk is full, the folder may not be written; the older file is untouched.
    """
    path = Path(path)
    data = content.encode() if isinstance(content, str) else content
    temporary = path.with_name(f".{secrets.token_hex(8)}.tmp")
    try:
        try:
            with open(temporary, "xb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        except BaseException:
            with contextlib.suppress(OSError):
                temporary.unlink()
            raise
        _sync_folder(path.parent)
    except OSError as error:
        raise storage_error(error, path) from error


def make_folder(path: str | Path) -> Path:
    """Create a folder and its parents if they are missing, or say why that cannot be done."""
    path = Path(path)
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise storage_error(error, path) from error
    return path


def remove_leftovers(folder: Path) -> None:
    """Remove the temporary files that a killed ``write_atomic`` left below a folder."""
    for path in folder.rglob(".*.tmp"):
        if _TEMPORARY.fullmatch(path.name):
            remove(path)


def remove(path: Path) -> None:
    """Remove a file if it is there, or say why that cannot be done."""
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise storage_error(error, path) from error


def set_aside(path: Path) -> Path:
    """Rename a damaged file to ``<name>.damaged``, so that it can be looked at and is not read again."""
    kept = path.with_name(f"{path.name}.damaged")
    try:
        path.replace(kept)
    except OSError as error:
        raise storage_error(error, path) from error
    return kept


def read_bytes(path: str | Path) -> bytes:
    """The bytes of a file that must be there."""
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise RunError(f"Cannot read {str(path)!r}: {error.strerror}. Check the path and its permissions.") from error


def read_json(path: str | Path) -> Any:
    """The value in a JSON file; a missing, truncated or garbled file is a ``RunError``."""
    content = read_bytes(path)
    try:
        return json.loads(content)
    except (ValueError, RecursionError) as error:
        raise RunError(
            f"{str(path)!r} is damaged: it is not valid JSON ({str(error)[:120]}). "
            "Repeat the command that made it; work that is whole is kept."
        ) from error


def to_json(value: Any) -> str:
    """JSON text with sorted keys; NaN and infinities become ``null``, because JSON has none."""
    return json.dumps(plain(value), sort_keys=True, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def plain(value: Any) -> Any:
    """Plain values for JSON: NumPy scalars and arrays, tuples and paths are unwrapped."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, np.ndarray | np.generic):
        return plain(value.tolist())
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(item) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, bool | int):
        return value
    return str(value).encode(errors="replace").decode()


def checksum(data: bytes) -> str:
    """32 hex digits of BLAKE2b."""
    return hashlib.blake2b(data, digest_size=16).hexdigest()


def storage_error(error: OSError, path: str | Path) -> RunError:
    """What the operating system refused, as a sentence with its remedy."""
    cause = error.strerror or str(error)
    if error.errno in _NO_SPACE:
        remedy = "Free some space or choose another output folder, then repeat the command: finished work is kept."
    elif error.errno in _NOT_ALLOWED:
        remedy = "Choose another output folder, or change the permissions of this one."
    elif error.errno in _NOT_A_FOLDER:
        remedy = "A file stands where a folder is needed: choose another output folder, or move the file away."
    else:
        remedy = "Choose another output folder, or repair the cause and repeat the command."
    return RunError(f"Cannot write {str(path)!r}: {cause}. {remedy}")


class Lock:
    """An exclusive lock on a folder, held by one process; the system releases it when that ends.

    Raises:
        RunError: another process holds it.
    """

    def __init__(self, folder: Path) -> None:
        path = folder / ".lock"
        try:
            self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        except OSError as error:
            raise storage_error(error, path) from error
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            self.release()
            if error.errno not in (errno.EWOULDBLOCK, errno.EACCES):
                raise storage_error(error, path) from error
            raise RunError(
                f"Another process is writing {str(folder)!r}. Wait until it has ended, or stop it; "
                "then repeat the command: it goes on where the other stopped."
            ) from error

    def release(self) -> None:
        """Let others write; calling it twice does no harm."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def _sync_folder(folder: Path) -> None:
    """Make a rename durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
