from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from assay.cli.main import main
from assay.privacy import calibrate_noise, epsilon
from tests.privacy.runs import answering, private_run, three_classes

STEPS = ["--sample-rate", "0.01", "--steps", "500", "--delta", "1e-5"]


@pytest.fixture
def trained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a private run, its baseline, and their data with a training and a test split."""
    monkeypatch.chdir(tmp_path)
    train, test = three_classes(60), three_classes(30, seed=1)
    arrays = {}
    for split, data in (("train", train), ("test", test)):
        arrays[f"x_{split}"] = data.images()[:, 0]
        arrays[f"y_{split}"] = data.labels
    np.savez("data.npz", **arrays)
    private_run(tmp_path / "private")
    private_run(tmp_path / "plain", model=answering(), private=False)
    return tmp_path


def test_help_lists_the_actions(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["privacy", "--help"]) == 0
    shown = capsys.readouterr().out
    assert all(f"  {action} " in shown for action in ("epsilon", "calibrate", "diagnose"))
    assert main(["privacy"]) == 2
    assert main(["privacy", "diagnose", "--help"]) == 0
    assert "--baseline" in capsys.readouterr().out


def test_epsilon(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["privacy", "epsilon", "--noise-multiplier", "1", *STEPS]) == 0
    shown = capsys.readouterr().out
    bound = epsilon(noise_multiplier=1.0, sample_rate=0.01, steps=500, delta=1e-5)
    assert f"RDP, an upper bound:        {bound:.4g}" in shown
    assert "GDP, an approximation" in shown
    assert "times as likely" in shown
    assert "Warning" not in shown


def test_epsilon_as_json_with_counts_and_by_epochs(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--batch-size", "10", "--samples", "995", "--epochs", "5", "--delta", "1e-2"]
    counts = ["--count-noise", "2", "--centred"]
    assert main(["privacy", "epsilon", "--noise-multiplier", "4/5", *words, *counts, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["steps"] == 500
    assert found["sample_rate"] == pytest.approx(10 / 995)
    assert found["effective_noise_multiplier"] == pytest.approx((0.8**-2 + 4.0**-2) ** -0.5)
    what = {"noise_multiplier": 0.8, "sample_rate": 10 / 995, "steps": 500, "delta": 1e-2}
    assert found["epsilon"]["rdp"] == pytest.approx(epsilon(**what, count_noise=2, centred=True))
    assert main(["privacy", "epsilon", "--noise-multiplier", "1", *words]) == 0
    assert "Warning: delta = 0.01 is above one over the number of training records" in capsys.readouterr().out


def test_no_noise_and_no_steps_left_in_words(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["privacy", "epsilon", "--noise-multiplier", "0", *STEPS]) == 0
    shown = capsys.readouterr().out
    assert "infinite" in shown
    assert "Nothing is guaranteed" in shown


def test_calibrate(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["privacy", "calibrate", "--epsilon", "2", *STEPS, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    sigma = calibrate_noise(2.0, sample_rate=0.01, steps=500, delta=1e-5)
    assert found["by"]["rdp"]["noise_multiplier"] == pytest.approx(sigma)
    assert found["by"]["rdp"]["epsilon"] <= 2
    assert found["by"]["prv"]["noise_multiplier"] < sigma
    assert main(["privacy", "calibrate", "--epsilon", "2", *STEPS]) == 0
    assert f"noise multiplier by RDP: {sigma:.4f}" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["epsilno"], "Did you mean 'epsilon'"),
        (["epsilon", "--noise-multiplier", "1", "--delta", "1e-5"], "given: none of them"),
        (["epsilon", "--noise-multiplier", "1", "--delta", "1e-5", "--steps", "5"], "given: --steps"),
        (["epsilon", "--noise-multiplier", "1", *STEPS, "--epochs", "3"], "given: --sample-rate, --steps, --epochs"),
        (["epsilon", "--noise-multiplier", "1", "--delta", "0", *STEPS[:4]], "delta is 0"),
        (["epsilon", "--noise-multiplier", "-1", *STEPS], "noise_multiplier is -1"),
        (["epsilon", "--noise-multiplier", "x", *STEPS], "a number is needed"),
        (
            [
                "epsilon",
                "--noise-multiplier",
                "1",
                "--delta",
                "1e-5",
                "--batch-size",
                "9",
                "--samples",
                "8",
                "--epochs",
                "1",
            ],
            "--batch-size is 9, more than --samples 8",
        ),
        (["calibrate", "--epsilon", "0", *STEPS], "target epsilon is 0"),
        (["diagnose", "private", "--data", "data.npz", "--baseline", "nowhere"], "no finished training"),
        (["diagnose", "plain", "--data", "data.npz"], "is no private training"),
        (["diagnose", "nowhere", "--data", "data.npz"], "holds no finished training"),
        (["diagnose", "private", "--data", "data.npz", "--only", "7"], "only names '7'"),
    ],
)
def test_mistakes(words: list[str], sentence: str, trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["privacy", *words]) in (2, 3)
    assert sentence in capsys.readouterr().err


def test_diagnose_makes_one_report(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["privacy", "diagnose", "private", "--data", "data.npz", "--baseline", "plain", "--no-progress"]
    quick = ["--batches", "2", "--population", "6", "--probes", "2"]
    assert main([*words, *quick, "--out", "out", "--dry-run"]) == 0
    assert "gradient-misalignment" in capsys.readouterr().out
    assert not (trained / "out").exists()
    assert main([*words, *quick, "--out", "out"]) == 0
    shown = capsys.readouterr().out
    assert "privacy_cost_gap" in shown
    assert [line.split()[0] for line in shown.splitlines() if line.startswith("class=")] == [
        "class=0",
        "class=1",
        "class=2",
    ]
    assert "must not be published" not in shown
    record = json.loads((trained / "out" / "audit.json").read_text())
    assert [(entry["probe"], entry["status"]) for entry in record["runs"]] == [
        ("private-training", "ok"),
        ("privacy-cost", "ok"),
        ("gradient-misalignment", "ok"),
    ]
    splits = [
        json.loads((trained / "out" / "runs" / entry["id"] / "run.json").read_text())["data"]["split"]
        for entry in record["runs"]
    ]
    assert splits == ["test", "test", "train"]
    page = (trained / "out" / "report.html").read_text()
    assert all(title in page for title in ("Private training", "Privacy cost", "Gradient misalignment"))
    assert main(["report", "out"]) == 0
    assert (trained / "out" / "report.html").read_text() == page


def test_diagnose_without_a_baseline_and_without_the_noise_term(
    trained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["privacy", "diagnose", "private", "--data", "data.npz", "--only", "0,2", "--no-noise-term"]
    assert main([*words, "--batches", "2", "--population", "6", "--no-progress"]) == 0
    record = json.loads((trained / "runs" / "diagnosis" / "audit.json").read_text())
    assert [entry["status"] for entry in record["runs"]] == ["ok", "not_applicable", "ok"]
    shown = capsys.readouterr().out
    assert "privacy cost" not in shown
    assert "R_dir" in shown
