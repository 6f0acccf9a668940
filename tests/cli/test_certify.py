from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from assay.cli.main import main

HEAD = ["idx", "label", "predict", "radius", "correct", "time"]
FEW = ["--sigma", "0.25", "--limit", "12", "--n", "2000", "--radii", "0,1/4", "--no-progress"]


def rows(path: Path) -> list[list[str]]:
    """The lines of a table, without the times."""
    lines = [line.split("\t") for line in path.read_text().splitlines()]
    assert lines[0] == HEAD
    return [line[:5] for line in lines[1:]]


def test_certify_proves_radii_and_writes_the_table(
    workplace: Path, model: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["certify", *model, *FEW]) == 0
    shown = capsys.readouterr().out
    assert "certified_accuracy@l2:0.25" in shown
    assert "average_certified_radius" in shown
    assert "Certificates: runs/certify/certificates.tsv (12 of 12 samples)" in shown
    record = json.loads((workplace / "runs" / "certify" / "audit.json").read_text())
    assert [entry["status"] for entry in record["runs"]] == ["ok", "ok"]
    table = rows(workplace / "runs" / "certify" / "certificates.tsv")
    assert len(table) == 12
    assert [int(row[0]) for row in table] == sorted(int(row[0]) for row in table)
    for _, label, predict, radius, correct in table:
        assert (correct == "1") == (label == predict)
        assert (float(radius) == 0) or predict != "-1"
    share = sum(row[4] == "1" and float(row[3]) >= 0.25 for row in table) / 12
    (line,) = (line for line in shown.splitlines() if line.startswith("certified_accuracy@l2:0.25 "))
    assert line.split()[1] == f"{share:.3f}"


def test_a_killed_certification_goes_on(workplace: Path, model: list[str]) -> None:
    words = ["certify", *model, "--sigma", "0.25", "--limit", "100", "--mode", "fixed", "--n", "8000", "--no-progress"]
    words += ["--no-local-metrics"]
    assert main([*words, "--out", "whole"]) == 0
    command = [sys.executable, "-m", "assay", *words, "--out", "killed"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while process.poll() is None and not list(Path("killed").glob("runs/*/shards/certify*.npz")):
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait(60)
    kept = list(Path("killed").glob("runs/*/shards/certify*.npz"))
    assert kept
    before = {path: path.stat().st_mtime_ns for path in kept}
    assert main([*words, "--out", "killed"]) == 0
    assert {path: path.stat().st_mtime_ns for path in kept} == before
    assert rows(Path("killed/certificates.tsv")) == rows(Path("whole/certificates.tsv"))


def test_dry_run_and_other_places(workplace: Path, model: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["certify", *model, *FEW, "--dry-run"]) == 0
    assert "25,368" in capsys.readouterr().out  # 12 samples of 100 + 2000 noisy copies and 14 passes of local measures
    assert not (workplace / "runs").exists()
    assert main(["certify", *model, *FEW, "--csv", "tables/mine.tsv", "--no-local-metrics"]) == 0
    assert len(rows(workplace / "tables" / "mine.tsv")) == 12


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--sigma=0"], "allowed: above 0"),
        (["--sigma=-1"], "allowed: above 0"),
        (["--alpha=1"], "below 1"),
        (["--n=50"], "must be at least n0"),
        (["--mode=fix"], "Did you mean 'fixed'"),
        (["--radius=3", "--n=1000"], "cannot be proved with n = 1,000"),
        (["--radii=0.1,-2"], "at least 0"),
        (["--radius=0.1", "--radii=0.2"], "use --radii for several"),
        (["--dtype=float16"], "one of float32, bfloat16"),
        (["elsewhere"], "name the model once"),
    ],
)
def test_mistakes(
    words: list[str], sentence: str, workplace: Path, model: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["certify", *model, *words, "--no-progress"]) == 2
    assert sentence in capsys.readouterr().err
    assert not (workplace / "runs").exists()


def test_the_model_must_be_named(workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["certify", "--data", "digits"]) == 2
    assert "name the model once" in capsys.readouterr().err
