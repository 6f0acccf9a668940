"""Encoders across tasks: jobs that start from others, data of the tasks, and which way every difference counts."""

from __future__ import annotations

import json

import pytest

from assay.core.errors import SettingError
from reproductions import datasets
from reproductions.job import JOB, RECORD, RUN, begun_with
from reproductions.runner import ready, work
from reproductions.spec import Job, Spec, load_spec


@pytest.fixture(scope="module")
def spec() -> Spec:
    return load_spec("ssl-robustness")


def row(method: str, seed: int, accuracy: dict[str, float], rmse: dict[str, float]) -> dict:
    """A result with one metric of two tasks, by cell."""

    def measured(metric: str, cells: dict[str, float]) -> dict:
        known = {place: {metric: [value, value - 0.1, value + 0.1]} for place, value in cells.items()}
        return {"images": 50, "heads": 3, "all": {metric: cells["clean"]}, "cells": known}

    return {
        "experiment": "encoders",
        "method": method,
        "seed": seed,
        "tasks": {"classification": measured("accuracy", accuracy), "depth": measured("rmse", rmse)},
    }


def cells(clean: float, noise: float, embedding: float, output: float) -> dict[str, float]:
    return {"clean": clean, "noise@8/255": noise, "embedding@8/255": embedding, "output@8/255": output}


@pytest.fixture(scope="module")
def known(spec: Spec) -> dict:
    rows = []
    for seed in (0, 1, 2):
        shift = 0.01 * seed
        rows.append(row("undefended", seed, cells(0.6 + shift, 0.5, 0.1, 0.0), cells(2.0, 2.1, 3.0, 4.0 + shift)))
        rows.append(row("deacl", seed, cells(0.5 + shift, 0.5, 0.4, 0.1), cells(2.5, 2.5, 2.7, 3.5 + shift)))
    return spec.code().quantities(spec, "cpu", rows)


def test_what_an_attack_takes_is_positive_for_every_metric(known: dict) -> None:
    assert known["encoders/undefended/classification/accuracy/lost/embedding@8/255"].value == pytest.approx(0.51)
    assert known["encoders/undefended/depth/rmse/lost/embedding@8/255"].value == pytest.approx(1.0)
    assert known["encoders/undefended/depth/rmse/lost/beyond-noise@8/255"].value == pytest.approx(0.9)
    assert known["encoders/undefended/classification/accuracy/all"].n == 3


def test_better_is_more_accuracy_and_less_error(known: dict) -> None:
    start = "encoders/undefended over deacl"
    assert known[f"{start}/classification/accuracy/clean"].value == pytest.approx(0.1)
    assert known[f"{start}/depth/rmse/clean"].value == pytest.approx(0.5)
    assert known["encoders/deacl over undefended/depth/rmse/embedding@8/255"].value == pytest.approx(0.3)
    lost = known["encoders/deacl over undefended/classification/accuracy/lost/embedding@8/255"]
    assert lost.value == pytest.approx((0.6 - 0.1) - (0.5 - 0.4))
    assert lost.lo == pytest.approx(lost.value)  # seed by seed, what seeds share cancels


def test_relief_compares_the_two_spaces(known: dict) -> None:
    found = known["encoders/deacl over undefended/classification/accuracy/lost/beyond-output@8/255"]
    embedding, output = (0.5 - 0.1), (0.6 - 0.4)
    assert found.value == pytest.approx(embedding - output)


def test_shares_stay_shares_and_differences_do_not(known: dict) -> None:
    assert known["encoders/undefended/classification/accuracy/output@8/255"].lo == 0.0
    assert known["encoders/undefended/depth/rmse/clean"].value == 2.0
    assert known["encoders/deacl over undefended/classification/accuracy/clean"].value < 0


def test_the_matrix_has_a_row_for_each_encoder_and_space(spec: Spec) -> None:
    rows = [row(method, 0, cells(0.6, 0.5, 0.1, 0.0), cells(2.0, 2.1, 3.0, 4.0)) for method in ("undefended", "deacl")]
    small, large = spec.code().figures(spec, {"cpu": rows})  # 4/255, and 8/255, at which these were attacked
    assert [series.label for series in large.series] == [
        f"{encoder} · {words}"
        for encoder in ("undefended", "DeACL")
        for words in ("clean", "random noise", "embedding attack", "output attack")
    ]
    assert large.series[2].y == (0.1, 3.0)
    assert not small.series
    assert {column.direction for column in large.columns} == {"higher", "lower"}


def test_a_fine_tuning_begins_with_the_encoder_of_its_seed(spec: Spec, tmp_path) -> None:
    jobs = {(job.method, job.seed): job for job in spec.jobs("cpu")}
    begun, job = jobs["undefended", 1], jobs["deacl", 1]
    assert job.plan["start"] == {"folder": begun.folder, "encoder": None}
    assert begun_with(job.plan, tmp_path) == f"run:{tmp_path / begun.folder / 'run'}"
    assert begun_with(begun.plan, tmp_path) is None
    published = next(job for job in spec.jobs("published") if job.method == "deacl")
    assert begun_with(published.plan, tmp_path) == "hf:facebook/dino-vitb16"


def test_a_job_waits_for_the_one_it_starts_from(spec: Spec, tmp_path) -> None:
    job = next(job for job in spec.jobs("tiny") if job.method == "deacl")
    said: list[str] = []
    for workers in (0, 1):
        assert work(spec, [job], tmp_path, workers=workers, say=said.append) == [job]
    assert sum("cannot begin: it starts from encoders/undefended/seed-0" in line for line in said) == 2
    assert json.loads((tmp_path / job.folder / JOB).read_text())["plan"] == job.plan
    begun = tmp_path / job.plan["start"]["folder"] / RUN
    begun.mkdir(parents=True)
    for status, answer in (("incomplete", False), ("ok", True)):
        (begun / RECORD).write_text(json.dumps({"status": status}))
        assert ready(tmp_path, job) == answer
    assert ready(tmp_path, Job("encoders", "undefended", 0, {}))


def test_a_start_that_is_no_method_is_told(spec: Spec) -> None:
    content = json.loads(json.dumps(spec.content))
    content["experiments"]["encoders"]["methods"]["deacl"]["start"] = "undefendet"
    with pytest.raises(SettingError, match="Did you mean 'undefended'"):
        Spec(spec.paper, spec.folder, content).jobs("cpu")


def test_a_mix_is_every_square_of_its_parts_in_an_order_of_its_own() -> None:
    part = {"name": "scenes", "train": 3, "test": 2, "image_size": [20, 33]}
    train, test = datasets.read({"name": "mix", "side": 16, "parts": [part, {**part, "image_size": [16, 16]}]})
    assert (len(train), len(test), train.shape) == (9, 6, (3, 16, 16))
    whole, _ = datasets.dense(part)
    first = (whole.images([0])[0, :, :16, 16:32] * 255).round()
    assert any(((image * 255).round() == first).all() for image in train.images())
    again, _ = datasets.read({"name": "mix", "side": 16, "parts": [part, {**part, "image_size": [16, 16]}]})
    assert again.digest == train.digest


def test_a_mix_of_one_part_may_be_whole_images() -> None:
    part = {"name": "scenes", "train": 3, "test": 2, "image_size": 16}
    train, test = datasets.read({"name": "mix", "side": None, "parts": [part]})
    assert (len(train), len(test), train.shape) == (3, 2, (3, 16, 16))
    with pytest.raises(SettingError, match=r"data\.side"):
        datasets.read({"name": "mix", "parts": [part, part]})


def test_data_of_the_tasks(shared_data) -> None:
    train, test = datasets.dense({"name": "camvid", "image_size": [48, 64], "train": 5, "test": 4})
    assert (len(train), len(test), train.shape) == (5, 4, (3, 48, 64))
    assert (train.num_classes("segmentation"), train.ignore_index) == (11, 11)
    train, test = datasets.dense({"name": "cifar10", "train": 7, "test": 3})
    assert (len(train), len(test), train.num_classes("classification")) == (7, 3, 10)
