"""Runs: one execution of a method on disk, resumable until its record says how it ended."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import math
import time
import zipfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from .artifacts import (
    GALLERY,
    PANELS,
    PASSAGES,
    SAMPLES,
    pack,
    rebuild,
    unpack_figure,
    unpack_gallery,
    unpack_panels,
    unpack_passages,
    unpack_samples,
)
from .budgets import same_name
from .claims import Claim, check
from .errors import Incomplete, InputError, RunError, did_you_mean
from .files import (
    Lock,
    checksum,
    make_folder,
    plain,
    read_bytes,
    read_json,
    remove_leftovers,
    set_aside,
    to_json,
    write_atomic,
)
from .methods import MethodCard
from .passages import Passages
from .probes import Cost, Figure, Finding, Gallery, Measurement, Metric, Panels
from .provenance import code, environment, peak_memory
from .shards import Shards

if TYPE_CHECKING:
    import pyarrow

T = TypeVar("T")

SCHEMA = 1
STATUSES = ("ok", "failed", "incomplete", "not_applicable")
FINISHED = ("ok", "not_applicable")
RECORD = "run.json"
_SHAPE: dict[str, type] = {
    "method": dict,
    "settings": dict,
    "target": dict,
    "data": dict,
    "cost": dict,
    "files": dict,
    "metrics": list,
    "findings": list,
    "figures": list,
}


def identity(settings: Mapping[str, Any], *, target_digest: str, data_digest: str, method: str, version: int) -> str:
    """The name of a run: what was asked of whom, on which data, by which version of which method.

    Args:
        settings: resolved settings, JSON-like.
        target_digest: digest of the model with its preprocessing.
        data_digest: digest of the selected samples.
        method: name of the method.
        version: version of the method, raised whenever its results change.

    Returns:
        16 hexadecimal digits of BLAKE2b over canonical JSON.
    """
    parts = {
        "settings": _exact(settings),
        "target": target_digest,
        "data": data_digest,
        "method": method,
        "version": version,
    }
    text = json.dumps(parts, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


class RunWriter:
    """Writes one run: open, compute in shards, then ``finish`` or ``fail``; also a context manager.

    ::

        with RunWriter.open(folder, ...) as writer:
            if not writer.finished:
                ...
                writer.finish(measurement, sample_ids=ids)
    """

    def __init__(self, path: Path, record: dict[str, Any], lock: Lock | None) -> None:
        self.id: str = record["id"]
        self.path = path
        self.finished = lock is None
        self._record = record
        self._lock = lock
        self._started = time.monotonic()

    @functools.cached_property
    def shards(self) -> Shards:
        """The store of finished pieces; opening it drops the damaged ones."""
        return Shards(self.path / "shards")

    @classmethod
    def open(
        cls,
        folder: str | Path,
        *,
        method: MethodCard,
        given: Mapping[str, Any],
        resolved: Mapping[str, Any],
        target: Mapping[str, Any],
        data: Mapping[str, Any],
        seeds: Mapping[str, int],
        command: Sequence[str] = (),
        in_place: bool = False,
    ) -> RunWriter:
        """Create the run, take up one that stopped, or find it finished.

        The run lies in ``folder/<id>``; the id follows from the resolved settings,
        the seeds, the method and the digests of target and data.

        Args:
            folder: the folder of runs; created if missing.
            method: card of the method.
            given: settings as the user wrote them.
            resolved: settings as used, defaults filled in.
            target: description with at least ``digest``.
            data: description with at least ``digest``, and ``sample_id_digest`` if there is one.
            seeds: root seeds by name.
            command: what to type to rerun it.
            in_place: the folder itself is the run directory, as for a training;
                a run of another identity in it is an error.

        Raises:
            RunError: the folder cannot be written, or another process writes this run.
        """
        record: dict[str, Any] = {
            "schema": SCHEMA,
            "kind": "run",
            "id": identity(
                {"settings": resolved, "seeds": seeds},
                target_digest=str(target["digest"]),
                data_digest=f"{data['digest']}:{data.get('sample_id_digest', '')}",
                method=method.name,
                version=method.version,
            ),
            "status": "incomplete",
            "method": _method_record(method),
            "settings": {"given": dict(given), "resolved": dict(resolved)},
            "target": dict(target),
            "data": dict(data),
            "seeds": dict(seeds),
            "command": list(command),
            "created": _now(),
        }
        path = Path(folder) if in_place else Path(folder) / record["id"]
        if in_place:
            _refuse_other(path, record)
        if _is_finished(path):
            return cls(path, record, None)
        make_folder(path)
        lock = Lock(path)
        try:
            return cls._take_up(path, record, lock)
        except BaseException:
            lock.release()
            raise

    @classmethod
    def _take_up(cls, path: Path, record: dict[str, Any], lock: Lock) -> RunWriter:
        remove_leftovers(path)
        earlier = _readable_record(path)
        if earlier is not None and _is_finished(path):
            lock.release()
            return cls(path, record, None)
        if (path / RECORD).exists() and (earlier is None or earlier["status"] in FINISHED):
            set_aside(path / RECORD)
        elif earlier is not None:
            record["created"] = earlier.get("created", record["created"])
        record = {**record, "environment": environment(), "code": code()}
        write_atomic(path / RECORD, to_json(record))
        return cls(path, record, lock)

    def finish(
        self,
        measurement: Measurement,
        *,
        sample_ids: Sequence[int] | np.ndarray,
        claims: Iterable[str | Mapping[str, Any] | Claim] = (),
        target: Mapping[str, Any] | None = None,
        keep: Sequence[str] = (),
    ) -> Run:
        """Write samples, figures and pictures, and last of all the record, in one step.

        Args:
            measurement: what the probe returned; a cost without seconds or memory is filled in.
            sample_ids: ``[N]`` row numbers in the source of the data.
            claims: claims on this run; their verdicts go into the record.
            target: description of the model that the run made, in place of the one it began with.
            keep: files already in the run directory that belong to the result, such as weights.

        Raises:
            RunError: the disk is full; the run stays incomplete and can be repeated.
        """
        files = pack(sample_ids, measurement)
        for name, content in files.items():
            make_folder((self.path / name).parent)
            write_atomic(self.path / name, content)
        checksums = {name: checksum(content) for name, content in files.items()}
        checksums |= {name: checksum(read_bytes(self.path / name)) for name in keep}  # one in memory at a time
        cost = dataclasses.replace(
            measurement.cost,
            seconds=measurement.cost.seconds or time.monotonic() - self._started,
            peak_memory_bytes=measurement.cost.peak_memory_bytes or peak_memory(),
        )
        record = plain(
            {
                **self._record,
                "target": self._record["target"] if target is None else dict(target),
                "status": "not_applicable" if measurement.not_applicable else "ok",
                "finished": _now(),
                "environment": environment(),
                "cost": dataclasses.asdict(cost),
                "metrics": [dataclasses.asdict(metric) for metric in measurement.metrics],
                "findings": [dataclasses.asdict(finding) for finding in measurement.findings],
                "figures": [figure.name for figure in measurement.figures],
                "files": checksums,
                "not_applicable": measurement.not_applicable,
            }
        )
        record["claims"] = [verdict.as_dict() for verdict in check(claims, [Run(self.path, record)])]
        write_atomic(self.path / RECORD, to_json(record))
        self.finished = True
        self.close()
        return Run(self.path, record)

    def fail(self, error: BaseException) -> None:
        """Record how the run stopped: ``incomplete`` if it was interrupted, else ``failed``."""
        stopped = isinstance(error, KeyboardInterrupt | Incomplete)
        record = {
            **self._record,
            "status": "incomplete" if stopped else "failed",
            "finished": _now(),
            "error": {"type": type(error).__name__, "message": str(error)},
        }
        try:
            write_atomic(self.path / RECORD, to_json(record))
        except RunError as second:
            error.add_note(f"The run could not record this either: {second}")
        finally:
            self.close()

    def close(self) -> None:
        """Let other processes write this run."""
        if self._lock is not None:
            self._lock.release()

    def __enter__(self) -> RunWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error is not None and not self.finished:
            self.fail(error)
        self.close()


class Run:
    """A run on disk: its record, and its tables and pictures read when they are asked for.

    Args:
        path: the run directory.
        record: the content of ``run.json``.
    """

    def __init__(self, path: Path, record: dict[str, Any]) -> None:
        self.path = path
        self.record = record
        self.id: str = str(record["id"])
        self.status: str = record["status"]
        self.method: dict[str, Any] = record.get("method", {})
        self.settings: dict[str, Any] = record.get("settings", {}).get("resolved", {})
        self.metrics = [rebuild(Metric, item) for item in record.get("metrics", [])]
        self.findings = [rebuild(Finding, item) for item in record.get("findings", [])]
        self.cost = rebuild(Cost, record.get("cost", {}))

    def __repr__(self) -> str:
        return f"Run({self.id}, {self.method.get('name', '')}, {self.status}, {len(self.metrics)} metrics)"

    def metric(self, name: str, stratum: str = "") -> Metric:
        """One metric by name; budgets are compared as numbers."""
        for metric in self.metrics:
            if same_name(name, metric.name) and metric.stratum == stratum:
                return metric
        wanted = f"{name}{{{stratum}}}" if stratum else name
        hint = did_you_mean(wanted, [metric.label for metric in self.metrics])
        raise InputError(f"The run {self.id} ({self.status}) has no metric {wanted!r}.{hint}")

    @functools.cached_property
    def samples(self) -> pyarrow.Table:
        """The table of samples, one row each; the first column is ``sample_id``."""
        return self._read(unpack_samples, SAMPLES)

    def gallery(self) -> Gallery | None:
        """The samples to look at, or ``None`` if the run has none."""
        return self._read(unpack_gallery, *GALLERY) if GALLERY[0] in self.record.get("files", {}) else None

    def panels(self) -> list[Panels]:
        """The rows of pictures to look at, in the order the probe gave them."""
        return self._read(unpack_panels, *PANELS) if PANELS[0] in self.record.get("files", {}) else []

    def passages(self) -> list[Passages]:
        """The texts with a mark on every token, in the order the probe gave them."""
        return self._read(unpack_passages, PASSAGES) if PASSAGES in self.record.get("files", {}) else []

    def figures(self) -> list[Figure]:
        """The data of the run's figures, in the order the probe gave them."""
        return [self._read(unpack_figure, f"figures/{name}.json") for name in self.record.get("figures", [])]

    def _read(self, unpack: Callable[..., T], *names: str) -> T:
        contents = [self._content(name) for name in names]
        try:
            return unpack(*contents)
        except (ValueError, TypeError, KeyError, RecursionError, zipfile.BadZipFile) as error:
            raise RunError(f"{names[0]} of the run {str(self.path)!r} cannot be read: {error}.") from error

    def _content(self, name: str) -> bytes:
        """The bytes of one of the run's files, checked against the record."""
        expected = self.record.get("files", {}).get(name)
        if expected is None:
            raise RunError(
                f"The run {str(self.path)!r} has no {name}: its status is {self.status}. "
                "Repeat its command to complete it."
            )
        content = read_bytes(self.path / name)
        if checksum(content) != expected:
            raise RunError(f"{str(self.path / name)!r} is damaged or was changed. Repeat the run's command to redo it.")
        return content


def load_run(path: str | Path) -> Run:
    """Open a run.

    Args:
        path: the run directory, or a folder that holds exactly one run.

    Raises:
        RunError: there is no run, there are several, or its record is damaged.
    """
    runs = _run_folders(Path(path))
    if len(runs) > 1:
        names = ", ".join(run.name for run in runs[:5])
        raise RunError(f"{str(path)!r} holds {len(runs)} runs; name one of them: {names}{', ...' * (len(runs) > 5)}")
    return _load(runs[0])


def find_runs(paths: Iterable[str | Path] | str | Path) -> list[Run]:
    """Open all runs in the given folders: run directories, folders of runs, study folders (``OUT/runs``).

    Raises:
        RunError: a path holds no run, or a record is damaged: nothing is left out silently.
    """
    given = [paths] if isinstance(paths, str | Path) else paths
    folders = {folder.resolve(): folder for path in given for folder in _run_folders(Path(path))}
    return [_load(folder) for folder in folders.values()]


def _method_record(method: MethodCard) -> dict[str, Any]:
    citation = method.citation.key if method.citation else ""
    described = {name: getattr(method, name) for name in ("name", "kind", "title", "summary", "version")}
    return {**described, "citation": citation}


def _run_folders(path: Path) -> list[Path]:
    if path.name == RECORD:
        path = path.parent
    if not path.is_dir():
        raise RunError(f"There is no run directory {str(path)!r}. Check the path; runs lie in OUT/runs/<id>.")
    for candidates in ([path], sorted(path.glob("runs/*")), sorted(path.iterdir())):
        found = [folder for folder in candidates if (folder / RECORD).is_file()]
        if found:
            return found
    raise RunError(f"{str(path)!r} holds no run: there is no {RECORD} in it, in its folders, or in its runs/*.")


def _load(path: Path) -> Run:
    record = read_json(path / RECORD)
    wrong = _wrong(record)
    if not wrong:
        try:
            return Run(path, record)
        except (TypeError, ValueError, AttributeError) as error:
            wrong = str(error)
    raise RunError(f"{str(path / RECORD)!r} is not a run record: {wrong}. Repeat the run's command to redo it.")


def _wrong(record: Any) -> str:
    """What keeps a JSON value from being a run record, or ``""``."""
    if not isinstance(record, dict):
        return "it is not a mapping"
    if record.get("schema") != SCHEMA:
        return f"its schema is {record.get('schema')!r}, and this version of Assay reads {SCHEMA}"
    if not isinstance(record.get("id"), str) or record.get("status") not in STATUSES:
        return f"its status is {record.get('status')!r}; allowed: {', '.join(STATUSES)}"
    for key, kind in _SHAPE.items():
        if key in record and not isinstance(record[key], kind):
            return f"{key!r} is not a {kind.__name__}"
    if not isinstance(record.get("settings", {}).get("resolved", {}), dict):
        return "'settings' has no mapping 'resolved'"
    return ""


def _readable_record(path: Path) -> dict[str, Any] | None:
    """The record, or ``None`` if there is none that can be read."""
    if not (path / RECORD).is_file():
        return None
    try:
        return _load(path).record
    except RunError:
        return None


def _refuse_other(path: Path, record: Mapping[str, Any]) -> None:
    """RunError if the folder holds a run of another identity, naming what differs."""
    earlier = _readable_record(path)
    if earlier is None or earlier["id"] == record["id"]:
        return
    parts = ("method", "settings", "seeds", "data")
    old, new = ({key: plain(item.get(key, {})) for key in parts} for item in (earlier, record))
    for item in (old, new):
        item["settings"] = item["settings"].get("resolved", {})
        item["method"] = {key: item["method"].get(key) for key in ("name", "version")}
        item["data"] = {key: item["data"].get(key) for key in ("digest", "sample_id_digest")}
    before, now = _flat(old), _flat(new)
    changes = [
        f"{key} was {before.get(key)!r} and is {now.get(key)!r}"
        for key in sorted(before.keys() | now.keys())
        if before.get(key) != now.get(key)
    ]
    raise RunError(
        f"{str(path)!r} holds a run with other settings: {'; '.join(changes[:6])}{'; ...' * (len(changes) > 6)}. "
        "Repeat the earlier command to go on with it, or choose another output folder."
    )


def _flat(value: Any, name: str = "") -> dict[str, Any]:
    """Nested mappings as one, with dotted names."""
    if not isinstance(value, Mapping):
        return {name: value}
    parts = [_flat(item, f"{name}.{key}" if name else str(key)) for key, item in value.items()]
    return {key: item for part in parts for key, item in part.items()}


def _is_finished(path: Path) -> bool:
    """Whether the run has ended well and all its files are whole."""
    record = _readable_record(path)
    if record is None or record["status"] not in FINISHED or SAMPLES not in record.get("files", {}):
        return False
    return all(
        (path / name).is_file() and checksum(read_bytes(path / name)) == expected
        for name, expected in record["files"].items()
    )


def _exact(value: Any) -> Any:
    """Plain values for an identity: unlike in a record, infinities and NaN stay distinct."""
    if isinstance(value, Mapping):
        return {str(key): _exact(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_exact(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return {"float": repr(float(value))}
    return plain(value)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
