"""What cannot be used is refused before anything is computed, with the place and the remedy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from assay.core.errors import DataError
from assay.membership import lira_scores, rmia_scores
from assay.membership.signals import answers_from, answers_from_labels, answers_from_probabilities

RNG = np.random.default_rng(0)
M, N, K, C, Z = 4, 6, 2, 3, 5
GOOD: dict[str, Any] = {
    "reference_logits": RNG.normal(size=(M, N, K, C)),
    "in_mask": np.arange(M * N).reshape(M, N) % 2 == np.arange(M)[:, None] // 2 % 2,
    "target_logits": RNG.normal(size=(N, K, C)),
    "labels": np.arange(N) % C,
}
POPULATION: dict[str, Any] = {
    "population_reference_logits": RNG.normal(size=(M, Z, C)),
    "population_target_logits": RNG.normal(size=(Z, C)),
    "population_labels": np.arange(Z) % C,
}


def softmax(z: np.ndarray) -> np.ndarray:
    return np.exp(z) / np.exp(z).sum(axis=-1, keepdims=True)


def with_value(name: str, place: Any, value: float) -> dict[str, Any]:
    changed = np.array(GOOD[name])
    changed[place] = value
    return {name: changed}


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "classes differ": ({"target_logits": RNG.normal(size=(N, K, C + 1))}, "3 classes, the target with 4"),
    "queries differ": ({"target_logits": RNG.normal(size=(N, K + 1, C))}, "2 queries .* the target with 3"),
    "records differ": ({"target_logits": RNG.normal(size=(N + 1, K, C))}, "6 records, the target with 7"),
    "one class": (
        {"reference_logits": RNG.normal(size=(M, N, K, 1)), "target_logits": RNG.normal(size=(N, K, 1))},
        r"two logits \[0, z\]",
    ),
    "a label too large": (with_value("labels", 4, C), r"labels\[4\] is 3; 0 to 2"),
    "a negative label": (with_value("labels", 1, -1), r"labels\[1\] is -1"),
    "labels that are not whole": ({"labels": GOOD["labels"] * 1.0}, "whole numbers"),
    "labels of another length": ({"labels": GOOD["labels"][1:]}, r"\(6,\) is needed"),
    "one-hot labels": ({"labels": np.eye(C, dtype=int)[GOOD["labels"]]}, r"\(6,\) is needed"),
    "a mask of numbers": ({"in_mask": GOOD["in_mask"].astype(int)}, "astype"),
    "a mask turned round": ({"in_mask": GOOD["in_mask"].T}, "4 reference models, 6 records"),
    "target with nan": (with_value("target_logits", (3, 1, 2), np.nan), r"target_logits\[3, 1\]"),
    "target with inf": (with_value("target_logits", (3, 0, 2), np.inf), r"target_logits\[3, 0\]"),
    "target with -inf alone": (with_value("target_logits", (5, 0), -np.inf), r"target_logits\[5, 0\]"),
    "probabilities": ({"target_logits": softmax(GOOD["target_logits"])}, "answers_from_probabilities"),
    "probabilities of references": ({"reference_logits": softmax(GOOD["reference_logits"])}, "reference_logits are"),
    "no records": (
        {
            "reference_logits": np.empty((M, 0, K, C)),
            "target_logits": np.empty((0, K, C)),
            "in_mask": np.empty((M, 0), dtype=bool),
            "labels": np.empty(0, dtype=int),
        },
        "no records",
    ),
    "too many axes": ({"target_logits": GOOD["target_logits"][None]}, "K queries a record"),
    "too few axes": ({"reference_logits": GOOD["reference_logits"][0, 0]}, "K queries a record"),
    "lists of different lengths": ({"target_logits": [[[0.0, 1.0, 2.0]], [[0.0, 1.0]]]}, "different lengths"),
    "text": ({"target_logits": np.full((N, K, C), "a")}, "numbers are needed"),
    "models that differ": (
        {"reference_logits": [*GOOD["reference_logits"][:3], GOOD["reference_logits"][3, 1:]]},
        "different shapes",
    ),
    "a target that is a reference": ({"target_logits": GOOD["reference_logits"][2]}, "reference model 2"),
}


@pytest.mark.parametrize(("change", "match"), BAD.values(), ids=list(BAD))
def test_what_cannot_be_scored_is_refused(change: dict[str, Any], match: str) -> None:
    assert np.isfinite(lira_scores(**GOOD)).all()
    with pytest.raises(DataError, match=match):
        lira_scores(**{**GOOD, **change})
    with pytest.raises(DataError, match=match):
        rmia_scores(**{**GOOD, **change}, **POPULATION)


BAD_POPULATION: dict[str, tuple[dict[str, Any], str]] = {
    "models": ({"population_reference_logits": POPULATION["population_reference_logits"][1:]}, "the same models"),
    "classes": (
        {
            "population_reference_logits": RNG.normal(size=(M, Z, 2)),
            "population_target_logits": RNG.normal(size=(Z, 2)),
        },
        "2 classes, those to the records 3",
    ),
    "labels": ({"population_labels": np.full(Z, C)}, "population_labels"),
    "one of three": ({"population_labels": None}, "all three"),
    "none": (dict.fromkeys(POPULATION), "population_reference"),
    "no records": (
        {
            "population_reference_logits": np.empty((M, 0, C)),
            "population_target_logits": np.empty((0, C)),
            "population_labels": np.empty(0, dtype=int),
        },
        "no population records",
    ),
    "nan": ({"population_target_logits": np.full((Z, C), np.nan)}, "population_target_logits"),
    "nan of references": ({"population_reference_logits": np.full((M, Z, C), np.nan)}, "No population record"),
}


@pytest.mark.parametrize(("change", "match"), BAD_POPULATION.values(), ids=list(BAD_POPULATION))
def test_a_population_that_does_not_fit_is_refused(change: dict[str, Any], match: str) -> None:
    assert np.isfinite(rmia_scores(**GOOD, **POPULATION)).all()
    with pytest.raises(DataError, match=match):
        rmia_scores(**GOOD, **{**POPULATION, **change})


def test_probabilities_must_be_probabilities() -> None:
    reference, target = softmax(GOOD["reference_logits"]), softmax(GOOD["target_logits"])
    answers_from_probabilities(reference, GOOD["in_mask"], target.round(2), GOOD["labels"]).signal()
    with pytest.raises(DataError, match="use answers_from"):
        answers_from_probabilities(reference, GOOD["in_mask"], GOOD["target_logits"], GOOD["labels"])
    with pytest.raises(DataError, match="reference model 0"):
        answers_from_probabilities(GOOD["reference_logits"], GOOD["in_mask"], target, GOOD["labels"]).signal()


def test_examples_of_a_few_round_numbers_are_no_probabilities() -> None:
    answers_from([[[1.0, 0.0]], [[0.0, 0.5]]], np.array([[True], [False]]), [[1.0, 0.0]], [0]).signal()


def test_predictions_must_be_classes() -> None:
    mask, labels = np.zeros((2, 3), dtype=bool), [0, 1, 2]
    with pytest.raises(DataError, match="whole numbers"):
        answers_from_labels(np.zeros((2, 3)), mask, [0, 1, 1], labels)
    with pytest.raises(DataError, match="same records"):
        answers_from_labels(np.zeros((2, 4), dtype=int), mask, [0, 1, 1], labels)
    with pytest.raises(DataError, match="2 axes"):
        answers_from_labels(np.zeros((2, 3), dtype=int), mask, [[[0]]], labels)
