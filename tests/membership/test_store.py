"""Answers on disk: asked once, whole or absent, never those of another model or other queries."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from assay import Classification, Target, load_data
from assay.core.errors import InputError, ModelError, RunError
from assay.membership import store as module
from assay.membership.queries import PlainQueries
from assay.membership.store import AnswerStore


class Counting(nn.Module):
    def __init__(self, classes: int = 10, seed: int = 0) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.linear = nn.Linear(64, classes)
        self.asked = 0

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        self.asked += len(images)
        out: torch.Tensor = self.linear(images.flatten(1))
        return out


def model(classes: int = 10, seed: int = 0) -> tuple[Target, Counting]:
    net = Counting(classes, seed)
    return Target(net.eval(), task=Classification(num_classes=classes)), net


def queries(count: int = 3, limit: int = 20) -> PlainQueries:
    return PlainQueries(load_data("digits", limit=limit), count, augment="crop-flip" if count > 1 else "none")


def test_answers_are_the_models_own(tmp_path: Path) -> None:
    target, _ = model()
    asked = queries()
    answers = AnswerStore(tmp_path, asked, classes=10).ask("one", target)
    assert isinstance(answers, np.memmap)
    assert answers.dtype == np.float32
    assert answers.shape == (20, 3, 10)
    images = asked.of(np.arange(20))
    np.testing.assert_allclose(answers[:, 1], target.predict(images[:, 1]).numpy(), rtol=1e-5)


def test_a_model_is_asked_once_also_by_another_process(tmp_path: Path) -> None:
    target, net = model()
    first = AnswerStore(tmp_path, queries(), classes=10).ask("one", target)
    passes = net.asked
    again = AnswerStore(tmp_path, queries(), classes=10)
    assert "one" in again
    assert "two" not in again
    np.testing.assert_array_equal(again.ask("one", target), first)
    assert net.asked == passes


@pytest.mark.parametrize("damage", ["flip", "cut", "longer"])
def test_a_damaged_file_is_seen_and_asked_again(tmp_path: Path, damage: str) -> None:
    target, _ = model()
    store = AnswerStore(tmp_path, queries(), classes=10)
    before = np.array(store.ask("one", target))
    [path] = store.folder.glob("one.*.npy")
    content = bytearray(path.read_bytes())
    content[-5] ^= 1
    changed = {"flip": bytes(content), "cut": bytes(content[:-7]), "longer": b"x" + bytes(content)}[damage]
    path.write_bytes(changed)
    again = AnswerStore(tmp_path, queries(), classes=10)
    assert "one" not in again
    assert again.dropped == ["one"]
    np.testing.assert_array_equal(again.ask("one", target), before)


def test_a_file_under_another_models_name_is_not_taken(tmp_path: Path) -> None:
    target, _ = model()
    store = AnswerStore(tmp_path, queries(), classes=10)
    store.ask("one", target)
    [path] = store.folder.glob("one.*.npy")
    path.rename(path.with_name(path.name.replace("one", "two")))
    assert "two" not in AnswerStore(tmp_path, queries(), classes=10)


def test_a_writer_that_was_killed_leaves_nothing_that_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target, _ = model()
    store = AnswerStore(tmp_path, queries(), classes=10)

    def killed(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(module.os, "replace", killed)
    monkeypatch.setattr(module.Path, "unlink", lambda self, missing_ok=False: None)
    with pytest.raises(KeyboardInterrupt):
        store.ask("one", target)
    monkeypatch.undo()
    assert len(list(store.folder.glob(".*.tmp"))) == 1
    again = AnswerStore(tmp_path, queries(), classes=10)
    assert "one" not in again
    assert not list(store.folder.glob(".*.tmp"))


def test_a_full_disk_is_an_error_that_keeps_what_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target, _ = model()
    store = AnswerStore(tmp_path, queries(), classes=10)
    store.ask("one", target)

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(module.os, "fsync", full)
    with pytest.raises(RunError, match="No space left"):
        store.ask("two", target)
    monkeypatch.undo()
    assert "one" in AnswerStore(tmp_path, queries(), classes=10)
    assert not list(store.folder.glob(".*.tmp"))


def test_other_queries_have_another_place(tmp_path: Path) -> None:
    target, _ = model()
    stores = [AnswerStore(tmp_path, queries(count), classes=10) for count in (1, 3)]
    for store in stores:
        store.ask("one", target)
    assert stores[0].folder != stores[1].folder
    assert [store.get("one").shape[1] for store in stores] == [1, 3]
    with pytest.raises(RunError, match="other queries"):
        AnswerStore(tmp_path, queries(1), classes=9)


def test_a_model_of_other_classes_is_refused(tmp_path: Path) -> None:
    target, _ = model(classes=7)
    with pytest.raises(ModelError, match="7 classes apart, the others 10"):
        AnswerStore(tmp_path, queries(), classes=10).ask("one", target)


def test_what_is_not_there_cannot_be_got(tmp_path: Path) -> None:
    store = AnswerStore(tmp_path, queries(), classes=10)
    with pytest.raises(RunError, match="no answers"):
        store.get("one")
    with pytest.raises(InputError, match="letters"):
        store.put("a/b", np.zeros(store.shape))
    with pytest.raises(InputError, match=r"\(20, 3, 10\) is needed"):
        store.put("a", np.zeros((1, 3, 10)))
