"""Where dense data are found: folders and their splits, partners, parquet, npz, and saved Hugging Face sets."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from assay.core.errors import DataError, MissingExtra
from assay.data import load_data, load_dense, load_images
from assay.data.dense.folder import partner_key

from .test_dense import encoded, random_set, table

IMAGES, MASKS, DEPTHS = random_set()


def write(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, array) if path.suffix == ".npy" else Image.fromarray(array).save(path)


def fill(root, rows=range(6), image="images/{}.png", mask="masks/{}.png", depth="depth/{}.png"):
    for row in rows:
        write(root / image.format(f"a{row}"), IMAGES[row])
        for pattern, maps in ((mask, MASKS), (depth, DEPTHS)):
            if pattern:
                array = maps[row] / 1000 if pattern.endswith("npy") else maps[row]
                write(root / pattern.format(f"a{row}"), array)


def check(data, rows=slice(None)):
    assert (np.rint(data.images() * 255).transpose(0, 2, 3, 1) == IMAGES[rows]).all()
    if "segmentation" in data.tasks:
        assert (data.masks() == MASKS[rows]).all()
        assert data.num_classes("segmentation") == 4
    if "depth" in data.tasks:
        assert np.allclose(data.depths(), DEPTHS[rows] / 1000, rtol=1e-6)


@pytest.mark.parametrize(
    "patterns",
    [
        {},
        {"depth": ""},
        {"mask": ""},
        {"depth": "Depths/{}.npy"},
        {"image": "rgb/deep/{}.png", "mask": "Annotations/deep/{}.png", "depth": "depth/deep/{}.png"},
        {"image": "leftImg8bit/x/{}_leftImg8bit.png", "mask": "gtFine/x/{}_gtFine_labelIds.png", "depth": ""},
        {"image": "images/{}.png", "mask": "masks/{}_L.png", "depth": "depth/{}_depth.npy"},
    ],
)
def test_folders(tmp_path, patterns):
    fill(tmp_path / "set", **patterns)
    data = load_dense(tmp_path / "set")
    expected = [task for task, kind in (("segmentation", "mask"), ("depth", "depth")) if patterns.get(kind, "x")]
    assert (data.name, data.split, data.tasks) == ("set", "all", tuple(expected))
    check(data)
    assert load_images(tmp_path / "set").class_names == ("unlabelled",)


def test_named_folders(tmp_path):
    fill(tmp_path, image="photos/{}.png", mask="truth/{}.png", depth="")
    check(load_dense(tmp_path, images_key="photos", masks_key="truth"))
    with pytest.raises(DataError, match=r"no folder 'photo' with images beside it\. It holds 'photos', 'truth'"):
        load_dense(tmp_path, images_key="photo", masks_key="truth")


@pytest.mark.parametrize("above", [True, False])
def test_splits(tmp_path, above):
    for split, rows in (("training", range(4)), ("val", range(4, 6))):
        names = {kind: f"{split}/{kind}s" if above else f"{kind}s/{split}" for kind in ("image", "mask", "depth")}
        fill(tmp_path, rows, **{kind: name + "/{}.png" for kind, name in names.items()})
    data = load_dense(tmp_path)
    assert data.split == "validation"
    check(data, slice(4, 6))
    check(load_dense(tmp_path, split="train"), slice(4))
    part = load_dense(tmp_path, split="train", limit=2)
    check(part, slice(2))
    assert "2 of 4 samples were read." in part.notes
    assert len(load_images(tmp_path, split="train")) == 4
    with pytest.raises(DataError, match="no split 'test'"):
        load_dense(tmp_path, split="test")


def test_missing_partners(tmp_path):
    fill(tmp_path)
    (tmp_path / "masks" / "a3.png").unlink()
    with pytest.raises(DataError, match=r"1 of 6 images have no partner in .*masks', such as .*a3\.png"):
        load_dense(tmp_path)
    check(load_dense(tmp_path, limit=3), slice(3))
    assert len(load_images(tmp_path)) == 6


def test_what_belongs_to_no_image_is_noted(tmp_path):
    fill(tmp_path)
    write(tmp_path / "masks" / "b.png", MASKS[0])
    assert any("1 files of masks belong to no image" in note for note in load_dense(tmp_path).notes)


def test_two_maps_for_one_image(tmp_path):
    """The one with the image's own name counts; two of which neither has it are an error."""
    fill(tmp_path, depth="")
    write(tmp_path / "masks" / "a2_mask.png", MASKS[2] * 0)
    check(load_dense(tmp_path))
    (tmp_path / "masks" / "a2.png").rename(tmp_path / "masks" / "a2_L.png")
    with pytest.raises(DataError, match=r"more than one file for .*a2\.png.*a2_L\.png.*a2_mask\.png"):
        load_dense(tmp_path)


def test_no_images(tmp_path):
    fill(tmp_path)
    for path in (tmp_path / "images").iterdir():
        path.unlink()
    with pytest.raises(DataError, match="the split 'all' has no images"):
        load_dense(tmp_path)


def test_masks_are_not_a_class(tmp_path):
    fill(tmp_path)
    with pytest.raises(DataError, match="images with masks or depth maps, not a folder for each class"):
        load_data(tmp_path)


def test_class_folders_are_labelled_data(tmp_path):
    for name in ("masks", "no_masks"):
        write(tmp_path / name / "a.png", IMAGES[0])
    assert load_data(tmp_path).class_names == ("masks", "no_masks")
    assert load_dense(tmp_path).tasks == ("classification",)
    assert load_images(tmp_path).class_names == ("masks", "no_masks")


@pytest.mark.parametrize("split", [None, "train"])
def test_images_alone(tmp_path, split):
    folder = tmp_path / "photos" / (split or "")
    for row in range(3):
        write(folder / f"{row}.png", IMAGES[row])
    data = load_images(tmp_path / "photos")
    assert (len(data), data.class_names, data.split) == (3, ("unlabelled",), split or "all")
    assert load_images(tmp_path / "photos", limit=2, image_size=(3, 5)).shape == (3, 3, 5)
    with pytest.raises(DataError, match=r"no class folders|not a folder|neither masks|no data"):
        load_dense(folder)


@pytest.mark.parametrize("path", ["masks/a/0001_L.png", "masks/a/0001.npy", "masks/a/0001_Mask.png"])
def test_partner_key(tmp_path, path):
    assert partner_key(tmp_path / path, tmp_path / "masks") == "a/0001"


def test_damaged_partner(tmp_path):
    fill(tmp_path)
    (tmp_path / "depth" / "a1.png").write_bytes(encoded(DEPTHS[1])[:60])
    with pytest.raises(DataError, match=r"a1\.png' cannot be read as a depth map"):
        load_dense(tmp_path)


def test_parquet_splits_with_labels(tmp_path):
    labels = np.array(["cat", "dog", "cat", "cow", "dog", "dog"])
    for split, rows in (("train", slice(4)), ("test", slice(4, 6))):
        columns = {"rgb": IMAGES[rows], "annotation": MASKS[rows], "depth_map": DEPTHS[rows]}
        cells = {key: [{"bytes": encoded(item), "path": None} for item in items] for key, items in columns.items()}
        table(tmp_path / "set", f"{split}-00000-of-00001.parquet", **cells, label=labels[rows].tolist())
    data = load_dense(tmp_path / "set")
    assert (data.split, data.tasks) == ("test", ("classification", "segmentation", "depth"))
    assert (data.class_names("classification"), data.labels.tolist()) == (("cat", "cow", "dog"), [2, 2])
    check(data, slice(4, 6))
    check(load_dense(tmp_path / "set", split="train", limit=3), slice(3))
    assert load_images(tmp_path / "set", split="train", images_key="rgb").labels.tolist() == [0, 2, 0, 1]


def test_a_column_of_pictures_called_label_holds_masks(tmp_path):
    cells = {"pixel_values": [encoded(item) for item in IMAGES], "label": [encoded(item) for item in MASKS]}
    path = table(tmp_path, **cells)
    check(load_dense(path))
    assert len(load_images(path)) == 6


def test_parquet_with_labels_alone_is_labelled_data(tmp_path):
    path = table(tmp_path, image=[encoded(item) for item in IMAGES], label=pa.array([0, 1, 0, 1, 0, 1]))
    assert load_dense(path).tasks == load_dense(path, limit=2).tasks == ("classification",)
    assert load_images(path).labels.tolist() == [0, 1, 0, 1, 0, 1]
    assert load_images(path).digest == load_data(path).digest


def test_labels_that_cannot_be_used_do_not_matter_to_images_alone(tmp_path):
    path = table(tmp_path, image=[encoded(item) for item in IMAGES], label=pa.array([-1] * 6))
    np.savez(tmp_path / "set.npz", x=IMAGES, y=np.full(6, -1))
    for spec in (path, tmp_path / "set.npz"):
        assert load_images(spec).class_names == ("unlabelled",)
        with pytest.raises(DataError, match="are negative"):
            load_data(spec)


def test_npz(tmp_path):
    path = tmp_path / "set.npz"
    arrays = {"images": IMAGES, "masks": MASKS[..., None], "depths": DEPTHS, "labels": np.arange(6) % 3}
    np.savez(path, **{f"{key}_{split}": array for key, array in arrays.items() for split in ("train", "test")})
    data = load_dense(path, split="train")
    assert data.tasks == ("classification", "segmentation", "depth")
    assert data.num_classes("classification") == 3
    check(data)
    check(load_dense(path, limit=2), slice(2))
    assert load_images(path, limit=2).class_names == ("0", "1", "2")
    with pytest.raises(DataError, match="image_size=9 was asked for"):
        load_dense(path, image_size=9)


def test_npz_whose_labels_are_masks(tmp_path):
    np.savez(tmp_path / "set.npz", x=IMAGES, y=MASKS)
    check(load_dense(tmp_path / "set.npz"))
    assert load_images(tmp_path / "set.npz").class_names == ("unlabelled",)


def test_npz_by_names(tmp_path):
    np.savez(tmp_path / "set.npz", a=IMAGES, b=MASKS, c=DEPTHS)
    check(load_dense(tmp_path / "set.npz", images_key="a", masks_key="b", depth_key="c"))
    with pytest.raises(DataError, match="no images were found under the usual names"):
        load_dense(tmp_path / "set.npz", masks_key="b")


@pytest.mark.parametrize(
    ("masks", "message"),
    [
        (MASKS[:5], "has 6 images but 5 masks"),
        (MASKS[:, :5], r"is 8x5 \(width x height\), but its image is 8x6"),
        (MASKS / 3, "whole class ids"),
        (MASKS.astype(np.int64) - 1, "run from 0 up"),
        (np.zeros((6, 6, 8, 4)), "one class id a pixel"),
        (np.zeros(6), "one class id a pixel"),
        (np.array([None] * 6), "pickled Python objects"),
    ],
)
def test_npz_that_cannot_be(tmp_path, masks, message):
    np.savez(tmp_path / "set.npz", images=IMAGES, masks=masks)
    with pytest.raises(DataError, match=message):
        load_dense(tmp_path / "set.npz")


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    datasets = pytest.importorskip("datasets")
    datasets.disable_progress_bars()
    features = datasets.Features(
        {
            "scene": datasets.Image(),
            "annotation": datasets.Image(),
            "depth": datasets.Array2D((6, 8), "float32"),
            "label": datasets.ClassLabel(names=["in", "out"]),
        }
    )
    columns = {
        "scene": [Image.fromarray(item) for item in IMAGES],
        "annotation": [Image.fromarray(item) for item in MASKS],
        "depth": DEPTHS.astype(np.float32) / 1000,
        "label": [0, 1, 0, 1, 0, 1],
    }
    whole = datasets.Dataset.from_dict(columns, features=features)
    root = tmp_path_factory.mktemp("hub")
    parts = {"train": whole.select(range(4)), "validation": whole.select([5, 4])}
    datasets.DatasetDict(parts).save_to_disk(str(root / "both"))
    whole.remove_columns(["annotation", "depth"]).save_to_disk(str(root / "labelled"))
    return root


def test_saved_hugging_face_sets(saved):
    data = load_dense(saved / "both", images_key="scene")
    assert (data.split, data.tasks) == ("validation", ("classification", "segmentation", "depth"))
    assert (data.class_names("classification"), data.labels.tolist()) == (("in", "out"), [1, 0])
    check(data, [5, 4])
    check(load_dense(f"hf:{saved / 'both'}", images_key="scene", split="train", limit=3), slice(3))
    with pytest.raises(DataError, match="which column holds the images"):
        load_dense(saved / "both")


def test_labelled_hugging_face_sets(saved):
    for name in (saved / "labelled", f"hf:{saved / 'labelled'}"):
        data = load_data(name, limit=3)
        assert (data.class_names, data.labels.tolist()) == (("in", "out"), [0, 1, 0])
        assert len(load_images(name)) == 6
    with pytest.raises(DataError, match=r"no 'lable' \(labels_key\)"):
        load_data(saved / "labelled", labels_key="lable")


def test_a_damaged_saved_set(tmp_path):
    pytest.importorskip("datasets")
    (tmp_path / "state.json").write_text("{")
    with pytest.raises(DataError, match="cannot be read as a saved Hugging Face data set"):
        load_dense(tmp_path)


def test_a_folder_that_is_none(tmp_path):
    with pytest.raises(DataError, match="not written by save_to_disk"):
        load_data(f"hf:{tmp_path}")


def test_a_set_that_cannot_be_fetched(monkeypatch):
    datasets = pytest.importorskip("datasets")

    def refuse(*_, **options):
        assert not options.get("trust_remote_code")
        raise ConnectionError("no route to the hub")

    monkeypatch.setattr(datasets, "load_dataset", refuse)
    with pytest.raises(DataError, match=r"'no/such:config' cannot be loaded: no route to the hub \(ConnectionError\)"):
        load_dense("hf:no/such:config")


def test_a_set_from_the_hub(monkeypatch, saved):
    datasets = pytest.importorskip("datasets")
    loaded = datasets.load_from_disk(str(saved / "both"))
    monkeypatch.setattr(datasets, "load_dataset", lambda identity, **options: loaded)
    data = load_dense("hf:someone/rooms", images_key="scene", split="train")
    assert (data.name, data.source) == ("rooms", "hf:someone/rooms")
    check(data, slice(4))
    loaded["empty"] = loaded["train"].select([])
    with pytest.raises(DataError, match="the split 'empty' has no rows"):
        load_dense("hf:someone/rooms", images_key="scene", split="empty")


def test_without_the_package_datasets(monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(MissingExtra, match=r"pip install 'assay-ml\[hf\]'"):
        load_dense("hf:someone/rooms")


def test_neither_torch_nor_a_working_torchvision_is_needed(saved, tmp_path):
    (tmp_path / "torchvision").mkdir()
    (tmp_path / "torchvision" / "__init__.py").write_text(
        "raise RuntimeError('operator torchvision::nms does not exist')"
    )
    read = f"d.load_dense({str(saved / 'both')!r}, images_key='scene').masks()"
    code = f"import sys, assay.data as d; {read}; sys.exit('torch' in sys.modules)"
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    assert subprocess.run([sys.executable, "-c", code], check=False, env=environment).returncode == 0
