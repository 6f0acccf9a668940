from __future__ import annotations

import argparse
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from assay.cli.flags import add_settings_flags, settings_from
from assay.cli.main import main
from assay.cli.train import parse
from assay.core.errors import SettingError
from assay.core.methods import cards, settings_of
from assay.core.runs import load_run
from assay.core.settings import fields_of
from assay.data import Dataset
from assay.training import Standard, TrainSettings
from assay.training.presets import Preset
from assay.training.snapshots import read_moments

RECIPES = [card.name for card in cards("recipe")]


def test_help_lists_recipes_with_their_papers(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "--help"]) == 0
    shown = capsys.readouterr().out
    for card in cards("recipe"):
        assert card.name in shown
        assert card.citation is None or card.citation.title in shown


@pytest.mark.parametrize("name", RECIPES)
def test_flags_come_from_the_recipe(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", name, "--help"]) == 0
    shown = capsys.readouterr().out
    cls = settings_of(next(card for card in cards("recipe") if card.name == name))
    assert all("--" + field.name.replace("_", "-") in shown for field, _ in fields_of(cls))


def test_flags_make_settings() -> None:
    words = [
        "trades",
        "--data",
        "digits",
        "--out",
        "x",
        "--eps",
        "4/255",
        "--beta",
        "3",
        "--epochs",
        "2",
        "--ema",
        "none",
    ]
    arguments = parse(argparse.ArgumentParser(allow_abbrev=False), words)
    recipe = settings_from(arguments, settings_of(arguments.card))
    assert (recipe.eps, recipe.beta) == (4 / 255, 3.0)  # type: ignore[attr-defined]
    training = settings_from(arguments, TrainSettings)
    assert (training.epochs, training.ema, training.batch_size) == (2, None, 128)


def test_a_wrong_value_is_named() -> None:
    parser = argparse.ArgumentParser()
    add_settings_flags(parser, TrainSettings, title="training")
    with pytest.raises(SettingError, match="at least 1"):
        settings_from(parser.parse_args(["--epochs", "0"]), TrainSettings)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["standrad"], "Did you mean 'standard'"),
        (["standard", "--out", "m"], "--data"),
        (["standard", "--data", "digits"], "--out"),
        (["standard", "--data", "digits", "--out", "m", "--epochs", "none"], "number"),
        (["standard", "--data", "digits", "--out", "m", "--network", "small-cn"], "Did you mean 'small-cnn'"),
        (["standard", "--data", "digits", "--out", "m", "--optimizer", "adam"], "adamw"),
        (["standard", "--data", "digits", "--out", "m", "--eps", "1"], "--eps"),
    ],
)
def test_mistakes(words: list[str], sentence: str, workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", *words, "--no-progress"]) == 2
    assert sentence in capsys.readouterr().err
    assert not (workplace / "m").exists()


def test_train_then_audit_and_train_again(workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = [
        "standard",
        "--data",
        "digits",
        "--network",
        "linear",
        "--out",
        "m",
        "--epochs",
        "3",
        "--validation",
        "test",
    ]
    assert main(["train", *words, "--dry-run"]) == 0
    assert "steps" in capsys.readouterr().out
    assert not (workplace / "m").exists()
    assert main(["train", *words, "--no-progress"]) == 0
    assert "run:m" in capsys.readouterr().out
    (workplace / "suite.yaml").write_text("probes: [clean-accuracy]\nclaims: [clean_accuracy >= 0.5]")
    assert main(["audit", "--model", "run:m", "--data", "digits", "--suite", "suite.yaml", "--no-progress"]) == 0
    assert main(["train", *words, "--no-progress"]) == 0


WORDS = ["standard", "--data", "digits", "--limit", "64", "--out", "m", "--no-progress"]


@pytest.fixture
def preset(monkeypatch: pytest.MonkeyPatch) -> None:
    """A preset of standard training."""
    made = Preset(
        network="linear",
        recipe={"label_smoothing": 0.2},
        training={"epochs": 3, "batch_size": 16, "learning_rate": "1/20"},
        remark="Small digits.",
    )
    monkeypatch.setattr(Standard, "presets", {"digits-linear": made})


@pytest.mark.usefixtures("preset")
def test_help_lists_presets(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "standard", "--help"]) == 0
    assert "presets:\n  digits-linear\n    Small digits." in capsys.readouterr().out
    assert main(["train", "adversarial", "--help"]) == 0
    assert "preset" not in capsys.readouterr().out


@pytest.mark.usefixtures("preset")
def test_flags_win_over_a_preset(workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", *WORDS, "--preset", "digits-linear", "--epochs", "1", "--learning-rate", "0.5"]) == 0
    used = load_run("m").settings
    assert used["network"] == "linear"
    assert used["recipe"] == {"label_smoothing": 0.2}
    assert [used["training"][name] for name in ("epochs", "batch_size", "learning_rate")] == [1, 16, 0.5]
    capsys.readouterr()
    words = [*WORDS, "--preset", "digits-linear", "--network", "mlp", "--label-smoothing", "0", "--dry-run"]
    assert main(["train", *words]) == 0
    shown = capsys.readouterr().out
    assert "Standard training of mlp on 64 samples: 12 steps" in shown
    assert "Preset digits-linear: Small digits." in shown


@pytest.mark.usefixtures("preset")
def test_an_unknown_preset_is_named(workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", *WORDS, "--preset", "digit-linear"]) == 2
    assert "Did you mean 'digits-linear'" in capsys.readouterr().err
    assert not (workplace / "m").exists()


@pytest.mark.parametrize("value", ["every=3", "3"])
def test_a_watched_training_ends_with_its_dynamics(
    value: str, workplace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    seen = []

    def watch(arguments: argparse.Namespace, folder: Path, data: Dataset) -> int:
        seen.append((folder.resolve(), [moment.step for moment in read_moments(folder)], len(data)))
        return 4

    monkeypatch.setitem(sys.modules, "assay.cli.dynamics", SimpleNamespace(watch=watch))
    words = [*WORDS, "--network", "linear", "--epochs", "2", "--batch-size", "16", "--watch-boundary", value]
    assert main(["train", *words, "--dry-run"]) == 0
    assert "Weights kept for 'assay dynamics': 7 files" in capsys.readouterr().out
    assert not seen
    assert main(["train", *words, "--watch", "3"]) == 4
    assert seen == [(workplace.resolve() / "m", [0, 3, 6, 8], 64)]
    monkeypatch.setenv("RANK", "1")
    assert main(["train", *words]) == 0
    assert len(seen) == 1


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--watch-boundary", "every=0"], "whole number from 1 up"),
        (["--watch-boundary", "often"], "'often' is not allowed"),
        (["--watch-boundary", "3", "--watch", "4"], "--watch is 4 and --watch-boundary 3"),
    ],
)
def test_how_often_to_watch_must_be_clear(
    words: list[str], sentence: str, workplace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", *WORDS, *words]) == 2
    assert sentence in capsys.readouterr().err
    assert not (workplace / "m").exists()
