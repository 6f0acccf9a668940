"""The demonstration of a watermark: what it finds, shows and keeps, and that it goes on where it was stopped."""

from __future__ import annotations

import dataclasses
import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from assay.core.errors import DataError, Incomplete
from assay.core.runs import load_run
from assay.studies.auditing import Study
from assay.studies.watermark_demo import KEY, KINDS, Demonstration, demonstrate, learn, passages_of, secret
from assay.studies.watermark_demo_view import in_words, meaning, p_text
from assay.subjects.language import LanguageModel
from assay.training import TrainSettings
from assay.training.language.causal_lm import CausalLM
from assay.watermark import Watermark

SECRET = 735281946017253648
PLAN = Demonstration(texts=4, prompt_tokens=8, new_tokens=60, fpr=1e-3, shown=2)

TRAINING = TrainSettings(epochs=1, batch_size=8, optimizer="adamw", learning_rate=0.01)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("demo")


@pytest.fixture(scope="module")
def lm(place: Path) -> LanguageModel:
    recipe = CausalLM(vocab_size=300, context=96, width=16, layers=1, heads=1)
    return learn(place, recipe=recipe, training=TRAINING, documents=16)


@pytest.fixture(scope="module")
def watermark(lm: LanguageModel) -> Watermark:
    return Watermark("philox", vocab_size=lm.vocab_size, delta=8, key=SECRET)


@pytest.fixture(scope="module")
def study(place: Path, lm: LanguageModel, watermark: Watermark) -> Study:
    return demonstrate(lm, watermark, PLAN, out=place, command=["assay", "watermark", "demo"])


def test_marked_texts_are_found_and_others_are_not(study: Study) -> None:
    assert study.status == "ok"
    (run,) = study.runs
    found = run.metric("true_positive_rate@p:0.001")
    assert (found.value, found.n) == (1.0, 4)
    assert found.lo is not None
    wrong = run.metric("false_positive_rate@p:0.001")
    assert (wrong.value, wrong.n) == (0.0, 8)
    for kind in KINDS:
        for name in ("z", "green_share", "perplexity"):
            metric = run.metric(f"{name}_{kind}")
            assert metric.n == 4
            assert metric.lo is not None
            assert metric.hi is not None
            assert metric.lo <= metric.value <= metric.hi
    assert run.metric("perplexity_ratio").value > 1
    assert run.samples.num_rows == 12


def test_the_passages_are_the_texts_with_the_marks_of_their_tokens(
    study: Study, lm: LanguageModel, watermark: Watermark
) -> None:
    (run,) = study.runs
    (shown,) = run.passages()
    assert len(shown.rows) == 2 * 3
    columns = {name: run.samples[name].to_pylist() for name in ("kind", "prompt", "green", "scored")}
    prompts, human = passages_of(lm, PLAN)
    for row, (prompt, kind) in zip(shown.rows, [(p, k) for p in range(2) for k in KINDS], strict=True):
        place = next(i for i in range(12) if (columns["prompt"][i], columns["kind"][i]) == (prompt, kind))
        assert row.count("green") == columns["green"][place]
        assert row.count("green") + row.count("red") == columns["scored"][place]
        if kind == "human":
            assert row.text == lm.decode(prompts[prompt]) + lm.decode(human[prompt].tolist())
    page = (study.path / "report.html").read_text(encoding="utf-8")
    assert "The texts, token by token" in page
    assert "It is not the chance that the text is human" in page


def test_evidence_is_that_of_prefixes(study: Study) -> None:
    (run,) = study.runs
    evidence = next(figure for figure in run.figures() if figure.name == "evidence")
    logs = np.array(run.samples["log10_p"].to_pylist()).reshape(3, 4)
    for series, row in zip(evidence.series, logs, strict=True):
        assert series.y[-1] == pytest.approx(float(np.median(-row)))
        assert all(low <= middle <= high for low, middle, high in zip(series.lo, series.y, series.hi, strict=True))
    assert evidence.marks[0].value == pytest.approx(3)


def test_the_key_is_in_no_file(study: Study) -> None:
    for file in study.path.rglob("*"):
        if file.is_file():
            content = file.read_bytes()
            assert str(SECRET).encode() not in content, file
            assert SECRET.to_bytes(8, "little") not in content, file


def test_the_same_call_takes_over_what_is_done(
    study: Study, lm: LanguageModel, watermark: Watermark, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("assay.watermark.generation.generate", _never)
    monkeypatch.setattr("assay.studies.watermark_demo_view.measure", _never)
    again = demonstrate(lm, watermark, PLAN, out=study.path)
    assert [run.id for run in again.runs] == [run.id for run in study.runs]


def _never(*arguments: Any, **options: Any) -> Any:
    raise AssertionError("this was done already")


def test_a_stopped_demonstration_goes_on_to_the_same_numbers(
    study: Study, lm: LanguageModel, watermark: Watermark, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from assay.watermark import generation

    calls: list[int] = []

    def stopped(*arguments: Any, **options: Any) -> Any:
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return generation_before(*arguments, **options)

    generation_before = generation.generate
    monkeypatch.setattr(generation, "generate", stopped)
    with pytest.raises(Incomplete, match="Run the same command"):
        demonstrate(lm, watermark, PLAN, out=tmp_path)
    finished = demonstrate(lm, watermark, PLAN, out=tmp_path)
    assert len(calls) == 3
    assert finished.runs[0].metrics == study.runs[0].metrics
    assert finished.runs[0].id == study.runs[0].id


def test_another_key_is_another_run(study: Study, lm: LanguageModel, watermark: Watermark, tmp_path: Path) -> None:
    shutil.copytree(study.path / "texts", tmp_path / "texts")
    other = Watermark("philox", vocab_size=lm.vocab_size, delta=8, key=SECRET + 1)
    small = dataclasses.replace(PLAN, shown=0)
    assert demonstrate(lm, other, small, out=tmp_path).runs[0].id != study.runs[0].id


def test_too_few_or_short_texts_are_remarked_on(lm: LanguageModel, tmp_path: Path) -> None:
    weak = Watermark("philox", vocab_size=lm.vocab_size, delta=1, key=SECRET)
    short = demonstrate(lm, weak, Demonstration(texts=1, prompt_tokens=4, new_tokens=10), out=tmp_path)
    (run,) = short.runs
    assert run.metric("true_positive_rate@p:1e-06").value == 0
    assert "too-short" in [finding.code for finding in run.findings]
    assert math.isfinite(run.metric("perplexity_marked").value)
    assert load_run(run.path).passages() == run.passages()
    with pytest.raises(DataError, match="Ask for fewer"):
        passages_of(lm, Demonstration(texts=10**6))


def test_a_key_is_drawn_once_and_kept_from_others(tmp_path: Path) -> None:
    key = secret(tmp_path / "a", "philox")
    assert secret(tmp_path / "a", "philox") == key
    assert secret(tmp_path / "b", "philox") != key
    assert secret(tmp_path / "c", "selfhash") < 2**32
    assert (tmp_path / "a" / KEY).stat().st_mode & 0o777 == 0o600


@given(st.floats(-5000, 0))
def test_p_values_are_said_whatever_their_size(log10_p: float) -> None:
    assert p_text(log10_p)
    number = in_words(log10_p).removeprefix("1 in ").replace(",", "").replace(" x 10^", "e")
    if log10_p > -300:
        assert math.log10(float(number)) == pytest.approx(-log10_p, abs=0.2)
    assert in_words(log10_p) in meaning(log10_p)
