"""Files are whole or absent."""

from __future__ import annotations

import errno
import json
import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from assay.core.errors import RunError
from assay.core.files import (
    Lock,
    checksum,
    make_folder,
    plain,
    read_bytes,
    read_json,
    remove,
    remove_leftovers,
    set_aside,
    to_json,
    write_atomic,
)


def test_text_and_bytes_are_written_and_replaced(tmp_path: Path) -> None:
    path = tmp_path / "note.txt"
    write_atomic(path, "grün")
    assert path.read_text(encoding="utf-8") == "grün"
    write_atomic(str(path), b"\x00\xff")
    assert path.read_bytes() == b"\x00\xff"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("code", "remedy"),
    [
        (errno.ENOSPC, "Free some space"),
        (errno.EDQUOT, "Free some space"),
        (errno.EACCES, "permissions"),
        (errno.EROFS, "permissions"),
        (errno.EIO, "repair the cause"),
    ],
)
@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_refused_write_leaves_the_older_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, remedy: str, step: str
) -> None:
    path = tmp_path / "run.json"
    write_atomic(path, "older")

    def refuse(*_: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, step, refuse)
    with pytest.raises(RunError, match=remedy) as caught:
        write_atomic(path, "newer")
    assert str(path) in str(caught.value)
    assert os.strerror(code) in str(caught.value)
    assert [file.name for file in tmp_path.iterdir()] == ["run.json"]
    assert path.read_text() == "older"


def test_a_full_disk_half_way_leaves_the_older_file(tmp_path: Path) -> None:
    path = tmp_path / "run.json"
    write_atomic(path, "older")
    script = (
        "import resource, sys\n"
        "from assay.core.errors import RunError\n"
        "from assay.core.files import write_atomic\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))\n"
        "try:\n"
        "    write_atomic(sys.argv[1], b'x' * 5000)\n"
        "except RunError as error:\n"
        "    print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", script, str(path)], capture_output=True, text=True, check=True)
    assert "Free some space" in done.stdout
    assert [file.name for file in tmp_path.iterdir()] == ["run.json"]
    assert path.read_text() == "older"


def test_an_interrupted_write_leaves_no_temporary_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(_: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_atomic(tmp_path / "a", "text")
    assert not list(tmp_path.iterdir())


def test_a_file_where_a_folder_is_needed(tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("a file")
    for call in (
        lambda: make_folder(tmp_path / "runs"),
        lambda: make_folder(tmp_path / "runs" / "deeper"),
        lambda: write_atomic(tmp_path / "runs" / "a", "x"),
    ):
        with pytest.raises(RunError, match="file stands where a folder is needed"):
            call()


def test_leftovers_are_removed_at_any_depth_and_nothing_else(tmp_path: Path) -> None:
    keep = [tmp_path / "a.tmp", tmp_path / ".mine.tmp", tmp_path / "shards" / "b.npz"]
    gone = [tmp_path / ".0123456789abcdef.tmp", tmp_path / "shards" / ".fedcba9876543210.tmp"]
    (tmp_path / "shards").mkdir()
    for path in keep + gone:
        path.write_text("x")
    remove_leftovers(tmp_path)
    assert [path.exists() for path in keep + gone] == [True] * 3 + [False] * 2


def test_removing_what_cannot_be_removed(tmp_path: Path) -> None:
    remove(tmp_path / "absent")
    with pytest.raises(RunError, match="Cannot write"):
        remove(tmp_path)


def test_damaged_files_are_set_aside(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text("{")
    assert set_aside(tmp_path / "run.json").read_text() == "{"
    assert [path.name for path in tmp_path.iterdir()] == ["run.json.damaged"]
    with pytest.raises(RunError, match="Cannot write"):
        set_aside(tmp_path / "run.json")


@pytest.mark.parametrize("content", [b"", b"{", b'{"a": 1', b"\xff\xfe\x00", b"[" * 100_000, b"1" * 5000])
def test_garbled_json_is_a_clear_error(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "run.json"
    path.write_bytes(content)
    with pytest.raises(RunError, match=r"run\.json.*damaged.*Repeat"):
        read_json(path)


def test_absent_files_are_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"absent\.json.*No such file"):
        read_json(tmp_path / "absent.json")
    with pytest.raises(RunError, match="Is a directory"):
        read_bytes(tmp_path)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
        max_leaves=20,
    )
)
def test_json_has_no_nan_and_reads_back(value: object) -> None:
    text = to_json(value)

    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    assert json.loads(text, parse_constant=refuse) == plain(value)
    assert to_json(json.loads(text)) == text


def test_plain_unwraps_numpy_and_paths() -> None:
    value = {
        1: np.float32(0.5),
        "a": np.arange(2),
        "b": (np.bool_(True), Path("x")),
        "c": [math.nan, math.inf, "\ud800"],
    }
    assert plain(value) == {"1": 0.5, "a": [0, 1], "b": [True, "x"], "c": [None, None, "?"]}


def test_checksums_differ_with_content() -> None:
    assert checksum(b"a") != checksum(b"b")
    assert len(checksum(b"")) == 32


def test_a_lock_excludes_others_until_it_is_released(tmp_path: Path) -> None:
    lock = Lock(tmp_path)
    with pytest.raises(RunError, match="Another process is writing"):
        Lock(tmp_path)
    lock.release()
    lock.release()
    Lock(tmp_path).release()
    with pytest.raises(RunError, match="Cannot write"):
        Lock(tmp_path / "absent")
