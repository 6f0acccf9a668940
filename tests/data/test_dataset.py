"""Dataset: views, indices, digests, description."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from assay.core.errors import DataError
from assay.data import Dataset


def make(n=10, seed=0, **options):
    random = np.random.default_rng(seed)
    return Dataset.from_arrays(
        random.integers(0, 256, (n, 4, 5, 3), dtype=np.uint8), np.arange(n) % 3, groups=list("ab" * n)[:n], **options
    )


@given(st.lists(st.integers(0, 9), max_size=12), st.lists(st.integers(0, 100), max_size=5))
def test_subsets_of_subsets(first, second):
    data = make()
    second = [index % len(first) for index in second] if first else []
    twice = data.subset(first).subset(second)
    direct = [first[index] for index in second]
    assert twice.sample_ids.tolist() == direct
    assert twice.labels.tolist() == data.labels[direct].tolist()
    assert twice.groups.tolist() == data.groups[direct].tolist()
    assert twice.images().shape == (len(direct), 3, 4, 5)
    np.testing.assert_array_equal(twice.images(), data.images()[direct])
    assert twice.pixels is data.pixels
    assert twice.num_classes == 3


def test_indices():
    data = make()
    np.testing.assert_array_equal(data.images(slice(2, 4)), data.images([2, 3]))
    np.testing.assert_array_equal(data.images(data.labels == 1), data.images([1, 4, 7]))
    assert len(data.head(3)) == 3
    assert len(data.head(99)) == 10


@pytest.mark.parametrize("indices", [[10], [-1], [0.5], [[0]], 3, [True, False]])
def test_indices_that_mean_nothing(indices):
    with pytest.raises(DataError, match="Indices"):
        make().subset(indices)


def test_head_of_nothing():
    with pytest.raises(DataError, match="at least 1"):
        make().head(0)


def test_digest_follows_content_alone():
    data = make()
    assert data.digest == make(name="another").digest
    assert data.digest != make(seed=1).digest
    assert data.head(5).digest == make().subset(range(5)).digest
    assert len({data.digest, data.head(5).digest, data.subset([1, 0]).digest, data.subset([0, 1]).digest}) == 4


@given(st.integers(0, 9), st.integers(0, 3), st.integers(0, 4), st.integers(0, 2))
def test_one_pixel_changes_the_digest(sample, row, column, channel):
    images = np.zeros((10, 4, 5, 3), np.uint8)
    before = Dataset.from_arrays(images, np.zeros(10, int)).digest
    images = images.copy()
    images[sample, row, column, channel] = 1
    assert Dataset.from_arrays(images, np.zeros(10, int)).digest != before


def test_labels_classes_and_groups_change_the_digest():
    images = np.zeros((2, 4, 4), np.uint8)
    digests = {
        Dataset.from_arrays(images, [0, 1]).digest,
        Dataset.from_arrays(images, [1, 0]).digest,
        Dataset.from_arrays(images, [0, 1], class_names=("cat", "dog")).digest,
        Dataset.from_arrays(images, [0, 1], groups=["f", "m"]).digest,
        Dataset.from_arrays(images / 255.0, [0, 1]).digest,
        Dataset.from_arrays(images.reshape(2, 2, 8), [0, 1]).digest,
    }
    assert len(digests) == 6


def test_layout_does_not_change_the_digest():
    images = np.random.default_rng(0).integers(0, 256, (3, 4, 5, 3), dtype=np.uint8)
    same = Dataset.from_arrays(np.ascontiguousarray(images.transpose(0, 3, 1, 2)), [0, 1, 2])
    assert Dataset.from_arrays(images, [0, 1, 2]).digest == same.digest


def test_sample_id_digest():
    data = make()
    assert data.head(5).sample_id_digest != data.subset([5, 6, 7, 8, 9]).sample_id_digest
    assert data.head(5).sample_id_digest == make(seed=1).head(5).sample_id_digest


def test_description_is_json():
    record = make(name="faces").describe()
    assert json.loads(json.dumps(record)) == record
    assert record["name"] == "faces"
    assert record["n"] == 10
    assert record["shape"] == [3, 4, 5]
    assert record["groups"] == ["a", "b"]
    assert "divided by 255" in record["notes"][0]


def test_lengths_must_agree():
    with pytest.raises(DataError, match="2 images but 3 labels"):
        Dataset.from_arrays(np.zeros((2, 4, 4), np.uint8), [0, 1, 2])
    with pytest.raises(DataError, match="one value for each of 2 samples"):
        Dataset.from_arrays(np.zeros((2, 4, 4), np.uint8), [0, 1], groups=["f"])


def test_repr():
    assert repr(make()) == "Dataset('arrays', split='all', n=10, shape=3x4x5, classes=3)"
