"""``assay watermark`` roc, attack, calibrate and plan: files in, tables and reports out, and the exit codes."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest

from assay.cli.main import main
from assay.core.runs import find_runs

from ..watermark.written import mark, save_model, with_mark, without_mark

KEY = 918273645546372819
MARK = ["--scheme", "philox", "--vocab-size", "1000", "--key-file", "key", "--ids", "--no-progress"]
ROC = ["watermark", "roc", *MARK, "--marked", "marked.jsonl", "--unmarked", "human.jsonl"]
ATTACK = ["watermark", "attack", *MARK, "--marked", "marked.jsonl"]


def write(path: Path, documents: list[np.ndarray]) -> None:
    rows = [{"id": f"{path.stem}-{number}", "ids": ids.tolist()} for number, ids in enumerate(documents)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "key").write_text(f"{KEY}\n")
    (tmp_path / "key").chmod(0o600)
    write(tmp_path / "marked.jsonl", with_mark(mark(key=KEY), 12, 60))
    write(tmp_path / "human.jsonl", without_mark(30, 80))
    return tmp_path


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return save_model(tmp_path_factory.mktemp("model"))


@pytest.mark.parametrize("action", ["roc", "attack", "calibrate", "plan"])
def test_help_explains_the_action(action: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["watermark", action, "--help"]) == 0
    shown = capsys.readouterr().out
    assert "examples:" in shown
    assert "exit codes:" in shown


def test_roc(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    claims = ["--claim", "auc >= 0.9", "--claim", "true_positive_rate@p:0.001 >= 0.5"]
    assert main([*ROC, "--out", "out", *claims]) == 0
    captured = capsys.readouterr()
    assert re.search(r"^auc\s+1\.000\s+0\.\d+ \.\. 1\.000", captured.out, re.M)
    assert "windowed_true_positive_rate@fpr:1e-05" in captured.out
    assert "There are 30 negatives" in captured.out
    assert captured.out.count("PASS") == 2
    (run,) = find_runs("out")
    assert run.samples.column("document").to_pylist()[0] == "marked-0"
    assert run.record["command"][:3] == ["assay", "watermark", "roc"]
    assert str(KEY) not in captured.out + captured.err + (folder / "out" / "report.html").read_text()
    assert main([*ROC, "--out", "out", "--claim", "auc < 0.5"]) == 1
    assert len(find_runs("out")) == 1


def test_documents_may_be_limited_and_cut(folder: Path) -> None:
    assert main([*ROC, "--out", "out", "--limit", "5", "--tokens", "40", "--windows", "none"]) == 0
    (run,) = find_runs("out")
    assert run.samples.column("tokens").to_pylist() == [40] * 10


def test_bad_lines_are_named_and_the_others_used(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with open("human.jsonl", "a") as file:
        file.write('not JSON\n{"ids": [1, "x"]}\n')
    assert main([*ROC, "--out", "out", "--windows", "none"]) == 2
    captured = capsys.readouterr()
    assert "human.jsonl, line 31" in captured.err
    assert "2 lines could not be read" in captured.err
    assert "auc" in captured.out


def test_attack(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--edit", "substitute:0.2,0.8", "--edit", "copy-paste:0.25", "--human", "human.jsonl", "--fpr", "1e-4"]
    assert main([*ATTACK, *words, "--out", "out"]) == 0
    shown = capsys.readouterr().out
    rows = {line.split("  ")[0]: line for line in shown.splitlines()}
    assert {"unedited", "substitute rate=0.2", "substitute rate=0.8", "copy-paste share=0.25"} <= set(rows)
    assert "TPR, p ≤ 0.0001 (WinMax)" in shown
    assert re.search(r"1\.000 \[0\.7\d, 1\.00\]", rows["unedited"])
    page = (folder / "out" / "report.html").read_text()
    assert "After substitution of tokens" in page


def test_attacks_need_their_means(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*ATTACK, "--edit", "copy-paste", "--out", "out"]) == 2
    assert "--human" in capsys.readouterr().err
    assert main([*ATTACK, "--edit", "case", "--out", "out"]) == 2
    assert "--tokenizer" in capsys.readouterr().err
    assert main([*ATTACK, "--edit", "shred", "--out", "out"]) == 2
    assert "There is no edit named 'shred'" in capsys.readouterr().err
    assert not (folder / "out").exists()


def test_calibrate(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--scheme", "simple_1", "--vocab-size", "1000", "--keys", "12", "--alpha", "0.1,0.01"]
    command = ["watermark", "calibrate", "human.jsonl", "--ids", *words, "--no-progress", "--out", "out"]
    assert main([*command, "--length", "40", "--windows", "--window-keys", "1"]) == 0
    captured = capsys.readouterr()
    row = next(line.split() for line in captured.out.splitlines() if line.startswith("exact"))
    assert row[:4] == ["exact", "0.1", "720", "72"]
    assert "WinMax" in captured.out
    assert "p-values are too few to check an error rate of 0.01" in captured.out
    (run,) = find_runs("out")
    assert run.samples.column("document").to_pylist()[:2] == ["human-0#0", "human-0#1"]


def test_calibrate_needs_no_key_of_ones_own(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ASSAY_WATERMARK_KEY", "damaged")
    words = ["--vocab-size", "1000", "--keys", "2", "--limit", "3", "--no-progress", "--out", "out"]
    assert main(["watermark", "calibrate", "human.jsonl", "--ids", *words]) == 0


def test_calibrate_on_the_built_in_text(folder: Path, model: str) -> None:
    words = ["--tokenizer", model, "--keys", "2", "--limit", "5", "--no-progress", "--out", "out"]
    assert main(["watermark", "calibrate", "python-docs", *words]) == 0
    (run,) = find_runs("out")
    assert run.record["data"]["name"] == "python-docs"
    assert len(run.samples) == 10


def test_texts_are_written_on_the_spot(folder: Path, model: str, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "prompts.jsonl").write_text('{"prompt": "the name"}\n{"prompt": "the path of"}\n')
    words = ["--model", model, "--key-file", "key", "--new-tokens", "20", "--delta", "8", "--no-progress"]
    assert main(["watermark", "roc", *words, "--prompts", "prompts.jsonl", "--out", "a", "--windows", "none"]) == 0
    kinds = ("marked", "unmarked")
    rows = {kind: (folder / "a" / "texts" / f"{kind}.jsonl").read_text().splitlines() for kind in kinds}
    assert [len(json.loads(rows[kind][0])["ids"]) for kind in kinds] == [20, 20]
    assert "text" in json.loads(rows["marked"][0])
    (run,) = find_runs("a")
    assert run.metric("mean_z@marked").value > run.metric("mean_z@unmarked").value + 2
    capsys.readouterr()
    more = ["--edit", "retokenise", "--edit", "zero-width:0.5", "--normalise", "unicode"]
    assert (
        main(["watermark", "attack", *words, *more, "--prompts", "prompts.jsonl", "--out", "b", "--windows", "none"])
        == 0
    )
    shown = capsys.readouterr().out
    lines = [line.split("  ")[0] for line in shown.splitlines()]
    assert {"retokenise", "zero-width rate=0.5"} <= set(lines)


def test_human_texts_are_continued(folder: Path, model: str, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--model", model, "--key-file", "key", "--unmarked", "python-docs", "--limit", "3", "--no-progress"]
    lengths = ["--prompt-tokens", "5", "--new-tokens", "20", "--windows", "none"]
    assert main(["watermark", "roc", *words, *lengths, "--out", "out"]) == 0
    (run,) = find_runs("out")
    assert run.samples.column("tokens").to_pylist() == [20] * 6
    capsys.readouterr()
    assert main(["watermark", "roc", *words, "--prompt-tokens", "9999999", "--out", "out"]) == 2
    assert "Use a smaller --prompt-tokens" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["roc", *MARK, "--marked", "marked.jsonl"], "--marked and --unmarked"),
        (["roc", *MARK, "--prompts", "x.jsonl"], "--prompts are for a model"),
        (["attack", *MARK], "--marked texts are needed"),
        (["roc", *MARK, "--marked", "marked.jsonl", "--unmarked", "none.jsonl"], "none.jsonl"),
        ([*ROC[1:], "--windows", "some"], "'geometric'"),
        ([*ROC[1:], "--fpr", "2"], "allowed"),
        ([*ROC[1:], "--claim", "nice"], "claim"),
        (["calibrate", "human.jsonl", "--ids", "--vocab-size", "50"], "outside"),
        (["plan", "--model", "x"], "--model needs --prompts"),
        (["plan", "--entropy", "0.1"], "lies between"),
        (["plan", "--mark", "mark.json", "--gamma", "0.5"], "leave out --gamma"),
    ],
)
def test_what_cannot_be_done(folder: Path, words: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    out = [] if words[0] == "plan" else ["--out", "out"]
    assert main(["watermark", *words, *out]) == 2
    assert message in capsys.readouterr().err


def test_plan(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["watermark", "plan", "--gamma", "0.5", "--delta", "2", "--entropy", "0.807", "--fpr", "3e-5"]) == 0
    shown = capsys.readouterr().out
    assert "gamma 0.5, delta 2, by spike entropy S (modulus 0.762)" in shown
    assert re.search(r"^3e-05\s+4\.01\s+95%\s+\d+$", shown, re.M)
    assert re.search(r"green tokens, at least\s+71\.1%", shown)
    assert "tokens are enough to find 95% of the marked texts" in shown


def test_plan_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["watermark", "plan", "--delta", "1,2", "--power", "0.5,0.9", "--json"]) == 0
    first, second = json.loads(capsys.readouterr().out)
    assert (first["delta"], second["delta"]) == (1.0, 2.0)
    assert len(first["needs"]) == 10
    assert first["needs"][0]["tokens"] > second["needs"][0]["tokens"]


def test_plan_of_a_mark_file_and_for_gumbel(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from assay.watermark.marks import save

    save("mark.json", mark("simple_1", gamma=0.4, delta=3.0).settings)
    assert main(["watermark", "plan", "--mark", "mark.json"]) == 0
    assert "gamma 0.4, delta 3" in capsys.readouterr().out
    assert main(["watermark", "plan", "--gumbel"]) == 0
    assert "Gumbel mark" in capsys.readouterr().out
    assert main(["watermark", "plan", "--hard"]) == 0
    assert "hard" in capsys.readouterr().out


def test_plan_measures_a_model(folder: Path, model: str, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "prompts.jsonl").write_text('{"prompt": "the name"}\n{"prompt": "the path of"}\n')
    words = ["--model", model, "--prompts", "prompts.jsonl", "--new-tokens", "10", "--no-progress", "--json"]
    assert main(["watermark", "plan", *words]) == 0
    (made,) = json.loads(capsys.readouterr().out)
    assert made["entropy"]["n"] == 20
    assert made["entropy"]["lo"] <= made["entropy"]["value"] <= made["entropy"]["hi"]
    assert len(made["needs"]) == 3
