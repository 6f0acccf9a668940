"""Weights kept during a training: which, when, and what is made of damage."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file

from assay.core.errors import RunError
from assay.core.runs import load_run
from assay.data import Dataset
from assay.training import TrainSettings, forecast, train
from assay.training.snapshots import due, files, read_moments


@pytest.fixture
def watched(tmp_path: Path, digits: Dataset) -> Path:
    """8 steps of a linear model, watched every 3."""
    out = tmp_path / "m"
    train("standard", data=digits, network="linear", out=out, settings=plain(epochs=2, batch_size=32, watch=3))
    return out


def plain(**changes: object) -> TrainSettings:
    """SGD whose step is -learning_rate x gradient."""
    given = {"momentum": 0, "nesterov": False, "weight_decay": 0, "learning_rate": 0.25, **changes}
    return TrainSettings(**given)  # type: ignore[arg-type]


@given(every=st.integers(1, 12), total=st.integers(1, 40))
def test_every_moment_but_the_last_has_a_follower(every: int, total: int) -> None:
    names = files(every, total)
    assert len(set(names)) == len(names)
    steps = {int(name.split("-")[1].split(".")[0]) for name in names if ".next." not in name}
    followed = {int(name.split("-")[1].split(".")[0]) for name in names if ".next." in name}
    assert steps == {*range(0, total, every), total}
    assert followed == steps - {total}
    assert files(every, total, before=total + 1) == names


def test_nothing_is_kept_unless_asked_for(tmp_path: Path, digits: Dataset) -> None:
    assert files(0, 10) == due(0, 10, 0) == []
    train("standard", data=digits, network="linear", out=tmp_path / "m", settings=plain(epochs=1))
    assert not (tmp_path / "m/moments").exists()
    assert read_moments(tmp_path / "m") == []


def test_moments_are_the_weights_of_their_steps(watched: Path, tmp_path: Path, digits: Dataset) -> None:
    moments = read_moments(watched)
    assert [moment.step for moment in moments] == [0, 3, 6, 8]
    assert [moment.next_file is None for moment in moments] == [False, False, False, True]
    expected = [0.25 * 0.5 * (1 + torch.tensor(step / 8 * torch.pi).cos().item()) for step in (0, 3, 6, 8)]
    assert [moment.learning_rate for moment in moments] == pytest.approx(expected, abs=1e-7)
    last, model = load_file(moments[-1].file), load_file(watched / "model.safetensors")
    assert last.keys() == model.keys()
    assert all(torch.equal(last[name], model[name]) for name in model)
    train(
        "standard",
        data=digits,
        network="linear",
        out=tmp_path / "all",
        settings=plain(epochs=2, batch_size=32, watch=1),
    )
    every = {moment.step: moment.file for moment in read_moments(tmp_path / "all")}
    for moment in moments[:3]:
        assert moment.next_file is not None
        for mine, other in ((moment.file, every[moment.step]), (moment.next_file, every[moment.step + 1])):
            assert all(torch.equal(value, load_file(other)[name]) for name, value in load_file(mine).items())


def test_the_weight_average_is_not_what_is_kept(tmp_path: Path, digits: Dataset) -> None:
    train("standard", data=digits, network="linear", out=tmp_path / "m", settings=plain(epochs=2, ema=0.9, watch=4))
    last, model = load_file(read_moments(tmp_path / "m")[-1].file), load_file(tmp_path / "m/model.safetensors")
    assert not torch.equal(last["1.weight"], model["1.weight"])


def test_the_record_answers_for_them(watched: Path) -> None:
    kept = set(load_run(watched).record["files"])
    assert {str(path.relative_to(watched)) for path in (watched / "moments").iterdir()} <= kept


@pytest.mark.parametrize("name", ["step-3.safetensors", "step-3.next.safetensors"])
@pytest.mark.parametrize("how", ["cut", "flipped", "foreign"])
def test_damage_is_noticed(watched: Path, name: str, how: str) -> None:
    path = watched / "moments" / name
    content = bytearray(path.read_bytes())
    if how == "cut":
        content = content[:-9]
    elif how == "flipped":
        content[-5] ^= 1
    else:
        content = bytearray((watched / "model.safetensors").read_bytes())
    path.write_bytes(content)
    with pytest.raises(RunError, match=f"{name}.* damaged"):
        read_moments(watched)


def test_a_training_goes_on_only_with_what_it_kept(watched: Path, digits: Dataset) -> None:
    (watched / "moments/step-3.safetensors").unlink()
    settings = plain(epochs=2, batch_size=32, watch=3)
    with pytest.raises(RunError, match=r"step-3\.safetensors.* missing"):
        train("standard", data=digits, network="linear", out=watched, settings=settings)


def test_a_dry_run_tells_the_space_they_take(digits: Dataset) -> None:
    ahead = forecast("standard", data=digits, network="linear", settings=plain(epochs=2, batch_size=32, watch=3))
    assert ahead.outlook == ("Weights kept for 'assay dynamics': 7 files, about 0.0182 MB in all.",)
    assert forecast("standard", data=digits, network="linear", settings=plain(epochs=1)).outlook == ()
