"""The built-in digits and their fixed split."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.datasets import load_digits

from assay.core.errors import DataError
from assay.data import load_data
from assay.data.digits import split_rows


def test_the_split_is_a_stratified_partition():
    parts = {split: load_data("digits", split=split) for split in ("train", "test", "all")}
    train, test = parts["train"], parts["test"]
    ids = np.concatenate([train.sample_ids, test.sample_ids])
    assert np.array_equal(np.sort(ids), parts["all"].sample_ids)
    assert len(parts["all"]) == 1797
    for label in range(10):
        share = (train.labels == label).sum() / (parts["all"].labels == label).sum()
        assert abs(share - 0.75) < 0.01


def test_the_split_never_changes():
    assert split_rows(load_digits().target, "test")[:8].tolist() == load_data("digits").sample_ids[:8].tolist()
    assert load_data("digits").sample_ids[:5].tolist() == FIRST_TEST_ROWS


FIRST_TEST_ROWS = [1, 4, 6, 15, 16]


def test_pixels_are_sixteenths():
    data = load_data("digits", split="all")
    expected = load_digits().images.astype(np.float32) / 16
    np.testing.assert_array_equal(data.images()[:, 0], expected)
    assert data.labels.tolist() == load_digits().target.tolist()
    assert "divided by 16" in " ".join(data.notes)


def test_limit():
    assert load_data("digits", limit=7).sample_ids.tolist() == load_data("digits").sample_ids[:7].tolist()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"split": "tset"}, "Did you mean 'test'"),
        ({"group": "writer"}, "has no meaning"),
        ({"image_size": 32}, "does not resize"),
        ({"limit": 0}, "at least 1"),
        ({"limit": 2.5}, "whole number"),
    ],
)
def test_wrong_options(options, message):
    with pytest.raises(DataError, match=message):
        load_data("digits", **options)
