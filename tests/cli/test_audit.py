from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from assay.cli.main import main

Shell = Callable[..., Any]
SUITE = """
name: mine
data: {limit: 40}
probes: [clean-accuracy, {calibration: {resamples: 100}}]
claims: [clean_accuracy >= %s]
"""


def suite(folder: Path, threshold: float = 0.5) -> str:
    (folder / "mine.yaml").write_text(SUITE % threshold)
    return "mine.yaml"


def test_a_user_audits_compares_checks_cites_and_reports(shell: Shell, workplace: Path, model: list[str]) -> None:
    """The whole path, each step a process of its own."""
    done = shell("audit", *model, "--suite", suite(workplace), "--out", "a", "--no-progress")
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert "clean_accuracy" in done.stdout
    assert "PASS" in done.stdout
    assert f"Report: {Path('a') / 'report.html'}" in done.stdout
    assert (workplace / "a" / "report.html").is_file()
    record = json.loads((workplace / "a" / "audit.json").read_text())
    assert record["data"]["n"] == 40
    assert record["command"] == ["assay", "audit", *model, "--suite", "mine.yaml", "--out", "a"]

    (workplace / "claims.yaml").write_text("- clean_accuracy >= 0.99999")
    checked = shell("check", "a", "claims.yaml")
    assert checked.returncode == 1
    assert "FAIL" in checked.stdout

    compared = shell("compare", "a", "a")
    assert compared.returncode == 0, compared.stderr
    assert "clean-accuracy correct" in compared.stdout


def test_flags_win_over_the_suite(workplace: Path, model: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    words = [
        "audit",
        *model,
        "--suite",
        suite(workplace),
        "--limit",
        "15",
        "--split",
        "train",
        "--seed",
        "9",
        "--no-progress",
    ]
    assert main(words) == 0
    record = json.loads((workplace / "runs" / "audit" / "audit.json").read_text())
    assert (record["data"]["n"], record["data"]["split"], record["seed"]) == (15, "train", 9)
    assert record["suite"]["data"] == {"limit": 15, "split": "train"}
    assert "first 15" in " ".join(record["not_tested"])
    capsys.readouterr()


def test_a_failed_claim_is_exit_code_1(workplace: Path, model: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["audit", *model, "--suite", suite(workplace, 0.9999), "--no-progress"]) == 1
    assert "FAIL" in capsys.readouterr().out


def test_report_and_cite_from_an_audit(workplace: Path, model: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    main(["audit", *model, "--suite", suite(workplace), "--out", "a", "--no-progress"])
    page = (workplace / "a" / "report.html").read_bytes()
    (workplace / "a" / "report.html").unlink()
    assert main(["report", "a"]) == 0
    assert (workplace / "a" / "report.html").read_bytes() == page
    assert main(["report", "a", "--out", "elsewhere"]) == 0
    assert (workplace / "elsewhere" / "junit.xml").is_file()
    capsys.readouterr()
    assert main(["cite", "a"]) == 0
    assert "guo2017calibration" in capsys.readouterr().out
    (workplace / "a" / "audit.json").write_text("[]")
    assert main(["report", "a"]) == 2


def test_dry_run_tells_the_cost_and_writes_nothing(
    workplace: Path, model: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    name = suite(workplace)
    before = sorted(path.name for path in workplace.iterdir() if path.name != "__pycache__")
    assert main(["audit", *model, "--suite", name, "--dry-run"]) == 0
    shown = capsys.readouterr().out
    assert "clean-accuracy" in shown
    assert "At most" in shown
    assert sorted(path.name for path in workplace.iterdir() if path.name != "__pycache__") == before


MISTAKES = [
    (["--model", "python:tiny_digits:bild"], "Did you mean 'build'"),
    (["--model", "python:nothing_here:build"], "nothing_here"),
    (["--model", "resnet"], "resnet"),
    (["--weights", "absent.safetensors"], "absent.safetensors"),
    (["--data", "digist"], "Did you mean 'digits'"),
    (["--suite", "standrad"], "Did you mean 'standard'"),
    (["--split", "tset"], "tset"),
    (["--limit", "0"], "whole number from 1 up"),
    (["--batch-size", "-3"], "whole number from 1 up"),
    (["--seed", "x"], "whole number from 0"),
    (["--mean", "0.5"], "--std"),
    (["--mean", "a,b", "--std", "1"], "number is needed"),
    (["--mean", "0.5,0.5", "--std", "1,1"], "channels"),
    (["--bounds", "0"], "two are needed"),
    (["--bounds", "1,0"], "low below high"),
    (["--bounds", "0,0.5"], "outside the bounds"),
    (["--num-classes", "15"], "shape"),
    (["--device", "abacus"], "--device"),
    (["--out", "tiny_digits.py"], "choose another output folder"),
]


@pytest.mark.parametrize(("words", "sentence"), MISTAKES, ids=[" ".join(words) for words, _ in MISTAKES])
def test_mistakes_are_explained(
    words: list[str], sentence: str, workplace: Path, model: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    given = dict(zip(model[::2], model[1::2], strict=True)) | {"--suite": suite(workplace), "--out": "out"}
    given |= dict(zip(words[::2], words[1::2], strict=True))
    assert main(["audit", *(word for pair in given.items() for word in pair), "--no-progress"]) == 2
    shown = capsys.readouterr().err
    assert sentence in shown
    assert "Traceback" not in shown
    assert not (workplace / "out").exists()


def test_own_data_need_an_own_model(workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import numpy as np

    np.savez(workplace / "mine.npz", images=np.zeros((20, 8, 8), np.uint8), labels=np.arange(20) % 10)
    for more in ([], ["--dry-run"]):
        assert main(["audit", "--data", "mine.npz", "--suite", suite(workplace), "--no-progress", *more]) == 2
        assert "--model" in capsys.readouterr().err
