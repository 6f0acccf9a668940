"""npz archives: keys, splits, damage, pickles."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

from assay.core.errors import DataError
from assay.data import load_data

IMAGES = np.random.default_rng(0).integers(0, 256, (6, 8, 8), dtype=np.uint8)
LABELS = np.array([0, 1, 2, 0, 1, 2])


@pytest.mark.parametrize(
    ("keys", "split"),
    [
        (("x_test", "y_test"), "test"),
        (("test_images", "test_labels"), "test"),
        (("X", "y"), "all"),
        (("images", "labels"), "all"),
        (("data", "target"), "all"),
        (("val_images", "val_labels"), "validation"),
        (("x_train", "y_train"), "train"),
    ],
)
def test_keys_are_found(tmp_path, keys, split):
    np.savez(tmp_path / "set.npz", **{keys[0]: IMAGES, keys[1]: LABELS, "extra": np.zeros(3)})
    data = load_data(tmp_path / "set.npz")
    assert data.split == split
    assert data.labels.tolist() == LABELS.tolist()
    np.testing.assert_array_equal(data.images()[:, 0], IMAGES / np.float32(255))
    assert data.describe()["source"] == "set.npz"


@pytest.fixture
def both(tmp_path):
    path = tmp_path / "set.npz"
    np.savez(
        path, x_train=IMAGES, y_train=LABELS + 1, x_test=IMAGES[:3], y_test=LABELS[:3], writer_test=["a", "b", "a"]
    )
    return path


def test_splits(both):
    assert load_data(both).split == "test"
    assert len(load_data(both, split="train")) == 6
    assert load_data(both, split="test").num_classes == 4
    assert load_data(both, group="writer_test").groups.tolist() == ["a", "b", "a"]
    with pytest.raises(DataError, match="no split 'validation'"):
        load_data(both, split="validation")


def test_keys_by_option(tmp_path):
    np.savez(tmp_path / "set.npz", pictures=IMAGES, digit=LABELS)
    data = load_data(tmp_path / "set.npz", images_key="pictures", labels_key="digit", limit=2)
    assert len(data) == 2
    assert "2 of 6 samples were read, holding 2 of 3 classes" in data.notes[-1]
    with pytest.raises(DataError, match="There are: 'pictures', 'digit'"):
        load_data(tmp_path / "set.npz")
    with pytest.raises(DataError, match="Did you mean 'pictures'"):
        load_data(tmp_path / "set.npz", images_key="picture", labels_key="digit")
    with pytest.raises(DataError, match="give labels_key as well"):
        load_data(tmp_path / "set.npz", images_key="pictures")


def test_one_key_finds_its_partner(both):
    assert load_data(both, images_key="x_train").split == "train"


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"x": IMAGES, "y": LABELS[:5]}, "6 images but 5 labels"),
        ({"x": IMAGES[:0], "y": LABELS[:0]}, "empty"),
        ({"x": IMAGES, "y": LABELS - 1}, "negative"),
        ({"x": IMAGES / 1.0, "y": LABELS}, "Divide them by 255"),
        ({"x": np.float32(3), "y": LABELS}, "0 images but 6 labels"),
        ({}, "none at all"),
    ],
)
def test_bad_contents(tmp_path, arrays, message):
    np.savez(tmp_path / "set.npz", **arrays)
    with pytest.raises(DataError, match=message) as caught:
        load_data(tmp_path / "set.npz")
    assert "set.npz" in str(caught.value)


class Trap:
    def __reduce__(self):
        return (pytest.fail, ("a pickle was run",))


def test_pickles_are_never_loaded(tmp_path):
    trap = np.empty(6, dtype=object)
    trap[:] = [Trap() for _ in range(6)]
    np.savez(tmp_path / "set.npz", x=IMAGES, y=trap)
    with pytest.raises(DataError, match="never loaded"):
        load_data(tmp_path / "set.npz")
    (tmp_path / "bare.npz").write_bytes(pickle.dumps(Trap()))
    with pytest.raises(DataError, match="not an npz archive"):
        load_data(tmp_path / "bare.npz")


def test_damage(tmp_path, both):
    whole = both.read_bytes()
    (tmp_path / "cut.npz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=r"cut\.npz.*truncated"):
        load_data(tmp_path / "cut.npz")
    place = whole.index(b"NUMPY") + 200
    (tmp_path / "bent.npz").write_bytes(whole[:place] + b"\xff\xff\xff" + whole[place + 3 :])
    with pytest.raises(DataError, match=r"bent\.npz.*corrupt"):
        load_data(tmp_path / "bent.npz", split="train")
    np.save(tmp_path / "one.npy", IMAGES)
    (tmp_path / "one.npy").rename(tmp_path / "one.npz")
    with pytest.raises(DataError, match="not an npz archive"):
        load_data(tmp_path / "one.npz")


def test_mnist(shared_data):
    data = load_data(shared_data / "mnist" / "mnist.npz")
    assert (data.name, data.split, len(data), data.shape, data.num_classes) == ("mnist", "test", 10000, (1, 28, 28), 10)
    assert data.labels[:5].tolist() == [7, 2, 1, 0, 4]
    assert data.pixels.array.dtype == np.uint8
    assert data.images(range(3)).dtype == np.float32
    assert np.bincount(data.labels).tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    assert len(load_data(shared_data / "mnist" / "mnist.npz", split="train")) == 60000
