"""Members and non-members in one data set, and what must not be in it."""

from __future__ import annotations

import numpy as np
import pytest

from assay import load_data
from assay.core.errors import DataError
from assay.data.dataset import Dataset
from assay.membership.universe import join, without

RNG = np.random.default_rng(0)


def some(count: int, seed: int, **more: object) -> Dataset:
    rng = np.random.default_rng(seed)
    return Dataset.from_arrays(
        rng.integers(0, 256, (count, 6, 6), dtype=np.uint8),
        rng.integers(0, 3, count),
        class_names=("a", "b", "c"),
        **more,  # type: ignore[arg-type]
    )


def test_members_come_first_and_keep_pictures_and_labels() -> None:
    members, nonmembers = some(7, 1), some(5, 2)
    universe = join(members, nonmembers)
    assert universe.member.tolist() == [True] * 7 + [False] * 5
    assert (universe.members, universe.nonmembers, universe.copies) == (7, 5, 0)
    np.testing.assert_array_equal(universe.data.images(), np.concatenate([members.images(), nonmembers.images()]))
    np.testing.assert_array_equal(universe.data.labels, np.concatenate([members.labels, nonmembers.labels]))
    np.testing.assert_array_equal(universe.rows, [*range(7), *range(5)])
    assert len(set(universe.data.sample_ids.tolist())) == 12, "rows clash, so positions name the records"
    assert universe.findings() == []


def test_rows_that_do_not_clash_name_the_records() -> None:
    train, test = load_data("digits", split="train", limit=20), load_data("digits", split="test", limit=20)
    universe = join(train, test)
    np.testing.assert_array_equal(universe.data.sample_ids, [*train.sample_ids, *test.sample_ids])


def test_pixels_that_are_no_bytes_stay_exact() -> None:
    first = some(4, 1)
    images = RNG.random((4, 6, 6), dtype=np.float32)
    second = Dataset.from_arrays(images, np.array([0, 1, 2, 0]), class_names=("a", "b", "c"))
    joined = join(first, second).data
    np.testing.assert_array_equal(joined.images(), np.concatenate([first.images(), images[:, None]]))
    assert join(first, some(4, 5)).data.pixels.read(np.arange(2)).dtype == np.float32


def test_a_picture_on_both_sides_is_an_error_that_names_both_rows() -> None:
    members, nonmembers = some(7, 1), some(5, 2)
    mixed = Dataset.from_arrays(
        np.concatenate([nonmembers.images(), members.images([4, 2])])[:, 0],
        np.zeros(7, int),
        class_names=("a", "b", "c"),
    )
    with pytest.raises(DataError, match=r"2 of 7 non-members .*4 = 5, 2 = 6"):
        join(members, mixed)


def test_the_same_picture_as_bytes_and_floats_is_the_same_picture() -> None:
    members = some(7, 1)
    as_floats = Dataset.from_arrays(members.images()[:, 0], members.labels, class_names=("a", "b", "c"))
    with pytest.raises(DataError, match="7 of 7"):
        join(members, as_floats)


def test_copies_within_a_side_are_counted_and_clustered() -> None:
    images = some(5, 1).images()[[0, 1, 0, 2, 0], 0]
    members = Dataset.from_arrays(images, np.zeros(5, int), class_names=("a", "b", "c"))
    universe = join(members, some(4, 2))
    assert universe.copies == 2
    assert universe.clusters[:5].tolist() == [0, 1, 0, 3, 0]
    [finding] = universe.findings()
    assert finding.code == "repeated-records"
    assert finding.value == 2


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (Dataset.from_arrays(np.zeros((3, 5, 6), np.uint8), [0, 1, 2], class_names=("a", "b", "c")), "1x5x6"),
        (Dataset.from_arrays(np.zeros((3, 6, 6), np.uint8), [0, 1, 2], class_names=("a", "b", "d")), "same classes"),
        (Dataset.from_arrays(np.zeros((3, 6, 6), np.uint8), [0, 1, 1]), "3 classes .* 2 "),
        (Dataset.from_arrays(np.zeros((1, 6, 6), np.uint8), [0], class_names=("a", "b", "c")), "1 non-members"),
    ],
)
def test_data_that_do_not_fit_are_refused(other: Dataset, message: str) -> None:
    with pytest.raises(DataError, match=message):
        join(some(4, 1), other)


def test_groups_are_kept_where_both_sides_have_them() -> None:
    first, second = some(3, 1, groups=["x", "yy", "x"]), some(2, 2, groups=["zzz", "x"])
    universe = join(first, second)
    assert universe.data.groups is not None
    assert universe.data.groups.tolist() == ["x", "yy", "x", "zzz", "x"]
    assert join(first, some(2, 2)).data.groups is None


def test_the_digest_tells_who_is_a_member() -> None:
    one, other = some(3, 1), some(3, 2)
    digests = {join(one, other).describe()["digest"], join(other, one).describe()["digest"]}
    moved = join(one.subset([0, 1]), some(4, 3)).describe()["digest"]
    assert len(digests | {moved}) == 3


def test_without_leaves_out_known_pictures() -> None:
    whole = load_data("digits", split="test")
    rest = without(whole, whole.head(100))
    assert len(rest) == 350
    assert set(rest.sample_ids.tolist()) == set(whole.sample_ids[100:].tolist())
