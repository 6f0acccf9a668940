"""What a caller asks of a reader, and the small rules every reader shares."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..core.errors import AssayError, DataError, did_you_mean

SPLIT_WORDS = {
    "train": "train",
    "training": "train",
    "validation": "validation",
    "valid": "validation",
    "val": "validation",
    "dev": "validation",
    "test": "test",
    "testing": "test",
    "t10k": "test",
}


@dataclass(frozen=True, kw_only=True)
class Request:
    """The options of ``load_data``, as every reader receives them."""

    split: str | None = None
    images_key: str | None = None
    labels_key: str | None = None
    group: str | None = None
    limit: int | None = None
    image_size: int | tuple[int, int] | None = None
    layout: str | None = None

    def __post_init__(self) -> None:
        given: list[tuple[str, Any]] = [("limit", self.limit), ("image_size", self.image_size)]
        if isinstance(self.image_size, (tuple, list)):
            if len(self.image_size) != 2:
                raise DataError(f"image_size is {self.image_size!r}; a side, or (height, width), is needed.")
            given[1:] = [("A side of image_size", side) for side in self.image_size]
        for name, value in given:
            if value is None and " " not in name:
                continue
            if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < 1:
                raise DataError(f"{name} is {value!r}; a whole number of at least 1 is needed.")

    @property
    def size(self) -> tuple[int, int] | None:
        """(height, width) that was asked for."""
        if self.image_size is None:
            return None
        if isinstance(self.image_size, (tuple, list)):
            return (int(self.image_size[0]), int(self.image_size[1]))
        return (int(self.image_size), int(self.image_size))

    def refuse(self, where: str, reason: str, *names: str) -> None:
        """An option that cannot have an effect is an error, not silence."""
        for name in names:
            if getattr(self, name) is not None:
                raise DataError(f"{name}={getattr(self, name)!r} has no meaning for {where}: {reason}. Leave it out.")

    def rows(self, available: int) -> np.ndarray:
        """The first ``limit`` row numbers of a source with ``available`` rows, int64."""
        return np.arange(available if self.limit is None else min(self.limit, available), dtype=np.int64)

    def check_array_size(self, shape: tuple[int, int, int], where: str) -> None:
        """Arrays are taken as they are; only encoded images are resized."""
        if self.size is not None and self.size != shape[1:]:
            raise DataError(
                f"image_size={self.image_size} was asked for, but {where} holds arrays of "
                f"{shape[1]}x{shape[2]} pixels, which Assay does not resize. "
                "Resize them before saving, or give encoded images (a folder, parquet, or csv of paths)."
            )


def shown(path: Path | str) -> str:
    """A path or name as an error message shows it: quoted, and printable whatever it holds."""
    return repr(printable(str(path)))


def short_name(path: Path) -> str:
    """What to call the data: the name of the file or folder, or of the folder around a bare ``test.npz``."""
    place = path.resolve()
    stem = place.name if place.is_dir() else place.name.split(".")[0]
    return place.parent.name or stem if stem.lower() in SPLIT_WORDS else stem


def printable(text: str) -> str:
    """Text that UTF-8 can hold; file names may carry bytes that it cannot."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


@contextmanager
def reading(where: str, kind: str) -> Iterator[None]:
    """Turn whatever a decoder raises on damaged bytes into one DataError that names the place.

    Decoders raise nearly every class of exception on hostile bytes (zlib.error,
    struct.error, SyntaxError, MemoryError ...), so all of them are caught here
    and nowhere else.
    """
    try:
        yield
    except AssayError:
        raise
    except Exception as error:
        cause = printable(str(error)).split("\n")[0][:200] or "no further detail"
        remedy = "It may be truncated, corrupt or of another format: fetch or write it again."
        if isinstance(error, OSError) and error.errno:
            remedy = "Check that it exists and that you may read it."
        raise DataError(f"{where} cannot be read as {kind}: {cause} ({type(error).__name__}). {remedy}") from error


def split_of(name: str) -> str | None:
    """The split a file, folder or key name speaks of, or ``None``.

    >>> split_of("train-00000-of-00002"), split_of("x_test"), split_of("faces")
    ('train', 'test', None)
    """
    words = name.lower().replace("-", "_").replace(".", "_").split("_")
    return next((SPLIT_WORDS[word] for word in words if word in SPLIT_WORDS), None)


def choose_split(available: Collection[str], wanted: str | None, where: str) -> str:
    """The split to read: the one asked for, else test, else validation, else what there is."""
    if wanted is None:
        return next((name for name in ("test", "validation", "all") if name in available), sorted(available)[0])
    name = SPLIT_WORDS.get(wanted.lower(), wanted.lower())
    if name in available:
        return name
    if name == "all" and len(available) == 1:
        return next(iter(available))
    if set(available) == {"all"}:
        raise DataError(f"{where} is not divided into splits, so there is no {wanted!r}. Leave the split out.")
    raise DataError(f"{where} has no split {wanted!r}.{did_you_mean(name, available)}")


def close_to(word: str, names: Collection[str]) -> str:
    """A "did you mean" where a name is close, else nothing."""
    hint = did_you_mean(word, map(printable, names))
    return hint if "Did you mean" in hint else ""


def listed(names: Collection[str]) -> str:
    """The names there are, quoted, at most thirty of them."""
    shortened = [repr(printable(name)) for name in list(names)[:30]]
    if len(names) > len(shortened):
        shortened.append(f"... ({len(names)} in all)")
    return ", ".join(shortened) or "none at all"


def given_name(names: Collection[str], name: str, option: str, where: str) -> str:
    """A column or key the caller named, which must exist."""
    if name not in names:
        raise DataError(f"{where} has no {name!r} ({option}).{close_to(name, names)} There are: {listed(names)}.")
    return name


def usual_name(names: Collection[str], usual: Collection[str]) -> str | None:
    """The first of the usual names that there is, whatever its case."""
    by_lower = {name.lower(): name for name in reversed(list(names))}
    return next((by_lower[word] for word in usual if word in by_lower), None)


def find_name(names: Collection[str], usual: Collection[str], given: str | None, role: str, where: str) -> str:
    """The column or key that plays a role: the one given, or the first of the usual names."""
    if given is not None:
        return given_name(names, given, f"{role}_key", where)
    found = usual_name(names, usual)
    if found is None:
        raise DataError(
            f"{where}: no {role} were found under the usual names ({', '.join(usual)}). "
            f"There are: {listed(names)}. Say which with {role}_key."
        )
    return found
