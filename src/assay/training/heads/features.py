"""Features of a whole data set, computed once: in memory, or in files that are reused and taken up again.

features/<encoder digest>-<data digest>/patches.npy    one array a kind of feature
                                       patches.json   its shape, and a checksum for every piece that is whole
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import psutil
import torch
from torch import Tensor

from ...core.errors import DataError, RunError, SettingError, did_you_mean
from ...core.files import Lock, checksum, make_folder, read_json, storage_error, to_json, write_atomic
from ...core.progress import Progress
from ...subjects.backbones import Features

if TYPE_CHECKING:
    from ...data.dataset import Dataset
    from ...data.dense.dataset import DenseDataset
    from ...subjects.encoders import Encoder

SPACES = {"global": ("embedding",), "patch": ("patches",), "both": ("embedding", "patches")}
_PIECE_BYTES = 2**22


@dataclass(frozen=True, eq=False, repr=False)
class FeatureStore:
    """Features of N images.

    Args:
        embedding: float32 [N, D], or None where it was not asked for.
        patches: float32 [N, D', h, w], or None.
        folder: where they lie; None: in memory.
        computed: images that were encoded to make this store; the others were there already.
    """

    embedding: np.ndarray | None
    patches: np.ndarray | None
    folder: Path | None = None
    computed: int = 0

    def __len__(self) -> int:
        array = self.patches if self.embedding is None else self.embedding
        return 0 if array is None else len(array)

    def __repr__(self) -> str:
        shapes = {name: getattr(self, name) for name in ("embedding", "patches")}
        shown = ", ".join(f"{name} {array.shape[1:]}" for name, array in shapes.items() if array is not None)
        return f"FeatureStore(n={len(self)}, {shown})"

    def reused(self) -> FeatureStore:
        """The same features, none of which had to be computed."""
        return replace(self, computed=0)

    def read(self, indices: np.ndarray, device: torch.device | str = "cpu") -> Features:
        """Features of some images; what is not in the store has zero width.

        Args:
            indices: int64 [n], positions in the data.
            device: where they are put.
        """

        def rows(array: np.ndarray | None, sides: int) -> Tensor:
            if array is None:
                return torch.empty(len(indices), *[0] * sides, device=device)
            return torch.from_numpy(np.asarray(array[indices])).to(device)

        return Features(rows(self.embedding, 1), rows(self.patches, 3))


def cache_features(
    encoder: Encoder,
    data: DenseDataset | Dataset,
    *,
    space: str = "both",
    folder: str | Path | None = None,
    batch_size: int = 64,
    progress: Progress | None = None,
) -> FeatureStore:
    """The encoder's features of every image, each computed once.

    Args:
        encoder: in evaluation mode while it works, and untouched.
        data: a Dataset or a DenseDataset, with N images.
        space: ``"global"`` (embeddings), ``"patch"`` (maps) or ``"both"``.
        folder: below it the features are kept, under the digests of encoder and data; a second call
            finds them there, one after a stop goes on where the first was. None: they stay in memory.
        batch_size: images in a pass; it changes no result.
        progress: where to show how far it is.

    Raises:
        DataError, ModelError: images that the encoder cannot take.
        RunError: the folder cannot be written, or another process fills it.

    Cost: N forward passes at most.
    """
    if space not in SPACES:
        raise SettingError(f"space is {space!r}.{did_you_mean(str(space), SPACES)}")
    if not len(data):
        raise DataError("The data are empty; at least one image is needed.")
    shown = progress or Progress(enabled=False)
    if folder is None:
        arrays = {name: np.empty(0, np.float32) for name in SPACES[space]}
        with shown.task(f"features of {data.name}", total=len(data)) as bar:
            for start in range(0, len(data), batch_size):
                rows = np.arange(start, min(start + batch_size, len(data)))
                for name, values in _encoded(encoder, data, rows, space).items():
                    if start == 0:
                        _check_memory(values.nbytes // len(values) * len(data), data)
                        arrays[name] = np.empty((len(data), *values.shape[1:]), np.float32)
                    arrays[name][rows] = values
                bar.advance(len(rows))
        return FeatureStore(arrays.get("embedding"), arrays.get("patches"), computed=len(data))
    content = checksum(f"{data.digest}|{data.shape}".encode())  # resizing is no part of a digest of stored bytes
    home = Path(folder) / f"{encoder.digest}-{content}"
    make_folder(home)
    return _on_disk(encoder, data, space, home, batch_size, shown)


def _on_disk(
    encoder: Encoder, data: DenseDataset | Dataset, space: str, home: Path, batch_size: int, shown: Progress
) -> FeatureStore:
    wanted = [_Column(home, name, len(data)) for name in SPACES[space]]
    computed = 0
    if not all(column.whole for column in wanted):
        lock = Lock(home)
        try:
            # The embedding comes with the patches for nothing, and other heads may ask for it.
            names = SPACES["global"] if space == "global" else SPACES["both"]
            computed = _fill(encoder, data, [_Column(home, name, len(data)) for name in names], batch_size, shown)
        finally:
            lock.release()
    known = {column.name: column.reading() for column in wanted}
    return FeatureStore(known.get("embedding"), known.get("patches"), home, computed)


def _fill(
    encoder: Encoder, data: DenseDataset | Dataset, columns: list[_Column], batch_size: int, shown: Progress
) -> int:
    """Compute the pieces that are missing; how many images were encoded."""
    fresh = [column for column in columns if column.state is None]
    if fresh:
        first = _encoded(encoder, data, np.arange(1), _space_of(fresh))
        piece = max(8, _PIECE_BYTES // max(first[column.name].nbytes for column in fresh))
        for column in fresh:
            column.create(first[column.name].shape[1:], piece)
    computed = 0
    with shown.task(f"features of {data.name}", total=len(data)) as bar:
        for size in sorted({column.piece for column in columns}):
            alike = [column for column in columns if column.piece == size]
            for place in range(-(-len(data) // size)):
                missing = [column for column in alike if column.checks[place] is None]
                rows = np.arange(place * size, min((place + 1) * size, len(data)))
                if missing:
                    starts = range(0, len(rows), batch_size)
                    parts = [_encoded(encoder, data, rows[i : i + batch_size], _space_of(missing)) for i in starts]
                    for column in missing:
                        column.write(place, np.concatenate([part[column.name] for part in parts]))
                    computed += len(rows)
                if alike[-1] is columns[-1]:
                    bar.advance(len(rows))
    return computed


class _Column:
    """One array on disk with a checksum for each of its pieces; a damaged piece counts as missing.

    Attributes:
        state: what the array is; None where there is none that fits.
        checks: a checksum for each piece, None for those that are missing.
    """

    def __init__(self, home: Path, name: str, count: int) -> None:
        self.name, self.count = name, count
        self.array, self.state_file = home / f"{name}.npy", home / f"{name}.json"
        self.state: dict[str, Any] | None = None
        self.checks: list[str | None] = []
        if self.array.is_file() and self.state_file.is_file():
            self._take_up()

    @property
    def whole(self) -> bool:
        """Whether every piece is there and undamaged."""
        return self.state is not None and None not in self.checks

    @property
    def piece(self) -> int:
        """Images in a piece."""
        assert self.state is not None
        return int(self.state["piece"])

    def create(self, shape: tuple[int, ...], piece: int) -> None:
        """A new array for values of this shape, all pieces missing."""
        self.state = {"schema": 1, "shape": [self.count, *shape], "piece": piece}
        self.checks = [None] * -(-self.count // piece)
        try:
            np.lib.format.open_memmap(self.array, mode="w+", dtype=np.float32, shape=(self.count, *shape)).flush()
        except OSError as error:
            raise storage_error(error, self.array) from error
        self._note()

    def write(self, place: int, values: np.ndarray) -> None:
        """Keep the values of a piece; on return they are on the disk."""
        try:
            stored = np.lib.format.open_memmap(self.array, mode="r+")
            stored[place * self.piece :][: len(values)] = values
            stored.flush()
        except OSError as error:
            raise storage_error(error, self.array) from error
        self.checks[place] = checksum(np.ascontiguousarray(values).tobytes())
        self._note()

    def reading(self) -> np.ndarray:
        """The array, mapped and not read."""
        mapped: np.ndarray = np.load(self.array, mmap_mode="r", allow_pickle=False)
        return mapped

    def _note(self) -> None:
        write_atomic(self.state_file, to_json({**(self.state or {}), "checksums": self.checks}))

    def _take_up(self) -> None:
        try:
            state = read_json(self.state_file)
            stored = self.reading()
            self.state = {key: state[key] for key in ("schema", "shape", "piece")}
            checks = list(state["checksums"])
            fits = list(stored.shape) == self.state["shape"] and len(stored) == self.count
            if not fits or stored.dtype != np.float32 or len(checks) != -(-self.count // self.piece):
                raise ValueError("another array")
            pieces = [stored[place * self.piece :][: self.piece] for place in range(len(checks))]
        except (RunError, ValueError, KeyError, TypeError, ZeroDivisionError, OSError):
            self.state, self.checks = None, []
            return
        self.checks = [
            check if check is not None and checksum(values.tobytes()) == check else None
            for check, values in zip(checks, pieces, strict=True)
        ]


def _space_of(columns: list[_Column]) -> str:
    names = tuple(column.name for column in columns)
    return next(space for space, held in SPACES.items() if set(held) == set(names))


def _check_memory(size: int, data: DenseDataset | Dataset) -> None:
    free = psutil.virtual_memory().available
    if size > free:
        raise DataError(
            f"The features of {len(data):,} images take {size / 2**30:.1f} GiB, and {free / 2**30:.1f} GiB of memory "
            "are free. Name a folder for them (cache, or --cache on the command line), or take fewer images."
        )


def _encoded(encoder: Encoder, data: DenseDataset | Dataset, rows: np.ndarray, space: str) -> dict[str, np.ndarray]:
    """Features of some images: name -> float32 [n, ...]."""
    images = encoder.check_images(torch.from_numpy(data.images(rows)))
    if space == "both":
        embedding, patches = encoder.features(images)
        return {"embedding": embedding.cpu().numpy(), "patches": patches.cpu().numpy()}
    if space == "global":
        return {"embedding": encoder.embed(images).cpu().numpy()}
    return {"patches": encoder.patches(images).cpu().numpy()}
