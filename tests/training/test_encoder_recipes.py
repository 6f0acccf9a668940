"""The gradients of the recipes for encoders against their equations, written out slowly."""

from __future__ import annotations

import copy
import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from assay.data import Dataset
from assay.tensors.random import bits, uniform
from assay.training import DeACL, DenseDeACL, Dino, SimSiam
from assay.training.batches import START
from assay.training.encoders.dense_deacl import SPACE
from assay.training.encoders.heads import Prototypes
from assay.training.encoders.product import Headed

ENCODER, TRANSFORMER = "network:resnet-micro", "network:vit-micro"


def cosine(first: Tensor, second: Tensor) -> Tensor:
    """Along dimension 1, written out; maps are averaged over their places."""
    found = (first * second).sum(1) / (first.norm(dim=1) * second.norm(dim=1))
    return found.flatten(1).mean(1) if found.ndim > 1 else found


def compare(state, loss: Tensor, tolerance: float = 2e-5) -> None:
    """The gradients at hand are those of the loss."""
    named = dict(state.network.named_parameters())
    wanted = torch.autograd.grad(loss, list(named.values()), allow_unused=True)
    for (name, parameter), gradient in zip(named.items(), wanted, strict=True):
        found = parameter.grad if parameter.grad is not None else torch.zeros_like(parameter)
        expected = gradient if gradient is not None else torch.zeros_like(parameter)
        assert torch.allclose(found, expected, atol=tolerance), name


def inner(recipe, state, batch, teacher: nn.Module) -> Tensor:
    """Projected ascent in Linf on the negative cosine to the teacher, in evaluation mode, written out."""
    x = batch.images
    low, high = (x - recipe.eps).clamp(0, 1), (x + recipe.eps).clamp(0, 1)
    points = (x + (2 * uniform(batch.seeds, x.shape[1:], START) - 1) * recipe.eps).clamp(low, high)
    aim = teacher(x)
    embedding = bits(batch.seeds, 1, SPACE)[:, 0] < 0
    state.model.eval()
    for _ in range(recipe.steps):
        points = points.detach().requires_grad_()
        found = state.model(points).features
        near = cosine(found.embedding, aim.embedding)
        patches = cosine(found.patches, aim.patches)
        space = getattr(recipe, "attack_space", "global")
        value = {"global": near, "patch": patches, "both": (near + patches) / 2}
        value["mixed"] = torch.where(embedding, near, patches)
        (gradient,) = torch.autograd.grad(-value[space].sum(), points)
        points = (points + recipe.eps / 4 * gradient.sign()).clamp(low, high).detach()
    state.model.train()
    return points


RECIPES = [
    DeACL(encoder=ENCODER, steps=2),
    DeACL(encoder=ENCODER, steps=1, clean_weight=0.5, robust_weight=3, batch_statistics="separate"),
    DeACL(encoder=ENCODER, steps=1, batch_statistics="frozen"),
    *(
        DenseDeACL(encoder="network:vit-micro", steps=2, attack_space=space)
        for space in ("mixed", "global", "patch", "both")
    ),
    DenseDeACL(encoder=ENCODER, steps=1, clean_weight=0, robust_weight=0, patch_weight=0.5, patch_robust_weight=1),
]


@pytest.fixture(scope="module")
def large(digits: Dataset) -> Dataset:
    """The digits at twice their side: four patches an image."""
    return Dataset.from_arrays(np.kron(digits.images(), np.ones((2, 2), np.float32)), digits.labels, layout="NCHW")


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: f"{type(recipe).__name__}-{recipe.batch_statistics}")
def test_deacl_is_its_equation(ready, recipe: DeACL, large: Dataset) -> None:
    with ready(recipe, network=None, data=large) as (state, batch):
        scatter(state.network)
        teacher = copy.deepcopy(state.companion.network)
        before = copy.deepcopy(state.network.state_dict())
        scalars = recipe.step(state, batch)
        state.network.load_state_dict(before)
        x, points = batch.images, inner(recipe, state, batch, teacher)
        assert (points - x).abs().max() <= recipe.eps + 1e-6
        state.model.train(recipe.batch_statistics != "frozen")
        if recipe.batch_statistics == "joint":
            joint = state.model(torch.cat([x, points])).features
            (clean, clean_map), (bad, bad_map) = zip(*(part.chunk(2) for part in joint), strict=True)
        else:
            (clean, clean_map), (bad, bad_map) = (state.model(images).features for images in (x, points))
        aim, aim_map = teacher(x)
        near, held = cosine(clean, aim), cosine(bad, clean)
        loss = (-recipe.clean_weight * near - recipe.robust_weight * held).mean()
        if isinstance(recipe, DenseDeACL):
            near_map, held_map = cosine(clean_map, aim_map), cosine(bad_map, clean_map)
            loss = loss + (-recipe.patch_weight * near_map - recipe.patch_robust_weight * held_map).mean()
            assert scalars["patch_cosine_to_teacher"].item() == pytest.approx(near_map.mean().item(), abs=1e-5)
        assert scalars["loss"].item() == pytest.approx(loss.item(), rel=1e-4)
        assert scalars["cosine_under_attack"].item() == pytest.approx(held.mean().item(), abs=1e-5)
        compare(state, loss, 1e-4)
        assert all(value.grad is None for value in state.companion.network.parameters())
        assert not state.companion.network.training


def scatter(network: nn.Module) -> None:
    """Move the student off its teacher, so that no cosine is 1."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for value in network.parameters():
            value += 0.1 * value.std().nan_to_num() * torch.randn(value.shape, generator=generator)


def test_dense_deacl_without_patches_is_deacl(ready) -> None:
    found = []
    plain = DeACL(encoder=ENCODER, steps=2)
    dense = DenseDeACL(encoder=ENCODER, steps=2, patch_weight=0, patch_robust_weight=0, attack_space="global")
    for recipe in (plain, dense):
        with ready(recipe, network=None) as (state, batch):
            recipe.step(state, batch)
            found.append([value.grad for value in state.network.parameters()])
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(*found, strict=True))


@pytest.mark.parametrize("steps", [1, 3])
def test_deacl_counts_its_passes(ready, steps: int) -> None:
    recipe = DeACL(encoder=ENCODER, steps=steps)
    with ready(recipe, network=None) as (state, batch):
        recipe.step(state, batch)
        assert (state.cost.forward, state.cost.backward) == (16 * (steps + 3), 16 * (steps + 2))


def test_simsiam_is_its_equation(ready) -> None:
    recipe = SimSiam(hidden=12, bottleneck=5)
    with ready(recipe, network="resnet-micro") as (state, batch):
        views = recipe.views(batch)
        scalars = recipe.step(state, batch)
        (z1, z2), (p1, p2) = (part.chunk(2) for part in state.model(torch.cat(views)).heads)
        loss = -(cosine(p1, z2.detach()) + cosine(p2, z1.detach())).mean() / 2
        assert scalars["loss"].item() == pytest.approx(loss.item(), abs=1e-5)
        compare(state, loss)
        assert (state.cost.forward, state.cost.backward) == (32, 32)


@pytest.mark.parametrize("local", [0, 2])
def test_dino_is_its_equation(ready, local: int) -> None:
    recipe = Dino(prototypes=7, hidden=9, bottleneck=5, local_crops=local, freeze_epochs=0)
    with ready(recipe, network="resnet-micro") as (state, batch):
        scatter(state.network)
        state.step = 1
        state.companion.value = torch.linspace(-0.1, 0.1, 7)
        teacher = copy.deepcopy(state.network)
        teacher.load_state_dict({**state.network.state_dict(), **state.average})
        views, centre = recipe.views(batch), state.companion.value.clone()
        views = (*views, *(recipe.local_views(state, batch) if local else ()))
        scalars = recipe.step(state, batch)
        with torch.no_grad():
            taught = teacher(state.model.normalize(torch.cat(views[:2]))).heads[0]
        targets = [((part - centre) / 0.04).softmax(1) for part in taught.chunk(2)]
        answers = list(state.model(torch.cat(views[:2])).heads[0].chunk(2))
        if local:
            answers += state.model(torch.cat(views[2:])).heads[0].chunk(local)
        terms = [
            -(target * (answer / 0.1).log_softmax(1)).sum(1).mean()
            for i, target in enumerate(targets)
            for j, answer in enumerate(answers)
            if i != j
        ]
        assert len(terms) == 2 * (1 + local)
        loss = torch.stack(terms).mean()
        assert scalars["loss"].item() == pytest.approx(loss.item(), rel=1e-4)
        compare(state, loss, 1e-4)
        expected = 0.9 * centre + 0.1 * taught.mean(0)
        assert torch.allclose(state.companion.value, expected, atol=1e-6)


def test_the_first_centre_is_that_of_the_first_batch(ready) -> None:
    recipe = Dino(prototypes=7)
    with ready(recipe, network="resnet-micro") as (state, batch):
        with torch.no_grad(), state.averaged():
            taught = state.outputs(torch.cat(recipe.views(batch))).heads[0]
        recipe.step(state, batch)
        assert torch.allclose(state.companion.value, taught.mean(0), atol=1e-6)


def test_dinos_teacher_follows_its_student(ready) -> None:
    recipe = Dino(prototypes=7, teacher_momentum=0.5, freeze_epochs=1)
    with ready(recipe, network="resnet-micro") as (state, batch):
        before = copy.deepcopy(state.network.state_dict())
        counter = state.network.get_buffer("backbone.stem_norm.num_batches_tracked").clone()
        state.apply(recipe.step(state, batch))
        assert int(state.network.get_buffer("backbone.stem_norm.num_batches_tracked") - counter) == 2
        decay = 1 - 0.5 * (1 + math.cos(math.pi / state.total_steps)) / 2
        for name, value in state.network.state_dict().items():
            if value.is_floating_point():
                expected = decay * before[name] + (1 - decay) * value
                assert torch.allclose(state.average[name], expected, atol=1e-5), name
        assert torch.equal(before["heads.0.prototypes"], state.network.get_parameter("heads.0.prototypes"))
        assert torch.equal(state.weights()["backbone.stem.weight"], state.average["backbone.stem.weight"])


def test_the_teachers_pass_leaves_batch_statistics_alone(ready) -> None:
    with ready(Dino(prototypes=7), network="resnet-micro") as (state, batch):
        own, kept = copy.deepcopy(state.network.state_dict()), {k: v.clone() for k, v in state.average.items()}
        with torch.no_grad(), state.averaged():
            state.outputs(batch.images)
        assert all(torch.equal(own[name], value) for name, value in state.network.state_dict().items())
        assert all(torch.equal(kept[name], value) for name, value in state.average.items())


def test_prototypes_answer_cosines() -> None:
    head = Prototypes(6, hidden=5, bottleneck=4, count=9)
    found = head(torch.randn(3, 6))
    assert found.shape == (3, 9)
    assert found.abs().max() <= 1 + 1e-6


def test_a_step_belongs_to_its_samples(ready) -> None:
    """Loss terms of some samples do not depend on the others where batch statistics are at rest."""
    recipe = DenseDeACL(encoder=ENCODER, steps=2)
    with ready(recipe, network=None) as (state, batch), state.evaluating():
        columns = (batch.images, batch.labels, batch.seeds, batch.weights)
        part = type(batch)(*(column[3:7] for column in columns), 4, batch.rows[3:7])
        whole, some = (recipe.measure(state, b, recipe.features(state, b.images)) for b in (batch, part))
        for name in recipe.measured:
            assert torch.allclose(whole[name][3:7], some[name], atol=1e-4)


def test_bf16_passes_give_float32_losses(ready) -> None:
    for recipe, network in ((DeACL(encoder=ENCODER, steps=1), None), (Dino(prototypes=7), "vit-micro")):
        with ready(recipe, network=network, precision="bf16") as (state, batch):
            scalars = recipe.step(state, batch)
            assert scalars["loss"].dtype == torch.float32
            assert isinstance(state.network, Headed)
            assert all(p.grad is None or torch.isfinite(p.grad).all() for p in state.network.parameters())
