"""DenseDataset and what every reader of dense data shares: ids, sizes, units, and what is refused."""

from __future__ import annotations

import contextlib
import io
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

from assay.core.errors import DataError
from assay.data import DenseDataset, load_data, load_dense, load_images
from assay.data.dense.decode import nearest


def encoded(array, **options):
    buffer = io.BytesIO()
    Image.fromarray(np.asarray(array), **options).save(buffer, "PNG")
    return buffer.getvalue()


def npy(array):
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


def random_set(count=6, classes=4, height=6, width=8, seed=0):
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 256, (count, height, width, 3), dtype=np.uint8)
    masks = rng.integers(0, classes, (count, height, width), dtype=np.uint8)
    masks[0, 0, 0], masks[0, 0, 1] = classes - 1, 255
    depths = rng.integers(1, 20000, (count, height, width), dtype=np.uint16)
    depths[:, 0] = 0
    return images, masks, depths


def table(folder, name="set.parquet", **columns):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), path)
    return path


@pytest.fixture
def parquet(tmp_path):
    images, masks, depths = random_set()
    columns = {"image": images, "mask": masks, "depth": depths}
    return table(tmp_path, **{key: [encoded(item) for item in items] for key, items in columns.items()})


def masked(tmp_path, masks, **options):
    """A parquet with given masks beside images of the same size."""
    images = [encoded(np.zeros((*np.shape(mask)[:2], 3), np.uint8)) for mask in masks]
    path = table(tmp_path, image=images, mask=[encoded(np.asarray(mask, np.uint8)) for mask in masks])
    return load_dense(path, **options)


def with_depths(tmp_path, depths, **options):
    images = [encoded(np.zeros((*depth.shape, 3), np.uint8)) for depth in depths]
    cells = [npy(depth) if depth.dtype.kind == "f" else encoded(depth) for depth in depths]
    return load_dense(table(tmp_path, image=images, depth=cells), **options)


def test_values(parquet):
    images, masks, depths = random_set()
    data = load_dense(parquet)
    assert repr(data) == "DenseDataset('set', split='all', n=6, shape=3x6x8, tasks=segmentation, depth)"
    assert (np.rint(data.images() * 255).transpose(0, 2, 3, 1) == images).all()
    assert data.masks().dtype == np.int64
    assert (data.masks() == masks).all()
    assert data.depths().dtype == np.float32
    assert np.allclose(data.depths(), depths / 1000, rtol=1e-6)
    assert (data.num_classes("segmentation"), data.class_names("segmentation")) == (4, ("0", "1", "2", "3"))
    assert (data.labels, data.ignore_index) == (None, 255)
    assert (data.references("depth", [1]) == data.depths([1])).all()
    assert (data.references("segmentation", slice(2)) == data.masks([0, 1])).all()


def test_subsets_share_and_agree(parquet):
    data = load_dense(parquet)
    part = data.subset([4, 1])
    assert part.pixels is data.pixels
    assert part.mask_store is data.mask_store
    assert part.sample_ids.tolist() == [4, 1]
    assert (part.masks([1]) == data.masks([1])).all()
    assert (part.depths() == data.depths([4, 1])).all()
    assert data.head(2).digest == load_dense(parquet, limit=2, num_classes=4).digest
    mask = np.array([True, False, True, False, False, False])
    assert (data.masks(mask) == data.masks([0, 2])).all()
    with pytest.raises(DataError, match="positions 0 to 5"):
        data.masks([6])
    with pytest.raises(DataError, match="at least 1 sample"):
        data.head(0)


def test_description_is_plain(parquet):
    about = load_dense(parquet).describe()
    assert about["tasks"] == ["segmentation", "depth"]
    assert about["classes"] == {"segmentation": ["0", "1", "2", "3"]}
    assert str(parquet.parent) not in str(about)


def test_digest_sees_every_part(tmp_path):
    images, masks, depths = random_set()
    seen = set()
    for changed in (None, images, masks, depths):
        if changed is not None:
            changed[3, 2, 2] += 1
        path = tmp_path / "set.npz"
        np.savez(path, images=images, masks=masks, depths=depths.astype(np.float32))
        seen.add(load_dense(path, num_classes=5).digest)
    seen.add(load_dense(path, num_classes=6).digest)
    seen.add(load_dense(path, num_classes=5, max_depth=9000).digest)
    assert len(seen) == 6


def test_as_a_dataset(parquet):
    plain = load_dense(parquet).dataset()
    assert (plain.class_names, plain.labels.tolist()) == (("unlabelled",), [0] * 6)
    wrapped = DenseDataset.from_dataset(load_data("digits", limit=5))
    assert wrapped.tasks == ("classification",)
    assert wrapped.references("classification", [1]).tolist() == wrapped.labels[1:2].tolist()
    assert wrapped.dataset().digest == load_data("digits", limit=5).digest


def test_from_arrays():
    images, masks, depths = random_set()
    data = DenseDataset.from_arrays(images, masks=masks, depths=depths, labels=["a", "b"] * 3, num_classes=5)
    assert data.tasks == ("classification", "segmentation", "depth")
    assert (data.masks() == masks).all()
    assert np.allclose(data.depths(), depths / 1000, rtol=1e-6)
    assert (data.num_classes("segmentation"), data.class_names("classification")) == (5, ("a", "b"))
    for options, message in (
        ({"masks": masks[:3]}, "has 6 images but 3 masks"),
        ({"masks": masks[:, 1:]}, r"is 8x5 \(width x height\), but its image is 8x6"),
        ({"depths": depths * 0}, "none of 6 depth maps has a valid pixel"),
        ({"labels": [0]}, "has 6 images but 1 labels"),
        ({"masks": np.zeros(())}, "has 6 images but 0 masks"),
        ({}, "neither masks, depth maps nor labels"),
    ):
        with pytest.raises(DataError, match=message):
            DenseDataset.from_arrays(images, **options)


@pytest.mark.parametrize("task", ["segmentation", "depth", "poetry"])
def test_a_task_that_is_not_there(task):
    data = load_dense("digits", limit=5)
    with pytest.raises(DataError, match=f"nothing for the task '{task}'; they have classification only"):
        data.references(task)


def test_depth_has_no_classes(parquet):
    with pytest.raises(DataError, match="'depth' has no classes"):
        load_dense(parquet).num_classes("depth")


def test_images_alone_are_not_dense(tmp_path):
    path = table(tmp_path, image=[encoded(np.zeros((4, 4), np.uint8))])
    with pytest.raises(DataError, match="no labels were found"):
        load_dense(path)
    assert len(load_images(path)) == 1


@settings(max_examples=40, deadline=None)
@given(
    arrays(np.int16, st.tuples(st.integers(1, 9), st.integers(1, 9))), st.tuples(st.integers(1, 12), st.integers(1, 12))
)
def test_nearest_against_the_slow_version(array, size):
    slow = np.empty(size, array.dtype)
    for i in range(size[0]):
        for j in range(size[1]):
            slow[i, j] = array[int((i + 0.5) * array.shape[0] / size[0]), int((j + 0.5) * array.shape[1] / size[1])]
    assert (nearest(array, size) == slow).all()


def test_resizing_never_blends(parquet):
    data, whole = load_dense(parquet, image_size=(3, 4)), load_dense(parquet)
    assert data.shape == (3, 3, 4)
    assert (data.masks() == whole.masks()[:, 1::2, 1::2]).all()
    assert (data.depths() == whole.depths()[:, 1::2, 1::2]).all()
    assert "Images were resized to 3x4 pixels (bilinear)." in data.notes


def test_classes_come_from_all_masks_of_the_source(tmp_path):
    """A limit, or a split that lacks a class, changes no number of classes."""
    images, masks, _ = random_set(classes=3)
    masks[masks == 2] = 1
    masks[5, 3, 3] = 2
    for split, rows in (("train", slice(0, 3)), ("test", slice(3, 6))):
        cells = {"image": images[rows], "mask": masks[rows]}
        table(tmp_path, f"{split}.parquet", **{key: [encoded(item) for item in items] for key, items in cells.items()})
    for options in ({"split": "train"}, {"split": "test"}, {"limit": 1}):
        assert load_dense(tmp_path, **options).num_classes("segmentation") == 3
    assert load_dense(tmp_path, class_names=["a", "b", "c"]).class_names("segmentation") == ("a", "b", "c")


def test_unknown_ids(tmp_path):
    masks = [np.zeros((3, 3)), np.full((3, 3), 7), np.full((3, 3), 255)]
    with pytest.raises(
        DataError, match=r"1 of 3 masks hold the unknown class ids 7; allowed: 0 to 3 and ignore_index 255"
    ):
        masked(tmp_path, masks, num_classes=4)
    with pytest.raises(DataError, match=r"2 of 3 masks hold the unknown class ids 7, 255; allowed: 0 to 3\."):
        masked(tmp_path, masks, num_classes=4, ignore_index=None)
    assert masked(tmp_path, masks).num_classes("segmentation") == 8


def test_ids_of_instances_are_refused(tmp_path):
    images = [encoded(np.zeros((3, 3, 3), np.uint8))]
    path = table(tmp_path, image=images, mask=[encoded(np.full((3, 3), 30000, np.uint16))])
    with pytest.raises(DataError, match="ids up to 30000, more than class ids usually are"):
        load_dense(path)
    assert load_dense(path, num_classes=30001, ignore_index=None).masks().max() == 30000


def test_masks_without_a_pixel_that_counts(tmp_path):
    empty, full = np.full((3, 3), 255), np.ones((3, 3))
    data = masked(tmp_path, [empty, full])
    assert any("1 of 2 masks have no pixel that counts" in note for note in data.notes)
    with pytest.raises(DataError, match="every pixel of all 2 masks is 255"):
        masked(tmp_path, [empty, empty])


def test_classes_counted_from_one(tmp_path):
    data = masked(tmp_path, [np.array([[0, 1], [2, 3]])], ignore_index=0)
    assert data.masks().tolist() == [[[65535, 0], [1, 2]]]
    assert (data.num_classes("segmentation"), data.ignore_index) == (3, 65535)
    with pytest.raises(DataError, match="every pixel of all 1 masks is 65535"):
        masked(tmp_path, [np.zeros((2, 2))], ignore_index=0)
    with pytest.raises(DataError, match="ignore_index is 1, but there are classes up to 3"):
        masked(tmp_path, [np.array([[0, 1], [2, 3]])], ignore_index=1)


def test_units_and_limits_of_depth(tmp_path):
    units = [np.array([[0, 500], [1000, 9000]], np.uint16)]
    assert with_depths(tmp_path, units).depths().tolist() == [[[0, 0.5], [1, 9]]]
    assert with_depths(tmp_path, units, depth_scale=500).depths().tolist() == [[[0, 1], [2, 18]]]
    assert with_depths(tmp_path, units, max_depth=5).depths().tolist() == [[[0, 0.5], [1, 0]]]
    metres = [np.array([[np.nan, -1], [np.inf, 2.5]], np.float64)]
    assert with_depths(tmp_path, metres).depths().tolist() == [[[0, 0], [0, 2.5]]]
    millimetres = with_depths(tmp_path, [np.full((2, 2), 2500.0)])
    assert any("The median depth is 2.5e+03 m" in note for note in millimetres.notes)


def test_depth_without_a_valid_pixel(tmp_path):
    empty, full = np.zeros((2, 2), np.uint16), np.full((2, 2), 3000, np.uint16)
    data = with_depths(tmp_path, [empty, full])
    assert any("1 of 2 depth maps have no valid pixel" in note for note in data.notes)
    with pytest.raises(DataError, match=r"none of 2 depth maps has a valid pixel.*depth_scale \(1000 units a metre\)"):
        with_depths(tmp_path, [empty, empty])
    with pytest.raises(DataError, match="at most max_depth 2"):
        with_depths(tmp_path, [full, full], max_depth=2)


def test_sizes_must_agree(tmp_path):
    wide = [encoded(np.zeros((4, 6, 3), np.uint8))]
    tall, half = encoded(np.zeros((6, 4), np.uint8)), encoded(np.ones((2, 3), np.uint8))
    path = table(tmp_path, image=wide, mask=[tall])
    with pytest.raises(DataError, match=r"4x6 \(width x height\), but its image is 6x4"):
        load_dense(path)
    with pytest.raises(DataError, match="check that the files are paired rightly"):
        load_dense(path, image_size=4)
    path = table(tmp_path, image=wide, mask=[half])
    with pytest.raises(DataError, match="give image_size where both show the same"):
        load_dense(path)
    assert load_dense(path, image_size=(4, 6)).masks().min() == 1


def test_mixed_sizes_need_image_size(tmp_path):
    images = [encoded(np.zeros((side, side, 3), np.uint8)) for side in (4, 6)]
    masks = [encoded(np.zeros((side, side), np.uint8)) for side in (4, 6)]
    path = table(tmp_path, image=images, mask=masks)
    with pytest.raises(DataError, match="Give image_size to resize"):
        load_dense(path)
    assert load_dense(path, image_size=5).masks().shape == (2, 5, 5)


def test_kinds_of_masks(tmp_path):
    """Palettes are ids, not colours; one bit, 16 bits and grey saved as colour are ids too."""
    ids = np.array([[0, 1], [1, 0]], np.uint8)
    palette = Image.fromarray(ids).convert("P")
    palette.putpalette([200, 100, 50, 10, 20, 30] + [0] * 762)
    buffer = io.BytesIO()
    palette.save(buffer, "PNG")
    one_bit = io.BytesIO()
    Image.fromarray(ids * 255).convert("1").save(one_bit, "PNG")
    kinds = [buffer.getvalue(), one_bit.getvalue(), encoded(ids.astype(np.uint16)), npy(ids.astype(np.int64))]
    kinds += [encoded(np.repeat(ids[..., None], 3, 2)), npy(ids.astype(bool)), npy(ids.astype(np.float32)[..., None])]
    image = encoded(np.zeros((2, 2, 3), np.uint8))
    data = load_dense(table(tmp_path, image=[image] * len(kinds), mask=kinds))
    assert (data.masks() == ids).all()


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (encoded(np.arange(12, dtype=np.uint8).reshape(2, 2, 3)), "holds colours"),
        (npy(np.full((2, 2), -1)), "run from 0 up"),
        (npy(np.full((2, 2), 0.5)), "whole class ids"),
        (npy(np.zeros((2, 2, 2, 2), np.uint8)), "one class id a pixel"),
        (npy(np.array([[object()]], dtype=object))[:40], "cannot be read as a mask"),
        (b"not a picture", "cannot be read as a mask"),
        (b"", "cannot be read as a mask"),
        (None, "holds no image"),
    ],
)
def test_masks_that_are_none(tmp_path, mask, message):
    path = table(tmp_path, image=[encoded(np.zeros((2, 2, 3), np.uint8))], mask=pa.array([mask], pa.binary()))
    with pytest.raises(DataError, match=message):
        load_dense(path)


MASK_BYTES = encoded(np.arange(12, dtype=np.uint8).reshape(3, 4))


@settings(max_examples=60, deadline=None)
@given(
    place=st.integers(0, len(MASK_BYTES) - 1),
    value=st.integers(0, 255),
    cut=st.booleans(),
    kind=st.sampled_from(["mask", "depth"]),
)
def test_damage_is_a_data_error(tmp_path_factory, place, value, cut, kind):
    damaged = MASK_BYTES[:place] if cut else MASK_BYTES[:place] + bytes([value]) + MASK_BYTES[place + 1 :]
    folder = tmp_path_factory.mktemp("fuzz", numbered=True)
    path = table(folder, image=[encoded(np.zeros((3, 4, 3), np.uint8))], **{kind: [damaged]})
    with contextlib.suppress(DataError):
        data = load_dense(path)
        assert data.references({"mask": "segmentation"}.get(kind, kind)).shape == (1, 3, 4)


def test_a_jpeg_is_no_mask(tmp_path):
    buffer = io.BytesIO()
    Image.fromarray(np.zeros((2, 2), np.uint8)).save(buffer, "JPEG")
    image = encoded(np.zeros((2, 2, 3), np.uint8))
    with pytest.raises(DataError, match="JPEG, which does not keep values exactly"):
        load_dense(table(tmp_path, image=[image], mask=[buffer.getvalue()]))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_classes": 1}, "num_classes is 1; a whole number of at least 2"),
        ({"num_classes": 3, "class_names": ["a", "b"]}, "num_classes is 3, but 2 class names"),
        ({"ignore_index": -1}, "ignore_index is -1"),
        ({"depth_scale": 0}, "depth_scale is 0; a number above 0"),
        ({"masks_key": "musk"}, r"no 'musk' \(masks_key\)\. Did you mean 'mask'"),
        ({"depth_key": "far"}, r"no 'far' \(depth_key\)"),
        ({"labels_key": "mask"}, "holds encoded pictures, not labels"),
        ({"split": "test"}, "not divided into splits"),
    ],
)
def test_options_that_cannot_be(parquet, options, message):
    with pytest.raises(DataError, match=message):
        load_dense(parquet, **options)


def test_a_wrong_channel_order(tmp_path):
    images, masks, _ = random_set()
    path = tmp_path / "set.npz"
    np.savez(path, images=images, masks=masks)
    assert load_dense(path, layout="NHWC").shape == load_images(path, layout="NHWC").shape == (3, 6, 8)
    for read in (load_dense, load_images):
        with pytest.raises(DataError, match=r"says that its images have 6 channels.*the layout is 'NHWC'"):
            read(path, layout="NCHW")
    with pytest.raises(DataError, match="allowed: NHW, NHWC, NCHW"):
        load_dense(path, layout="CHW")


def test_only_arrays_have_a_layout(parquet):
    with pytest.raises(DataError, match=r"layout='NHWC' has no meaning for .*: only arrays have a layout"):
        load_dense(parquet, layout="NHWC")


def test_keys_without_a_meaning():
    with pytest.raises(DataError, match="masks_key='m' has no meaning for 'digits'"):
        load_dense("digits", masks_key="m")


def test_torch_is_not_needed():
    code = "import sys, assay.data as d; d.load_dense('scenes', limit=2).images(); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
