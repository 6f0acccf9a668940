"""Every preset that a recipe offers can be used."""

from __future__ import annotations

import pytest

from assay.core.methods import cards, settings_of
from assay.core.settings import build
from assay.data import Dataset
from assay.data.texts import Corpus
from assay.training import CausalLM, DeACL, Recipe, TrainSettings
from assay.training.job import make_job
from assay.training.language.tokens import tokenized
from assay.training.presets import Preset

PRESETS = [
    (kind, name, preset)
    for kind in (settings_of(card) for card in cards("recipe"))
    if issubclass(kind, Recipe)
    for name, preset in kind.presets.items()
]


def learnable(recipe: Recipe, digits: Dataset) -> Dataset:
    """Data of the kind that a recipe learns from."""
    if not isinstance(recipe, CausalLM):
        return digits
    texts = ("one two three four five " * 400,)
    return tokenized(recipe, Corpus(name="words", source="words", split="all", texts=texts, names=("0",)))[0]


@pytest.mark.parametrize(("kind", "name", "preset"), PRESETS, ids=[name for _, name, _ in PRESETS])
def test_a_preset_makes_a_job(kind: type[Recipe], name: str, preset: Preset, digits: Dataset) -> None:
    settings = build(TrainSettings, preset.training)
    needed = {"encoder": "network:resnet-micro"} if issubclass(kind, DeACL) else {}
    recipe = build(kind, {**needed, **preset.recipe})
    data = learnable(recipe, digits)
    job = make_job(recipe, data=data, network=preset.network, settings=settings)
    assert job.total_steps > 0
    assert preset.remark.endswith(".")
    assert name == name.lower()
    assert " " not in name
