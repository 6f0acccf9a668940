"""A place to work in: a folder with a small model in it, and nothing else."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from assay import load_data

FACTORY = """
import torch

def build():
    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10))
"""

Shell = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="session")
def nearest_mean() -> dict[str, torch.Tensor]:
    """Weights of logits 2 m_k·x - |m_k|², the nearest class mean of the training digits."""
    train = load_data("digits", split="train")
    images = train.images().reshape(len(train), -1)
    means = np.stack([images[train.labels == k].mean(0) for k in range(10)])
    return {"1.weight": torch.from_numpy(2 * means), "1.bias": torch.from_numpy(-(means**2).sum(1))}


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, nearest_mean: dict[str, torch.Tensor]) -> Path:
    """The current folder: ``tiny_digits.py`` builds the model, ``tiny.safetensors`` holds its weights."""
    (tmp_path / "tiny_digits.py").write_text(FACTORY)
    save_file(nearest_mean, tmp_path / "tiny.safetensors")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def model() -> list[str]:
    """The flags that name the model."""
    return ["--model", "python:tiny_digits:build", "--weights", "tiny.safetensors", "--data", "digits"]


@pytest.fixture
def shell(workplace: Path) -> Shell:
    """``shell("audit", "--help")``: ``python -m assay`` as a user runs it."""

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "assay", *words]
        return subprocess.run(command, cwd=workplace, capture_output=True, text=True, timeout=300, check=False)

    return run
