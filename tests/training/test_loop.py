"""A training from end to end: what it makes, what it refuses, and that it goes on where it stopped."""

from __future__ import annotations

import json
import math
import random
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from assay.core.errors import DataError, Incomplete, InputError, ModelError, RunError, SettingError
from assay.core.probes import Finding, Metric
from assay.core.runs import Run, load_run
from assay.core.settings import build, option
from assay.core.settings import settings as recipe_settings
from assay.data import Dataset
from assay.subjects import load_target
from assay.training import Adversarial, Recipe, Standard, TrainSettings, forecast, train
from assay.training.recipe import Companion, Halted, Report
from assay.training.state import TrainState

FAST = {"epochs": 3, "batch_size": 32}
STEPS = 3 * 4


@pytest.fixture
def go(digits: Dataset, held_out: Dataset):
    """``go(out, recipe, **settings)``: a short training on digits."""

    def run(out: Path, recipe="standard", *, network="mlp", validation=held_out, seed=0, **changes) -> Run:
        settings = build(TrainSettings, {**FAST, **changes})
        return train(recipe, data=digits, validation=validation, network=network, out=out, settings=settings, seed=seed)

    return run


def model_bytes(out: Path) -> bytes:
    return (out / "model.safetensors").read_bytes()


def stop_at(monkeypatch: pytest.MonkeyPatch, step: int, how) -> None:
    """Let ``how()`` happen when an update is about to be made."""
    apply = TrainState.apply

    def interrupted(state: TrainState, scalars):
        if state.step == step:
            how()
        return apply(state, scalars)

    monkeypatch.setattr(TrainState, "apply", interrupted)


class TestResult:
    def test_the_run_says_what_was_made(self, go, tmp_path: Path, held_out: Dataset) -> None:
        run = go(tmp_path / "x", epochs=20)
        assert (run.status, run.method["name"]) == ("ok", "standard")
        target = load_target(f"run:{tmp_path / 'x'}", image_shape=held_out.shape)
        correct = target.predict(torch.from_numpy(held_out.images())).argmax(1).numpy() == held_out.labels
        metric = run.metric("validation_accuracy")
        assert metric.value == correct.mean() > 0.6
        assert metric.lo < metric.value < metric.hi
        assert run.samples["correct"].to_pylist() == correct.tolist()
        assert run.samples["sample_id"].to_pylist() == held_out.sample_ids.tolist()
        assert run.record["target"]["digest"] == target.digest
        history = [json.loads(line) for line in (tmp_path / "x/history.jsonl").read_text().splitlines()]
        assert [row["epoch"] for row in history] == list(range(1, 21))
        assert history[-1]["training_loss"] < history[0]["training_loss"]
        assert {figure.name for figure in run.figures()} == {"history-loss", "history-accuracy"}
        assert run.cost.forward == 20 * (100 + 50) + 50
        assert run.cost.backward == 20 * 100

    def test_an_adversarial_training_reports_its_own_attack(self, go, tmp_path: Path) -> None:
        run = go(tmp_path, Adversarial(eps="8/255", steps=2))
        attacked = run.metric("validation_accuracy_under_attack@linf:8/255")
        assert attacked.value <= run.metric("validation_accuracy").value
        held = np.array(run.samples["correct_under_attack"].to_pylist())
        assert held.mean() == attacked.value
        assert not (held & ~np.array(run.samples["correct"].to_pylist())).any()

    def test_the_normalisation_is_that_of_the_training_data(self, go, tmp_path: Path, digits: Dataset) -> None:
        go(tmp_path)
        about = json.loads((tmp_path / "model.json").read_text())
        assert about["mean"] == pytest.approx([digits.images().mean()], abs=1e-5)
        assert about["std"] == pytest.approx([digits.images().std()], abs=1e-5)
        assert about["class_names"] == list(digits.class_names)

    def test_a_constant_image_set_is_not_divided_by_zero(self, tmp_path: Path) -> None:
        data = Dataset.from_arrays(np.zeros((8, 8, 8), np.float32), np.arange(8) % 2)
        run = train("standard", data=data, out=tmp_path, network="linear", settings=build(TrainSettings, {"epochs": 1}))
        assert [finding.code for finding in run.findings] == ["no-validation"]
        assert not run.metrics

    def test_seeds_and_only_seeds_change_the_weights(self, go, tmp_path: Path) -> None:
        go(tmp_path / "a")
        torch.manual_seed(99)
        np.random.seed(99)
        random.seed(99)
        go(tmp_path / "b")
        go(tmp_path / "c", seed=1)
        assert model_bytes(tmp_path / "a") == model_bytes(tmp_path / "b") != model_bytes(tmp_path / "c")

    def test_the_callers_random_state_comes_back(self, go, tmp_path: Path) -> None:
        torch.manual_seed(5)
        np.random.seed(5)
        random.seed(5)
        expected = torch.rand(1), np.random.rand(), random.random()
        torch.manual_seed(5)
        np.random.seed(5)
        random.seed(5)
        go(tmp_path)
        assert (torch.rand(1), np.random.rand(), random.random()) == expected

    def test_the_average_follows_its_equation(self, go, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        seen: list[dict[str, torch.Tensor]] = []
        update = TrainState._update_average

        def watched(state: TrainState) -> None:
            seen.append({name: value.clone() for name, value in state.network.state_dict().items()})
            update(state)

        monkeypatch.setattr(TrainState, "_update_average", watched)
        first = {}
        stop_at(monkeypatch, 0, lambda: None)
        original = TrainState.begin_step

        def begin(state: TrainState) -> None:
            if state.step == 0:
                first.update({name: value.clone() for name, value in state.network.state_dict().items()})
            original(state)

        monkeypatch.setattr(TrainState, "begin_step", begin)
        go(tmp_path, ema=0.5)
        average = first
        for t, weights in enumerate(seen, start=1):
            decay = min(0.5, (1 + t) / (10 + t))
            average = {name: decay * average[name] + (1 - decay) * weights[name] for name in weights}
        kept = load_file(tmp_path / "model.safetensors")
        assert all(torch.allclose(kept[name], average[name], atol=1e-5) for name in kept)
        assert not all(torch.allclose(kept[name], seen[-1][name], atol=1e-5) for name in kept)

    def test_the_best_epoch_is_kept(self, go, tmp_path: Path) -> None:
        run = go(tmp_path, epochs=6, learning_rate=0.3, select="loss")
        history = [json.loads(line) for line in (tmp_path / "history.jsonl").read_text().splitlines()]
        best = min(history, key=lambda row: row["validation_loss"])
        (finding,) = run.findings
        assert f"epoch {best['epoch']}," in finding.message
        assert run.metric("validation_accuracy").value == best["validation_accuracy"]

    @pytest.mark.parametrize("changes", [{"precision": "bf16"}, {"optimizer": "adamw", "learning_rate": 0.01}])
    def test_other_arithmetic_and_optimiser(self, go, tmp_path: Path, changes: dict[str, object]) -> None:
        run = go(tmp_path, epochs=15, network="small-cnn", **changes)
        assert run.metric("validation_accuracy").value > 0.5
        assert all(value.dtype == torch.float32 for value in load_file(tmp_path / "model.safetensors").values())

    def test_augmentation_clipping_and_momentum_change_the_weights(self, go, tmp_path: Path) -> None:
        for name, changes in {
            "plain": {},
            "moved": {"augment": "crop-flip"},
            "clipped": {"gradient_clip": 0.1},
            "heavy-ball": {"nesterov": False},
        }.items():
            go(tmp_path / name, **changes)
        assert len({model_bytes(tmp_path / name) for name in ("plain", "moved", "clipped", "heavy-ball")}) == 4


class TestGoingOn:
    @pytest.mark.parametrize("step", [0, 1, 4, 6, STEPS - 1])
    @pytest.mark.parametrize("every", [0, 1, 3])
    def test_a_crash_at_any_step_changes_no_bit(
        self, go, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int, every: int
    ) -> None:
        changes = {"ema": 0.9, "augment": "crop-flip", "select": "accuracy", "checkpoint_every": every}

        def crash() -> None:
            raise OSError("the machine is gone")

        go(tmp_path / "whole", **changes)
        with monkeypatch.context() as context:
            stop_at(context, step, crash)
            with pytest.raises(OSError, match="gone"):
                go(tmp_path / "halved", **changes)
        assert load_run(tmp_path / "halved").status == "failed"
        assert not (tmp_path / "halved/model.safetensors").exists()
        run = go(tmp_path / "halved", **changes)
        assert model_bytes(tmp_path / "halved") == model_bytes(tmp_path / "whole")
        assert (tmp_path / "halved/history.jsonl").read_text() == (tmp_path / "whole/history.jsonl").read_text()
        assert run.metrics == load_run(tmp_path / "whole").metrics

    @pytest.mark.parametrize("network", ["resnet20"])
    def test_batch_statistics_and_adamw_go_on_too(
        self, go, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, network: str
    ) -> None:
        changes = {"network": network, "epochs": 1, "optimizer": "adamw", "learning_rate": 0.01, "ema": 0.9}
        recipe = Adversarial(steps=1)
        go(tmp_path / "whole", recipe, **changes)
        with monkeypatch.context() as context:
            stop_at(context, 2, lambda: signal.raise_signal(signal.SIGINT))
            with pytest.raises(Incomplete):
                go(tmp_path / "halved", recipe, **changes)
        go(tmp_path / "halved", recipe, **changes)
        assert model_bytes(tmp_path / "halved") == model_bytes(tmp_path / "whole")

    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
    def test_ctrl_c_finishes_the_step_and_saves(
        self, go, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
    ) -> None:
        go(tmp_path / "whole")
        handler = signal.getsignal(number)
        with monkeypatch.context() as context:
            stop_at(context, 5, lambda: signal.raise_signal(number))
            with pytest.raises(Incomplete, match="after step 6 of 12") as caught:
                go(tmp_path / "halved")
        assert caught.value.exit_code == 3
        assert signal.getsignal(number) is handler
        assert load_run(tmp_path / "halved").status == "incomplete"
        saved = torch.load(tmp_path / "halved/checkpoint.pt", weights_only=True)
        assert saved["state"]["step"] == 6
        go(tmp_path / "halved")
        assert model_bytes(tmp_path / "halved") == model_bytes(tmp_path / "whole")

    def test_a_second_ctrl_c_stops_at_once(self, go, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def twice() -> None:
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGINT)

        stop_at(monkeypatch, 5, twice)
        with pytest.raises(KeyboardInterrupt):
            go(tmp_path)
        assert load_run(tmp_path).status == "incomplete"

    def test_a_finished_run_is_returned_as_it_is(self, go, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        go(tmp_path)
        before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()}
        stop_at(monkeypatch, 0, lambda: pytest.fail("it was trained again"))
        assert go(tmp_path).status == "ok"
        assert before == {path: path.stat().st_mtime_ns for path in before}

    def test_other_settings_in_the_folder_are_refused_by_name(self, go, tmp_path: Path) -> None:
        go(tmp_path)
        with pytest.raises(RunError) as caught:
            go(tmp_path, learning_rate=0.5, seed=3)
        for part in ("settings.training.learning_rate was 0.1 and is 0.5", "seeds.root was 0 and is 3"):
            assert part in str(caught.value)
        with pytest.raises(RunError, match=r"method\.name was 'standard' and is 'trades'"):
            go(tmp_path, "trades")

    def test_a_damaged_checkpoint_is_set_aside(self, go, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        go(tmp_path / "whole")
        with monkeypatch.context() as context:
            stop_at(context, 9, lambda: signal.raise_signal(signal.SIGINT))
            with pytest.raises(Incomplete):
                go(tmp_path / "x")
        path = tmp_path / "x/checkpoint.pt"
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 255
        path.write_bytes(content)
        go(tmp_path / "x")
        assert (tmp_path / "x/checkpoint.pt.damaged").exists()
        assert model_bytes(tmp_path / "x") == model_bytes(tmp_path / "whole")

    def test_a_damaged_model_is_written_again(self, go, tmp_path: Path) -> None:
        go(tmp_path)
        whole = model_bytes(tmp_path)
        (tmp_path / "model.safetensors").write_bytes(whole[:100])
        with pytest.raises(ModelError):
            load_target(str(tmp_path))
        go(tmp_path)
        assert model_bytes(tmp_path) == whole

    def test_another_place_is_noted(self, go, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        with monkeypatch.context() as context:
            stop_at(context, 5, lambda: signal.raise_signal(signal.SIGINT))
            with pytest.raises(Incomplete):
                go(tmp_path)
        monkeypatch.setattr(torch, "get_num_threads", lambda: 64)
        assert [finding.code for finding in go(tmp_path).findings] == ["resumed-elsewhere"]


class TestRefusals:
    def test_divergence_names_step_rate_and_remedy_and_keeps_the_checkpoint(self, go, tmp_path: Path) -> None:
        with pytest.raises(InputError, match="diverged: at step") as caught:
            go(tmp_path, network="small-cnn", learning_rate=1e6, schedule="constant", checkpoint_every=1)
        assert "learning rate 1e+06" in str(caught.value)
        assert "smaller learning_rate" in str(caught.value)
        assert load_run(tmp_path).status == "failed"
        state = torch.load(tmp_path / "checkpoint.pt", weights_only=True)["state"]["network"]
        assert all(torch.isfinite(value).all() for value in state.values())
        assert not (tmp_path / "model.safetensors").exists()

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"epochs": 0}, "at least 1"),
            ({"schedule": "cosin"}, "Did you mean 'cosine'"),
            ({"warmup_epochs": 3}, "fewer than epochs"),
            ({"select": "loss", "validation": None}, "needs validation data"),
            ({"select": "robust_accuracy"}, "has no attack"),
            ({"learning_rate": math.nan}, "NaN"),
        ],
    )
    def test_settings(self, go, tmp_path: Path, changes: dict[str, object], message: str) -> None:
        with pytest.raises(SettingError, match=message):
            go(tmp_path / "x", **changes)
        assert not (tmp_path / "x").exists()

    def test_data_that_do_not_match(self, go, tmp_path: Path) -> None:
        other = Dataset.from_arrays(np.zeros((4, 9, 9), np.float32), np.arange(4))
        with pytest.raises(DataError, match="do not match"):
            go(tmp_path / "x", validation=other)

    def test_an_unknown_network(self, go, tmp_path: Path) -> None:
        with pytest.raises(ModelError, match="small-cnn"):
            go(tmp_path / "x", network="small-cn")
        assert not (tmp_path / "x").exists()

    def test_a_folder_that_cannot_be(self, go, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")
        with pytest.raises(RunError, match="A file stands where a folder is needed"):
            go(tmp_path / "file")


@pytest.mark.parametrize("burn_in", [0.0, 0.5])
def test_the_forecast_counts_what_the_training_does(
    go, tmp_path: Path, digits: Dataset, held_out: Dataset, burn_in: float
) -> None:
    recipe, settings = Adversarial(steps=2, burn_in=burn_in), build(TrainSettings, {"epochs": 2, "batch_size": 50})
    ahead = forecast(recipe, data=digits, validation=held_out, network="mlp", settings=settings)
    run = go(tmp_path, recipe, epochs=2, batch_size=50)
    assert (ahead.steps, ahead.forward, ahead.backward) == (4, run.cost.forward, run.cost.backward)
    assert ahead.seconds > 0
    assert "4 steps" in str(ahead)


class Counter(Companion):
    """Counts steps, and adds what it counted wherever a recipe can add something."""

    def __init__(self, out: Path | None) -> None:
        self.count, self.out = 0, out

    def state_dict(self) -> dict[str, int]:
        return {"count": self.count}

    def load_state_dict(self, state) -> None:
        self.count = state["count"]

    def columns(self) -> dict[str, float]:
        return {"steps_counted": self.count}

    def report(self) -> Report:
        assert self.out is not None
        (self.out / "count.txt").write_text(str(self.count))
        metric = Metric(name="count", estimand="steps", value=self.count, lo=None, hi=None, interval="", n=1)
        finding = Finding(code="counted", severity="info", message=f"{self.count} steps were counted.")
        return Report(metrics=[metric], findings=[finding], files=["count.txt"])


@recipe_settings
class Counted(Recipe):
    """Standard training that counts its steps."""

    limit: int = option(default=100, help="steps before it stops")
    refuse: bool = option(default=False, help="refuse every job")

    def step(self, state, batch):
        if state.companion.count == self.limit:
            raise Halted(f"{self.limit} steps are enough.")
        state.companion.count += 1
        return Standard().step(state, batch)

    def check(self, job) -> None:
        if self.refuse:
            raise SettingError(f"{len(job.data)} samples are refused.")

    def normalization(self, data: Dataset) -> tuple[list[float], list[float]]:
        return [0.25], [0.5]

    def companion(self, job, state: TrainState, out: Path | None) -> Counter:
        return Counter(out)

    def outlook(self, job) -> list[str]:
        return [f"{job.total_steps} steps will be counted."]


@recipe_settings
class Guarded(Standard):
    """Standard training, validated under an attack."""

    def adversary(self) -> Adversarial:
        return Adversarial(eps=0.07, steps=3)


class TestRecipesFromOutside:
    def test_its_adversary_attacks_in_validation(self, go, tmp_path: Path, held_out: Dataset) -> None:
        run = go(tmp_path / "m", Guarded(), select="robust_accuracy")
        plain = go(tmp_path / "plain", Standard(), select="last")
        rows = [json.loads(line) for line in (tmp_path / "m/history.jsonl").read_text().splitlines()]
        best = max(row["validation_robust_accuracy"] for row in rows)
        metric = run.metric("validation_accuracy_under_attack@linf:0.07")
        assert metric.value == pytest.approx(best, abs=1e-9)
        assert metric.value < run.metric("validation_accuracy").value
        assert run.cost.forward > plain.cost.forward
        others = [json.loads(line) for line in (tmp_path / "plain/history.jsonl").read_text().splitlines()]
        assert [row["training_loss"] for row in rows] == [row["training_loss"] for row in others]

    def test_what_a_recipe_adds_is_recorded(self, go, tmp_path: Path) -> None:
        run = go(tmp_path, Counted())
        assert (run.method["name"], run.method["summary"]) == ("Counted", "Standard training that counts its steps.")
        assert run.metric("count").value == STEPS
        assert [finding.code for finding in run.findings] == ["counted"]
        assert "count.txt" in run.record["files"]
        history = [json.loads(line) for line in (tmp_path / "history.jsonl").read_text().splitlines()]
        assert [row["steps_counted"] for row in history] == [4, 8, 12]
        about = json.loads((tmp_path / "model.json").read_text())
        assert (about["mean"], about["std"]) == ([0.25], [0.5])

    def test_its_companion_goes_on(self, go, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        with monkeypatch.context() as context:
            stop_at(context, 6, lambda: signal.raise_signal(signal.SIGINT))
            with pytest.raises(Incomplete):
                go(tmp_path, Counted())
        assert go(tmp_path, Counted()).metric("count").value == STEPS

    def test_a_halt_keeps_model_and_report(self, go, tmp_path: Path, held_out: Dataset) -> None:
        for _ in range(2):
            with pytest.raises(Halted, match="6 steps are enough"):
                go(tmp_path, Counted(limit=6))
            assert (tmp_path / "count.txt").read_text() == "6"
            assert load_run(tmp_path).status == "failed"
        assert load_target(f"run:{tmp_path}", image_shape=held_out.shape).name == tmp_path.name

    def test_it_may_refuse_before_anything_is_written(self, go, tmp_path: Path) -> None:
        with pytest.raises(SettingError, match="100 samples are refused"):
            go(tmp_path / "x", Counted(refuse=True))
        assert not (tmp_path / "x").exists()

    def test_it_is_heard_in_a_dry_run(self, digits: Dataset) -> None:
        ahead = forecast(Counted(), data=digits, network="mlp", settings=build(TrainSettings, FAST))
        assert ahead.outlook == ("12 steps will be counted.",)
