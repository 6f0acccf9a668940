from __future__ import annotations

from pathlib import Path

import pytest

from assay.cli.main import main


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["absent", "claims.yaml"], "no run directory"),
        ([".", "absent.yaml"], "absent.yaml"),
        ([".", "tiny.safetensors"], "UTF-8"),
    ],
)
def test_mistakes(words: list[str], sentence: str, workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (workplace / "claims.yaml").write_text("- clean_accuracy >= 0.5")
    assert main(["check", *words]) == 2
    assert sentence in capsys.readouterr().err


def test_not_run_is_exit_code_3(workplace: Path, model: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    (workplace / "suite.yaml").write_text("probes: [clean-accuracy]\ndata: {limit: 20}")
    (workplace / "claims.yaml").write_text("- robust_accuracy@linf:8/255 >= 0.1")
    assert main(["audit", *model, "--suite", "suite.yaml", "--out", "a", "--no-progress"]) == 0
    assert main(["check", "a", "claims.yaml"]) == 3
    assert "NOT RUN" in capsys.readouterr().out
