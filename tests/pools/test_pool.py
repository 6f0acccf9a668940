"""Pools: what is planned, what is kept in the folder, what identifies it, and what is refused."""

from __future__ import annotations

import dataclasses
import io
import json
import shutil

import numpy as np
import pytest
from PIL import Image

from assay.core.errors import DataError, Incomplete, InputError, RunError, SettingError
from assay.core.progress import Progress
from assay.core.seeds import seed as named_seed
from assay.core.settings import settings
from assay.data import Dataset, load_data
from assay.pools import Pool, membership
from assay.pools import forecast as forecasting
from assay.pools.units import do_unit
from assay.training import Adversarial, Standard, TrainSettings

from .conftest import BRIEF, weights

DATA = tuple(f"data/{name}" for name in ("images.npy", "labels.npy", "sample_ids.npy", "about.json"))


@settings
class Homemade(Standard):
    """A recipe from outside Assay."""


def read(folder):
    pool = Pool.open(folder)
    return pool.in_mask, pool.data


def damage(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))


def test_a_plan_holds_everything_that_training_needs(plan, digits):
    pool = plan()
    found = Pool.open(pool.folder)
    assert (found.id, len(found), found.network, found.portable) == (pool.id, 4, "linear", True)
    assert (found.in_mask == membership("half", 4, 100, 7)).all()
    assert not found.in_mask.flags.writeable
    assert not found.complete
    for m in range(4):
        job = found.job(m)
        assert job == dataclasses.replace(pool.job(m), data=job.data)
        assert (job.recipe, job.network, job.settings) == (Standard(), "linear", BRIEF)
        assert job.seed == named_seed(7, "pool", m)
        assert job.data.digest == digits.subset(found.in_mask[m]).digest
        assert (job.data.rows == np.flatnonzero(found.in_mask[m])).all()
        assert found.path(m) == pool.folder / "models" / f"{m:04d}"


def encoded(tmp_path, suffix):
    folder = tmp_path / f"pictures-{suffix}"
    rng = np.random.default_rng(0)
    for index in range(6):
        place = folder / f"class{index % 2}"
        place.mkdir(parents=True, exist_ok=True)
        pixels = rng.integers(0, 256, (8, 9, 3), dtype=np.uint8)
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, format=suffix)
        (place / f"{index}.{suffix}").write_bytes(buffer.getvalue())
    return load_data(folder)


def kinds_of_data(tmp_path):
    rng = np.random.default_rng(1)
    labels = np.arange(12) % 3
    steps = rng.integers(0, 256, (12, 5, 6, 3), dtype=np.uint8)
    yield Dataset.from_arrays(steps, labels)
    yield Dataset.from_arrays(rng.random((12, 5, 6)).astype(">f4"), ["a", "b", "ü"] * 4, groups=["x", None, "ö"] * 4)
    yield Dataset.from_arrays(steps, labels, groups=["x"] * 12).subset(slice(11, 0, -2))
    yield encoded(tmp_path, "png")
    yield encoded(tmp_path, "jpeg").subset([5, 0, 3, 2])


def test_records_come_back_as_they_were(tmp_path):
    for number, data in enumerate(kinds_of_data(tmp_path)):
        Pool.plan(tmp_path / str(number), data=data, network="linear", models=2, design="all")
        found = Pool.open(tmp_path / str(number)).data
        assert (found.images() == data.images()).all()
        assert (found.labels == data.labels).all()
        assert found.describe() == data.describe()
        assert isinstance(found.pixels.array.base, np.memmap)
        assert found.pixels.array.dtype == (np.float32 if number == 1 else np.uint8)
        assert found.images([0, 1]).flags.writeable


def test_the_same_plan_finds_its_pool_and_keeps_finished_models(plan):
    pool = plan()
    do_unit(pool, (1,))
    before = weights(pool, 1)
    again = plan()
    assert again.id == pool.id
    assert again.finished.tolist() == [False, True, False, False]
    assert weights(again, 1) == before


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"network": "mlp"}, "network was 'linear' and is 'mlp'"),
        ({"settings": dataclasses.replace(BRIEF, epochs=3)}, "training.epochs was 2 and is 3"),
        ({"models": 6}, "models was 4 and is 6"),
        ({"seed": 8}, "seed was 7 and is 8"),
        ({"design": "pairs"}, "membership was"),
        ({"recipe": Standard(label_smoothing=0.1)}, "recipe.settings.label_smoothing was 0.0 and is 0.1"),
        ({"recipe": Adversarial(steps=1)}, "recipe.name was 'standard' and is 'adversarial'"),
        ({"data": load_data("digits", split="test").head(100)}, "data.digest was"),
    ],
)
def test_a_folder_of_other_settings_is_refused_by_name(plan, changes, named):
    pool = plan()
    files = {path: path.read_bytes() for path in pool.folder.rglob("*") if path.is_file()}
    with pytest.raises(RunError, match=named):
        plan(**changes)
    assert {path: path.read_bytes() for path in pool.folder.rglob("*") if path.is_file()} == files


def test_a_pool_is_named_by_content(plan, digits):
    array = membership("half", 4, 100, 7)
    renamed = dataclasses.replace(digits, name="other", source="elsewhere")
    assert plan("a").id == plan("b", data=renamed).id == plan("c", design=array, models=64).id
    assert plan("a").id != plan("d", seed=8).id


def test_cached_pools_lie_under_their_id(tmp_path, digits):
    arguments = {"data": digits, "network": "linear", "settings": BRIEF, "models": 2}
    pool = Pool.cached(tmp_path, **arguments)
    assert pool.folder == tmp_path / pool.id
    do_unit(pool, (0,))
    assert Pool.cached(tmp_path, **arguments).finished.tolist() == [True, False]
    assert Pool.cached(tmp_path, **{**arguments, "models": 4}).folder != pool.folder


@pytest.mark.parametrize("name", ["membership.npy", *DATA, "pool.json"])
@pytest.mark.parametrize("harm", ["change", "cut", "remove"])
def test_a_damaged_plan_is_an_error_and_planning_again_repairs_it(plan, name, harm):
    pool = plan()
    do_unit(pool, (0,))
    whole = {path: path.read_bytes() for path in pool.folder.rglob("*") if path.is_file()}
    path = pool.folder / name
    if harm == "change":
        damage(path)
    elif harm == "cut":
        path.write_bytes(path.read_bytes()[:-9])
    else:
        path.unlink()
    with pytest.raises(RunError, match=r"[Pp]lan the pool|planned the pool|Cannot read"):
        read(pool.folder)
    again = plan()
    assert (again.id, again.finished.tolist()) == (pool.id, [True, False, False, False])
    assert again.data.digest == pool.data.digest
    for file, content in whole.items():
        assert file.read_bytes() == content or file.name == "pool.json"


def test_models_of_another_pool_are_not_taken_over_when_the_record_is_lost(plan):
    pool = plan()
    do_unit(pool, (0,))
    (pool.folder / "pool.json").write_text("{")
    for changes in ({"network": "mlp"}, {"seed": 8}, {"data": load_data("digits", split="test").head(100)}):
        with pytest.raises(RunError, match="not those of the pool"):
            plan(**changes)
    assert plan().finished.tolist() == [True, False, False, False]


def test_what_killed_planners_leave_is_removed(plan):
    pool = plan()
    for place in (pool.folder, pool.folder / "data"):
        (place / f".{'0' * 16}.tmp").write_text("half")
    plan()
    assert not list(pool.folder.rglob("*.tmp"))


def test_a_folder_without_a_pool_is_refused(tmp_path):
    with pytest.raises(RunError, match="holds no pool"):
        Pool.open(tmp_path)


def test_subsets_that_cannot_be_trained_are_refused_before_anything_is_written(tmp_path):
    data = Dataset.from_arrays(np.zeros((4, 8, 8), np.uint8), [0, 0, 1, 1])
    for mask, words in (([[1, 1, 1, 1], [0, 0, 0, 0]], "Model 1 .* no record"), ([[1, 1, 0, 0]], "2 records, all of")):
        with pytest.raises(DataError, match=words):
            Pool.plan(tmp_path / "pool", data=data, network="linear", design=np.array(mask, bool))
    assert not list(tmp_path.iterdir())


def test_recipes_that_make_no_classifier_are_refused(plan):
    with pytest.raises(DataError, match="does not make classifiers"):
        plan(recipe="simsiam", network=None)


def test_methods_are_kept(plan, digits):
    pool = plan(method="batched")
    assert sorted(m for unit in pool.units() for m in unit) == [0, 1, 2, 3]
    assert max(map(len, pool.units())) > 1
    assert Pool.open(pool.folder).units() == plan(method="auto").units() == pool.units()
    with pytest.raises(RunError, match="'batched'; now it is 'sequential'"):
        plan(method="sequential")
    with pytest.raises(SettingError, match="Did you mean 'batched'"):
        plan(method="batch")
    with pytest.raises(SettingError, match="method is 'batched', but"):
        plan("other", method="batched", recipe="trades")


def test_auto_asks_the_timing_once(plan, monkeypatch):
    from assay.pools import timing

    asked = []
    monkeypatch.setattr(
        timing, "choose", lambda pool, threads: asked.append(pool) or timing.Choice("batched", 3, "timed")
    )
    pool = plan(method="auto")
    assert not asked
    assert pool.units() == Pool.open(pool.folder).units() == [(0, 1, 2), (3,)]
    assert len(asked) == 1


def test_damaged_units_are_an_error(plan):
    pool = plan()
    for text in ("{", '{"method": "both", "group": 1}', '{"method": "batched", "group": 0}', "[]"):
        (pool.folder / "units.json").write_text(text)
        with pytest.raises(RunError, match=r"units\.json' is damaged"):
            pool.units()


def test_models_are_loaded_when_they_are_finished(plan, digits):
    pool = plan()
    do_unit(pool, (2,))
    with pytest.raises(RunError, match=r"3 of 4 models .* such as model 0"):
        pool.models()
    with pytest.raises(RunError, match=r"Model 0 .* not trained yet"):
        pool.model(0)
    (target,) = pool.models([2])
    assert target.describe()["digest"] == pool.model(2).describe()["digest"]
    with pytest.raises(SettingError, match="allowed: 0 to 3"):
        pool.model(4)


def test_a_changed_model_is_an_error_and_a_cut_one_is_trained_again(plan):
    pool = plan()
    do_unit(pool, (0,))
    path = pool.path(0) / "model.safetensors"
    content = path.read_bytes()
    damage(path)
    with pytest.raises(RunError, match=r"damaged or was changed\. Remove"):
        pool.model(0)
    path.write_bytes(content[:-1])
    assert not pool.is_finished(0)
    do_unit(pool, (0,))
    assert path.read_bytes() == content
    (pool.path(0) / "run.json").write_text("{")
    assert not pool.is_finished(0)
    do_unit(pool, (0,))
    assert path.read_bytes() == content


def test_training_makes_what_is_missing(plan):
    pool = plan()
    do_unit(pool, (0,))
    (pool.path(0) / "checkpoint.pt").write_bytes(b"left by a killed worker")
    stamp = (pool.path(0) / "run.json").stat().st_mtime_ns
    progress = Progress(enabled=False)
    assert pool.train("in-process", progress=progress) is pool
    assert pool.complete
    assert (pool.path(0) / "run.json").stat().st_mtime_ns == stamp
    assert not list(pool.folder.rglob("checkpoint.pt"))
    done = weights(pool)
    assert len(set(done)) == 4
    assert weights(pool.train("in-process")) == done


def test_one_model_that_cannot_be_trained_does_not_stop_the_others(plan):
    images = np.random.default_rng(0).random((40, 8, 8)).astype(np.float32)
    data = Dataset.from_arrays(images, np.arange(40) % 2)
    mask = np.zeros((3, 40), bool)
    mask[0], mask[1, :20], mask[2, 20:] = True, True, True
    pool = plan(data=data, design=mask, settings=TrainSettings(epochs=1, batch_size=20))
    pool.path(1).parent.mkdir()
    pool.path(1).write_text("a file in the way")
    with pytest.raises(InputError, match="1 of 3 models could not be trained"):
        pool.train("in-process")
    assert pool.finished.tolist() == [True, False, True]
    pool.path(1).unlink()
    assert pool.train("in-process").complete


def test_ctrl_c_between_models_is_incomplete(plan, monkeypatch):
    from assay.pools.executors import in_process

    def run(pool, **_):
        raise KeyboardInterrupt

    monkeypatch.setattr(in_process, "run", run)
    with pytest.raises(Incomplete, match="0 of 4 models"):
        plan().train("in-process")


def test_recipes_from_outside_train_in_this_process_alone(plan):
    pool = plan(recipe=Homemade(label_smoothing=0.1), models=2)
    assert not pool.portable
    with pytest.raises(SettingError, match=r"Homemade.*in-process"):
        pool.train("local")
    assert pool.train("in-process").complete
    found = Pool.open(pool.folder)
    assert len(found.models()) == 2
    with pytest.raises(RunError, match="Homemade"):
        found.job(0)


def test_bad_ways_to_train_are_refused(plan, monkeypatch):
    pool = plan()
    with pytest.raises(SettingError, match="Did you mean 'local'"):
        pool.train("lokal")
    for wrong in ({"workers": 0}, {"threads": -1}):
        with pytest.raises(SettingError, match="at least 1"):
            pool.train("in-process", **wrong)
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(InputError, match="needs no launcher"):
        pool.train("in-process")
    assert not pool.finished.any()


def test_the_forecast_covers_what_is_left(plan):
    pool = plan()
    first = pool.forecast()
    assert (first.models, first.left, first.workers) == (4, 4, 1)
    assert first.seconds == pytest.approx(first.processor_seconds)
    assert not list(pool.folder.glob(".probe*"))
    do_unit(pool, (0,))
    spent = json.loads((pool.path(0) / "run.json").read_text())["cost"]["seconds"]
    second = pool.forecast(workers=2)
    sizes = pool.in_mask.sum(1)
    assert second.left == 3
    assert second.processor_seconds == pytest.approx(spent * sizes[1:].sum() / sizes[0])
    assert second.processor_seconds / 2 <= second.seconds < second.processor_seconds
    assert "3 of 4 models to train" in str(second)
    taken = sum(path.stat().st_size for path in pool.path(0).rglob("*") if path.is_file())
    assert taken * 3 < second.bytes
    pool.train("in-process")
    last = pool.forecast()
    assert (last.left, last.seconds, last.bytes) == (0, 0.0, 0)
    assert str(last) == "all 4 models are trained"


def test_a_disk_that_is_too_full_is_found_before_the_start(plan, monkeypatch):
    pool = plan()
    usage = shutil.disk_usage(pool.folder)
    monkeypatch.setattr(forecasting.shutil, "disk_usage", lambda folder: usage._replace(free=1000))
    with pytest.raises(RunError, match=r"too full: the 4 models .* 0\.001 MB are free"):
        pool.train("in-process")
    with pytest.raises(RunError, match="too full: the records"):
        plan("other")
    assert not pool.finished.any()
