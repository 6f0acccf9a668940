"""``assay dynamics`` and ``assay train --watch-boundary`` as a user runs them."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from assay.cli.main import main
from assay.core.runs import load_run

Shell = Callable[..., "subprocess.CompletedProcess[str]"]

TRAIN = ["train", "adversarial", "--data", "digits", "--limit", "96", "--network", "linear", "--eps", "0.1"]
TRAIN += ["--steps", "2", "--epochs", "2", "--batch-size", "32", "--learning-rate", "0.05", "--no-progress"]
FEW = ["--data", "digits", "--limit", "96", "--samples", "24", "--below", "0.1", "--steps", "8", "--inner-steps", "2"]


@pytest.fixture
def watched(workplace: Path) -> str:
    """A training that kept its weights after 0, 2, 4 and 6 steps."""
    assert main([*TRAIN, "--watch", "2", "--out", "watched"]) == 0
    return "watched"


def lines_below(text: str, title: str) -> list[list[str]]:
    """The cells of a table, head first."""
    lines = text.splitlines()
    start = next(place for place, line in enumerate(lines) if line.startswith(title)) + 1
    end = next((place for place in range(start, len(lines)) if ":" in lines[place] or not lines[place]), len(lines))
    return [line.split("  ") for line in lines[start:end]]


def test_the_table_has_a_line_a_moment_and_a_column_a_direction(shell: Shell, workplace: Path, watched: str) -> None:
    done = shell("dynamics", watched, *FEW, "--no-progress", "--directions", "own,dyart,step")
    assert done.returncode == 0, done.stderr
    head, *rows = (
        [cell.strip() for cell in row if cell.strip()]
        for row in lines_below(done.stdout, "Vulnerable samples that the boundary comes closer to")
    )
    assert head == ["step", "vulnerable", "own", "dyart", "step"]
    assert [row[0] for row in rows] == ["0", "2", "4", "6"]
    record = json.loads((workplace / "runs" / "dynamics" / "audit.json").read_text())
    (entry,) = record["runs"]
    assert entry["status"] == "ok"
    run = load_run(workplace / "runs" / "dynamics" / "runs" / entry["id"])
    shares = {metric.stratum: metric for metric in run.metrics if metric.name == "conflict_share"}
    for row in rows:
        metric = shares[f"direction=own, step={row[0]}"]
        assert row[1] == str(metric.n)
        assert row[2].split(" ")[0] == (f"{100 * metric.value:.0f}" if metric.n else "-")
    assert rows[-1][-1] == "-"  # nobody knows the step after the last
    assert (workplace / "runs" / "dynamics" / "report.html").is_file()
    page = (workplace / "runs" / "dynamics" / "report.html").read_text()
    assert "Margin and speed" in page
    assert "Flags" not in done.stderr


def test_a_killed_look_goes_on(workplace: Path, watched: str) -> None:
    words = ["dynamics", watched, *FEW, "--no-progress"]
    assert main([*words, "--out", "whole"]) == 0
    command = [sys.executable, "-m", "assay", *words, "--out", "killed"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while process.poll() is None and len(list(Path("killed").glob("runs/*/shards/step-*.npz"))) < 3:
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait(60)
    kept = list(Path("killed").glob("runs/*/shards/step-*.npz"))
    assert kept
    before = {path: path.stat().st_mtime_ns for path in kept}
    assert main([*words, "--out", "killed"]) == 0
    assert {path: path.stat().st_mtime_ns for path in kept} == before
    whole, killed = (load_run(next(Path(out).glob("runs/*"))) for out in ("whole", "killed"))
    assert whole.metrics == killed.metrics
    assert str(whole.samples.to_pydict()) == str(killed.samples.to_pydict())  # NaN is NaN


def test_a_training_can_watch_itself(workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*TRAIN, "--watch-boundary", "every=4", "--out", "self"]) == 0
    shown = capsys.readouterr().out
    assert "Vulnerable samples that the boundary comes closer to" in shown
    assert "Report: self/dynamics/report.html" in shown
    (run,) = (load_run(path) for path in Path("self/dynamics/runs").glob("*"))
    assert run.metrics
    assert "a margin below 0.1" in run.metrics[0].estimand  # the budget of the training
    steps = {metric.stratum for metric in run.metrics if metric.name == "vulnerable_share"}
    assert steps == {"", "step=0", "step=4", "step=6"}
    assert main([*TRAIN, "--watch-boundary", "every=4", "--out", "self"]) == 0  # finished: nothing is done again


def test_dry_run(workplace: Path, watched: str, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert main(["dynamics", watched, *FEW, "--moments", "2", "--directions", "gradient-flow", "--dry-run"]) == 0
    shown = capsys.readouterr().out
    assert f"{2 * 24 * (8 + 40 + 1 + 3):,}" in shown
    assert "Nothing was written." in shown
    assert not (workplace / "runs").exists()


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--directions", "own,trade"], "Did you mean 'trades'"),
        (["--norm", "l1"], "one of linf, l2"),
        (["--samples", "0"], "at least 1"),
        (["--below", "0"], "above 0"),
        (["--moments", "many"], "moments"),
    ],
)
def test_mistakes(words: list[str], sentence: str, workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["dynamics", "nowhere", "--data", "digits", *words, "--no-progress"]) == 2
    assert sentence in capsys.readouterr().err
    assert not (workplace / "runs").exists()


def test_the_folder_must_be_a_training(workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["dynamics", "nowhere", *FEW, "--no-progress"]) == 2
    assert "nowhere" in capsys.readouterr().err
