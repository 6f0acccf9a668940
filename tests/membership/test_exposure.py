"""What an exposure says: numbers by a slow way, lines from mock targets, and words that follow the numbers."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from assay.core.errors import DataError, SettingError
from assay.membership.answers_attack import Evidence, MembershipAttack
from assay.membership.exposure import Questions, Truth, expose, expose_scores, label_of, labels_of, run_attacks
from assay.membership.exposure_numbers import measurement
from assay.membership.paired import auc_difference, tpr_difference
from assay.membership.signals import Answers, Scored, answers_from


def answers(leak: float, *, models: int = 12, records: int = 400, seed: int = 0) -> tuple[Answers, np.ndarray]:
    """Gaussian confidences; models that saw a record are ``leak`` higher, the target too for its members."""
    rng = np.random.default_rng(seed)
    in_mask = np.argsort(rng.random((models, records)), axis=0) < models // 2
    member = np.arange(records) < records // 2
    hardness = rng.normal(size=records)
    logits = np.zeros((models, records, 1, 3))
    logits[..., 0, 0] = hardness + leak * in_mask + rng.normal(size=in_mask.shape)
    target = np.zeros((records, 1, 3))
    target[:, 0, 0] = hardness + leak * member + rng.normal(size=records)
    return answers_from(logits, in_mask, target, np.zeros(records, int)), member


def truth(member: np.ndarray, **more: object) -> Truth:
    return Truth(member=member, sample_ids=np.arange(len(member)), **more)  # type: ignore[arg-type]


def found(leak: float, questions: Questions | None = None, **more: object) -> tuple[dict[str, float], dict[str, str]]:
    made, member = answers(leak)
    result = measurement(
        expose(made, truth(member, **more), ("lira", "loss"), questions or Questions(fprs=(0.05,), mocks=6))
    )
    return (
        {metric.label: metric.value for metric in result.metrics},
        {finding.code: f"{finding.severity}: {finding.message}" for finding in result.findings},
    )


def test_a_model_that_leaks_is_seen() -> None:
    numbers, words = found(3.0)
    assert numbers["auc@lira"] > 0.9
    assert numbers["auc@lira"] > numbers["auc@loss"]
    assert numbers["achieved_tpr_at_0.05_fpr@lira"] > 0.5
    assert numbers["achieved_fpr_at_0.05_fpr@lira"] < 0.12
    assert numbers["epsilon_lower_bound@lira"] > 1
    assert abs(numbers["shuffled_auc@lira"] - 0.5) < 0.02
    assert abs(numbers["auc_without_target"] - 0.5) < 0.1
    assert words["records-named"].startswith("warning")
    assert "no secret" in words["records-named"]


def test_a_model_that_does_not_leak_is_not_accused() -> None:
    numbers, words = found(0.0)
    assert 0.42 < numbers["auc@lira"] < 0.58
    assert numbers["epsilon_lower_bound@lira"] == 0
    assert words["records-named"].startswith("info")
    assert "no proof of privacy" in words["epsilon-lower-bound"]
    assert "small-pool" in words


def test_an_epsilon_below_what_the_attack_shows_is_contradicted() -> None:
    _, words = found(3.0, Questions(fprs=(0.05,), stated_epsilon=0.5, delta=1e-5))
    assert words["epsilon-contradicted"].startswith("serious")
    _, words = found(3.0, Questions(fprs=(0.05,), stated_epsilon=50.0, delta=1e-5))
    assert "agrees with the ε <= 50" in words["epsilon-lower-bound"]
    assert "epsilon-contradicted" not in words


def test_mock_targets_are_left_out_of_their_own_references() -> None:
    made, _ = answers(3.0)
    scored, played, member = run_attacks(made, ("lira",), mocks=3)
    assert played["lira"].shape == member.shape == (3, 400)
    from assay.membership.attacks.lira import lira_scores

    alone = lira_scores(made.reference[1:], made.in_mask[1:], made.reference[0], made.labels)
    np.testing.assert_allclose(played["lira"][0], alone)
    np.testing.assert_array_equal(member[0], made.in_mask[0])
    assert len(scored["lira"].scores) == 400


def test_members_that_differ_by_nature_are_noticed() -> None:
    made, member = answers(0.0)
    shift = np.zeros((400, 1, 3))
    shift[member, :, 0] = 2.0
    moved = answers_from(made.reference + shift, made.in_mask, made.target + shift, made.labels)
    result = measurement(expose(moved, truth(member), ("loss",), Questions(fprs=(0.05,))))
    codes = {finding.code: finding for finding in result.findings}
    assert codes["members-differ-by-nature"].severity == "warning"
    assert codes["members-differ-by-nature"].value == pytest.approx(0.92, abs=0.05)


def test_a_group_that_leaks_more_is_named() -> None:
    made, member = answers(0.0, records=600)
    groups = np.where(np.arange(600) % 3 == 0, "odd", np.where(np.arange(600) % 3 == 1, "b", "c"))
    target = np.array(made.target)
    target[member & (groups == "odd"), 0, 0] += 4
    leaking = answers_from(made.reference, made.in_mask, target, made.labels)
    result = measurement(expose(leaking, truth(member, groups=groups), ("loss",), Questions(fprs=(0.05,))))
    by_group = next(finding for finding in result.findings if finding.code == "exposure-by-group")
    assert "More exposed than the other groups together: odd." in by_group.message
    assert {metric.stratum for metric in result.metrics} == {"", "group=odd", "group=b", "group=c"}
    assert "exposure-by-group" in {figure.name for figure in result.figures}


def test_the_table_has_a_row_a_record_and_names_whom_the_line_names() -> None:
    made, member = answers(3.0)
    exposure = expose(made, truth(member), ("lira",), Questions(fprs=(0.05,)))
    table = measurement(exposure).samples
    named = table["named_lira@0.05"]
    np.testing.assert_array_equal(named, table["score_lira"] > exposure.main.lines[0.05].threshold)
    assert named[member].mean() == pytest.approx(exposure.main.lines[0.05].tpr.value)
    assert table["confidence_in"][~np.isnan(table["confidence_in"])].mean() > table["confidence_out"].mean() + 2
    np.testing.assert_allclose(table["loss"], np.log1p(2 * np.exp(-made.target[:, 0, 0])))


def test_finished_scores_need_no_references() -> None:
    member = np.arange(200) < 100
    scores = np.random.default_rng(0).normal(size=200) + 2 * member
    scored = {"mine": Scored(scores=scores, findings=[], about="")}
    result = measurement(expose_scores(scored, truth(member), Questions(fprs=(0.05,))))
    assert not [metric for metric in result.metrics if metric.name.startswith("achieved")]
    assert "drawn on these records themselves" in result.findings[0].message


def test_records_without_a_score_are_counted_and_left_out() -> None:
    member = np.arange(200) < 100
    scores = np.random.default_rng(0).normal(size=200) + 2 * member
    scores[[0, 150]] = np.nan
    result = MembershipAttack(fprs=(0.05,)).measure(Evidence(answers={"mine": scores}, truth=truth(member)))
    assert next(metric for metric in result.metrics if metric.name == "auc@mine").n == 198
    assert "records-left-out" in {finding.code for finding in result.findings}


def test_rates_know_that_copies_of_a_record_are_one_record() -> None:
    made, member = answers(1.0)
    questions = Questions(fprs=(0.05,), mocks=0)
    pairs = np.where(member, np.cumsum(member), -np.cumsum(~member)) // 2  # two records each, of one side
    alone, copied = (
        expose(made, truth(member, clusters=clusters), ("loss",), questions).main.rates[0.05]
        for clusters in (None, pairs)
    )
    assert copied.value == alone.value
    assert (alone.method, copied.method) == ("exact", "clustered bootstrap")


def test_pictures_of_the_most_exposed_are_of_members() -> None:
    made, member = answers(3.0)
    pixels = np.linspace(0, 1, 400)[:, None, None, None] * np.ones((1, 1, 2, 2))
    exposure = expose(made, truth(member, images=lambda rows: pixels[rows]), ("lira",), Questions(fprs=(0.05,)))
    [panels] = measurement(exposure).panels
    scores = np.where(member, exposure.main.scores, -np.inf)
    shown = [float(row.pictures[0][0, 0, 0]) for row in panels.rows if row.pictures[0] is not None]
    np.testing.assert_allclose(shown, pixels[np.argsort(-scores)[: len(shown)], 0, 0, 0], rtol=1e-6)
    assert "training records themselves" in panels.caption


@pytest.mark.parametrize("member", [np.ones(4, bool), np.zeros(4, bool), np.array([1, 0, 1, 0])])
def test_a_truth_of_one_side_is_refused(member: np.ndarray) -> None:
    with pytest.raises(DataError, match="one member and one non-member"):
        truth(member)
    with pytest.raises(DataError, match="3 labels"):
        truth(np.array([True, False]), labels=np.zeros(3, int))


def test_labels_of_attacks() -> None:
    assert label_of("lira:mode=offline;sided=two") == "lira-offline-two"
    for wrong in (("lira", "lira"), (), ("lyra",)):
        with pytest.raises(SettingError):
            labels_of(wrong)
    with pytest.raises(SettingError, match="rates between 0 and 1"):
        Questions(fprs=(0.0,))


@given(st.integers(0, 2**31), st.integers(3, 12), st.integers(3, 12))
def test_the_paired_difference_is_the_difference_of_the_areas(seed: int, members: int, others: int) -> None:
    rng = np.random.default_rng(seed)
    member = np.arange(members + others) < members
    first, second = rng.integers(0, 6, (2, members + others)).astype(float)
    areas = [
        np.mean([(x > y) + (x == y) / 2 for x in values[member] for y in values[~member]]) for values in (first, second)
    ]
    difference = auc_difference(first, second, member)
    assert difference.value == pytest.approx(areas[0] - areas[1])
    assert difference.lo <= difference.value <= difference.hi
    assert auc_difference(first, first, member).hi == 0


def test_paired_intervals_cover() -> None:
    inside = [0, 0]
    for seed in range(60):
        rng = np.random.default_rng(seed)
        member = np.arange(300) < 150
        shared = rng.normal(size=300) + member
        first, second = (shared + rng.normal(size=300) for _ in range(2))
        inside[0] += auc_difference(first, second, member).lo <= 0 <= auc_difference(first, second, member).hi
        rate = tpr_difference(first, second, member, 0.1, resamples=200, seed=seed)
        inside[1] += rate.lo <= 0 <= rate.hi
    assert min(inside) >= 52
