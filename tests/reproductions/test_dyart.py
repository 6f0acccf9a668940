"""Counts of boundary points, and the shares and differences that follow from them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from reproductions.dyart import counts
from reproductions.dyart.drawing import Drawn
from reproductions.dyart.measure import Dynamics
from reproductions.spec import Job, load_spec

PLAN = {"bins": [0, 0.1, "1/5", 0.4], "radius": 0.2, "r0": "2/5", "budgets": [0.1]}
TITLES = {"adversarial": "PGD-AT", "dyart": "DyART"}


def moment(closer, margins=(10, 10, 20, 50), *, wrong=8, unfound=2):
    return {"epoch": 1.0, "wrong": wrong, "unfound": unfound, "margins": list(margins), "closer": closer}


def row(method, seed, moments, *, robust=(50, 100)):
    return {
        "experiment": "mnist",
        "method": method,
        "seed": seed,
        "correct": [90, 100],
        "robust": {"0.1": list(robust)},
        "moments": moments,
    }


def test_conflict_counts_points_below_the_radius_over_all_moments():
    moments = [moment({"own": [5, 4, 1, 40]}), moment({"own": [1, 0, 9, 40]}, (10, 0, 20, 50), wrong=2)]
    known = counts.by_seed([row("dyart", 0, moments)], PLAN)
    found = {name: seeds[0].value for name, seeds in known["dyart"].items()}
    assert found["conflict"] == pytest.approx(10 / 30)
    assert found["conflict/1"] == pytest.approx(9 / 20)
    assert found["conflict/2"] == pytest.approx(1 / 10)
    assert found["conflict/r0"] == pytest.approx(20 / 70)
    assert found["within/first"] == pytest.approx(48 / 100)
    assert found["within/last"] == pytest.approx(32 / 84)
    assert found["within/fell"] == pytest.approx(48 / 100 - 32 / 84)
    assert found["vulnerable/fell"] == pytest.approx(28 / 100 - 12 / 84)
    assert found["wrong/last"] == pytest.approx(2 / 84)


def test_losses_at_the_same_weights_have_names_of_their_own():
    moments = [moment({"own": [5, 4, 1, 40], "dyart": [1, 2, 3, 4]})]
    known = counts.by_seed([row("adversarial", 0, moments)], PLAN)
    assert known["adversarial@adversarial"]["conflict"] == known["adversarial"]["conflict"]
    assert known["dyart@adversarial"]["conflict"][0].value == pytest.approx(3 / 20)
    assert "dyart" not in known


def test_a_moment_without_vulnerable_points_has_no_share():
    moments = [moment({"own": [0, 0, 1, 40]}, (0, 0, 20, 50)), moment({"own": [1, 0, 9, 40]})]
    known = counts.by_seed([row("dyart", 0, moments)], PLAN)["dyart"]
    assert "conflict/1" not in known
    assert known["conflict"][0].n == 20


def test_differences_are_taken_seed_by_seed():
    spec = load_spec("dyart")
    plan = spec.experiment("cpu", "mnist")["measure"]
    bins = len(plan["bins"])
    rows = []
    for seed, (ours, theirs) in enumerate([(10, 30), (30, 50), (50, 70)]):
        for method, share in (("dyart", ours), ("adversarial", theirs)):
            one = moment({"own": [share] + [0] * (bins - 1)}, [100] + [0] * (bins - 1))
            rows.append(row(method, seed, [one]))
    found = spec.code().quantities(spec, "cpu", rows)
    apart = found["mnist/adversarial - dyart/conflict"]
    assert (apart.value, apart.n) == (pytest.approx(0.2), 3)
    assert found["mnist/dyart/conflict"].value == pytest.approx(0.3)


def test_figures_name_every_bin_and_add_up():
    moments = [moment({"own": [5, 4, 1, 40]}), moment({"own": [1, 0, 9, 40]})]
    rows = [row(method, seed, moments) for method in TITLES for seed in (0, 1)]
    drawn = Drawn("mnist", "MNIST", PLAN, TITLES, rows, "")
    assert drawn.bins == ("0–0.1", "0.1–1/5", "1/5–0.4", "> 0.4")
    closer, away = drawn.stacked()[1].series
    assert np.add(closer.y, away.y).tolist() == [10, 10, 20, 50]
    own, shared = drawn.by_margin()
    assert own.series[1].y == pytest.approx((6 / 20, 4 / 20, 10 / 40, 80 / 100))
    assert [series.label for series in shared.series] == ["PGD-AT"]
    assert drawn.by_moment().series[0].x == (0.5, 1.0)


def test_pixels_of_255_are_named_short():
    plan = {**PLAN, "bins": [0, "4/255", "8/255"]}
    assert Drawn("cifar10", "", plan, {}, [], "").bins == ("0–4/255", "4–8/255", "> 8/255")


def test_the_same_samples_at_every_moment_and_others_for_another_seed():
    from assay.data import load_data

    data = load_data("digits", split="train")
    plan = {"measure": {"flow": 20, "points": 10}, "training": {"batch_size": 100}}
    first, again, other = (
        Dynamics(Job("mnist", "dyart", seed, plan), None, data).part.sample_ids.tolist() for seed in (0, 0, 1)
    )
    assert first == again
    assert first != other
    assert len(set(first)) == 20


def test_margins_fall_into_their_bins():
    dynamics = Dynamics.__new__(Dynamics)
    dynamics.plan = {"bins": [0, "8/255", 0.1]}
    assert dynamics._binned(torch.tensor([0.01, 0.03, 0.05, 0.1, 7.0])) == [2, 1, 2]
