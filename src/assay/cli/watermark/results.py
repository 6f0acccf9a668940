"""A file of JSON lines that grows, and goes on after its last whole line when the work was stopped."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import stat
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ...core.errors import RunError
from ...core.files import plain, storage_error

STANDARD_OUTPUT = "-"
_BLOCK = 2**16


def identity(content: Mapping[str, Any]) -> str:
    """12 hexadecimal digits that name what was asked; results of another request do not go on in the same file."""
    return hashlib.blake2b(json.dumps(plain(content), sort_keys=True).encode(), digest_size=6).hexdigest()


class Results:
    """JSON lines in a file, on standard output (``-``), or nowhere (None).

    Lines that are there belong to the same request, which their field ``run`` says; a last line that was not
    written to its end is taken off. Lines reach the system in whole blocks, so that a killed process leaves at most
    one line unfinished.

    Args:
        path: the file.
        run: from ``identity``.
        what: for messages, such as ``"detections"``.

    Raises:
        RunError: the file holds something else, cannot be written, or another process writes it.
    """

    def __init__(self, path: str | None, run: str, what: str) -> None:
        self.path, self.run, self.what = path, run, what
        self._descriptor: int | None = None
        self._old: Iterator[dict[str, Any]] = iter(())
        self.resumed = False
        if path is None or path == STANDARD_OUTPUT:
            return
        try:
            self._open(path)
        except BaseException:
            self.close()
            raise

    def _open(self, path: str) -> None:
        try:
            self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
            if not stat.S_ISREG(os.fstat(self._descriptor).st_mode):
                return  # a device or a pipe: nothing is there, and nothing can be taken off
            self._lock(path)
            end = self._last_whole_line()
            self.resumed = end > 0
            if self.resumed:
                self._check(next(self._lines(end)), 1)
                self._old = self._lines(end)
            os.ftruncate(self._descriptor, end)
            os.lseek(self._descriptor, end, os.SEEK_SET)
        except OSError as error:
            raise storage_error(error, path) from None

    def _lock(self, path: str) -> None:
        assert self._descriptor is not None
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise RunError(f"Another process is writing {path!r}. Wait until it has ended, or stop it.") from None

    def old(self) -> dict[str, Any] | None:
        """The next of the lines that were there, or None after the last."""
        return next(self._old, None)

    def lines(self) -> Iterator[dict[str, Any]]:
        """Every line, old ones and new ones."""
        if self._descriptor is not None:
            yield from self._lines(os.fstat(self._descriptor).st_size)

    def write(self, records: Sequence[Mapping[str, Any]]) -> None:
        """Append records, each with the field ``run``."""
        if self.path is None or not records:
            return
        lines = "".join(json.dumps(plain({**record, "run": self.run}), ensure_ascii=False) + "\n" for record in records)
        if self._descriptor is None:
            print(lines, end="", flush=True)
            return
        content = lines.encode("utf-8", errors="replace")
        try:
            while content:
                content = content[os.write(self._descriptor, content) :]
        except OSError as error:
            raise storage_error(error, self.path) from None

    def close(self) -> None:
        """Make what was written durable, and let others write; calling it twice does no harm."""
        if self._descriptor is not None:
            try:
                os.fsync(self._descriptor)
            except OSError as error:
                if error.errno != errno.EINVAL:  # a device or a pipe, which has nothing to be made durable
                    raise storage_error(error, str(self.path)) from None
            finally:
                os.close(self._descriptor)
                self._descriptor = None

    def __enter__(self) -> Results:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _last_whole_line(self) -> int:
        """Where the last line ends; what follows was not written to its end."""
        assert self._descriptor is not None
        begin = size = os.fstat(self._descriptor).st_size
        while begin > 0:
            begin, end = max(0, begin - _BLOCK), begin
            at = os.pread(self._descriptor, end - begin, begin).rfind(b"\n")
            if at >= 0:
                return begin + at + 1
        if size and os.pread(self._descriptor, 1, 0) != b"{":
            raise RunError(f"{self.path!r} is there and holds no {self.what}. Choose another file.")
        return 0

    def _lines(self, end: int) -> Iterator[dict[str, Any]]:
        assert self.path is not None
        with open(self.path, "rb") as file:
            number = 0
            while file.tell() < end:
                number += 1
                record = _parsed(file.readline())
                self._check(record, number)
                assert record is not None
                yield record

    def _check(self, record: dict[str, Any] | None, number: int) -> None:
        if record is None or "run" not in record:
            raise RunError(
                f"Line {number} of {self.path!r} is not one of these {self.what}. Choose another file, or move it away."
            )
        if record["run"] != self.run:
            raise RunError(
                f"{self.path!r} holds {self.what} of another command: other marks, keys, tokenizers or settings. "
                "Choose another file, or repeat the command that began it."
            )


def _parsed(line: bytes) -> dict[str, Any] | None:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def belongs(record: Mapping[str, Any], source: str, line: int | None) -> bool:
    """Whether a line that was there is that of a document; names of files that are no UTF-8 were written with ``?``."""
    return (record.get("source"), record.get("line")) == (plain(source), line)


def announce(results: Results) -> None:
    """Tell that finished work is kept."""
    if results.resumed:
        print(f"{results.path} is there: finished {results.what} are kept, and the rest follows.", file=sys.stderr)
