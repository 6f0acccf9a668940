"""Plans: the theorem's numbers, by simulation too; entropies of a model; words and JSON."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch

from assay.core.errors import DataError, SettingError
from assay.core.estimates import Estimate
from assay.watermark.generation import generate
from assay.watermark.planning import choices, estimate_entropy, plan
from assay.watermark.statistics import critical_count
from assay.watermark.theory import choices_entropy, green_rate, spike_entropy, spike_modulus, tokens_needed

from .written import tiny_model


def test_a_plan_has_an_entry_for_every_question() -> None:
    made = plan(0.25, 2.0, fprs=(1e-4, 1e-6), powers=(0.5, 0.9), entropies=(0.6, 0.8))
    assert len(made.needs) == 8
    for need in made.needs:
        assert need.tokens == tokens_needed(0.25, 2.0, need.entropy, fpr=need.fpr, power=need.power)
        assert need.green == green_rate(need.entropy, 0.25, 2.0)
    assert made.tokens(0.8, 1e-6, 0.9) > made.tokens(0.8, 1e-6, 0.5) > made.tokens(0.8, 1e-4, 0.5)
    assert made.tokens(0.6, 1e-6, 0.9) > made.tokens(0.8, 1e-6, 0.9)


def test_so_many_tokens_are_enough_in_a_simulation() -> None:
    """N equally likely tokens at every step, biased by delta: the planned length finds the planned share."""
    gamma, delta, count = 0.25, 2.0, 6
    entropy = choices_entropy(count, gamma, delta)
    tokens = int(plan(gamma, delta, fprs=(1e-4,), powers=(0.9,), entropies=(entropy,)).needs[0].tokens)
    rng = np.random.default_rng(0)
    green = rng.random((4000, tokens, count)) < gamma
    chance = green * math.exp(delta)
    drawn = chance.sum(2) / (chance + ~green).sum(2)
    hits = (rng.random(drawn.shape) < drawn).sum(1)
    found = (hits >= critical_count(tokens, gamma, 1e-4)).mean()
    assert found + 0.015 >= 0.9
    assert found < 0.999


def test_choices_invert_the_entropy() -> None:
    modulus = spike_modulus(0.25, 2.0)
    for count in (1.0, 2.5, 100.0):
        assert choices(choices_entropy(count, 0.25, 2.0), modulus) == pytest.approx(count)
    assert choices(1.0, modulus) == math.inf


def test_an_estimate_gives_three_columns() -> None:
    estimate = Estimate(value=0.7, lo=0.65, hi=0.75, n=100, method="bootstrap")
    made = plan(entropies=estimate)
    assert [need.entropy for need in made.needs] == [0.65, 0.7, 0.75]
    assert "is 0.7, between 0.65 and 0.75, measured over 100 tokens" in made.sentences()[0]
    single = Estimate(value=0.7, lo=math.nan, hi=math.nan, n=9, method="bootstrap")
    assert "More prompts" in plan(entropies=single).sentences()[0]
    json.dumps(plan(entropies=single).as_dict(), allow_nan=False)
    assert made.as_dict()["entropy"]["value"] == 0.7


def test_a_hard_mark_needs_few() -> None:
    made = plan(0.5, math.inf, fprs=(3e-5,), powers=(0.5,), entropies=(0.8,))
    assert made.needs[0].tokens == 16
    assert made.as_dict()["hard"] is True
    assert "no bound" in made.sentences()[-1]


def test_the_gumbel_mark_depends_on_choices_alone() -> None:
    made = plan(scheme="gumbel", entropies=(0.5, 0.8))
    assert made.needs[0].tokens > made.needs[1].tokens
    assert made.needs[0].green is None
    assert made.perplexity is None


def test_text_without_choice_cannot_be_marked() -> None:
    least = choices_entropy(1.0, 0.25, 2.0)
    made = plan(entropies=(least,))
    assert made.needs[0].tokens == math.inf
    assert "no length is enough" in made.sentences()[0]
    written = json.loads(json.dumps(made.as_dict(), allow_nan=False))
    assert (written["needs"][0]["tokens"], written["needs"][0]["reachable"]) == (None, False)


def test_words_name_the_goal() -> None:
    first = plan(fprs=(0.05,), powers=(0.9,), entropies=(0.8,)).sentences()[0]
    assert "to find 90% of the marked texts while 5% of the unmarked texts" in first
    assert "1 in 1,000,000" in plan().sentences()[0]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"entropies": (0.2,)}, "lies between 0.352"),
        ({"entropies": (1.5,)}, "and 1"),
        ({"fprs": ()}, "are empty"),
        ({"fprs": (0.0,)}, "fpr is 0.0"),
        ({"powers": (1.0,)}, "power is 1.0"),
        ({"gamma": 1.0}, "gamma is 1.0"),
        ({"scheme": "blue"}, "'green' for every scheme"),
    ],
)
def test_what_cannot_be_planned(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(SettingError, match=message):
        plan(**arguments)  # type: ignore[arg-type]


def test_the_entropy_of_a_model_is_that_of_its_distributions() -> None:
    lm = tiny_model()
    prompts = [[1, 2, 3], [4, 5]]
    found = estimate_entropy(lm, prompts, 0.25, 2.0, new_tokens=6, seed=3)
    texts = generate(lm, prompts, None, new_tokens=6, seed=3)
    values = []
    for prompt, text in zip(prompts, texts, strict=True):
        for step in range(6):
            ids = torch.tensor([[*prompt, *text[:step]]])
            values.append(float(spike_entropy(lm.model(ids).logits[0, -1].detach().softmax(0), gamma=0.25, delta=2.0)))
    assert found.n == 12
    assert found.value == pytest.approx(np.mean(values), abs=1e-6)
    assert found.lo <= found.value <= found.hi
    with pytest.raises(DataError, match="no prompt"):
        estimate_entropy(lm, [])
