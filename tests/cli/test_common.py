"""Flags that several verbs share: sizes, masks and depth maps."""

from __future__ import annotations

import argparse

import numpy as np
import pytest

from assay.cli.common import add_data_flags, add_dense_flags, image_size, read_data, read_dense
from assay.core.errors import DataError, SettingError


def parse(*words):
    parser = argparse.ArgumentParser()
    add_data_flags(parser, default="scenes")
    add_dense_flags(parser)
    return parser.parse_args(words)


@pytest.fixture
def archive(tmp_path):
    path = tmp_path / "set.npz"
    images = np.zeros((3, 4, 6, 3), np.uint8)
    masks = np.arange(72).reshape(3, 4, 6) % 3
    np.savez(path, images=images, truth=masks, far=np.full((3, 4, 6), 5000, np.uint16))
    return str(path)


@pytest.mark.parametrize(("text", "size"), [("64", 64), ("96x128", (96, 128)), ("8X9", (8, 9))])
def test_image_size(text, size):
    assert image_size(text) == size


@pytest.mark.parametrize("text", ["", "0", "4x", "4x5x6", "axb", "-4", "4.5"])
def test_image_size_that_cannot_be(text):
    with pytest.raises(argparse.ArgumentTypeError, match="is not allowed"):
        image_size(text)


def test_image_size_reaches_the_reader():
    assert read_data(parse("--image-size", "8x12"), limit=2).shape == (3, 8, 12)
    assert read_dense(parse("--image-size", "8x12"), limit=2).masks().shape == (2, 8, 12)


def test_dense_flags(archive):
    words = [
        "--data",
        archive,
        "--masks-key",
        "truth",
        "--depth-key",
        "far",
        "--mask-classes",
        "a,b,c",
        "--layout",
        "NHWC",
    ]
    data = read_dense(parse(*words, "--depth-scale", "500", "--max-depth", "20", "--ignore-index", "none"))
    assert data.tasks == ("segmentation", "depth")
    assert data.class_names("segmentation") == ("a", "b", "c")
    assert (data.ignore_index, data.depths().max()) == (None, 10)
    assert read_dense(parse(*words, "--mask-classes", "7")).num_classes("segmentation") == 7
    assert len(read_dense(parse(*words), limit=2)) == 2


def test_flags_for_one_of_several_sets(archive):
    """The built-in scenes know their classes, whatever the flags say of the other data."""
    arguments = parse("--mask-classes", "11", "--ignore-index", "2")
    assert read_dense(arguments, "scenes", limit=2).num_classes("segmentation") == 8


@pytest.mark.parametrize(
    ("words", "error", "message"),
    [
        (["--ignore-index", "x"], SettingError, "--ignore-index is 'x'; allowed: an id such as 255, or none"),
        (["--ignore-index", "-1"], SettingError, "--ignore-index is '-1'"),
        (["--mask-classes", "1"], DataError, "num_classes is 1"),
        (["--group", "camera"], SettingError, "--group has no meaning"),
    ],
)
def test_values_that_cannot_be(archive, words, error, message):
    with pytest.raises(error, match=message):
        read_dense(parse("--data", archive, *words))


@pytest.mark.parametrize("words", [["--max-depth", "0"], ["--depth-scale", "-1"], ["--depth-scale", "1,2"]])
def test_numbers_above_zero(words, capsys):
    with pytest.raises(SystemExit):
        parse(*words)
    assert "a number above 0 is needed" in capsys.readouterr().err
