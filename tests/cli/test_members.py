"""``assay members``: from a model and its records to a report, stopped and killed on the way, and from files alone."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import torch

from assay import load_data
from assay.cli.main import main
from assay.core.runs import find_runs
from assay.subjects import load_target

RECIPE = "recipe: standard\nnetwork: linear\ntraining: {epochs: 4, batch_size: 64, learning_rate: 1/5}\n"
DATA = ["--data", "digits", "--limit", "120", "--nonmembers-limit", "120"]
POOL = ["--shadows", "6", "--method", "sequential"]
QUIET = ["--no-progress"]
Capture = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A training on the first 120 digits."""
    folder = tmp_path_factory.mktemp("trained")
    (folder / "recipe.yaml").write_text(RECIPE)
    flags = ["--network", "linear", "--epochs", "4", "--batch-size", "64", "--learning-rate", "1/5", "--limit", "120"]
    words = ["train", "standard", *flags, "--data", "digits", "--out", str(folder / "model"), *QUIET]
    assert main(words) == 0
    return folder / "model"


@pytest.fixture
def here(tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder with a recipe and a link to the model."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "model").symlink_to(model)
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    return tmp_path


def audit(*words: str) -> list[str]:
    return ["members", "audit", "--model", "model", *DATA, *POOL, "--executor", "in-process", *QUIET, *words]


def samples(out: str | Path) -> dict[str, Any]:
    (run,) = find_runs(out)
    assert run.status == "ok"
    return dict(run.samples.to_pydict())


@pytest.mark.parametrize("action", ["audit", "canary", "attack", "pool"])
def test_help_explains_the_action(action: str, capsys: Capture) -> None:
    assert main(["members", action, "--help"]) == 0
    shown = capsys.readouterr().out
    assert "examples:" in shown
    assert "exit codes:" in shown
    assert f"assay members {action}" in shown


def test_actions_are_listed(capsys: Capture) -> None:
    assert main(["members", "--help"]) == 0
    assert "canary" in capsys.readouterr().out
    assert main(["members", "audits"]) == 2
    assert "Did you mean 'audit'?" in capsys.readouterr().err


def answers(folder: Path, name: str = "answers.npz", models: int = 8, records: int = 60, **changes: Any) -> str:
    """Answers in which members of a model have larger logits; None leaves an array out."""
    rng = np.random.default_rng(0)
    in_mask = np.argsort(rng.random((models, records)), 0) < models // 2
    member = rng.permutation(records) < records // 2
    labels = rng.integers(0, 4, records)
    logits = rng.normal(size=(models + 1, records, 1, 4))
    np.put_along_axis(logits, np.broadcast_to(labels[None, :, None, None], (models + 1, records, 1, 1)), 3.0, -1)
    seen = np.vstack([in_mask, member])[:, :, None, None]
    logits += np.where(seen, 2.0, 0.0) * np.eye(4)[labels][None, :, None, :]
    logits += rng.normal(size=logits.shape)
    content = {
        "reference_logits": logits[:-1],
        "in_mask": in_mask,
        "target_logits": logits[-1],
        "labels": labels,
        "member": member,
        **changes,
    }
    np.savez(folder / name, **{key: value for key, value in content.items() if value is not None})
    return name


def test_attack(here: Path, capsys: Capture) -> None:
    path = answers(here)
    words = ["members", "attack", "--scores", path, *QUIET, "--out", "out"]
    assert main([*words, "--attacks", "lira,loss", "--claim", "auc@lira >= 0.6", "--claim", "auc@loss >= 0.999"]) == 1
    shown = capsys.readouterr().out
    assert "TPR at FPR 0.01" in shown
    rows = {line.split()[0]: line for line in shown.splitlines() if line}
    assert {"lira", "loss"} <= set(rows)
    assert shown.count("PASS") == 1
    assert shown.count("FAIL") == 1
    assert (here / "out" / "report.html").is_file()
    assert len(samples("out")["member"]) == 60


def test_attack_without_the_truth(here: Path, capsys: Capture) -> None:
    words = ["members", "attack", "--scores", answers(here, member=None), "--attacks", "lira", "--out", "out"]
    assert main(words) == 0
    shown = capsys.readouterr().out
    assert "The truth (member) is not in the file" in shown
    assert "AUC" in shown
    lines = (here / "out" / "scores.csv").read_text().splitlines()
    assert lines[0] == "record,label,lira,rank"
    assert len(lines) == 61
    best = next(line.split(",") for line in lines[1:] if line.endswith(",1"))
    assert float(best[2]) == max(float(line.split(",")[2]) for line in lines[1:])
    assert main([*words, "--claim", "auc@lira >= 0.5"]) == 2
    assert "--claim needs the truth" in capsys.readouterr().err


def test_finished_scores(here: Path, capsys: Capture) -> None:
    rows = "\n".join(f"{number},{int(number % 2 == 0)},{number % 2 + number / 1000}" for number in range(40))
    (here / "scores.csv").write_text(f"id,member,mine\n{rows}\n")
    words = ["members", "attack", "--scores", "scores.csv", *QUIET, "--out", "out"]
    assert main([*words, "--claim", "auc@mine <= 0.05"]) == 0
    assert "mine" in capsys.readouterr().out
    assert main([*words, "--attacks", "lira"]) == 2
    assert "holds finished scores" in capsys.readouterr().err
    (here / "scores.csv").write_text("id,mine\n0,1.5\n1,2.5\n")
    assert main(words) == 0
    assert (here / "out" / "scores.csv").read_text() == "record,id,mine,rank\n0,0,1.5,2\n1,1,2.5,1\n"


def test_predicted_classes_alone(here: Path, capsys: Capture) -> None:
    rng = np.random.default_rng(0)
    parts = {"reference_predictions": rng.integers(0, 4, (8, 60)), "target_predictions": rng.integers(0, 4, 60)}
    path = answers(here, reference_logits=None, target_logits=None, **parts)
    words = ["members", "attack", "--scores", path, *QUIET, "--out", "out"]
    assert main(words) == 0
    assert "gap" in capsys.readouterr().out
    assert main([*words, "--attacks", "lira"]) == 2
    assert "holds predicted classes alone" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("changes", "words", "message"),
    [
        ({"target_logits": np.array([{"a": 1}], dtype=object)}, [], "a pickle can run any code"),
        ({"labels": np.full(60, 9)}, [], "labels"),
        ({"in_mask": None}, [], "lacks 'in_mask'"),
        ({}, ["--attacks", "liar"], "Did you mean 'lira'?"),
        ({}, ["--attacks", "lira:mod=offline"], "Did you mean 'mode'?"),
        ({}, ["--attacks", "lira,,rmia"], "is not allowed"),
        ({}, ["--fpr", "2"], "fpr"),
        ({}, ["--member", "nobody"], "has no 'nobody'"),
        ({"member": np.ones(60)}, [], "non-member"),
    ],
)
def test_files_that_cannot_be_used(
    here: Path, changes: dict[str, Any], words: list[str], message: str, capsys: Capture
) -> None:
    command = ["members", "attack", "--scores", answers(here, **changes), *QUIET, "--out", "out", *words]
    assert main(command) == 2
    assert message in capsys.readouterr().err


def test_audit(here: Path, capsys: Capture) -> None:
    command = audit("--attacks", "lira,loss", "--out", "out", "--claim", "auc@lira >= 0")
    assert main(command) == 0
    shown = capsys.readouterr().out
    assert "TPR at FPR 0.001" in shown
    assert "PASS" in shown
    assert "Report:" in shown
    page = (here / "out" / "report.html").read_text()
    assert "assay members audit --model model" in page
    (run,) = find_runs("out")
    assert run.record["command"][:3] == ["assay", "members", "audit"]
    assert sum(run.samples.column("member").to_pylist()) == 120
    before = {path: path.stat().st_mtime_ns for path in Path("out").rglob("model.safetensors")}
    assert len(before) == 6
    assert main(command) == 0
    assert {path: path.stat().st_mtime_ns for path in Path("out").rglob("model.safetensors")} == before


def test_a_dry_run_tells_and_writes_nothing(here: Path, capsys: Capture) -> None:
    before = sorted(here.iterdir())
    assert main(audit("--dry-run", "--out", "out", "--pools", "pools")) == 0
    shown = capsys.readouterr().out
    assert "Shadow models: standard, linear, 4 epochs." in shown
    assert "6" in shown
    assert "Nothing was written." in shown
    assert main(["members", "canary", "--model", "model", *DATA, *POOL, "--dry-run", "--out", "out"]) == 0
    assert main(["members", "pool", "--model", "model", *DATA, *POOL, "--dry-run", "--pools", "pools"]) == 0
    assert sorted(here.iterdir()) == before


def test_a_black_box_gives_the_scores_of_its_model(here: Path, capsys: Capture) -> None:
    """The same model, once loaded and once known by its answers alone."""
    assert main(audit("--attacks", "lira", "--out", "a", "--pools", "pools")) == 0
    target = load_target("run:model")
    images = [load_data("digits", split=split, limit=120).images() for split in ("train", "test")]
    np.savez(here / "answers.npz", logits=target.logits(torch.from_numpy(np.concatenate(images))).numpy())
    words = ["members", "audit", "--answers", "answers.npz", "--recipe", "recipe.yaml", *DATA, *POOL, *QUIET]
    assert main([*words, "--attacks", "lira", "--out", "b", "--pools", "pools", "--executor", "in-process"]) == 0
    np.testing.assert_allclose(samples("a")["score_lira"], samples("b")["score_lira"], atol=1e-4)
    assert len(list((here / "pools").iterdir())) == 1


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--data", "digits"], "Give --model, the model to examine, or --answers"),
        (["--model", "model", "--answers", "x.npz", "--data", "digits"], "not both"),
        (["--model", "network:linear", "--data", "digits"], "does not say how it was trained"),
        (["--answers", "x.npz", "--data", "digits"], "recipe: standard"),
        (["--answers", "x.npz", "--data", "digits", "--recipe", "recipe.yaml"], "There is no file 'x.npz'"),
        (["--model", "model", "--data", "digits", "--recipe", "none.yaml"], "no recipe file 'none.yaml'"),
        (["--model", "model", "--data", "all.npz"], "has no other split"),
        (["--model", "model", "--data", "digits", "--nonmembers-split", "train"], "on both sides"),
        (["--model", "model", "--data", "digits", "--shadows", "1", "--limit", "50"], "1"),
        (["--model", "model", "--data", "digits", "--attacks", "liar"], "Did you mean 'lira'?"),
        (["--model", "model", "--data", "digits", "--design", "halves"], "'half'"),
        (["--model", "model", "--data", "digits", "--claim", "nice"], "claim"),
    ],
)
def test_what_cannot_be_audited(here: Path, words: list[str], message: str, capsys: Capture) -> None:
    data = load_data("digits", limit=40)
    np.savez("all.npz", images=data.images(), labels=data.labels)
    assert main(["members", "audit", *words, *QUIET, "--out", "out"]) == 2
    assert message in capsys.readouterr().err
    assert not (here / "out").exists()


def test_other_data_than_those_of_the_training_are_remarked(here: Path, capsys: Capture) -> None:
    words = ["members", "audit", "--model", "model", "--data", "digits", *POOL, "--dry-run"]
    assert main(words) == 0
    assert "which is not the same" in capsys.readouterr().err


def test_canary(here: Path, capsys: Capture) -> None:
    flags = ["--targets", "12", "--queries", "2", "--steps", "2", "--epsilon", "8/255", "--drawn", "2"]
    words = ["members", "canary", "--model", "model", *DATA, *POOL, *flags, *QUIET, "--executor", "in-process"]
    assert main([*words, "--out", "out", "--pools", "pools"]) == 0
    assert "AUC" in capsys.readouterr().out
    assert (here / "out" / "report.html").is_file()
    assert main([*words, "--mode", "offline", "--objective", "kl", "--out", "out"]) == 2
    assert "'kl'" in capsys.readouterr().err
    assert main([*words, "--queries", "0", "--out", "out"]) == 2
    assert "CanarySettings.queries is 0" in capsys.readouterr().err


EIGHT = ["members", "audit", "--model", "model", *DATA, "--shadows", "8", "--method", "sequential", *QUIET]
EIGHT += ["--attacks", "lira", "--out", "out"]
AT_ONCE = ["--executor", "in-process"]


def with_workers(folder: Path) -> subprocess.Popen[bytes]:
    """The audit in a process of its own, with two workers."""
    words = [sys.executable, "-m", "assay", *EIGHT, "--executor", "local", "--workers", "2"]
    return subprocess.Popen(words, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, model: Path) -> list[float]:
    """The scores of an audit that nobody stops, trained in this process."""
    out = str(tmp_path_factory.mktemp("undisturbed"))
    assert main([str(model) if word == "model" else word for word in EIGHT[:-1]] + [out, *AT_ONCE]) == 0
    return list(samples(out)["score_lira"])


def models_in(folder: Path) -> int:
    """Models with a finished record."""
    return sum('"status": "ok"' in path.read_text() for path in folder.glob("out/pools/*/models/*/run.json"))


def wait_for(condition: Callable[[], Any], process: subprocess.Popen[bytes]) -> Any:
    """What the condition gives, once it gives something; the process may end before."""
    for _ in range(30_000):
        found = condition()
        if found or process.poll() is not None:
            return found
        time.sleep(0.01)
    raise AssertionError("nothing happened in five minutes")


def workers_of(process: subprocess.Popen[bytes]) -> list[psutil.Process]:
    try:
        children = psutil.Process(process.pid).children(recursive=True)
        return [child for child in children if "assay.pools.worker" in " ".join(child.cmdline())]
    except psutil.Error:
        return []


def test_a_killed_command_goes_on_to_the_same_scores(here: Path, undisturbed: list[float]) -> None:
    process = with_workers(here)
    wait_for(lambda: workers_of(process) and models_in(here) >= 3, process)
    orphans = workers_of(process)
    process.kill()
    process.communicate()
    _, alive = psutil.wait_procs(orphans, timeout=120)
    assert not alive
    assert models_in(here) >= 3
    before = {path: path.stat().st_mtime_ns for path in here.glob("out/pools/*/models/*/run.json")}
    done = [path for path in before if '"status": "ok"' in path.read_text()]
    assert main([*EIGHT, *AT_ONCE]) == 0
    assert all(path.stat().st_mtime_ns == before[path] for path in done)
    assert models_in(here) == 8
    assert samples("out")["score_lira"] == undisturbed


def test_a_killed_worker_costs_nothing(here: Path, undisturbed: list[float]) -> None:
    process = with_workers(here)
    for victim in wait_for(lambda: workers_of(process), process)[:1]:
        with contextlib.suppress(psutil.NoSuchProcess):
            victim.kill()
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors.decode()
    assert models_in(here) == 8
    assert samples("out")["score_lira"] == undisturbed


def test_ctrl_c_ends_with_a_sentence(here: Path, undisturbed: list[float]) -> None:
    process = with_workers(here)
    wait_for(lambda: workers_of(process), process)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 3
    assert "go on" in errors.decode()
    assert "Traceback" not in errors.decode()
    assert main([*EIGHT, *AT_ONCE]) == 0
    assert samples("out")["score_lira"] == undisturbed
