from __future__ import annotations

from pathlib import Path

import pytest

from assay.cli.main import main
from assay.core.runs import load_run
from assay.core.settings import fields_of
from assay.training.heads import HeadSettings, load_head

WORDS = ["train", "probe", "--encoder", "network:resnet-micro", "--data", "scenes", "--image-size", "32"]
BRIEF = ["--limit", "24", "--epochs", "2", "--no-progress"]


def test_help_lists_every_setting(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "probe", "--help"]) == 0
    shown = capsys.readouterr().out
    assert all("--" + field.name.replace("_", "-") in shown for field, _ in fields_of(HeadSettings))


@pytest.mark.parametrize("task", ["classification", "segmentation", "depth"])
def test_a_head_with_its_record(task: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "head"
    words = [*WORDS, *BRIEF, "--task", task, "--out", str(out), "--cache", str(tmp_path / "features")]
    assert main([*words, "--dry-run"]) == 0
    assert "Nothing was written" in capsys.readouterr().out
    assert not list(tmp_path.iterdir())
    assert main(words) == 0
    shown = capsys.readouterr().out
    run = load_run(out)
    assert run.status == "ok"
    assert all(metric.name in shown for metric in run.metrics)
    assert f"--heads {out}" in shown
    assert run.record["data"]["split"] == "train"
    assert run.samples.num_rows == 24
    assert load_head(out).task.name == task
    before = (out / "run.json").read_bytes()
    assert main(words) == 0
    assert (out / "run.json").read_bytes() == before


def test_an_encoder_slides_over_larger_images(tmp_path: Path) -> None:
    words = [*WORDS, *BRIEF, "--task", "segmentation", "--image-size", "40", "--window", "16,8"]
    assert main([*words, "--out", str(tmp_path)]) == 0
    found = load_head(tmp_path)
    assert found.encoder.backbone.origin["sliding"] == {"crop": [16, 16], "stride": [8, 8]}
    assert load_run(tmp_path).metrics[0].n == 24


def test_a_preset_is_the_base_of_flags(tmp_path: Path) -> None:
    words = [*WORDS, *BRIEF, "--task", "segmentation", "--preset", "published", "--validation", "none"]
    assert main([*words, "--out", str(tmp_path)]) == 0
    run = load_run(tmp_path)
    head = run.settings["head"]
    assert (head["epochs"], head["learning_rate"], head["label_stride"]) == (2, 1e-3, 1)
    assert run.settings["validation"] is None
    assert run.metrics == []


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--task", "segmentation", "--encoder", "network:resnet-mico"], "Did you mean 'resnet-micro'"),
        (["--task", "segmentation", "--data", "digits", "--image-size", "8"], "not for segmentation"),
        (["--task", "depth", "--epochs", "0"], "at least 1"),
        (["--task", "depth", "--preset", "publishd"], "published"),
        (["--task", "depth", "--image-size", "36"], "multiples of 8"),
        (["--task", "depth", "--validation", "validation"], "validation"),
        (["--task", "depth", "--weights", "missing.pt"], "missing.pt"),
        (["--task", "depth", "--device", "cuda:99"], "--device"),
        (["--task", "depth", "--window", "16"], "two numbers"),
        (["--task", "depth", "--window", "16,32"], "stride"),
        (["--task", "poses"], "'poses'"),
        ([], "--task"),
    ],
)
def test_mistakes_are_named(
    words: list[str], sentence: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*WORDS, *BRIEF, "--out", str(tmp_path / "head"), *words]) == 2
    assert sentence in capsys.readouterr().err
    assert not (tmp_path / "head").exists()
