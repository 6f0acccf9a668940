"""Shards: kept once written, dropped when damaged."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from assay.core.errors import InputError, RunError
from assay.core.shards import Shards


def test_what_is_put_is_found_again_by_another_process(tmp_path: Path) -> None:
    shards = Shards(tmp_path / "shards")
    assert shards.keys() == []
    assert not (tmp_path / "shards").exists()
    shards.put("square/2", robust=np.array([True]), names=np.array(["a", "ü"]))
    shards.put("apgd-ce", points=np.ones((2, 3), dtype=np.float32))
    again = Shards(tmp_path / "shards")
    assert again.keys() == ["apgd-ce", "square/2"]
    assert "square/2" in again
    assert "square" not in again
    assert len(again) == 2
    assert again.get("square/2")["names"].tolist() == ["a", "ü"]
    assert again.get("apgd-ce")["points"].dtype == np.float32


arrays = hnp.arrays(st.sampled_from([np.float64, np.int64, np.bool_]), hnp.array_shapes())


@settings(max_examples=40)
@given(st.text(min_size=1, max_size=20), arrays)
def test_any_key_and_array_come_back(tmp_path_factory: pytest.TempPathFactory, key: str, array: np.ndarray) -> None:
    folder = tmp_path_factory.mktemp("shards")
    Shards(folder).put(key, file=array, key=array.sum())
    found = Shards(folder).get(key)
    assert found["file"].dtype == array.dtype
    np.testing.assert_array_equal(found["file"], array)
    np.testing.assert_array_equal(found["key"], array.sum())


@settings(max_examples=60)
@given(st.data())
def test_any_damage_is_seen_and_the_shard_can_be_written_again(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("shards")
    first = Shards(folder)
    first.put("a", values=np.arange(10))
    first.put("b", values=np.arange(10))
    path = next(folder.glob("a.*"))
    content = bytearray(path.read_bytes())
    if data.draw(st.booleans(), label="truncate"):
        content = content[: data.draw(st.integers(0, len(content) - 1))]
    else:
        content[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
    path.write_bytes(content)
    with pytest.raises(RunError, match="damaged while in use"):
        first.get("a")
    again = Shards(folder)
    assert again.keys() == ["b"]
    assert again.dropped == ["a"]
    again.put("a", values=np.arange(10))
    assert Shards(folder).dropped == []


def test_a_shard_under_another_name_is_not_believed(tmp_path: Path) -> None:
    Shards(tmp_path).put("a", values=np.arange(3))
    path = next(tmp_path.glob("a.*"))
    path.rename(tmp_path / path.name.replace("a.", "b.", 1))
    assert Shards(tmp_path).dropped == ["b"]


def test_shards_are_only_added(tmp_path: Path) -> None:
    shards = Shards(tmp_path)
    shards.put("a", values=np.zeros(1))
    with pytest.raises(InputError, match="only added"):
        shards.put("a", values=np.ones(1))
    assert shards.get("a")["values"].tolist() == [0.0]
    with pytest.raises(RunError, match="no shard 'c'"):
        shards.get("c")


def test_keys_and_arrays_that_cannot_be_kept(tmp_path: Path) -> None:
    shards = Shards(tmp_path)
    for key in ("", "k" * 201, "ü" * 40):
        with pytest.raises(InputError, match="1 to 200 are allowed"):
            shards.put(key, values=np.zeros(1))
    with pytest.raises(InputError, match="'values' holds Python objects"):
        shards.put("a", values=np.array([{"a": 1}], dtype=object))
    assert not list(tmp_path.iterdir())


def test_a_full_disk_keeps_the_earlier_shards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shards = Shards(tmp_path)
    shards.put("a", values=np.zeros(1))

    def refuse(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", refuse)
        with pytest.raises(RunError, match="Free some space"):
            shards.put("b", values=np.zeros(1))
    assert "b" not in shards
    assert Shards(tmp_path).keys() == ["a"]
    assert len(list(tmp_path.iterdir())) == 1
    shards.put("b", values=np.zeros(1))


def test_a_pickled_file_is_never_opened(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.array([print], dtype=object), allow_pickle=True)
    (tmp_path / "a.npy").rename(tmp_path / "a.0123.npz")
    assert Shards(tmp_path).keys() == []
