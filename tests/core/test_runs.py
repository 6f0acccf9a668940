"""Runs: written whole, resumed, redone where damaged, read back."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import json
import math
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from assay.core.errors import Incomplete, InputError, RunError
from assay.core.files import checksum
from assay.core.probes import Measurement
from assay.core.runs import STATUSES, Run, find_runs, identity, load_run

from .recording import CARD, PARTS, compute, measure, open_run, run_to_the_end

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
mappings = st.dictionaries(st.text(), values, max_size=4)


def named(settings: dict[str, Any], **changes: Any) -> str:
    parts: dict[str, Any] = {"target_digest": "t", "data_digest": "d", "method": "m", "version": 1}
    return identity(settings, **{**parts, **changes})


@pytest.fixture
def run(tmp_path: Path) -> Run:
    run_to_the_end(tmp_path)
    return load_run(tmp_path)


def record_of(run: Run) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((run.path / "run.json").read_text())
    return found


@given(mappings)
def test_identity_does_not_depend_on_the_order_of_settings(settings: dict[str, Any]) -> None:
    name = named(settings)
    assert name == named(dict(reversed(settings.items())))
    assert len(name) == 16
    assert int(name, 16) >= 0


@given(mappings, mappings)
def test_identity_differs_with_the_settings(first: dict[str, Any], second: dict[str, Any]) -> None:
    same = json.dumps(first, sort_keys=True) == json.dumps(second, sort_keys=True)
    assert (named(first) == named(second)) is same


def test_identity_differs_with_every_part() -> None:
    names = {
        named({"a": 1}),
        named({"a": 1}, target_digest="x"),
        named({"a": 1}, data_digest="x"),
        named({"a": 1}, method="x"),
        named({"a": 1}, version=2),
        named({"a": math.inf}),
        named({"a": -math.inf}),
        named({"a": math.nan}),
        named({"a": None}),
        named({"a": "inf"}),
    }
    assert len(names) == 10
    assert named({"a": (1, 2)}) == named({"a": [1, 2]}) == named({"a": np.array([1, 2])})
    assert named({"a": 1}) == "e907e10b8db79aba"


def test_the_seed_and_the_samples_are_part_of_the_identity(tmp_path: Path) -> None:
    runs = [
        open_run(tmp_path),
        open_run(tmp_path, seeds={"root": 1}),
        open_run(tmp_path, data={"digest": "d0", "sample_id_digest": "s1"}),
        open_run(tmp_path, data={"digest": "d1", "sample_id_digest": "s0"}),
        open_run(tmp_path, target={"digest": "t1"}),
        open_run(tmp_path, resolved={"eps": 0.1}),
    ]
    assert len({writer.id for writer in runs}) == 6
    for writer in runs:
        writer.close()


def test_a_finished_run_reads_back(run: Run) -> None:
    assert run.status == "ok"
    assert run.path.name == run.id
    assert run.method["name"] == "clean-accuracy"
    assert run.method["citation"] == "someone2020"
    assert run.settings == {"eps": 8 / 255, "bins": 15}
    assert run.metric("clean_accuracy").n == 20
    assert run.metric("clean_accuracy", "class=3").value == 0.75
    assert run.metric("robust_accuracy@linf:0.03137254901960784").value == 0.45
    assert math.isnan(run.metric("gap").value)
    assert run.findings[0].severity == "warning"
    assert (run.cost.seconds, run.cost.forward) == (1.5, 20)
    assert run.cost.peak_memory_bytes > 1_000_000
    assert "clean-accuracy" in repr(run)


def test_the_table_of_samples(run: Run) -> None:
    assert run.samples.column_names == ["sample_id", "right", "name"]
    assert run.samples["sample_id"].to_pylist() == list(range(20))
    assert sum(run.samples["right"].to_pylist()) == round(run.metric("clean_accuracy").value * 20)
    assert run.samples["name"][3].as_py() == "row 3"
    assert run.samples is run.samples


def test_the_record_has_what_the_schema_names(run: Run) -> None:
    record = record_of(run)
    expected = {
        "schema", "kind", "id", "status", "settings", "method", "target", "data", "environment", "code", "seeds",
        "cost", "findings", "metrics", "claims", "command", "created", "finished", "files", "figures",
    }  # fmt: skip
    assert expected <= record.keys()
    assert record["schema"] == 1
    assert record["settings"] == {"given": {"eps": "8/255"}, "resolved": {"eps": 8 / 255, "bins": 15}}
    assert record["metrics"][3]["value"] is None
    assert set(record["metrics"][0]) == {
        "name", "estimand", "value", "lo", "hi", "interval", "n", "unit", "direction", "stratum",
    }  # fmt: skip
    for name in record["files"]:
        assert (run.path / name).is_file()


def test_figures_come_back_and_have_a_table(run: Run) -> None:
    figure = run.figures()[0]
    assert figure.name == "curve"
    assert figure.series[0].x == ("+cat", 1.5)
    assert math.isnan(figure.series[0].y[1])
    rows = (run.path / "figures" / "curve.csv").read_text().splitlines()
    assert rows == ["series,x,y,lo,hi", "'=robust,'+cat,1.0,0.5,1.0", "'=robust,1.5,nan,0.0,1.0"]


def test_the_gallery_comes_back(run: Run) -> None:
    gallery = run.gallery()
    assert gallery is not None
    assert gallery.original.shape == (2, 1, 2, 2)
    np.testing.assert_array_equal(gallery.changed, gallery.original[::-1])
    assert gallery.captions[0]["label"] == "<script>"


def test_a_measurement_may_have_nothing_to_show(tmp_path: Path) -> None:
    with open_run(tmp_path) as writer:
        run = writer.finish(Measurement(not_applicable="one class only"), sample_ids=[])
    assert run.status == "not_applicable"
    assert run.record["not_applicable"] == "one class only"
    assert run.gallery() is None
    assert run.figures() == []
    assert run.samples.num_rows == 0
    assert run.cost.seconds > 0
    with open_run(tmp_path) as again:
        assert again.finished


def test_claims_are_held_against_the_run_and_kept(tmp_path: Path) -> None:
    with open_run(tmp_path) as writer:
        run = writer.finish(
            measure(compute(writer.shards)), sample_ids=range(20), claims=["clean_accuracy >= 0", "privacy > 1"]
        )
    assert [claim["outcome"] for claim in record_of(run)["claims"]] == ["passed", "not_run"]


def test_an_unknown_metric_names_the_nearest(run: Run) -> None:
    with pytest.raises(InputError, match=r"no metric 'clean_acuracy'.*Did you mean 'clean_accuracy'"):
        run.metric("clean_acuracy")
    with pytest.raises(InputError, match=r"no metric 'clean_accuracy\{class=4\}'.*class=3"):
        run.metric("clean_accuracy", "class=4")


def test_the_same_command_finds_the_finished_run(run: Run) -> None:
    before = (run.path / "run.json").stat().st_mtime_ns
    with open_run(run.path.parent) as writer:
        assert writer.finished
        assert writer.id == run.id
    assert (run.path / "run.json").stat().st_mtime_ns == before


def test_a_stopped_run_goes_on_with_its_shards(tmp_path: Path) -> None:
    def interrupted() -> None:
        with open_run(tmp_path) as writer:
            writer.shards.put("part/0", right=np.ones(4, dtype=bool))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    stopped = load_run(tmp_path)
    assert stopped.status == "incomplete"
    assert stopped.record["error"]["type"] == "KeyboardInterrupt"
    with open_run(tmp_path) as again:
        assert not again.finished
        assert again.shards.keys() == ["part/0"]
        run = again.finish(measure(compute(again.shards)), sample_ids=range(20))
    assert run.samples["right"].to_pylist()[:4] == [True] * 4
    assert run.record["created"] == stopped.record["created"]
    assert "error" not in record_of(run)


@pytest.mark.parametrize(
    ("error", "status"), [(ValueError("no"), "failed"), (Incomplete("later"), "incomplete"), (MemoryError(), "failed")]
)
def test_how_a_run_stopped_is_recorded(tmp_path: Path, error: BaseException, status: str) -> None:
    with pytest.raises(type(error)), open_run(tmp_path):
        raise error
    run = load_run(tmp_path)
    assert run.status == status
    assert run.record["error"] == {"type": type(error).__name__, "message": str(error)}
    with pytest.raises(RunError, match=f"no samples.parquet: its status is {status}"):
        _ = run.samples


def test_one_process_at_a_time_writes_a_run(tmp_path: Path) -> None:
    with open_run(tmp_path) as writer:
        with pytest.raises(RunError, match="Another process is writing"):
            open_run(tmp_path)
        other = open_run(tmp_path, seeds={"root": 1})
        other.close()
        writer.finish(measure(compute(writer.shards)), sample_ids=range(20))
        assert open_run(tmp_path).finished


def test_leftovers_of_a_crash_are_removed(tmp_path: Path) -> None:
    writer = open_run(tmp_path)
    writer.close()
    leftover = writer.path / f".{'a' * 16}.tmp"
    leftover.write_text("half")
    open_run(tmp_path).close()
    assert not leftover.exists()


def test_a_damaged_shard_is_computed_again(tmp_path: Path) -> None:
    writer = open_run(tmp_path)
    right = compute(writer.shards)
    writer.close()
    path = next((writer.path / "shards").glob("part%2F2.*"))
    path.write_bytes(path.read_bytes()[:-7])
    with open_run(tmp_path) as again:
        assert again.shards.dropped == ["part/2"]
        assert len(again.shards) == PARTS - 1
        np.testing.assert_array_equal(compute(again.shards), right)


@pytest.mark.parametrize("name", ["run.json", "samples.parquet", "figures/curve.json", "artifacts/gallery.npz"])
@pytest.mark.parametrize("damage", [lambda content: content[: len(content) // 2], lambda content: b"", None])
def test_a_damaged_finished_run_is_redone_from_its_shards(
    run: Run, name: str, damage: Callable[[bytes], bytes] | None
) -> None:
    path = run.path / name
    before = record_of(run)
    if damage is None:
        path.unlink()
    else:
        path.write_bytes(damage(path.read_bytes()))
    with open_run(run.path.parent) as writer:
        assert not writer.finished
        assert len(writer.shards) == PARTS
        again = writer.finish(measure(compute(writer.shards)), sample_ids=np.arange(20))
    assert (run.path / "run.json.damaged").exists() is not (name == "run.json" and damage is None)
    assert record_of(again)["metrics"] == before["metrics"]
    assert again.samples.equals(run.samples) or name == "samples.parquet"


def test_changed_files_are_not_believed(run: Run) -> None:
    (run.path / "samples.parquet").write_bytes(b"PAR1")
    (run.path / "figures" / "curve.json").write_text("{}")
    (run.path / "artifacts" / "gallery.npz").unlink()
    with pytest.raises(RunError, match="damaged or was changed"):
        _ = run.samples
    with pytest.raises(RunError, match="damaged or was changed"):
        run.figures()
    with pytest.raises(RunError, match="Cannot read"):
        run.gallery()


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("samples.parquet", b"PAR1"),
        ("figures/curve.json", b"[]"),
        ("figures/curve.json", b'{"series": [{"label": 3}]}'),
        ("figures/curve.json", b'{"series": [], "name": "../x"}'),
        ("artifacts/gallery.npz", b"PK"),
        ("artifacts/gallery.json", b"{}"),
    ],
)
def test_forged_files_are_a_clear_error(run: Run, name: str, content: bytes) -> None:
    (run.path / name).write_bytes(content)
    run.record["files"][name] = checksum(content)
    reader: dict[str, Callable[[], object]] = {
        "samples": lambda: run.samples,
        "figures": run.figures,
        "artifacts": run.gallery,
    }
    with pytest.raises(RunError, match="cannot be read"):
        reader[name.split("/")[0].split(".")[0]]()


@pytest.mark.parametrize(
    ("change", "cause"),
    [
        ({"schema": 2}, "its schema is 2, and this version of Assay reads 1"),
        ({"status": "fine"}, "its status is 'fine'"),
        ({"id": 5}, "its status is"),
        ({"metrics": 5}, "'metrics' is not a list"),
        ({"metrics": [5]}, "not a run record"),
        ({"metrics": [{"name": "a"}]}, "missing"),
        ({"metrics": [{"name": 3}]}, "Metric.name is 3, not text"),
        ({"findings": [{"code": "a", "severity": "x", "message": ""}]}, "Finding.severity"),
        ({"cost": {"dollars": 3}}, "dollars"),
        ({"settings": {"resolved": 3}}, "no mapping 'resolved'"),
        ({"method": "clean"}, "'method' is not a dict"),
    ],
)
def test_records_that_are_not_records(run: Run, change: dict[str, Any], cause: str) -> None:
    (run.path / "run.json").write_text(json.dumps({**record_of(run), **change}))
    with pytest.raises(RunError, match=cause) as caught:
        load_run(run.path)
    assert "run.json" in str(caught.value)


@given(st.dictionaries(st.sampled_from(["schema", "id", "status", "metrics", "files", "cost", "findings"]), values))
def test_any_json_is_a_run_or_a_clear_error(tmp_path_factory: pytest.TempPathFactory, change: dict[str, Any]) -> None:
    folder = tmp_path_factory.mktemp("run")
    (folder / "run.json").write_text(json.dumps({"schema": 1, "id": "a", "status": "ok", **change}))
    with contextlib.suppress(RunError):
        assert load_run(folder).status in STATUSES


def test_runs_are_found_in_studies_and_folders(tmp_path: Path) -> None:
    study = tmp_path / "study"
    run_to_the_end(study / "runs")
    open_run(study / "runs", seeds={"root": 1}).close()
    (study / "runs" / "notes").mkdir()
    assert [run.status for run in sorted(find_runs(study), key=lambda run: run.status)] == ["incomplete", "ok"]
    paths = [study, study / "runs", *(study / "runs").glob("*/run.json")]
    assert len(find_runs(paths)) == 2
    with pytest.raises(RunError, match="holds 2 runs; name one of them"):
        load_run(study)
    path = find_runs(study)[0].path
    assert load_run(path / "run.json").id == load_run(str(path)).id


def test_where_there_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="holds no run"):
        load_run(tmp_path)
    with pytest.raises(RunError, match=r"There is no run directory.*absent"):
        find_runs([tmp_path / "absent"])


def test_a_damaged_run_is_not_left_out_silently(run: Run) -> None:
    open_run(run.path.parent, seeds={"root": 1}).close()
    (run.path / "run.json").write_text("{")
    with pytest.raises(RunError, match="damaged"):
        find_runs(run.path.parent)


def test_a_training_is_its_own_folder_and_keeps_what_it_made(tmp_path: Path) -> None:
    def finish() -> Run:
        with open_run(tmp_path, in_place=True) as writer:
            assert writer.path == tmp_path
            (tmp_path / "model.safetensors").write_bytes(b"weights")
            return writer.finish(Measurement(), sample_ids=[], target={"digest": "made"}, keep=["model.safetensors"])

    finish()
    assert load_run(tmp_path).record["target"] == {"digest": "made"}
    assert open_run(tmp_path, in_place=True).finished
    (tmp_path / "model.safetensors").write_bytes(b"weight")
    assert finish().status == "ok"
    with pytest.raises(RunError, match=r"model\.bin"), open_run(tmp_path / "other", in_place=True) as writer:
        writer.finish(Measurement(), sample_ids=[], keep=["model.bin"])


def test_a_folder_of_another_run_is_not_written_over(tmp_path: Path) -> None:
    open_run(tmp_path, in_place=True).close()
    before = (tmp_path / "run.json").read_bytes()
    with pytest.raises(RunError, match=r"seeds\.root was 0 and is 1.*another output folder"):
        open_run(tmp_path, in_place=True, seeds={"root": 1})
    with pytest.raises(RunError, match=r"bins was 15 and is 10"):
        open_run(tmp_path, in_place=True, resolved={"eps": 8 / 255, "bins": 10})
    assert (tmp_path / "run.json").read_bytes() == before


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EACCES])
def test_a_full_disk_at_any_write_keeps_the_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    replace = os.replace
    refusals: list[str] = []
    for survive in range(30):
        calls = 0

        def refuse(*paths: Any, survive: int = survive) -> None:
            nonlocal calls
            calls += 1
            if calls > survive:
                raise OSError(code, os.strerror(code))
            replace(*paths)

        with monkeypatch.context() as patch:
            patch.setattr(os, "replace", refuse)
            try:
                run_to_the_end(tmp_path)
            except RunError as error:
                refusals.append(str(error))
        assert not list(tmp_path.rglob("*.tmp"))
        if calls <= survive:
            break
    # each attempt got further by the shards that were kept, and the last one had nothing refused
    assert len(refusals) >= 5
    assert all("output folder" in refusal for refusal in refusals)
    assert load_run(tmp_path).status == "ok"


def test_unwritable_places_are_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="file stands where a folder is needed"):
        open_run(tmp_path / "file")


def test_a_failure_that_cannot_be_recorded_does_not_hide_its_cause(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = open_run(tmp_path)

    def refuse(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(ValueError, match="the cause") as caught, writer:
        raise ValueError("the cause")
    assert "No space left" in caught.value.__notes__[0]


def test_columns_must_fit_the_samples(tmp_path: Path) -> None:
    with open_run(tmp_path) as writer:
        for columns in ({"a": np.zeros(3)}, {"a": np.zeros((2, 2))}, {"sample_id": np.zeros(2)}):
            with pytest.raises(InputError, match="one value a sample"):
                writer.finish(Measurement(samples=columns), sample_ids=[1, 2])
    assert load_run(tmp_path).status == "incomplete"


def test_secrets_of_the_environment_are_not_recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_very_secret")
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    run_to_the_end(tmp_path)
    text = (load_run(tmp_path).path / "run.json").read_text()
    assert "hf_very_secret" not in text
    assert str(tmp_path) not in text
    assert os.uname().nodename not in json.loads(text)["environment"]["platform"].values()
    assert json.loads(text)["environment"]["threads"]["OMP_NUM_THREADS"] == "3"


def test_reading_runs_is_light() -> None:
    script = (
        "import sys, assay.core.runs; print([m for m in ('torch', 'scipy', 'pyarrow', 'rich') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_card_without_citation_has_none(tmp_path: Path) -> None:
    open_run(tmp_path, method=dataclasses.replace(CARD, citation=None)).close()
    assert load_run(tmp_path).method["citation"] == ""
