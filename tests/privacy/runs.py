"""Private runs made by hand: a folder as ``assay train dp-sgd`` leaves it, without the training."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file

from assay.data.dataset import Dataset
from assay.subjects.examination import Examination
from assay.subjects.loaders import load_target

SIDE, CLASSES = 3, 3


def three_classes(count: int = 60, *, seed: int = 0, groups: bool = False) -> Dataset:
    """Images whose brightest row tells the class, with noise; groups are "b" and "a" by turns."""
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % CLASSES
    images = 0.4 * rng.random((count, 1, SIDE, SIDE), dtype=np.float32)
    images[np.arange(count), 0, labels] += 0.5
    names = ["b" if i % 2 else "a" for i in range(count)] if groups else None
    return Dataset.from_arrays(images, labels, class_names=("p", "q", "r"), groups=names, layout="NCHW")


def weights(scale: float = 1.0, seed: int = 0) -> dict[str, torch.Tensor]:
    """Weights of the reference network "linear"."""
    generator = torch.Generator().manual_seed(seed)
    return {
        "1.weight": scale * torch.randn(CLASSES, SIDE * SIDE, generator=generator),
        "1.bias": torch.zeros(CLASSES),
    }


def answering(scale: float = 4.0) -> dict[str, torch.Tensor]:
    """Weights that read the brightest row: right on every image."""
    rows = torch.eye(CLASSES).repeat_interleave(SIDE, dim=1)
    return {"1.weight": scale * rows, "1.bias": torch.zeros(CLASSES)}


def private_run(
    folder: Path,
    *,
    model: dict[str, torch.Tensor] | None = None,
    snapshots: int = 0,
    private: bool = True,
    data: Dataset | None = None,
    training: dict[str, Any] | None = None,
    **changes: Any,
) -> Path:
    """A finished run; ``changes`` replace entries of ``privacy.json``."""
    folder.mkdir(parents=True)
    save_file(model or weights(), folder / "model.safetensors")
    about = {
        "network": "linear",
        "in_channels": 1,
        "num_classes": CLASSES,
        "image_size": [SIDE, SIDE],
        "mean": [0.5],
        "std": [0.5],
        "bounds": [0, 1],
    }
    (folder / "model.json").write_text(json.dumps(about))
    run = {
        "settings": {
            "resolved": {"training": {"learning_rate": 0.2, "optimizer": "sgd", "momentum": 0.0} | (training or {})}
        },
        "data": {"digest": data.digest if data is not None else None},
    }
    (folder / "run.json").write_text(json.dumps(run))
    entries = []
    for number in range(snapshots):
        name = f"snapshots/step-{10 * number}.safetensors"
        (folder / "snapshots").mkdir(exist_ok=True)
        save_file(weights(seed=number), folder / name)
        entries.append({"step": 10 * number, "file": name, "clip_state": {}, "learning_rate": 0.1})
    event = {"mechanism": "gaussian", "noise_multiplier": 1.0, "sample_rate": 0.1, "sampling": "poisson", "steps": 40}
    content = {
        "schema": 1,
        "recipe": "dp-sgd",
        "clip": {"clip": "flat", "clip_norm": 0.5, "upper_norm": 50.0, "state": {}},
        "noise_multiplier": 1.0,
        "effective_noise_multiplier": 1.0,
        "sample_rate": 0.1,
        "steps": 40,
        "delta": 1e-3,
        "epsilon": {"rdp": 1.0, "prv": 1.0, "gdp": 1.0},
        "ledger": {"schema": 1, "events": [event]},
        "statement": ["First sentence.", "Second sentence."],
        "secure": True,
        "sampling": "poisson",
        "backend": "vmap",
        "population": 60,
        "expected_batch_size": 6,
        "groups": "label",
        "snapshots": entries,
    }
    if private:
        (folder / "privacy.json").write_text(json.dumps(content | changes))
    return folder


def examined(folder: Path, data: Dataset, **more: Any) -> Examination:
    """The run's model on some data."""
    return Examination(target=load_target(f"run:{folder}", image_shape=data.shape), data=data, **more)


def found(measurement: Any) -> dict[str, Any]:
    """Metrics by label."""
    return {metric.label: metric for metric in measurement.metrics}


def codes(measurement: Any) -> dict[str, str]:
    """Severities of findings by code."""
    return {finding.code: finding.severity for finding in measurement.findings}
