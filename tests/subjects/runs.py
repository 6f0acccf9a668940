"""Finished trainings made by hand, without the training."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file


def linear_run(folder: Path, weights: np.ndarray, bias: np.ndarray) -> Path:
    """A folder as ``assay train`` leaves it, of the reference network "linear" on square grey images.

    Args:
        folder: is created.
        weights: [classes, side * side].
        bias: [classes].
    """
    folder.mkdir()
    tensors = {"1.weight": torch.from_numpy(weights).float(), "1.bias": torch.from_numpy(bias).float()}
    save_file(tensors, folder / "model.safetensors")
    side = math.isqrt(weights.shape[1])
    about = {
        "network": "linear",
        "in_channels": 1,
        "num_classes": len(weights),
        "image_size": [side, side],
        "mean": [0.0],
        "std": [1.0],
        "bounds": [0.0, 1.0],
    }
    (folder / "model.json").write_text(json.dumps(about))
    return folder
