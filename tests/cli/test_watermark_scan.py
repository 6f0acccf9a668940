"""``assay watermark scan``: planted passages in a corpus, whole runs and stopped ones."""

from __future__ import annotations

import gzip
import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from assay.cli.main import main
from assay.cli.watermark import passages, texts
from assay.cli.watermark import scan as command
from assay.watermark import Watermark
from assay.watermark.keys import VARIABLE

from . import watermarks
from .watermarks import KEY, MARK, TEXT, V, lines, records


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = watermarks.make(tmp_path_factory.mktemp("made"))
    mark = Watermark("philox", vocab_size=V, key=KEY)
    rows: list[dict[str, Any]] = []
    for number in range(40):
        ids = np.random.default_rng(number).integers(0, V, 400)
        if number % 10 == 7:
            ids[100:250] = watermarks.marked_ids(mark, 150, seed=number)
        rows.append({"id": f"d{number}", "ids": ids.tolist()})
    (folder / "corpus").mkdir()
    lines(folder / "corpus" / "a.jsonl", rows[:25])
    lines(folder / "corpus" / "b.jsonl", rows[25:])
    with open(folder / "corpus" / "a.jsonl", "a") as file:
        file.write("nonsense\n")
    return folder


@pytest.fixture
def place(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(VARIABLE, raising=False)
    return tmp_path


def scan(*words: str) -> int:
    return main(["watermark", "scan", *words])


def test_passages_of_a_corpus(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert scan(*MARK, "--ids", "corpus", "--out", "o.jsonl", "--fail-if", "marked") == 1
    found = records(place / "o.jsonl")
    marked = [record for record in found if record["kind"] == "passage"]
    assert [passage["id"] for passage in marked] == ["d7", "d17", "d27", "d37"]
    for passage in marked:
        assert abs(passage["start"] - 100) < 20
        assert abs(passage["end"] - 250) < 20
        assert passage["log10_p"] < -10
    (error,) = (record for record in found if record["kind"] == "error")
    assert (error["source"], error["line"]) == ("corpus/a.jsonl", 26)
    summary = found[-1]
    assert {name: summary[name] for name in ("kind", "texts", "tokens", "passages", "bad")} == {
        "kind": "summary",
        "texts": 40,
        "tokens": 16000,
        "passages": 4,
        "bad": 1,
    }
    assert not (place / "o.jsonl.part").exists()
    shown = capsys.readouterr()
    assert "40 texts, 16,000 tokens" in shown.out
    assert "corpus/a.jsonl, line 26: not JSON" in shown.err
    assert "tokens a second" in shown.err
    assert scan(*MARK, "--ids", "corpus", "--out", "o.jsonl") == 2
    assert "that scan is finished" in capsys.readouterr().err


def test_characters_of_a_passage_in_long_text(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The passage lies on the seam of two pieces; both see all of it, and it is told once."""
    essay, passage = (place / "essay.txt").read_text(), (place / "passage.txt").read_text()
    assert scan(*TEXT, "essay.txt", "--window-sizes", "25,50,100", "--out", "whole.jsonl") == 0
    seam = essay.index(passage) + len(passage) // 2
    monkeypatch.setattr(command, "PIECE", seam)
    monkeypatch.setattr(command, "_LETTERS", 5)
    assert scan(*TEXT, "essay.txt", "--window-sizes", "25,50,100", "--out", "cut.jsonl") == 0
    for name in ("whole.jsonl", "cut.jsonl"):
        (found,) = (record for record in records(place / name) if record["kind"] == "passage")
        begin, end = found["characters"]
        assert abs(begin - essay.index(passage)) < 60
        assert abs(end - essay.index(passage) - len(passage)) < 60
        assert essay[begin:end].startswith(found["begins"][:20])
    assert records(place / "cut.jsonl")[-1]["texts"] == 1


def test_a_stopped_scan_goes_on(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(texts, "BLOCK_TEXTS", 5)
    words = [*MARK, "--ids", "corpus", "--out", "o.jsonl"]
    assert scan(*words) == 2
    whole = (place / "o.jsonl").read_bytes()
    (place / "o.jsonl").unlink()
    scanned = command._Search._scanned
    made: list[int] = []

    def stopping(self: Any, block: Any) -> Any:
        made.append(len(block))
        if len(made) == 5:
            raise KeyboardInterrupt
        return scanned(self, block)

    monkeypatch.setattr(command._Search, "_scanned", stopping)
    assert scan(*words) == 3
    journal = place / "o.jsonl.part"
    assert journal.read_bytes().count(b"\n") == 4
    assert not (place / "o.jsonl").exists()
    with open(journal, "ab") as file:
        file.write(b'{"last": ["corpus')
    capsys.readouterr()
    assert scan(*words) == 2
    assert (place / "o.jsonl").read_bytes() == whole
    assert sum(made) == 41 + 5, "something was scanned twice"
    assert "finished scanned texts are kept" in capsys.readouterr().err


def test_a_changed_corpus_or_command_is_not_mixed(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(command._Search, "nothing_left", lambda self: (_ for _ in ()).throw(KeyboardInterrupt))
    words = [*MARK, "--ids", "corpus", "--out", "o.jsonl"]
    assert scan(*words) == 3
    assert scan(*words, "--fpr", "0.5") == 2
    assert "another command" in capsys.readouterr().err
    (place / "corpus" / "0.jsonl").write_text('{"ids": [1]}\n')
    assert scan(*words) == 2
    assert "has changed" in capsys.readouterr().err


def test_candidates_are_corrected_for_all_windows_of_the_corpus() -> None:
    candidates = [{"id": "a", "log10_tail": -5.0}, {"id": "b", "log10_tail": -7.0}, {"id": "c", "log10_tail": -4.0}]
    found = list(passages.corrected(candidates, 1e-3, 100))
    assert [(one["id"], one["log10_p"]) for one in found] == [("a", -3.0), ("b", -5.0)]
    assert [one["id"] for one in passages.corrected(candidates, 1e-3, 10_000)] == ["b"]
    assert all("log10_tail" not in one for one in found)


def test_an_estimate(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert scan(*MARK, "--ids", "corpus", "--dry-run", "--out", "o.jsonl") == 0
    shown = capsys.readouterr().out
    assert re.search(r"2 files, [\d,]+ bytes; about 16k tokens", shown)
    assert re.search(r"green tokens: (\d+ of 25, )?\d+ of 50, ", shown)
    assert not (place / "o.jsonl.part").exists()
    with gzip.open(place / "x.jsonl.gz", "wt") as file:
        file.write('{"ids": [1]}\n')
    assert scan(*MARK, "--ids", "x.jsonl.gz", "--dry-run") == 0
    assert "cannot be told beforehand" in capsys.readouterr().out


def test_the_table_and_standard_output(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert scan(*TEXT, "texts.jsonl", "essay.txt") == 0
    shown = capsys.readouterr().out
    assert re.search(r"^essay +\d+-\d+ +\d+-\d+ +\d+/\d+ ", shown, re.MULTILINE)
    assert "3 marked passages" in shown
    assert scan(*TEXT, "texts.jsonl", "essay.txt", "--out", "-") == 0
    shown = capsys.readouterr().out
    assert [json.loads(line)["kind"] for line in shown.splitlines()] == ["passage"] * 3 + ["summary"]
    assert str(KEY) not in shown


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["--ids", "corpus", *MARK, "--window-sizes", "max"], "numbers are needed"),
        (["--ids", "corpus", *MARK, "--window-sizes", "50,30000"], "at most 20,000"),
        (["--ids", "corpus", *MARK, "--fpr", "1"], "below 1"),
        (["--ids", "nowhere", *MARK], "no file or folder"),
        (["essay.txt", *MARK], "Text needs the tokenizer"),
        (["--ids", "corpus", *MARK, "--out", "none/o.jsonl"], "Cannot write"),
        (["--ids", "corpus", *MARK, "--out", "corpus"], "is there"),
    ],
)
def test_mistakes(place: Path, capsys: pytest.CaptureFixture[str], words: list[str], why: str) -> None:
    assert scan(*words) == 2
    assert why in capsys.readouterr().err
