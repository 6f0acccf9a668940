from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from assay.performance.confidence import beliefs, look_like_probabilities

logit_tables = hnp.arrays(
    np.float32, st.tuples(st.integers(1, 6), st.integers(2, 5)), elements=st.floats(-30, 30, width=32)
)


@given(logit_tables)
def test_beliefs_are_the_softmax(logits: np.ndarray) -> None:
    found = beliefs(torch.from_numpy(logits))
    if found.findings:
        return
    exact = np.exp(logits.astype(np.float64))
    exact /= exact.sum(1, keepdims=True)
    np.testing.assert_allclose(found.probabilities, exact, rtol=1e-9, atol=1e-15)
    np.testing.assert_allclose(found.log_probabilities, np.log(np.maximum(exact, 1e-12)), rtol=1e-6, atol=1e-9)


@given(logit_tables)
def test_probabilities_are_recognised_and_kept(logits: np.ndarray) -> None:
    probabilities = torch.from_numpy(logits).double().softmax(1).float()
    assert look_like_probabilities(probabilities)
    found = beliefs(probabilities)
    assert [finding.code for finding in found.findings] == ["outputs-are-probabilities"]
    np.testing.assert_allclose(found.probabilities, probabilities.numpy(), rtol=1e-6)


@pytest.mark.parametrize(
    "outputs",
    [
        [[0.5, 0.6]],
        [[-0.5, 1.5]],
        [[0.5, 0.5], [3.0, 1.0]],
        [[0.0, 0.0]],
    ],
)
def test_one_row_that_is_no_distribution_makes_logits(outputs: list[list[float]]) -> None:
    assert not look_like_probabilities(torch.tensor(outputs))


def test_zero_probability_has_a_finite_logarithm() -> None:
    found = beliefs(torch.tensor([[1.0, 0.0]]))
    assert found.log_probabilities[0, 1] == pytest.approx(np.log(1e-12))
