"""Whether embeddings still tell images apart."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from assay.training.encoders.collapse import Spread, spread

VALUES = arrays.arrays(
    np.float64, st.tuples(st.integers(2, 8), st.integers(1, 6)), elements=st.floats(-5, 5).map(lambda v: round(v, 3))
)


def slowly(values: np.ndarray) -> tuple[float, float]:
    """The two definitions, written out; the covariance's eigenvalues in the place of singular values."""
    unit = np.stack([row / max(np.sqrt((row**2).sum()), 1e-12) for row in values])
    deviation = np.sqrt(values.shape[1]) * np.mean([column.std() for column in unit.T])
    eigenvalues = np.linalg.eigvalsh(np.cov(values.T, bias=True).reshape(values.shape[1], -1)).clip(0)
    if eigenvalues.sum() < 1e-9:
        return float(deviation), 1.0
    shares = eigenvalues / eigenvalues.sum()
    return float(deviation), float(np.exp(-sum(s * np.log(s) for s in shares if s > 1e-14)))


@given(VALUES)
def test_spread_is_its_definition(values: np.ndarray) -> None:
    found, (deviation, rank) = spread(values), slowly(values)
    assert found.deviation == pytest.approx(deviation, abs=1e-6)
    assert found.effective_rank == pytest.approx(rank, rel=1e-4)
    assert 1 <= found.effective_rank <= values.shape[1] + 1e-9


@given(VALUES, st.floats(0.01, 100))
def test_the_scale_of_embeddings_does_not_matter(values: np.ndarray, scale: float) -> None:
    assert spread(scale * values).effective_rank == pytest.approx(spread(values).effective_rank, rel=1e-6)


def test_a_constant_embedding_and_a_single_direction_are_collapses() -> None:
    rng = np.random.default_rng(0)
    assert spread(np.full((50, 8), 3.0)).collapsed
    assert spread(np.full((50, 8), 3.0) + 1e-5 * rng.normal(size=(50, 8))).collapsed
    assert spread(rng.normal(size=(50, 1)) * np.ones(8)).collapsed
    full = spread(rng.normal(size=(2000, 8)))
    assert isinstance(full, Spread)
    assert not full.collapsed
    assert full.deviation == pytest.approx(1, abs=0.05)
    assert full.effective_rank == pytest.approx(8, abs=0.1)
