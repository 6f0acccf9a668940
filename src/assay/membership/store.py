"""Answers of models to queries, kept on disk: one file a model, whole or absent, asked once.

The file of a model is a float32 array [N, K, C] that is read as a memory map. Its name holds the model and a
checksum over the content, so that a file that was cut off or altered is seen, removed, and asked for again.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import secrets
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..core.errors import InputError, ModelError, RunError
from ..core.files import Lock, make_folder, read_json, remove, storage_error, to_json, write_atomic
from ..core.progress import Progress
from .queries import Queries, chunks

if TYPE_CHECKING:
    from ..pools.pool import Pool
    from ..subjects.target import Target

RECORD = "queries.json"
_KEY = re.compile(r"[A-Za-z0-9_-]{1,100}")
_BLOCK = 1 << 24


class AnswerStore:
    """Answers to one set of queries, one array a model.

    Args:
        folder: where stores lie; this one is in ``folder/<identity of the queries>``.
        queries: what is asked.
        classes: C.

    Raises:
        RunError: the folder holds answers to something else, or cannot be written.
    """

    def __init__(self, folder: str | Path, queries: Queries, *, classes: int) -> None:
        self.queries = queries
        self.shape = (len(queries), queries.count, classes)
        self.folder = make_folder(Path(folder) / queries.identity[:16])
        self.dropped: list[str] = []
        self._checked: set[Path] = set()
        self._tidy()
        about = {
            "schema": 1,
            "identity": queries.identity,
            "shape": list(self.shape),
            "axes": "records, queries, classes",
        }
        path = self.folder / RECORD
        if not path.exists():
            write_atomic(path, to_json(about))
        elif read_json(path) != about:
            raise RunError(f"{str(self.folder)!r} holds answers to other queries. Choose another folder, or remove it.")

    def __contains__(self, key: object) -> bool:
        return isinstance(key, str) and self._path(key) is not None

    def get(self, key: str) -> np.ndarray:
        """The answers of one model, float32 [N, K, C], as a memory map.

        Raises:
            RunError: there are none.
        """
        path = self._path(key)
        if path is None:
            raise RunError(f"There are no answers of {key!r} in {str(self.folder)!r}. Ask the model first.")
        answers: np.ndarray = np.load(path, mmap_mode="r", allow_pickle=False)
        return answers

    def ask(self, key: str, model: Target, *, batch_size: int = 256) -> np.ndarray:
        """The answers of a model, which is asked unless its answers are there.

        Args:
            key: name of the model: letters, digits, ``-`` and ``_``.
            model: a classifier.
            batch_size: images in one forward pass; the answers do not depend on it.

        Raises:
            ModelError: it has another number of classes.
            RunError: the disk is full; what was there is kept.

        Cost: N K forward passes, and 4 N K C bytes on disk.
        """
        if self._path(key) is None:
            self._write(key, self._answers(model, batch_size))
        return self.get(key)

    def put(self, key: str, answers: np.ndarray) -> np.ndarray:
        """Keep answers that were got elsewhere, [N, K, C]."""
        if np.shape(answers) != self.shape:
            raise InputError(f"The answers of {key!r} are {np.shape(answers)}; {self.shape} is needed.")
        if self._path(key) is None:
            self._write(key, [np.asarray(answers, dtype=np.float32)])
        return self.get(key)

    def _answers(self, model: Target, batch_size: int) -> Iterable[np.ndarray]:
        classes = self.shape[2]
        for rows in chunks(self.queries, max(1024, batch_size)):
            logits = model.predict(self.queries.of(rows).flatten(0, 1), batch_size=batch_size)
            if logits.shape[1] != classes:
                raise ModelError(
                    f"{model.name!r} tells {logits.shape[1]} classes apart, the others {classes}; they must answer "
                    "the same question."
                )
            yield logits.reshape(len(rows), self.queries.count, classes).numpy()

    def _write(self, key: str, parts: Iterable[np.ndarray]) -> None:
        """Stream the parts into a file of a passing name, and give it its own name when it is whole on the disk."""
        if not _KEY.fullmatch(key):
            raise InputError(f"The model is called {key!r:.60}; use 1 to 100 letters, digits, - and _.")
        temporary = self.folder / f".{secrets.token_hex(8)}.tmp"
        state = _state(key)
        try:
            try:
                with open(temporary, "xb") as file:
                    header = {"descr": "<f4", "fortran_order": False, "shape": self.shape}
                    np.lib.format.write_array_header_1_0(file, header)
                    for part in parts:
                        content = np.ascontiguousarray(part, dtype="<f4").tobytes()
                        state.update(content)
                        file.write(content)
                    file.flush()
                    os.fsync(file.fileno())
                path = self.folder / f"{key}.{state.hexdigest()}.npy"
                os.replace(temporary, path)
            except BaseException:
                with contextlib.suppress(OSError):
                    temporary.unlink()
                raise
        except OSError as error:
            raise storage_error(error, self.folder) from error
        self._checked.add(path)

    def _path(self, key: str) -> Path | None:
        """The whole file of a model; damaged ones are removed and listed in ``dropped``."""
        for path in sorted(self.folder.glob(f"{key}.*.npy")) if _KEY.fullmatch(key) else ():
            if path in self._checked or self._whole(path, key):
                self._checked.add(path)
                return path
            remove(path)
            self.dropped.append(key)
        return None

    def _whole(self, path: Path, key: str) -> bool:
        try:
            answers = np.load(path, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError, EOFError):
            return False
        if answers.shape != self.shape or answers.dtype != np.dtype("<f4"):
            return False
        state = _state(key)
        flat = answers.reshape(-1)
        for first in range(0, len(flat), _BLOCK):
            state.update(flat[first : first + _BLOCK].tobytes())
        return path.name == f"{key}.{state.hexdigest()}.npy"

    def _tidy(self) -> None:
        """Remove what killed writers left, unless somebody else is writing here."""
        with contextlib.suppress(RunError):
            lock = Lock(self.folder)
            try:
                for path in self.folder.glob(".*.tmp"):
                    remove(path)
            finally:
                lock.release()


def _state(key: str) -> hashlib.blake2b:
    return hashlib.blake2b(key.encode(), digest_size=16, person=b"assay answers")


def model_key(pool: Pool, number: int) -> str:
    """Name of a model of a pool in a store: its number, and the checksum of its weights as its record has it."""
    record = read_json(pool.path(number) / "run.json")
    weights = record.get("files", {}).get("model.safetensors", "") if isinstance(record, dict) else ""
    return f"{number:04d}-{str(weights)[:16]}"


def ask_pool(
    pool: Pool,
    store: AnswerStore,
    *,
    models: Sequence[int] | None = None,
    batch_size: int = 256,
    progress: Progress | None = None,
    title: str = "Asking the shadow models",
) -> list[np.ndarray]:
    """Answers of the models of a pool, one memory map [N, K, C] each; only those not asked before are loaded.

    Args:
        pool: finished.
        store: where the answers are kept.
        models: numbers of those wanted; default: all.
        batch_size: images in one forward pass.
        progress: where to show progress, a unit a model.
        title: of the stage.
    """
    wanted = range(len(pool)) if models is None else models
    found = []
    with (progress or Progress(enabled=False)).task(title, total=len(wanted)) as task:
        for number in wanted:
            key = model_key(pool, number)
            found.append(store.get(key) if key in store else store.ask(key, pool.model(number), batch_size=batch_size))
            task.advance()
    return found
