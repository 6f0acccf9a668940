"""Keys are read as they were written, refused for a reason, and never shown."""

from __future__ import annotations

import os
import stat
import threading
import traceback
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from assay.core.errors import RunError, SettingError
from assay.watermark.keys import (
    LARGEST_FILE,
    VARIABLE,
    exposed,
    key_from_environment,
    new_key,
    parse_key,
    read_key,
    write_key,
)

KEYS = st.integers(1, 2**64 - 1)


@given(
    key=KEYS,
    form=st.sampled_from(["{}", "0x{:x}", "0X{:X}", "00{}", "0x000{:x}"]),
    around=st.text(" \t\r\n", max_size=3),
)
@example(key=2**64 - 1, form="{}", around="")
def test_a_key_is_read_as_it_was_written(key: int, form: str, around: str) -> None:
    assert parse_key(around + form.format(key) + around, where="a file") == key


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "empty"),
        (" \n", "empty"),
        ("0", "is 0"),
        ("0x0", "is 0"),
        ("000", "is 0"),
        ("-48151623", "negative"),
        (str(2**64), "64 bits"),
        ("0x1" + 16 * "0", "64 bits"),
        (500 * "9", "64 bits"),
        ("4815 1623", "2 words"),
        ("48151.5", "not a number"),
        ("48151e5", "not a number"),
        ("+48151623", "not a number"),
        ("48_151_623", "not a number"),
        ("４８１５", "not a number"),
        ("0x", "not a number"),
        ("4815abcd", "not a number"),
        ("key: 48151623", "not a number"),
        ("--48151623", "not a number"),
    ],
)
def test_what_is_no_key_is_refused_without_showing_it(text: str, why: str) -> None:
    with pytest.raises(SettingError, match=why) as caught:
        parse_key(text, where="the key file 'k'")
    assert "48" not in "".join(traceback.format_exception(caught.value)).replace("2^64", "").split("SettingError")[-1]


@given(content=st.one_of(st.binary(max_size=80), st.text("0123456789abcdefx-+._ \n", max_size=80).map(str.encode)))
@example(content=b"\xff\xfe4\x008\x00")
@example(content=b"481516\x00")
@example(content=b"\xef\xbb\xbf481516\r\n")
def test_any_bytes_are_a_key_or_an_error_without_them(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "K"
    path.write_bytes(content)
    key, said = None, ""
    try:
        key = read_key(path)
    except SettingError as error:
        said = str(error)
    for word in content.decode("latin-1").split():
        assert len(word) < 6 or word not in said
    if key is not None:
        assert 1 <= key < 2**64
        assert int(content.removeprefix(b"\xef\xbb\xbf").strip().lower(), 0 if b"x" in content.lower() else 10) == key


def test_files_that_are_no_key_files(tmp_path: Path) -> None:
    (tmp_path / "long").write_bytes(b"1" * (LARGEST_FILE + 1))
    (tmp_path / "binary").write_bytes(bytes(range(1, 200)))
    for name, why in {
        "long": "more than 1024 bytes",
        "binary": "binary",
        "none": "no key file",
        ".": "directory",
    }.items():
        with pytest.raises(SettingError, match=why):
            read_key(tmp_path / name)
    with pytest.raises(SettingError, match="no file name"):
        read_key("a\0b")


def test_a_key_may_come_through_a_pipe(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    writer = threading.Thread(target=(tmp_path / "pipe").write_text, args=("31\n",))
    writer.start()
    assert read_key(tmp_path / "pipe") == 31
    writer.join()
    assert exposed(tmp_path / "pipe") is None


def test_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    assert key_from_environment() is None
    monkeypatch.setenv(VARIABLE, "0x1f")
    assert key_from_environment() == 31
    monkeypatch.setenv(VARIABLE, "")
    with pytest.raises(SettingError, match=VARIABLE):
        key_from_environment()


def test_a_new_key_is_written_for_its_owner_alone_and_never_replaced(tmp_path: Path) -> None:
    path = tmp_path / "key"
    write_key(path, 31)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert exposed(path) is None
    with pytest.raises(SettingError, match="there already"):
        write_key(path, 32)
    assert read_key(path) == 31
    path.chmod(0o644)
    assert "chmod 600" in str(exposed(path))
    with pytest.raises(RunError, match="Cannot write"):
        write_key(tmp_path / "none" / "key", 31)


def test_new_keys_are_in_range_and_differ() -> None:
    assert all(1 <= new_key(3) <= 7 for _ in range(50))
    assert len({new_key() for _ in range(20)}) == 20
