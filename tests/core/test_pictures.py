"""Pictures of masks and depth maps: told apart by lightness, nothing lost, nothing invented."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from assay.core.errors import InputError
from assay.core.pictures import (
    CHANGED,
    CLASS_COLOURS,
    NEAR_TO_FAR,
    class_colour,
    colour_depth,
    colour_mask,
    depth_ends,
    depth_scale,
    levels,
    magnified_change,
    mark_changes,
    mark_depth_changes,
    mask_legend,
)

SHAPES = st.tuples(st.integers(1, 9), st.integers(1, 9))
MASKS = arrays(np.int64, SHAPES, elements=st.sampled_from([0, 1, 2, 9, 40, 255]))
DEPTHS = arrays(np.float64, SHAPES, elements=st.sampled_from([0.0, -1.0, np.nan, np.inf, 0.2, 1.0, 3.5, 80.0]))


def lightness(colour: str) -> float:
    """CIE L*, 0 to 100."""
    channels = np.array([int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)])
    linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    return float(116 * np.cbrt(linear @ [0.2126, 0.7152, 0.0722]) - 16)


def test_neighbouring_classes_differ_in_lightness() -> None:
    shades = [lightness(colour) for colour in CLASS_COLOURS]
    assert all(abs(a - b) >= 20 for a, b in itertools.pairwise(shades))
    assert len({class_colour(index) for index in range(150)}) == 150


def test_depth_grows_darker_step_by_step() -> None:
    shades = [lightness(colour) for colour in NEAR_TO_FAR]
    assert shades == sorted(shades, reverse=True)
    assert shades[0] - shades[-1] > 70
    picture = colour_depth(np.linspace(1, 9, 33)[None], 1, 9)
    assert np.all(np.diff(picture.sum(0)[0]) < 0)


@given(MASKS)
def test_a_mask_has_the_colour_of_each_class_apart_from_borders(ids: np.ndarray) -> None:
    picture, legend = colour_mask(ids, ("sky", "floor"))
    colours = dict(legend)
    assert picture.shape == (3, *ids.shape)
    assert picture.min() >= 0
    assert picture.max() <= 1
    for (row, across), index in np.ndenumerate(ids):
        name = {0: "sky", 1: "floor", 255: "ignored"}.get(int(index), f"class {index}")
        assert name in colours
        near = ids[row : row + 2, across : across + 2]
        if index != 255 and (near[:1] == index).all() and (near[:, 0] == index).all():
            want = [int(colours[name][at : at + 2], 16) for at in (1, 3, 5)]
            assert levels(picture[:, row, across]).tolist() == want
    assert legend == mask_legend([ids], ("sky", "floor"))


def test_ignored_pixels_come_last_and_may_be_a_class() -> None:
    ids = np.array([[11, 255, 0]])
    assert [name for name, _ in mask_legend([ids], ("sky",), ignore_index=11)] == ["sky", "class 255", "ignored"]
    assert "ignored" not in dict(colour_mask(ids, ignore_index=None).legend)


@given(DEPTHS)
def test_every_depth_has_a_place_between_near_and_far(depth: np.ndarray) -> None:
    lo, hi = depth_ends(depth)
    assert lo < hi
    picture = colour_depth(depth, lo, hi)
    assert np.isfinite(picture).all()
    grey = np.ptp(picture, axis=0) == 0
    invalid = ~(np.isfinite(depth) & (depth > 0))
    assert grey[invalid].all()
    assert not grey[~invalid].any()


def test_ends_of_depth_leave_one_in_a_hundred_out() -> None:
    values = np.concatenate([np.full(3, 1e6), np.linspace(1, 2, 997)]).reshape(10, 100)
    lo, hi = depth_ends(values)
    assert (lo, hi) == pytest.approx((1.01, 2), abs=0.01)
    assert depth_ends() == (0.0, 1.0)
    scale = depth_scale(0.5, 8.25)
    assert (scale.low, scale.high) == ("near, 0.5 m", "far, 8.25 m")


@given(MASKS, st.integers(0, 3))
def test_changes_are_where_masks_differ(ids: np.ndarray, seed: int) -> None:
    other = np.where(np.random.default_rng(seed).random(ids.shape) > 0.5, ids, 7)
    picture, legend = mark_changes(ids, other)
    coloured = np.ptp(picture, axis=0) > 0
    assert np.array_equal(coloured, ids != other)
    assert legend == (("changed (striped)", CHANGED),)


def test_stripes_tell_nearer_from_further_without_colour() -> None:
    before = np.full((32, 32), 2.0)
    nearer, further = (mark_depth_changes(before, before * factor).picture for factor in (0.4, 2.5))
    assert (nearer.sum(0)[1:, :-1] == nearer.sum(0)[:-1, 1:]).all()  # the same along the rising diagonal
    assert (further.sum(0)[1:, 1:] == further.sum(0)[:-1, :-1]).all()
    assert not np.array_equal(nearer > 0.7, further > 0.7)
    assert len(np.unique(nearer.sum(0).round(3))) == 2
    still = mark_depth_changes(before, before * 1.05).picture
    assert np.ptp(still) == 0
    gone = mark_depth_changes(before, np.zeros_like(before)).picture
    assert np.ptp(gone) == 0


def test_the_image_is_seen_pale_behind_the_changes() -> None:
    image = np.zeros((3, 8, 8))
    image[:, :, 4:] = 1
    picture = mark_changes(np.zeros((8, 8)), np.zeros((8, 8)), image).picture
    assert (picture[:, :, 4:] > picture[:, :, :4].max() + 0.2).all()


def test_the_magnified_change_keeps_grey_where_nothing_changed() -> None:
    before = np.full((3, 4, 4), 0.5)
    after = before.copy()
    after[0, 0, 0] += 8 / 255
    picture, factor = magnified_change(before, after)
    assert factor == 10
    assert picture[0, 0, 0] == pytest.approx(0.5 + 80 / 255)
    assert (picture[1:] == 0.5).all()
    assert magnified_change(before, np.full((3, 4, 4), np.nan))[0].min() >= 0


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: colour_mask(np.zeros((1, 2, 2))), r"mask has the shape \(1, 2, 2\)"),
        (lambda: colour_mask(np.zeros((0, 2))), "give"),
        (lambda: colour_depth(np.ones((2, 2)), 3, 3), "nearer one first"),
        (lambda: colour_depth(np.ones((2, 2)), 0, np.nan), "two finite depths"),
        (lambda: mark_changes(np.zeros((2, 2)), np.zeros((2, 3))), r"give \[2, 2\]"),
        (lambda: mark_changes(np.zeros((2, 2)), np.zeros((2, 2)), np.zeros((3, 4, 4))), "behind a map"),
    ],
)
def test_wrong_shapes_are_named(call: object, words: str) -> None:
    with pytest.raises(InputError, match=words):
        call()  # type: ignore[operator]
