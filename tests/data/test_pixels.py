"""Arrays of images: layouts, types, ranges."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from assay.core.errors import DataError
from assay.data.pixels import array_pixels


def everything(pixels):
    return pixels.read(np.arange(len(pixels)))


@pytest.mark.parametrize(
    ("shape", "expected"),
    [((5, 8, 9), (1, 8, 9)), ((5, 8, 9, 3), (3, 8, 9)), ((5, 3, 8, 9), (3, 8, 9)), ((5, 1, 8, 9), (1, 8, 9))],
)
def test_layouts(shape, expected):
    values = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    pixels = array_pixels(values, where="here")
    assert pixels.shape == expected
    assert np.shares_memory(pixels.array, values)
    channels_last = np.moveaxis(everything(pixels), 1, -1)
    original = values if values.ndim == 3 or shape[-1] == 3 else np.moveaxis(values, 1, -1)
    np.testing.assert_array_equal(np.rint(channels_last.reshape(original.shape) * 255), original)


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((5, 3, 8, 3), "could be"),
        ((5, 8, 9, 4), "neither axis 1 nor axis 3"),
        ((5, 64), "Reshape"),
        ((), "Reshape"),
        ((0, 8, 8), "empty"),
        ((4, 0, 8), "empty"),
    ],
)
def test_unclear_shapes_are_errors(shape, message):
    with pytest.raises(DataError, match=message):
        array_pixels(np.zeros(shape, np.uint8), where="here")


def test_layout_settles_what_the_shape_does_not():
    values = np.zeros((5, 3, 8, 3), np.uint8)
    assert array_pixels(values, where="here", layout="NCHW").shape == (3, 8, 3)
    assert array_pixels(values, where="here", layout="NHWC").shape == (3, 3, 8)
    with pytest.raises(DataError, match="layout 'NHW'"):
        array_pixels(values, where="here", layout="NHW")
    with pytest.raises(DataError, match="layout 'HWCN'"):
        array_pixels(values, where="here", layout="HWCN")


@given(hnp.arrays(np.uint8, st.tuples(st.integers(1, 4), st.integers(4, 6), st.integers(4, 6))))
def test_uint8_is_kept_and_divided_in_float32(values):
    pixels = array_pixels(values, where="here")
    assert pixels.array.dtype == np.uint8
    images = everything(pixels)
    assert images.dtype == np.float32
    np.testing.assert_array_equal(images[:, 0], values.astype(np.float32) / np.float32(255))
    assert "divided by 255" in pixels.notes[0]


@pytest.mark.parametrize("kind", [np.int64, np.uint16, ">i4"])
def test_other_integers_become_uint8(kind):
    pixels = array_pixels(np.array([[[0, 200], [255, 1]]], dtype=kind), where="here")
    assert pixels.array.dtype == np.uint8
    assert everything(pixels).max() == 1


@pytest.mark.parametrize("value", [-1, 256])
def test_integers_outside_the_range(value):
    with pytest.raises(DataError, match=rf"1 of 4 integer pixel values lie outside 0\.\.255 .*{value}"):
        array_pixels(np.array([[[0, 200], [255, value]]]), where="here")


def test_dark_integers_are_noted():
    assert "largest stored pixel value is 16 of 255" in array_pixels(np.full((1, 8, 8), 16), where="x").notes[1]


def test_booleans_are_zero_and_one():
    assert everything(array_pixels(np.array([[[True, False]]]), where="here")).ravel().tolist() == [1, 0]


@pytest.mark.parametrize(("kind", "notes"), [(np.float32, 0), (np.float64, 1), (np.float16, 1), (">f4", 0)])
def test_floats_become_float32_once(kind, notes):
    values = np.random.default_rng(0).random((3, 5, 5)).astype(kind)
    pixels = array_pixels(values, where="here")
    assert pixels.array.dtype == np.float32
    assert len(pixels.notes) == notes
    assert np.shares_memory(pixels.array, values) == (values.dtype == np.float32 and values.dtype.isnative)
    np.testing.assert_array_equal(everything(pixels)[:, 0], values.astype(np.float32))


def test_rounding_outside_the_range_is_clipped():
    values = np.array([[[-9e-7, 1 + 9e-7]]])
    pixels = array_pixels(values, where="here")
    assert everything(pixels).ravel().tolist() == [0, 1]
    assert values[0, 0, 0] < 0
    assert "clipped" in pixels.notes[-1]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([0.5, np.nan], "1 of 2 pixel values are NaN or infinite"),
        ([np.inf, np.nan], "2 of 2 pixel values are NaN or infinite"),
        ([0.5, 200.0], r"1 of 2 float pixel values lie outside \[0, 1\] \(range 0.5 to 200\). Divide them by 255"),
        ([-1.5, 1.5], "2 of 2 .* Undo the normalisation"),
        ([0.5, 1e300], "Scale them"),
        ([0.5, 1 + 2e-6], "Divide"),
    ],
)
def test_floats_outside_the_range(values, message):
    with pytest.raises(DataError, match=message):
        array_pixels(np.array([[values]]), where="here")


def test_not_numbers():
    with pytest.raises(DataError, match="type <U1"):
        array_pixels(np.full((1, 2, 2), "a"), where="here")
    with pytest.raises(DataError, match="same shape"):
        array_pixels([np.zeros((2, 2)), np.zeros((3, 2))], where="here")


def test_reading_never_touches_the_store():
    pixels = array_pixels(np.full((2, 4, 4), 0.5, np.float32), where="here")
    images = everything(pixels)
    images += 1
    assert everything(pixels).max() == 0.5
