from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import binomtest

from assay import Classification, Target, load_data
from assay.core.errors import RunError
from assay.core.methods import card
from assay.core.probes import Measurement
from assay.core.runs import RunWriter
from assay.data.dataset import Dataset
from assay.studies import audit, compare
from assay.studies.suite import parse_suite_text

SUITE = parse_suite_text("probes: [clean-accuracy]")


def worse(target: Target) -> Target:
    """The same model with its first class made unlikely."""
    linear = torch.nn.Linear(64, 10)
    original = target.model[1]
    with torch.no_grad():
        linear.weight.copy_(original.weight)
        linear.bias.copy_(original.bias - torch.tensor([5.0] + [0.0] * 9))
    return Target(torch.nn.Sequential(torch.nn.Flatten(), linear), task=Classification(num_classes=10))


def write(folder: Path, *, digest: str, ids: list[int], source: str = "a.npz", **columns: np.ndarray) -> Path:
    """A run made by hand."""
    writer = RunWriter.open(
        folder,
        method=card("clean-accuracy"),
        given={},
        resolved={},
        target={"digest": str(folder)},
        data={
            "digest": digest,
            "source": source,
            "split": "test",
            "shape": [1],
            "classes": ["x"],
            "n": len(ids),
            "name": "a",
        },
        seeds={},
    )
    return writer.finish(Measurement(samples=columns), sample_ids=ids).path


def test_two_audits_on_the_same_samples(target: Target, digits: Dataset, tmp_path: Path) -> None:
    audit(target, digits, SUITE, out=tmp_path / "a")
    audit(worse(target), digits, SUITE, out=tmp_path / "b")
    (found,) = compare(tmp_path / "a", tmp_path / "b")
    labels, one = digits.labels, target.predict(torch.from_numpy(digits.images())).argmax(1).numpy()
    other = worse(target).predict(torch.from_numpy(digits.images())).argmax(1).numpy()
    only_first = int(((one == labels) & (other != labels)).sum())
    only_second = int(((one != labels) & (other == labels)).sum())
    assert (found.only_first, found.only_second) == (only_first, only_second)
    assert found.p_value == pytest.approx(binomtest(only_first, only_first + only_second).pvalue)
    assert found.first == pytest.approx((one == labels).mean())
    assert found.difference.value == pytest.approx((one == labels).mean() - (other == labels).mean())
    assert found.pairs == len(digits)


def test_a_study_against_itself_shows_no_difference(target: Target, digits: Dataset, tmp_path: Path) -> None:
    audit(target, digits, SUITE, out=tmp_path)
    (found,) = compare(tmp_path, tmp_path)
    assert (found.only_first, found.only_second, found.p_value, found.difference.value) == (0, 0, 1.0, 0.0)


def test_shared_samples_of_different_selections_are_paired(target: Target, tmp_path: Path) -> None:
    data = load_data("digits")
    audit(target, data.subset(np.arange(0, 60)), SUITE, out=tmp_path / "a")
    audit(target, data.subset(np.arange(90, 30, -1)), SUITE, out=tmp_path / "b")
    (found,) = compare(tmp_path / "a", tmp_path / "b")
    assert found.pairs == 29
    assert (found.only_first, found.only_second) == (0, 0)


def test_holm_covers_all_columns_and_distances_may_be_infinite(tmp_path: Path) -> None:
    n = 30
    rng = np.random.default_rng(0)
    near, far = rng.random(n), rng.random(n) + 0.5
    far[:4] = np.inf
    common = {"digest": "d", "ids": list(range(n))}
    a = write(tmp_path / "a", **common, correct=np.ones(n, bool), distance=far, confidence=near)
    b = write(tmp_path / "b", **common, correct=np.arange(n) >= 6, distance=near, confidence=far)
    found = {item.column: item for item in compare(a, b)}
    assert set(found) == {"correct", "distance"}
    assert found["distance"].only_first == int((far > near).sum())
    assert found["distance"].difference.n == n - 4
    smaller, larger = sorted(found.values(), key=lambda item: item.p_value)
    assert smaller.adjusted == pytest.approx(2 * smaller.p_value)
    assert larger.adjusted >= larger.p_value
    assert found["correct"].p_value == pytest.approx(2 * 0.5**6)


def test_signed_margins_are_compared_and_may_be_infinite_either_way(tmp_path: Path) -> None:
    one = np.array([0.3, -0.1, np.inf, -np.inf, 0.2, 0.1])
    other = np.array([0.1, -0.3, 0.5, -0.5, 0.2, np.inf])
    common = {"digest": "d", "ids": list(range(6))}
    a = write(tmp_path / "a", **common, signed_margin=one, baseline_signed_margin=other)
    b = write(tmp_path / "b", **common, signed_margin=other, baseline_signed_margin=one)
    (found,) = compare(a, b)
    assert (found.column, found.only_first, found.only_second) == ("signed_margin", 3, 2)
    assert (found.first, found.second) == (pytest.approx(0.15), pytest.approx(0.15))
    assert found.difference.value == pytest.approx(0.4 / 3)
    assert found.difference.n == 3


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"ids": [7, 8, 9]}, "share no sample"),
        ({"source": "b.npz"}, "share no sample"),
        ({"label": np.array([0, 1, 0])}, "different labels"),
    ],
)
def test_other_data_are_refused(tmp_path: Path, change: dict[str, object], word: str) -> None:
    columns = {"correct": np.ones(3, bool), "label": np.array([0, 1, 1])}
    a = write(tmp_path / "a", digest="one", ids=[0, 1, 2], **columns)
    b = write(tmp_path / "b", **{"digest": "two", "ids": [0, 1, 2], **columns, **change})  # type: ignore[arg-type]
    with pytest.raises(RunError, match=word):
        compare(a, b)


def test_runs_of_different_questions_are_refused(target: Target, digits: Dataset, tmp_path: Path) -> None:
    audit(target, digits, SUITE, out=tmp_path / "a")
    audit(target, digits, parse_suite_text("probes: [calibration: {bins: 3, resamples: 100}]"), out=tmp_path / "b")
    with pytest.raises(RunError, match="same method"):
        compare(tmp_path / "a", tmp_path / "b")


def test_unfinished_runs_are_refused(tmp_path: Path) -> None:
    writer = RunWriter.open(
        tmp_path,
        method=card("calibration"),
        given={},
        resolved={},
        target={"digest": "t"},
        data={"digest": "d"},
        seeds={},
    )
    writer.close()
    with pytest.raises(RunError, match="no finished run"):
        compare(tmp_path, tmp_path)
