"""Parquet: columns, class names, splits, memory, damage, and real CIFAR-10."""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from assay.core.errors import DataError
from assay.data import encoded, load_data

from .test_encoded import COLOUR, png

ITEMS = [png(picture) for picture in COLOUR]
LABELS = [0, 1, 0, 1, 2]


def write(path, metadata=None, row_group_size=2, **columns):
    path.parent.mkdir(parents=True, exist_ok=True)
    table = pa.table({"image": ITEMS, "label": LABELS} | columns)
    pq.write_table(table.replace_schema_metadata(metadata), path, row_group_size=row_group_size)
    return path


def test_bytes(tmp_path):
    data = load_data(write(tmp_path / "set.parquet"))
    assert (data.name, data.split, data.labels.tolist(), data.num_classes) == ("set", "all", LABELS, 3)
    np.testing.assert_array_equal(data.images(), COLOUR.transpose(0, 3, 1, 2) / np.float32(255))


@pytest.mark.parametrize("limit", [1, 2, 3, 5, 9])
def test_limit_keeps_all_classes_known(tmp_path, limit):
    data = load_data(write(tmp_path / "set.parquet"), limit=limit)
    assert len(data) == len(data.images()) == min(limit, 5)
    assert data.num_classes == 3


def test_hugging_face_layout(tmp_path):
    features = {"label": {"names": ["cat", "dog", "eel", "fox"], "_type": "ClassLabel"}}
    path = write(
        tmp_path / "train-00000-of-00001.parquet",
        {"huggingface": json.dumps({"info": {"features": features}})},
        image=[{"bytes": item, "path": "x.png"} for item in ITEMS],
    )
    data = load_data(path)
    assert (data.split, data.class_names) == ("train", ("cat", "dog", "eel", "fox"))
    np.testing.assert_array_equal(data.images(), COLOUR.transpose(0, 3, 1, 2) / np.float32(255))


@pytest.mark.parametrize("declared", ["", "[]", "{}", '{"info": 3}', '{"info": {"features": {"label": {"names": 3}}}}'])
def test_schema_that_declares_nothing(tmp_path, declared):
    assert load_data(write(tmp_path / "set.parquet", {"huggingface": declared})).class_names == ("0", "1", "2")


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["cat", "dog", "cat", "dog", "eel"], ("cat", "dog", "eel")),
        (["cat/1.jpg", "dog/1.jpg", "cat/2.jpg", "dog/2.jpg", "eel/1.jpg"], ("cat", "dog", "eel")),
        (["cat", "dog", "cat", "cat", "eel"], ("0", "1", "2")),
        (["cat", "dog", "cat", "dog", "cat"], ("0", "1", "2")),
        (["a.png", "b.png", "a.png", "b.png", "c.png"], ("0", "1", "2")),
        (["cat", "dog", "cat", None, "eel"], ("0", "1", "2")),
    ],
)
def test_class_names_from_a_name_column(tmp_path, names, expected):
    assert load_data(write(tmp_path / "set.parquet", name=names)).class_names == expected


def test_string_labels_and_groups(tmp_path):
    path = write(tmp_path / "set.parquet", label=list("dacad"), sex=["f", "m", None, "f", "m"])
    data = load_data(path, group="sex")
    assert data.class_names == ("a", "c", "d")
    assert data.groups.tolist() == ["f", "m", "unknown", "f", "m"]
    with pytest.raises(DataError, match="Did you mean 'sex'"):
        load_data(path, group="sexx")


def test_dictionary_encoded_labels(tmp_path):
    path = write(tmp_path / "set.parquet", label=pa.array(list("dacad")).dictionary_encode())
    assert load_data(path).class_names == ("a", "c", "d")


def test_splits_and_shards(tmp_path):
    write(tmp_path / "test.parquet")
    write(tmp_path / "train-00000-of-00002.parquet")
    write(tmp_path / "train-00001-of-00002.parquet", label=[3, 3, 3, 3, 3])
    train = load_data(tmp_path, split="train")
    assert train.labels.tolist() == LABELS + [3] * 5
    assert len(train.images()) == 10
    test = load_data(tmp_path)
    assert (test.split, test.num_classes, len(test)) == ("test", 4, 5)
    assert load_data(tmp_path / "test.parquet").name == tmp_path.name
    with pytest.raises(DataError, match="no split 'train'"):
        load_data(tmp_path / "test.parquet", split="train")


@pytest.mark.parametrize(
    ("columns", "options", "message"),
    [
        ({"label": [0, 1, -1, 0, 1]}, {}, "negative"),
        ({"label": [0, 1, None, 0, 1]}, {}, "1 of 5 labels are missing"),
        ({"label": [0.5, 1.0, 0.0, 0.0, 1.0]}, {}, "not whole numbers"),
        ({"image": ["a.png"] * 5}, {}, "is of type string"),
        ({"image": [[1, 2]] * 5}, {}, "encoded images"),
        ({"image": [*ITEMS[:4], None]}, {}, "Row 4 of .* holds no image"),
        ({"image": [*ITEMS[:4], b""]}, {}, "Row 4 of .* cannot be read as an image"),
        ({}, {"images_key": "imag"}, "Did you mean 'image'"),
        ({}, {"labels_key": "lable"}, "Did you mean 'label'"),
    ],
)
def test_bad_contents(tmp_path, columns, options, message):
    with pytest.raises(DataError, match=message) as caught:
        load_data(write(tmp_path / "set.parquet", **columns), **options)
    assert "set.parquet" in str(caught.value)


def test_missing_columns_are_listed(tmp_path):
    pq.write_table(pa.table({"photo": ITEMS, "species": LABELS}), tmp_path / "set.parquet")
    with pytest.raises(DataError, match=r"There are: 'photo', 'species'\. Say which with images_key"):
        load_data(tmp_path / "set.parquet")
    assert len(load_data(tmp_path / "set.parquet", images_key="photo", labels_key="species")) == 5


def test_shards_that_differ(tmp_path):
    write(tmp_path / "train-0.parquet")
    pq.write_table(pa.table({"image": ITEMS}), tmp_path / "train-1.parquet")
    with pytest.raises(DataError, match=r"train-1\.parquet' has no 'label'"):
        load_data(tmp_path)


def test_no_rows(tmp_path):
    empty = pa.table({"image": pa.array([], pa.binary()), "label": pa.array([], pa.int64())})
    pq.write_table(empty, tmp_path / "set.parquet")
    with pytest.raises(DataError, match="empty"):
        load_data(tmp_path / "set.parquet")


def test_truncation(tmp_path):
    path = write(tmp_path / "set.parquet")
    path.write_bytes(path.read_bytes()[:-50])
    with pytest.raises(DataError, match=r"set\.parquet.*cannot be read as parquet"):
        load_data(path)


def test_one_byte_changes_the_digest(tmp_path):
    before = load_data(write(tmp_path / "a.parquet")).digest
    assert load_data(write(tmp_path / "b.parquet")).digest == before
    assert load_data(write(tmp_path / "b.parquet", image=[*ITEMS[:4], ITEMS[0]])).digest != before
    assert load_data(write(tmp_path / "b.parquet", label=[0, 1, 0, 1, 1])).digest != before


def test_sixty_thousand_images_are_decoded_once_and_kept_as_bytes(tmp_path, monkeypatch):
    count = 60_000
    small = [png(np.full((8, 8), value)) for value in range(250)]
    path = write(
        tmp_path / "train.parquet",
        row_group_size=10_000,
        image=pa.array([small[row % 250] for row in range(count)]),
        label=np.arange(count) % 10,
    )
    calls = []
    real = encoded.decode
    monkeypatch.setattr(encoded, "decode", lambda *given: calls.append(1) or real(*given))
    data = load_data(path)
    first, rest = data.subset(slice(0, 500)), data.subset(slice(0, None, 50))
    for view in (first, rest, first):
        assert view.images().dtype == np.float32
    assert len(calls) == len(set(first.rows.tolist()) | set(rest.rows.tolist()))
    cache = data.pixels._cache
    assert (cache.dtype, cache.nbytes) == (np.uint8, count * 64)
    assert rest.pixels is data.pixels


def test_cifar10(shared_data):
    data = load_data(shared_data / "cifar10_jpeg", limit=2000)
    assert (data.name, data.split, data.shape, len(data)) == ("cifar10_jpeg", "test", (3, 32, 32), 2000)
    assert data.class_names[3] == "cat"
    assert data.labels[:4].tolist() == [3, 8, 1, 0]
    images = data.images([0, 1999])
    assert images.shape == (2, 3, 32, 32)
    assert 0 <= images.min() < 0.2 < 0.8 < images.max() <= 1
    assert data.digest == load_data(shared_data / "cifar10_jpeg" / "test.parquet").head(2000).digest


def test_faces_with_groups(shared_data):
    data = load_data(shared_data / "utkface_balanced" / "faces.parquet", labels_key="gender", group="race", limit=20)
    assert data.shape == (3, 200, 200)
    assert data.groups[0] == "0"


def test_mixed_sizes(shared_data):
    path = shared_data / "imagenet_sample_224" / "images.parquet"
    with pytest.raises(DataError, match="Give image_size"):
        load_data(path, limit=50)
    data = load_data(path, limit=50, image_size=64)
    assert (data.shape, data.num_classes) == ((3, 64, 64), 1000)
    assert data.images([49]).shape == (1, 3, 64, 64)
