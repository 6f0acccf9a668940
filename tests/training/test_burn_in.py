"""Burn-in: the first share of the epochs is plain training, for every recipe that has one."""

from __future__ import annotations

import pytest
import torch

from assay.core.errors import SettingError
from assay.training import Adversarial, Mart, Standard, Trades

ROBUST = [Adversarial, Trades, Mart]


@pytest.mark.parametrize("kind", ROBUST)
def test_it_is_a_step_of_standard_training(ready, kind) -> None:
    with ready(Standard()) as (state, batch):
        Standard().step(state, batch)
        plain = [p.grad.clone() for p in state.network.parameters()]
    recipe = kind(burn_in=0.5)
    with ready(recipe) as (state, batch):
        values = recipe.step(state, batch)
        assert set(values) == {"loss"}
        assert (state.cost.forward, state.cost.backward) == (len(batch.images), len(batch.images))
        for p, expected in zip(state.network.parameters(), plain, strict=True):
            torch.testing.assert_close(p.grad, expected, rtol=0, atol=0)


@pytest.mark.parametrize("kind", ROBUST)
def test_it_ends_after_its_share_of_the_epochs(ready, kind) -> None:
    recipe = kind(burn_in=0.5)
    with ready(recipe) as (state, batch):
        assert state.settings.epochs == 2
        for step, burning in [(0, True), (state.steps_per_epoch - 1, True), (state.steps_per_epoch, False)]:
            state.step = step
            assert recipe.burning_in(state) is burning
        before = state.cost.backward
        recipe.step(state, batch)
        assert state.cost.backward - before > len(batch.images)


def test_there_is_none_unless_asked_for_and_never_only_burn_in(ready) -> None:
    with ready(Adversarial()) as (state, _):
        assert not Adversarial().burning_in(state)
    with pytest.raises(SettingError, match="burn_in"):
        Adversarial(burn_in=1.0)
