"""Shards: finished pieces of a run, kept on disk so that a stopped run goes on where it was."""

from __future__ import annotations

import hashlib
import io
import zipfile
from pathlib import Path
from urllib.parse import quote, unquote

import numpy as np

from .errors import InputError, RunError
from .files import make_folder, read_bytes, remove, write_atomic

_LONGEST_NAME = 200


class Shards:
    """Append-only named sets of arrays, one atomic ``.npz`` file each (never pickled).

    The file name holds the key and a checksum over key and content, so that a
    truncated or altered file is seen when the store is opened: it is removed,
    listed in ``dropped``, and its key is absent, which has it recomputed.

    Args:
        folder: where the files lie; it is created by the first ``put``.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     shards = Shards(folder)
    ...     shards.put("apgd-ce/0", robust=np.array([True, False]))
    ...     "apgd-ce/0" in shards, shards.get("apgd-ce/0")["robust"].tolist()
    (True, [True, False])
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self.dropped: list[str] = []
        self._paths: dict[str, Path] = {}
        for path in sorted(self.folder.glob("*.npz")):
            encoded, _, check = path.stem.rpartition(".")
            key = unquote(encoded)
            if check == _checksum(key, read_bytes(path)):
                self._paths[key] = path
            else:
                remove(path)
                self.dropped.append(key)

    def __contains__(self, key: object) -> bool:
        return key in self._paths

    def __len__(self) -> int:
        return len(self._paths)

    def keys(self) -> list[str]:
        """The keys of all whole shards, sorted."""
        return sorted(self._paths)

    def put(self, key: str, /, **arrays: np.ndarray) -> None:
        """Keep arrays under a new key; on return they are on the disk.

        Raises:
            InputError: the key is taken or too long, or an array holds Python objects.
            RunError: the disk is full or may not be written; nothing is kept.
        """
        if key in self._paths:
            raise InputError(f"The shard {key!r} is there already; shards are only added. Ask `key in shards` first.")
        encoded = quote(key, safe="")
        if not 0 < len(encoded) <= _LONGEST_NAME:
            raise InputError(
                f"The shard key {key[:40]!r}... needs {len(encoded)} characters as a file name; "
                f"1 to {_LONGEST_NAME} are allowed."
            )
        data = _pack(arrays)
        path = make_folder(self.folder) / f"{encoded}.{_checksum(key, data)}.npz"
        write_atomic(path, data)
        self._paths[key] = path

    def get(self, key: str) -> dict[str, np.ndarray]:
        """The arrays of one shard.

        Raises:
            RunError: there is no such shard, or its file was damaged since the store was opened.
        """
        if key not in self._paths:
            raise RunError(f"There is no shard {key!r} in {str(self.folder)!r}. Ask `key in shards` first.")
        path = self._paths[key]
        data = read_bytes(path)
        if path.stem.rpartition(".")[2] != _checksum(key, data):
            raise RunError(f"{str(path)!r} was damaged while in use. Repeat the command: it will be recomputed.")
        with np.load(io.BytesIO(data), allow_pickle=False) as content:
            return {name: content[name] for name in content.files}


def _pack(arrays: dict[str, np.ndarray]) -> bytes:
    """The bytes of an uncompressed ``.npz``; any array name is allowed."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, array in arrays.items():
            values = np.asarray(array)
            if values.dtype.hasobject:
                raise InputError(f"The array {name!r} holds Python objects; give numbers, booleans or fixed text.")
            with archive.open(f"{name}.npy", "w", force_zip64=True) as file:
                np.lib.format.write_array(file, values, allow_pickle=False)
    return buffer.getvalue()


def _checksum(key: str, data: bytes) -> str:
    digest = hashlib.blake2b(key.encode(), digest_size=16, person=b"assay shard")
    digest.update(data)
    return digest.hexdigest()
