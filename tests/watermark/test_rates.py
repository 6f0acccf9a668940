"""Rates of detection, unedited and after edits: numbers against counting, findings, resuming, independence of order."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from assay.core.errors import SettingError
from assay.core.estimates import clopper_pearson
from assay.core.probes import Measurement, Metric
from assay.core.shards import Shards
from assay.watermark.attacked import UNEDITED, Victims, WatermarkAttack, refuse_without_means, usual_edits
from assay.watermark.rates import Texts, WatermarkRates, passes
from assay.watermark.scoring import digest, outcome, score

from .written import mark, with_mark, without_mark

WATERMARK = mark()
MARKED = with_mark(WATERMARK, 20, 60)
UNMARKED = without_mark(80, 60)


def metric(found: Measurement, name: str, stratum: str = "") -> Metric:
    (one,) = [one for one in found.metrics if (one.name, one.stratum) == (name, stratum)]
    return one


def codes(found: Measurement) -> set[str]:
    return {finding.code for finding in found.findings}


@pytest.fixture(scope="module")
def rates() -> Measurement:
    return WatermarkRates().measure(Texts(watermark=WATERMARK, marked=MARKED, unmarked=UNMARKED))


@pytest.fixture(scope="module")
def attack() -> Measurement:
    chosen = WatermarkAttack(edits=("substitute:0.2,0.8", "copy-paste:0.5"))
    return chosen.measure(Victims(watermark=WATERMARK, marked=MARKED, human=UNMARKED))


def test_every_document_has_its_scores(rates: Measurement) -> None:
    table = rates.samples
    assert table["marked"].sum() == 20
    for place in (0, 7, 20, 99):
        ids = [*MARKED, *UNMARKED][place]
        plain, window = WATERMARK.detect(ids), WATERMARK.detect_windows(ids, sizes="geometric")
        assert table["z"][place] == plain.z
        assert table["log10_p"][place] == plain.log10_p
        assert table["window_z"][place] == window.z
        assert (table["window_start"][place], table["window_end"][place]) == (window.start, window.end)
        assert table["tokens"][place] == 60


def test_rates_at_stated_error_rates_are_counted(rates: Measurement) -> None:
    p = np.array([WATERMARK.detect(ids).p_value for ids in MARKED])
    for alpha in (1e-3, 1e-5):
        found = metric(rates, f"true_positive_rate@p:{alpha:g}")
        assert found.value == (p <= alpha).mean()
        assert (found.lo, found.hi) == clopper_pearson(int((p <= alpha).sum()), 20)
        assert metric(rates, f"false_positive_rate@p:{alpha:g}").n == 80


def test_the_area_and_measured_rates_have_intervals(rates: Measurement) -> None:
    for name in ("auc", "windowed_auc", "true_positive_rate@fpr:0.001", "windowed_true_positive_rate@fpr:1e-05"):
        found = metric(rates, name)
        assert found.lo is not None
        assert found.hi is not None
        assert found.lo <= found.value <= found.hi
    assert metric(rates, "auc").value > 0.9
    assert "few-negatives" in codes(rates)


def test_the_figures_are_there(rates: Measurement) -> None:
    roc, z = rates.figures
    assert [line.label for line in roc.series] == ["plain", "WinMax"]
    assert roc.x_scale == "log"
    assert sum(z.series[0].y) == pytest.approx(1)
    assert sum(z.series[1].y) == pytest.approx(1)


def test_windows_may_be_left_out() -> None:
    found = WatermarkRates(windows="none").measure(Texts(watermark=WATERMARK, marked=MARKED, unmarked=UNMARKED))
    assert not [one.name for one in found.metrics if one.name.startswith("windowed")]
    assert "window_z" not in found.samples


def test_marked_text_among_the_unmarked_is_noticed() -> None:
    found = WatermarkRates(windows="none").measure(
        Texts(watermark=WATERMARK, marked=MARKED[:5], unmarked=[*MARKED[5:], *UNMARKED])
    )
    (serious,) = [finding for finding in found.findings if finding.code == "p-values-too-small"]
    assert serious.severity == "serious"
    assert "of 95 unmarked documents" in serious.message


def test_copies_and_short_documents_are_noticed() -> None:
    short = np.arange(3)
    found = WatermarkRates(windows="none").measure(
        Texts(watermark=WATERMARK, marked=[MARKED[0], MARKED[0]], unmarked=[short, UNMARKED[0]])
    )
    assert {"repeated-documents", "nothing-scored"} <= codes(found)
    assert found.samples["log10_p"][2] == 0.0


def test_p_values_may_lie_below_the_smallest_number() -> None:
    assert passes(np.array([-400.0, -3.0, -2.99, 0.0]), 1e-3).tolist() == [True, True, False, False]


def test_finished_blocks_are_not_done_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = score(WATERMARK, UNMARKED, shards=Shards(tmp_path), name="x")
    monkeypatch.setattr(type(WATERMARK), "detect_many", None)
    again = score(WATERMARK, UNMARKED, shards=Shards(tmp_path), name="x")
    assert all((first[name] == again[name]).all() for name in first)


def test_scores_do_not_depend_on_what_is_beside_a_document() -> None:
    table = score(WATERMARK, UNMARKED, windows="geometric")
    for place in (3, 70):
        alone = score(WATERMARK, [UNMARKED[place]], windows="geometric")
        assert all(table[name][place] == alone[name][0] for name in table)


def test_keys_are_told_apart_without_their_name() -> None:
    same, other = mark(), mark(key=4243)
    assert outcome(same, UNMARKED) == outcome(WATERMARK, UNMARKED) != outcome(other, UNMARKED)
    assert digest(UNMARKED) != digest(UNMARKED[::-1]) != digest([])


def test_edits_take_away_what_they_should(attack: Measurement) -> None:
    plain = [metric(attack, "mean_z", stratum).value for stratum in ("", "edit=substitute rate=0.2")]
    strong = metric(attack, "mean_z", "edit=substitute rate=0.8")
    assert plain[0] > plain[1] > strong.value
    assert abs(strong.value) < 1
    assert strong.n == 20
    table = attack.samples
    assert list(dict.fromkeys(table["edit"])) == [
        UNEDITED,
        "substitute rate=0.2",
        "substitute rate=0.8",
        "copy-paste share=0.5",
    ]
    assert len(table["z"]) == 80


def test_the_table_of_edits_is_a_figure(attack: Measurement) -> None:
    matrix, *others = attack.figures
    assert (matrix.series[0].label, len(matrix.series)) == ("unedited", 4)
    heads = [column.name for column in matrix.columns]
    assert heads[:3] == ["TPR, p ≤ 0.001 (plain)", "TPR, p ≤ 1e-05 (plain)", "mean z (plain)"]
    (line,) = others
    assert line.series[0].x == (0.0, 0.2, 0.8)
    assert line.title == "After substitution of tokens"
    assert line.series[0].lo is not None


def test_windows_help_where_a_span_is_hidden() -> None:
    documents = with_mark(WATERMARK, 20, 200, share=0.9, first=100)
    chosen = WatermarkAttack(edits=("copy-paste:share=0.15", "substitute:0"), fprs=(1e-5,))
    found = chosen.measure(Victims(watermark=WATERMARK, marked=documents, human=without_mark(20, 200, seed=9)))
    hidden = "edit=copy-paste share=0.15"
    plain, window = (metric(found, f"{name}true_positive_rate@p:1e-05", hidden) for name in ("", "windowed_"))
    assert window.value > plain.value + 0.3
    (finding,) = [finding for finding in found.findings if finding.code == "windows-help"]
    assert "copy-paste" in finding.message
    untouched = metric(found, "mean_z", "edit=substitute rate=0")
    assert untouched.value == metric(found, "mean_z").value


def test_a_weak_mark_is_noticed() -> None:
    chosen = WatermarkAttack(edits=("delete:0.1",), windows="none")
    assert "weak-mark" in codes(chosen.measure(Victims(watermark=WATERMARK, marked=UNMARKED[:20])))


def test_attacks_do_not_depend_on_order() -> None:
    chosen = WatermarkAttack(edits=("insert:0.3",), windows="none")
    one = chosen.measure(Victims(watermark=WATERMARK, marked=MARKED))
    other = chosen.measure(Victims(watermark=WATERMARK, marked=MARKED[::-1]))
    z = one.samples["z"][20:], other.samples["z"][20:][::-1]
    assert (z[0] == z[1]).all()


def test_edits_need_their_means() -> None:
    with pytest.raises(SettingError, match="unmarked text of people"):
        refuse_without_means(WatermarkAttack(edits=("copy-paste",)), human=False, tokenizer=True)
    with pytest.raises(SettingError, match="needs a tokenizer"):
        refuse_without_means(WatermarkAttack(edits=("zero-width",)), human=True, tokenizer=False)
    everything = usual_edits(human=True, tokenizer=True)
    refuse_without_means(WatermarkAttack(edits=everything), human=True, tokenizer=True)
    assert {edit.name for edit in WatermarkAttack(edits=everything).chosen()} >= {"retokenise", "copy-paste", "swap"}


def test_probes_of_models_do_not_apply() -> None:
    for chosen in (WatermarkRates(), WatermarkAttack()):
        assert "assay watermark" in chosen.measure(object()).not_applicable


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: WatermarkRates(fprs=()), "fprs is empty"),
        (lambda: WatermarkRates(fprs=(0.0,)), "above 0"),
        (lambda: WatermarkRates(windows="some"), "some"),
        (lambda: WatermarkAttack(edits=()), "at least one edit"),
        (lambda: WatermarkAttack(edits=("burn",)), "no edit named 'burn'"),
        (lambda: WatermarkAttack(normalise="unicoed"), "unicode"),
    ],
)
def test_settings_are_checked(make: object, message: str) -> None:
    with pytest.raises(SettingError, match=message):
        make()  # type: ignore[operator]
