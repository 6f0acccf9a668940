"""Watermark studies: a run and a report each, resumed and never mixed up, and the key nowhere in them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from assay.core.errors import DataError, Incomplete, SettingError
from assay.core.runs import load_run
from assay.studies.watermarking import Documents, study_attack, study_null, study_rates, write_texts
from assay.watermark import Watermark
from assay.watermark.attacked import WatermarkAttack, usual_edits
from assay.watermark.null import WatermarkNull
from assay.watermark.rates import WatermarkRates

from ..watermark.written import mark, tiny_model, with_mark, without_mark

KEY = 918273645546372819
WATERMARK = mark(key=KEY)
MARKED = Documents(name="marked", ids=with_mark(WATERMARK, 12, 60), names=tuple(f"m{i}" for i in range(12)))
UNMARKED = Documents(name="human", ids=without_mark(30, 60))
QUICK = WatermarkRates(windows="none", resamples=100)


def everything_in(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file())


def test_rates_become_a_run_and_a_report(tmp_path: Path) -> None:
    study = study_rates(WATERMARK, MARKED, UNMARKED, out=tmp_path, claims=["auc >= 0.9", "auc < 0.5"])
    assert study.status == "ok"
    assert [verdict.outcome for verdict in study.verdicts] == ["passed", "failed"]
    assert study.exit_code == 1
    (run,) = study.runs
    assert run.samples.column("document").to_pylist()[:2] == ["m0", "m1"]
    assert len(run.samples) == 42
    assert run.record["target"]["name"] == "philox watermark, gamma 0.25, delta 2"
    assert run.record["data"]["n"] == 42
    page = (tmp_path / "report.html").read_text()
    assert "True positive rate at p ≤ 0.001" in page
    assert "Paraphrase" in page


def test_the_key_is_in_no_file(tmp_path: Path) -> None:
    study_rates(WATERMARK, MARKED, UNMARKED, out=tmp_path / "rates")
    study_attack(WATERMARK, MARKED, WatermarkAttack(edits=("delete",)), out=tmp_path / "attack")
    found = everything_in(tmp_path)
    for form in (str(KEY).encode(), f"{KEY:x}".encode(), KEY.to_bytes(8, "little"), KEY.to_bytes(8, "big")):
        assert form not in found


def test_another_key_is_another_run(tmp_path: Path) -> None:
    one = study_rates(WATERMARK, MARKED, UNMARKED, QUICK, out=tmp_path)
    other = study_rates(mark(key=KEY + 1), MARKED, UNMARKED, QUICK, out=tmp_path)
    assert one.runs[0].id != other.runs[0].id
    assert other.runs[0].metric("auc").value < one.runs[0].metric("auc").value
    again = study_rates(WATERMARK, MARKED, UNMARKED, QUICK, out=tmp_path)
    assert again.runs[0].id == one.runs[0].id
    assert len(list((tmp_path / "runs").iterdir())) == 2


def test_a_finished_run_is_taken_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = study_null(WATERMARK.settings, UNMARKED, WatermarkNull(keys=5), out=tmp_path)
    monkeypatch.setattr("assay.watermark.null.columns_under", None)
    again = study_null(WATERMARK.settings, UNMARKED, WatermarkNull(keys=5), out=tmp_path)
    assert again.runs[0].record == first.runs[0].record
    assert again.report is not None


def test_a_stopped_run_goes_on_where_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from assay.watermark import null

    whole = study_null(WATERMARK.settings, UNMARKED, WatermarkNull(keys=6), out=tmp_path / "whole")
    done: list[int] = []
    right = null.columns_under

    def stops(watermark: Watermark, documents: list[np.ndarray], windows: str) -> dict[str, np.ndarray]:
        done.append(1)
        if len(done) == 4:
            raise KeyboardInterrupt
        return right(watermark, documents, windows)

    monkeypatch.setattr(null, "columns_under", stops)
    with pytest.raises(Incomplete, match="Run the same command to go on"):
        study_null(WATERMARK.settings, UNMARKED, WatermarkNull(keys=6), out=tmp_path / "stopped")
    (folder,) = (tmp_path / "stopped" / "runs").iterdir()
    assert load_run(folder).status == "incomplete"
    resumed = study_null(WATERMARK.settings, UNMARKED, WatermarkNull(keys=6), out=tmp_path / "stopped")
    assert len(done) == 4 + 3
    assert resumed.runs[0].samples.equals(whole.runs[0].samples)
    assert resumed.runs[0].metrics == whole.runs[0].metrics


def test_a_study_that_fails_says_why(tmp_path: Path) -> None:
    short = Documents(name="human", ids=[np.arange(3)])
    edits = WatermarkAttack(edits=("copy-paste:0.25",), windows="none")
    study = study_attack(WATERMARK, MARKED, edits, human=short, out=tmp_path)
    assert study.status == "failed"
    assert study.exit_code == 3
    assert "Give more human text" in study.record["runs"][0]["error"]
    again = study_attack(WATERMARK, MARKED, edits, human=UNMARKED, out=tmp_path)
    assert again.status == "ok"


def test_edits_are_chosen_by_what_there_is(tmp_path: Path) -> None:
    chosen = WatermarkAttack(edits=usual_edits(human=True, tokenizer=False), windows="none")
    study = study_attack(WATERMARK, Documents(name="marked", ids=MARKED.ids[:2]), chosen, out=tmp_path, human=UNMARKED)
    assert "copy-paste spans=3 share=0.25" in set(study.runs[0].samples.column("edit").to_pylist())
    with pytest.raises(SettingError, match="needs a tokenizer"):
        study_attack(WATERMARK, MARKED, WatermarkAttack(edits=("case",)), out=tmp_path)


def test_there_must_be_documents(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no document in 'nothing'"):
        study_rates(WATERMARK, MARKED, Documents(name="nothing", ids=[]), out=tmp_path)
    with pytest.raises(DataError, match=r"Id 1000 at position 1 of the document '0' is outside .* 0\.\.999"):
        study_null(WATERMARK.settings, Documents(name="x", ids=[np.array([1, 1000])]), out=tmp_path)
    with pytest.raises(SettingError, match="claim"):
        study_rates(WATERMARK, MARKED, UNMARKED, out=tmp_path, claims=["good"])


def test_texts_are_written_once_and_do_not_depend_on_batches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lm = tiny_model()
    watermark = Watermark(vocab_size=lm.vocab_size, key=5)
    prompts = [[1, 2, 3], [4, 5], [1, 2, 3], [6]]
    one = write_texts(lm, prompts, watermark, out=tmp_path / "a", batch_size=2, new_tokens=8)
    other = write_texts(lm, prompts, watermark, out=tmp_path / "b", batch_size=3, new_tokens=8)
    assert [ids.tolist() for ids in one.ids] == [ids.tolist() for ids in other.ids]
    assert one.ids[0].tolist() != one.ids[2].tolist(), "a prompt given twice has two texts"
    rows = [json.loads(line) for line in (tmp_path / "a" / "texts" / "marked.jsonl").read_text().splitlines()]
    assert [row["ids"] for row in rows] == [ids.tolist() for ids in one.ids]
    plain = write_texts(lm, prompts, None, out=tmp_path / "a", new_tokens=8)
    assert plain.ids[0].tolist() != one.ids[0].tolist()
    rekeyed = write_texts(lm, prompts, Watermark(vocab_size=lm.vocab_size, key=6), out=tmp_path / "a", new_tokens=8)
    assert [ids.tolist() for ids in rekeyed.ids] != [ids.tolist() for ids in one.ids]
    monkeypatch.setattr("assay.watermark.generation.generate", None)
    again = write_texts(lm, prompts, watermark, out=tmp_path / "a", batch_size=4, new_tokens=8)
    assert [ids.tolist() for ids in again.ids] == [ids.tolist() for ids in one.ids]


def test_writing_goes_on_where_it_was_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from assay.watermark import generation

    lm, prompts, right, calls = tiny_model(), [[1], [2], [3], [4]], generation.generate, []

    def stops(*arguments: object, **named: object) -> list[list[int]]:
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return right(*arguments, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(generation, "generate", stops)
    with pytest.raises(Incomplete, match="texts so far are kept"):
        write_texts(lm, prompts, None, out=tmp_path / "x", batch_size=2, new_tokens=4)
    found = write_texts(lm, prompts, None, out=tmp_path / "x", batch_size=2, new_tokens=4)
    whole = write_texts(lm, prompts, None, out=tmp_path / "y", batch_size=2, new_tokens=4)
    assert len(calls) == 3 + 2
    assert [ids.tolist() for ids in found.ids] == [ids.tolist() for ids in whole.ids]
