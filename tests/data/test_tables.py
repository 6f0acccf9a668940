"""csv and tsv: paths and pixel columns."""

from __future__ import annotations

import numpy as np
import pytest

from assay.core.errors import DataError
from assay.data import load_data

from .test_folder import picture

PIXELS = np.random.default_rng(0).integers(0, 256, (5, 16))


def pixel_table(path, values, labels=(0, 1, 2, 0, 1), separator=",", prefix="pixel"):
    lines = [separator.join(["label", *[f"{prefix}{place}" for place in range(len(values[0]))]])]
    lines += [separator.join(map(str, [label, *row])) for label, row in zip(labels, values, strict=True)]
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.mark.parametrize(("suffix", "separator"), [(".csv", ","), (".tsv", "\t")])
@pytest.mark.parametrize("prefix", ["pixel", "", "1x", "p_"])
def test_pixel_columns(tmp_path, suffix, separator, prefix):
    path = pixel_table(tmp_path / f"set{suffix}", PIXELS, separator=separator, prefix=prefix)
    data = load_data(path)
    assert (data.shape, data.labels.tolist()) == ((1, 4, 4), [0, 1, 2, 0, 1])
    assert data.pixels.array.dtype == np.uint8
    np.testing.assert_array_equal(data.images().reshape(5, 16), (PIXELS / np.float32(255)).astype(np.float32))


def test_pixel_columns_of_floats(tmp_path):
    data = load_data(pixel_table(tmp_path / "set.csv", PIXELS / 255), limit=3)
    np.testing.assert_allclose(data.images().reshape(3, 16), PIXELS[:3] / 255, atol=1e-7)
    binary = load_data(pixel_table(tmp_path / "set.csv", PIXELS % 2))
    assert binary.images().max() == 1


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (PIXELS + 1000, "80 of 80 float pixel values"),
        (PIXELS * 0.99, "Divide them by 255"),
        (np.where(np.eye(5, 16) > 0, np.nan, PIXELS), "NaN or infinite"),
        (PIXELS[:, :15], "15 pixel columns"),
        ([*PIXELS.tolist()[:4], ["cat"] * 16], "cannot be read as csv"),
    ],
)
def test_bad_pixel_columns(tmp_path, values, message):
    with pytest.raises(DataError, match=message):
        load_data(pixel_table(tmp_path / "set.csv", values))


def test_paths(tmp_path):
    for number, name in enumerate(["a.png", "b c.png", "sub/c,d.png"]):
        picture(tmp_path / "images" / name, number)
    table = tmp_path / "set.csv"
    table.write_text('path,label,sex\nimages/a.png,dog,f\nimages/b c.png,cat,m\n"images/sub/c,d.png",dog,f\n')
    data = load_data(table, group="sex")
    assert data.class_names == ("cat", "dog")
    assert data.labels.tolist() == [1, 0, 1]
    assert data.groups.tolist() == ["f", "m", "f"]
    assert np.rint(data.images()[:, 0, 0, 0] * 255).tolist() == [0, 1, 2]
    table.write_text("path,label\nimages/a.png,0\nimages/gone.png,1\n")
    with pytest.raises(DataError, match=r"gone\.png.*missing"):
        load_data(table)
    assert len(load_data(table, limit=1)) == 1


def test_splits(tmp_path):
    pixel_table(tmp_path / "train.csv", PIXELS, labels=(0, 1, 2, 3, 4))
    pixel_table(tmp_path / "test.csv", PIXELS[:2], labels=(0, 1))
    data = load_data(tmp_path)
    assert (data.split, data.num_classes, len(data)) == ("test", 5, 2)
    pixel_table(tmp_path / "test.2.csv", PIXELS[:2], labels=(0, 1))
    with pytest.raises(DataError, match="2 tables for the split 'test'"):
        load_data(tmp_path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "cannot be read as csv"),
        ("label,pixel0\n", "empty"),
        ("label,pixel0\n0,1,2\n", "cannot be read as csv"),
        ("pixel0,pixel1\n0,1\n", "no labels were found"),
        ("label,height\n0,1\n", "neither a column of image paths"),
        ("5,0,0\n3,0,0\n", "more than one column named '0'"),
        ("label,pixel0\n-1,0\n", "negative"),
        ("label,pixel0\n,0\n", "missing"),
        ("label,pixel0\n0.5,0\n", "not whole"),
        ("path,label\na\0b.png,0\n", "a"),
    ],
)
def test_bad_tables(tmp_path, text, message):
    (tmp_path / "set.csv").write_text(text)
    with pytest.raises(DataError, match=message):
        load_data(tmp_path / "set.csv")


def test_options(tmp_path):
    path = pixel_table(tmp_path / "set.csv", PIXELS)
    with pytest.raises(DataError, match="Did you mean 'label'"):
        load_data(path, labels_key="labell")
    with pytest.raises(DataError, match="no 'photo'"):
        load_data(path, images_key="photo")
    with pytest.raises(DataError, match="does not resize"):
        load_data(path, image_size=8)
