"""Several marks on one text: who is found, and that trying many costs."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from assay.core.errors import DataError, SettingError
from assay.core.estimates import holm
from assay.watermark import Watermark, detect_several
from assay.watermark.detection import detect
from assay.watermark.schemes.base import EXPONENTIAL
from assay.watermark.several import corrected

from .toys import Toy, marked, not_above


def test_the_mark_that_wrote_the_text_is_found_among_others() -> None:
    schemes = [Toy(key=key) for key in range(1, 6)] + [Toy(key=9, null=EXPONENTIAL)]
    ids = marked(schemes[2], 200)
    found = detect_several([(f"key {i}", scheme) for i, scheme in enumerate(schemes)], ids)
    assert [one.name for one in found] == [f"key {i}" for i in range(6)]
    assert [one.verdict() == "marked" for one in found] == [i == 2 for i in range(6)]
    raw = [detect(scheme, ids).p_value for scheme in schemes]
    assert [one.p_value for one in found] == pytest.approx(holm(raw).tolist(), rel=1e-11)
    assert found[2].p_value == pytest.approx(6 * raw[2], rel=1e-11)
    assert found[2].z == found[2].detection.z > 10


@pytest.mark.parametrize("sizes", [None, "max"])
def test_unmarked_text_is_called_marked_by_any_key_no_more_often_than_alpha(sizes: Any) -> None:
    schemes = [Toy(key=key, vocab_size=50_000) for key in range(1, 5)]
    docs = np.random.default_rng(0).integers(0, 50_000, (300 if sizes else 800, 40))
    least = [min(one.p_value for one in detect_several(schemes, doc, sizes=sizes)) for doc in docs]
    not_above(least)
    assert np.mean(np.array(least) <= 0.2) > 0.05  # and not for nothing


def test_marks_may_read_the_text_with_tokenizers_of_their_own() -> None:
    first, second = Watermark("philox", vocab_size=100, key=1), Watermark("unigram", vocab_size=300, key=2)
    found = detect_several([("a", first, [1, 2, 3, 4, 5, 6]), ("b", second, [299, 298]), ("c", second)], [7, 8, 9])
    assert [one.detection.scored for one in found] == [2, 2, 3]
    assert [one.verdict() for one in found] == ["not enough tokens"] * 3


def test_marks_without_names_are_numbered() -> None:
    found = detect_several([Toy(), Toy()], [1, 2, 3])
    assert [(one.name, one.tried) for one in found] == [("mark 0", 2), ("mark 1", 2)]


def test_what_cannot_be_tried() -> None:
    with pytest.raises(SettingError, match="There is no mark"):
        detect_several([], [1, 2])
    with pytest.raises(SettingError, match="Two marks are called 'a'"):
        detect_several([("a", Toy()), ("a", Toy())], [1, 2])
    with pytest.raises(DataError, match="no ids for the mark 'a'"):
        detect_several([("a", Toy())])
    with pytest.raises(SettingError, match="A mark is"):
        detect_several([(Toy(), "a")], [1, 2])
    with pytest.raises(SettingError, match="fpr is 2"):
        detect_several([Toy()], [1, 2])[0].verdict(2)


def test_detections_made_elsewhere_are_corrected_too() -> None:
    made = [("a", detect(Toy(), marked(Toy(), 90))), ("b", detect(Toy(key=3), [1, 2, 3]))]
    assert [one.p_value for one in corrected(made)] == pytest.approx(
        holm([one.p_value for _, one in made]).tolist(), rel=1e-11
    )
