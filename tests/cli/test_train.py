from __future__ import annotations

import argparse
from pathlib import Path

import pytest

from assay.cli.flags import add_settings_flags, settings_from
from assay.cli.main import main
from assay.cli.train import parse
from assay.core.errors import SettingError
from assay.core.methods import cards, settings_of
from assay.core.settings import fields_of
from assay.training import TrainSettings

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
