"""Quantities of answers against plain formulas; answers kept, sliced and read one model at a time."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from assay.core.errors import DataError, InputError, SettingError, Unsupported
from assay.membership.attacks.lira import LiRA
from assay.membership.quantities import CAP, SIGNALS, confidence, signal_of
from assay.membership.signals import Answers, answers_from, answers_from_labels, answers_from_probabilities

from .worlds import world

SMALL = st.floats(-30, 30, allow_nan=False)


def slow(z: Sequence[float], y: int, name: str) -> float:
    """The signals from the definition of softmax, in exact sums."""
    rest = math.fsum(math.exp(v) for c, v in enumerate(z) if c != y)
    p = math.exp(z[y]) / (rest + math.exp(z[y]))
    return {
        "confidence": z[y] - math.log(rest),
        "loss": -math.log(p),
        "probability": p,
        "log-probability": math.log(p),
        "hinge": z[y] - max(v for c, v in enumerate(z) if c != y),
        "correct": float(z.index(max(z)) == y),
    }[name]


@given(
    z=st.lists(SMALL, min_size=2, max_size=6),
    y=st.integers(0, 5),
    name=st.sampled_from(["confidence", "loss", "probability", "log-probability", "hinge", "correct"]),
)
@settings(deadline=None)
def test_signals_are_their_formulas(z: list[float], y: int, name: str) -> None:
    y %= len(z)
    assert signal_of([z], [y], name)[0] == pytest.approx(slow(z, y, name), rel=1e-9, abs=1e-9)


@given(z=st.lists(SMALL, min_size=2, max_size=6), shift=SMALL, temperature=st.sampled_from([0.5, 1.0, 3.0]))
@settings(deadline=None)
def test_a_shift_of_all_logits_changes_nothing_and_temperature_divides(
    z: list[float], shift: float, temperature: float
) -> None:
    plain = signal_of([z], [0], "confidence", temperature)
    assert plain == pytest.approx(signal_of([[v + shift for v in z]], [0], "confidence", temperature), abs=1e-9)
    assert plain == pytest.approx(confidence([[v / temperature for v in z]], [0]), abs=1e-9)


def test_sure_answers_are_not_rounded() -> None:
    assert confidence([[800.0, 0.0, 0.0]], [0])[0] == pytest.approx(800 - math.log(2))
    assert signal_of([[800.0, 0.0]], [1], "loss")[0] == pytest.approx(800)
    assert signal_of([[60.0, 0.0]], [0], "loss")[0] == pytest.approx(math.exp(-60))


def test_zero_probabilities_are_capped_and_broken_answers_are_missing() -> None:
    low, high, nan = -math.inf, math.inf, math.nan
    rows = [[low, 0.0], [0.0, low], [0.0, low, low], [nan, 0.0], [0.0, nan], [high, 0.0], [0.0, high], [low, low]]
    found = [float(confidence([row], [0])[0]) for row in rows]
    assert found[:3] == [-CAP, CAP, CAP]
    assert np.isnan(found[3:]).all()
    assert float(confidence([[low, 0.0, 1.0]], [2])[0]) == 1.0
    for name in SIGNALS:
        kept = signal_of(rows[:1], [0], name)[0]
        assert math.isnan(kept) if name == "taylor-probability" else math.isfinite(kept)
        assert np.isnan(signal_of([rows[3], rows[4], rows[5], rows[7]], [0] * 4, name)).all()


def test_the_first_of_equal_logits_is_the_answer() -> None:
    assert signal_of([[1.0, 1.0], [1.0, 1.0]], [0, 1], "correct").tolist() == [1.0, 0.0]


def test_labels_belong_to_records_whatever_the_queries() -> None:
    logits = np.random.default_rng(0).normal(size=(5, 3, 4))
    labels = np.array([0, 3, 1, 2, 2])
    whole = confidence(logits, labels)
    for i in range(5):
        for k in range(3):
            assert whole[i, k] == confidence(logits[i, k][None], labels[i : i + 1])[0]


def test_many_rows_are_the_same_as_one_by_one() -> None:
    logits = np.random.default_rng(0).normal(size=(3, 40_000, 2))[0].astype(np.float32)
    labels = np.arange(40_000) % 2
    whole = confidence(logits, labels)
    for i in (0, 32_767, 39_999):
        assert whole[i] == confidence(logits[i : i + 1], labels[i : i + 1])[0]


@pytest.mark.parametrize(
    ("words", "match"),
    [
        ({"name": "confidense"}, "Did you mean 'confidence'"),
        ({"temperature": 0.0}, "above 0"),
        ({"name": "taylor-probability", "order": 3}, "even"),
    ],
)
def test_wrong_settings_are_errors(words: dict[str, Any], match: str) -> None:
    with pytest.raises(SettingError, match=match):
        answers_from(*world(0).inputs).signal(**words)


def test_arrays_lists_memory_maps_and_tensors_are_the_same(tmp_path: Path) -> None:
    one = world(1)
    logits = one.reference_logits.astype(np.float32)
    expected = answers_from(logits, *one.inputs[1:]).signal().reference
    maps = []
    for m, block in enumerate(logits):
        np.save(tmp_path / f"{m}.npy", block)
        maps.append(np.load(tmp_path / f"{m}.npy", mmap_mode="r"))
    tensor = torch.from_numpy(logits).requires_grad_()
    mask, labels = torch.from_numpy(one.in_mask), torch.from_numpy(one.labels)
    for given_logits in (maps, list(logits), tensor, list(tensor)):
        answers = answers_from(given_logits, mask, torch.from_numpy(one.target_logits), labels)
        assert (answers.signal().reference == expected).all()
    half = answers_from(tensor.bfloat16(), mask, one.target_logits, labels).signal().reference
    assert (half == answers_from(tensor.bfloat16().float(), mask, one.target_logits, labels).signal().reference).all()


def test_one_model_is_read_at_a_time_and_only_once() -> None:
    one = world(2)
    read: list[int] = []

    class Watched(Sequence[Any]):
        def __len__(self) -> int:
            return len(one.phi)

        def __getitem__(self, place: Any) -> Any:
            read.append(place)
            return one.reference_logits[place]

    answers = Answers(reference=Watched(), in_mask=one.in_mask, target=one.target_logits, labels=one.labels)
    for name in ("loss", "confidence", "probability", "loss"):
        answers.signal(name)
    assert read == list(range(8))
    answers.as_target(3).signal("loss")
    answers.take([0, 1]).signal("confidence")
    answers.take([0, 1]).as_target(3).signal("confidence")
    assert len(read) <= 10, "slices take what the whole has read"


def test_a_model_in_the_targets_place_leaves_the_references() -> None:
    one = world(3, missing=0.1)
    answers = answers_from(*one.inputs, **aside(3))
    taken = answers.as_target(5)
    rest = np.delete(np.arange(8), 5)
    assert taken.models == 7
    fresh = Answers(
        reference=one.reference_logits[rest],
        in_mask=one.in_mask[rest],
        target=one.reference_logits[5],
        labels=one.labels,
    )
    for found in (taken.signal(), answers.signal().as_target(5)):
        np.testing.assert_array_equal(found.reference, fresh.signal().reference)
        np.testing.assert_array_equal(found.target, fresh.signal().target)
        np.testing.assert_array_equal(found.in_mask, one.in_mask[rest])
    assert taken.population is not None
    assert answers.population is not None
    np.testing.assert_array_equal(taken.population.signal().target, answers.population.signal().reference[5])
    np.testing.assert_array_equal(np.asarray([taken.reference[m] for m in range(7)]), one.reference_logits[rest])
    scores = LiRA().score(taken).scores
    assert (np.isnan(scores) == np.isnan(one.phi[5]).any(axis=1)).all()
    with pytest.raises(InputError, match="0 to 7"):
        answers.as_target(8)


def test_some_records_are_as_if_only_they_had_been_given() -> None:
    one = world(4)
    answers = answers_from(*one.inputs, **aside(4))
    for chosen in (np.array([3, 1]), one.member):
        taken = answers.take(chosen)
        assert len(taken) == len(one.labels[chosen])
        fresh = answers_from(
            one.reference_logits[:, chosen], one.in_mask[:, chosen], one.target_logits[chosen], one.labels[chosen]
        )
        np.testing.assert_array_equal(taken.signal().reference, fresh.signal().reference)
        np.testing.assert_array_equal(taken.signal("loss").target, fresh.signal("loss").target)
        np.testing.assert_array_equal(LiRA().score(taken).scores, LiRA().score(fresh).scores)
        assert taken.population is answers.population


def aside(seed: int) -> dict[str, Any]:
    other = world(seed + 50, records=5)
    return {
        "population_reference": other.reference_logits,
        "population_target": other.target_logits,
        "population_labels": other.labels,
    }


def test_missing_answers_are_counted() -> None:
    one = world(5)
    logits = one.reference_logits.copy()
    logits[2] = np.nan
    logits[4, 0, 0, 1] = np.inf
    (finding,) = answers_from(logits, *one.inputs[1:]).signal().findings
    assert finding.code == "missing-answers"
    assert finding.value == 12 * 2 + 1
    assert "in 2 of 8 models" in finding.message


def test_probabilities_have_the_signals_of_their_logits() -> None:
    rng = np.random.default_rng(0)
    logits, target = rng.normal(size=(4, 6, 2, 3)), rng.normal(size=(6, 2, 3))
    mask, labels = rng.random((4, 6)) < 0.5, rng.integers(0, 3, 6)
    shares = [np.exp(z) / np.exp(z).sum(axis=-1, keepdims=True) for z in (logits, target)]
    of_logits = answers_from(logits, mask, target, labels)
    of_shares = answers_from_probabilities(shares[0], mask, shares[1], labels)
    for name in ("confidence", "loss", "hinge", "probability", "correct"):
        np.testing.assert_allclose(of_shares.signal(name).reference, of_logits.signal(name).reference, atol=1e-12)
        np.testing.assert_allclose(of_shares.signal(name).target, of_logits.signal(name).target, atol=1e-12)
    sure = answers_from_probabilities([[[1.0, 0.0]], [[0.3, 0.7]]], np.array([[True], [False]]), [[0.0, 1.0]], [0])
    assert sure.signal().reference[0, 0, 0] == CAP
    assert sure.signal().target[0, 0] == -CAP


def test_predicted_labels_have_one_signal() -> None:
    answers = answers_from_labels([[1, 0, -1]], np.array([[True, False, True]]), [1, 1, 2], [1, 1, 0])
    found = answers.signal("correct")
    np.testing.assert_array_equal(found.reference[0, :, 0], [1.0, 0.0, np.nan])
    np.testing.assert_array_equal(found.target[:, 0], [1.0, 1.0, 0.0])
    for name in SIGNALS:
        if name != "correct":
            with pytest.raises(Unsupported, match="'gap'"):
                answers.signal(name)


def test_a_target_that_is_a_reference_is_named() -> None:
    one = world(6)
    with pytest.raises(DataError, match="reference model 5"):
        answers_from(one.reference_logits, one.in_mask, one.reference_logits[5], one.labels).signal()
    same = np.broadcast_to(one.reference_logits[:1], one.reference_logits.shape)
    answers_from(same, one.in_mask, same[0], one.labels).signal()
    answers_from(one.reference_logits, one.in_mask, one.reference_logits[5], one.labels).signal("correct")
