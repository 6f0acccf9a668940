"""Private training end to end: its steps by a slow reference, its record, and what it refuses."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file

from assay.core.errors import InputError, ModelError, SettingError, Unsupported
from assay.core.runs import Run, load_run
from assay.core.settings import build
from assay.data import Dataset, load_data
from assay.privacy import Flat, SeededNoise, calibrate_noise, epsilon
from assay.privacy.dp_sgd import CLIPS, DPSGD
from assay.subjects import load_target
from assay.subjects.networks import build_network
from assay.tensors.random import bits, sample_seeds
from assay.training import TrainSettings, forecast, train

FAST = {"epochs": 2, "batch_size": 20, "learning_rate": 0.5}
STEPS = 2 * 5


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return load_data("digits", split="train").head(100)


@pytest.fixture(scope="module")
def held_out() -> Dataset:
    return load_data("digits", split="test").head(50)


@pytest.fixture
def go(digits: Dataset):
    """``go(out, recipe settings, **training settings)``: a short private training on digits."""

    def run(out: Path, recipe: dict[str, object] | None = None, *, data=digits, network="mlp", **changes) -> Run:
        validation, seed = changes.pop("validation", None), changes.pop("seed", 0)
        settings = build(TrainSettings, {**FAST, **changes})
        made = build(DPSGD, {"backend": "layers", "delta": 1e-3, **(recipe or {})})
        return train(made, data=data, network=network, validation=validation, out=out, settings=settings, seed=seed)

    return run


def privacy_of(out: Path) -> dict[str, object]:
    found: dict[str, object] = json.loads((out / "privacy.json").read_text())
    return found


def test_the_weights_are_those_of_the_slow_equation(go, tmp_path: Path, digits: Dataset) -> None:
    """Poisson draws, per-sample gradients by autograd, clipping, noise and plain SGD with momentum, written out."""
    go(
        tmp_path,
        {"clip_norm": 0.3, "noise_multiplier": 0.7, "pixel_mean": 0.5, "pixel_std": 0.25, "snapshots": 1},
        network="linear",
        schedule="constant",
        nesterov=False,
        weight_decay=0.0,
        seed=3,
    )
    model = build_network("linear", in_channels=1, num_classes=10, image_size=(8, 8))
    model.load_state_dict(load_file(tmp_path / "snapshots/step-0.safetensors"))
    seeds = sample_seeds(3, digits.sample_ids.tolist(), "training")
    images, labels = (torch.from_numpy(digits.images()) - 0.5) / 0.25, torch.from_numpy(digits.labels)
    parameters = list(model.parameters())
    velocity = [torch.zeros_like(p) for p in parameters]
    for step in range(STEPS):
        draws = bits(seeds, step + 1)[:, step].double() * 2.0**-64 % 1
        total = [torch.zeros_like(p) for p in parameters]
        for row in torch.nonzero(draws < 20 / 100)[:, 0].tolist():
            loss = F.cross_entropy(model(images[row : row + 1]), labels[row : row + 1])
            gradients = torch.autograd.grad(loss, parameters)
            norm = math.sqrt(sum(float(g.double().square().sum()) for g in gradients))
            total = [a + min(1.0, 0.3 / norm) * g for a, g in zip(total, gradients, strict=True)]
        noise = SeededNoise(3, step).normal((sum(p.numel() for p in parameters),), 0.7 * 0.3)
        with torch.no_grad():
            parts = noise.split([p.numel() for p in parameters])
            for p, v, g, n in zip(parameters, velocity, total, parts, strict=True):
                v.mul_(0.9).add_((g + n.reshape(g.shape)) / 20)
                p.sub_(0.5 * v)
    kept = load_file(tmp_path / "model.safetensors")
    for name, value in model.state_dict().items():
        assert torch.allclose(kept[name], value, atol=2e-5), name


def test_what_is_written_and_what_is_not(go, tmp_path: Path, held_out: Dataset) -> None:
    run = go(
        tmp_path,
        {"clip": "global-adapt", "upper_norm": 8, "noise_multiplier": 1.5, "pixel_mean": 0.2, "snapshots": 3},
        validation=held_out,
    )
    history = [json.loads(line) for line in (tmp_path / "history.jsonl").read_text().splitlines()]
    assert [set(row) for row in history] == [{"epoch", "step", "clip_z", "validation_accuracy", "validation_loss"}] * 2
    assert {series.label for figure in run.figures() for series in figure.series} == {
        "validation loss",
        "validation accuracy",
    }
    about = json.loads((tmp_path / "model.json").read_text())
    assert (about["mean"], about["std"]) == ([0.2], [1.0])
    found = privacy_of(tmp_path)
    effective = (1.5**-2 + 20.0**-2) ** -0.5
    assert found["recipe"] == "dp-sgd"
    assert found["clip"]["clip"] == "global-adapt"
    assert found["clip"]["state"] == {"z": history[-1]["clip_z"]}
    assert found["clip"]["state"]["z"] != 8
    assert (found["noise_multiplier"], found["sample_rate"], found["steps"]) == (1.5, 0.2, STEPS)
    assert found["effective_noise_multiplier"] == pytest.approx(effective)
    for accountant in ("rdp", "prv", "gdp"):
        expected = epsilon(noise_multiplier=effective, sample_rate=0.2, steps=STEPS, delta=1e-3, accountant=accountant)
        assert found["epsilon"][accountant] == pytest.approx(expected)
    assert run.metric("epsilon@rdp").value == found["epsilon"]["rdp"]
    metric = run.metric("epsilon@prv")
    assert (metric.value, metric.lo, metric.hi, metric.n) == (found["epsilon"]["prv"], None, None, 100)
    assert (metric.unit, metric.direction) == ("epsilon", "lower")
    (event,) = found["ledger"]["events"]
    assert event["steps"] == STEPS
    assert event["noise_multiplier"] == pytest.approx(effective)
    assert any(f"{found['epsilon']['rdp']:.3g}" in sentence for sentence in found["statement"])
    assert {"privacy.json", "snapshots/step-0.safetensors"} <= run.record["files"].keys()
    assert load_target(f"run:{tmp_path}").folder == tmp_path
    checkpoint = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    assert checkpoint["log"]["sums"] == {}


def test_snapshots_hold_the_weights_before_their_step(go, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from assay.training.state import TrainState

    seen = {}
    apply = TrainState.apply

    def watched(state: TrainState, scalars):
        seen[state.step] = {name: value.clone() for name, value in state.network.state_dict().items()}
        return apply(state, scalars)

    monkeypatch.setattr(TrainState, "apply", watched)
    go(tmp_path, {"snapshots": 4, "clip": "global-adapt"})
    entries = privacy_of(tmp_path)["snapshots"]
    assert [entry["step"] for entry in entries] == [0, 3, 6, 9]
    for entry in entries:
        kept = load_file(tmp_path / entry["file"])
        assert all(torch.equal(kept[name], value) for name, value in seen[entry["step"]].items())
    assert entries[0]["clip_state"] == {"z": 50.0}
    assert entries[0]["learning_rate"] == 0.5
    assert entries[3]["learning_rate"] < entries[1]["learning_rate"] < 0.5


@pytest.mark.parametrize("clip", CLIPS)
def test_every_clip_rule_trains(go, tmp_path: Path, clip: str) -> None:
    run = go(tmp_path, {"clip": clip, "noise_multiplier": 0.5})
    assert run.metric("epsilon@rdp").value > 0
    assert all(torch.isfinite(value).all() for value in load_file(tmp_path / "model.safetensors").values())


def test_groups_are_those_of_the_data_or_the_classes(go, tmp_path: Path, digits: Dataset) -> None:
    strata = np.where(digits.labels % 2 == 0, "even", "odd")
    named = Dataset.from_arrays(digits.images(), digits.labels, groups=strata)
    go(tmp_path / "named", {"clip": "per-group"}, data=named)
    go(tmp_path / "labels", {"clip": "per-group"})
    first, second = privacy_of(tmp_path / "named"), privacy_of(tmp_path / "labels")
    assert (first["groups"], len(first["clip"]["state"]["bounds"])) == ("group", 2)
    assert (second["groups"], len(second["clip"]["state"]["bounds"])) == ("label", 10)


def test_a_target_is_kept_and_nearly_used(go, tmp_path: Path) -> None:
    run = go(tmp_path, {"epsilon": 3.0, "clip": "global-adapt"})
    assert 2.9 < run.metric("epsilon@rdp").value <= 3.0
    noise = calibrate_noise(3.0, sample_rate=0.2, steps=STEPS, delta=1e-3, count_noise=10.0, centred=True)
    assert privacy_of(tmp_path)["noise_multiplier"] == noise


def test_optimisers_average_and_clipping_afterwards_are_free(go, tmp_path: Path) -> None:
    plain = go(tmp_path / "plain")
    for name, changes in {
        "adamw": {"optimizer": "adamw", "learning_rate": 0.01},
        "ema": {"ema": 0.9},
        "clipped": {"gradient_clip": 0.01},
        "moved": {"augment": "crop-flip"},
    }.items():
        other = go(tmp_path / name, **changes)
        assert other.metric("epsilon@rdp").value == plain.metric("epsilon@rdp").value
        assert (tmp_path / name / "model.safetensors").read_bytes() != (
            tmp_path / "plain/model.safetensors"
        ).read_bytes()


def test_shuffled_batches_have_no_epsilon(go, tmp_path: Path) -> None:
    run = go(tmp_path, {"sampling": "shuffled"})
    assert run.metrics == []
    found = privacy_of(tmp_path)
    assert set(found["epsilon"]) == {"not_valid"}
    assert "shuffled" in found["epsilon"]["not_valid"]
    assert "Not valid" in found["statement"][0]
    assert not any("epsilon =" in sentence for sentence in found["statement"])
    assert [finding.code for finding in run.findings] == ["no-validation", "not-private"]


def test_without_noise_nothing_is_private(go, tmp_path: Path) -> None:
    run = go(tmp_path, {"noise_multiplier": 0})
    assert run.metrics == []
    assert "infinite" in privacy_of(tmp_path)["statement"][0]
    assert run.findings[-1].severity == "serious"


def test_a_large_delta_is_a_warning(go, tmp_path: Path) -> None:
    run = go(tmp_path, {"delta": 0.02})
    (finding,) = [finding for finding in run.findings if finding.code == "large-delta"]
    assert finding.severity == "warning"
    assert "1/100" in finding.message


def test_an_expected_batch_of_one_has_steps_of_noise_alone(go, tmp_path: Path, digits: Dataset) -> None:
    run = go(tmp_path, data=digits.head(10), batch_size=1)
    assert privacy_of(tmp_path)["steps"] == 20
    assert run.cost.forward < 20 * 3


def test_the_forecast_tells_noise_and_epsilon(digits: Dataset, tmp_path: Path) -> None:
    recipe = DPSGD(epsilon=2.0, delta=1e-3, clip="per-group")
    ahead = forecast(recipe, data=digits, network="mlp", settings=build(TrainSettings, FAST))
    assert (ahead.steps, ahead.forward, ahead.backward) == (STEPS, 200, 200)
    noise, spent = ahead.outlook
    assert "sampling rate 0.2, 10 steps" in noise
    assert "together with the counts" in noise
    assert "by RDP and" in spent
    assert "delta 0.001" in spent
    unnamed = forecast(DPSGD(sampling="shuffled"), data=digits, network="mlp", settings=build(TrainSettings, FAST))
    assert "No epsilon can be stated" in unnamed.outlook[-1]


class TestRefusals:
    @pytest.mark.parametrize(
        ("recipe", "changes", "message"),
        [
            ({"epsilon": 3, "noise_multiplier": 1}, {}, "both epsilon 3 and noise_multiplier 1"),
            ({"epsilon": 3, "sampling": "shuffled"}, {}, "no epsilon is valid"),
            ({"epsilon": 0.1, "clip": "global-adapt", "count_noise": 0.5}, {}, "out of reach"),
            ({"clip": "global", "upper_norm": 0.5}, {}, "Z = 0.5 below the clipping norm C = 1"),
            ({"clip": "flatt"}, {}, "Did you mean 'flat'"),
            ({"delta": 1.0}, {}, "below 1"),
            ({"backend": "layer"}, {}, "Did you mean 'layers'"),
            ({"pixel_std": 0}, {}, "above 0"),
            ({"pixel_mean": [0.1, 0.2]}, {}, "2 values, the images have 1 channels"),
            ({}, {"precision": "bf16"}, "needs 'fp32'"),
            ({}, {"batch_size": 101}, "batch_size is 101, but there are 100 samples"),
        ],
    )
    def test_settings(self, go, tmp_path: Path, recipe, changes, message: str) -> None:
        with pytest.raises(SettingError, match=message):
            go(tmp_path / "x", recipe, **changes)
        assert not (tmp_path / "x").exists()

    def test_batch_statistics_name_their_replacement(self, go, tmp_path: Path) -> None:
        with pytest.raises(Unsupported, match="GroupNorm"):
            go(tmp_path / "x", network="resnet20")
        assert not (tmp_path / "x").exists()

    def test_an_unknown_network(self, go, tmp_path: Path) -> None:
        with pytest.raises(ModelError, match="mlp"):
            go(tmp_path / "x", network="mpl")

    def test_a_diverging_training_names_the_place(self, go, tmp_path: Path) -> None:
        with pytest.raises(InputError, match=r"diverged: at step \d+ \(epoch \d, learning rate 1e\+30\)"):
            go(tmp_path, learning_rate=1e30, schedule="constant")
        assert load_run(tmp_path).status == "failed"
        assert not (tmp_path / "privacy.json").exists()


def test_rules_reach_the_engine(go, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The noise is made for the rule's sensitivity and the public batch size, whatever is in the batch."""
    scales = []
    normal = SeededNoise.normal

    def watched(self: SeededNoise, shape, scale=1.0):
        scales.append(scale)
        return normal(self, shape, scale)

    monkeypatch.setattr(SeededNoise, "normal", watched)
    go(tmp_path, {"clip_norm": 0.3, "noise_multiplier": 2})
    assert scales == [pytest.approx(2 * Flat(0.3).sensitivity)] * STEPS
    assert np.isfinite(load_run(tmp_path).metric("epsilon@rdp").value)
