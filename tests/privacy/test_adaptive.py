"""Global-Adapt and DPSGD-F: counts, updates and bounds against slow loops."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from assay.core.errors import InputError, SettingError, Unsupported
from assay.privacy import GlobalAdapt, PerGroup
from assay.tensors.gradients import SampleNorms

NORMS = st.lists(st.floats(0, 100, width=32), max_size=30)


@given(
    z=st.floats(0.01, 1e3),
    above=st.integers(0, 300),
    size=st.integers(1, 300),
    draw=st.floats(-4, 4),
    tau=st.floats(0.1, 2),
)
def test_next_z_is_the_published_update(z: float, above: int, size: int, draw: float, tau: float) -> None:
    rule = GlobalAdapt(1.0, 5.0, tau, 0.1, 10.0)
    expected = z * math.exp(-0.1 + (above + 10.0 * draw) / size)
    assert rule.next_z(z, above, size, draw) == pytest.approx(expected, rel=1e-12)


@given(norms=NORMS, draw=st.floats(-3, 3), expected_size=st.integers(5, 50), centred=st.booleans())
def test_following_is_next_z_of_the_noisy_count(norms: list, draw: float, expected_size: int, centred: bool) -> None:
    rule = GlobalAdapt(1.0, 20.0, 0.7, 0.1, 2.0, centred)
    counts = rule.counts(torch.tensor(norms))
    above = sum(n > 0.7 * 20.0 for n in torch.tensor(norms).tolist())
    exact = sum((n > 14.0) - 0.5 for n in torch.tensor(norms).tolist()) if centred else above
    assert float(counts) == exact
    after = rule.following(counts + 2.0 * draw, expected_size)
    share = (exact + 2.0 * draw) / expected_size + (0.5 if centred else 0.0)
    assert after.z == pytest.approx(max(1.0, 20.0 * math.exp(-0.1 + share)), rel=1e-9)
    assert (after.c, after.tau, after.eta, after.centred) == (1.0, 0.7, 0.1, centred)
    if centred and len(norms) == expected_size:  # half-centring changes nothing but the noise it needs
        assert after.z == pytest.approx(max(1.0, rule.next_z(20.0, above, expected_size, draw)), rel=1e-9)


def test_one_record_moves_a_centred_count_by_a_half() -> None:
    norms = torch.tensor([0.5, 30.0, 3.0])
    for centred, most in ((True, 0.5), (False, 1.0)):
        rule = GlobalAdapt(1.0, 20.0, centred=centred)
        moved = [abs(float(rule.counts(norms) - rule.counts(norms[torch.arange(3) != i]))) for i in range(3)]
        assert max(moved) == most


def test_z_rests_where_the_share_is_eta_and_never_falls_below_c() -> None:
    rule = GlobalAdapt(1.0, 50.0, eta=0.1, centred=False)
    assert rule.following(torch.tensor([10.0]), 100).z == pytest.approx(50.0)
    assert GlobalAdapt(1.0, 1.01, eta=5.0).following(torch.tensor([-50.0]), 100).z == 1.0
    assert rule.with_state({"z": 3.0}).z == 3.0
    assert rule.state() == {"z": 50.0}


def test_updates_that_cannot_be_are_named() -> None:
    rule = GlobalAdapt(1.0, 50.0)
    with pytest.raises(SettingError, match="public expected batch size"):
        rule.next_z(50.0, 3, 0, 0.0)
    with pytest.raises(SettingError, match=r"grew out of range.*Choose count_noise well below the batch size"):
        rule.next_z(50.0, 3, 0.001, 1.0)
    with pytest.raises(InputError, match="one released count"):
        rule.following(None, 10)


def bounds_by_hand(norms: list[float], groups: list[int], c0: float, count: int, noise: list[float]) -> list[float]:
    shares = []
    for k in range(count):
        above = max(math.trunc(sum(n > c0 and g == k for n, g in zip(norms, groups, strict=True)) + noise[k]), 0)
        below = max(
            math.trunc(sum(n <= c0 and g == k for n, g in zip(norms, groups, strict=True)) + noise[count + k]), 0
        )
        shares.append(above / (above + below) if above + below else 1.0)
    mean = sum(shares) / count
    return [c0 * (1 + share / (mean + 1e-8)) for share in shares]


@given(
    rows=st.lists(st.tuples(st.floats(0, 10, width=32), st.integers(0, 2)), max_size=30),
    noise=st.lists(st.floats(-5, 5), min_size=6, max_size=6),
    c0=st.floats(0.125, 5, width=32),
)
def test_per_group_against_a_loop(rows: list, noise: list[float], c0: float) -> None:
    norms, groups = [row[0] for row in rows], [row[1] for row in rows]
    rule = PerGroup(c0, 3, 1.0)
    values, index = torch.tensor(norms), torch.tensor(groups, dtype=torch.int64)
    counts = rule.counts(values, index)
    assert counts.shape == (6,)
    assert float(counts.sum()) == len(rows)
    step = rule.active(counts + torch.tensor(noise, dtype=torch.float64))
    expected = bounds_by_hand(norms, groups, c0, 3, noise)
    assert step.bounds == pytest.approx(expected, rel=1e-9)
    assert step.sensitivity == max(step.bounds)
    assert all(c0 <= bound <= c0 * 4 * (1 + 1e-9) for bound in step.bounds)
    by_hand = [min(1.0, expected[g] / (n + 1e-6)) for n, g in rows]
    assert step.factors(values, index).tolist() == pytest.approx(by_hand, rel=1e-6)
    assert step.weigh(SampleNorms(("w",), values[:, None] ** 2, values), index).tolist() == pytest.approx(
        by_hand, rel=1e-5
    )


def test_bounds_where_all_shares_agree() -> None:
    rule = PerGroup(0.5, 3)
    assert rule.active(torch.tensor([2.0, 4.0, 6.0, 2.0, 4.0, 6.0])).bounds == pytest.approx([1.0] * 3, rel=1e-7)
    assert rule.active(torch.tensor([0.0, 0.0, 0.0, 2.0, 4.0, 6.0])).bounds == (0.5, 0.5, 0.5)
    counts = torch.tensor([3.0, 1.0, 0.0, 2.0, 9.0, 4.0])
    doubled = PerGroup(1.0, 3).active(counts).bounds
    assert [bound / 2 for bound in doubled] == pytest.approx(list(rule.active(counts).bounds))


def test_the_noise_scale_does_not_tell_which_groups_are_present() -> None:
    step = PerGroup(1.0, 2).active(torch.tensor([9.0, 1.0, 1.0, 9.0]))
    both = step.factors([5.0, 5.0], groups=[0, 1])
    assert both[0] > both[1]
    sensitivity = step.sensitivity
    assert step.factors([5.0], groups=[1]).tolist() == [float(both[1])]
    assert step.sensitivity == sensitivity == max(step.bounds)
    assert step.factors([], groups=[]).shape == (0,)  # an empty batch has the same noise, too


def test_a_group_without_a_member_and_an_empty_batch_are_well_defined() -> None:
    rule = PerGroup(1.0, 2)
    counts = rule.counts(torch.tensor([3.0]), torch.tensor([1]))
    assert counts.tolist() == [0, 1, 0, 0]
    assert rule.active(counts).bounds == pytest.approx([2.0, 2.0], rel=1e-7)  # an empty group counts as all above
    empty = rule.counts(torch.zeros(0), torch.zeros(0, dtype=torch.int64))
    assert empty.tolist() == [0.0] * 4
    assert rule.active(empty).sensitivity == pytest.approx(2.0, rel=1e-7)


def test_exact_counts_serve_analysis_and_not_training() -> None:
    norms, groups = torch.tensor([0.5, 4.0, 0.5, 0.5]), torch.tensor([0, 0, 1, 1])
    rule = PerGroup(1.0)
    known = PerGroup(1.0, 2)
    assert torch.equal(
        rule.factors(norms, groups=groups), known.active(known.counts(norms, groups)).factors(norms, groups)
    )
    with pytest.raises(Unsupported, match="released counts"):
        known.weigh(SampleNorms(("w",), norms[:, None], norms), groups)
    with pytest.raises(SettingError, match="number of groups must be public"):
        rule.counts(norms, groups)
    assert known.sensitivity == 3.0  # C0 (1 + G): what any counts can lead to


def test_the_state_of_a_step_comes_back() -> None:
    step = PerGroup(1.0, 2).active(torch.tensor([9.0, 1.0, 1.0, 9.0]))
    assert PerGroup(1.0, 2).with_state(step.state()) == step
    assert PerGroup(1.0, 2).with_state({"bounds": list(step.bounds)}) == step
    assert step.following(None, 10.0) == step


@pytest.mark.parametrize(
    ("groups", "says"),
    [
        (None, "needs groups"),
        ([0], r"shape \(1,\)"),
        ([0.0, 1.0], "whole numbers"),
        ([0, 2], "run from 0 to 2; allowed: 0 to 1"),
        ([-1, 0], "run from -1 to 0"),
    ],
)
def test_groups_that_do_not_fit_are_named(groups, says: str) -> None:
    rule = PerGroup(1.0, 2)
    for use in (lambda: rule.counts(torch.ones(2), groups), lambda: rule.factors([1.0, 1.0], groups=groups)):
        with pytest.raises(InputError, match=says):
            use()
    with pytest.raises(InputError, match="its 4 released counts, but got"):
        rule.active(torch.zeros(2))
