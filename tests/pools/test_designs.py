"""Membership designs against slow, obvious versions and their defining properties."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from assay.core.errors import SettingError
from assay.pools.designs import _words, membership

SEEDS = st.integers(0, 2**40)


@given(models=st.integers(1, 9), records=st.integers(1, 30), seed=SEEDS)
def test_half_is_the_lower_half_of_the_ranks_of_each_record(models, records, seed):
    seen = membership("half", models, records, seed)
    words = _words(records, models, seed)
    expected = words.argsort(1, kind="stable").argsort(1, kind="stable") < models // 2
    assert seen.dtype == bool
    assert (seen == expected.T).all()
    assert (seen.sum(0) == models // 2).all()


@given(models=st.integers(1, 6), records=st.integers(1, 30), seed=SEEDS)
def test_pairs_are_complementary(models, records, seed):
    seen = membership("pairs", 2 * models, records, seed)
    assert (seen[0::2] ^ seen[1::2]).all()
    assert (seen.sum(0) == models).all()


@given(models=st.integers(1, 5), records=st.integers(1, 40), percent=st.integers(1, 100), seed=SEEDS)
def test_a_share_gives_every_model_the_same_number(models, records, percent, seed):
    seen = membership(f"share:{percent / 100}", models, records, seed)
    assert (seen.sum(1) == round(percent / 100 * records)).all()


@given(runs=st.integers(1, 4), records=st.integers(3, 40), data=st.data(), seed=SEEDS)
def test_sizes_are_exact_and_nested_within_a_run(runs, records, data, seed):
    sizes = sorted(data.draw(st.lists(st.integers(1, records), min_size=1, max_size=3)))
    seen = membership(f"sizes:{','.join(map(str, sizes))}", runs * len(sizes), records, seed)
    assert seen.sum(1).tolist() == sizes * runs
    for run in np.split(seen, runs):
        for smaller, larger in itertools.pairwise(run):
            assert (larger | ~smaller).all()


@given(models=st.integers(1, 8), more=st.integers(0, 30), seed=SEEDS)
def test_a_partition_shares_out_every_record_once(models, more, seed):
    seen = membership("partition", models, models + more, seed)
    assert (seen.sum(0) == 1).all()
    assert np.ptp(seen.sum(1)) <= 1


@given(models=st.integers(1, 5), records=st.integers(1, 20))
def test_all_is_all(models, records):
    assert membership("all", models, records, 3).all()


@pytest.mark.parametrize("design", ["half", "pairs"])
def test_a_record_keeps_its_models_when_more_records_follow(design):
    longer = membership(design, 8, 50, seed=4)
    assert (membership(design, 8, 20, seed=4) == longer[:, :20]).all()


@pytest.mark.parametrize("design", ["half", "pairs", "share:0.5", "sizes:50", "partition"])
def test_designs_depend_on_the_seed_alone(design):
    one, again, other = (membership(design, 8, 100, seed) for seed in (1, 1, 2))
    assert (one == again).all()
    assert not (one == other).all()


@pytest.mark.parametrize("design", ["half", "pairs", "share:0.5"])
def test_memberships_are_balanced_over_models_and_hardly_correlated(design):
    seen = membership(design, 16, 20_000, seed=0)
    assert abs(seen.mean(1) - 0.5).max() < 0.015
    correlation = np.corrcoef(seen.astype(float))
    apart = ~np.eye(16, dtype=bool)
    if design == "pairs":
        apart &= ~np.kron(np.eye(8, dtype=bool), np.ones((2, 2), dtype=bool))
    expected = -1 / 15 if design == "half" else 0.0  # drawn without replacement
    assert abs(correlation[apart] - expected).max() < 0.04


def test_an_array_is_taken_as_it_is():
    given_mask = np.array([[1, 0, 1], [0, 1, 1]])
    seen = membership(given_mask, 2, 3)
    assert seen.dtype == bool
    assert (seen == given_mask).all()
    assert (membership(given_mask.astype(bool), 2, 3) == seen).all()


@pytest.mark.parametrize(
    ("design", "models", "message"),
    [
        ("halves", 4, "Did you mean 'half'"),
        ("half:2", 4, "allowed: 'half'"),
        ("share", 4, "allowed: 'half'"),
        ("pairs", 3, "an even number"),
        ("share:0", 4, "above 0 and at most 1"),
        ("share:nan", 4, "above 0 and at most 1"),
        ("share:lots", 4, "above 0 and at most 1"),
        ("sizes:1,x", 4, "from 1 to 10"),
        ("sizes:11", 4, "from 1 to 10"),
        ("sizes:0,2", 4, "from 1 to 10"),
        ("sizes:2,3,4", 4, "a multiple of 3"),
        ("partition", 11, "at most 10"),
        ("half", 0, "at least 1"),
        (np.ones((4, 9), bool), 4, r"bool \[4, 10\] is needed"),
        (np.full((4, 10), 2), 4, "is needed"),
        (np.full((4, 10), -1), 4, "is needed"),
        (np.full((4, 10), 0.5), 4, "is needed"),
    ],
)
def test_what_cannot_be_done_is_said(design, models, message):
    with pytest.raises(SettingError, match=message):
        membership(design, models, 10)
