"""Named arrays in .npz, .csv and .tsv files from anywhere: sizes are checked before memory is taken."""

from __future__ import annotations

import csv
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np

from ..core.errors import DataError, did_you_mean
from ..data.request import listed, printable, reading, shown

TRUE, FALSE = ("true", "yes", "1", "1.0", "member", "in"), ("false", "no", "0", "0.0", "nonmember", "non-member", "out")
_NUMERIC = "biuf"
_HEADER = 4096
_LARGEST_TEXT = 2**31
_SHARE = 0.8  # of the free memory


class Table:
    """Arrays by name, each read when it is asked for.

    Attributes:
        name: of the file, for a report.
        where: the file as messages show it.
        names: of the arrays or columns.
    """

    def __init__(self, path: Path, names: Sequence[str]) -> None:
        self.name = printable(path.name)
        self.where = shown(path)
        self.names = tuple(names)

    def __contains__(self, name: object) -> bool:
        return name in self.names

    def get(self, name: str) -> np.ndarray:
        """The array of a name."""
        raise NotImplementedError

    def need(self, name: str, purpose: str) -> None:
        """Raise DataError where a name is missing."""
        if name not in self:
            raise DataError(
                f"{self.where} lacks {name!r}, which {purpose} need.{did_you_mean(name, self.names)} "
                f"It has {listed(self.names)}."
            )

    def only(self, purpose: str, usual: str) -> str:
        """The name of the only array there is."""
        if len(self.names) != 1:
            raise DataError(f"{self.where} has no {usual!r}, which {purpose} needs. It has {listed(self.names)}.")
        return self.names[0]

    def numbered(self, prefix: str) -> list[str]:
        """Columns ``prefix0``, ``prefix1`` ..., in their order."""
        found = [name for name in self.names if name.startswith(prefix) and name[len(prefix) :].isdigit()]
        wanted = [f"{prefix}{place}" for place in range(len(found))]
        if set(found) != set(wanted):
            raise DataError(f"{self.where}: columns {prefix}0 to {prefix}{len(found) - 1} are needed, each once.")
        return wanted

    def is_numeric(self, name: str) -> bool:
        """Whether the array holds numbers."""
        return self.get(name).dtype.kind in _NUMERIC

    def text(self, name: str) -> np.ndarray:
        """The array as text [n]."""
        values = self.get(name)
        if values.ndim != 1 or values.dtype.kind not in _NUMERIC + "SU":
            raise DataError(f"{self.where} [{name}] must be a list of texts or numbers.")
        return values.astype(str)


class _Archive(Table):
    def __init__(self, path: Path, archive: zipfile.ZipFile) -> None:
        members = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
        super().__init__(path, [name for name, info in members.items() if info.filename.endswith(".npy")])
        self._archive = archive
        self._members = members

    def get(self, name: str) -> np.ndarray:
        info = self._members[name]
        where = f"{self.where} [{name}]"
        with reading(where, "npz"), self._archive.open(info) as file:
            shape, fortran, dtype = _header(file, where)
            size = int(np.prod([dtype.itemsize, *shape], dtype=object))
            if size != info.file_size - file.tell():
                raise DataError(
                    f"{where} says that it holds {size:,} bytes, and there are {info.file_size - file.tell():,}: "
                    "it is damaged. Write the file again with numpy.savez."
                )
            _check_memory(size, where)
            content = file.read(size)
        if len(content) != size:
            raise DataError(f"{where} is cut short. Copy or write the file again.")
        array = np.frombuffer(content, dtype=dtype)
        return array.reshape(shape, order="F" if fortran else "C")


class _Columns(Table):
    def __init__(self, path: Path) -> None:
        self._columns = _read_columns(path)
        super().__init__(path, list(self._columns))

    def get(self, name: str) -> np.ndarray:
        column = self._columns[name]
        if isinstance(column, list):
            column = self._columns[name] = _typed(column)
        return column


@contextmanager
def open_table(path: str | Path) -> Iterator[Table]:
    """The arrays of an .npz archive, or the columns of a .csv or .tsv file.

    Raises:
        DataError: there is no such file, it is of another kind, or it is damaged.
    """
    path = Path(path)
    if not path.is_file():
        raise DataError(f"There is no file {shown(path)}. An .npz archive, or a .csv or .tsv table, is needed.")
    suffix = path.suffix.lower()
    if suffix in (".csv", ".tsv"):
        with reading(shown(path), suffix.removeprefix(".")):
            table = _Columns(path)
        yield table
        return
    if suffix != ".npz":
        raise DataError(
            f"{shown(path)} has the suffix {suffix!r}, for which there is no reader; "
            "an .npz archive, or a .csv or .tsv table, is needed."
        )
    if not zipfile.is_zipfile(path):
        raise DataError(f"{shown(path)} is no npz archive, or it is cut short: write it with numpy.savez.")
    with reading(shown(path), "npz"):
        archive = zipfile.ZipFile(path)
    with archive:
        yield _Archive(path, archive)


def numbers(table: Table, name: str | list[str]) -> np.ndarray:
    """An array of numbers; of several columns side by side [n, columns].

    Raises:
        DataError: it holds something else.
    """
    if isinstance(name, list):
        return np.stack([numbers(table, one) for one in name], axis=-1)
    values = table.get(name)
    if values.dtype.kind not in _NUMERIC:
        raise DataError(f"{table.where} [{name}] holds {values.dtype.name}; numbers are needed.")
    return values


def truths(table: Table, name: str) -> np.ndarray:
    """An array of yes and no: bool, 0 and 1, or text such as ``member``.

    Raises:
        DataError: it holds something else.
    """
    values = table.get(name)
    if values.dtype == bool:
        return values
    words = values.astype(str)
    if values.dtype.kind in _NUMERIC:
        yes, no = values == 1, values == 0
    else:
        words = np.char.lower(np.char.strip(words))
        yes, no = np.isin(words, TRUE), np.isin(words, FALSE)
    wrong = ~(yes | no)
    if wrong.any():
        value = words[wrong].flat[0]
        raise DataError(f"{table.where} [{name}] holds {value[:40]!r}; 0 and 1, or true and false, are needed.")
    return np.asarray(yes)


def _header(file: IO[bytes], where: str) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    version = np.lib.format.read_magic(file)
    if version not in ((1, 0), (2, 0)):
        raise DataError(f"{where} is of the npy version {version}; 1.0 and 2.0 can be read.")
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, fortran, dtype = read(file, max_header_size=_HEADER)
    if dtype.hasobject:
        raise DataError(
            f"{where} holds pickled Python objects, which are never loaded because a pickle can run any code. "
            "Save plain numbers."
        )
    if dtype.kind not in _NUMERIC + "SU":
        raise DataError(f"{where} holds {dtype.name}; numbers or text are needed.")
    if any(side < 0 for side in shape):
        raise DataError(f"{where} has the shape {list(shape)}, which cannot be. Write the file again.")
    return shape, fortran, dtype


def _check_memory(size: int, where: str) -> None:
    import psutil

    free = psutil.virtual_memory().available
    if size > _SHARE * free:
        raise DataError(
            f"{where} takes {size / 1e9:,.1f} GB of memory, and {free / 1e9:,.1f} GB are free. "
            "Give fewer records or queries at a time, or use a computer with more memory."
        )


def _read_columns(path: Path) -> dict[str, Any]:
    if path.stat().st_size > _LARGEST_TEXT:
        raise DataError(f"{shown(path)} has more than {_LARGEST_TEXT:,} bytes. Give an .npz archive.")
    with open(path, encoding="utf-8-sig", newline="") as file:
        rows = csv.reader(file, delimiter="\t" if path.suffix.lower() == ".tsv" else ",", strict=True)
        heads = [head.strip() for head in next(rows, [])]
        if not heads or not all(heads):
            raise DataError(f"{shown(path)} has no header: its first line must name the columns, such as member,score.")
        repeated = {head for head in heads if heads.count(head) > 1}
        if repeated:
            raise DataError(f"{shown(path)} has two columns {sorted(repeated)[0]!r}. Give each its own name.")
        columns: list[list[str]] = [[] for _ in heads]
        for row in rows:
            if not row:
                continue
            if len(row) != len(heads):
                raise DataError(
                    f"{shown(path)}, line {rows.line_num}: {len(row)} fields, and the first line names {len(heads)}."
                )
            for column, cell in zip(columns, row, strict=True):
                column.append(cell)
    if not columns[0]:
        raise DataError(f"{shown(path)} has a header and no rows.")
    return dict(zip(heads, columns, strict=True))


def _typed(cells: list[str]) -> np.ndarray:
    """float64 where every cell is a number, else text."""
    try:
        return np.array([float(cell) for cell in cells])
    except ValueError:
        return np.array(cells)
