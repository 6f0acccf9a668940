"""Claims: read forgivingly, judged strictly."""

from __future__ import annotations

import contextlib
import itertools
import json
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assay.core.claims import Claim, Verdict, check, exit_code, parse_claim
from assay.core.errors import SettingError
from assay.core.probes import Metric
from assay.core.runs import Run


def metric(name: str = "clean_accuracy", value: float = 0.8, stratum: str = "", **changes: Any) -> Metric:
    values: dict[str, Any] = {"lo": value - 0.05, "hi": value + 0.05, "interval": "wilson 95%", "n": 100}
    return Metric(name=name, estimand="", value=value, stratum=stratum, **{**values, **changes})


def run(*metrics: Metric, status: str = "ok", name: str = "r0") -> Run:
    record = {"schema": 1, "id": name, "status": status, "method": {"name": "clean-accuracy"}}
    found = Run(Path("runs") / name, record)
    found.metrics = list(metrics)
    return found


def verdict(claim: Any, *runs: Run) -> Verdict:
    return check([claim], runs)[0]


def test_the_parts_of_a_claim() -> None:
    claim = parse_claim("clean_accuracy{class=3} >= 0.9")
    assert claim == Claim(
        text="clean_accuracy{class=3} >= 0.9", metric="clean_accuracy", stratum="class=3", op=">=", threshold=0.9
    )
    assert parse_claim(claim) is claim


spaces = st.sampled_from(["", " ", "  ", "\t"])


@given(
    st.sampled_from(["clean_accuracy", "robust_accuracy@linf:8/255"]),
    st.sampled_from(["", "{class=3}", "{group=fire truck}"]),
    st.sampled_from([">=", ">", "<=", "<"]),
    st.sampled_from(["0.4", "8/255", "-1", "1e-3"]),
    st.lists(spaces, min_size=5, max_size=5),
)
def test_spaces_do_not_matter(name: str, stratum: str, op: str, threshold: str, gaps: list[str]) -> None:
    loose = name.replace("@", f"{gaps[0]}@{gaps[0]}").replace(":", f"{gaps[1]}:{gaps[1]}")
    inner = stratum.replace("{", f"{{{gaps[2]}").replace("=", f"{gaps[3]}={gaps[3]}").replace("}", f"{gaps[2]}}}")
    claim = parse_claim(f"{gaps[4]}{loose}{gaps[0]}{inner}{gaps[1]}{op}{gaps[2]}{threshold}{gaps[3]}")
    tight = parse_claim(f"{name}{stratum} {op} {threshold}")
    assert (claim.metric, claim.stratum, claim.op, claim.threshold) == (name, stratum.strip("{}"), op, tight.threshold)


def test_signs_of_mathematics_and_strata_with_signs() -> None:
    assert parse_claim("clean_accuracy ≥ 0.9").op == ">="
    assert parse_claim("error ≤ 0.1").op == "<="
    assert parse_claim("clean_accuracy{class=a>b {c}} > 0.5").stratum == "class=a>b {c}"


@pytest.mark.parametrize(
    "given_claim",
    [
        "", "clean_accuracy", ">= 0.9", "clean_accuracy >= ", "clean_accuracy == 0.9", "clean_accuracy >= 0.9 >= 1",
        "clean_accuracy => 0.9", "clean_accuracy >= high", "clean_accuracy >= nan", "clean_accuracy >= inf",
        "clean_accuracy{class=3 >= 0.9", "a >= 1/0", 5, None, ["a >= 1"], {}, {"claim": 5}, {"confident": True},
        {"claim": "a >= 1", "confident": "yes"}, {"claim": "a"},
    ],
)  # fmt: skip
def test_what_is_not_a_claim(given_claim: Any) -> None:
    with pytest.raises(SettingError, match=r"[Cc]laim"):
        parse_claim(given_claim)


def test_an_unknown_field_of_a_claim_names_the_nearest() -> None:
    with pytest.raises(SettingError, match=r"no field 'confidnt'.*Did you mean 'confident'"):
        parse_claim({"claim": "a >= 1", "confidnt": True})


@given(st.text(max_size=40) | st.dictionaries(st.text(max_size=9), st.text(max_size=20) | st.booleans(), max_size=3))
def test_anything_is_a_claim_or_a_clear_error(given_claim: Any) -> None:
    with contextlib.suppress(SettingError):
        assert math.isfinite(parse_claim(given_claim).threshold)


@pytest.mark.parametrize(
    ("op", "threshold", "outcome"),
    [
        (">=", 0.8, "passed"), (">=", 0.81, "failed"), (">", 0.8, "failed"), (">", 0.79, "passed"),
        ("<=", 0.8, "passed"), ("<=", 0.79, "failed"), ("<", 0.8, "failed"), ("<", 0.81, "passed"),
    ],
)  # fmt: skip
def test_comparisons(op: str, threshold: float, outcome: str) -> None:
    found = verdict(f"clean_accuracy {op} {threshold}", run(metric()))
    assert (found.outcome, found.run_id, found.metric) == (outcome, "r0", metric())
    assert found.reason == f"clean_accuracy is 0.8, which {'meets' if outcome == 'passed' else 'does not meet'} " + (
        f"{op} {threshold}, n=100."
    )


def test_budgets_are_compared_as_numbers() -> None:
    measured = run(metric("robust_accuracy@linf:8/255", 0.5))
    for text in ("8/255", "0.03137254901960784", "0.0313725490196"):
        assert verdict(f"robust_accuracy@linf:{text} >= 0.4", measured).outcome == "passed"
    for name in ("robust_accuracy@linf:0.0314", "robust_accuracy@l2:8/255"):
        assert verdict(f"{name} >= 0.4", measured).outcome == "not_run"


def test_a_confident_claim_is_held_against_the_unfavourable_end() -> None:
    measured = run(metric(value=0.8))
    assert verdict({"claim": "clean_accuracy >= 0.78", "confident": False}, measured).outcome == "passed"
    least = verdict({"claim": "clean_accuracy >= 0.78", "confident": True}, measured)
    assert least.outcome == "failed"
    assert "lower end of the interval of clean_accuracy is 0.75" in least.reason
    assert verdict({"claim": "clean_accuracy > 0.74", "confident": True}, measured).outcome == "passed"
    assert verdict({"claim": "clean_accuracy < 0.82", "confident": True}, measured).outcome == "failed"
    assert verdict({"claim": "clean_accuracy <= 0.86", "confident": True}, measured).outcome == "passed"


def test_without_an_interval_nothing_is_confident() -> None:
    found = verdict({"claim": "clean_accuracy >= 0", "confident": True}, run(metric(lo=None)))
    assert found.outcome == "failed"
    assert "no interval" in found.reason


@pytest.mark.parametrize("op", [">=", "<", "<=", ">"])
def test_a_value_that_is_not_a_number_fails(op: str) -> None:
    found = verdict(f"clean_accuracy {op} 0.5", run(metric(value=math.nan)))
    assert found.outcome == "failed"
    assert "not a number" in found.reason


def test_strata_are_claimed_by_name() -> None:
    measured = run(metric(), metric(value=0.3, stratum="class=3"))
    assert verdict("clean_accuracy{class=3} >= 0.5", measured).outcome == "failed"
    assert verdict("clean_accuracy{ class = 3 } >= 0.2", measured).outcome == "passed"
    missing = verdict("clean_accuracy{class=33} >= 0.5", measured)
    assert missing.outcome == "not_run"
    assert "stratum 'class=33'" in missing.reason
    assert "Did you mean 'class=3'" in missing.reason


def test_an_unknown_metric_was_not_run_and_names_the_nearest() -> None:
    found = verdict("clean_acuracy >= 0.5", run(metric()))
    assert (found.outcome, found.metric, found.run_id) == ("not_run", None, "")
    assert "Did you mean 'clean_accuracy'" in found.reason


@pytest.mark.parametrize("status", ["failed", "incomplete", "not_applicable"])
def test_runs_without_a_result_bear_no_claims(status: str) -> None:
    found = verdict("clean_accuracy >= 0", run(metric(), status=status))
    assert found.outcome == "not_run"
    assert f"r0 (clean-accuracy: {status})" in found.reason
    assert verdict("clean_accuracy >= 0").outcome == "not_run"


def test_a_claim_must_hold_in_every_run_that_bears_on_it() -> None:
    good, bad = run(metric(value=0.9), name="good"), run(metric(value=0.4), name="bad")
    for runs in itertools.permutations([good, bad]):
        found = verdict("clean_accuracy >= 0.5", *runs)
        assert (found.outcome, found.run_id) == ("failed", "bad")
    assert verdict("clean_accuracy >= 0.3", good, bad).outcome == "passed"


def test_exit_codes() -> None:
    passed, failed, not_run = (
        verdict(claim, run(metric())) for claim in ("clean_accuracy > 0", "clean_accuracy > 1", "other > 0")
    )
    assert exit_code([]) == exit_code([passed]) == 0
    assert exit_code([passed, not_run]) == 3
    assert exit_code([passed], incomplete=True) == exit_code([], incomplete=True) == 3
    assert exit_code([not_run, failed, passed]) == exit_code([failed], incomplete=True) == 1


def test_verdicts_survive_a_record() -> None:
    measured = run(metric(), metric("gap", math.nan, lo=None, hi=None))
    for claim in ("clean_accuracy > 0.1", "other > 0", {"claim": "clean_accuracy < 8/255", "confident": True}):
        found = verdict(claim, measured)
        assert Verdict.from_dict(json.loads(json.dumps(found.as_dict()))) == found
    unknown = Verdict.from_dict(json.loads(json.dumps(verdict("gap > 0", measured).as_dict())))
    assert unknown.metric is not None
    assert math.isnan(unknown.metric.value)
