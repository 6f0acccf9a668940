"""The boundary-dynamics probe on trainings small enough to follow by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from assay.boundary import closest_boundary_points, relative_speed
from assay.boundary import moments as moments_module
from assay.boundary.conflict import conflict
from assay.boundary.dynamics import USUAL, Dynamics
from assay.boundary.moments import is_training, moments_of, read_training
from assay.core.errors import ModelError, SettingError, Unsupported
from assay.core.probes import Measurement, Metric
from assay.core.settings import build
from assay.core.shards import Shards
from assay.data import load_data
from assay.data.dataset import Dataset
from assay.subjects import load_target
from assay.subjects.examination import Examination
from assay.subjects.target import Target
from assay.subjects.tasks import Classification
from assay.subjects.weights import load_weights, read_weights
from assay.training import TrainSettings, train
from assay.training.adversarial import Adversarial
from assay.training.snapshots import read_moments

FEW: dict[str, Any] = {"samples": 24, "below": 0.1, "steps": 8, "inner_steps": 2}


@pytest.fixture(scope="module")
def data() -> Dataset:
    return load_data("digits", split="train", limit=96)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, data: Dataset) -> Path:
    """Two epochs of adversarial training of a linear model, three steps each, kept every second step."""
    out = tmp_path_factory.mktemp("training") / "run"
    settings = TrainSettings(epochs=2, batch_size=32, watch=2, learning_rate=0.05, ema=0.9)
    train(Adversarial(eps=0.1, steps=2), network="linear", data=data, settings=settings, out=out)
    return out


@pytest.fixture(scope="module")
def measured(folder: Path, data: Dataset) -> Measurement:
    return Dynamics(**FEW).measure(Examination(load_target(f"run:{folder}"), data))


def metric(found: Measurement, name: str, stratum: str = "") -> Metric:
    (one,) = (item for item in found.metrics if (item.name, item.stratum) == (name, stratum))
    return one


def codes(found: Measurement) -> dict[str, str]:
    return {finding.code: finding.message for finding in found.findings}


def test_columns_shares_and_metrics_tell_the_same(measured: Measurement) -> None:
    columns = measured.samples
    assert columns["looked_at"].sum() == 24
    assert all(len(column) == 96 for column in columns.values())
    assert np.isnan(columns["margin"][~columns["looked_at"]]).all()
    rows = columns["looked_at"]
    margin = columns["margin"][rows]
    assert np.array_equal(columns["vulnerable"][rows], (margin > 0) & (margin < 0.1))
    assert metric(measured, "vulnerable_share").value == columns["vulnerable"].sum() / 24
    for direction in USUAL:
        if direction == "step":  # the last moment has no next one
            assert "speed_step" not in columns
            assert metric(measured, "conflict_share", "direction=step").estimand.endswith("after 4 steps")
            continue
        speed = columns[f"speed_{direction.replace('-', '_')}"][rows]
        for name, below in (("conflict_share", 0.1), ("conflict_share_all", np.inf)):
            share = conflict(speed, margin, below)
            for stratum in (f"direction={direction}", f"direction={direction}, step=6"):
                found = metric(measured, name, stratum)
                assert (found.value, found.lo, found.hi, found.n) == (share.value, share.lo, share.hi, share.n)
        own = columns["speed_own"][rows]
        if direction != "own":
            chosen = columns["vulnerable"][rows]
            differ = ((own < 0) != (speed < 0))[chosen].mean()
            assert metric(measured, "directions_disagree", f"direction={direction}").value == differ
    assert metric(measured, "conflict_share").value == metric(measured, "conflict_share", "direction=own").value


def test_speeds_are_those_of_the_weights_at_the_moment(folder: Path, data: Dataset) -> None:
    """The optimiser's step, computed by hand from the two files."""
    examination = Examination(load_target(f"run:{folder}"), data)
    shards = Shards(folder.parent / "by-hand")
    examination.shards = shards
    Dynamics(**FEW, directions=("step",)).measure(examination)
    moment = read_moments(folder)[1]
    assert moment.step == 2
    assert moment.next_file is not None
    kept = {key.rpartition("/")[2]: key for key in filter(lambda key: key.startswith("step-2-"), shards.keys())}
    key, points = kept["step"], kept["points"]
    target = load_target(f"run:{folder}")
    assert isinstance(target.model, torch.nn.Module)
    before, after = read_weights(moment.file), read_weights(moment.next_file)
    load_weights(target.model, before, where="the test")
    there = shards.get(points)
    # The samples are those whose images the points came from: find them by their own search.
    seen = closest_boundary_points(
        target, examination.images, examination.labels, "linf", 5.0, 8, sample_ids=examination.sample_ids
    )
    rows = [int((seen.signed_margin - margin).abs().argmin()) for margin in there["signed_margin"].tolist()]
    assert len(set(rows)) == 24
    direction = {name: after[name] - before[name] for name in before}
    expected = relative_speed(target, seen.points[rows], examination.labels[rows], direction)
    found = torch.from_numpy(there["found"])
    got = torch.from_numpy(shards.get(key)["speed"]).float()
    torch.testing.assert_close(got[found], expected[found], rtol=1e-3, atol=1e-6)


def test_findings_say_what_was_seen(measured: Measurement) -> None:
    said = codes(measured)
    assert "Looked after 0, 2, 4, 6 steps, at 24 samples" in said["moments"]
    assert "over 3 moments" in said["flow-and-step"]
    assert "moving average" in said["weights-before-averaging"]
    assert "not-the-training-data" not in said
    deviation = next(finding.value for finding in measured.findings if finding.code == "self-check")
    assert deviation is not None
    assert deviation < 1e-4


def test_figures_are_a_line_frames_bars_and_layers(measured: Measurement) -> None:
    over, *frames, bars, layers = measured.figures
    assert over.kind == "line"
    assert {line.label for line in over.series} <= set(USUAL)
    assert [frame.moment for frame in frames] == ["step 0", "step 2", "step 4", "step 6"]
    assert {frame.sequence for frame in frames} == {"margin-speed"}
    assert len({(frame.x_limits, frame.y_limits) for frame in frames}) == 1
    for frame in frames:
        assert frame.x_limits is not None
        for series in frame.series:
            assert all(frame.x_limits[0] <= float(x) <= frame.x_limits[1] for x in series.x)
    assert [series.label for series in bars.series] == ["closer", "away"]
    assert layers.series[0].x == ("1",)  # the linear layer behind Flatten
    assert layers.series[0].y[0] == pytest.approx(metric(measured, "mean_speed", "direction=own").value, rel=1e-4)


def test_finished_parts_are_taken_up(
    folder: Path, data: Dataset, measured: Measurement, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fresh(shards: Shards) -> Examination:
        return Examination(load_target(f"run:{folder}"), data, shards=shards, batch_size=5)

    first = Dynamics(**FEW).measure(fresh(Shards(tmp_path)))
    assert first.metrics == measured.metrics  # whatever the batch size

    def never(*_: object, **__: object) -> None:
        raise AssertionError("computed again")

    monkeypatch.setattr(moments_module, "closest_boundary_points", never)
    monkeypatch.setattr(moments_module, "flow", never)
    again = Dynamics(**FEW).measure(fresh(Shards(tmp_path)))
    assert again.metrics == measured.metrics
    assert codes(again) == codes(measured)


def test_a_direction_that_cannot_be_had_is_left_out(
    folder: Path, data: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuses(recipe: object, *_: object, **__: object) -> None:
        raise Unsupported("it draws its batches itself.")

    monkeypatch.setattr(moments_module, "flow", refuses)
    examination = Examination(load_target(f"run:{folder}"), data)
    found = Dynamics(**FEW, moments=2, directions=("own", "gradient-flow")).measure(examination)
    assert "the recipe of the training: it draws its batches itself." in codes(found)["direction-left-out"]
    assert {item.stratum for item in found.metrics if item.name == "conflict_share_all"} == {
        "direction=gradient-flow",
        "direction=gradient-flow, step=0",
        "direction=gradient-flow, step=6",
    }


def test_without_moments_the_finished_weights_are_looked_at(data: Dataset, tmp_path: Path) -> None:
    settings = TrainSettings(epochs=1, batch_size=32)
    train("standard", network="linear", data=data, settings=settings, out=tmp_path / "run")
    target = load_target(f"run:{tmp_path / 'run'}")
    examination = Examination(target, load_data("digits", split="test", limit=30))
    found = Dynamics(**FEW, directions=("own", "step")).measure(examination)
    said = codes(found)
    assert "finished weights alone" in said["moments"]
    assert "not-the-training-data" in said
    assert [figure.name for figure in found.figures if figure.sequence] == ["margin-speed-step-0"]
    assert {item.stratum for item in found.metrics} == {"", "direction=own"}


def test_other_models_have_no_training(data: Dataset) -> None:
    target = Target(torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10)), task=Classification(10))
    assert "no folder of 'assay train'" in Dynamics().measure(Examination(target, data)).not_applicable
    assert not is_training(None)


def test_moments_are_thinned_evenly_and_end_with_the_last(folder: Path) -> None:
    assert [moment.step for moment in moments_of(folder, 100)] == [0, 2, 4, 6]
    assert [moment.step for moment in moments_of(folder, 2)] == [0, 6]
    assert [moment.step for moment in moments_of(folder, 1)] == [6]


def test_a_damaged_record_is_told(folder: Path, tmp_path: Path) -> None:
    record = json.loads((folder / "run.json").read_text())
    del record["settings"]["resolved"]["training"]
    (tmp_path / "run.json").write_text(json.dumps(record))
    with pytest.raises(ModelError, match="does not tell how the model was trained"):
        read_training(tmp_path)


def test_settings() -> None:
    assert Dynamics().radius == pytest.approx(8 / 255)
    assert (Dynamics(norm="l2").radius, Dynamics(norm="l2").eps) == (0.5, 0.5)
    assert Dynamics(below=0.1, budget=0.2).eps == 0.2
    with pytest.raises(SettingError, match="Did you mean 'trades'"):
        build(Dynamics, {"directions": ["trade"]})
    with pytest.raises(SettingError, match="each once"):
        Dynamics(directions=("own", "own"))
    cost = Dynamics(samples=10, moments=2, directions=("gradient-flow",)).expected_cost(samples=100, classes=10)
    assert (cost.forward, cost.backward) == (2 * 10 * (20 + 40 + 1 + 3), 2 * 10 * (20 + 10 + 1))
