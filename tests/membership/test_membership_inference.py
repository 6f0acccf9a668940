"""The probe: what it needs, what it says where something is missing, and that it finds what a model learnt by heart."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from assay import load_data
from assay.core.errors import SettingError
from assay.core.files import read_json, to_json, write_atomic
from assay.core.settings import build
from assay.membership.examined import sides_of
from assay.membership.membership_inference import MembershipInference
from assay.membership.trained_as import Training, stated_epsilon, trained_as, training_data
from assay.subjects import Target, load_target
from assay.subjects.examination import Examination
from assay.training import TrainSettings, train

SETTINGS = build(TrainSettings, {"epochs": 1, "batch_size": 64})
FEW = {"shadows": 4, "attacks": ("lira", "loss"), "mocks": 2, "fprs": (0.05,)}


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Target:
    folder = tmp_path_factory.mktemp("model") / "run"
    train(
        "standard", network="linear", data=load_data("digits", split="train", limit=80), settings=SETTINGS, out=folder
    )
    return load_target(f"run:{folder}")


def examination(target: Target, **more: object) -> Examination:
    return Examination(target=target, data=load_data("digits", split="test", limit=40), **more)  # type: ignore[arg-type]


def test_a_training_on_built_in_data_needs_nothing_else(target: Target, tmp_path: Path) -> None:
    result = build(MembershipInference, FEW).measure(examination(target, work=tmp_path / "pools"))
    assert not result.not_applicable
    member = result.samples["member"]
    assert (int(member.sum()), int((~member).sum())) == (80, 450), "all of the split serves, not the first 40 only"
    assert len(set(result.samples["sample_id"].tolist())) == 530
    told = {finding.code: finding.message for finding in result.findings}
    assert "450 records" in told["non-members"]
    assert "the 40 that" in told["non-members"]
    assert "4 models" in told["small-pool"]
    [pool] = (tmp_path / "pools").iterdir()
    record = read_json(pool / "pool.json")
    assert (record["network"], record["models"], record["training"]["epochs"]) == ("linear", 4, 1)
    again = build(MembershipInference, FEW).measure(examination(target, work=tmp_path / "pools"))
    np.testing.assert_array_equal(again.samples["score_lira"], result.samples["score_lira"])


def test_a_model_from_elsewhere_is_not_judged() -> None:
    other = load_target("network:linear", image_shape=(1, 8, 8))
    result = build(MembershipInference, FEW).measure(examination(other))
    assert "without the record of its training" in result.not_applicable
    assert "assay members audit --model" in result.not_applicable


def test_data_that_are_the_training_data_cannot_serve_as_others(target: Target) -> None:
    seen = Examination(target=target, data=load_data("digits", split="train", limit=50))
    assert "50 of 50 non-members" in build(MembershipInference, FEW).measure(seen).not_applicable


def test_a_training_that_took_too_long_is_not_repeated(target: Target) -> None:
    sides = sides_of(examination(target), None, "train", shadows=4, seconds=1e-6)
    assert isinstance(sides, str)
    assert "4 shadow models would take" in sides
    assert not isinstance(sides_of(examination(target), None, "train", shadows=4, seconds=1e6), str)


def test_members_that_are_named_are_pinned_and_compared(target: Target, tmp_path: Path) -> None:
    data = load_data("digits", split="train", limit=60)
    path = tmp_path / "train.npz"
    np.savez(path, images=data.images()[:, 0], labels=data.labels)
    asked = build(MembershipInference, {**FEW, "members": str(path)})
    assert asked.members_digest == load_data(str(path)).digest
    sides = sides_of(examination(target), asked.members, asked.members_split, shadows=4)
    assert not isinstance(sides, str)
    assert sides.universe.members == 60
    assert "other-training-data" in {finding.code for finding in sides.findings}
    with pytest.raises(SettingError, match="other"):
        build(MembershipInference, {**FEW, "members": str(path), "members_digest": "0" * 32})


def test_the_record_of_a_training_says_how_it_was(target: Target, tmp_path: Path) -> None:
    known = trained_as(target.folder)
    assert isinstance(known, Training)
    assert (known.network, known.settings.epochs, known.settings.batch_size) == ("linear", 1, 64)
    data = training_data(known)
    assert data is not None
    assert len(data) == 80
    assert target.folder is not None
    record = read_json(target.folder / "run.json")
    record["data"]["digest"] = "0" * 32
    record["settings"]["resolved"]["training"]["select"] = "accuracy"
    write_atomic(tmp_path / "run.json", to_json(record))
    changed = trained_as(tmp_path)
    assert isinstance(changed, Training)
    assert training_data(changed) is None
    assert changed.settings.select == "last"
    assert "chosen by the validation metric" in changed.remarks[0]
    record["method"]["name"] = "my-own"
    write_atomic(tmp_path / "run.json", to_json(record))
    assert "outside Assay" in str(trained_as(tmp_path))


def test_the_stated_epsilon_is_the_smallest_valid_bound(tmp_path: Path) -> None:
    assert stated_epsilon(tmp_path) is None
    spent = {"rdp": 3.0, "prv": 2.5, "gdp": 1.0}
    write_atomic(tmp_path / "privacy.json", to_json({"epsilon": spent, "delta": 1e-5}))
    assert stated_epsilon(tmp_path) == (2.5, 1e-5), "gdp is an approximation and no bound"
    write_atomic(tmp_path / "privacy.json", to_json({"epsilon": {"not_valid": "shuffled"}, "delta": 1e-5}))
    assert stated_epsilon(tmp_path) is None


def test_settings_are_checked_at_once() -> None:
    for wrong in ({"attacks": ("lyra",)}, {"queries": 3, "augment": "none"}, {"shadows": 1}, {"fprs": (1.0,)}):
        with pytest.raises(SettingError):
            build(MembershipInference, wrong)
