"""Sentences: budgets, threat models and claims in words a reviewer reads."""

from __future__ import annotations

import dataclasses
import math

import pytest

from assay.core.claims import Verdict, parse_claim
from assay.core.probes import Metric
from assay.report import words


def metric(value: float, lo: float | None, hi: float | None, unit: str = "share") -> Metric:
    return Metric(name="m", estimand="e", value=value, lo=lo, hi=hi, interval="wilson 95%", n=3, unit=unit)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"norm": "linf", "eps": [8 / 255]}, "by at most 8/255 (3.1\u202f% of the range of a value)"),
        ({"norm": "linf", "eps": [2 / 255, 4 / 255]}, "by at most 2/255 or 4/255 (0.78, 1.6\u202f% of the range"),
        ({"norm": "l2", "eps": 0.5}, "Euclidean (L2) length of at most 0.5, on values that range from 0 to 1"),
        ({"norm": "l1", "eps": [12]}, "absolute changes (L1) that add up to at most 12"),
        ({"norm": "l2"}, "as far as is needed"),
        ({"norm": "linf", "attack": "square", "eps": [0.1]}, "sees only the scores"),
        ({"norm": "linf", "attack": "standard", "eps": [0.1]}, "knows the model and its weights"),
    ],
)
def test_threat_models_in_words(settings: dict[str, object], expected: str) -> None:
    assert expected in " ".join(words.threat(settings))


def test_budgets_are_shares_of_the_range_of_a_value() -> None:
    assert "(3.1\u202f%" in words.threat({"norm": "linf", "eps": [8.0]}, (0.0, 255.0))[0]


def test_no_adversary_no_threat_model() -> None:
    assert words.threat({"bins": 15}) == []


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (metric(0.8, 0.7, 0.9), "70.0 – 90.0\u202f%"),
        (metric(0.8, None, None), "–"),
        (metric(math.nan, math.nan, 0.5), "–"),
        (metric(0.5, 0.4, 0.77, "L2"), "0.400 – 0.770"),
        (metric(3000, 2000, 4000, "seconds"), "2,000 – 4,000"),
    ],
)
def test_intervals(given: Metric, expected: str) -> None:
    assert words.interval(given) == expected


@pytest.mark.parametrize("value", [math.inf, -math.inf, 0.0, -0.5, 1e-9, 1e12])
def test_any_number_is_shown_without_a_trap(value: float) -> None:
    text = words.number(value, "seconds")
    assert text.endswith(" seconds")
    assert "inf" not in text


def test_claims_in_words() -> None:
    claim = parse_claim({"claim": "robust_accuracy@linf:8/255{class=3} >= 0.405", "confident": True})
    verdict = Verdict(claim=claim, outcome="failed", metric=metric(0.4, 0.3, 0.5), run_id="", reason="")
    assert words.claim_sentence(verdict) == (
        "Robust accuracy at L∞ 8/255 for class 3 is at least 40.5\u202f%, the interval's unfavourable end included"
    )


def test_unknown_metrics_are_explained_by_their_own_estimand() -> None:
    assert words.explanation(metric(0.5, None, None)) == "E"


@pytest.mark.parametrize(
    ("seconds", "expected"), [(0.04, "0.0 s"), (59.9, "59.9 s"), (200, "3 min 20 s"), (7500, "2 h 5 min")]
)
def test_durations(seconds: float, expected: str) -> None:
    assert words.duration(seconds) == expected


@pytest.mark.parametrize(("count", "expected"), [(12, "12 B"), (2048, "2 KiB"), (3 * 2**30, "3.00 GiB")])
def test_sizes(count: int, expected: str) -> None:
    assert words.size(count) == expected


@pytest.mark.parametrize(
    ("name", "title", "begins", "attacked"),
    [
        ("clean_mean_iou", "Clean mean IoU", "For each class", False),
        ("robust_mean_iou@linf:8/255", "Robust mean IoU at L∞ 8/255", "For each class", True),
        ("robust_delta1@l2:1", "Robust δ1 at L2 1", "The share of pixels", True),
        ("clean_abs_rel", "Clean AbsRel", "How far off", False),
        ("validation_rmse", "Validation RMSE", "E", False),
        ("embedding_l2_distance@linf:8/255", "Embedding L2 distance at L∞ 8/255", "How far the attack moves", False),
    ],
)
def test_metrics_of_every_task_are_said_in_words(name: str, title: str, begins: str, attacked: bool) -> None:
    said = words.explanation(dataclasses.replace(metric(0.5, None, None), name=name))
    assert words.metric_title(name) == title
    assert said.startswith(begins)
    assert said.endswith(words.ATTACKED) == attacked


def test_an_adversary_of_the_embedding_sees_no_answer() -> None:
    settings = {"norm": "linf", "eps": [8 / 255], "attacks": [], "task": "embedding"}
    (reach, embedding) = words.threat(settings)
    assert "neither the true answer" in embedding
    assert words.threat({**settings, "task": "depth"})[:2] == [reach, embedding]
    assert "see the true answer" in words.threat({**settings, "task": "depth"})[2]
