"""``assay train causal-lm``: texts in, a folder for transformers out."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from assay.cli.main import main
from assay.subjects.language import load_language_model

pytest.importorskip("transformers")

SMALL = ["--vocab-size", "300", "--context", "16", "--width", "16", "--layers", "1", "--heads", "2", "--no-progress"]


@pytest.fixture
def texts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with documents in a file."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    lines = [{"words": " ".join(rng.choice(["one", "two", "three", "four"], 40))} for _ in range(60)]
    (tmp_path / "docs.jsonl").write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    return tmp_path


@pytest.mark.usefixtures("texts")
def test_train_a_language_model(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["train", "causal-lm", "--data", "docs.jsonl", "--text-key", "words", "--out", "lm", *SMALL]
    words += ["--validation", "test"]
    assert main([*words, "--dry-run"]) == 0
    shown = capsys.readouterr().out
    assert "Causal language model of gpt2 on" in shown
    assert "Nothing was written" in shown
    assert main(words) == 0
    shown = capsys.readouterr().out
    assert "validation_perplexity" in shown
    assert "assay watermark generate --model run:lm" in shown
    assert load_language_model("run:lm").context == 16
    assert main(words) == 0, "the same command finds it finished"


@pytest.mark.usefixtures("texts")
def test_bad_input_is_said_before_anything_is_written(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["train", "causal-lm", "--data", "docs.jsonl", "--out", "lm", *SMALL]
    assert main(words) == 2
    assert "Say which with text_key" in capsys.readouterr().err
    assert main([*words, "--text-key", "words", "--limit", "1", "--context", "500"]) == 2
    assert "fewer than one window of 500" in capsys.readouterr().err
    assert main([*words, "--text-key", "words", "--watch", "3"]) == 2
    assert "makes a language model" in capsys.readouterr().err
    assert not Path("lm").exists()


def test_the_help_names_texts(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "causal-lm", "--help"]) == 0
    shown = capsys.readouterr().out
    assert "python-docs" in shown
    assert "--text-key" in shown
    assert "--images-key" not in shown
    assert "--vocab-size" in shown
