"""What is measured of one training: accuracies under attack, and how the decision boundary moved on the way."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from assay.core.methods import card, settings_of
from assay.core.seeds import seed as named_seed
from assay.core.settings import build, number
from assay.data.dataset import Dataset
from reproductions.job import RUN
from reproductions.spec import Job

if TYPE_CHECKING:
    from assay.subjects.target import Target
    from assay.training.snapshots import Moment

OWN = "own"


def measure(job: Job, folder: Path, data: Dataset, test: Dataset) -> dict[str, Any]:
    """Clean and robust accuracy at the end, and margins and speeds at each moment that the training kept.

    ``correct`` [right, n] over all of the test set; ``robust`` [withstood, n] at each budget, by the standard attack
    on the first images of the test set; ``moments``: see :meth:`Dynamics.at`.
    """
    from assay.subjects import load_target
    from assay.training.snapshots import read_moments

    target = load_target(f"run:{folder / RUN}")
    right = target.predict(torch.from_numpy(test.images())).argmax(1).numpy() == test.labels
    withstood = robust(job, target, test)
    dynamics = Dynamics(job, target, data)
    moments = [dynamics.at(moment) for moment in read_moments(folder / RUN) if moment.step]
    return {"correct": [int(right.sum()), len(right)], "robust": withstood, "moments": moments}


def robust(job: Job, target: Target, test: Dataset) -> dict[str, list[int]]:
    """Samples that withstood the standard attack at each budget, and how many were attacked."""
    from assay.evasion import evaluate_grid
    from assay.search.threat import ThreatModel

    plan = job.plan["measure"]
    part = test.head(plan["images"])
    found = evaluate_grid(
        target,
        torch.from_numpy(part.images()),
        torch.from_numpy(part.labels),
        [ThreatModel("linf", eps) for eps in plan["budgets"]],
        attack="standard",
        seed=job.seed,
        sample_ids=part.sample_ids.tolist(),
        checks=False,
    )
    return {str(eps): [int(one.robust.sum()), len(part)] for eps, one in zip(plan["budgets"], found, strict=True)}


class Dynamics:
    """Margins and speeds of one training.

    The same samples at every moment, drawn anew for each seed: the gradient flow is that of the loss on ``flow`` of
    them, and the boundary is looked at around the first ``points`` of those.

    Args:
        job: the training; its plan says what is measured.
        target: the trained network; its weights are replaced by those of the moments.
        data: the training data.
    """

    def __init__(self, job: Job, target: Target, data: Dataset) -> None:
        self.job, self.target, self.plan = job, target, job.plan["measure"]
        draws = np.random.default_rng(named_seed(job.seed, "dynamics")).permutation(len(data))
        self.part = data.subset(draws[: self.plan["flow"]])
        self.images = torch.from_numpy(self.part.images())
        self.labels = torch.from_numpy(self.part.labels)
        self.steps_per_epoch = -(-len(data) // job.plan["training"]["batch_size"])

    def at(self, moment: Moment) -> dict[str, Any]:
        """One moment, as counts.

        Returns:
            ``epoch``; ``wrong``: samples misclassified; ``unfound``: classified correctly, but no boundary point was
            found; ``margins``: samples in each bin of their margin, the last of which has no end; ``closer``: for the
            gradient flow of the training's own loss (``own``) and those that the plan adds, how many of them see
            the boundary come closer (s < 0).
        """
        from assay.boundary import closest_boundary_points, relative_speed

        assert isinstance(self.target.model, nn.Module)
        self.target.model.load_state_dict(load_file(moment.file))
        count = self.plan["points"]
        labels = self.labels[:count]
        found = closest_boundary_points(
            self.target, self.images[:count], labels, "linf", steps=self.plan["steps"], seed=self.job.seed
        )
        inside = found.found & (found.signed_margin > 0)
        rows = inside.nonzero()[:, 0]
        margins = found.distance[rows]
        closer = {}
        for name, direction in self.flows(moment).items():
            speed = relative_speed(self.target, found.points[rows], labels[rows], direction, "linf")
            closer[name] = self._binned(margins[speed < 0])
        return {
            "epoch": moment.step / self.steps_per_epoch,
            "wrong": int((found.clean_value < 0).sum()),
            "unfound": int((~found.found & (found.clean_value >= 0)).sum()),
            "margins": self._binned(margins),
            "closer": closer,
        }

    def flows(self, moment: Moment) -> dict[str, dict[str, Tensor]]:
        """-∇_θ L of the training's own loss, and of the other losses in the plan, as they are after a burn-in."""
        from assay.training import TrainSettings
        from assay.training.flow import flow

        kinds = {OWN: (self.job.plan, moment.step)}
        settings = build(TrainSettings, self.job.plan["training"])
        last = self.steps_per_epoch * settings.epochs
        kinds |= {name: (other, last) for name, other in self.plan.get("flows", {}).items()}
        return {
            name: flow(
                recipe_of(plan),
                self.target,
                self.images,
                self.labels,
                step=step,
                steps_per_epoch=self.steps_per_epoch,
                seed=self.job.seed,
                sample_ids=self.part.sample_ids,
                settings=settings,
            )
            for name, (plan, step) in kinds.items()
        }

    @cached_property
    def _edges(self) -> np.ndarray:
        return np.array([*(number(edge) for edge in self.plan["bins"]), np.inf])

    def _binned(self, margins: Tensor) -> list[int]:
        return np.histogram(margins.numpy(), self._edges)[0].tolist()


def recipe_of(plan: Mapping[str, Any]) -> Any:
    """The recipe that a plan names, with its settings."""
    return build(settings_of(card(plan["recipe"], "recipe")), plan.get("settings", {}))
