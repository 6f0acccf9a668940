"""``assay train dp-sgd`` as a user runs it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from assay.cli.main import main

WORDS = ["dp-sgd", "--data", "digits", "--network", "mlp", "--clip", "global-adapt", "--delta", "1e-4", "--out", "m"]
SHORT = ["--epochs", "2", "--limit", "300", "--no-progress"]


def test_a_private_training_ends_with_its_statement(workplace: Path, shell) -> None:
    done = shell("train", *WORDS, *SHORT, "--epsilon", "6", "--validation", "test")
    assert done.returncode == 0, done.stderr
    found = json.loads((workplace / "m/privacy.json").read_text())
    assert 5.9 < found["epsilon"]["rdp"] <= 6
    for sentence in found["statement"]:
        assert sentence in done.stdout
    assert "epsilon@rdp" in done.stdout
    assert "validation_accuracy" in done.stdout


def test_a_dry_run_tells_noise_and_epsilon(workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", *WORDS, *SHORT, "--noise-multiplier", "1.5", "--dry-run"]) == 0
    shown = capsys.readouterr().out
    assert "Noise multiplier 1.5 (1.496 together with the counts)" in shown
    assert "by RDP and" in shown
    assert "Nothing was written." in shown
    assert not (workplace / "m").exists()


def test_two_ways_to_say_how_private_are_refused(workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", *WORDS, *SHORT, "--noise-multiplier", "1", "--epsilon", "3"]) == 2
    assert "give one of them" in capsys.readouterr().err
