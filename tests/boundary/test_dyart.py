"""The recipe DyART: its step is its loss at the boundary points of the model it trains."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from assay.boundary import DyART, dyart_loss
from assay.boundary.presets import PRESETS
from assay.boundary.weights import WeightLog
from assay.core.settings import build
from assay.data import Dataset, load_data
from assay.training import TrainSettings, train
from assay.training.batches import Batch
from assay.training.job import make_job
from assay.training.loop import Session
from assay.training.state import TrainState

QUICK = {"burn_in": 0.0, "r0": 0.3, "weight": 2.0, "steps": 6}


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return load_data("digits", split="train").head(96)


@contextmanager
def ready(recipe: DyART, digits: Dataset, network: str = "mlp", warm: int = 20) -> Iterator[tuple[TrainState, Batch]]:
    """A state after some steps of plain training, about to take a step on a batch of 16."""
    settings = TrainSettings(epochs=50, batch_size=16)
    session = Session.of(make_job(recipe, data=digits, network=network, settings=settings))
    with session.prepared() as state:
        batch = next(session.batches().epoch(0))
        optimizer = torch.optim.SGD(state.network.parameters(), lr=0.2)
        for _ in range(warm):
            optimizer.zero_grad()
            nn.functional.cross_entropy(state.model(batch.images), batch.labels).backward()
            optimizer.step()
        state.begin_step()
        yield state, batch


def gradients(state: TrainState) -> dict[str, Tensor]:
    return {name: p.grad.clone() for name, p in state.network.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_a_step_is_the_loss_at_the_boundary_points(digits: Dataset, norm: str) -> None:
    recipe = DyART(**QUICK | {"norm": norm, "r0": 0.3 if norm == "linf" else 2.0})
    with ready(recipe, digits) as (state, batch):
        values = recipe.step(state, batch)
        mine = gradients(state)
        state.optimizer.zero_grad()
        found = recipe.search(state, batch)
        assert 0 < len(found.rows) <= 16
        points, distance = batch.images.clone(), torch.full((16,), torch.inf)
        points[found.rows], distance[found.rows] = found.points, found.distance
        counts = torch.zeros(16, dtype=torch.bool).index_fill(0, found.rows, True)
        loss, parts = dyart_loss(
            state.model,
            batch.images,
            batch.labels,
            points,
            distance,
            counts,
            recipe.alpha,
            recipe.r0,
            recipe.weight,
            norm=norm,
        )
        loss.backward()
        torch.testing.assert_close(values["loss"], loss)
        torch.testing.assert_close(values["boundary_loss"], parts["boundary"])
        for name, gradient in gradients(state).items():
            torch.testing.assert_close(mine[name], gradient)
        assert float(values["within"]) == len(found.rows) / 16


def test_frozen_and_joint_statistics_agree_without_batch_norm(digits: Dataset) -> None:
    found = {}
    for how in ("frozen", "joint"):
        recipe = DyART(**QUICK, batch_statistics=how)
        with ready(recipe, digits) as (state, batch):
            recipe.step(state, batch)
            found[how] = gradients(state)
    for name, gradient in found["frozen"].items():
        torch.testing.assert_close(found["joint"][name], gradient, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("how", ["frozen", "joint"])
def test_batch_statistics_are_updated_once_a_step(digits: Dataset, how: str) -> None:
    recipe = DyART(**QUICK, batch_statistics=how)
    with ready(recipe, digits, network="resnet14", warm=3) as (state, batch):
        counters = [m for m in state.network.modules() if isinstance(m, nn.BatchNorm2d)]
        before = [int(m.num_batches_tracked) for m in counters]
        recipe.step(state, batch)
        assert [int(m.num_batches_tracked) - earlier for m, earlier in zip(counters, before, strict=True)] == (
            [1] * len(counters)
        )
        assert state.model.training


def test_the_burn_in_is_plain_training_and_a_share_of_the_epochs_by_default(digits: Dataset) -> None:
    recipe = DyART(r0=0.3)
    with ready(recipe, digits) as (state, batch):
        assert state.settings.epochs == 50
        for step, burning in [(0, True), (29, True), (30, False)]:
            state.step = step
            assert recipe.burning_in(state) is burning
        state.step = 0
        forward, backward = state.cost.forward, state.cost.backward
        values = recipe.step(state, batch)
        assert (state.cost.forward - forward, state.cost.backward - backward) == (16, 16)
        assert set(values) == {"loss"}


def test_a_batch_without_boundary_points_is_plain_training(digits: Dataset) -> None:
    recipe = DyART(**QUICK)
    with ready(recipe, digits, network="linear", warm=0) as (state, batch):
        nn.init.zeros_(state.network[1].weight)
        values = recipe.step(state, batch)
        assert float(values["boundary_loss"]) == 0
        assert all(torch.isfinite(g).all() for g in gradients(state).values())


def test_training_pushes_the_boundary_away_and_is_resumed_bit_for_bit(digits: Dataset, tmp_path: Path) -> None:
    settings = build(TrainSettings, {"epochs": 6, "batch_size": 16, "learning_rate": 0.05, "checkpoint_every": 2})
    recipe = DyART(**QUICK | {"burn_in": 2 / 6})

    def run(name: str, **changes: Any) -> Path:
        train(recipe, data=digits, network="mlp", settings=settings, out=tmp_path / name, **changes)
        return tmp_path / name

    whole = run("whole")
    history = [json.loads(line) for line in (whole / "history.jsonl").read_text().splitlines()]
    assert "training_within" not in history[1]
    assert history[-1]["training_within"] > 0
    assert history[-1]["weight_ratio"] >= 1
    record = json.loads((whole / "run.json").read_text())
    assert {"priority"} <= {finding["code"] for finding in record["findings"]}
    assert run("again").joinpath("model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes()


def test_the_weights_of_an_epoch_survive_a_checkpoint() -> None:
    recipe = DyART(**QUICK)
    log = WeightLog(recipe.priority)
    log.note(torch.tensor([0.1, 0.2]), torch.tensor([2.0, 1.0]))
    other = WeightLog(recipe.priority)
    other.load_state_dict(log.state_dict())
    for one in (log, other):
        one.note(torch.tensor([0.05]), torch.tensor([4.0]))
    assert log.columns() == other.columns()
    assert log.columns() == {}  # a new epoch begins


@pytest.mark.parametrize("name", PRESETS)
def test_presets_are_settings_that_exist(name: str) -> None:
    preset = PRESETS[name]
    assert build(DyART, preset.recipe).burn_in in (0.05, 0.1, 0.2)
    assert build(TrainSettings, preset.training).ema == 0.995
