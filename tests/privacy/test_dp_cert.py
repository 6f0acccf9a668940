"""DP-CERT: what a sample's gradient depends on, what the options mean, and that it trains."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from assay.core.errors import SettingError
from assay.core.methods import card, settings_of
from assay.data import Dataset, load_data
from assay.privacy.dp_cert import OPTIONS, VARIANTS, DPCert
from assay.privacy.dp_sgd import DPSGD
from assay.privacy.regularisers import FORMS, PUBLISHED
from assay.privacy.views import adversarial_points, view_noise
from assay.tensors.gradients import PerSample
from assay.training import TrainSettings, train
from assay.training.batches import Batch
from assay.training.job import make_job
from assay.training.loop import Session
from assay.training.state import TrainState

# A wide hinge, so that the robustness term of most samples is there to be coupled.
RECIPES = [DPCert(variant=name) for name in VARIANTS if name != "macer"] + [DPCert(variant="macer", gamma=8, beta=1)]
RECIPES += [
    DPCert(variant=name, form=form) for name, forms in FORMS.items() for form in forms if form not in ("dp-cert",)
]


def name_of(recipe: DPCert) -> str:
    return recipe.variant + (f"-{recipe.form}" if recipe.form else "")


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return load_data("digits", split="train").head(96)


@contextmanager
def ready(recipe: DPSGD, digits: Dataset) -> Iterator[tuple[TrainState, Batch]]:
    """A state and its first batch, about to take a step."""
    settings = TrainSettings(epochs=2, batch_size=12)
    session = Session.of(make_job(recipe, data=digits, network="mlp", settings=settings))
    with session.prepared() as state:
        state.begin_step()
        batches = recipe.batches(
            digits, size=12, seed=0, names=("training",), device=torch.device("cpu"), rank=0, world=1, augment="none"
        )
        yield state, next(batch for batch in batches.epoch(0) if len(batch.images) > 5)


def subset(batch: Batch, rows: Tensor) -> Batch:
    """A batch of some of a batch's samples."""
    fields = {name: getattr(batch, name)[rows] for name in ("images", "labels", "seeds", "weights", "rows")}
    return dataclasses.replace(batch, **fields)


def gradients(recipe: DPCert, state: TrainState, batch: Batch) -> Tensor:
    """Every sample's gradient, [b, P]."""
    engine = PerSample(state.model, recipe.sample_loss, backend="vmap", views=True)
    return torch.cat([g.flatten(1) for g in engine.gradients(recipe.inputs(state, batch), batch.labels).values()], 1)


@pytest.mark.parametrize("recipe", RECIPES, ids=name_of)
def test_no_sample_reaches_another_ones_gradient(recipe: DPCert, digits: Dataset) -> None:
    """The published layout of views fails this: the loss of one sample there depends on others."""
    with ready(recipe, digits) as (state, batch):
        before = gradients(recipe, state, batch)
        assert (before.norm(dim=1) > 0).all()
        changed = 2
        images, labels, seeds = batch.images.clone(), batch.labels.clone(), batch.seeds.clone()
        images[changed] = 1 - images[changed]
        labels[changed] = (labels[changed] + 1) % 10
        seeds[changed] += 1
        after = gradients(recipe, state, dataclasses.replace(batch, images=images, labels=labels, seeds=seeds))
        rest = torch.arange(len(images)) != changed
        assert torch.allclose(after[rest], before[rest], atol=1e-6)
        assert not torch.allclose(after[changed], before[changed], atol=1e-3)
        some = torch.tensor([5, 0, 3])
        assert torch.allclose(gradients(recipe, state, subset(batch, some)), before[some], atol=1e-6)


@pytest.mark.parametrize("variant", VARIANTS)
def test_views_are_the_clean_image_and_noise_of_its_own(variant: str, digits: Dataset) -> None:
    recipe = DPCert(variant=variant, views=3, sigma=0.25)
    with ready(recipe, digits) as (state, batch):
        views = recipe.inputs(state, batch)
        assert views.shape == (len(batch.images), 4, *batch.images.shape[1:])
        assert torch.equal(views[:, 0], batch.images)
        noise = view_noise(batch.seeds, 3, batch.images.shape[1:], 0.25)
        centres = views[:, 1:] - noise
        moved = (centres[:, 0] - batch.images).flatten(1).norm(dim=1)
        assert torch.allclose(centres, centres[:, :1].expand_as(centres), atol=1e-6)
        if variant == "smoothadv":
            assert ((moved > 1e-3) & (moved <= 0.025 + 1e-5)).all()  # a tenth of 64/256 in the first epoch
        else:
            assert (moved < 1e-5).all()
        assert state.model.training
        assert all(parameter.grad is None for parameter in state.model.parameters())


def test_smoothadv_attacks_with_the_budget_of_its_epoch(digits: Dataset) -> None:
    recipe = DPCert(variant="smoothadv", attack_eps=1, attack_steps=3, ramp_epochs=4)
    with ready(recipe, digits) as (state, batch):
        noise = view_noise(batch.seeds, 2, batch.images.shape[1:], 0.5)
        for epoch, eps in ((0, 0.25), (1, 0.5), (7, 1.0)):
            state.step = epoch * state.steps_per_epoch
            expected = adversarial_points(state.logits, batch.images, batch.labels, noise, eps=eps, steps=3)
            found = recipe.inputs(state, batch)[:, 1] - noise[:, 0]
            assert torch.allclose(found, expected, atol=1e-6)
        state.cost.forward = state.cost.backward = 0
        recipe.inputs(state, batch)
        assert (state.cost.forward, state.cost.backward) == (6 * batch.size, 6 * batch.size)


@pytest.mark.parametrize("recipe", RECIPES[:5], ids=name_of)
def test_it_trains_and_records_its_smoothing(recipe: DPCert, digits: Dataset, tmp_path: Path) -> None:
    settings = TrainSettings(epochs=2, batch_size=24, learning_rate=0.5, nesterov=False, schedule="constant")
    recipe = dataclasses.replace(recipe, noise_multiplier=0.5)
    run = train(recipe, data=digits, out=tmp_path, network="mlp", validation=digits, settings=settings)
    assert run.status == "ok"
    rows = [json.loads(line) for line in (tmp_path / "history.jsonl").read_text().splitlines()]
    assert len(rows) == 2
    assert all(math.isfinite(row["validation_loss"]) for row in rows)
    record = json.loads((tmp_path / "privacy.json").read_text())
    assert record["smoothing"] == recipe.privacy_extras()["smoothing"]
    assert record["smoothing"]["sigma"] == 0.5


def test_without_views_it_is_dp_sgd(digits: Dataset, tmp_path: Path) -> None:
    settings = TrainSettings(epochs=1, batch_size=24, learning_rate=0.5)
    shared = {"clip_norm": 0.1, "noise_multiplier": 1.0, "backend": "vmap"}
    weights = []
    for recipe in (DPSGD(**shared), DPCert(views=0, **shared)):
        out = tmp_path / type(recipe).__name__
        train(recipe, data=digits, out=out, network="mlp", settings=settings)
        weights.append(torch.cat([value.flatten() for value in load_file(out / "model.safetensors").values()]))
    assert torch.allclose(weights[0], weights[1], atol=1e-6)


@pytest.mark.parametrize(("variant", "form"), PUBLISHED)
def test_published_settings_are_the_defaults_of_a_form(variant: str, form: str) -> None:
    recipe = DPCert(variant=variant, form=form)
    assert recipe.parameters == PUBLISHED[variant, form]
    extras = recipe.privacy_extras()["smoothing"]
    assert extras == {"sigma": 0.5, "views": 2, "variant": variant, "form": form, **PUBLISHED[variant, form]}
    assert DPCert(variant=variant, form=form, weight=7).parameters["weight"] == 7
    if form == "dp-cert":
        assert DPCert(variant=variant).privacy_extras() == recipe.privacy_extras()


def test_defaults() -> None:
    recipe = DPCert()
    assert (recipe.variant, recipe.views, recipe.sigma, recipe.clip_norm) == ("gaussian", 2, 0.5, 0.1)
    assert recipe.parameters == {}
    assert DPCert(variant="smoothadv").parameters == {"attack_eps": 0.25, "attack_steps": 2, "ramp_epochs": 10}
    assert settings_of(card("dp-cert", "recipe")) is DPCert


@pytest.mark.parametrize("variant", VARIANTS)
def test_parameters_that_nothing_reads_are_refused(variant: str) -> None:
    values = {"form": "original", "attack_steps": 3, "ramp_epochs": 3}
    read = {*DPCert(variant=variant).parameters, *(("form",) if variant in FORMS else ())}
    for name in OPTIONS:
        if name in read:
            DPCert(variant=variant, **{name: values.get(name, 0.5)})
        else:
            with pytest.raises(SettingError, match=f"DPCert.{name} is .* variant '{variant}'.* does not read"):
                DPCert(variant=variant, **{name: values.get(name, 0.5)})


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"variant": "stability", "form": "kl"}, "DPCert.form is 'kl' .* allowed: dp-cert, original"),
        ({"variant": "consistency", "form": "xent", "entropy_weight": 1}, "in the form 'xent' does not read"),
        ({"variant": "macer", "views": 0}, "DPCert.views is 0; variant 'macer' needs at least 1"),
        ({"variant": "smoothadv", "views": 0}, "needs at least 1"),
        ({"variant": "consistency", "form": "mse", "views": 1}, "in the form 'mse' needs at least 2"),
        ({"variant": "macr"}, "Did you mean 'macer'"),
        ({"sigma": 0}, "DPCert.sigma"),
        ({"views": -1}, "DPCert.views"),
        ({"epsilon": 1, "noise_multiplier": 1}, "give one of them"),
    ],
)
def test_settings_that_cannot_be(values: dict[str, object], words: str) -> None:
    with pytest.raises(SettingError, match=words):
        DPCert(**values)
