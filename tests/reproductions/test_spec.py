"""Specifications: tiers, the grid of jobs, and what identifies a job."""

from __future__ import annotations

import pytest

from assay.core.errors import SettingError
from reproductions.spec import Job, load_spec, merged, papers


def test_papers_are_found_by_folder_name():
    assert {"gradient-misalignment", "dp-cert"} <= set(papers())
    assert load_spec("gradient_misalignment").paper == "gradient-misalignment"
    with pytest.raises(SettingError, match="gradient-misalignment"):
        load_spec("gradient-misalignmnt")


@pytest.mark.parametrize("paper", papers())
def test_every_tier_has_jobs_and_no_two_share_a_folder(paper):
    spec = load_spec(paper)
    assert {"tiny", "cpu", "published"} <= set(spec.content["tiers"])
    for tier in spec.content["tiers"]:
        folders = [job.folder for job in spec.jobs(tier)]
        assert folders
        assert len(set(folders)) == len(folders)


@pytest.mark.parametrize("paper", papers())
def test_settings_of_every_job_are_ones_the_recipes_know(paper):
    from assay.core.methods import card, settings_of
    from assay.core.settings import build
    from assay.training import TrainSettings

    spec = load_spec(paper)
    for tier in spec.content["tiers"]:
        for job in (job for job in spec.jobs(tier) if "work" not in job.plan):
            build(TrainSettings, job.plan["training"])
            build(settings_of(card(job.plan["recipe"], "recipe")), job.plan["settings"])


def test_a_tier_changes_what_it_names_and_nothing_else():
    spec = load_spec("gradient-misalignment")
    cpu, published = (spec.experiment(tier, "mnist") for tier in ("cpu", "published"))
    assert cpu["network"] == "fair-cnn-stride2"
    assert published["network"] == "fair-cnn"
    same = {"data", "groups", "training", "privacy"}
    assert {name: cpu[name] for name in same} == {name: published[name] for name in same}
    assert [own["settings"] for own in cpu["methods"].values()] == [
        own["settings"] for own in published["methods"].values()
    ]


def test_jobs_by_name_and_by_seed():
    spec = load_spec("gradient-misalignment")
    names = [job.name for job in spec.jobs("cpu", only="mnist/dpsgd/", seeds=[7])]
    assert names == ["mnist/dpsgd/seed-7"]
    with pytest.raises(SettingError, match="tier"):
        spec.jobs("cpy")


def test_a_changed_plan_is_another_folder():
    job = Job("mnist", "dpsgd", 0, {"network": "a", "privacy": None})
    other = Job("mnist", "dpsgd", 0, {"network": "b", "privacy": None})
    assert job.folder != other.folder
    assert job.folder == Job("mnist", "dpsgd", 0, {"privacy": None, "network": "a"}).folder


def test_merging_does_not_touch_what_is_merged():
    base = {"a": {"b": [1], "c": 2}}
    found = merged(base, {"a": {"c": 3}, "d": {"e": 4}})
    found["a"]["b"].append(5)
    assert found == {"a": {"b": [1, 5], "c": 3}, "d": {"e": 4}}
    assert base == {"a": {"b": [1], "c": 2}}
