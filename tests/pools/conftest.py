"""A small pool on real digits that the tests of this room share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from assay.data import Dataset, load_data
from assay.pools import Pool
from assay.training import TrainSettings

BRIEF = TrainSettings(epochs=2, batch_size=32)
Planner = Callable[..., Pool]


@pytest.fixture(scope="session")
def digits() -> Dataset:
    """100 training digits."""
    return load_data("digits", split="train").head(100)


@pytest.fixture
def plan(tmp_path: Path, digits: Dataset) -> Planner:
    """Plans a pool of 4 linear networks, in a folder of the test; arguments change what is planned."""

    def make(name: str = "pool", **changes: Any) -> Pool:
        arguments = {
            "data": digits,
            "network": "linear",
            "settings": BRIEF,
            "models": 4,
            "seed": 7,
            "method": "sequential",
            **changes,
        }
        return Pool.plan(tmp_path / name, **arguments)

    return make


def weights(pool: Pool, *models: int) -> list[bytes]:
    """The weight files of models; of all if none are named."""
    return [(pool.path(m) / "model.safetensors").read_bytes() for m in models or range(len(pool))]
