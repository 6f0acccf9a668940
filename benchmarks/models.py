"""The networks that the benchmarks attack: a ResNet-14 (175k parameters), trained plainly and adversarially.

    python benchmarks/models.py          # trains both into benchmarks/.cache, about 15 minutes on two cores

Needs the JPEG CIFAR-10 of the shared data folder (ASSAY_DATA).
"""

from __future__ import annotations

import os
from pathlib import Path

import torch
from torch import Tensor, nn

from assay import Target, load_data
from assay.subjects import load_target
from assay.training import Adversarial, Standard, TrainSettings, train

CACHE = Path(__file__).resolve().parent / ".cache"
DATA = Path(os.environ.get("ASSAY_DATA", Path(__file__).resolve().parents[2] / "shared" / "data"))
RECIPES = {"plain": Standard(), "hardened": Adversarial(eps=8 / 255, steps=3, step_size=4 / 255)}


def images(count: int) -> tuple[Tensor, Tensor]:
    """The first test images and labels."""
    data = load_data(str(DATA / "cifar10_jpeg" / "test.parquet"), limit=count)
    return torch.from_numpy(data.images()), torch.from_numpy(data.labels)


def target(name: str) -> Target:
    """One of the two networks, trained if it is not there yet."""
    out = CACHE / name
    data = load_data(str(DATA / "cifar10_jpeg" / "train.parquet"), limit=10_000)
    plan = TrainSettings(epochs=5, batch_size=128, learning_rate=0.1, weight_decay=5e-4, schedule="cosine")
    train(RECIPES[name], data=data, network="resnet14", out=out, settings=plan, seed=0)
    return load_target(f"run:{out}")


class WithNormalisation(nn.Module):
    """The target as peers take it: one module from raw images to logits."""

    def __init__(self, subject: Target) -> None:
        super().__init__()
        assert isinstance(subject.model, nn.Module)
        self.preprocess = subject.preprocess or nn.Identity()
        self.model = subject.model

    def forward(self, points: Tensor) -> Tensor:
        """Logits."""
        return self.model(self.preprocess(points))


if __name__ == "__main__":
    for each in RECIPES:
        subject = target(each)
        test_images, labels = images(1000)
        right = (subject.predict(test_images).argmax(1) == labels).float().mean()
        print(f"{each}: accuracy {float(right):.3f} on 1000 test images")
