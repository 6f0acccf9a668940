"""What a training makes: how its network is built, validated and written; by default a classifier."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..subjects.loaders import load_target
from ..subjects.networks import build_network, reference
from ..subjects.tasks import Normalize

if TYPE_CHECKING:
    from torch import Tensor, nn

    from .job import Job
    from .state import TrainState
    from .validation import Validator


class Product:
    """A classifier, which is a reference network with one output a class; other products derive from it.

    Attributes:
        network: the name of the network that is trained where none is given.
        labelled: whether the training data need labels.
        reads: ``"images"`` or ``"texts"``, what the data must hold.
        measures: what validation measures that weights may be chosen by.
        examine: the command line that examines the result, for data of this name.
    """

    network = "small-cnn"
    labelled = True
    reads = "images"
    measures: tuple[str, ...] = ("accuracy", "loss", "robust_accuracy")
    examine = "assay audit --model run:{out} --data {data}"

    def check(self, job: Job) -> None:
        """Raise InputError for a network that is not known, or a job that this product has no place for."""
        reference(job.network)

    def build(self, job: Job) -> nn.Module:
        """The network with its first weights, from the global random state."""
        channels, height, width = job.data.shape
        return build_network(
            job.network, in_channels=channels, num_classes=job.data.num_classes, image_size=(height, width)
        )

    def preprocess(self, job: Job) -> nn.Module:
        """What stands between raw images and the network."""
        return Normalize(*job.normalization)

    def validator(self, job: Job, state: TrainState) -> Validator | None:
        """What measures the model after epochs and at the end; None: nothing does."""
        from .validation import Validator

        return None if job.validation is None else Validator(job, state, job.validation)

    def exported(self, weights: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """What is written as the model, of the weights of the network."""
        return weights

    def record(self, job: Job) -> dict[str, Any]:
        """What ``model.json`` holds: all that is needed to build the Target around the weights."""
        channels, height, width = job.data.shape
        mean, std = job.normalization
        return {
            "schema": 1,
            "network": job.network,
            "in_channels": channels,
            "num_classes": job.data.num_classes,
            "image_size": [height, width],
            "mean": mean,
            "std": std,
            "bounds": [0.0, 1.0],
            "class_names": list(job.data.class_names),
        }

    def describe(self, out: Path) -> Mapping[str, Any]:
        """The finished model, as a record says it."""
        return load_target(f"run:{out}").describe()
