"""A small job on real digits that every training test shares."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import numpy as np
import pytest

from assay.data import Dataset, load_data
from assay.training import TrainSettings
from assay.training.batches import Batch
from assay.training.job import Recipe, make_job
from assay.training.loop import Session
from assay.training.state import TrainState


@pytest.fixture(scope="session")
def digits() -> Dataset:
    """100 training digits: with batches of 32 the last one is smaller."""
    return load_data("digits", split="train").head(100)


@pytest.fixture(scope="session")
def held_out() -> Dataset:
    """50 digits that are not trained on."""
    return load_data("digits", split="test").head(50)


@pytest.fixture(scope="session")
def digits_file(tmp_path_factory: pytest.TempPathFactory, digits: Dataset, held_out: Dataset) -> Path:
    """The same digits as an archive, for processes that need not wait for scikit-learn."""
    path = tmp_path_factory.mktemp("data") / "digits.npz"
    train, test = digits, held_out
    np.savez(path, x_train=train.images(), y_train=train.labels, x_test=test.images(), y_test=test.labels)
    return path


Ready = Callable[..., AbstractContextManager[tuple[TrainState, Batch]]]


@pytest.fixture
def ready(digits: Dataset) -> Ready:
    """``ready(recipe, network=..., data=...)``: a state and the first batch, about to take a step."""

    @contextmanager
    def make(
        recipe: Recipe | str, network: str | None = "mlp", data: Dataset = digits, **changes: object
    ) -> Iterator[tuple[TrainState, Batch]]:
        settings = TrainSettings(epochs=2, batch_size=16, **changes)
        session = Session.of(make_job(recipe, data=data, network=network, settings=settings))
        with session.prepared() as state:
            state.begin_step()
            yield state, next(session.batches().epoch(0))

    return make
