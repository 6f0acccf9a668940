"""Whatever bytes a file holds, readers raise DataError or read it; nothing else."""

from __future__ import annotations

import contextlib
import gzip
import io
import shutil

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assay.core.errors import DataError
from assay.data import load_data

from .test_encoded import COLOUR, png
from .test_idx import encode


def valid_npz():
    file = io.BytesIO()
    np.savez_compressed(file, x=COLOUR, y=np.arange(5))
    return file.getvalue()


def valid_parquet():
    file = io.BytesIO()
    pq.write_table(pa.table({"image": [png(picture) for picture in COLOUR], "label": range(5)}), file)
    return file.getvalue()


LABELS = encode(np.arange(5))
VALID = {
    "set.npz": valid_npz(),
    "set.parquet": valid_parquet(),
    "set.csv": b"label,pixel0,pixel1,pixel2,pixel3\n0,1,2,3,4\n1,5,6,7,255\n",
    "images-idx3-ubyte": encode(COLOUR[:, :, :, 0]),
    "images-idx3-ubyte.gz": gzip.compress(encode(COLOUR[:, :, :, 0])),
    "folder/cat/a.png": png(COLOUR[0]),
    "folder/cat/a.jpg": png(COLOUR[0], kind="JPEG"),
    "folder/cat/a.gif": png(COLOUR[0], kind="GIF"),
    "folder/cat/a.tif": png(COLOUR[0], kind="TIFF"),
    "folder/cat/a.webp": png(COLOUR[0], kind="WEBP"),
}


def attempt(folder, name, content):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    (folder / "labels-idx1-ubyte").write_bytes(LABELS)
    (folder / "labels-idx1-ubyte.gz").write_bytes(gzip.compress(LABELS))
    spec = folder / "folder" if name.startswith("folder") else path
    try:
        data = load_data(spec)
        images = data.images()
        assert images.dtype == np.float32
        assert images.min() >= 0
        assert images.max() <= 1
        assert len(images) == len(data.labels) == len(data)
        assert data.labels.min() >= 0
        assert data.labels.max() < data.num_classes
        assert data.digest
    finally:
        shutil.rmtree(folder / "folder", ignore_errors=True)


@pytest.mark.parametrize("name", VALID)
def test_the_valid_files_are_valid(tmp_path, name):
    attempt(tmp_path, name, VALID[name])


@pytest.mark.parametrize("name", VALID)
@settings(max_examples=40)
@given(content=st.binary(max_size=300))
def test_random_bytes(tmp_path_factory, name, content):
    with contextlib.suppress(DataError):
        attempt(tmp_path_factory.getbasetemp(), name, content)


@pytest.mark.parametrize("name", VALID)
@settings(max_examples=60)
@given(data=st.data())
def test_damaged_files(tmp_path_factory, name, data):
    whole = bytearray(VALID[name])
    for _ in range(data.draw(st.integers(0, 3))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    end = data.draw(st.integers(0, len(whole)))
    with contextlib.suppress(DataError):
        attempt(tmp_path_factory.getbasetemp(), name, bytes(whole[:end] if data.draw(st.booleans()) else whole))


@pytest.mark.parametrize(
    "name", [name for name in VALID if not name.endswith((".csv", ".gif", ".webp", ".jpg", ".tif"))]
)
@settings(max_examples=30)
@given(data=st.data())
def test_truncation_is_always_noticed(tmp_path_factory, name, data):
    end = data.draw(st.integers(0, len(VALID[name]) - 13))
    with pytest.raises(DataError):
        attempt(tmp_path_factory.getbasetemp(), name, VALID[name][:end])


@pytest.mark.parametrize("name", ["set.csv", "set.tsv"])
@settings(max_examples=100)
@given(text=st.text(st.sampled_from('label,path\n\t"0123456789.-eéna\0'), max_size=80))
def test_random_tables(tmp_path_factory, name, text):
    with contextlib.suppress(DataError):
        attempt(tmp_path_factory.getbasetemp(), name, text.encode())
