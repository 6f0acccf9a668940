"""The data sets of the reproductions."""

from __future__ import annotations

import numpy as np
import pytest

from assay.core.errors import SettingError
from reproductions import datasets


def test_thinning_takes_from_one_class_of_the_training_part_alone():
    whole, test = datasets.read({"name": "digits"})
    thin, same = datasets.read({"name": "digits", "thin": {"class": 8, "keep": 0.3}})
    counts = np.bincount(whole.labels), np.bincount(thin.labels)
    others = np.arange(10) != 8
    assert (counts[0][others] == counts[1][others]).all()
    assert 0 < counts[1][8] < 0.6 * counts[0][8]
    assert same.digest == test.digest
    assert set(thin.sample_ids) <= set(whole.sample_ids)


def test_thinning_keeps_nested_sets():
    whole, _ = datasets.read({"name": "digits"})
    few, more = (set(datasets.thinned(whole, 3, keep).sample_ids) for keep in (0.2, 0.5))
    assert few < more


def test_fewer_training_samples_are_the_first_ones_and_the_test_part_is_whole():
    whole, test = datasets.read({"name": "digits"})
    few, same = datasets.read({"name": "digits", "limit": 100})
    assert list(few.sample_ids) == list(whole.sample_ids[:100])
    assert same.digest == test.digest


def test_held_out_samples_are_training_samples_that_are_not_trained_on():
    whole, _ = datasets.read({"name": "digits"})
    train, other = datasets.read({"name": "digits", "held_out": 50, "limit": 200})
    assert list(train.sample_ids) == list(whole.sample_ids[:200])
    assert list(other.sample_ids) == list(whole.sample_ids[-50:])
    assert other.split == "validation"


def test_an_unknown_name_is_told():
    with pytest.raises(SettingError, match="adult, cifar10, digits, mix, mnist"):
        datasets.read({"name": "mnits"})


def test_mnist_with_nine_percent_of_class_8(shared_data):
    train, test = datasets.read({"name": "mnist", "thin": {"class": 8, "keep": 0.09}})
    assert len(test) == 10_000
    assert (train.labels != 8).sum() == 60_000 - 5851
    assert 440 < (train.labels == 8).sum() < 620


def test_cifar10_in_both_parts(shared_data):
    train, test = datasets.read({"name": "cifar10", "limit": 1000})
    assert (len(train), len(test), train.shape, train.num_classes) == (1000, 10_000, (3, 32, 32), 10)
    assert train.class_names == test.class_names
    assert np.bincount(test.labels).tolist() == [1000] * 10


def test_adult_has_as_many_women_as_men_in_both_parts(shared_data):
    train, test = datasets.read({"name": "adult"})
    for part in (train, test):
        assert (part.groups == "Female").sum() == (part.groups == "Male").sum()
    images = train.images()
    assert images.shape == (23_512, 1, 1, 98)
    assert images.min() == 0
    assert images.max() == 1
    assert not set(train.sample_ids) & set(test.sample_ids)
    # Known from the source: 30 % of men and 11 % of women earn more than 50,000.
    rates = [train.labels[train.groups == sex].mean() for sex in ("Male", "Female")]
    assert rates == [pytest.approx(0.31, abs=0.01), pytest.approx(0.113, abs=0.01)]
