"""Studies of membership: a model that learnt records by heart betrays them; stopped work goes on to the same scores."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from assay.core.errors import DataError, SettingError
from assay.membership.queries import PlainQueries
from assay.membership.universe import join
from assay.studies.membership import (
    BlackBox,
    forecast_canaries,
    forecast_members,
    study_attack,
    study_canaries,
    study_members,
)
from assay.subjects import Target
from tests.membership.pools_of_digits import learnt_by_heart, records

POOL: dict[str, Any] = {"shadows": 8, "executor": "in-process", "method": "sequential", "fprs": (0.05,)}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("membership")


@pytest.fixture(scope="module")
def target(folder: Path) -> Target:
    return learnt_by_heart(folder / "model")


@pytest.fixture(scope="module")
def study(folder: Path, target: Target) -> Any:
    return study_members(
        target, *records(), out=folder / "one", pools=folder / "pools", claims=["auc@lira <= 0.6"], **POOL
    )


def column(study: Any, name: str) -> np.ndarray:
    return np.asarray(study.runs[0].samples[name].to_pylist())


def test_what_was_learnt_by_heart_is_found(study: Any) -> None:
    assert study.status == "ok", study.record["runs"]
    run = study.runs[0]
    assert run.metric("auc@lira").lo > 0.5
    assert study.exit_code == 1, "the claim that nothing leaks fails"
    assert run.samples.num_rows == 120
    assert study.report.read_text(encoding="utf-8").count("Membership inference") > 0
    assert run.record["data"]["pool"]["network"] == "mlp"
    assert {"class", "group", "score_lira", "confidence_out"} <= set(run.samples.column_names)


def test_the_same_call_does_nothing_twice(study: Any, folder: Path, target: Target) -> None:
    stamps = {path: path.stat().st_mtime_ns for path in (folder / "pools").rglob("*.safetensors")}
    other = study_members(target, *records(), out=folder / "two", pools=folder / "pools", **POOL)
    assert stamps == {path: path.stat().st_mtime_ns for path in (folder / "pools").rglob("*.safetensors")}
    np.testing.assert_array_equal(column(other, "score_lira"), column(study, "score_lira"))


@pytest.mark.parametrize("kind", ["logits", "probabilities"])
def test_a_black_box_is_as_good_as_its_answers(study: Any, folder: Path, target: Target, kind: str) -> None:
    members, nonmembers = records()
    answers = target.predict(PlainQueries(join(members, nonmembers).data).of(np.arange(120))[:, 0]).double()
    values = answers.numpy() if kind == "logits" else answers.softmax(1).numpy()
    box = BlackBox(members=values[:60], nonmembers=values[60:], kind=kind)
    known = {"recipe": "standard", "network": "mlp", "training": _settings()}
    found = study_members(box, members, nonmembers, out=folder / kind, pools=folder / "pools", **known, **POOL)
    assert found.status == "ok", found.record["runs"]
    np.testing.assert_allclose(column(found, "score_lira"), column(study, "score_lira"), rtol=1e-4, atol=1e-4)


def _settings() -> Any:
    from tests.membership.pools_of_digits import SETTINGS

    return SETTINGS


def test_labels_alone_allow_the_gap(folder: Path, target: Target) -> None:
    members, nonmembers = records()
    said = [target.predict(_images(data)).argmax(1).numpy() for data in (members, nonmembers)]
    box = BlackBox(members=said[0], nonmembers=said[1], kind="labels")
    known = {"recipe": "standard", "network": "mlp", "training": _settings(), "attacks": ("gap",)}
    found = study_members(box, members, nonmembers, out=folder / "labels", pools=folder / "pools", **known, **POOL)
    assert found.status == "ok", found.record["runs"]
    assert found.runs[0].metric("auc@gap").value > 0.55


def _images(data: Any) -> Any:
    import torch

    return torch.from_numpy(data.images())


def test_rmia_sets_a_population_aside(folder: Path, target: Target) -> None:
    found = study_members(
        target, *records(), out=folder / "rmia", pools=folder / "pools", attacks=("rmia", "lira"), **POOL
    )
    assert found.status == "ok", found.record["runs"]
    run = found.runs[0]
    assert run.samples.num_rows == 100
    assert run.record["data"]["population"]["n"] == 20
    assert "population-set-aside" in {finding.code for finding in run.findings}


def test_canaries_stand_beside_plain_queries(folder: Path, target: Target) -> None:
    what = {"targets": 20, "queries": 2, "steps": 2, "epsilon": 0.1, "canary": {"init": "image", "shadows": 2}}
    found = study_canaries(target, *records(), out=folder / "canaries", pools=folder / "pools", **what, **POOL)
    assert found.status == "ok", found.record["runs"]
    run = found.runs[0]
    assert run.samples.num_rows == 20
    assert int(column(found, "member").sum()) == 10
    assert run.metric("auc@canary").n == run.metric("auc@lira").n == 20
    gain = run.metric("auc_gain@canary")
    assert gain.value == pytest.approx(run.metric("auc@canary").value - run.metric("auc@lira").value)
    last = run.panels()[-1]
    assert last.columns == ("record", "canary", "change")
    before, after, _ = last.rows[0].pictures
    assert before is not None
    assert after is not None
    assert 0 < np.abs(after - before).max() <= 0.1 + 2 / 255
    more = study_canaries(
        target, *records(), out=folder / "more", pools=folder / "pools", **{**what, "targets": 30}, **POOL
    )
    assert set(column(found, "sample_id")) < set(column(more, "sample_id"))


def test_given_scores_are_judged(tmp_path: Path) -> None:
    member = np.arange(200) < 100
    scores = np.random.default_rng(0).normal(size=200) + 2 * member
    found = study_attack({"mine": scores, "none": -scores}, member, out=tmp_path, fprs=(0.05,))
    assert found.runs[0].metric("auc@mine").value > 0.85
    assert found.runs[0].metric("auc@none").value == pytest.approx(1 - found.runs[0].metric("auc@mine").value)
    with pytest.raises(DataError):
        study_attack({"mine": scores}, np.ones(200, bool), out=tmp_path)


def test_what_cannot_be_audited_is_said_before_anything_is_trained(
    folder: Path, target: Target, tmp_path: Path
) -> None:
    members, nonmembers = records()
    with pytest.raises(DataError, match="60 of 60 non-members"):
        study_members(target, members, members, out=tmp_path, **POOL)
    with pytest.raises(SettingError, match="no attack on membership named 'lyra'"):
        study_members(target, members, nonmembers, attacks=("lyra",), out=tmp_path, **POOL)
    box = BlackBox(members=np.zeros((60, 10)), nonmembers=np.zeros((60, 10)))
    with pytest.raises(SettingError, match="--recipe"):
        study_members(box, members, nonmembers, out=tmp_path, **POOL)
    short = BlackBox(members=np.zeros((59, 10)), nonmembers=np.zeros((60, 10)))
    with pytest.raises(DataError, match="59 members"):
        study_members(short, members, nonmembers, recipe="standard", out=tmp_path, **POOL)
    with pytest.raises(SettingError, match="cannot be asked"):
        study_canaries(box, members, nonmembers, out=tmp_path, **POOL)  # type: ignore[arg-type]
    assert not list(tmp_path.iterdir())


def test_a_target_that_is_a_shadow_model_is_an_error(study: Any, folder: Path, tmp_path: Path) -> None:
    from assay.pools import Pool

    place = next(
        path.parent for path in (folder / "pools").glob("*/pool.json") if Pool.open(path.parent).data.rows.size == 120
    )
    shadow = Pool.open(place).model(3)
    found = study_members(
        shadow,
        *records(),
        recipe="standard",
        network="mlp",
        training=_settings(),
        out=tmp_path,
        pools=folder / "pools",
        **POOL,
    )
    assert found.status == "failed"
    assert "reference model 3" in found.record["runs"][0]["error"]


def test_a_forecast_leaves_nothing_behind(target: Target, tmp_path: Path) -> None:
    told = forecast_members(target, *records(), out=tmp_path, **POOL)
    assert (told.models, told.left, told.records, told.members) == (8, 8, 120, 60)
    assert told.seconds > 0
    assert any("60 members" in line for line in told.lines)
    more = forecast_canaries(target, *records(), out=tmp_path, **POOL)
    assert any("Optimising" in line for line in more.lines)
    assert not list(tmp_path.iterdir())


def test_kill_9_loses_no_model_and_changes_no_score(study: Any, folder: Path, target: Target, tmp_path: Path) -> None:
    script = (
        "import sys; from tests.membership.pools_of_digits import records; from assay.subjects import load_target\n"
        "from assay.studies.membership import study_members\n"
        f"study_members(load_target(sys.argv[1]), *records(), out=sys.argv[2], **{POOL!r})\n"
    )
    command = [sys.executable, "-c", script, f"run:{folder / 'model'}", str(tmp_path)]
    process = subprocess.Popen(command)
    while process.poll() is None and len(_finished(tmp_path)) < 3:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    kept = {path: path.stat().st_mtime_ns for path in _finished(tmp_path)}
    assert len(kept) >= 3
    again = study_members(target, *records(), out=tmp_path, **POOL)
    assert again.status == "ok", again.record["runs"]
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    np.testing.assert_array_equal(column(again, "score_lira"), column(study, "score_lira"))


def _finished(folder: Path) -> list[Path]:
    found = []
    for path in folder.glob("pools/*/models/*/run.json"):
        if '"status": "ok"' in path.read_text(encoding="utf-8"):
            found.append(path.parent / "model.safetensors")
    return found
