"""A reduced run of the benchmark of encoders: all ways do the same work, and its table is whole."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch

from tests.benchmarks.test_peers import FOLDER


@pytest.fixture
def benchmark(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> ModuleType:
    monkeypatch.syspath_prepend(str(FOLDER))
    spec = importlib.util.spec_from_file_location("encoders_benchmark", FOLDER / "encoders.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.delitem(sys.modules, "models", raising=False)
    for name, value in {"CACHE": tmp_path, "STEPS": 2, "CROP": 32, "STRIDE": 21, "SIDE": 64}.items():
        monkeypatch.setattr(module, name, value)
    return module


def test_every_table_has_its_rows(benchmark: ModuleType) -> None:
    rows = {
        "embedding": list(benchmark.rows_embedding(1, [(4, 32)])),
        "segmentation": list(benchmark.rows_segmentation(1, count=2, training=2)),
        "heads": list(benchmark.rows_heads(1, count=8, side=32, epochs=2)),
    }
    assert {name: len(found) for name, found in rows.items()} == {"embedding": 1, "segmentation": 5, "heads": 1}
    for name, found in rows.items():
        assert {row.count("|") for row in found} == {benchmark.HEADS[name].count("|")}


def test_the_plain_answer_is_the_average_that_assay_attacks(benchmark: ModuleType) -> None:
    network, classes = benchmark.segmenter(steps=2)
    x, _ = benchmark.scenes(2, benchmark.SIDE)
    sliding = benchmark.SlidingWindow(network, benchmark.CROP, benchmark.STRIDE)
    with torch.no_grad():
        assert torch.allclose(benchmark.whole_answer(network, x, published=False), sliding(x), atol=1e-5)
        published = benchmark.whole_answer(network, x, published=True)
    assert published.shape[1] == classes
    assert torch.allclose(published.sum(1), torch.ones(()), atol=1e-5), "softmax outputs sum to 1 and are no logits"


def test_published_batches_repeat_all_windows_that_follow(
    benchmark: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(benchmark, "SIDE", 4 * benchmark.CROP)
    monkeypatch.setattr(benchmark, "STRIDE", benchmark.CROP)
    crops: list[int] = []

    def counting(images: torch.Tensor) -> torch.Tensor:
        crops.append(len(images))
        return images.mean(1, keepdim=True)

    x = torch.rand(1, 3, benchmark.SIDE, benchmark.SIDE)
    for published, wanted in ((False, 16), (True, 40)):
        crops.clear()
        benchmark.whole_answer(counting, x, published)
        assert sum(crops) == wanted
