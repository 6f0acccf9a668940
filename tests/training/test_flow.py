"""The direction of a recipe's step is the one in which its training moves."""

from __future__ import annotations

import copy
import random
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from assay.core.errors import DataError, SettingError, Unsupported
from assay.data import Dataset
from assay.subjects import Classification, Target, load_target
from assay.training import Adversarial, Mart, Recipe, Standard, Trades, TrainSettings, train
from assay.training.batches import Batches
from assay.training.flow import flow
from assay.training.snapshots import read_moments

RECIPES = [Standard(label_smoothing=0.1), Adversarial(steps=2), Trades(steps=2), Mart(steps=2)]
SETTINGS = TrainSettings(
    epochs=3, batch_size=100, momentum=0, weight_decay=0, learning_rate=0.05, schedule="constant", watch=1
)


def in_order(data: Dataset, epoch: int, seed: int) -> tuple[Tensor, Tensor, list[int]]:
    """Images, labels and ids of an epoch's one batch."""
    batches = Batches(data, size=len(data), seed=seed, names=("training",), device=torch.device("cpu"))
    rows = batches.order(epoch).numpy()
    return torch.from_numpy(data.images(rows)), torch.from_numpy(data.labels[rows]), data.sample_ids[rows].tolist()


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: type(recipe).__name__)
@pytest.mark.parametrize(("network", "tolerance"), [("mlp", 1e-4), ("resnet14", 0.01)])
def test_flow_is_the_step_of_plain_gradient_descent(
    recipe: Recipe, network: str, tolerance: float, tmp_path: Path, digits: Dataset
) -> None:
    """With batch statistics a rounding difference moves a unit over the kink of its rectifier now and then."""
    train(recipe, data=digits, network=network, out=tmp_path / "m", settings=SETTINGS, seed=5)
    moment = read_moments(tmp_path / "m")[2]
    assert moment.next_file is not None
    target = load_target(f"run:{tmp_path / 'm'}")
    before, after = load_file(moment.file), load_file(moment.next_file)
    assert isinstance(target.model, nn.Module)
    target.model.load_state_dict(before)
    images, labels, ids = in_order(digits, 2, seed=5)
    found = flow(recipe, target, images, labels, step=2, steps_per_epoch=1, seed=5, sample_ids=ids)
    assert list(found) == [name for name, _ in target.model.named_parameters()]
    step = torch.cat([(after[name] - before[name]).flatten() / 0.05 for name in found])
    direction = torch.cat([value.flatten() for value in found.values()])
    assert (direction - step).norm() < tolerance * step.norm()


@pytest.fixture
def target() -> Target:
    """A small network with dropout, batch statistics and a frozen layer."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Flatten(), nn.Linear(64, 12), nn.BatchNorm1d(12), nn.Dropout(0.5), nn.ReLU(), nn.Linear(12, 10)
    )
    model[1].requires_grad_(False)
    return Target(model.eval(), task=Classification(num_classes=10))


def test_the_target_and_the_random_state_are_left_alone(target: Target, digits: Dataset) -> None:
    images, labels, ids = in_order(digits, 0, seed=0)
    assert isinstance(target.model, nn.Module)
    before = copy.deepcopy(target.model.state_dict())
    states = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].copy()  # type: ignore[index]
    first = flow(Adversarial(steps=1), target, images, labels, sample_ids=ids)
    assert torch.equal(torch.get_rng_state(), states[0])
    assert random.getstate() == states[1]
    assert (np.random.get_state()[1] == states[2]).all()  # type: ignore[index]
    assert all(torch.equal(value, before[name]) for name, value in target.model.state_dict().items())
    assert not any(module.training for module in target.model.modules())
    assert all(parameter.grad is None for parameter in target.model.parameters())
    again = flow(Adversarial(steps=1), target, images, labels, sample_ids=ids)
    assert all(torch.equal(value, again[name]) for name, value in first.items())
    assert first["1.weight"].abs().max() > 0
    assert not any(value.requires_grad for value in first.values())
    other = flow(Adversarial(steps=1), target, images, labels, sample_ids=ids, step=1)
    assert not torch.equal(first["1.weight"], other["1.weight"])


def test_a_part_without_influence_does_not_move(digits: Dataset) -> None:
    class Idle(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.used, self.idle = nn.Linear(64, 10), nn.Linear(3, 3)

        def forward(self, images: Tensor) -> Tensor:
            return self.used(images.flatten(1))

    images, labels, _ = in_order(digits, 0, seed=0)
    found = flow(Standard(), Target(Idle(), task=Classification(num_classes=10)), images, labels)
    assert not found["idle.weight"].any()
    assert found.keys() == {"used.weight", "used.bias", "idle.weight", "idle.bias"}
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    loss = nn.functional.cross_entropy(model(images), labels)
    expected = torch.autograd.grad(loss, list(model.parameters()))
    found = flow(Standard(), Target(model, task=Classification(num_classes=10)), images, labels)
    for value, gradient in zip(found.values(), expected, strict=True):
        assert torch.allclose(value, -gradient, atol=1e-7)


def test_what_cannot_be_stepped_on_says_why(target: Target, digits: Dataset) -> None:
    from assay.privacy import DPSGD

    images, labels, _ = in_order(digits, 0, seed=0)
    with pytest.raises(Unsupported, match="draws its batches itself"):
        flow(DPSGD(noise_multiplier=1.0), target, images, labels)
    task = Classification(num_classes=10)
    with pytest.raises(SettingError, match="no parameters"):
        flow(Standard(), Target(lambda inputs: inputs.flatten(1)[:, :10], task=task), images, labels)
    with pytest.raises(SettingError, match="bounds"):
        flow(Standard(), Target(target.model, task=task, bounds=(-1, 1)), images, labels)
    with pytest.raises(DataError, match="sample_ids has 3"):
        flow(Standard(), target, images, labels, sample_ids=[1, 2, 3])
