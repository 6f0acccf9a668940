"""Verdicts of several marks: Holm's correction, parts of texts, errors of one mark that spare the others."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from assay.core import estimates
from assay.core.errors import SettingError
from assay.core.estimates import log10_holm
from assay.watermark import Watermark
from assay.watermark.judging import MARKED, NOT_MARKED, TOO_SHORT, best, judge
from assay.watermark.marks import NamedMark

from .tiny import marked_ids

V = 400
A, B = (NamedMark(name, Watermark("philox", vocab_size=V, key=key)) for name, key in (("a", 31), ("b", 47)))


def blind(n: int, seed: int = 9) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, V, n)


@given(values=st.lists(st.floats(1e-12, 1), min_size=1, max_size=8))
def test_holm_on_logarithms_is_holm(values: list[float]) -> None:
    found = [10**p for p in log10_holm([math.log10(value) for value in values])]
    np.testing.assert_allclose(found, estimates.holm(values), rtol=1e-9)


def test_holm_keeps_tiny_p_values_apart() -> None:
    assert log10_holm([-4000.0, -2000.0]) == [-4000 + math.log10(2), -2000.0]
    assert log10_holm([-3.0], 10) == [-2.0]
    assert log10_holm([]) == []


def test_the_mark_that_is_there_is_named_and_others_are_not() -> None:
    texts = [np.array(marked_ids(B.watermark, 200)), blind(200), blind(20)]
    table = judge([A, B], [{"a": text, "b": text} for text in texts], fpr=1e-6)
    assert [[found.verdict for found in row] for row in table] == [
        [NOT_MARKED, MARKED],
        [NOT_MARKED, NOT_MARKED],
        [TOO_SHORT, TOO_SHORT],
    ]
    assert best(table[0]).mark == "b"
    alone = B.watermark.detect(texts[0])
    assert table[0][1].log10_p == pytest.approx(alone.log10_p + math.log10(2))


def test_parts_of_a_text() -> None:
    first, second = marked_ids(A.watermark, 150), marked_ids(A.watermark, 120, seed=1)
    text = np.concatenate([blind(600), first, blind(500, 1), second, blind(900, 2)])
    (found,), (other,) = judge([A], [{"a": text}, {"a": blind(1000)}], fpr=1e-6, windows="max")
    assert found.verdict == MARKED
    assert other.verdict == NOT_MARKED
    assert other.spans == ()
    for span, (start, end) in zip(found.spans, [(600, 750), (1250, 1370)], strict=True):
        assert abs(span.start - start) < 25
        assert abs(span.end - end) < 25
        assert span.log10_p < -6
    (whole,) = judge([A], [{"a": text}], fpr=1e-6)[0]
    assert whole.spans == ()


def test_a_mark_that_cannot_be_applied_spares_the_others() -> None:
    small = NamedMark("small", Watermark("philox", vocab_size=100, key=31))
    text = np.array(marked_ids(A.watermark, 200))
    ((wrong, right),) = judge([small, A], [{"small": text, "a": text}], fpr=1e-6, windows="50")
    assert "outside the mark's vocabulary of 100" in wrong.error
    assert wrong.detection is None
    assert right.verdict == MARKED
    assert best([wrong, right]) is right


def test_short_texts_and_none() -> None:
    for windows in (None, "max", "50"):
        for text in (np.zeros(0, dtype=np.int64), np.array([3]), np.array([3, 4, 5, 6])):
            ((found,),) = judge([A], [{"a": text}], fpr=1e-3, windows=windows)
            assert found.verdict == TOO_SHORT
            assert found.log10_p == 0
    assert judge([A], [], fpr=1e-3) == []


def test_payloads_are_read() -> None:
    carrier = Watermark("philox", vocab_size=V, key=31, payload=77)
    reader = NamedMark("a", Watermark("philox", vocab_size=V, key=31))
    text = np.array(marked_ids(carrier, 300))
    ((plain,),) = judge([reader], [{"a": text}], fpr=1e-6)
    ((read,),) = judge([reader], [{"a": text}], fpr=1e-6, payload=True)
    assert plain.verdict == NOT_MARKED
    assert read.verdict == MARKED
    assert read.detection is not None
    assert read.detection.payload == 77


def test_false_alarms_are_as_rare_as_was_asked() -> None:
    texts = [{"a": (text := blind(120, seed)), "b": text} for seed in range(400)]
    table = judge([A, B], texts, fpr=0.05)
    share = np.mean([best(row).verdict == MARKED for row in table])
    assert 0.005 < share < 0.075


def test_what_cannot_be_asked() -> None:
    with pytest.raises(SettingError, match="no mark"):
        judge([], [], fpr=0.1)
    with pytest.raises(SettingError, match="fpr"):
        judge([A], [], fpr=1.0)
