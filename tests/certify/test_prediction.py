"""PREDICT: the exact two-sided test, and abstention where the noise leaves the answer open."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from assay.certify import predict
from assay.certify.prediction import two_sided_p
from assay.core.errors import SettingError

from .models import at_distance, convolutional, linear, pictures


@given(st.integers(0, 3000), st.integers(0, 3000))
def test_the_p_value_is_that_of_scipy(first: int, second: int) -> None:
    expected = binomtest(first, first + second, 0.5).pvalue if first + second else 1.0
    assert two_sided_p(first, second) == pytest.approx(min(1.0, expected), rel=1e-9, abs=1e-300)


def test_clear_answers_are_given_and_open_ones_are_not() -> None:
    images = at_distance(torch.tensor([2.0, -2.0, 0.0, 0.001, -0.5]))
    found = predict(linear(), images, torch.tensor([1, 1, 1, 1, 0]), sigma=0.5)
    assert found.predicted.tolist() == [1, 0, -1, -1, 0]
    assert found.abstained.tolist() == [False, False, True, True, False]
    assert found.correct.tolist() == [True, False, False, False, True]
    assert ((found.p_values <= 0.001) == ~found.abstained).all()


def test_wrong_answers_are_as_rare_as_promised() -> None:
    from scipy.stats import binom

    count, alpha = 300, 0.2
    found = predict(linear(), at_distance(torch.full((count,), 0.01)), sigma=0.5, n=100, alpha=alpha)
    assert (found.predicted == 0).sum() <= binom.ppf(0.9999, count, alpha)
    assert 0 < (found.predicted == 1).sum() < count


def test_answers_belong_to_the_sample() -> None:
    images = pictures(4)
    whole = predict(convolutional(), images, sigma=1.0, n=300)
    part = predict(convolutional(), images[[3, 1]], sigma=1.0, n=300, batch_size=32, sample_ids=[3, 1])
    assert part.p_values.tolist() == whole.p_values[[3, 1]].tolist()
    assert part.predicted.tolist() == whole.predicted[[3, 1]].tolist()


def test_without_labels_nobody_knows_what_is_right() -> None:
    found = predict(linear(), at_distance(torch.ones(1)), sigma=0.5)
    with pytest.raises(SettingError, match="No labels"):
        _ = found.correct
    with pytest.raises(SettingError, match="sigma is 0"):
        predict(linear(), at_distance(torch.ones(1)), sigma=0)
