"""Galleries: pixels on the page are the pixels of the record."""

from __future__ import annotations

import base64
import io

import numpy as np
import pytest
from PIL import Image

from assay.core.pictures import magnification
from assay.core.probes import Gallery
from assay.report.galleries import LARGEST_SIDE, data_uri, exhibits

from .builder import pictures


def decode(uri: str) -> np.ndarray:
    head, body = uri.split(",", 1)
    assert head == "data:image/png;base64"
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(body))))


@pytest.mark.parametrize("channels", [1, 3])
def test_pixels_survive(channels: int) -> None:
    levels = np.random.default_rng(0).integers(0, 256, (channels, 5, 7))
    back = decode(data_uri((levels / 255).astype(np.float32)))
    assert np.array_equal(back.reshape(5, 7, -1).transpose(2, 0, 1), levels)


def test_other_channel_counts_are_averaged() -> None:
    assert decode(data_uri(np.stack([np.zeros((2, 2)), np.ones((2, 2))]))).tolist() == [[128, 128], [128, 128]]


def test_large_pictures_are_reduced() -> None:
    assert max(decode(data_uri(np.zeros((3, 600, 300)))).shape) == LARGEST_SIDE


@pytest.mark.parametrize("size", [1 / 255, 8 / 255, 0.2, 0.5, 1.0])
def test_difference_is_the_change_times_the_stated_magnification(size: float) -> None:
    original = np.full((1, 1, 2, 2), 0.4, dtype=np.float32)
    changed = original.copy()
    changed[0, 0, 0, 0] += size if size <= 0.5 else 0.6
    exhibit = exhibits(Gallery(title="", caption="", original=original, changed=changed, captions=[{}]))[0]
    moved = float((changed - original).max())
    expected = np.rint(255 * np.clip(0.5 + exhibit.magnification * moved, 0, 1))
    shown = decode(exhibit.difference)
    assert shown[0, 0] == pytest.approx(expected, abs=1)
    assert shown[1, 1] == 128


def test_magnification_fills_the_range_without_clipping() -> None:
    for largest in (1e-3, 0.01, 8 / 255, 0.2, 0.5):
        factor = magnification(np.array([largest, -largest / 2]))
        assert factor * largest <= 0.5 + 1e-6
        assert factor * largest > 0.5 / 2.5 - 1e-6
    assert magnification(np.zeros((3, 2, 2))) == 1
    assert magnification(np.zeros((0,))) == 1


def test_broken_pixels_do_not_break_the_page() -> None:
    original, changed = pictures(2)
    changed[0, 0, 0, 0] = np.nan
    assert len(exhibits(Gallery(title="", caption="", original=original, changed=changed, captions=[{}, {}]))) == 2
