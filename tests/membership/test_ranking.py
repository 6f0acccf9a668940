"""Ranking records whose truth nobody knows: the same scores as the attacks', and thresholds of the mock targets."""

from __future__ import annotations

import csv

import numpy as np
import pytest

from assay.core.errors import InputError
from assay.membership.attacks.registry import parse
from assay.membership.ranking import Ranking, ranked
from assay.membership.signals import Answers, answers_from


def answers(models: int = 6, records: int = 40) -> Answers:
    rng = np.random.default_rng(1)
    in_mask = np.argsort(rng.random((models, records)), 0) < models // 2
    labels = rng.integers(0, 3, records)
    logits = rng.normal(size=(models, records, 1, 3))
    logits += 2.0 * in_mask[:, :, None, None] * np.eye(3)[labels][:, None]
    return answers_from(logits, in_mask, rng.normal(size=(records, 1, 3)), labels)


def test_scores_and_counts() -> None:
    given = answers()
    made = ranked(given, ["lira", "loss"], [0.1, 0.5])
    for name in ("lira", "loss"):
        np.testing.assert_array_equal(made.scores[name], parse(name)[1].score(given).scores)
    assert [row[:2] for row in made.flagged] == [("lira", 0.1), ("lira", 0.5), ("loss", 0.1), ("loss", 0.5)]
    for name, fpr, limit, count in made.flagged:
        mocks = np.concatenate(
            [parse(name)[1].score(given.as_target(m)).scores[~given.in_mask[m]] for m in range(given.models)]
        )
        assert (mocks > limit).mean() <= fpr
        assert (mocks >= limit).mean() > fpr
        assert count == (made.scores[name] > limit).sum()


def test_too_few_references_for_mock_targets() -> None:
    assert ranked(answers(models=2), ["loss"], [0.1]).flagged == ()


def test_the_table() -> None:
    made = Ranking(scores={"a": np.array([0.5, np.nan, 2.0]), "b": np.zeros(3)})
    rows = list(csv.reader(made.table({"id": np.array([7, 8, 9]), "label": None}).splitlines()))
    assert rows[0] == ["record", "id", "a", "b", "rank"]
    assert [row[-1] for row in rows[1:]] == ["2", "3", "1"]
    assert [float(row[2]) for row in rows[1:]] == pytest.approx([0.5, np.nan, 2.0], nan_ok=True)


def test_what_cannot_be_ranked() -> None:
    with pytest.raises(InputError, match="Did you mean 'lira'"):
        ranked(answers(), ["liar"], [0.1])
    with pytest.raises(InputError, match="No attack was named"):
        ranked(answers(), [], [0.1])
