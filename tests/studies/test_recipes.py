"""Recipe files: what they may say, and that a training's own record says the same."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from assay import load_data
from assay.core.errors import RunError, SettingError
from assay.core.settings import as_dict, build
from assay.studies.recipes import EXAMPLE, parse_recipe, read_recipe
from assay.training import TrainSettings, train
from assay.training.trades import Trades


def write(folder: Path, text: str) -> Path:
    path = folder / "recipe.yaml"
    path.write_text(text)
    return path


def test_a_file(tmp_path: Path) -> None:
    text = "recipe: trades\nnetwork: mlp\nsettings: {beta: 3, eps: 4/255}\ntraining: {epochs: 7, learning-rate: 1/20}\n"
    found = read_recipe(write(tmp_path, text))
    assert (found.name, found.network, str(found)) == ("trades", "mlp", "trades, mlp, 7 epochs")
    assert found.recipe == build(Trades, {"beta": 3, "eps": 4 / 255})
    assert found.settings == build(TrainSettings, {"epochs": 7, "learning_rate": 0.05})


def test_a_name_is_enough() -> None:
    found = parse_recipe({"recipe": "standard"})
    assert (found.network, found.settings) == ("small-cnn", TrainSettings())


def test_a_recipe_has_training_settings_that_suit_it() -> None:
    found = parse_recipe({"recipe": "dp-sgd", "settings": {"noise_multiplier": 1}, "training": {"epochs": 3}})
    assert as_dict(found.settings) == as_dict(TrainSettings(**{**type(found.recipe).usual, "epochs": 3}))


def test_the_example_of_messages_is_valid(tmp_path: Path) -> None:
    assert read_recipe(write(tmp_path, EXAMPLE)).settings.epochs == 30


def test_what_was_read_can_be_written_and_read_again(tmp_path: Path) -> None:
    found = parse_recipe({"recipe": "trades", "training": {"ema": 0.99}})
    again = read_recipe(write(tmp_path, yaml.safe_dump(found.as_dict())))
    assert again == found


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[1, 2]", "recipe: standard"),
        ("recipes: standard", "Did you mean 'recipe'?"),
        ("network: mlp", "names no recipe"),
        ("recipe: standart", "Did you mean 'standard'?"),
        ("recipe: [standard]", "is no recipe"),
        ("recipe: dino", "makes no image classifier; allowed: standard"),
        ("recipe: causal-lm", "makes no image classifier"),
        ("{recipe: standard, network: mpl}", "Did you mean 'mlp'?"),
        ("{recipe: standard, network: 3}", "no reference network"),
        ("{recipe: standard, training: 30}", "training is 30"),
        ("{recipe: standard, training: {epoch: 3}}", "recipe.yaml: training: TrainSettings has no setting 'epoch'"),
        ("{recipe: standard, training: {epochs: 0}}", "recipe.yaml: training: TrainSettings.epochs is 0"),
        ("{recipe: standard, training: {epochs: many}}", "TrainSettings.epochs"),
        ("{recipe: standard, settings: {smoothing: 1}}", "recipe.yaml: settings:"),
        ("{recipe: standard, recipe: mart}", "stands twice"),
        ("recipe: !!python/name:os.system x", "not valid YAML"),
        ("recipe: &a standard", "anchors"),
    ],
)
def test_errors_name_file_and_key(tmp_path: Path, content: str, message: str) -> None:
    with pytest.raises(SettingError, match="recipe") as caught:
        read_recipe(write(tmp_path, content))
    assert message in str(caught.value)


def test_a_file_that_is_missing(tmp_path: Path) -> None:
    with pytest.raises(SettingError, match=r"There is no recipe file.*none\.yaml"):
        read_recipe(tmp_path / "none.yaml")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    settings = TrainSettings(epochs=2, select="accuracy", watch=10, optimizer="adamw", learning_rate=0.01)
    data = load_data("digits", split="train", limit=200)
    train("standard", data=data, validation=data, network="linear", settings=settings, out=folder)
    return folder


def test_the_record_of_a_training(trained: Path) -> None:
    found = read_recipe(trained)
    assert (found.name, found.network) == ("standard", "linear")
    assert found.settings == TrainSettings(epochs=2, optimizer="adamw", learning_rate=0.01)
    (note,) = found.notes
    assert "validation metric 'accuracy'" in note


@pytest.mark.parametrize(
    "change",
    [
        lambda record: record["settings"].pop("resolved"),
        lambda record: record["method"].update(name="MyRecipe"),
        lambda record: record["settings"]["resolved"].update(training=3),
        lambda record: record.update(method=None),
        lambda record: record.clear(),
    ],
)
def test_records_that_are_none_of_a_training(trained: Path, tmp_path: Path, change: Any) -> None:
    record = json.loads((trained / "run.json").read_text())
    change(record)
    (tmp_path / "run.json").write_text(json.dumps(record))
    with pytest.raises(RunError, match="recipe: standard"):
        read_recipe(tmp_path)


def test_a_folder_without_a_record(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"without the record.*--recipe"):
        read_recipe(tmp_path)
