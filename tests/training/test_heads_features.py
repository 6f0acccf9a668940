from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from assay.core.errors import DataError, ModelError, RunError, SettingError
from assay.core.files import Lock
from assay.data import DenseDataset, load_dense
from assay.subjects import Encoder, encoder
from assay.training.heads import cache_features, features


@pytest.fixture(scope="module")
def scenes() -> DenseDataset:
    return load_dense("scenes", split="train", limit=21, image_size=32)


@pytest.fixture(scope="module")
def small() -> Encoder:
    return encoder("network:resnet-micro", image_size=32)


@pytest.fixture
def pieces_of_eight(monkeypatch: pytest.MonkeyPatch) -> None:
    """21 images are three pieces, the last one shorter."""
    monkeypatch.setattr(features, "_PIECE_BYTES", 1)


@pytest.fixture
def encoded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The images that are encoded from now on."""
    seen: list[int] = []
    original = features._encoded

    def counted(*arguments: object) -> dict[str, np.ndarray]:
        seen.extend(arguments[2].tolist())  # type: ignore[attr-defined]
        return original(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(features, "_encoded", counted)
    return seen


@pytest.mark.parametrize("folder", [False, True])
@pytest.mark.parametrize("batch_size", [5, 64])
def test_features_are_those_of_the_encoder(
    scenes: DenseDataset, small: Encoder, batch_size: int, folder: bool, tmp_path: Path
) -> None:
    store = cache_features(small, scenes, batch_size=batch_size, folder=tmp_path if folder else None)
    expected = small.features(torch.from_numpy(scenes.images()))
    chosen = np.array([20, 3, 3])
    read = store.read(chosen)
    assert len(store) == 21
    assert torch.equal(read.embedding, expected.embedding[chosen])
    assert torch.equal(read.patches, expected.patches[chosen])


def test_only_what_is_asked_for_is_held(scenes: DenseDataset, small: Encoder) -> None:
    read = cache_features(small, scenes, space="global").read(np.arange(2))
    assert read.embedding.shape == (2, 128)
    assert read.patches.shape == (2, 0, 0, 0)
    read = cache_features(small, scenes, space="patch").read(np.arange(2))
    assert read.embedding.shape == (2, 0)
    assert read.patches.shape == (2, 128, 4, 4)


def test_a_second_call_computes_nothing(
    scenes: DenseDataset, small: Encoder, tmp_path: Path, encoded: list[int]
) -> None:
    assert cache_features(small, scenes, space="patch", folder=tmp_path).computed == 21
    del encoded[:]
    again = cache_features(small, scenes, space="both", folder=tmp_path)  # the embedding came with the patches
    assert (again.computed, encoded) == (0, [])
    assert not list(tmp_path.glob("**/.*.tmp"))


@pytest.mark.usefixtures("pieces_of_eight")
def test_what_was_whole_before_a_stop_is_kept(
    scenes: DenseDataset, small: Encoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, encoded: list[int]
) -> None:
    whole = cache_features(small, scenes)
    written = features._Column.write

    def killed(column: features._Column, place: int, values: np.ndarray) -> None:
        if place == 1:
            raise KeyboardInterrupt
        written(column, place, values)

    monkeypatch.setattr(features._Column, "write", killed)
    with pytest.raises(KeyboardInterrupt):
        cache_features(small, scenes, folder=tmp_path)
    monkeypatch.setattr(features._Column, "write", written)
    del encoded[:]
    store = cache_features(small, scenes, folder=tmp_path)
    assert encoded == list(range(8, 21))
    assert np.array_equal(np.asarray(store.patches), whole.patches)  # type: ignore[arg-type]
    assert np.array_equal(np.asarray(store.embedding), whole.embedding)  # type: ignore[arg-type]


@pytest.mark.usefixtures("pieces_of_eight")
@pytest.mark.parametrize("damage", ["bit", "truncated", "garbled", "missing", "other"])
def test_damage_is_repaired(
    damage: str, scenes: DenseDataset, small: Encoder, tmp_path: Path, encoded: list[int]
) -> None:
    store = cache_features(small, scenes, folder=tmp_path)
    expected = np.array(store.patches)
    assert store.folder is not None
    array, state = store.folder / "patches.npy", store.folder / "patches.json"
    del store, encoded[:]
    if damage == "bit":
        content = bytearray(array.read_bytes())
        content[-1] ^= 1
        array.write_bytes(content)
    elif damage == "truncated":
        array.write_bytes(array.read_bytes()[:-100])
    elif damage == "garbled":
        state.write_text("{")
    elif damage == "missing":
        array.unlink()
    else:
        state.write_text(json.dumps({**json.loads(state.read_text()), "piece": 0}))
    again = cache_features(small, scenes, folder=tmp_path)
    assert np.array_equal(np.asarray(again.patches), expected)  # type: ignore[arg-type]
    images = [image for image in encoded if image or damage == "bit"]  # the first shows the shape of a new array
    assert sorted(set(images) | {0}) == ([0, *range(16, 21)] if damage == "bit" else list(range(21)))


def test_other_encoders_data_and_sizes_have_their_own_place(
    scenes: DenseDataset, small: Encoder, tmp_path: Path
) -> None:
    other = encoder("network:resnet-micro", image_size=32, mean=[0.5] * 3, std=[0.5] * 3)
    larger = load_dense("scenes", split="train", limit=21, image_size=40)
    for model, data in ((small, scenes), (other, scenes), (small, scenes.head(3)), (small, larger)):
        assert cache_features(model, data, space="global", folder=tmp_path).computed == len(data)
    assert len(list(tmp_path.iterdir())) == 4


def test_two_processes_do_not_fill_one_folder(scenes: DenseDataset, small: Encoder, tmp_path: Path) -> None:
    store = cache_features(small, scenes, space="global", folder=tmp_path)
    assert store.folder is not None
    lock = Lock(store.folder)
    assert cache_features(small, scenes, space="global", folder=tmp_path).computed == 0  # reading is allowed
    with pytest.raises(RunError, match="Another process"):
        cache_features(small, scenes, space="patch", folder=tmp_path)
    lock.release()


def test_features_that_do_not_fit_in_memory_are_refused(
    scenes: DenseDataset, small: Encoder, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(features.psutil, "virtual_memory", lambda: SimpleNamespace(available=1000))
    with pytest.raises(DataError, match="Name a folder"):
        cache_features(small, scenes)
    assert cache_features(small, scenes, folder=tmp_path).computed == 21


def test_what_cannot_be_encoded_is_named(scenes: DenseDataset, small: Encoder, tmp_path: Path) -> None:
    with pytest.raises(SettingError, match="Did you mean 'patch'"):
        cache_features(small, scenes, space="patches")
    with pytest.raises(DataError, match="empty"):
        cache_features(small, scenes.subset([]))
    with pytest.raises(ModelError, match="multiples of 8"):
        cache_features(small, load_dense("scenes", limit=2, image_size=36))
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="Cannot write"):
        cache_features(small, scenes, folder=tmp_path / "file")
