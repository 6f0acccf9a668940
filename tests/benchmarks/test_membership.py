"""A reduced run of the benchmark of membership: both ways do the same work, and its tables are whole."""

from __future__ import annotations

import importlib.util
from types import ModuleType

import pytest
import torch

from assay.membership import canary_queries
from tests.benchmarks.test_peers import FOLDER


@pytest.fixture
def benchmark(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    spec = importlib.util.spec_from_file_location("membership_benchmark", FOLDER / "membership.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    for name, value in {"STEPS": 3, "QUERIES": 2}.items():
        monkeypatch.setattr(module, name, value)
    return module


def test_every_table_has_its_rows(benchmark: ModuleType) -> None:
    rows = {
        "attack": list(benchmark.rows_attack(1, [(8, 40, 20)])),
        "canaries": list(benchmark.rows_canaries(1, [("linear", 8, 1, 4, 5)])),
    }
    assert {name: len(found) for name, found in rows.items()} == {"attack": 4, "canaries": 1}
    for name, found in rows.items():
        assert {row.count("|") for row in found} == {benchmark.HEADS[name].count("|")}


def test_the_loop_finds_what_assay_finds(benchmark: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """With two models there is nothing to draw, and without weight decay no origin to choose: the same queries."""
    monkeypatch.setattr(benchmark, "STEPS", 10)
    monkeypatch.setattr(benchmark, "QUERIES", 1)
    models, _, images, labels = benchmark.pool(("mlp", 8, 1, 2, 3))
    mask = torch.tensor([[True, False, True], [False, True, False]])
    plain = benchmark.plain_canaries(models, mask, images, labels)
    ours = canary_queries(
        models, mask, images, labels, queries=1, steps=10, epsilon=benchmark.EPSILON, weight_decay=0
    ).images
    # Weight decay moves the loop's pixels by lr w = 5e-5 a step at most.
    assert float((ours - plain).abs().mean()) < 1e-3
    assert float((plain - images[:, None]).abs().mean()) > 0.02
