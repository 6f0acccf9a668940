"""A reduced run of the benchmark of private steps: small batches, one round, and all variants do the same work."""

from __future__ import annotations

import importlib.util
from types import ModuleType

import pytest
import torch

from assay.subjects.networks import build_network
from tests.benchmarks.test_peers import FOLDER

pytestmark = [pytest.mark.filterwarnings("ignore:.*")]  # of Opacus and of hooks it registers


@pytest.fixture(scope="module")
def benchmark() -> ModuleType:
    spec = importlib.util.spec_from_file_location("private_step", FOLDER / "private_step.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_variant_takes_its_turn(benchmark: ModuleType) -> None:
    pytest.importorskip("opacus")
    seconds = benchmark.measure("dp-cert-cnn", batch=4, rounds=1)
    assert set(seconds) == set(benchmark.VARIANTS)
    assert all(len(values) == 1 for values in seconds.values())
    text = benchmark.table("dp-cert-cnn", seconds, 4)
    assert text.count("\n| ") == len(seconds) + 1
    assert "| plain SGD |" in text


@pytest.mark.parametrize("variant", ["assay layers-channels-last", "opacus hooks", "opacus ghost"])
def test_private_steps_move_the_parameters_alike(
    benchmark: ModuleType, variant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without noise, every library's step is the one of the loop."""
    pytest.importorskip("opacus")
    monkeypatch.setattr(benchmark, "NOISE", 0.0)
    torch.manual_seed(0)
    x, y = torch.randn(4, 1, 28, 28), torch.tensor([0, 1, 2, 3])
    moved = []
    for build in (benchmark.VARIANTS[variant], lambda *args: benchmark.assay(*args, backend="loop")):
        torch.manual_seed(1)
        network = build_network("dp-cert-cnn", in_channels=1, num_classes=10, image_size=28)
        build(network, x, y)(x, y)
        moved.append(torch.cat([value.detach().flatten() for value in network.parameters()]))
    torch.testing.assert_close(moved[0], moved[1], rtol=1e-5, atol=1e-7)
