"""The simple attacks on numbers worked out by hand, and the register of attacks by name."""

from __future__ import annotations

import numpy as np
import pytest

from assay.core.errors import DataError, SettingError, Unsupported
from assay.core.methods import cards, settings_of
from assay.core.roc import roc
from assay.core.settings import build
from assay.membership.attacks.calibrated_loss import CalibratedLoss
from assay.membership.attacks.gap import Gap
from assay.membership.attacks.global_threshold import GlobalThreshold
from assay.membership.attacks.lira import LiRA
from assay.membership.attacks.loss import Loss
from assay.membership.attacks.offset import Offset
from assay.membership.attacks.registry import label, names, parse
from assay.membership.signals import answers_from, answers_from_labels

from .test_signals import aside
from .worlds import logits_of, world

# one query, records are columns; IN: 2, 4, 9 and 3; OUT: 0 and 1, 2, 6
PHI = np.array([[2.0, 3.0], [4.0, 1.0], [9.0, 2.0], [0.0, 6.0]])
MASK = np.array([[1, 1], [1, 0], [1, 0], [0, 0]], dtype=bool)
TARGET = np.array([5.0, 7.0])
HAND = answers_from(logits_of(PHI), MASK, logits_of(TARGET), [0, 0])


def test_the_attacks_without_references() -> None:
    assert Loss().score(HAND).scores == pytest.approx(-np.log1p(np.exp(-TARGET)))
    assert GlobalThreshold().score(HAND).scores == pytest.approx(TARGET)
    assert GlobalThreshold(signal="probability").score(HAND).scores == pytest.approx(1 / (1 + np.exp(-TARGET)))


@pytest.mark.parametrize(
    ("side", "centre", "expected"),
    [
        ("in", "median", [5 - 4, 7 - 3]),
        ("in", "mean", [5 - 5, 7 - 3]),
        ("out", "median", [5 - 0, 7 - 2]),
        ("out", "mean", [5 - 0, 7 - 3]),
        ("both", "median", [5 - 2, 7 - 2.5]),
        ("both", "mean", [5 - 2.5, 7 - 3]),
    ],
)
def test_offsets_by_hand(side: str, centre: str, expected: list[float]) -> None:
    assert Offset(side=side, centre=centre).score(HAND).scores == pytest.approx(expected)


def test_the_calibrated_loss_by_hand() -> None:
    loss, target = np.log1p(np.exp(-PHI)), np.log1p(np.exp(-TARGET))
    out = [loss[3, 0] - target[0], loss[1:, 1].mean() - target[1]]
    assert CalibratedLoss().score(HAND).scores == pytest.approx(out)
    middle = [
        (loss[:3, 0].mean() + loss[3, 0]) / 2 - target[0],
        (loss[0, 1] + loss[1:, 1].mean()) / 2 - target[1],
    ]
    assert CalibratedLoss(side="both").score(HAND).scores == pytest.approx(middle)
    median = [loss[3, 0] - target[0], np.median(loss[1:, 1]) - target[1]]
    assert CalibratedLoss(centre="median").score(HAND).scores == pytest.approx(median)


def test_queries_are_averaged() -> None:
    one = world(0, queries=3)
    answers = answers_from(*one.inputs)
    for i in range(12):
        out = np.median(one.phi[~one.in_mask[:, i], i], axis=0)
        expected = (one.target[i] - out).mean()
        assert Offset(side="out").score(answers).scores[i] == pytest.approx(expected)
    assert GlobalThreshold().score(answers).scores == pytest.approx(one.target.mean(axis=1))


def test_a_record_without_out_models_takes_the_mean_centre() -> None:
    mask = MASK.copy()
    mask[3, 0] = True
    scored = Offset(side="out").score(answers_from(logits_of(PHI), mask, logits_of(TARGET), [0, 0]))
    assert scored.scores == pytest.approx([5 - 2, 7 - 2])
    assert scored.findings[0].code == "few-out-models"


def test_labels_alone() -> None:
    answers = answers_from_labels([[1, 0], [1, 1], [0, 0]], MASK[1:], [[1], [1]], [1, 1])
    # OUT of record 0: the last model, wrong; OUT of record 1: wrong, right, wrong
    assert Gap().score(answers).scores == pytest.approx([1 - 0, 1 - 1 / 3])
    assert Gap(calibrate=False).score(answers).scores.tolist() == [1.0, 1.0]
    with pytest.raises(Unsupported, match="'gap'"):
        LiRA().score(answers)
    many = answers_from_labels(np.zeros((0, 2, 4), dtype=int), np.zeros((0, 2), dtype=bool), [[1, 0, 1, 1]] * 2, [1, 0])
    assert Gap(calibrate=False).score(many).scores.tolist() == [0.75, 0.25]
    with pytest.raises(DataError, match="needs reference models"):
        Gap().score(many)


def test_attacks_with_references_say_that_they_need_them() -> None:
    alone = answers_from(np.empty((0, 2, 2)), np.empty((0, 2), dtype=bool), logits_of(TARGET), [0, 0])
    assert Loss().score(alone).scores[1] > Loss().score(alone).scores[0]
    for attack in (Offset(), CalibratedLoss(), LiRA(mode="offline")):
        with pytest.raises(DataError, match="needs reference models"):
            attack.score(alone)


def test_calibration_beats_the_loss_where_records_differ() -> None:
    one = world(1, models=16, records=1000, effect=1.5)
    answers = answers_from(*one.inputs)
    areas = {
        name: roc(parse(name)[1].score(answers).scores, one.member).auc
        for name in ("lira", "offset", "offset:side=out", "calibrated-loss", "loss", "global-threshold", "gap")
    }
    assert min(areas["lira"], areas["offset"], areas["offset:side=out"]) > areas["calibrated-loss"] > areas["loss"]
    assert areas["offset"] > areas["loss"] + 0.15
    assert areas["gap"] > 0.5


@pytest.mark.parametrize("name", names())
def test_every_attack_scores_says_what_it_did_and_can_be_asked_by_name(name: str) -> None:
    one = world(2)
    answers = answers_from(*one.inputs, **aside(2))
    found, attack = parse(name)
    assert found == name
    scored = attack.score(answers)
    assert scored.scores.shape == (12,)
    assert scored.scores.dtype == np.float64
    assert np.isfinite(scored.scores).all()
    assert scored.about.endswith(".")
    assert label(name, attack) == name
    shuffled = attack.score(answers.take(np.arange(12)[::-1])).scores
    np.testing.assert_allclose(shuffled, scored.scores[::-1], atol=1e-12)


@pytest.mark.parametrize("name", names())
def test_no_attack_tells_shuffled_members(name: str) -> None:
    one = world(3, models=8, records=1200, effect=2.0)
    answers = answers_from(*one.inputs, **aside(3))
    shuffled = np.random.default_rng(0).permutation(one.member)
    found = roc(parse(name)[1].score(answers).scores, shuffled).interval("auc", level=0.999, method="newcombe")
    assert found.lo < 0.5 < found.hi


def test_names_and_settings_in_the_short_form() -> None:
    assert names() == [card.name for card in cards("inference", "membership")]
    name, attack = parse(" rmia: mode = offline; offline-a=0.5;tune=no ")
    assert (name, attack.offline_a, attack.tune) == ("rmia", 0.5, False)  # type: ignore[attr-defined]
    assert label(name, attack) == "rmia:mode=offline;offline_a=0.5"
    assert parse(label(name, attack)) == (name, attack)
    everything = parse("lira:mode=offline;sided=one;tail=z-score;variance=carlini-code;centre=mean")
    assert parse(label(*everything)) == everything
    for card in cards("inference", "membership"):
        assert build(settings_of(card), {}) == parse(card.name)[1]


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("lyra", "Did you mean 'lira'"),
        ("lira:mod=offline", "Did you mean 'mode'"),
        ("lira:offline", "no value"),
        ("lira:mode=off", "offline"),
        ("lira:mode=offline;mode=online", "twice"),
        ("loss:mode=offline", "no settings"),
        ("", "There are"),
    ],
)
def test_short_forms_that_mean_nothing(text: str, match: str) -> None:
    with pytest.raises(SettingError, match=match):
        parse(text)
