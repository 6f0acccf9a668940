"""Image folders: order, splits, names, links, damage."""

from __future__ import annotations

import os

import numpy as np
import pytest
from PIL import Image

from assay.core.errors import DataError
from assay.data import load_data
from assay.data.folder import in_turn


def picture(path, value=0, shape=(4, 5, 3)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full(shape, value, np.uint8)).save(path)


@pytest.fixture
def animals(tmp_path):
    root = tmp_path / "animals"
    for number, name in enumerate(["dog/b.png", "dog/a.png", "cat/z.png", "cat/deep/y.PNG", "cat/x.png"]):
        picture(root / name, number)
    (root / "cat" / "readme.txt").write_text("not a picture")
    (root / "cat" / ".hidden.png").write_text("not a picture")
    (root / ".cache").mkdir()
    return root


def test_order_is_sorted(animals):
    data = load_data(animals)
    assert (data.name, data.split, data.class_names) == ("animals", "all", ("cat", "dog"))
    assert data.labels.tolist() == [0, 0, 0, 1, 1]
    assert np.rint(data.images()[:, 0, 0, 0] * 255).tolist() == [3, 4, 2, 1, 0]


def test_limit_takes_each_class_in_turn(animals):
    data = load_data(animals, limit=3)
    assert data.labels.tolist() == [0, 0, 1]
    assert data.sample_ids.tolist() == [0, 1, 3]
    assert np.rint(data.images()[:, 0, 0, 0] * 255).tolist() == [3, 4, 1]


@pytest.mark.parametrize("limit", [1, 2, 3, 7, 50, None])
def test_in_turn_against_the_slow_version(limit):
    indices = np.random.default_rng(0).integers(0, 4, 20)
    lines = [np.flatnonzero(indices == label).tolist() for label in range(4)]
    dealt = [line[turn] for turn in range(20) for line in lines if turn < len(line)]
    assert in_turn(indices, limit).tolist() == sorted(dealt[:limit])


def test_splits(tmp_path):
    picture(tmp_path / "train" / "cat" / "a.png")
    picture(tmp_path / "train" / "dog" / "a.png")
    picture(tmp_path / "val" / "dog" / "a.png")
    data = load_data(tmp_path)
    assert (data.split, data.class_names, data.labels.tolist()) == ("validation", ("cat", "dog"), [1])
    assert len(load_data(tmp_path, split="train")) == 2
    with pytest.raises(DataError, match="no split 'test'"):
        load_data(tmp_path, split="test")


def test_a_class_may_be_called_train(tmp_path):
    picture(tmp_path / "train" / "a.png")
    picture(tmp_path / "bus" / "a.png")
    assert load_data(tmp_path).class_names == ("bus", "train")
    with pytest.raises(DataError, match="not divided into splits"):
        load_data(tmp_path, split="train")


def test_a_class_without_images_is_noted(animals):
    (animals / "ant").mkdir()
    data = load_data(animals)
    assert (data.class_names, data.labels.min()) == (("ant", "cat", "dog"), 1)
    assert "No images of these classes: 'ant'" in data.notes[-1]


def test_hostile_names(tmp_path):
    names = ["<script>alert(1)</script>.png", "new\nline.png", "naïve ☃.png", "'; rm -rf ~.png", "a" * 200 + ".png"]
    names = [name.replace("/", "⁄").encode() for name in names] + [b"\xff\xfe.png"]
    raw = [os.fsencode(tmp_path / "one") + b"/" + name for name in names]
    picture(tmp_path / "seed.png")
    os.mkdir(os.fsencode(tmp_path) + b"/\xffclass")
    (tmp_path / "one").mkdir()
    for target in [*raw, os.fsencode(tmp_path) + b"/\xffclass/a.png"]:
        with open(target, "wb") as file:
            file.write((tmp_path / "seed.png").read_bytes())
    data = load_data(tmp_path)
    assert len(data.images()) == 7
    for name in data.class_names:
        name.encode("utf-8")
    with open(raw[-1], "wb") as file:
        file.write(b"broken")
    with pytest.raises(DataError, match="cannot be read as an image") as caught:
        load_data(tmp_path)
    str(caught.value).encode("utf-8")


def test_links_that_go_round(animals):
    (animals / "cat" / "loop").symlink_to(animals)
    (animals / "eel").symlink_to(animals)
    (animals / "self").symlink_to("self")
    data = load_data(animals)
    assert data.class_names == ("cat", "dog")
    assert len(data) == 5


def test_a_class_folder_may_be_a_link(animals, tmp_path):
    picture(tmp_path / "elsewhere" / "a.png")
    (animals / "eel").symlink_to(tmp_path / "elsewhere")
    assert load_data(animals).class_names == ("cat", "dog", "eel")


def test_what_is_not_a_file(animals):
    (animals / "dog" / "gone.png").symlink_to(animals / "nowhere.png")
    with pytest.raises(DataError, match=r"gone\.png.*missing, or is not a regular file"):
        load_data(animals)
    (animals / "dog" / "gone.png").unlink()
    os.mkfifo(animals / "dog" / "pipe.png")
    with pytest.raises(DataError, match=r"pipe\.png.*not a regular file"):
        load_data(animals)


def test_damage_names_the_file(animals):
    whole = (animals / "dog" / "a.png").read_bytes()
    (animals / "dog" / "a.png").write_bytes(whole[:-30])
    with pytest.raises(DataError, match=r"dog/a\.png"):
        load_data(animals).images()


def test_sizes_and_modes(animals):
    picture(animals / "dog" / "c.png", 7, (4, 5))
    data = load_data(animals)
    assert "1 of 6 images are grey" in " ".join(data.notes)
    picture(animals / "dog" / "d.png", 7, (9, 9, 3))
    with pytest.raises(DataError, match="Give image_size"):
        load_data(animals)
    assert load_data(animals, image_size=8).shape == (3, 8, 8)


def test_digest_does_not_depend_on_the_path(animals, tmp_path):
    before = load_data(animals).digest
    animals.rename(tmp_path / "moved")
    assert load_data(tmp_path / "moved").digest == before
    picture(tmp_path / "moved" / "cat" / "x.png", 99)
    assert load_data(tmp_path / "moved").digest != before


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ([], "holds none at all"),
        (["a.png"], "no class folders"),
        (["set.npz"], "give the path of the archive"),
        (["notes.txt"], "no data that Assay reads"),
        (["cat/notes.txt"], "no data that Assay reads"),
        ([".hidden/a.png"], "no data that Assay reads"),
    ],
)
def test_folders_without_data(tmp_path, names, message):
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    with pytest.raises(DataError, match=message):
        load_data(tmp_path)


def test_options_without_meaning(animals):
    with pytest.raises(DataError, match="labels_key='y' has no meaning"):
        load_data(animals, labels_key="y")
