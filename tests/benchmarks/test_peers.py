"""A reduced run of every benchmark, so that they cannot rot: tiny networks, few images, no clock."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch

from assay import Classification, Normalize, Target
from assay.subjects import build_network

FOLDER = Path(__file__).resolve().parents[2] / "benchmarks"
PACKAGES = {"assay": "assay", "foolbox": "foolbox", "torchattacks": "torchattacks", "art": "art"}


@pytest.fixture(scope="module")
def peers():
    sys.path.insert(0, str(FOLDER))
    try:
        spec = importlib.util.spec_from_file_location("peers", FOLDER / "peers.py")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        yield module
    finally:
        sys.path.remove(str(FOLDER))


@pytest.fixture(scope="module")
def subject() -> Target:
    torch.manual_seed(0)
    network = build_network("small-cnn", in_channels=3, num_classes=10, image_size=32).eval()
    return Target(network, task=Classification(10), preprocess=Normalize([0.5] * 3, [0.25] * 3))


@pytest.mark.parametrize("library", sorted(PACKAGES))
def test_every_library_attacks_inside_the_ball(peers: ModuleType, subject: Target, library: str) -> None:
    if importlib.util.find_spec(PACKAGES[library]) is None:
        pytest.skip(f"{library} is not installed; 'make bench' installs it into an environment of its own")
    images = torch.rand(4, 3, 32, 32)
    labels = subject.predict(images).argmax(1)
    module = peers.WithNormalisation(subject).eval()
    adversarial = peers.LIBRARIES[library](subject, module, "pgd-20", 8 / 255)(images, labels)
    change = (adversarial - images).abs().max()
    assert 0 < change <= 8 / 255 + 1e-6
    assert peers.WithNormalisation(subject)(images).shape == (4, 10)


def test_the_wrapped_model_answers_as_the_target(peers: ModuleType, subject: Target) -> None:
    images = torch.rand(8, 3, 32, 32)
    assert torch.allclose(peers.WithNormalisation(subject).eval()(images), subject.logits(images), atol=1e-5)
