"""Trainings that make an encoder, from end to end."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from assay.core.errors import Incomplete, ModelError, RunError, SettingError, Unsupported
from assay.core.runs import Run
from assay.core.settings import build
from assay.data import Dataset
from assay.subjects import Classification, Target, encoder
from assay.training import DeACL, DenseDeACL, Dino, Recipe, SimSiam, TrainSettings, forecast, train
from assay.training.flow import flow
from assay.training.state import TrainState

REFERENCE = "network:resnet-micro"
RECIPES = [
    SimSiam(hidden=16, bottleneck=8),
    Dino(prototypes=16, hidden=16, teacher_momentum=0.8),
    DeACL(encoder=REFERENCE, steps=1),
    DenseDeACL(encoder=REFERENCE, steps=1),
]
every_recipe = pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: type(recipe).__name__)


@pytest.fixture
def go(digits: Dataset, held_out: Dataset):
    """``go(out, recipe, **settings)``: a short training on digits."""

    def run(out: Path, recipe: Recipe, *, validation=held_out, data=digits, network=None, **changes) -> Run:
        settings = build(TrainSettings, {"epochs": 2, "batch_size": 40, "learning_rate": 0.02, **changes})
        return train(recipe, data=data, validation=validation, out=out, settings=settings, network=network)

    return run


@every_recipe
def test_a_training_makes_an_encoder(go, recipe: Recipe, tmp_path: Path, digits: Dataset, held_out: Dataset) -> None:
    run = go(tmp_path / "enc", recipe)
    found = encoder(f"run:{tmp_path / 'enc'}")
    assert (found.dim, found.patch_dim, found.patch) == (128, 128, 8)
    assert run.record["target"]["digest"] == found.digest
    about = json.loads((tmp_path / "enc/model.json").read_text())
    assert (about["kind"], about["recipe"]) == ("encoder", run.method["name"])
    assert not any(name.startswith(("backbone.", "heads.")) for name in load_file(tmp_path / "enc/model.safetensors"))
    images = torch.from_numpy(held_out.images())
    embeddings = found.embed(found.check_images(images)).numpy().astype(np.float64)
    unit = embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)
    assert run.metric("validation_deviation").value == pytest.approx(unit.std(0).mean() * 128**0.5, rel=1e-3)
    history = [json.loads(line) for line in (tmp_path / "enc/history.jsonl").read_text().splitlines()]
    assert "validation_effective_rank" in history[-1]
    assert "history-effective-rank" in {figure.name for figure in run.figures()}
    if isinstance(recipe, DeACL):
        near = run.metric("validation_cosine_to_teacher")
        assert near.lo < near.value < near.hi
        aim = encoder(REFERENCE, in_channels=1, image_size=8).embed(images)
        own = torch.nn.functional.cosine_similarity(found.embed(images), aim)
        assert near.value == pytest.approx(own.mean().item(), abs=1e-4)
        assert np.allclose(run.samples["cosine_to_teacher"], own.numpy(), atol=1e-4)
    else:
        mean, std = digits.images().mean(), digits.images().std()
        assert (about["mean"], about["std"]) == ([pytest.approx(mean, abs=1e-4)], [pytest.approx(std, abs=1e-4)])


@every_recipe
@pytest.mark.parametrize("step", [4])
def test_a_stopped_training_ends_with_the_same_bytes(
    go, recipe: Recipe, step: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    go(tmp_path / "whole", recipe, checkpoint_every=1)
    apply = TrainState.apply

    def interrupted(state: TrainState, scalars):
        if state.step == step:
            raise Incomplete("here")
        return apply(state, scalars)

    with monkeypatch.context() as patch:
        patch.setattr(TrainState, "apply", interrupted)
        with pytest.raises(Incomplete):
            go(tmp_path / "parts", recipe, checkpoint_every=1)
    go(tmp_path / "parts", recipe, checkpoint_every=1)
    for name in ("model.safetensors", "history.jsonl", "samples.parquet", "model.json"):
        assert (tmp_path / "parts" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name


def test_the_product_of_dino_is_its_teacher(go, tmp_path: Path) -> None:
    """With a decay of 1 throughout the teacher never moves from the first weights."""
    still = Dino(prototypes=16, teacher_momentum=0.999999)
    go(tmp_path / "a", still, learning_rate=0.5, epochs=1)
    go(tmp_path / "b", still, learning_rate=1e-9, epochs=1)
    first, second = (load_file(tmp_path / name / "model.safetensors") for name in "ab")
    assert all(torch.allclose(first[name].float(), second[name].float(), atol=1e-3) for name in first)
    go(tmp_path / "c", Dino(prototypes=16, teacher_momentum=0), learning_rate=0.5, epochs=1)
    third = load_file(tmp_path / "c/model.safetensors")
    assert not torch.allclose(third["stem.weight"], second["stem.weight"], atol=1e-3)


def test_without_validation_data_training_images_are_looked_at(go, tmp_path: Path) -> None:
    run = go(tmp_path, DeACL(encoder=REFERENCE, steps=1), validation=None)
    assert run.metric("sample_effective_rank").n == 100
    assert "sample_id" not in run.samples or not len(run.samples["sample_id"])
    assert "no-validation" in {finding.code for finding in run.findings}


def test_a_collapse_is_found(go, tmp_path: Path, digits: Dataset) -> None:
    blank = Dataset.from_arrays(np.full((40, 1, 8, 8), 0.5, np.float32), np.zeros(40, int), class_names=("unlabelled",))
    run = go(tmp_path / "x", SimSiam(hidden=8), data=blank, validation=None)
    (finding,) = (found for found in run.findings if found.code == "collapsed-embeddings")
    assert finding.severity == "serious"
    well = go(tmp_path / "y", SimSiam(hidden=8), network="vit-micro")
    assert "collapsed-embeddings" not in {found.code for found in well.findings}


def test_the_weights_it_begins_with_make_another_training(go, tmp_path: Path) -> None:
    go(tmp_path / "enc", SimSiam(hidden=8))
    recipe = DeACL(encoder=str(tmp_path / "enc"), steps=1)
    go(tmp_path / "hard", recipe)
    about, before = (json.loads((tmp_path / name / "model.json").read_text()) for name in ("hard", "enc"))
    assert (about["mean"], about["std"]) == (pytest.approx(before["mean"]), pytest.approx(before["std"]))
    assert about["began_with"] == encoder(str(tmp_path / "enc")).digest
    weights = load_file(tmp_path / "enc/model.safetensors")
    save_file({**weights, "stem.weight": weights["stem.weight"] + 0.1}, tmp_path / "enc/model.safetensors")
    with pytest.raises(RunError, match="another"):
        go(tmp_path / "hard", recipe)


def test_the_best_loss_is_kept_where_wanted(go, tmp_path: Path) -> None:
    run = go(tmp_path, DeACL(encoder=REFERENCE, steps=1), select="loss", epochs=3)
    history = [json.loads(line) for line in (tmp_path / "history.jsonl").read_text().splitlines()]
    best = min(row["validation_loss"] for row in history)
    assert run.metric("validation_loss").value == pytest.approx(best, abs=1e-5)


@pytest.mark.parametrize(
    ("recipe", "changes", "error", "words"),
    [
        (DeACL(), {}, SettingError, "--encoder"),
        (DeACL(encoder=REFERENCE), {"network": "resnet-micro"}, SettingError, "leave the network out"),
        (DeACL(encoder="nowhere"), {}, ModelError, "no folder"),
        (DeACL(encoder=REFERENCE), {"select": "accuracy"}, SettingError, "allowed: last, loss"),
        (SimSiam(), {"select": "loss"}, SettingError, "allowed: last"),
        (SimSiam(), {"network": "small-cnn"}, ModelError, "Allowed: vit-micro"),
        (SimSiam(), {"network": "vit-tiny"}, ModelError, "multiples of 16"),
        (SimSiam(), {"watch": 2}, SettingError, "watch"),
        (DeACL(encoder=REFERENCE), {"watch": 2}, SettingError, "watch"),
        (Dino(), {"ema": 0.9}, SettingError, "ema"),
    ],
)
def test_what_cannot_be_done_is_said_before_anything_is_written(
    go, recipe: Recipe, changes, error, words: str, tmp_path: Path
) -> None:
    with pytest.raises(error, match=words):
        go(tmp_path / "x", recipe, **changes)
    assert not (tmp_path / "x").exists()


def test_encoders_that_cannot_be_hardened(go, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own_encoders.py").write_text(
        "import torch\ndef flat():\n    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 5))\n"
    )
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ModelError, match="cannot be built again"):
        go(tmp_path / "x", DeACL(encoder="python:own_encoders:flat"))


@every_recipe
def test_a_dry_run_counts_the_passes(go, recipe: Recipe, digits: Dataset, held_out: Dataset, tmp_path: Path) -> None:
    settings = TrainSettings(epochs=2, batch_size=50)
    ahead = forecast(recipe, data=digits, validation=held_out, settings=settings)
    run = train(recipe, data=digits, validation=held_out, settings=settings, out=tmp_path)
    assert ahead.steps == 4
    assert (ahead.forward, ahead.backward) == (run.cost.forward, run.cost.backward)


def test_labels_do_not_matter(go, tmp_path: Path, digits: Dataset) -> None:
    bare = Dataset.from_arrays(digits.images(), np.zeros(100, int), class_names=("unlabelled",))
    own = Dataset.from_arrays(digits.images(), digits.labels, class_names=digits.class_names)
    for name, data in (("a", bare), ("b", own)):
        go(tmp_path / name, DenseDeACL(encoder=REFERENCE, steps=1), data=data, validation=None)
    first, second = ((tmp_path / name / "model.safetensors").read_bytes() for name in "ab")
    assert first == second


def test_an_encoders_recipe_has_no_flow(digits: Dataset) -> None:
    target = Target(torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10)), task=Classification(10))
    images, labels = torch.from_numpy(digits.images()), torch.from_numpy(digits.labels)
    with pytest.raises(Unsupported, match="trains an encoder"):
        flow(SimSiam(), target, images, labels)
