from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from assay.core.errors import ModelError, SettingError
from assay.core.shards import Shards
from assay.privacy import Flat, misalignment
from assay.privacy.gradient_misalignment import GradientMisalignment
from assay.privacy.reading import read_privacy
from assay.privacy.training_moments import COLUMNS, Look, Observer, moments_of

from .runs import codes, examined, found, private_run, three_classes

QUICK: dict[str, Any] = {"batches": 3, "population": 8, "probes": 4}


def observer(folder: Path, **changes: Any) -> Observer:
    record = read_privacy(folder)
    assert record is not None
    what: dict[str, Any] = {"kind": "auto", "only": (), "batches": 3, "population": 8, "trace": "exact", "probes": 4}
    return Observer(examined(folder, three_classes()), record, **what | changes)


def test_a_look_is_the_decomposition_of_its_batches(tmp_path: Path) -> None:
    folder = private_run(tmp_path / "run", snapshots=2)
    record = read_privacy(folder)
    assert record is not None
    watch = observer(folder)
    moment = moments_of(record, 10, None)[1]
    look = watch.look(moment)
    target = examined(folder, three_classes()).target
    from assay.subjects.weights import read_weights

    target.model.load_state_dict(read_weights(moment.weights))
    people = torch.cat([watch.population[name] for name in "pqr"])
    for number in range(3):
        rows = watch._batch(moment.step, number)
        expected = misalignment(
            target.model,
            target.task.losses,
            (watch.images[rows], watch.labels[rows]),
            watch.labels[rows],
            Flat(0.5),
            0.1,
            1.0,
            population=(watch.images[people], watch.labels[people], watch.labels[people]),
            expected_batch_size=6,
            trace="exact",
        )
        for place in range(3):
            values = dict(zip(COLUMNS, look.values[place, number], strict=True))
            for name in ("r_clip", "r_dir", "r_mag", "r_noise", "clip_rate"):
                assert values[name] == pytest.approx(expected[place][name], rel=1e-4, abs=1e-7, nan_ok=True), name
            assert values["group_clipped"] == pytest.approx(expected[place].cosines["group_clipped"], abs=1e-5)
            # cross-entropy of a linear model and small steps: the expansion is close to what really happens
            assert values["measured"] == pytest.approx(values["r_clip"], rel=0.2, abs=2e-4)
    assert look.trace_probes == 0
    assert look.thresholds == {"C": 0.5}
    assert look.counts.sum() == look.sizes.sum()
    again = Look.from_arrays(look.as_arrays())
    np.testing.assert_array_equal(again.values, look.values)
    assert (again.step, again.thresholds, again.trace_probes) == (look.step, look.thresholds, look.trace_probes)


def test_batches_are_poisson_and_named_by_sample(tmp_path: Path) -> None:
    folder = private_run(tmp_path / "run")
    watch = observer(folder)
    sizes = [len(watch._batch(step, number)) for step in range(40) for number in range(5)]
    assert abs(np.mean(sizes) - 6) < 4 * math.sqrt(60 * 0.1 * 0.9 / 200)
    assert np.var(sizes) == pytest.approx(60 * 0.1 * 0.9, rel=0.35)
    data = three_classes()
    half = data.subset(np.arange(30))
    record = read_privacy(folder)
    assert record is not None
    part = Observer(examined(folder, half), record, kind="auto", only=(), batches=1, population=8, trace=None, probes=2)
    whole = watch._batch(7, 2)
    assert part._batch(7, 2).tolist() == whole[whole < 30].tolist()


def test_metrics_findings_and_figures(tmp_path: Path) -> None:
    data = three_classes()
    folder = private_run(
        tmp_path / "run",
        snapshots=3,
        data=data,
        clip={"clip": "global-adapt", "clip_norm": 0.5, "upper_norm": 3.0, "count_noise": 1.0, "state": {"z": 2.0}},
    )
    measurement = GradientMisalignment(**QUICK).measure(examined(folder, data))
    metrics = found(measurement)
    for name in "pqr":
        terms = [metrics[f"{term}{{class={name}}}"].value for term in ("r_dir", "r_mag", "r_clip")]
        assert terms[0] + terms[1] == pytest.approx(terms[2])
        assert metrics[f"r_noise{{class={name}}}"].lo is None  # 30 parameters: an exact trace
        assert 0 <= metrics[f"clip_rate{{class={name}}}"].value <= 1
    assert metrics["cosine_batch_clipped"].interval == "Student t over 3 batches 95%"
    assert codes(measurement)["not-covered-by-the-guarantee"] == "warning"
    assert "not-the-training-data" not in codes(measurement)
    names = {figure.name for figure in measurement.figures}
    assert names >= {
        "direction-by-group",
        "excess-loss-by-group",
        "r-dir-over-training",
        "r-mag-over-training",
        "r-clip-over-training",
        "r-noise-over-training",
        "group-clipped-over-training",
        "clip-rate-over-training",
        "gradient-norms",
        "threshold-over-training",
    }
    norms = next(figure for figure in measurement.figures if figure.name == "gradient-norms")
    assert [series.label for series in norms.series] == ["class p", "class q", "class r", "C = 0.5", "Z = 3"]
    assert sum(norms.series[0].y) == pytest.approx(1)
    assert measurement.cost.backward > 0


def test_final_weights_alone(tmp_path: Path) -> None:
    data = three_classes()
    folder = private_run(tmp_path / "run", training={"momentum": 0.9}, recipe="dp-cert")
    measurement = GradientMisalignment(**QUICK, only=("p", "r"), trace="off").measure(examined(folder, data))
    assert {"final-weights-only", "not-plain-sgd", "another-loss"} <= set(codes(measurement))
    assert [figure.name for figure in measurement.figures] == [
        "direction-by-group",
        "excess-loss-by-group",
        "gradient-norms",
    ]
    assert {metric.stratum for metric in measurement.metrics} == {"", "class=p", "class=r"}
    assert math.isnan(found(measurement)["r_noise{class=p}"].value)
    assert [series.label for series in measurement.figures[1].series] == ["direction", "length"]


def test_hutchinson_gives_the_noise_term_an_interval(tmp_path: Path) -> None:
    folder = private_run(tmp_path / "run")
    metrics = found(GradientMisalignment(**QUICK, trace="hutchinson").measure(examined(folder, three_classes())))
    metric = metrics["r_noise{class=p}"]
    assert metric.lo < metric.value < metric.hi
    assert "4 random vectors" in metric.interval
    assert metric.n == 8


def test_other_data_and_long_steps_are_pointed_out(tmp_path: Path) -> None:
    folder = private_run(tmp_path / "run", data=three_classes())
    other = three_classes(seed=1)
    measurement = GradientMisalignment(**QUICK, learning_rate=200.0).measure(examined(folder, other))
    assert {"not-the-training-data", "expansion-fails"} <= set(codes(measurement))
    assert "expansion-fails" not in codes(GradientMisalignment(**QUICK).measure(examined(folder, other)))


def test_an_interrupted_look_is_taken_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, data = private_run(tmp_path / "run", snapshots=3), three_classes()
    whole = GradientMisalignment(**QUICK).measure(examined(folder, data))
    look, count = Observer.look, 0

    def interrupted(self: Observer, moment: Any) -> Look:
        nonlocal count
        count += 1
        if count == 3:
            raise KeyboardInterrupt
        return look(self, moment)

    monkeypatch.setattr(Observer, "look", interrupted)
    with pytest.raises(KeyboardInterrupt):
        GradientMisalignment(**QUICK).measure(examined(folder, data, shards=Shards(tmp_path / "shards")))
    resumed = GradientMisalignment(**QUICK).measure(examined(folder, data, shards=Shards(tmp_path / "shards")))
    assert count == 4
    assert [vars(metric) for metric in resumed.metrics] == [vars(metric) for metric in whole.metrics]


def test_rare_groups_and_empty_batches(tmp_path: Path) -> None:
    """With q = 1/1000 nearly every batch is empty: clipping costs nothing, and nothing breaks."""
    folder = private_run(tmp_path / "run", sample_rate=0.001, expected_batch_size=0.06)
    metrics = found(GradientMisalignment(**QUICK).measure(examined(folder, three_classes())))
    assert metrics["r_clip{class=p}"].value == 0
    assert math.isnan(metrics["clip_rate{class=p}"].value)


def test_the_model_is_left_as_it_was(tmp_path: Path) -> None:
    examination = examined(private_run(tmp_path / "run", snapshots=2), three_classes())
    digest = examination.target.digest
    GradientMisalignment(**QUICK).measure(examination)
    assert examination.target.digest == digest


def test_mistakes(tmp_path: Path) -> None:
    data = three_classes()
    plain = private_run(tmp_path / "plain", private=False)
    assert "no record of a private training" in GradientMisalignment().measure(examined(plain, data)).not_applicable
    folder = private_run(tmp_path / "run")
    with pytest.raises(SettingError, match="only names 'x', which is no class"):
        GradientMisalignment(only=("x",)).measure(examined(folder, data))
    (folder / "run.json").unlink()
    with pytest.raises(SettingError, match="does not tell the learning rate"):
        GradientMisalignment().measure(examined(folder, data))
    gone = private_run(tmp_path / "gone", snapshots=2)
    (gone / "snapshots" / "step-10.safetensors").unlink()
    with pytest.raises(ModelError, match="no weight file"):
        GradientMisalignment(**QUICK).measure(examined(gone, data))


def test_the_cost_told_beforehand_is_reached_at_most(tmp_path: Path) -> None:
    settings = GradientMisalignment(**QUICK, snapshots=3, trace="hutchinson")
    measurement = settings.measure(examined(private_run(tmp_path / "run", snapshots=3), three_classes()))
    told = settings.expected_cost(samples=60, classes=3)
    assert measurement.cost.forward <= told.forward
    assert measurement.cost.forward > told.forward / 4
