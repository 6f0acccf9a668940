"""Each recipe's gradients against its equation, written out slowly."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from assay.core.errors import SettingError
from assay.core.methods import cards, settings_of
from assay.tensors.random import normal
from assay.training import Adversarial, Mart, Standard, Trades
from assay.training.batches import START
from assay.training.inner import InnerProblem
from assay.training.job import as_recipe

RECIPES = ["standard", "adversarial", "trades", "mart"]
OF_ENCODERS = ["simsiam", "dino", "deacl", "dense-deacl"]
OF_LANGUAGE = ["causal-lm"]
ADVERSARIAL = [Adversarial, Trades, Mart]


def gradients(state, loss: Tensor) -> list[Tensor]:
    return list(torch.autograd.grad(loss, list(state.network.parameters())))


def ascent(objective, start: Tensor, centres: Tensor, recipe: InnerProblem) -> Tensor:
    """Projected gradient ascent in Linf, written out."""
    low, high = (centres - recipe.eps).clamp(0, 1), (centres + recipe.eps).clamp(0, 1)
    points = start.clamp(low, high)
    for _ in range(recipe.steps):
        points = points.detach().requires_grad_()
        (gradient,) = torch.autograd.grad(objective(points).sum(), points)
        points = (points + 2.5 * recipe.eps / recipe.steps * gradient.sign()).clamp(low, high).detach()
    return points


def expected_loss(recipe, state, batch) -> Tensor:
    """The loss of the recipe's equation at its inner solution."""
    x, y, z = batch.images, batch.labels, state.model
    near = x + 0.001 * normal(batch.seeds, x.shape[1:], START)

    def cross_entropy(points: Tensor) -> Tensor:
        return F.cross_entropy(z(points), y, reduction="none")

    if isinstance(recipe, Standard):
        return F.cross_entropy(z(x), y)
    if isinstance(recipe, Adversarial):
        return F.cross_entropy(z(recipe.attack(state, batch)), y)
    if isinstance(recipe, Trades):
        constant = z(x).softmax(1).detach()
        points = ascent(lambda p: F.kl_div(z(p).log_softmax(1), constant, reduction="none").sum(1), near, x, recipe)
        divergence = F.kl_div(z(points).log_softmax(1), z(x).softmax(1), reduction="batchmean")
        return F.cross_entropy(z(x), y) + recipe.beta * divergence
    points = ascent(cross_entropy, near, x, recipe)
    p, q = z(x).softmax(1), z(points).softmax(1)
    own, rows = torch.zeros_like(q).scatter(1, y[:, None], 1).bool(), torch.arange(len(y))
    boosted = -torch.log(q[rows, y]) - torch.log(1.0001 - q.masked_fill(own, 0).amax(1))
    return (boosted + recipe.beta * (1.0000001 - p[rows, y]) * (p * (p / q).log()).sum(1)).mean()


@pytest.mark.parametrize(
    "recipe",
    [Standard(), Adversarial(eps=0.1, steps=3), Trades(eps=0.1, steps=3, beta=2), Mart(eps=0.1, steps=3, beta=2)],
    ids=lambda recipe: type(recipe).__name__,
)
def test_gradients_are_those_of_the_equation(ready, recipe) -> None:
    with ready(recipe) as (state, batch):
        scalars = recipe.step(state, batch)
        loss = expected_loss(recipe, state, batch)
        assert scalars["loss"].item() == pytest.approx(loss.item(), rel=1e-4)
        for parameter, wanted in zip(state.network.parameters(), gradients(state, loss), strict=True):
            assert torch.allclose(parameter.grad, wanted, atol=1e-5)


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("kind", ADVERSARIAL)
def test_the_inner_problem_stays_in_ball_and_box_and_raises_the_loss(ready, kind, norm: str) -> None:
    recipe = kind(norm=norm, eps=0.2, steps=5)
    with ready(recipe) as (state, batch):
        points = recipe.attack(state, batch)
        change = (points - batch.images).flatten(1)
        size = change.abs().amax(1) if norm == "linf" else change.norm(dim=1)
        assert (size <= 0.2 + 1e-6).all()
        assert points.min() >= 0
        assert points.max() <= 1
        clean, attacked = (F.cross_entropy(state.model(p), batch.labels) for p in (batch.images, points))
        assert attacked > clean
        assert all(p.grad is None for p in state.network.parameters())


def test_a_random_start_belongs_to_the_sample(ready) -> None:
    recipe = Adversarial(eps=0.2, steps=1)
    with ready(recipe) as (state, batch):
        images, labels, seeds, weights, rows = (
            column[3:5] for column in (batch.images, batch.labels, batch.seeds, batch.weights, batch.rows)
        )
        part = type(batch)(images, labels, seeds, weights, 2, rows)
        assert torch.allclose(recipe.attack(state, part), recipe.attack(state, batch)[3:5], atol=1e-6)


@pytest.mark.parametrize("kind", ADVERSARIAL)
def test_batch_statistics_come_from_the_training_pass_alone(ready, kind) -> None:
    """Running statistics move once for each training forward pass, not for the inner problem's."""
    recipe = kind(eps=0.1, steps=4)
    with ready(recipe, network="resnet20") as (state, batch):
        counter = state.network.get_buffer("bn1.num_batches_tracked")
        recipe.attack(state, batch)
        assert int(counter) == 0
        recipe.step(state, batch)
        assert int(counter) == (1 if kind is Adversarial else 2)
        assert all(module.training for module in state.model.modules())


def test_each_modules_own_mode_comes_back(ready) -> None:
    with ready("adversarial", network="resnet20") as (state, _):
        frozen = state.network.get_submodule("bn1")
        frozen.eval()
        with state.evaluating():
            assert not state.network.training
        assert state.network.training
        assert not frozen.training


@pytest.mark.parametrize(("recipe", "forward", "backward"), [(0, 1, 1), (1, 4, 4), (2, 6, 5), (3, 5, 5)])
def test_passes_are_counted_as_documented(ready, recipe: int, forward: int, backward: int) -> None:
    made = [Standard(), *(kind(steps=3) for kind in ADVERSARIAL)][recipe]
    with ready(made) as (state, batch):
        made.step(state, batch)
        assert (state.cost.forward, state.cost.backward) == (16 * forward, 16 * backward)


def test_recipes_are_listed_with_their_papers() -> None:
    listed = {card.name: card for card in cards("recipe") if card.module.startswith("assay.training.")}
    assert list(listed) == [*RECIPES, *OF_ENCODERS, *OF_LANGUAGE]
    assert {name for name, card in listed.items() if card.citation} == {*RECIPES[1:], *OF_ENCODERS, *OF_LANGUAGE}
    assert [settings_of(listed[name]) for name in RECIPES] == [Standard, *ADVERSARIAL]


def test_recipes_by_name() -> None:
    assert as_recipe("adversarial") == Adversarial()
    assert math.isclose(Adversarial().eps, 8 / 255)
    with pytest.raises(ValueError, match="Did you mean 'trades'"):
        as_recipe("trade")
    with pytest.raises(SettingError, match="a name or the settings"):
        as_recipe(3)  # type: ignore[arg-type]


@pytest.mark.parametrize("changes", [{"norm": "l1"}, {"eps": -1}, {"steps": 0}, {"step_size": 0}, {"beta": -1}])
def test_settings_that_are_not_allowed(changes: dict[str, object]) -> None:
    with pytest.raises(SettingError, match="allowed"):
        Trades(**changes)
