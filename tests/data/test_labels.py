"""Labels: every kind that is accepted, and every kind that is refused with its remedy."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from assay.core.errors import DataError
from assay.data.labels import MOST_CLASSES, read_groups, read_labels


@pytest.mark.parametrize(
    ("values", "indices", "names"),
    [
        ([2, 0, 1], [2, 0, 1], ("0", "1", "2")),
        (np.array([1, 0], np.uint8), [1, 0], ("0", "1")),
        (np.array([[1], [0]]), [1, 0], ("0", "1")),
        ([True, False], [1, 0], ("0", "1")),
        ([1.0, 0.0], [1, 0], ("0", "1")),
        (["dog", "cat", "dog"], [1, 0, 1], ("cat", "dog")),
        (np.array([b"dog", b"cat"]), [1, 0], ("cat", "dog")),
        (np.array(["10", "2"], dtype=object), [10, 2], tuple(map(str, range(11)))),
        (np.array([True, False], dtype=object), [1, 0], ("0", "1")),
        (["a", "7"], [1, 0], ("7", "a")),
    ],
)
def test_accepted(values, indices, names):
    labels = read_labels(values, where="here")
    assert labels.indices.dtype == np.int64
    assert labels.indices.tolist() == indices
    assert labels.class_names == names


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([], "empty"),
        ([0, -1, -2], r"2 of 3 labels are negative \(range -2 to 0\)"),
        ([0.5, 1.0], "1 of 2 labels are not whole numbers"),
        ([0.0, np.nan], "1 of 2 labels are NaN"),
        ([0, MOST_CLASSES], "1 of 2 labels are 100000 or more"),
        (np.array([2**63], np.uint64), "100000 or more"),
        (["-1", "0"], "negative"),
        (["0.5", "0"], "not whole numbers"),
        (["cat", ""], "1 of 2 labels are missing"),
        (np.array(["cat", None], dtype=object), "1 of 2 labels are missing"),
        (np.array(["cat", 3], dtype=object), "neither all integers nor all names"),
        (np.array([2**70], dtype=object), "type object"),
        (np.eye(3), "argmax"),
        (np.array(3), "one label for each sample"),
        (np.array([1j]), "complex"),
    ],
)
def test_refused(values, message):
    with pytest.raises(DataError, match=message) as caught:
        read_labels(values, where="here")
    assert "here" in str(caught.value)


def test_class_names_bound_the_labels():
    assert read_labels([0, 1], where="here", class_names=["cat", "dog", "eel"]).class_names == ("cat", "dog", "eel")
    with pytest.raises(DataError, match=r"1 of 2 labels are out of range: the largest is 2, but there are 2 classes"):
        read_labels([0, 2], where="here", class_names=["cat", "dog"])
    assert read_labels(["dog"], where="here", class_names=["cat", "dog"]).indices.tolist() == [1]
    with pytest.raises(DataError, match="not among the class names, such as 'eel'"):
        read_labels(["eel"], where="here", class_names=["cat", "dog"])


def test_other_splits_share_the_classes():
    assert len(read_labels([0, 1], where="here", others=[[4]]).class_names) == 5
    assert read_labels(["dog"], where="here", others=[["cat"], []]).indices.tolist() == [1]
    with pytest.raises(DataError, match="same kind"):
        read_labels(["dog"], where="here", others=[[1]])


def test_labels_counted_from_one_are_noted():
    assert "subtract 1" in read_labels([1, 2, 3], where="here").notes[0]
    assert read_labels([0, 2, 3], where="here").notes == ()


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=4), min_size=1, max_size=20))
def test_names_round_trip(names):
    names = [f"class {name}" for name in names]
    labels = read_labels(names, where="here")
    assert [labels.class_names[index] for index in labels.indices] == names
    assert list(labels.class_names) == sorted(set(names))


def test_groups():
    assert read_groups(["f", None, "m"], 3, "here").tolist() == ["f", "unknown", "m"]
    assert read_groups(np.array([1, 2]), 2, "here").tolist() == ["1", "2"]
    with pytest.raises(DataError, match="one value for each of 3 samples"):
        read_groups(["f"], 3, "here")
