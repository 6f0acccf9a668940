"""Canaries: jobs that share a pool, differences that are paired, and numbers that point the right way."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from assay.core.methods import card, settings_of
from assay.core.settings import build
from reproductions.canary import attacking, comparing, numbers, pools, showing
from reproductions.cli import main
from reproductions.job import needed
from reproductions.runner import gather, work_folder
from reproductions.spec import Job, Spec, load_spec


@pytest.fixture(scope="module")
def spec() -> Spec:
    return load_spec("canary")


def test_every_plan_can_be_built(spec: Spec) -> None:

    from assay.membership.canaries.settings import CanarySettings
    from assay.subjects.networks import NETWORKS
    from assay.training import TrainSettings

    kinds = set()
    for tier in spec.content["tiers"]:
        for job in spec.jobs(tier):
            kinds.add(job.plan["work"])
            if job.plan["work"] == "pool":
                build(settings_of(card(job.plan["recipe"], "recipe")), job.plan["settings"])
                build(TrainSettings, job.plan["training"])
                assert job.plan["network"] in NETWORKS
                assert job.plan["targets"] > 1
            if job.plan["work"] == "canary":
                build(CanarySettings, {**job.plan["canary"], "mode": job.plan["mode"]})
                assert job.plan["canary"]["queries"] == job.plan["queries"] or tier == "tiny"
    assert kinds == set(spec.code().WORK)


def test_attacks_have_the_references_of_their_pool_and_enough_other_records(spec: Spec) -> None:
    for tier in spec.content["tiers"]:
        jobs = {job.folder: job for job in spec.jobs(tier)}
        for job in jobs.values():
            if job.plan["work"] != "pool":
                pool = jobs[job.plan["needs"]["pool"]]
                assert max(job.plan["references"]) == pool.plan["references"], job.name
                assert job.plan["records"] <= pool.plan["data"]["limit"]
                assert tier == "tiny" or job.plan["records"] >= 2000  # half of them are no members


@pytest.fixture(scope="module")
def ran(spec: Spec, tmp_path_factory):
    """The tiny tier without the control: results by name, jobs by name, and the folder."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ASSAY_RUNS", str(tmp_path_factory.mktemp("runs")))
        assert main(["canary", "--tier", "tiny", "--workers", "0", "--only", "cifar10"]) == 0
        folder, jobs = work_folder("canary", "tiny"), spec.jobs("tiny", only="cifar10")
        results = gather(folder, jobs)
        yield {f"{row['experiment']}/{row['method']}": row for row in results}, {j.name: j for j in jobs}, folder


def test_scores_follow_from_the_answers_of_the_targets(ran) -> None:
    from assay.membership import lira_scores
    from assay.pools import Pool

    _, jobs, folder = ran
    job = jobs["cifar10/plain/seed-0"]
    pool = Pool.open(needed(job, folder / job.folder, "pool") / pools.POOL)
    data = pool.data.head(job.plan["records"])
    images = torch.from_numpy(np.array(data.images()))
    logits = np.stack([model.predict(images)[:, None].numpy() for model in pool.models()])
    with np.load(folder / job.folder / attacking.SCORES) as kept:
        scores = dict(kept)
    references = len(pool) - 2
    assert scores["one-online"].shape == (2, len(data))
    for target in range(2):
        for name, own in (("one-online", range(references)), ("one-online@4", range(4))):
            wanted = lira_scores(
                logits[list(own)], pool.in_mask[list(own), : len(data)], logits[references + target], data.labels
            )
            np.testing.assert_allclose(scores[name][target], wanted, rtol=1e-4, atol=1e-4)


def test_pairs_are_those_that_were_scored_on_the_same_records(ran) -> None:
    results, _, _ = ran
    assert "canary-online over one-online" in results["cifar10-canary/online"]["over"]
    assert "canary-online over augmented-online" in results["cifar10-canary/online"]["over"]
    assert "canary-offline over augmented-offline" in results["cifar10-canary/offline"]["over"]
    assert "canary-online over canary-online/queries-1" in results["cifar10-canary/online"]["over"]
    assert set(results["cifar10/plain"]["over"]) >= {"one-online over global-threshold", "one-online over one-offline"}
    assert not any("online over" in pair and "offline" in pair for pair in results["cifar10-canary/online"]["over"])


def test_numbers_are_named_by_what_they_are(spec: Spec, ran) -> None:
    results, _, _ = ran
    known = numbers.quantities(spec, "tiny", json.loads(json.dumps(list(results.values()))))
    assert known["cifar10/one-online@6/auc"] == known["cifar10/one-online/auc"]
    assert known["cifar10/canary-online/queries-2/auc"] == known["cifar10/canary-online/auc"]
    apart = known["cifar10/canary-online/auc"].value - known["cifar10/one-online/auc"].value
    assert known["cifar10/canary-online over one-online/auc"].value == pytest.approx(apart, abs=2e-5)
    auc = known["cifar10/one-online/auc"]
    below = known["cifar10/one-online/auc-below"]
    assert (below.lo, below.hi) == (numbers.NEAR - auc.hi, numbers.NEAR - auc.lo)
    assert [n for n, _ in showing._by_references(known, "cifar10", "one-offline")] == [4, 6]
    assert [n for n, _ in showing._by_queries(known, "cifar10", "offline")] == [1, 2]
    null = known["cifar10/one-online/null"]
    assert (known["cifar10/one-online/null-inside"].value > 0) == (null.lo < 0.5 < null.hi)


def test_a_difference_is_that_of_the_means_and_both_attacks_get_the_same_draws() -> None:
    from assay.membership.resampling import two_way

    rng = np.random.default_rng(0)
    member = rng.random((3, 400)) < 0.5
    weak = rng.normal(size=member.shape) + 0.5 * member
    strong = weak + member
    for statistic in ("auc", 0.05):
        found = comparing.two_way_difference(strong, weak, member, statistic)
        apart = two_way(strong, member, statistic).value - two_way(weak, member, statistic).value
        assert found.value == pytest.approx(apart)
        assert 0 < found.lo < found.value < found.hi
        same = comparing.two_way_difference(weak, weak.copy(), member, statistic)
        assert (same.value, same.lo, same.hi) == (0, 0, 0)


def test_the_interval_of_a_difference_covers_it() -> None:
    """Two attacks of the same strength: the interval of most trials holds zero."""
    rng, held = np.random.default_rng(1), 0
    for _ in range(20):
        member = rng.random((4, 200)) < 0.5
        both = [rng.normal(size=member.shape) + member for _ in range(2)]
        found = comparing.two_way_difference(*both, member, "auc")
        held += found.lo <= 0 <= found.hi
    assert held >= 17


def test_a_curve_is_the_mean_of_the_targets() -> None:
    from assay.core.roc import roc

    rng = np.random.default_rng(0)
    member = rng.random((2, 300)) < 0.5
    scores = rng.normal(size=member.shape) + member
    points = {point[0]: point[1] for point in comparing.curve(scores, member)}
    wanted = np.mean([roc(a, b).tpr_at(0.1) for a, b in zip(scores, member, strict=True)])
    assert points[0.1] == pytest.approx(wanted, abs=1e-5)
    assert points[1.0] == 1.0
    assert list(points.values()) == sorted(points.values())


def test_a_stopped_pool_goes_on(spec: Spec, ran, tmp_path) -> None:
    """A pool of which a model is missing trains that model alone, to the same weights."""
    import shutil

    _, jobs, folder = ran
    job: Job = jobs["cifar10-pool/pool/seed-0"]
    shutil.copytree(folder / job.folder, tmp_path / "pool")
    models = tmp_path / "pool" / pools.POOL / "models"
    before = {path.name: (path / "model.safetensors").read_bytes() for path in models.iterdir()}
    times = {path.name: (path / "model.safetensors").stat().st_mtime_ns for path in models.iterdir()}
    shutil.rmtree(models / "0003")
    pools.train(job, tmp_path / "pool")
    assert {path.name: (path / "model.safetensors").read_bytes() for path in models.iterdir()} == before
    new = {
        path.name for path in models.iterdir() if (path / "model.safetensors").stat().st_mtime_ns != times[path.name]
    }
    assert new == {"0003"}


def test_a_forecast_counts_what_is_done(spec: Spec) -> None:
    by_name = {job.name: job for job in spec.jobs("cpu")}
    few, seconds = attacking.forecast(by_name["cifar10/plain/seed-0"])
    more, longer = attacking.forecast(by_name["cifar10-canary/online/seed-0"])
    assert more > few
    assert longer > seconds
    steps, needed_seconds = pools.forecast(spec.jobs("tiny", only="cifar10-pool")[0])
    assert 8 * 3 <= steps / 2 <= 8 * 3 * 2
    assert needed_seconds > 0
