"""The solids of the built-in scenes, against points sampled along the ray."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assay.data.scenes.shapes import REACH, SHAPES, may_meet

INSIDE = {
    "sphere": lambda x, y, z: x * x + y * y + z * z - 1,
    "box": lambda x, y, z: np.maximum(np.maximum(abs(x), abs(y)), abs(z)) - 1,
    "cylinder": lambda x, y, z: np.maximum(x * x + z * z - 1, abs(y) - 1),
    "cone": lambda x, y, z: np.maximum(np.sqrt(x * x + z * z) - (1 - y) / 2, -1 - y),
    "pyramid": lambda x, y, z: np.maximum(np.maximum(abs(x), abs(z)) - (1 - y) / 2, -1 - y),
}


def rays(seed, count=60):
    rng = np.random.default_rng(seed)
    origins = rng.normal(size=(3, count))
    origins *= rng.uniform(2, 5, count) / np.linalg.norm(origins, axis=0)
    return origins, (rng.uniform(-1.2, 1.2, (3, count)) - origins) * rng.uniform(0.3, 3, count)


@pytest.mark.parametrize("shape", SHAPES)
@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_first_meeting(shape, seed):
    o, d = rays(seed)
    t, normals = SHAPES[shape](o, d)
    hit = np.isfinite(t)
    steps = np.linspace(0, 1, 200)[:-1, None]
    before = o[:, None] + steps * np.where(hit, t, 12) * d[:, None]
    assert (INSIDE[shape](*before) > -1e-9).all()
    at = (o + np.where(hit, t, 0) * d)[:, hit]
    assert abs(INSIDE[shape](*at)).max(initial=0) < 1e-9
    out = normals[:, hit] / np.linalg.norm(normals[:, hit], axis=0)
    assert ((out * d[:, hit]).sum(0) < 1e-9).all()
    assert (INSIDE[shape](*(at + 1e-4 * out)) > 0).all()
    assert (INSIDE[shape](*(at - 1e-7 * out)) < 1e-9).all()


@pytest.mark.parametrize("shape", SHAPES)
def test_reach_leaves_no_ray_out(shape):
    o, d = rays(0, 2000)
    t, _ = SHAPES[shape](o, d)
    near = may_meet(-o, d, REACH[shape])
    assert set(np.flatnonzero(np.isfinite(t))) <= set(near)
    assert np.isfinite(t).sum() > 200


@pytest.mark.parametrize("shape", SHAPES)
def test_along_an_axis(shape):
    """From straight above and along the floor, where one direction is exactly 0."""
    o = np.array([[0.1, 5, 0.2], [-4, 0, 0.1]]).T
    d = np.array([[0, -1, 0], [1, 0, 0]], dtype=float).T
    t, _ = SHAPES[shape](o, d)
    assert np.isfinite(t).all()
    assert abs(INSIDE[shape](*(o + t * d))).max() < 1e-9


def test_away_from_a_solid():
    o = np.array([[0.0], [0.0], [-3.0]])
    for shape in SHAPES:
        assert not np.isfinite(SHAPES[shape](o, -np.array([[0.0], [0.0], [1.0]]))[0]).any()
