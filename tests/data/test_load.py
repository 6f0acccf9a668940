"""load_data: dispatch, and paths that lead nowhere."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from assay.core.errors import DataError
from assay.data import load_data
from assay.data.request import choose_split, short_name


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("digit", "Did you mean 'digits'"),
        ("no/such/place", "There are no data at"),
        ("", "a name or a path is needed"),
        (None, "a name or a path is needed"),
        (3, "a name or a path is needed"),
        ("a\0b", "cannot be opened|There are no data"),
        ("x" * 5000, "cannot be opened|There are no data"),
    ],
)
def test_nothing_there(spec, message):
    with pytest.raises(DataError, match=message):
        load_data(spec)


def test_neighbours_are_suggested(tmp_path):
    (tmp_path / "mnist.npz").touch()
    with pytest.raises(DataError, match=r"Did you mean 'mnist\.npz'"):
        load_data(tmp_path / "mnits.npz")


@pytest.mark.parametrize("name", ["set.npzz", "set", "set.pkl", "set.txt"])
def test_unknown_kinds(tmp_path, name):
    (tmp_path / name).write_bytes(b"something")
    with pytest.raises(DataError, match=r"no reader.*parquet"):
        load_data(tmp_path / name)


def test_a_pipe_is_not_read(tmp_path):
    os.mkfifo(tmp_path / "set.npz")
    with pytest.raises(DataError, match="neither a file nor a folder"):
        load_data(tmp_path / "set.npz")


def test_torch_is_not_needed():
    code = "import sys, assay.data as d; d.load_data('digits'); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(
    ("available", "wanted", "chosen"),
    [
        (("train", "test"), None, "test"),
        (("train", "validation"), None, "validation"),
        (("train",), None, "train"),
        (("train",), "all", "train"),
        (("all",), None, "all"),
        (("train", "validation"), "Val", "validation"),
    ],
)
def test_choice_of_split(available, wanted, chosen):
    assert choose_split(available, wanted, "here") == chosen


def test_all_of_several_splits_is_refused():
    with pytest.raises(DataError, match=r"no split 'all'\. There are: test, train"):
        choose_split(("train", "test"), "all", "here")


def test_short_names(tmp_path):
    (tmp_path / "faces").mkdir()
    assert short_name(tmp_path / "faces") == "faces"
    assert short_name(tmp_path / "faces" / "test.parquet") == "faces"
    assert short_name(tmp_path / "faces" / "eyes.tar.gz") == "eyes"
