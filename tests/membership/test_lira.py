"""The likelihood ratio attack against one written record by record, and the identities it must keep."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import multivariate_normal, norm

from assay.core.errors import DataError, SettingError
from assay.core.roc import roc
from assay.membership import LiRA, lira_scores
from assay.membership.attacks.global_threshold import GlobalThreshold
from assay.membership.attacks.loss import Loss
from assay.membership.signals import answers_from

from .worlds import World, logits_of, slow_lira, world

VARIANCES = ("residual", "per-example", "canary-code", "carlini-code")
FORMS = (("online", "one"), ("offline", "one"), ("offline", "two"))
every_variance = pytest.mark.parametrize("variance", VARIANCES)
every_form = pytest.mark.parametrize(("mode", "sided"), FORMS)


@given(
    seed=st.integers(0, 10**6),
    models=st.integers(4, 11),
    records=st.integers(1, 9),
    queries=st.integers(1, 3),
    missing=st.sampled_from([0.0, 0.1]),
    variance=st.sampled_from(VARIANCES),
    form=st.sampled_from(FORMS),
)
@settings(max_examples=60, deadline=None)
def test_scores_are_those_of_the_slow_attack(
    seed: int, models: int, records: int, queries: int, missing: float, variance: str, form: tuple[str, str]
) -> None:
    one = world(seed, models=models, records=records, queries=queries, missing=missing)
    for mask in (one.in_mask, ~one.in_mask):
        if not (mask[:, :, None] & ~np.isnan(one.phi)).any(axis=0).all():
            return
    mode, sided = form
    expected = slow_lira(one, mode=mode, variance=variance, sided=sided)
    np.testing.assert_allclose(lira_scores(*one.inputs, mode, variance, sided), expected, rtol=1e-9, atol=1e-9)


def test_the_z_score_form_is_the_slow_one() -> None:
    one = world(3)
    expected = slow_lira(one, mode="offline", variance="residual", sided="one", tail="z-score")
    np.testing.assert_allclose(lira_scores(*one.inputs, mode="offline", tail="z-score"), expected, rtol=1e-9)


# IN: 2, 3, 7 and 0, 1, 5; OUT: -1, 1 and 4, 8 (columns are records).
HAND = World(
    phi=np.array([[2.0, 4.0], [3.0, 8.0], [7.0, 0.0], [-1.0, 1.0], [1.0, 5.0]])[:, :, None],
    in_mask=np.array([[1, 0], [1, 0], [1, 1], [0, 1], [0, 1]], dtype=bool),
    target=np.array([[2.0], [3.0]]),
    member=np.array([True, False]),
    labels=np.zeros(2, dtype=np.int64),
)
HAND_SPREADS = {
    # residuals IN: -1, 0, 4 twice, mean 1; OUT: -1, 1, -2, 2
    "residual": ((np.sqrt(28 / 6),) * 2, (np.sqrt(10 / 4),) * 2),
    # IN around 4 and around 2: 4 + 1 + 9 = 14 thirds; OUT: 1 and 2
    "per-example": ((np.sqrt(14 / 3), np.sqrt(14 / 3)), (1.0, 2.0)),
    # IN around 3: 1 + 0 + 16 + 9 + 4 + 4 = 34; OUT around 3: 16 + 4 + 1 + 25 = 46
    "canary-code": ((np.sqrt(34 / 6),) * 2, (np.sqrt(46 / 4),) * 2),
    "carlini-code": ((np.sqrt(34 / 6),) * 2, (np.sqrt(34 / 6),) * 2),
}


@every_variance
def test_each_convention_on_numbers_worked_out_by_hand(variance: str) -> None:
    s_in, s_out = HAND_SPREADS[variance]
    expected = [
        norm.logpdf(2.0, 3.0, s_in[0]) - norm.logpdf(2.0, 0.0, s_out[0]),
        norm.logpdf(3.0, 1.0, s_in[1]) - norm.logpdf(3.0, 6.0, s_out[1]),
    ]
    np.testing.assert_allclose(lira_scores(*HAND.inputs, variance=variance), expected, rtol=1e-12)


def test_offline_the_first_script_has_the_spread_of_out() -> None:
    s = np.sqrt(46 / 4)
    expected = [-norm.logsf(2.0 / s), -norm.logsf(-3.0 / s)]
    found = lira_scores(*HAND.inputs, mode="offline", variance="carlini-code")
    np.testing.assert_allclose(found, expected, rtol=1e-12)


@every_variance
@every_form
def test_another_scale_adds_one_number_to_all_scores(mode: str, sided: str, variance: str) -> None:
    one = world(5, queries=3)
    other = dataclasses.replace(one, phi=2.5 * one.phi - 4, target=2.5 * one.target - 4)
    apart = lira_scores(*other.inputs, mode, variance, sided) - lira_scores(*one.inputs, mode, variance, sided)
    np.testing.assert_allclose(apart, apart[0], atol=1e-9)
    if mode == "offline" and sided == "two":
        assert apart[0] == pytest.approx(np.log(2.5))
    else:
        assert apart[0] == pytest.approx(0, abs=1e-9)


@every_variance
def test_the_one_sided_score_grows_with_the_confidence_far_beyond_where_the_normal_rounds_to_one(variance: str) -> None:
    phi = world(1, records=40, queries=1).phi
    phi[:] = phi[:, :1]
    mask = np.repeat(world(1, records=1).in_mask, 40, axis=1)
    target = np.linspace(-50, 300, 40)[:, None]
    scores = lira_scores(logits_of(phi), mask, logits_of(target), np.zeros(40, dtype=int), "offline", variance)
    assert (np.diff(scores) >= 0).all()
    assert (np.diff(scores[scores > 0]) > 0).all()
    assert (scores[5:] > 0).all()
    two = lira_scores(logits_of(phi), mask, logits_of(target), np.zeros(40, dtype=int), "offline", variance, "two")
    assert two[0] > two[6]


@every_form
def test_the_order_of_models_and_of_records_does_not_matter(mode: str, sided: str) -> None:
    one = world(8, models=9, missing=0.1)
    models, records = np.random.default_rng(0).permutation(9), np.random.default_rng(1).permutation(12)
    scores = lira_scores(*one.inputs, mode, sided=sided)
    shuffled = lira_scores(one.reference_logits[models], one.in_mask[models], *one.inputs[2:], mode, sided=sided)
    np.testing.assert_allclose(shuffled, scores, rtol=1e-12)
    moved = lira_scores(
        one.reference_logits[:, records],
        one.in_mask[:, records],
        one.target_logits[records],
        one.labels,
        mode,
        sided=sided,
    )
    np.testing.assert_allclose(moved, scores[records], rtol=1e-12)


@every_variance
@every_form
def test_a_missing_model_is_as_good_as_none(mode: str, sided: str, variance: str) -> None:
    one = world(2, models=9)
    logits = one.reference_logits.copy()
    logits[4] = np.nan
    rest = np.delete(np.arange(9), 4)
    expected = lira_scores(one.reference_logits[rest], one.in_mask[rest], *one.inputs[2:], mode, variance, sided)
    found = lira_scores(logits, *one.inputs[1:], mode, variance, sided)
    np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_offline_does_not_look_at_models_that_saw_the_record() -> None:
    one = world(4)
    other = dataclasses.replace(one, phi=np.where(one.in_mask[:, :, None], one.phi * 7 + 1, one.phi))
    for sided in ("one", "two"):
        for variance in VARIANCES:
            scores = [lira_scores(*w.inputs, "offline", variance, sided) for w in (one, other)]
            assert (scores[0] == scores[1]).all()


def test_online_no_side_is_looked_at() -> None:
    one = world(4)
    assert (lira_scores(*one.inputs, sided="one") == lira_scores(*one.inputs, sided="two")).all()


def test_one_query_may_be_given_without_its_axis() -> None:
    one = world(6, queries=1)
    flat = lira_scores(one.reference_logits[:, :, 0], one.in_mask, one.target_logits[:, 0], one.labels)
    assert (flat == lira_scores(*one.inputs)).all()


def test_a_record_without_out_models_takes_the_centre_of_the_others_and_is_reported() -> None:
    one = world(7, queries=1)
    mask = one.in_mask.copy()
    mask[:, 3] = True
    scored = LiRA(mode="offline", tail="z-score", variance="canary-code").score(
        answers_from(one.reference_logits, mask, *one.inputs[2:])
    )
    outs = [one.phi[~mask[:, i], i, 0] for i in range(12)]
    centre = np.mean([np.median(out) for i, out in enumerate(outs) if i != 3])
    spread = np.concatenate(outs).std()
    assert scored.scores[3] == pytest.approx((one.target[3, 0] - centre) / spread)
    (finding,) = scored.findings
    assert finding.code == "few-out-models"
    assert finding.value == 1
    assert "1 of 12 records" in finding.message


def test_a_record_with_one_model_has_a_score_and_is_reported() -> None:
    one = world(7, queries=1)
    mask = one.in_mask.copy()
    mask[:, 3] = np.arange(8) == 2
    for variance in VARIANCES:
        scored = LiRA(variance=variance).score(answers_from(one.reference_logits, mask, *one.inputs[2:]))
        assert np.isfinite(scored.scores).all()
        assert "few-in-models" in [finding.code for finding in scored.findings]


@pytest.mark.parametrize(("mode", "inside", "side"), [("online", False, "IN"), ("offline", True, "OUT")])
def test_a_side_without_any_model_is_an_error(mode: str, inside: bool, side: str) -> None:
    one = world(0)
    with pytest.raises(DataError, match=f"No record has an answer of an {side} model"):
        lira_scores(one.reference_logits, np.full_like(one.in_mask, inside), *one.inputs[2:], mode=mode)


def test_no_reference_models_are_an_error_that_names_what_to_use() -> None:
    one = world(0)
    with pytest.raises(DataError, match="'loss' or 'global-threshold'"):
        lira_scores(one.reference_logits[:0], one.in_mask[:0], *one.inputs[2:])


@every_variance
@every_form
def test_constant_references_give_finite_scores(mode: str, sided: str, variance: str) -> None:
    one = world(9)
    flat = dataclasses.replace(one, phi=np.full_like(one.phi, 0.1))
    scored = LiRA(mode=mode, variance=variance, sided=sided if mode == "offline" else None).score(
        answers_from(*flat.inputs)
    )
    assert np.isfinite(scored.scores).all()
    assert "constant-references" in [finding.code for finding in scored.findings]
    if mode == "online":
        assert (scored.scores == 0).all()


@every_form
def test_references_that_are_constant_for_each_record_are_floored_and_reported(mode: str, sided: str) -> None:
    one = world(9)
    flat = dataclasses.replace(one, phi=np.broadcast_to(one.phi[:1], one.phi.shape))
    for variance in ("residual", "per-example"):
        scored = LiRA(mode=mode, variance=variance, sided=sided if mode == "offline" else None).score(
            answers_from(*flat.inputs)
        )
        assert np.isfinite(scored.scores).all()
        assert "spread-floor" in [finding.code for finding in scored.findings]


def test_a_probability_of_zero_has_a_finite_score() -> None:
    one = world(10)
    logits = one.reference_logits.copy()
    logits[0, 0, 0, 0] = logits[1, 1, 0, 1] = -np.inf
    target = one.target_logits.copy()
    target[2, 0, 0] = -np.inf
    for mode, sided in FORMS:
        assert np.isfinite(lira_scores(logits, one.in_mask, target, one.labels, mode, sided=sided)).all()


def test_online_beats_offline_and_both_beat_attacks_without_references() -> None:
    one = world(11, models=32, records=1500, queries=1, effect=2.0)
    online = roc(lira_scores(*one.inputs), one.member).auc
    offline = roc(lira_scores(*one.inputs, mode="offline"), one.member).auc
    two = roc(lira_scores(*one.inputs, mode="offline", sided="two"), one.member).auc
    answers = answers_from(*one.inputs)
    loss, threshold = (roc(attack.score(answers).scores, one.member).auc for attack in (Loss(), GlobalThreshold()))
    assert online > 0.88
    assert offline > 0.88
    assert two < offline - 0.05
    assert max(loss, threshold) < 0.75


@every_form
def test_shuffled_labels_give_chance(mode: str, sided: str) -> None:
    one = world(12, models=16, records=2000, queries=1, effect=2.0)
    shuffled = np.random.default_rng(0).permutation(one.member)
    found = roc(lira_scores(*one.inputs, mode, sided=sided), shuffled).interval("auc", level=0.999)
    assert found.lo < 0.5 < found.hi


def test_several_queries_do_better_than_one() -> None:
    one = world(13, models=16, records=800, queries=8, effect=0.7)
    alone = dataclasses.replace(one, phi=one.phi[:, :, :1], target=one.target[:, :1])
    many, few = (roc(lira_scores(*w.inputs), one.member).auc for w in (one, alone))
    assert many > few + 0.1


def test_jointly_one_query_is_as_before() -> None:
    one = world(14, models=24, queries=1, missing=0.05)
    for mode, sided in (("online", "one"), ("offline", "two")):
        for variance in ("residual", "per-example"):
            side = sided if mode == "offline" else None
            answers = answers_from(*one.inputs)
            plain, joint = (
                LiRA(mode=mode, sided=side, variance=variance, joint=flag, centre="mean").score(answers).scores
                for flag in (False, True)
            )
            np.testing.assert_allclose(joint, plain, rtol=1e-9)


@pytest.mark.parametrize("variance", ["residual", "per-example"])
def test_jointly_the_density_is_that_of_a_multivariate_normal(variance: str) -> None:
    one = world(15, models=24, records=6, queries=3)
    scores = lira_scores(*one.inputs, mode="offline", sided="two", variance=variance, joint=True)
    outs = [one.phi[~one.in_mask[:, i], i] for i in range(6)]
    residuals = np.concatenate([out - out.mean(axis=0) for out in outs])
    for i, out in enumerate(outs):
        rows = residuals if variance == "residual" else out
        covariance = np.cov(rows.T, bias=True)
        weight = 3 / (3 + len(rows))
        shrunk = (1 - weight) * covariance + weight * np.diag(np.diag(covariance))
        density = multivariate_normal(out.mean(axis=0), shrunk).logpdf(one.target[i])
        assert scores[i] == pytest.approx(-density / 3, rel=1e-9)


def test_jointly_repeated_queries_are_not_counted_twice() -> None:
    one = world(16, models=150, records=600, queries=1)
    rng = np.random.default_rng(1)
    phi = np.concatenate([one.phi] * 8, axis=2) + rng.normal(0, 0.1, (150, 600, 8))
    target = np.concatenate([one.target] * 8, axis=1) + rng.normal(0, 0.1, (600, 8))
    fresh = rng.normal(0, 1, (150, 600, 1)) + one.in_mask[:, :, None]
    answer = rng.normal(0, 1, (600, 1)) + one.member[:, None]
    both = dataclasses.replace(
        one, phi=np.concatenate([phi, fresh], axis=2), target=np.concatenate([target, answer], 1)
    )
    joint, apart = (roc(lira_scores(*both.inputs, joint=flag), one.member).auc for flag in (True, False))
    assert joint > apart + 0.02


def test_jointly_too_few_models_are_an_error() -> None:
    one = world(0, models=8, queries=3)
    with pytest.raises(SettingError, match="at least 6 IN models"):
        lira_scores(*one.inputs, joint=True)


@pytest.mark.parametrize(
    ("words", "match"),
    [
        ({"sided": "two"}, "does nothing"),
        ({"tail": "z-score"}, "one-sided offline"),
        ({"mode": "offline", "sided": "two", "tail": "z-score"}, "one-sided offline"),
        ({"mode": "offline", "joint": True}, "log density"),
        ({"variance": "canary-code", "joint": True}, "log density"),
        ({"mode": "of-line"}, "Did you mean 'offline'"),
        ({"variance": "residuals"}, "Did you mean 'residual'"),
    ],
)
def test_settings_that_do_nothing_or_do_not_exist_are_errors(words: dict[str, object], match: str) -> None:
    with pytest.raises(SettingError, match=match):
        LiRA(**words)  # type: ignore[arg-type]


@pytest.mark.parametrize("words", [{"mode": "on"}, {"variance": "x"}, {"sided": "three"}, {"tail": "x"}])
def test_the_function_refuses_what_does_not_exist(words: dict[str, str]) -> None:
    with pytest.raises(SettingError):
        lira_scores(*world(0).inputs, **words)  # type: ignore[arg-type]


def test_what_was_done_is_said() -> None:
    answers = answers_from(*world(0).inputs)
    said = LiRA(mode="offline", sided="two", variance="canary-code").score(answers).about
    assert "offline, two-sided" in said
    assert "'canary-code'" in said
    assert "2 queries" in said
    assert "z-score" in LiRA(mode="offline", tail="z-score").score(answers).about
    assert "online" in LiRA().score(answers).about
