"""Encoders across tasks: heads, runs, the matrix, what is told beforehand, and going on after a stop."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from assay import load_data
from assay.core.claims import check
from assay.core.errors import Incomplete, SettingError
from assay.core.runs import Run, find_runs
from assay.data import DenseDataset, load_dense
from assay.evasion import attacking
from assay.evasion.cross_task.probe import CrossTask
from assay.studies import encoders
from assay.studies.auditing import Study
from assay.studies.encoders import Plan, TaskData, evade_encoders
from assay.studies.encoders_cost import plan_cost
from assay.studies.encoders_matrix import MATRIX, plain_rows
from assay.subjects import encoder
from assay.training.heads import HeadSettings, train_head

TASKS = ("classification", "segmentation", "depth", "embedding")
SHORT = dict.fromkeys(TASKS, HeadSettings(epochs=1))
THREAT = {
    "eps": (4 / 255, 8 / 255),
    "steps": 2,
    "attacks": ("embedding-l2", "ce", "seg-pgd", "silog"),
    "pictures": 1,
}


@pytest.fixture(scope="module")
def scenes() -> tuple[DenseDataset, ...]:
    """Twelve to train on, four to attack."""
    return tuple(load_dense("scenes", split=split, limit=n, image_size=32) for split, n in (("train", 12), ("test", 4)))


@pytest.fixture
def unreported(monkeypatch: pytest.MonkeyPatch) -> None:
    """Studies without their page, which takes most of the time."""
    monkeypatch.setattr(encoders, "write_report", lambda path, *given, **words: path / "report.html")


def make_plan(scenes: tuple[DenseDataset, ...], *networks: str, tasks: tuple[str, ...] = TASKS, **more: Any) -> Plan:
    train, test = scenes
    known = {"plain": "network:resnet-micro", "other": "network:vit-micro"}
    return Plan(
        encoders=[encoder(known[name], name=name, image_size=32) for name in networks or ("plain",)],
        tasks=[TaskData(task=task, test=test, train=None if task == "embedding" else train) for task in tasks],
        **{"threat": THREAT, "head_seeds": 2, "head_settings": SHORT, **more},
    )


@pytest.fixture(scope="module")
def study(scenes: tuple[DenseDataset, ...], tmp_path_factory: pytest.TempPathFactory) -> Study:
    """Two encoders on all tasks."""
    plan = make_plan(scenes, "plain", "other")
    return evade_encoders(plan, out=tmp_path_factory.mktemp("matrix"), command=["assay", "evade"])


def test_every_pair_is_a_run_and_the_matrix_is_the_first(study: Study) -> None:
    assert (study.status, study.exit_code) == ("ok", 0)
    assert study.runs[0].method["name"] == MATRIX.name
    pairs = [(run.record["target"]["name"], run.settings["task"]) for run in study.runs[1:]]
    assert pairs == [(name, task) for name in ("plain", "other") for task in TASKS]
    assert study.runs[1].settings["attacks"] == list(THREAT["attacks"])
    heads = [len(run.record["target"]["heads"]) for run in study.runs[1:5]]
    assert heads == [2, 2, 2, 0]
    assert {run.id for run in find_runs(study.path)} == {run.id for run in study.runs}


def test_nothing_is_left_lying_about(study: Study) -> None:
    assert not (study.path / "attacks").exists()
    assert not (study.path / "features").exists()
    assert not list(study.path.glob("runs/*/attacks"))


def test_the_matrix_has_the_numbers_of_the_runs(study: Study) -> None:
    matrix = study.runs[0].figures()[0]
    assert matrix.kind == "matrix"
    assert [series.label for series in matrix.series] == [
        f"{name} · {space}"
        for name in ("plain", "other")
        for space in ("clean", "random noise", "attack on embedding", "attack on output")
    ]
    rows = {series.label: dict(zip(series.x, series.y, strict=True)) for series in matrix.series}
    segmentation = study.runs[2]
    assert rows["plain · clean"]["segmentation: Mean IoU"] == segmentation.metric("clean_mean_iou").value
    for space in ("embedding", "output"):
        metric = segmentation.metric("robust_mean_iou@linf:8/255", f"space={space}")
        assert rows[f"plain · attack on {space}"]["segmentation: Mean IoU"] == pytest.approx(metric.value)
    assert "embedding: Cosine distance" not in rows["plain · clean"]
    assert "embedding: Cosine distance" not in rows["plain · attack on output"]
    heads, cells = plain_rows(matrix)
    assert len(heads) == 5
    assert cells[0][-1] == "-"


def test_differences_to_the_first_encoder_are_paired(study: Study) -> None:
    figure = next(one for one in study.runs[0].figures() if one.title.startswith("Differences to plain"))
    rows = {series.label: dict(zip(series.x, series.y, strict=True)) for series in figure.series}
    depth = [run.metric("clean_rmse").value for run in study.runs if run.settings.get("task") == "depth"]
    assert rows["other · clean"]["depth: RMSE"] == pytest.approx(depth[1] - depth[0])
    assert all(label.startswith("other") for label in rows)


def test_the_report_shows_it(study: Study) -> None:
    assert study.report is not None
    page = study.report.read_text()
    for words in ("Cross-task matrix", "Segmentation with other", "Differences to plain", "prediction under attack"):
        assert words in page
    assert "The task" not in page[page.index("What was not tested") :]
    assert "nan" not in page.lower().split("what was not tested")[0].replace("finance", "")


def test_claims_hold_against_the_runs(study: Study) -> None:
    claims = ["clean_mean_iou >= 0", "robust_rmse@linf:8/255 <= 100", "robust_accuracy@linf:8/255{encoder=other} >= 0"]
    assert [verdict.outcome for verdict in check(claims, study.runs)] == ["passed"] * 3


@pytest.mark.usefixtures("unreported")
def test_the_same_command_again_measures_nothing(
    scenes: tuple[DenseDataset, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = make_plan(scenes, tasks=("embedding",))
    first = evade_encoders(plan, out=tmp_path)
    monkeypatch.setattr(CrossTask, "examine", lambda *given: pytest.fail("measured again"))
    second = evade_encoders(plan, out=tmp_path)
    assert [run.id for run in second.runs] == [run.id for run in first.runs]


def answers(runs: list[Run]) -> list[Any]:
    return [[(metric.label, metric.value, metric.lo) for metric in run.metrics] for run in runs]


@pytest.mark.usefixtures("unreported")
def test_a_stopped_study_goes_on_and_says_the_same(
    scenes: tuple[DenseDataset, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = make_plan(scenes, tasks=("segmentation", "embedding"))
    undisturbed = evade_encoders(plan, out=tmp_path / "a")
    original, calls = attacking.attack, 0

    def stopping(*given: Any, **words: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 3:
            raise KeyboardInterrupt
        return original(*given, **words)

    monkeypatch.setattr(attacking, "attack", stopping)
    with pytest.raises(Incomplete, match="Run the same command"):
        evade_encoders(plan, out=tmp_path / "b")
    assert json.loads((tmp_path / "b" / "audit.json").read_text())["status"] == "incomplete"
    smaller = dataclasses.replace(plan, batch_size=3)
    resumed = evade_encoders(smaller, out=tmp_path / "b")
    assert [run.id for run in resumed.runs] == [run.id for run in undisturbed.runs]
    assert answers(resumed.runs) == answers(undisturbed.runs)


@pytest.mark.usefixtures("unreported")
def test_a_pair_that_fails_does_not_stop_the_others(
    scenes: tuple[DenseDataset, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = attacking.attack

    def broken(target: Any, images: Any, references: Any, threat: Any, objective: str, **words: Any) -> Any:
        if objective == "seg-pgd":
            raise RuntimeError("out of luck")
        return original(target, images, references, threat, objective, **words)

    monkeypatch.setattr(attacking, "attack", broken)
    plan = make_plan(scenes, tasks=("segmentation", "embedding"))
    study = evade_encoders(plan, out=tmp_path)
    assert (study.status, study.exit_code) == ("failed", 3)
    assert [entry["status"] for entry in study.record["runs"]] == ["ok", "failed", "ok"]
    assert "out of luck" in study.record["runs"][1]["error"]
    first = study.runs[0].id
    monkeypatch.undo()
    whole = evade_encoders(plan, out=tmp_path)
    assert whole.status == "ok"
    assert whole.runs[0].id != first
    assert {run.id for run in find_runs(tmp_path)} == {run.id for run in whole.runs}, "the half matrix is gone"


@pytest.mark.usefixtures("unreported")
def test_given_heads_are_used(scenes: tuple[DenseDataset, ...], tmp_path: Path) -> None:
    train, test = scenes
    own = encoder("network:resnet-micro", name="plain", image_size=32)
    head = train_head(own, train, task="depth", settings=SHORT["depth"], seed=5)
    plan = Plan(encoders=[own], tasks=[TaskData(task="depth", test=test)], threat=THREAT, heads=[head])
    study = evade_encoders(plan, out=tmp_path)
    assert study.runs[1].record["target"]["heads"] == [head.target.digest]
    assert "single-head" in {finding.code for finding in study.runs[1].findings}
    assert not (tmp_path / "heads").exists()


def test_what_it_costs_is_told(scenes: tuple[DenseDataset, ...]) -> None:
    costs = {cost.task: cost for cost in plan_cost(make_plan(scenes))}
    assert list(costs) == list(TASKS)
    assert costs["classification"].cost.backward == 4 * 2 * 2 * (1 + 2)
    assert costs["embedding"].cost.backward == 0, "its attacks are those of the other tasks"
    assert [costs[task].training for task in TASKS] == [12, 12, 0, 0]
    assert all(cost.seconds > 0 for cost in costs.values())


@pytest.mark.usefixtures("unreported")
def test_classification_data_alone(tmp_path: Path) -> None:
    digits = DenseDataset.from_dataset(load_data("digits", split="test", limit=4))
    train = DenseDataset.from_dataset(load_data("digits", split="train", limit=40))
    own = encoder("network:resnet-micro", in_channels=1, image_size=8)
    plan = Plan(
        encoders=[own],
        tasks=[TaskData(task="classification", test=digits, train=train)],
        threat={"eps": (0.1,), "steps": 2},
        head_seeds=1,
        head_settings=SHORT,
    )
    study = evade_encoders(plan, out=tmp_path)
    assert study.status == "ok"
    assert study.runs[1].metric("clean_accuracy").n == 4


def test_mistakes(scenes: tuple[DenseDataset, ...]) -> None:
    test = scenes[1]
    own = encoder("network:resnet-micro")
    twin = encoder("network:resnet-micro", name="twin")
    with pytest.raises(SettingError, match="another name"):
        Plan(encoders=[own, own], tasks=[TaskData(task="embedding", test=test)])
    with pytest.raises(SettingError, match="same network"):
        Plan(encoders=[own, twin], tasks=[TaskData(task="embedding", test=test)])
    with pytest.raises(SettingError, match="no task 'detection'"):
        Plan(encoders=[own], tasks=[TaskData(task="detection", test=test)])
    with pytest.raises(SettingError, match="each once"):
        Plan(encoders=[own], tasks=[])
    with pytest.raises(SettingError, match="no training split"):
        Plan(encoders=[own], tasks=[TaskData(task="depth", test=test)])
    with pytest.raises(SettingError, match="Did you mean"):
        Plan(encoders=[own], tasks=[TaskData(task="embedding", test=test)], threat={"step": 3})
