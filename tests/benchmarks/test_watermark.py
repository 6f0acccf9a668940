"""A reduced run of the benchmark of watermarks: both sides do the same work, and every table is whole."""

from __future__ import annotations

import importlib.util
from types import ModuleType

import numpy as np
import pytest
import torch

from tests.benchmarks.test_peers import FOLDER

pytest.importorskip("transformers")


@pytest.fixture(scope="module")
def benchmark() -> ModuleType:
    spec = importlib.util.spec_from_file_location("watermark_benchmark", FOLDER / "watermark.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.VOCABULARY = 997
    return module


@pytest.mark.parametrize("scheme", ["hf-lefthash", "hf-selfhash"])
def test_both_processors_give_the_same_scores(benchmark: ModuleType, scheme: str) -> None:
    ids, scores = benchmark.contexts(1, 3, 2)
    for row in ids:
        expected = benchmark.theirs(scheme, 77)(row, scores)
        assert torch.equal(benchmark.ours(scheme, 77).processor()(row, scores), expected)
        assert not torch.equal(expected, scores)


@pytest.mark.parametrize("scheme", ["hf-lefthash", "hf-selfhash"])
def test_both_detectors_give_the_same_z(benchmark: ModuleType, scheme: str) -> None:
    ids = benchmark.documents(1, 3, 40)
    expected = benchmark.their_detector(scheme, 77)(torch.from_numpy(ids), return_dict=True)
    found = benchmark.ours(scheme, 77).detect_many(list(ids))
    assert [d.z for d in found] == pytest.approx(expected.z_score.tolist())


def test_every_round_is_cold(benchmark: ModuleType) -> None:
    rounds = [benchmark.contexts(number, 4, 5) for number in (1, 2)]
    last = rounds[0][0][..., -1].flatten()
    assert len(set(last.tolist())) == len(last)
    assert not torch.equal(rounds[0][0], rounds[1][0])
    assert not np.array_equal(benchmark.documents(1, 2, 30), benchmark.documents(2, 2, 30))


def test_every_table_has_its_rows(benchmark: ModuleType) -> None:
    rows = {
        "processor": list(benchmark.rows_processor(1, 1, batches=(2,), calls=2)),
        "selfhash": list(benchmark.rows_selfhash(1, 1, batches=(2,), calls=2)),
        "detection": list(benchmark.rows_detection(1, 1, count=2, length=20, many=2)),
        "scan": list(benchmark.rows_scan(1, 1, count=2, length=30)),
    }
    assert set(rows) == set(benchmark.PARTS)
    assert {name: len(found) for name, found in rows.items()} == {
        "processor": 1, "selfhash": 1, "detection": 4, "scan": 2,
    }  # fmt: skip
    for name, found in rows.items():
        assert {row.count("|") for row in found} == {benchmark.HEADS[name].count("|")}
