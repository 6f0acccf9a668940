"""Calibration: p-values hold on text without the mark, defects are seen, and numbers are those of detection."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.special import ndtr

from assay.core.errors import DataError, SettingError
from assay.core.estimates import proportion
from assay.core.probes import Finding, Measurement
from assay.core.shards import Shards
from assay.watermark import Watermark
from assay.watermark.null import HumanTexts, WatermarkNull, columns_under, pieces, random_key, rate

from .written import mark, with_mark, without_mark

SETTINGS = mark().settings


def repetitive(count: int, length: int, seed: int = 0) -> list[np.ndarray]:
    """Text in which phrases of eight ids come back, as those of people do."""
    rng = np.random.default_rng(seed)
    phrases = rng.integers(0, 1000, size=(count, 6, 8))
    return [own[rng.integers(0, 6, size=length // 8)].reshape(-1) for own in phrases]


def finding(found: Measurement, code: str) -> Finding | None:
    return next((one for one in found.findings if one.code == code), None)


def value(found: Measurement, alpha: str, stratum: str = "") -> float:
    (one,) = [one for one in found.metrics if (one.name, one.stratum) == (f"false_positive_rate@p:{alpha}", stratum)]
    return one.value


@pytest.fixture(scope="module")
def found() -> Measurement:
    texts = HumanTexts(settings=SETTINGS, documents=repetitive(40, 160))
    return WatermarkNull(keys=50, windows="geometric", window_keys=2).measure(texts)


def test_p_values_hold_although_phrases_come_back(found: Measurement) -> None:
    assert value(found, "0.05") <= 0.06
    assert value(found, "0.01") <= 0.015
    assert finding(found, "p-values-too-small") is None
    assert finding(found, "p-values-hold") is not None
    names = {one.name for one in found.metrics if not one.stratum}
    assert "windowed_false_positive_rate@p:0.01" in names


def test_counting_repeats_each_time_is_shown_to_be_wrong(found: Measurement) -> None:
    assert value(found, "0.001", "kind=repeats counted") > 0.005
    remark = finding(found, "repetition")
    assert remark is not None
    assert "of the n-grams repeat" in remark.message


def test_there_is_a_row_for_every_key_and_document(found: Measurement) -> None:
    table = found.samples
    assert len(table["z"]) == 40 * 50
    assert table["key"].max() == 49
    own = Watermark.from_settings(SETTINGS, key=random_key(SETTINGS, 0, 1)).detect(repetitive(40, 160)[2])
    place = 40 + 2
    assert table["z"][place] == own.z
    assert table["log10_p"][place] == own.log10_p
    assert table["repeated"][place] == len(own.mask) - own.scored
    assert table["normal_log10_p"][place] == pytest.approx(np.log10(ndtr(-own.z)))
    assert np.isfinite(table["window_log10_p"][:80]).all()
    assert np.isnan(table["window_log10_p"][80:]).all()


def test_the_figures_compare_with_what_is_expected(found: Measurement) -> None:
    quantiles, by_alpha = found.figures
    assert [line.label for line in quantiles.series] == ["as expected", "exact", "WinMax", "repeats counted", "normal"]
    assert quantiles.series[0].x == quantiles.series[0].y
    highest = {line.label: max(line.y) for line in by_alpha.series}
    assert highest["repeats counted"] > 3 > highest["exact"]


def test_marked_text_is_seen_with_its_own_key_only() -> None:
    """Calibration draws keys of its own, so that marked documents do no harm."""
    documents = with_mark(mark(), 20, 100)
    found = WatermarkNull(keys=20, alphas=(0.05,)).measure(HumanTexts(settings=SETTINGS, documents=documents))
    assert finding(found, "p-values-too-small") is None


def test_too_small_p_values_are_serious(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)

    def wrong(watermark: Watermark, documents: list[np.ndarray], windows: str) -> dict[str, np.ndarray]:
        p = np.log10(rng.random(len(documents)) ** 2)
        whole = np.full(len(documents), 50)
        names = ("log10_p", "repeating_log10_p", "normal_log10_p", "z")
        return {**dict.fromkeys(names, p), "scored": whole, "repeated": 0 * whole}

    monkeypatch.setattr("assay.watermark.null.columns_under", wrong)
    found = WatermarkNull(keys=20).measure(HumanTexts(settings=SETTINGS, documents=without_mark(50, 50)))
    bad = finding(found, "p-values-too-small")
    assert bad is not None
    assert bad.severity == "serious"
    assert "where 50 were expected" in bad.message


def test_keys_that_differ_are_noticed() -> None:
    """Documents of the same few tokens: under one key they are right or wrong together."""
    rng = np.random.default_rng(1)
    documents = list(rng.integers(0, 12, size=(200, 60)))
    settings = Watermark("simple_1", vocab_size=1000, key=5).settings
    found = WatermarkNull(keys=30, alphas=(0.05,)).measure(HumanTexts(settings=settings, documents=documents))
    assert finding(found, "keys-differ") is not None
    independent = HumanTexts(settings=SETTINGS, documents=without_mark(200, 60))
    assert finding(WatermarkNull(keys=30, alphas=(0.05,)).measure(independent), "keys-differ") is None


@pytest.mark.parametrize("scheme", ["simple_1", "unigram", "gumbel", "hf-selfhash"])
def test_other_schemes_hold_too(scheme: str) -> None:
    settings = mark(scheme).settings
    found = WatermarkNull(keys=30, alphas=(0.1, 0.01)).measure(
        HumanTexts(settings=settings, documents=without_mark(30, 60))
    )
    assert finding(found, "p-values-too-small") is None
    assert 0.03 < value(found, "0.1") < 0.13


def test_intervals_allow_for_documents_that_are_alike() -> None:
    """Keys that are right or wrong on all documents at once: only keys count."""
    alike = np.repeat(np.where(np.arange(20) < 4, -3.0, -0.5)[:, None], 100, axis=1)
    found, exact = rate(alike, 0.01), proportion(400, 2000)
    assert found.value == exact.value == 0.2
    assert found.lo < 0.1 < exact.lo
    assert found.hi > 0.3 > exact.hi
    assert rate(alike[:5], 0.01) == proportion(400, 500)


def test_few_p_values_are_noticed() -> None:
    found = WatermarkNull(keys=2).measure(HumanTexts(settings=SETTINGS, documents=without_mark(5, 50)))
    few = finding(found, "too-few-p-values")
    assert few is not None
    assert "100,000 p-values are needed" in few.remedy
    assert finding(found, "p-values-hold") is None


def test_pieces_are_cut_and_a_rest_is_left_out() -> None:
    texts = HumanTexts(settings=SETTINGS, documents=[np.arange(25), np.arange(7)], names=["a", "b"])
    names, cut = pieces(texts, 10)
    assert names == ["a#0", "a#1"]
    assert cut[1].tolist() == list(range(10, 20))
    assert pieces(texts, 0)[0] == ["a", "b"]
    with pytest.raises(DataError, match="longest of 2 has 25 tokens"):
        pieces(texts, 26)


def test_finished_keys_are_not_done_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def texts() -> HumanTexts:
        return HumanTexts(settings=SETTINGS, documents=without_mark(5, 50), shards=Shards(tmp_path))

    first = WatermarkNull(keys=3).measure(texts())
    monkeypatch.setattr("assay.watermark.null.columns_under", None)
    again = WatermarkNull(keys=3).measure(texts())
    assert all((first.samples[name] == again.samples[name]).all() for name in first.samples)


def test_random_keys_are_allowed_and_different() -> None:
    for scheme in ("philox", "simple_1"):
        settings = mark(scheme).settings
        keys = {random_key(settings, 0, number) for number in range(50)}
        assert len(keys) == 50
        assert min(keys) >= 1
        assert max(keys) < (2**64 if scheme == "philox" else 2**32)


def test_a_text_without_n_grams_has_p_1() -> None:
    found = columns_under(mark(), [np.arange(2), np.arange(50)])
    assert found["log10_p"][0] == found["repeating_log10_p"][0] == found["scored"][0] == 0


def test_settings_are_checked() -> None:
    with pytest.raises(SettingError, match="alphas is empty"):
        WatermarkNull(alphas=())
    assert "assay watermark calibrate" in WatermarkNull().measure(object()).not_applicable
