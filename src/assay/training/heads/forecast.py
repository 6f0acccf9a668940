"""What training a head will cost, from a short timing probe; nothing is written."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from ...data.dataset import Dataset
from ...data.dense.dataset import DenseDataset
from ...subjects.encoders import Encoder
from ..dry_run import Forecast
from .course import Course, new_head
from .features import FeatureStore, cache_features
from .fit import resolved, space_of
from .references import References
from .settings import HeadSettings, HeadTask, dense

PROBES = 3
IMAGES = 16
_GIB = 2**30


def forecast_head(
    encoder: Encoder,
    data: DenseDataset | Dataset,
    *,
    task: HeadTask | str,
    settings: HeadSettings | None = None,
    validation: DenseDataset | Dataset | None = None,
    seed: int = 0,
) -> Forecast:
    """Estimate the cost of :func:`train_head` with the same arguments on this machine.

    Steps are those of the head, passes those of the encoder.

    Cost: four passes of the encoder over 16 images, and four steps of the head.
    """
    some = dense(data).subset(np.arange(min(IMAGES, len(data))))
    purpose, chosen = resolved(encoder, data, task, settings)
    space = space_of(purpose, chosen)
    features = cache_features(encoder, some, space=space)
    encoding = _seconds(lambda: cache_features(encoder, some, space=space)) / len(some)
    references = References(some, purpose)
    head = new_head(features, references, purpose, chosen, seed=seed).to(encoder.device)
    course = Course(head, features, references, purpose, chosen, seed)
    batch = np.resize(np.flatnonzero(references.usable), chosen.batch_size or 1)
    course.step(batch, 0)
    stepping = _seconds(lambda: course.step(batch, 0))
    images = len(data) + (0 if validation is None else len(validation))
    steps = -(-len(data) // (chosen.batch_size or 1)) * (chosen.epochs or 1)
    seconds = encoding * images + stepping * steps
    return Forecast(steps, images, 0, seconds, (_space_needed(features, images),))


def _seconds(work: Callable[[], Any]) -> float:
    """The median time of a few repetitions."""
    found = []
    for _ in range(PROBES):
        started = time.perf_counter()
        work()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        found.append(time.perf_counter() - started)
    return statistics.median(found)


def _space_needed(features: FeatureStore, images: int) -> str:
    arrays = [array for array in (features.embedding, features.patches) if array is not None]
    size = sum(array.nbytes for array in arrays) / len(features) * images / _GIB
    return f"The features of {images:,} images take {size:.2f} GiB, in memory or in the folder of --cache."
