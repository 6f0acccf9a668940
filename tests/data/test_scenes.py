"""The built-in scenes: exact, seeded, and varied enough that constants and colours do not solve them."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from assay.core.errors import DataError
from assay.data import load_data, load_dense, load_images
from assay.data.scenes.layout import KINDS, draw, main_shape
from assay.data.scenes.reader import SPLITS
from assay.data.scenes.render import CLASSES, camera_rays, render

from .test_scene_shapes import INSIDE


@pytest.fixture(scope="module")
def some():
    return load_dense("scenes", limit=120, image_size=32)


@pytest.mark.parametrize("index", range(12))
def test_mask_and_depth_are_exact(index):
    """Every pixel's depth leads to a point of the surface its mask names, with no solid before it."""
    scene = draw(5, index)
    size = 20
    picture = render(scene, size, size)
    rays = camera_rays(scene, size, size)
    depth, mask = picture.depth.ravel().astype(float), picture.mask.ravel()
    points = rays * depth + [[0], [scene.eye], [0]]
    for pixel in range(size * size):
        p, name = points[:, pixel], CLASSES[mask[pixel]]
        if depth[pixel] == 0:
            assert name == "sky" or scene.eye / -rays[1, pixel] > 20 or name == "wall"
            continue
        if name == "floor":
            assert abs(p[1]) < 1e-4
        elif name == "wall":
            assert min(abs(wall.across @ p - wall.distance) for wall in scene.walls) < 1e-4
        else:
            ways = [abs(INSIDE[s.shape](*(s.inward @ (p - s.centre)))) for s in scene.solids if s.shape == name]
            assert min(ways) < 1e-4
    for solid in scene.solids:
        for share in np.linspace(0, 0.999, 60):
            along = rays * depth * share + [[0], [scene.eye], [0]]
            assert (INSIDE[solid.shape](*(solid.inward @ (along - solid.centre[:, None]))) > -1e-3).all()


def test_depth_is_along_the_camera_axis():
    scene = draw(5, 0)
    rays = camera_rays(scene, 9, 9)
    assert np.allclose(scene.rotation[:, 2] @ rays, 1)
    assert np.allclose(scene.rotation @ scene.rotation.T, np.eye(3))


def test_resolution_only_samples_finer():
    """The centres of 16 pixels are centres of 48: there both pictures agree exactly."""
    for index in range(6):
        scene = draw(0, index)
        coarse, fine = render(scene, 16, 16), render(scene, 48, 48)
        assert (coarse.mask == fine.mask[1::3, 1::3]).all()
        assert np.allclose(coarse.depth, fine.depth[1::3, 1::3], rtol=1e-6)


def test_wide_pictures_show_more():
    scene = draw(0, 1)
    square, wide = render(scene, 16, 16), render(scene, 16, 32)
    assert wide.image.shape == (3, 16, 32)
    assert (square.mask == wide.mask[:, 8:24]).all()


def test_a_sample_depends_on_its_index_alone():
    data = load_dense("scenes", image_size=16, limit=8)
    again = load_dense("scenes", split="all", image_size=16).subset([2005, 2001])
    assert again.sample_ids.tolist() == [2005, 2001]
    assert (again.images() == data.images([5, 1])).all()
    assert (again.depths() == data.depths([5, 1])).all()
    assert again.labels.tolist() == data.labels[[5, 1]].tolist()
    assert load_dense("scenes", image_size=16, limit=8).digest == data.digest
    assert data.subset([0]).digest != data.subset([1]).digest
    assert load_dense("scenes", image_size=17, limit=8).digest != data.digest


def test_scenes_in_use_are_rendered_once(monkeypatch):
    first = load_dense("scenes", image_size=11, limit=3)
    images = first.images()
    monkeypatch.setattr("assay.data.scenes.reader.render", None)
    again = load_dense("scenes", split="all", image_size=11).subset([2000, 2002])
    assert (again.images() == images[[0, 2]]).all()
    assert again.images([]).shape == (0, 3, 11, 11)


def test_splits():
    assert {name: end - first for name, (first, end) in SPLITS.items()} == {"train": 2000, "test": 500, "all": 2500}
    train, test = load_dense("scenes", split="train"), load_dense("scenes")
    assert (len(train), len(test), test.split) == (2000, 500, "test")
    assert not set(train.sample_ids) & set(test.sample_ids)
    assert np.bincount(train.labels).min() > 300
    with pytest.raises(DataError, match="no split 'val'"):
        load_dense("scenes", split="val")


def test_what_a_scene_has(some):
    assert some.tasks == ("classification", "segmentation", "depth")
    assert some.class_names("classification") == KINDS
    assert some.class_names("segmentation") == CLASSES
    masks, depths = some.masks(), some.depths()
    assert masks.dtype == np.int64
    assert set(np.unique(masks)) == set(range(8))
    assert (depths[masks == CLASSES.index("sky")] == 0).all()
    assert depths[depths > 0].min() > 0.3
    assert depths.max() <= 20
    assert (depths > 0).any((1, 2)).all()
    assert some.images().std((1, 2, 3)).min() > 0.02


def test_the_label_is_in_the_picture(some):
    for label, mask in zip(some.labels, some.masks(), strict=True):
        assert (mask == CLASSES.index(KINDS[label])).mean() > 0.02
    counts = np.stack([(some.masks() == CLASSES.index(kind)).sum((1, 2)) for kind in KINDS], 1)
    assert (counts.argmax(1) == some.labels).mean() > 0.95
    assert all(main_shape(0, index) == draw(0, index).main for index in range(20))


def test_constant_predictors_fail(some):
    masks, depths = some.masks(), some.depths()
    usual = np.stack([(masks == k).sum(0) for k in range(8)]).argmax(0)
    for constant in (np.zeros_like(masks), np.broadcast_to(usual, masks.shape)):
        unions = [((constant == k) | (masks == k)).sum() for k in range(8)]
        overlaps = [((constant == k) & (masks == k)).sum() for k in range(8)]
        assert np.mean([a / b for a, b in zip(overlaps, unions, strict=True)]) < 0.2
    valid = depths > 0
    constant = np.exp(np.log(depths[valid]).mean())
    ratio = np.maximum(depths[valid] / constant, constant / depths[valid])
    assert (ratio < 1.25).mean() < 0.4
    mean = np.where(valid, depths, 0).sum(0) / valid.sum(0).clip(1)
    guess = np.broadcast_to(mean, depths.shape)[valid]
    assert (np.maximum(depths[valid] / guess, guess / depths[valid]) < 1.25).mean() < 0.5


def test_colours_do_not_tell_the_class():
    data = load_dense("scenes", split="train", limit=360, image_size=16)
    images = data.images()
    object_pixels = data.masks() == (data.labels + CLASSES.index(KINDS[0]))[:, None, None]
    whole = np.concatenate([images.mean((2, 3)), images.std((2, 3))], 1)
    share = object_pixels.sum((1, 2)).clip(1)[:, None]
    own = (images * object_pixels[:, None]).sum((2, 3)) / share
    for features in (whole, own):
        model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=300)).fit(features[:240], data.labels[:240])
        assert model.score(features[240:], data.labels[240:]) < 0.4


def test_pictures_stay_what_they_are():
    """A change here changes results that were published on these scenes: raise VERSION with it."""
    masks = load_dense("scenes", limit=4, image_size=32).masks()
    counts = np.stack([np.bincount(mask.ravel(), minlength=8) for mask in masks])
    assert [main_shape(0, index) for index in range(6)] == [
        "pyramid",
        "pyramid",
        "pyramid",
        "cylinder",
        "box",
        "sphere",
    ]
    assert np.abs(counts - np.array(COUNTS)).max() <= 2


COUNTS = [
    [365, 345, 167, 105, 7, 35, 0, 0],
    [336, 506, 0, 0, 121, 40, 21, 0],
    [171, 585, 0, 10, 15, 0, 0, 243],
    [357, 468, 0, 21, 0, 0, 16, 162],
]


def test_max_depth():
    near = load_dense("scenes", limit=5, image_size=16, max_depth=4.0)
    far = load_dense("scenes", limit=5, image_size=16)
    assert near.depths().max() <= 4
    assert (near.depths() == np.where(far.depths() <= 4, far.depths(), 0)).all()
    assert near.digest != far.digest


def test_other_doors():
    assert load_data("scenes", limit=3).class_names == KINDS
    assert load_data("scenes", limit=3, image_size=(8, 12)).shape == (3, 8, 12)
    assert load_images("scenes", limit=3, split="train").split == "train"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"masks_key": "m"}, "masks_key='m' has no meaning"),
        ({"num_classes": 8}, "num_classes=8 has no meaning"),
        ({"ignore_index": 3}, "which is a class of the built-in scenes"),
        ({"image_size": 0}, "image_size is 0"),
        ({"image_size": (8, None)}, "A side of image_size is None"),
        ({"image_size": (8, 8, 3)}, r"a side, or \(height, width\)"),
        ({"max_depth": -1}, "max_depth is -1; a number above 0"),
        ({"depth_scale": "m"}, "depth_scale is 'm'"),
    ],
)
def test_options_that_cannot_be(options, message):
    with pytest.raises(DataError, match=message):
        load_dense("scenes", **options)
