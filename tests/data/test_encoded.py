"""Encoded pictures: decoded once, lazily, into uint8; modes, sizes, damage."""

from __future__ import annotations

import io
import warnings

import numpy as np
import pytest
from PIL import Image

from assay.core.errors import DataError
from assay.data import encoded
from assay.data.encoded import EncodedPixels


def png(array, mode=None, kind="PNG"):
    file = io.BytesIO()
    image = Image.fromarray(np.asarray(array, np.uint8))
    (image.convert(mode) if mode else image).save(file, kind)
    return file.getvalue()


class Bytes:
    def __init__(self, items):
        self.items = items

    def __len__(self):
        return len(self.items)

    def open(self, row):
        return io.BytesIO(self.items[row])

    def where(self, row):
        return f"Row {row} of here"


def store(*items, **options):
    return EncodedPixels(Bytes(items), **options)


COLOUR = np.random.default_rng(0).integers(0, 256, (5, 6, 7, 3), dtype=np.uint8)


@pytest.fixture
def calls(monkeypatch):
    count = []
    real = encoded.decode

    def counting(file, channels, size):
        count.append(1)
        return real(file, channels, size)

    monkeypatch.setattr(encoded, "decode", counting)
    return count


def test_each_picture_is_decoded_once(calls):
    pixels = store(*[png(picture) for picture in COLOUR])
    assert pixels.shape == (3, 6, 7)
    assert len(calls) == 0
    first = pixels.read(np.array([3, 1, 3]))
    assert len(calls) == 2
    for _ in range(2):
        everything = pixels.read(np.arange(5))
    assert len(calls) == 5
    assert everything.dtype == np.float32
    np.testing.assert_array_equal(everything, COLOUR.transpose(0, 3, 1, 2) / np.float32(255))
    np.testing.assert_array_equal(first, everything[[3, 1, 3]])


def test_the_digest_decodes_nothing(calls):
    items = [png(picture) for picture in COLOUR]
    assert list(store(*items).content(np.array([2, 0])))[1:] == [items[2], items[0]]
    assert len(calls) == 0


@pytest.mark.parametrize(
    ("modes", "channels", "word"),
    [
        (("L", "L"), 1, None),
        (("1", "LA"), 1, "transparency of 1"),
        (("L", "RGB"), 3, "1 of 2 images are grey"),
        (("RGB", "P"), 3, None),
        (("RGBA", "RGB"), 3, "transparency of 1"),
    ],
)
def test_modes(modes, channels, word):
    pixels = store(*[png(COLOUR[0], mode) for mode in modes])
    assert pixels.shape == (channels, 6, 7)
    assert pixels.read(np.arange(2)).shape == (2, channels, 6, 7)
    assert (word or "divided by 255") in " ".join(pixels.notes)
    assert len(pixels.notes) == (1 if word is None else 2)


def test_palettes_with_transparency_warn_nobody():
    file = io.BytesIO()
    Image.fromarray(COLOUR[0]).convert("P").save(file, "PNG", transparency=bytes([0, 128]))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        store(file.getvalue()).read(np.array([0]))


def test_sizes():
    items = [png(COLOUR[0]), png(COLOUR[1]), png(COLOUR[2][:4])]
    with pytest.raises(DataError, match=r"2 different sizes: 2 of 3 are 7x6, others such as 7x4 .* Give image_size"):
        store(*items)
    pixels = store(*items, image_size=(4, 4))
    assert pixels.shape == (3, 4, 4)
    assert "resized to 4x4" in pixels.notes[-1]
    expected = np.asarray(Image.fromarray(COLOUR[1]).resize((4, 4), Image.Resampling.BILINEAR))
    np.testing.assert_array_equal(np.rint(pixels.read(np.array([1]))[0] * 255), expected.transpose(2, 0, 1))
    assert len(store(png(COLOUR[0][:6, :6]), image_size=(6, 6)).notes) == 1


def test_deep_pictures_are_refused():
    file = io.BytesIO()
    Image.fromarray(np.full((4, 4), 40000, np.uint16)).save(file, "PNG")
    with pytest.raises(DataError, match="Row 1 of here has more than 8 bits"):
        store(png(COLOUR[0, :, :, 0]), file.getvalue())


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "BMP", "GIF", "WEBP", "PPM", "TIFF"])
def test_truncation_names_the_row(kind):
    whole = png(np.random.default_rng(0).integers(0, 256, (40, 40, 3)), kind=kind)
    assert store(whole).read(np.array([0])).shape == (1, 3, 40, 40)
    with pytest.raises(DataError, match="Row 1 of here cannot be read as an image"):
        store(whole, whole[: len(whole) // 2]).read(np.arange(2))
    with pytest.raises(DataError, match="Row 0 of here cannot be read as an image"):
        store(b"not a picture")


def test_a_failure_leaves_the_rest_readable():
    whole = png(COLOUR[0])
    bad = png(np.random.default_rng(0).integers(0, 256, (6, 7, 3)))[:-40]
    pixels = store(whole, bad)
    with pytest.raises(DataError, match="Row 1"):
        pixels.read(np.arange(2))
    np.testing.assert_array_equal(pixels.read(np.array([0]))[0], COLOUR[0].transpose(2, 0, 1) / np.float32(255))


def test_decompression_bombs_are_refused(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 30)
    with pytest.raises(DataError, match=r"cannot be read as an image.*DecompressionBomb"):
        store(png(COLOUR[0]))


def test_nothing():
    with pytest.raises(DataError, match="no pictures"):
        store()


def test_more_than_memory_holds(monkeypatch):
    def full(*args, **options):
        raise MemoryError

    monkeypatch.setattr(encoded.np, "empty", full)
    with pytest.raises(DataError, match=r"GiB.*limit"):
        store(png(COLOUR[0]))
