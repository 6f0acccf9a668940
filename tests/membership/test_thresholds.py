"""Thresholds from mock targets: where they lie, and what they achieve on another model."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from assay.core.errors import InputError
from assay.core.estimates import proportion
from assay.membership.leakage import positive_predictive_value
from assay.membership.thresholds import calibrated, threshold_of

mocks = st.lists(st.tuples(st.integers(0, 9), st.booleans()), min_size=2, max_size=24)


@given(mocks, st.sampled_from([0.0, 0.1, 0.25, 0.5, 1.0]), st.booleans())
def test_the_threshold_is_the_lowest_that_keeps_the_rate(
    cells: list[tuple[int, bool]], fpr: float, strict: bool
) -> None:
    scores, member = np.array([c[0] for c in cells], dtype=float), np.array([c[1] for c in cells])
    if member.all() or not member.any():
        return
    half = len(cells) // 2 * 2
    scores, member = np.append(scores[:half], [5.0, 5.0]), np.append(member[:half], [True, False])
    found = threshold_of(scores.reshape(2, -1), member.reshape(2, -1), fpr, strict=strict)
    others = scores[~member]

    def kept(line: float) -> bool:
        share = float(np.mean(others > line))
        return share < fpr if strict else share <= fpr

    if strict and fpr == 0:
        assert not (others > found).any()
        return
    assert kept(found)
    lower = [line for line in (-math.inf, *np.unique(others)) if line < found]
    assert not any(kept(line) for line in lower)


def test_what_is_achieved_is_counted_on_the_target() -> None:
    mock, sides = [[0.0, 1.0, 2.0, 9.0], [0.5, 1.5, math.nan, 9.0]], [[False, False, False, True]] * 2
    scores = [1.2, 1.6, 3.0, 4.0, math.nan, 1.0]
    found = calibrated(mock, sides, scores, [False, False, True, True, True, True], fpr=0.4)
    assert (found.threshold, found.targets, found.non_members) == (1.0, 2, 5)
    assert (found.mock_fpr, found.mock_tpr) == (0.4, 1.0)
    assert found.fpr == proportion(2, 2)
    assert found.tpr == proportion(2, 3)
    assert "at most 40 %" in str(found)
    strict = calibrated(mock, sides, scores, [False, False, True, True, True, True], fpr=0.4, strict=True)
    assert (strict.threshold, strict.mock_fpr) == (1.5, 0.2)
    assert "fewer than 40 %" in str(strict)


def test_alike_models_keep_the_promise() -> None:
    rng, hits = np.random.default_rng(1), 0
    for _ in range(60):
        member = rng.random((6, 400)) < 0.5
        scores = rng.normal(size=(6, 400)) + member
        found = calibrated(scores[1:], member[1:], scores[0], member[0], fpr=0.05)
        hits += found.fpr.lo <= 0.05 <= found.fpr.hi
        assert found.mock_fpr <= 0.05
    assert hits >= 53


def test_a_promise_that_is_not_kept_is_said() -> None:
    rng = np.random.default_rng(2)
    member = rng.random((4, 500)) < 0.5
    scores = rng.normal(size=(4, 500)) + member
    assert calibrated(scores[1:], member[1:], scores[0], member[0]).findings() == []
    (finding,) = calibrated(scores[1:], member[1:], scores[0] + 3, member[0]).findings()
    assert finding.code == "threshold-not-kept"
    assert "1 % wrong accusations" in finding.message
    (few,) = calibrated(scores[1:], member[1:], scores[0], member[0], fpr=1e-4).findings()
    assert few.code == "few-mock-non-members"


def test_the_predictive_value_has_rates_at_half_the_error() -> None:
    rng = np.random.default_rng(3)
    member = rng.random((3, 300)) < 0.5
    scores = rng.normal(size=(3, 300)) + 2 * member
    found = calibrated(scores[1:], member[1:], scores[0], member[0], fpr=0.05)
    inner = [proportion(round(one.value * one.n), one.n, level=0.975) for one in (found.tpr, found.fpr)]
    assert found.predictive_value(0.1) == positive_predictive_value(*inner, 0.1)
    assert found.predictive_value(0.1).level == pytest.approx(0.95)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"mock_member": [[True, True]]}, "mock targets have no non-members"),
        ({"member": [False, False]}, "target has no members"),
        ({"fpr": 2.0}, "fpr is 2"),
        ({"mock_scores": [1.0, 2.0]}, r"numbers \[T, N\]"),
    ],
)
def test_what_cannot_be_calibrated(changes: dict[str, object], words: str) -> None:
    values: dict[str, object] = {
        "mock_scores": [[1.0, 2.0]],
        "mock_member": [[True, False]],
        "scores": [1.0, 2.0],
        "member": [True, False],
        **changes,
    }
    with pytest.raises(InputError, match=words):
        calibrated(**values)  # type: ignore[arg-type]
