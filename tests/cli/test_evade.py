from __future__ import annotations

import json
from pathlib import Path

import pytest

from assay.cli.main import main


def test_evade_measures_robust_accuracy(workplace: Path, model: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    words = ["evade", *model, "--norm", "l2", "--eps", "0.25,1/2", "--attack", "pgd", "--limit", "12", "--no-progress"]
    assert main(words) == 0
    shown = capsys.readouterr().out
    assert "robust_accuracy@l2:0.25" in shown
    assert "robust_accuracy@l2:0.5" in shown
    record = json.loads((workplace / "runs" / "evade" / "audit.json").read_text())
    assert record["command"][:2] == ["assay", "evade"]
    assert [entry["status"] for entry in record["runs"]] == ["ok", "ok"]


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--attack", "pdg"], "Did you mean 'pgd'"),
        (["--norm", "l7"], "one of linf, l2, l1"),
        (["--eps", "-1"], "at least 0"),
        (["--eps", "some"], "number"),
    ],
)
def test_mistakes(
    words: list[str], sentence: str, workplace: Path, model: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["evade", *model, *(f"{words[0]}={word}" for word in words[1:]), "--no-progress"]) == 2
    assert sentence in capsys.readouterr().err
    assert not (workplace / "runs").exists()
