"""idx files: pairs, compression, truncation, headers that lie."""

from __future__ import annotations

import gzip
import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from assay.core.errors import DataError
from assay.data import load_data
from assay.data.idx import TYPES, read_array

IMAGES = np.random.default_rng(0).integers(0, 256, (6, 8, 9), dtype=np.uint8)
LABELS = np.array([0, 1, 2, 0, 1, 2], np.uint8)


def encode(array, code=8):
    header = struct.pack(">BBBB", 0, 0, code, array.ndim) + struct.pack(f">{array.ndim}I", *array.shape)
    return header + array.astype(TYPES[code]).tobytes()


def write(folder, stem, images=IMAGES, labels=LABELS, compress=False):
    for name, array in ((f"{stem}-images-idx3-ubyte", images), (f"{stem}-labels-idx1-ubyte", labels)):
        if compress:
            (folder / f"{name}.gz").write_bytes(gzip.compress(encode(array)))
        else:
            (folder / name).write_bytes(encode(array))


@given(code=st.sampled_from(sorted(TYPES)), data=st.data())
def test_every_type_round_trips(tmp_path_factory, code, data):
    kind = np.dtype(TYPES[code])
    array = data.draw(hnp.arrays(kind, hnp.array_shapes(max_dims=4, max_side=4)))
    path = tmp_path_factory.mktemp("idx") / "x.idx"
    path.write_bytes(encode(array, code))
    found = read_array(path)
    assert found.dtype == kind.newbyteorder("=")
    np.testing.assert_array_equal(found, array)


@pytest.mark.parametrize("compress", [False, True])
def test_folder(tmp_path, compress):
    write(tmp_path, "train", compress=compress)
    write(tmp_path, "t10k", IMAGES[:2], LABELS[:2], compress=compress)
    data = load_data(tmp_path)
    assert (data.split, len(data), data.shape, data.num_classes) == ("test", 2, (1, 8, 9), 3)
    np.testing.assert_array_equal(load_data(tmp_path, split="train").images()[:, 0], IMAGES / np.float32(255))


def test_either_file_finds_the_other(tmp_path):
    write(tmp_path, "train", compress=True)
    for name in ("train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz"):
        data = load_data(tmp_path / name, limit=4)
        assert (data.split, data.labels.tolist()) == ("train", [0, 1, 2, 0])
    (tmp_path / "train-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(DataError, match="train-labels-idx1-ubyte"):
        load_data(tmp_path)


def test_names_that_say_nothing(tmp_path):
    (tmp_path / "x.idx").write_bytes(encode(IMAGES))
    with pytest.raises(DataError, match="partner"):
        load_data(tmp_path / "x.idx")
    with pytest.raises(DataError, match="none with images in its name"):
        load_data(tmp_path)


def test_two_sets_in_one_folder(tmp_path):
    write(tmp_path, "letters-train")
    write(tmp_path, "digits-train")
    with pytest.raises(DataError, match="more than one set of train images"):
        load_data(tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda whole: whole[:-1], "fewer bytes"),
        (lambda whole: whole + b"\0", "more bytes"),
        (lambda whole: whole[:7], "within its header"),
        (lambda whole: b"", "not an idx file"),
        (lambda whole: b"PK\3\4" + whole, "not an idx file"),
        (lambda whole: whole[:4] + b"\xff" * 12 + whole[16:], "fewer bytes"),
    ],
)
@pytest.mark.parametrize("compress", [False, True])
def test_damage(tmp_path, change, message, compress):
    write(tmp_path, "test", compress=compress)
    path = tmp_path / ("test-images-idx3-ubyte" + (".gz" if compress else ""))
    whole = change(encode(IMAGES))
    path.write_bytes(gzip.compress(whole) if compress else whole)
    with pytest.raises(DataError, match=message):
        load_data(path)


def test_truncated_gzip(tmp_path):
    write(tmp_path, "test", compress=True)
    path = tmp_path / "test-images-idx3-ubyte.gz"
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(DataError, match="cannot be read as idx"):
        load_data(path)


def test_lengths_and_options(tmp_path):
    write(tmp_path, "test", labels=LABELS[:5])
    with pytest.raises(DataError, match="6 images but 5 labels"):
        load_data(tmp_path)
    with pytest.raises(DataError, match="has no meaning"):
        load_data(tmp_path, labels_key="y")
