"""``assay train`` for encoders: data without labels, and encoders by name."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from assay.cli.main import main
from assay.core.runs import load_run
from assay.subjects import encoder

FAST = ["--epochs", "1", "--batch-size", "16", "--limit", "16", "--no-progress"]
IMAGES = ["--data", "images.npz", "--images-key", "x"]


@pytest.fixture
def images(workplace: Path) -> Path:
    """An archive of 16 images without labels."""
    pixels = np.random.default_rng(0).integers(0, 256, (16, 16, 16, 3), dtype=np.uint8)
    np.savez(workplace / "images.npz", x=pixels)
    return workplace


@pytest.mark.usefixtures("images")
def test_train_an_encoder_and_harden_it(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["dino", *IMAGES, "--out", "enc", "--prototypes", "16", *FAST]
    assert main(["train", *words, "--dry-run"]) == 0
    shown = capsys.readouterr().out
    assert "DINO of resnet-micro on 16 samples: 1 steps" in shown
    assert "Nothing was written" in shown
    assert main(["train", *words]) == 0
    shown = capsys.readouterr().out
    assert "sample_effective_rank" in shown
    assert "assay evade --encoder enc --data images.npz" in shown
    hard = ["dense-deacl", "--encoder", "enc", *IMAGES, "--out", "hard", "--steps", "1", *FAST]
    assert main(["train", *hard, "--dry-run"]) == 0
    assert "Dense DeACL of enc on 16 samples" in capsys.readouterr().out
    assert main(["train", *hard]) == 0
    assert main(["train", *hard]) == 0
    run = load_run("hard")
    assert run.record["command"][:5] == ["assay", "train", "dense-deacl", "--encoder", "enc"]
    assert run.settings["encoder"] == encoder("enc").digest
    assert encoder("hard").dim == encoder("enc").dim


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["deacl", *IMAGES, "--out", "m"], "--encoder runs/dino"),
        (["deacl", *IMAGES, "--out", "m", "--encoder", "network:resnet-micr"], "Did you mean 'resnet-micro'"),
        (
            ["deacl", *IMAGES, "--out", "m", "--encoder", "network:resnet-micro", "--network", "mlp"],
            "leave the network",
        ),
        (["simsiam", *IMAGES, "--out", "m", "--network", "vit-tin"], "Did you mean 'vit-tiny'"),
        (["simsiam", *IMAGES, "--out", "m", "--group", "g"], "--group has no meaning"),
        (["simsiam", *IMAGES, "--out", "m", "--select", "accuracy", "--validation", "all"], "allowed: last"),
        (["simsiam", *IMAGES, "--out", "m", "--watch-boundary", "2"], "watch"),
    ],
)
def test_mistakes(words: list[str], sentence: str, images: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", *words, *FAST]) == 2
    assert sentence in capsys.readouterr().err
    assert not (images / "m").exists()


@pytest.mark.usefixtures("images")
def test_a_preset_without_a_network(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["deacl", *IMAGES, "--out", "m", "--encoder", "network:resnet-micro", "--preset", "published", *FAST]
    assert main(["train", *words, "--warmup-epochs", "0", "--precision", "fp32", "--dry-run"]) == 0
    shown = capsys.readouterr().out
    assert "DeACL of network:resnet-micro on 16 samples: 1 steps" in shown
    assert "2407.12588" in shown


def test_heads_are_listed_beside_the_recipes(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "--help"]) == 0
    assert "probe" in capsys.readouterr().out
