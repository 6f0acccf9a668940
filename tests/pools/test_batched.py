"""Training in groups does what training one by one does, and loses nothing when it is stopped."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from assay.core.errors import Incomplete, InputError
from assay.core.runs import load_run
from assay.data.load import load_data
from assay.pools import batched, timing
from assay.pools.batched import eligible, train_group
from assay.pools.group import Group
from assay.pools.pool import Pool
from assay.pools.stacked import Descent, Stack, in_a_row
from assay.subjects import load_target
from assay.training import Standard, TrainSettings, train
from assay.training.job import make_job

UNIT = (0, 1, 2, 3)
SHARES = np.array([0.5, 0.15, 0.5, 0.06])  # so that batches, epochs and trainings end at different steps
QUICK = TrainSettings(epochs=3, batch_size=16, learning_rate=0.05)


def plan(folder: Path, network: str = "mlp", recipe: Any = "standard", how: TrainSettings = QUICK) -> Pool:
    data = load_data("digits").subset(slice(0, 120))
    places = np.arange(120)
    in_mask = np.stack([(places * 7 + 13 * m) % 120 < share * 120 for m, share in enumerate(SHARES)])
    return Pool.plan(
        folder, data=data, recipe=recipe, network=network, settings=how, design=in_mask, seed=3, method="sequential"
    )


def weights(path: Path) -> dict[str, Tensor]:
    return safetensors.torch.load_file(path / "model.safetensors")


def history(path: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (path / "history.jsonl").read_text().splitlines()]


CASES: dict[str, tuple[str, Any, dict[str, Any]]] = {
    "mlp": ("mlp", "standard", {}),
    "constant": ("linear", "standard", {"schedule": "constant", "momentum": 0.0, "gradient_clip": 0.3}),
    "warm-up": ("tiny-cnn", "standard", {"schedule": "linear", "warmup_epochs": 0.6, "nesterov": False}),
    "augmented": ("tiny-cnn", Standard(label_smoothing=0.1), {"augment": "crop-flip", "weight_decay": 0.01}),
    "adamw": ("mlp", "standard", {"optimizer": "adamw", "learning_rate": 1e-3, "schedule": "multistep"}),
    "ema": ("linear", "standard", {"ema": 0.9, "gradient_clip": 0.5}),
    "large-batch": ("linear", "standard", {"batch_size": 100}),
}


@pytest.mark.parametrize("case", CASES)
def test_a_group_is_trained_as_each_model_alone(case: str, tmp_path: Path) -> None:
    network, recipe, changes = CASES[case]
    pool = plan(tmp_path / "pool", network, recipe, dataclasses.replace(QUICK, **changes))
    counted: list[int] = []
    train_group(pool, UNIT, counted.append)
    assert sum(counted) == len(UNIT)
    assert pool.complete
    for m in UNIT:
        job, alone = pool.job(m), tmp_path / f"alone-{m}"
        run = train(job.recipe, data=job.data, out=alone, network=network, settings=job.settings, seed=job.seed)
        ours = load_run(pool.path(m))
        assert (ours.id, ours.status) == (run.id, "ok")
        assert (ours.cost.forward, ours.cost.backward) == (run.cost.forward, run.cost.backward)
        assert [finding.code for finding in ours.findings] == ["no-validation", "trained-in-group"]
        expected = weights(alone)
        for name, value in weights(pool.path(m)).items():
            torch.testing.assert_close(value, expected[name], rtol=2e-4, atol=3e-6)
        assert {p.name for p in alone.iterdir()} - {p.name for p in pool.path(m).iterdir()} == {"checkpoint.pt"}
        for row, other in zip(history(pool.path(m)), history(alone), strict=True):
            assert row == pytest.approx(other, rel=1e-5)


def test_models_of_a_group_are_loaded_and_answer_as_any_other(tmp_path: Path) -> None:
    pool = plan(tmp_path / "pool")
    train_group(pool, UNIT)
    target = pool.model(1)
    images = torch.from_numpy(pool.data.images(slice(0, 8)))
    assert target.logits(images).shape == (8, 10)
    assert load_target(f"run:{pool.path(1)}").describe() == target.describe()
    assert not any((pool.folder / "groups").iterdir())


class _Stop(BaseException):
    """As if the process had been killed."""


def _killed(monkeypatch: pytest.MonkeyPatch, after: int) -> None:
    """Every span is followed by a checkpoint, and the process ends after so many of them."""
    monkeypatch.setattr(batched, "PERIOD", -1.0)
    real, left = Group.span, [after]

    def span(self: Group, most: int = 2) -> Any:
        left[0] -= 1
        if left[0] < 0:
            raise _Stop
        return real(self, most)

    monkeypatch.setattr(Group, "span", span)


@pytest.mark.parametrize(
    ("after", "changes"),
    [(1, {}), (6, {"ema": 0.9}), (7, {"optimizer": "adamw"}), (3, {"augment": "crop-flip", "gradient_clip": 1.0})],
)
def test_a_killed_group_goes_on_to_the_same_bits(
    after: int, changes: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    how = dataclasses.replace(QUICK, **changes)
    whole, broken = plan(tmp_path / "whole", how=how), plan(tmp_path / "broken", how=how)
    train_group(whole, UNIT)
    with monkeypatch.context() as patch:
        _killed(patch, after)
        with pytest.raises(_Stop):
            train_group(broken, UNIT)
    assert not broken.finished.any()
    assert list((broken.folder / "groups").glob("*/checkpoint.pt"))
    train_group(broken, UNIT)
    for m in UNIT:
        expected = weights(whole.path(m))
        assert all(bool((value == expected[name]).all()) for name, value in weights(broken.path(m)).items())
        assert history(whole.path(m)) == history(broken.path(m))


def test_a_damaged_checkpoint_is_set_aside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, broken = plan(tmp_path / "whole"), plan(tmp_path / "broken")
    train_group(whole, UNIT)
    with monkeypatch.context() as patch:
        _killed(patch, 2)
        with pytest.raises(_Stop):
            train_group(broken, UNIT)
    (path,) = (broken.folder / "groups").glob("*/checkpoint.pt")
    path.write_bytes(path.read_bytes()[:-100])
    train_group(broken, UNIT)
    assert path.with_name("checkpoint.pt.damaged").exists()
    expected = weights(whole.path(0))
    assert all(bool((value == expected[name]).all()) for name, value in weights(broken.path(0)).items())


def test_what_is_finished_is_not_trained_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pool = plan(tmp_path / "pool")
    real = batched.folder.finish
    written = [pool.path(0), pool.path(1)]

    def finish(writer: Any, *rest: Any) -> None:
        if writer.path not in written:
            raise _Stop
        real(writer, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(batched.folder, "finish", finish)
        with pytest.raises(_Stop):
            train_group(pool, UNIT)
    assert pool.finished.tolist() == [True, True, False, False]
    before = [(path / "model.safetensors").stat().st_mtime_ns for path in written]
    with monkeypatch.context() as patch:
        patch.setattr(Group, "advance", lambda *_: pytest.fail("a step was made again"))
        train_group(pool, UNIT)
        train_group(pool, UNIT)
    assert pool.complete
    assert before == [(path / "model.safetensors").stat().st_mtime_ns for path in written]


def test_a_signal_saves_the_group(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pool = plan(tmp_path / "pool")
    real = Group._gradients

    def gradients(self: Group, *rest: Any) -> Tensor:
        if self.step == 4:
            os.kill(os.getpid(), signal.SIGTERM)
        return real(self, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(Group, "_gradients", gradients)
        with pytest.raises(Incomplete, match="after step 5 of 12 of models 0 to 3"):
            train_group(pool, UNIT)
    assert load_run(pool.path(0)).status == "incomplete"
    train_group(pool, UNIT)
    assert pool.complete


def test_only_the_model_that_diverges_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sound, pool = plan(tmp_path / "sound", "tiny-cnn"), plan(tmp_path / "pool", "tiny-cnn")
    train_group(sound, UNIT)
    real = Group.span

    def span(self: Group, most: int = 2) -> Any:
        if self.step == 2:
            next(iter(self.stack.weights.values())).data[2] = float("inf")
        return real(self, most)

    monkeypatch.setattr(Group, "span", span)
    with pytest.raises(InputError, match=r"1 of the 4 models .* failed: 2\. Model 2: .*step 3 of epoch 1"):
        train_group(pool, UNIT)
    assert pool.finished.tolist() == [True, True, False, True]
    assert load_run(pool.path(2)).status == "failed"
    for m in (0, 1, 3):
        expected = weights(sound.path(m))
        for name, value in weights(pool.path(m)).items():
            torch.testing.assert_close(value, expected[name], rtol=2e-4, atol=3e-6)
    monkeypatch.setattr(Group, "advance", lambda *_: pytest.fail("the failure is known"))
    with pytest.raises(InputError, match="smaller learning_rate"):
        train_group(pool, UNIT)


def test_weights_lost_in_the_last_step_are_a_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pool = plan(tmp_path / "pool")
    real = Group.trained

    def trained(self: Group, place: int) -> dict[str, Tensor]:
        found = real(self, place)
        return {name: value * float("nan") for name, value in found.items()} if place == 1 else found

    monkeypatch.setattr(Group, "trained", trained)
    with pytest.raises(InputError, match="not finite"):
        train_group(pool, UNIT)
    assert pool.finished.tolist() == [True, False, True, True]


@pytest.mark.parametrize(
    ("changes", "network", "recipe", "reason"),
    [
        ({}, "mlp", "standard", ""),
        ({"optimizer": "adamw", "ema": 0.9}, "small-cnn", "standard", ""),
        ({}, "resnet14", "standard", "BatchNorm"),
        ({}, "mlp", "trades", "'trades'"),
        ({"precision": "bf16"}, "mlp", "standard", "bf16"),
        ({"watch": 5}, "mlp", "standard", "kept on the way"),
    ],
)
def test_what_can_be_trained_in_groups(changes: dict[str, Any], network: str, recipe: str, reason: str) -> None:
    data = load_data("digits").head(20)
    job = make_job(recipe, data=data, network=network, settings=dataclasses.replace(QUICK, **changes))
    before = torch.random.get_rng_state()
    found = eligible(job)
    assert bool((torch.random.get_rng_state() == before).all())
    assert (found == "") if not reason else (reason in found)


def test_a_pool_that_cannot_be_grouped_says_so(tmp_path: Path) -> None:
    pool = plan(tmp_path / "pool", "resnet14")
    with pytest.raises(InputError, match="cannot be trained in groups: resnet14 keeps statistics"):
        train_group(pool, UNIT)


# The stack itself, in float64, beside a loop over its networks.


class _Wrapped(nn.Module):
    """A network that is no row of layers, so that it goes the way of vmap."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, images: Tensor) -> Tensor:
        return self.inner(images)


def _network(kind: str, bias: bool, channels: int) -> nn.Module:
    if kind == "vectors":
        return nn.Sequential(nn.Flatten(), nn.Linear(channels * 36, 5, bias), nn.Tanh(), nn.Linear(5, 4, bias))
    return nn.Sequential(
        nn.Conv2d(channels, 3, 3, padding=1, stride=2, bias=bias),
        nn.ReLU(),
        nn.MaxPool2d(2, 1),
        nn.Conv2d(3, 2, 2, bias=bias),
        nn.Tanh(),
        nn.Flatten(),
        nn.Linear(2, 4, bias),
    )


@settings(max_examples=25, deadline=None)
@given(
    kind=st.sampled_from(["vectors", "maps"]),
    wrapped=st.booleans(),
    bias=st.booleans(),
    count=st.integers(1, 4),
    size=st.integers(1, 5),
    channels=st.sampled_from([1, 3]),
    smoothing=st.sampled_from([0.0, 0.2]),
    seed=st.integers(0, 10**6),
)
def test_losses_and_gradients_are_those_of_each_network(
    kind: str, wrapped: bool, bias: bool, count: int, size: int, channels: int, smoothing: float, seed: int
) -> None:
    torch.manual_seed(seed)
    inner = [_network(kind, bias, channels).double() for _ in range(count)]
    networks = [_Wrapped(network) for network in inner] if wrapped else inner
    assert in_a_row(networks[0]) is not wrapped
    images = torch.rand(size, count, channels, 6, 6, dtype=torch.float64)
    labels = torch.randint(4, (size, count))
    shares = torch.rand(size, count, dtype=torch.float64) * (torch.rand(size, count) < 0.8)
    stack = Stack(networks)
    for _ in range(2):  # the memory of the first pass does not show in the second
        losses = stack.backward(images, labels, shares, smoothing)
    for place, network in enumerate(networks):
        each = F.cross_entropy(network(images[:, place]), labels[:, place], reduction="none", label_smoothing=smoothing)
        loss = (each * shares[:, place]).sum()
        loss.backward()
        torch.testing.assert_close(losses[place], loss.detach(), rtol=1e-10, atol=1e-12)
        for name, value in network.named_parameters():
            torch.testing.assert_close(stack.gradients[name][place], value.grad, rtol=1e-9, atol=1e-12)


@settings(max_examples=25, deadline=None)
@given(
    optimizer=st.sampled_from(["sgd", "adamw"]),
    momentum=st.sampled_from([0.0, 0.9]),
    nesterov=st.booleans(),
    decay=st.sampled_from([0.0, 0.1]),
    clip=st.sampled_from([None, 0.5]),
    members=st.sampled_from([(0, 1, 2), (1,), (0, 2)]),
    seed=st.integers(0, 10**6),
)
def test_updates_are_those_of_torch(
    optimizer: str,
    momentum: float,
    nesterov: bool,
    decay: float,
    clip: float | None,
    members: tuple[int, ...],
    seed: int,
) -> None:
    torch.manual_seed(seed)
    how = TrainSettings(
        optimizer=optimizer, momentum=momentum, nesterov=nesterov, weight_decay=decay, gradient_clip=clip
    )
    networks = [nn.Sequential(nn.Flatten(), nn.Linear(3, 2)).double() for _ in range(3)]
    stack = Stack(networks)
    descent = Descent(stack, how)
    update = descent.of(members)
    loose = {
        place: torch.optim.AdamW(networks[place].parameters(), lr=1.0, weight_decay=decay)
        if optimizer == "adamw"
        else torch.optim.SGD(
            networks[place].parameters(),
            lr=1.0,
            momentum=momentum,
            nesterov=nesterov and momentum > 0,
            weight_decay=decay,
        )
        for place in members
    }
    for rate in (0.1, 0.02, 0.3):
        for name, value in stack.gradients.items():
            value.normal_()
            for place, network in enumerate(networks):
                network.get_parameter(name).grad = value[place].clone()
        descent.clip()
        update(rate)
        for place, alone in loose.items():
            torch.nn.utils.clip_grad_norm_(networks[place].parameters(), clip or float("inf"))
            alone.param_groups[0]["lr"] = rate
            alone.step()
    for place, network in enumerate(networks):
        for name, value in network.named_parameters():
            torch.testing.assert_close(stack.weights[name][place], value, rtol=1e-9, atol=1e-12, check_dtype=True)


# The choice between one by one and many at once.


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> dict[str, float]:
    """Seconds of a step, as the probe will see them: of one model, and of a group for each of its models."""
    seconds = {"alone": 0.001, "each": 0.0004, "group": 0.0}

    def measured(work: Any, count: int) -> float:
        work(1)
        size = getattr(work, "size", 0)
        return seconds["each"] * size + seconds["group"] if size else seconds["alone"]

    real = timing._together

    def together(job: Any, size: int) -> Any:
        work = real(job, size)
        work.size = size
        return work

    monkeypatch.setattr(timing, "_seconds", measured)
    monkeypatch.setattr(timing, "_together", together)
    return seconds


def _even(folder: Path, models: int, network: str = "linear", epochs: int = 300) -> Pool:
    how = dataclasses.replace(QUICK, epochs=epochs)
    return Pool.plan(folder, data=load_data("digits").head(60), network=network, settings=how, models=models)


def test_groups_are_taken_where_they_are_faster(clock: dict[str, float], tmp_path: Path) -> None:
    method, group, words, share = timing.choose(_even(tmp_path / "pool", 64))
    assert (method, group) == ("batched", 8)
    assert "0.4" in words
    assert f"took {share:.2f} of the time" in words
    clock["group"] = 0.004  # shared by all models of a group: the larger the better
    assert timing.choose(_even(tmp_path / "pool", 64))[1] == 16


def test_groups_are_not_taken_where_they_are_hardly_faster(clock: dict[str, float], tmp_path: Path) -> None:
    pool = _even(tmp_path / "pool", 16)
    clock["each"] = 0.00095
    method, group, words, share = timing.choose(pool)
    assert (method, group, share) == ("sequential", 1, 1.0)
    assert "not clearly faster" in words
    clock["alone"] = 1.0
    assert "arithmetic" in timing.choose(pool).words


def test_a_pool_of_a_second_is_not_worth_a_probe(clock: dict[str, float], tmp_path: Path) -> None:
    assert "no longer than a comparison" in timing.choose(_even(tmp_path / "pool", 8, epochs=1)).words


def test_groups_of_unequal_models_count_the_steps_they_waste() -> None:
    assert timing._waste(np.array([3.0, 3.0, 3.0, 3.0]), 2) == 1
    assert timing._waste(np.array([1.0, 4.0, 2.0, 1.0]), 2) == pytest.approx((2 * 4 + 2 * 2) / 8)


def test_no_probe_where_groups_are_out_of_the_question(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timing, "_timed", lambda *_: pytest.fail("timed"))
    assert "BatchNorm" in timing.choose(_even(tmp_path / "pool", 2, "resnet14")).words


def test_the_probe_leaves_no_trace(tmp_path: Path) -> None:
    pool = _even(tmp_path / "pool", 8)
    before, threads = torch.random.get_rng_state(), torch.get_num_threads()
    choice = timing.choose(pool)
    assert choice.method in ("sequential", "batched")
    assert bool((torch.random.get_rng_state() == before).all())
    assert torch.get_num_threads() == threads
    assert not pool.finished.any()
