"""The tiny tier of every paper, from training to tables; finished jobs are not run again."""

from __future__ import annotations

import json
import math

import pytest

from assay.privacy import effective_noise, epsilon
from reproductions import datasets
from reproductions.cli import main
from reproductions.job import RESULT, effective_noise_multiplier, gradient_noise
from reproductions.runner import gather, work_folder
from reproductions.spec import load_spec, papers


@pytest.fixture(scope="module", params=papers())
def ran(request, tmp_path_factory):
    """The paper's tiny tier, run once: the specification, the jobs and their results."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ASSAY_RUNS", str(tmp_path_factory.mktemp("runs")))
        assert main([request.param, "--tier", "tiny", "--workers", "0"]) == 0
        spec = load_spec(request.param)
        jobs = spec.jobs("tiny")
        folder = work_folder(spec.paper, "tiny")
        yield spec, jobs, folder, gather(folder, jobs)


def test_every_job_has_a_result(ran):
    _, jobs, _, results = ran
    assert [(row["experiment"], row["method"], row["seed"], row["plan"]) for row in results] == [
        (job.experiment, job.method, job.seed, job.digest) for job in jobs
    ]


def test_private_methods_spend_the_same_epsilon(ran):
    _, jobs, _, results = ran
    spent = [row["privacy"]["epsilon"]["rdp"] for row in results if "rdp" in row.get("privacy", {}).get("epsilon", {})]
    assert len(spent) == sum(job.plan.get("privacy") is not None for job in jobs)
    assert spent == [pytest.approx(spent[0], rel=1e-6) for _ in spent]


def test_a_second_call_runs_nothing(ran, capsys):
    spec, jobs, folder, _ = ran
    before = [(folder / job.folder / RESULT).stat().st_mtime_ns for job in jobs]
    assert main([spec.paper, "--tier", "tiny", "--workers", "0"]) == 0
    assert f"{len(jobs)} of {len(jobs)} jobs are finished" in capsys.readouterr().out
    assert [(folder / job.folder / RESULT).stat().st_mtime_ns for job in jobs] == before


def test_quantities_and_figures_follow_from_the_results(ran):
    spec, _, _, results = ran
    code = spec.code()
    known = code.quantities(spec, "tiny", json.loads(json.dumps(results)))
    assert known
    for name, estimate in known.items():
        if " / " not in name and math.isfinite(estimate.lo):
            assert estimate.lo <= estimate.value <= estimate.hi, name
    for table in code.tables(spec, {"tiny": results}).values():
        assert table.startswith("| ")
    assert code.figures(spec, {"tiny": results}) == []  # figures are drawn of real runs alone


def test_a_dry_run_tells_the_cost_and_runs_nothing(ran, capsys, monkeypatch, tmp_path):
    spec, jobs, _, _ = ran
    monkeypatch.setenv("ASSAY_RUNS", str(tmp_path))
    only = jobs[0].method + "/"
    assert main([spec.paper, "--tier", "tiny", "--dry-run", "--only", only]) == 0
    assert "of wall time" in capsys.readouterr().out
    assert not list(tmp_path.rglob("*.json"))


@pytest.mark.parametrize("centred", [True, False])
def test_noise_beside_counts_gives_the_effective_noise_asked_for(centred):
    sigma = gradient_noise(0.8, 8.0, centred=centred)
    assert sigma > 0.8
    assert effective_noise(sigma, count_noise=8.0, centred=centred) == pytest.approx(0.8)


def test_fewer_epochs_get_the_noise_that_gives_the_same_epsilon():
    plan = {
        "training": {"epochs": 5, "batch_size": 100},
        "privacy": {"noise_multiplier": 1.2, "epochs": 20, "delta": 1e-5},
    }
    sigma = effective_noise_multiplier(plan, 5000)
    common = {"sample_rate": 0.02, "delta": 1e-5}
    shorter = epsilon(noise_multiplier=sigma, steps=250, **common)
    longer = epsilon(noise_multiplier=1.2, steps=1000, **common)
    assert sigma < 1.2
    assert shorter == pytest.approx(longer, rel=1e-3)


def test_a_failed_job_is_told_and_can_be_repeated(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("ASSAY_RUNS", str(tmp_path))
    read = datasets.read

    def broken(wanted):
        raise datasets.DataError("The file is damaged.")

    only = ["gradient-misalignment", "--tier", "tiny", "--workers", "0", "--only", "dpsgd/seed-0"]
    monkeypatch.setattr(datasets, "read", broken)
    assert main(only) == 1
    assert "The file is damaged" in capsys.readouterr().out
    monkeypatch.setattr(datasets, "read", read)
    assert main(only) == 0


def test_an_unknown_paper_is_a_usage_error(capsys):
    assert main(["gradient-misalignmnt", "--dry-run"]) == 2
    assert "gradient-misalignment" in capsys.readouterr().err
