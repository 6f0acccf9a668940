"""A reduced run of the benchmark of pools: few models and records, no clock."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
import torch

from assay.pools import Pool
from assay.subjects.networks import NETWORKS

FILE = Path(__file__).resolve().parents[2] / "benchmarks" / "pools.py"


@pytest.fixture(scope="module")
def benchmark() -> Iterator[ModuleType]:
    spec = importlib.util.spec_from_file_location("pools_benchmark", FILE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["pools_benchmark"] = module
    spec.loader.exec_module(module)
    yield module
    del NETWORKS["mlp-128"]


def test_every_variant_trains_all_models(benchmark: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    trained: list[int] = []
    real, loop = Pool.train, benchmark.plain

    def train(pool: Pool, *args: object, **options: object) -> Pool:
        assert real(pool, *args, **options).complete  # type: ignore[arg-type]
        trained.append(len(pool))
        return pool

    def plain(pool: Pool, fused: bool = False) -> None:
        trained.append(len(loop(pool, fused)))

    monkeypatch.setattr(Pool, "train", train)
    monkeypatch.setattr(benchmark, "plain", plain)
    problem = benchmark.Problem("mlp-128", 40, (6, 5), 4, epochs=1)
    times, words = benchmark.mlps(problem, models=4, rounds=1)
    assert trained == [4, 4, 4, 4]
    assert list(times) == list(benchmark.VARIANTS)
    assert "Models are trained" in words
    text = benchmark.table(times)
    assert text.count("\n| ") == len(times)
    assert text.splitlines()[2].endswith("| 1.00x | 1.00x |")


def test_the_plain_loop_learns_as_the_library_does(benchmark: ModuleType, tmp_path: Path) -> None:
    problem = benchmark.Problem("mlp-128", 80, (6, 5), 4, epochs=6)
    pool = benchmark.planned(problem, tmp_path / "pool", "sequential", 2)
    images, labels = pool.data.images(), pool.data.labels
    x = torch.from_numpy(images)
    x = (x - x.mean()) / x.std()
    for model in benchmark.plain(pool):
        with torch.no_grad():
            assert (model(x).argmax(1).numpy() == labels).mean() > 0.9
