"""Robust membership inference against one written pair by pair, and the identities it must keep."""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assay.core.errors import DataError, InputError, SettingError
from assay.core.roc import roc
from assay.membership import RMIA, rmia_scores
from assay.membership.attacks.rmia import GRID, tune_offline_a
from assay.membership.signals import Answers, answers_from

from .worlds import World, logits_of, probability, slow_rmia, world


def outside(seed: int, *, models: int = 8, records: int = 30, queries: int = 1) -> World:
    """Records that no model was trained on."""
    one = world(seed + 999, models=models, records=records, queries=queries, effect=0.0)
    return dataclasses.replace(one, in_mask=np.zeros_like(one.in_mask), member=np.zeros_like(one.member))


def aside(population: World) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return population.reference_logits, population.target_logits, population.labels


def answers_of(one: World, population: World) -> Answers:
    reference, target, labels = aside(population)
    return answers_from(*one.inputs, population_reference=reference, population_target=target, population_labels=labels)


@given(
    seed=st.integers(0, 10**6),
    models=st.integers(2, 9),
    queries=st.integers(1, 4),
    mode=st.sampled_from(["online", "offline"]),
    gamma=st.sampled_from([0.7, 1.0, 2.0]),
    a=st.sampled_from([0.0, 0.3, 1.0]),
    strict=st.booleans(),
    form=st.sampled_from(["mean", "scores", "majority"]),
)
@settings(max_examples=60, deadline=None)
def test_scores_are_those_of_the_slow_attack(
    seed: int, models: int, queries: int, mode: str, gamma: float, a: float, strict: bool, form: str
) -> None:
    one, population = world(seed, models=models, queries=queries), outside(seed, models=models, queries=queries)
    words = {"mode": mode, "gamma": gamma, "strict": strict, "queries": form}
    found = rmia_scores(*one.inputs, *aside(population), offline_a=a, **words)  # type: ignore[arg-type]
    np.testing.assert_allclose(found, slow_rmia(one, population, a=a, **words), atol=1e-12)  # type: ignore[arg-type]


@pytest.mark.parametrize("mode", ["online", "offline"])
def test_missing_answers_are_left_out_of_the_means(mode: str) -> None:
    one, population = world(4, models=12, queries=1, missing=0.2), outside(4, models=12)
    population.phi[::5, ::3] = np.nan
    expected = slow_rmia(one, population, mode=mode)
    np.testing.assert_allclose(rmia_scores(*one.inputs, *aside(population), mode=mode), expected, atol=1e-12)


def test_the_mean_of_a_population_runs_over_all_models() -> None:
    """Sorting and keeping the larger half, as a published tool does, would give .86 here in place of .75."""
    p = np.array([0.9, 0.9, 0.9, 0.74, 0.7, 0.66, 0.6, 0.6])
    assert p.mean() == pytest.approx(0.75)
    phi = np.log(p / (1 - p))
    reference = np.full((8, 1, 1), 0.0)
    mask = (np.arange(8) < 4)[:, None]

    def score(target: float) -> float:
        given = (logits_of(reference), mask, logits_of(np.full((1, 1), target)), [0])
        star = np.log(0.75 / 0.25)
        return float(rmia_scores(*given, logits_of(phi[:, None, None]), logits_of(np.full((1, 1), star)), [0])[0])

    # ratio_z = .75 / .75 = 1, so that x wins as soon as its own ratio, p / ½, exceeds 1
    assert score(0.02) == 1.0
    assert score(-0.02) == 0.0


def test_at_a_of_one_the_score_is_the_rank_of_the_ratio_to_the_mean_of_out() -> None:
    one, population = world(5, queries=1), outside(5)
    scores = rmia_scores(*one.inputs, *aside(population), mode="offline", offline_a=1.0)
    p_x, p_z = probability(one.phi[:, :, 0]), probability(population.phi[:, :, 0])
    ratio_z = probability(population.target[:, 0]) / p_z.mean(axis=0)
    for i, score in enumerate(scores):
        ratio = probability(one.target)[i, 0] / p_x[~one.in_mask[:, i], i].mean()
        assert score == pytest.approx((ratio_z < ratio).mean())


@pytest.mark.parametrize("mode", ["online", "offline"])
def test_multiplying_the_ratios_of_the_population_is_changing_gamma(mode: str) -> None:
    """Where p is small, adding log 2 to the target's logit doubles p / p(z)."""
    one, population = world(6, queries=1, records=40), outside(6, records=200)
    population = dataclasses.replace(population, phi=population.phi - 40, target=population.target - 40)
    doubled = dataclasses.replace(population, target=population.target + np.log(2))
    expected = rmia_scores(*one.inputs, *aside(population), mode=mode, offline_a=1.0, gamma=2.0 * np.exp(5))
    found = rmia_scores(*one.inputs, *aside(doubled), mode=mode, offline_a=1.0, gamma=np.exp(5))
    assert (found == expected).all()


def test_equal_ratios_are_beaten_only_where_strict_is_false() -> None:
    flat = world(0, queries=1)
    flat = dataclasses.replace(flat, phi=np.ones_like(flat.phi), target=np.ones_like(flat.target))
    same = dataclasses.replace(flat, in_mask=np.zeros_like(flat.in_mask))
    for mode in ("online", "offline"):
        assert (rmia_scores(*flat.inputs, *aside(same), mode=mode, offline_a=1.0) == 0).all()
        assert (rmia_scores(*flat.inputs, *aside(same), mode=mode, offline_a=1.0, strict=False) == 1).all()


def test_larger_gammas_never_raise_a_score() -> None:
    one, population = world(7), outside(7, queries=2)
    scores = [rmia_scores(*one.inputs, *aside(population), gamma=gamma) for gamma in (0.5, 1.0, 2.0, 8.0)]
    assert all((a >= b).all() for a, b in itertools.pairwise(scores))
    assert scores[0].sum() > scores[-1].sum()


def test_offline_does_not_look_at_models_that_saw_the_record() -> None:
    one, population = world(8), outside(8, queries=2)
    other = dataclasses.replace(one, phi=np.where(one.in_mask[:, :, None], -one.phi + 3, one.phi))
    scores = [rmia_scores(*w.inputs, *aside(population), mode="offline") for w in (one, other)]
    assert (scores[0] == scores[1]).all()


def test_the_order_of_models_does_not_matter() -> None:
    one, population = world(9), outside(9, queries=2)
    order = np.random.default_rng(0).permutation(8)
    found = rmia_scores(
        one.reference_logits[order], one.in_mask[order], *one.inputs[2:],
        population.reference_logits[order], *aside(population)[1:],
    )  # fmt: skip
    np.testing.assert_allclose(found, rmia_scores(*one.inputs, *aside(population)), atol=1e-12)


def test_probabilities_that_vanish_do_not_divide_by_zero() -> None:
    one, population = world(10), outside(10, queries=2)
    far = dataclasses.replace(one, phi=one.phi - 2000, target=one.target - 2000)
    gone = dataclasses.replace(population, phi=population.phi - 3000, target=population.target - 3000)
    for mode in ("online", "offline"):
        for a in (0.0, 1.0):
            scores = rmia_scores(*far.inputs, *aside(gone), mode=mode, offline_a=a)
            assert np.isfinite(scores).all()
    online = rmia_scores(*far.inputs, *aside(gone))
    assert 0 < online.mean() < 1


def test_one_reference_that_saw_the_record_is_turned_round() -> None:
    one, population = world(11, models=1, queries=1, records=20), outside(11, models=1)
    one = dataclasses.replace(one, in_mask=np.ones_like(one.in_mask))
    p_in = probability(one.phi)[0, :, 0]
    for a in (0.0, 0.4, 1.0):
        b = a or 0.3
        p_out = np.clip((p_in + b - 1) / b, 0, 1)
        marginal = 0.5 * ((1 + a) * p_out + 1 - a)
        p_z = 0.5 * ((1 + a) * probability(population.phi)[0, :, 0] + 1 - a)
        ratio_z = probability(population.target)[:, 0] / p_z
        with np.errstate(divide="ignore"):
            expected = [(ratio_z < ratio).mean() for ratio in probability(one.target)[:, 0] / marginal]
        scored = RMIA(mode="offline", offline_a=a).score(answers_of(one, population))
        np.testing.assert_allclose(scored.scores, expected, atol=1e-12)
        assert "few-out-models" in [finding.code for finding in scored.findings]


def test_online_a_record_without_in_models_has_the_marginal_of_out() -> None:
    one, population = world(12, queries=1), outside(12)
    one.in_mask[:, 3] = False
    scored = RMIA().score(answers_of(one, population))
    np.testing.assert_allclose(scored.scores, slow_rmia(one, population, mode="online"), atol=1e-12)
    assert [finding.code for finding in scored.findings if finding.value == 1] == ["few-in-models"]


def test_it_tells_members_with_few_references() -> None:
    one, population = world(13, models=4, records=800, queries=1, effect=3.0), outside(13, models=4, records=500)
    assert roc(rmia_scores(*one.inputs, *aside(population)), one.member).auc > 0.7
    assert roc(rmia_scores(*one.inputs, *aside(population), mode="offline"), one.member).auc > 0.7
    chance = roc(
        rmia_scores(*one.inputs, *aside(population)), np.random.default_rng(0).permutation(one.member)
    ).interval("auc", level=0.999)
    assert chance.lo < 0.5 < chance.hi


def test_a_is_tuned_on_the_mock_target_alone() -> None:
    one, population = world(14, models=6, records=200, queries=1, effect=2.0), outside(14, models=6, records=100)
    answers = answers_of(one, population)
    tuned = tune_offline_a(answers, mocks=(2,))
    assert tuned.grid == GRID
    mock = dataclasses.replace(
        one, phi=np.delete(one.phi, 2, 0), in_mask=np.delete(one.in_mask, 2, 0), target=one.phi[2]
    )
    others = dataclasses.replace(
        population, phi=np.delete(population.phi, 2, 0), in_mask=mock.in_mask[:, :100] & False, target=population.phi[2]
    )
    for a, auc in zip(tuned.grid, tuned.auc, strict=True):
        slow = slow_rmia(mock, others, mode="offline", a=a)
        assert roc(slow, one.in_mask[2]).auc == pytest.approx(auc)
    assert tuned.a == GRID[int(np.argmax(tuned.auc))]
    other = dataclasses.replace(one, target=-one.target)
    elsewhere = dataclasses.replace(population, target=-population.target)
    assert tune_offline_a(answers_of(other, elsewhere), mocks=(2,)) == tuned


def test_tuning_is_a_setting() -> None:
    one, population = world(14, models=6, records=60), outside(14, models=6, queries=2)
    answers = answers_of(one, population)
    tuned = tune_offline_a(answers, attack=RMIA(mode="offline", gamma=2.0))
    scored = RMIA(mode="offline", tune=True, gamma=2.0).score(answers)
    assert (scored.scores == RMIA(mode="offline", offline_a=tuned.a, gamma=2.0).score(answers).scores).all()
    assert f"a = {tuned.a:g} (tuned" in scored.about


def test_mocks_that_cannot_be_judged_are_errors() -> None:
    one, population = world(0), outside(0, queries=2)
    one.in_mask[0] = True
    with pytest.raises(InputError, match="trained with all"):
        tune_offline_a(answers_of(one, population))
    single, alone = world(0, models=2), outside(0, models=2, queries=2)
    with pytest.raises(InputError, match="another as its reference"):
        tune_offline_a(answers_of(single, alone).as_target(0))


def test_taylor_probabilities_are_their_polynomial() -> None:
    rng = np.random.default_rng(0)
    reference, target, labels = rng.normal(size=(4, 9, 3)), rng.normal(size=(9, 3)), rng.integers(0, 3, 9)
    others, elsewhere, classes = rng.normal(size=(4, 20, 3)), rng.normal(size=(20, 3)), rng.integers(0, 3, 20)
    mask = rng.random((4, 9)) < 0.5
    mask[:2] = [[True], [False]]
    answers = answers_from(
        reference, mask, target, labels,
        population_reference=others, population_target=elsewhere, population_labels=classes,
    )  # fmt: skip
    found = RMIA(probability="taylor", temperature=2.0, order=4, margin=0.6).score(answers)

    def p(z: np.ndarray, y: int) -> float:
        def polynomial(u: float) -> float:
            return 1 + u + u**2 / 2 + u**3 / 6 + u**4 / 24

        true = polynomial(z[y] / 2 - 0.6)
        return true / (true + sum(polynomial(z[c] / 2) for c in range(3) if c != y))

    ratio_z = [p(elsewhere[j], classes[j]) / np.mean([p(m[j], classes[j]) for m in others]) for j in range(20)]
    for i in range(9):
        values = np.array([p(m[i], labels[i]) for m in reference])
        marginal = (values[mask[:, i]].mean() + values[~mask[:, i]].mean()) / 2
        assert found.scores[i] == np.mean(np.array(ratio_z) < p(target[i], labels[i]) / marginal)
    assert "taylor" in found.about


def test_a_small_population_is_reported_and_none_is_an_error() -> None:
    one, population = world(1), outside(1, queries=2)
    scored = RMIA(mode="offline").score(answers_of(one, population))
    assert [finding.code for finding in scored.findings] == ["small-population"]
    assert "a = 0.3" in scored.about
    with pytest.raises(DataError, match="population_reference"):
        RMIA().score(answers_from(*one.inputs))
    reference, target, labels = aside(population)
    nobody = answers_from(
        one.reference_logits[:0], one.in_mask[:0], *one.inputs[2:],
        population_reference=reference[:0], population_target=target, population_labels=labels,
    )  # fmt: skip
    with pytest.raises(DataError, match="at least one reference model"):
        RMIA().score(nobody)


@pytest.mark.parametrize(
    ("words", "match"),
    [
        ({"offline_a": 0.3}, "does nothing"),
        ({"tune": True}, "does nothing"),
        ({"mode": "offline", "tune": True, "offline_a": 0.5}, "one of them"),
        ({"order": 4}, "taylor"),
        ({"margin": 0.6}, "taylor"),
        ({"probability": "taylor", "order": 3}, "even"),
        ({"gamma": 0}, "above 0"),
        ({"mode": "offline", "offline_a": 1.5}, "at most 1"),
    ],
)
def test_settings_that_do_nothing_or_are_not_allowed_are_errors(words: dict[str, object], match: str) -> None:
    with pytest.raises(SettingError, match=match):
        RMIA(**words)  # type: ignore[arg-type]


def test_the_function_refuses_an_a_out_of_range_in_both_modes() -> None:
    one, population = world(1), outside(1, queries=2)
    for mode in ("online", "offline"):
        with pytest.raises(SettingError, match="offline_a"):
            rmia_scores(*one.inputs, *aside(population), mode=mode, offline_a=-0.1)
