from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow.parquet
import pytest

from assay.cli.main import main

from .conftest import Shell

FEW = ["--limit", "20", "--no-progress"]


def samples(out: Path) -> list[dict[str, object]]:
    """The table of the margins run."""
    record = json.loads((out / "audit.json").read_text())
    (entry,) = (entry for entry in record["runs"] if entry["probe"] == "margins")
    assert entry["status"] == "ok"
    rows: list[dict[str, object]] = pyarrow.parquet.read_table(
        out / "runs" / entry["id"] / "samples.parquet"
    ).to_pylist()
    return rows


def test_margins_measures_distances_and_names_the_most_fragile(workplace: Path, model: list[str], shell: Shell) -> None:
    done = shell("margins", *model, *FEW)
    assert done.returncode == 0, done.stderr
    assert "median_margin@linf" in done.stdout
    assert "vulnerable_share@linf:8/255" in done.stdout
    rows = samples(workplace / "runs" / "margins")
    assert len(rows) == 20
    right = sorted((row for row in rows if row["correct"]), key=lambda row: float(str(row["signed_margin"])))
    shown = done.stdout.split("Most fragile samples\n")[1].splitlines()
    assert shown[0].split() == ["sample", "label", "at", "the", "boundary", "with", "margin"]
    expected = [
        [str(row["sample_id"]), str(row["label"]), str(row["neighbour"]), f"{row['signed_margin']:.4g}"]
        for row in right[:10]
    ]
    assert [line.split() for line in shown[1:]] == expected
    record = json.loads((workplace / "runs" / "margins" / "audit.json").read_text())
    assert record["command"][:2] == ["assay", "margins"]
    assert [entry["probe"] for entry in record["runs"]] == ["clean-accuracy", "margins"]


def test_two_models(workplace: Path, model: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    other = "python:tiny_digits:build"
    words = ["margins", *model, *FEW, "--versus", other, "--norm", "l2", "--below", "1/4", "--temperature", "5"]
    assert main(words) == 0
    shown = capsys.readouterr().out
    for name in ("vulnerable_share@l2:0.25", "baseline_vulnerable_share@l2:0.25", "margin_gain@l2"):
        assert name in shown
    assert "soft boundary of temperature 5" in shown
    rows = samples(workplace / "runs" / "margins")
    assert all(row["signed_margin"] != row["baseline_signed_margin"] for row in rows)


def test_a_killed_search_goes_on(workplace: Path, model: list[str]) -> None:
    words = ["margins", *model, "--batch-size", "16", "--steps", "200", "--no-progress"]
    assert main([*words, "--out", "whole"]) == 0
    command = [sys.executable, "-m", "assay", *words, "--out", "killed"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while process.poll() is None and not list(Path("killed").glob("runs/*/shards/margins*.npz")):
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait(60)
    kept = {path: path.stat().st_mtime_ns for path in Path("killed").glob("runs/*/shards/margins*.npz")}
    assert 0 < len(kept) < len(list(Path("whole").glob("runs/*/shards/margins*.npz")))
    assert main([*words, "--out", "killed"]) == 0
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    assert samples(Path("killed")) == samples(Path("whole"))


def test_dry_run(workplace: Path, model: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["margins", *model, *FEW, "--dry-run"]) == 0
    shown = capsys.readouterr().out
    assert "margins" in shown
    assert "Most fragile" not in shown
    assert not (workplace / "runs").exists()


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--norm=l1"], "one of linf, l2"),
        (["--temperature=0"], "above 0"),
        (["--temperature=cold"], "a number is needed"),
        (["--steps=0"], "at least 1"),
        (["--below=-1"], "above 0"),
        (["--versus=nowhere"], "no finished training"),
    ],
)
def test_mistakes(
    words: list[str], sentence: str, workplace: Path, model: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["margins", *model, *words, "--no-progress"]) == 2
    assert sentence in capsys.readouterr().err
    assert not (workplace / "runs").exists()
