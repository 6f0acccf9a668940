"""A reduced run of the certification benchmark: small images, few noisy copies, no clock."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch

from assay.certify import certify
from tests.certify.models import at_distance, convolutional, linear, pictures

FILE = Path(__file__).resolve().parents[2] / "benchmarks" / "certification.py"


@pytest.fixture(scope="module")
def certification() -> ModuleType:
    spec = importlib.util.spec_from_file_location("certification", FILE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["certification"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def test_one_radius_takes_far_fewer_passes_for_the_same_set(certification: ModuleType) -> None:
    images = at_distance(torch.tensor([0.1, 0.3, 0.75, 0.9, 1.5, 2.0, -0.2]))
    labels = torch.ones(7, dtype=torch.int64)
    fixed = certify(linear(), images, labels, sigma=0.5, n=20_000)
    found = certification.compare(linear(), images, labels, fixed, 0.5)
    assert found.differing == 0
    assert found.fixed.sum() == 4
    assert found.times_fewer > 10


def test_both_loops_count_the_same_number_of_votes(certification: ModuleType) -> None:
    target, image = convolutional("tiny-cnn", 16), pictures(1)[0]
    plain = certification.plain_votes(target.model, image, 0.5, 250, 100)
    assert plain.sum() == 250
    paces = certification.pace(target, image, n=64, rounds=1)
    assert len(paces) == 4
    assert all(len(values) == 1 for values in paces.values())
