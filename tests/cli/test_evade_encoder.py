"""assay evade --encoder: what is asked, what is told beforehand, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from assay.cli.main import main

SMALL = ["--limit", "3", "--train-limit", "8", "--image-size", "32", "--head-seeds", "1", "--head-epochs", "1"]
QUICK = [*SMALL, "--steps", "1", "--eps", "8/255", "--pictures", "1", "--no-progress"]
MICRO = ["evade", "--encoder", "network:resnet-micro"]


@pytest.fixture(autouse=True)
def in_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_matrix_from_the_command_line(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    words = [*MICRO, "--task", "depth,embedding", "--attacks", "embedding-l2,silog", *QUICK]
    assert main(words) == 0
    shown = capsys.readouterr().out
    assert "Cross-task matrix, L∞ 8/255" in shown
    assert "depth: RMSE" in shown
    assert "resnet-micro · attack on output" in shown
    assert "Depth with resnet-micro: RMSE goes from" in shown
    record = json.loads((tmp_path / "runs" / "matrix" / "audit.json").read_text())
    assert record["command"][:3] == ["assay", "evade", "--encoder"]
    assert "--no-progress" not in record["command"]
    assert [entry["status"] for entry in record["runs"]] == ["ok"] * 3
    assert (tmp_path / "runs" / "matrix" / "report.html").is_file()
    (tmp_path / "claims.yaml").write_text('- "robust_rmse@linf:8/255 <= 1000"\n')
    assert main(["check", "runs/matrix", "claims.yaml"]) == 0
    head = next((tmp_path / "runs" / "matrix" / "heads").iterdir())
    again = [*MICRO, "--task", "depth", "--heads", str(head), "--dry-run", *QUICK]
    assert main(again) == 0
    assert "Nothing was written." in capsys.readouterr().out


def test_no_encoder_says_what_to_give(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evade", "--encoder"]) == 2
    told = capsys.readouterr().err
    assert "network:resnet-micro" in told
    assert "hf:FOLDER" in told


def test_a_dry_run_tells_the_cost_and_writes_nothing(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main([*MICRO, "--encoder", "second=network:vit-micro", "--dry-run", *QUICK]) == 0
    shown = capsys.readouterr().out
    for words in ("second", "classification", "segmentation", "depth", "embedding", "seconds on this machine"):
        assert words in shown
    assert not list(tmp_path.iterdir())


def test_every_task_may_have_its_own_data(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    images = (255 * random.random((12, 32, 32, 3))).astype(np.uint8)
    labels = np.arange(12) % 3
    splits = {"x_train": images, "y_train": labels, "x_test": images[:4], "y_test": labels[:4]}
    np.savez(tmp_path / "own.npz", **splits)
    words = [*MICRO, "--data", "scenes", "--data", "classification=own.npz", "--task", "classification,depth"]
    assert main([*words, "--dry-run", *QUICK]) == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines() if "resnet-micro" in line]
    assert [row[1] for row in rows] == ["classification", "depth"]


def test_the_help_of_both_forms(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evade", "--help"]) == 0
    plain = capsys.readouterr().out
    assert "--attack " in plain
    assert "assay evade --encoder" in plain
    assert main(["evade", "--encoder", "--help"]) == 0
    assert "--head-seeds" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--task", "segmentaton"], "Did you mean 'segmentation'"),
        (["--attacks", "seg-pdg"], "Did you mean 'seg-pgd'"),
        (["--eps", "0"], "above 0"),
        (["--norm", "l7"], "one of linf, l2, l1"),
        (["--data", "depth=scenes", "--task", "segmentation"], "Add --data segmentation=DATA"),
        (["--data", "nowhere"], "nowhere"),
        (["--heads", "nowhere"], "nowhere"),
        (["--encoder", "network:resnet-micro"], "another name"),
        (["--encoder", "two=network:resnet-micro"], "same network"),
        (["--encoder", "network:resnet-nano"], "resnet-micro"),
        (["--image-size", "30"], "30"),
        (["--head-preset", "none-such"], "preset"),
    ],
)
def test_mistakes(words: list[str], told: str, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main([*MICRO, *QUICK, *words]) == 2
    assert told in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()


def test_data_without_masks_cannot_be_segmented(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*MICRO, "--data", "digits", "--task", "segmentation"]) == 2
    assert "not for segmentation" in capsys.readouterr().err
