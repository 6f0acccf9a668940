"""train_head: a head for one task on an encoder that stays as it is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ...core.errors import SettingError
from ...core.probes import Cost, Finding, Metric, Panels
from ...core.progress import Progress
from ...subjects.dense_tasks import Depth, Segmentation
from ...subjects.encoders import Encoder
from ...subjects.target import Target
from .course import Course, new_head
from .features import cache_features
from .modules import Head, Headed
from .references import References
from .settings import HeadSettings, HeadTask, dense, task_for

if TYPE_CHECKING:
    from ...core.runs import Run
    from ...data.dataset import Dataset
    from ...data.dense.dataset import DenseDataset


_UNTESTED = Finding(
    code="no-validation",
    severity="info",
    message="No validation data were given, so nothing was measured on images outside the training data.",
    remedy="Give validation data.",
)


@dataclass(eq=False, repr=False)
class TrainedHead:
    """An encoder with a head on it, ready to be examined.

    Args:
        encoder: what the head stands on, unchanged.
        head: the trained head.
        task: what it is for.
        settings: as used.
        seed: root of its first weights and of the order of images.
        losses: mean training loss of every epoch.
        metrics: on the validation data, with intervals over images; empty without such data.
        findings: what a reader should know.
        samples: columns of the validation images.
        panels: pictures of some of them.
        cost: passes through the encoder.
        run: the record, where a folder was given.
    """

    encoder: Encoder
    head: Head
    task: HeadTask
    settings: HeadSettings
    seed: int
    losses: list[float] = field(default_factory=list)
    metrics: list[Metric] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    samples: dict[str, np.ndarray] = field(default_factory=dict)
    panels: list[Panels] = field(default_factory=list)
    cost: Cost = field(default_factory=Cost)
    run: Run | None = None

    def __repr__(self) -> str:
        shown = ", ".join(f"{metric.name}={metric.value:.4g}" for metric in self.metrics)
        return f"TrainedHead({self.task.name} on {self.encoder.name}{', ' * bool(shown)}{shown})"

    @property
    def target(self) -> Target[Any]:
        """The whole pipeline, from raw images to the task's answer."""
        return Target(
            Headed(self.encoder.backbone, self.head).eval(),
            task=self.task,
            bounds=self.encoder.bounds,
            preprocess=self.encoder.preprocess,
            name=f"{self.encoder.name}+{self.task.name}",
            source=self.encoder.source,
        )


def train_head(
    encoder: Encoder,
    data: DenseDataset | Dataset,
    *,
    task: HeadTask | str,
    settings: HeadSettings | None = None,
    seed: int = 0,
    validation: DenseDataset | Dataset | None = None,
    cache: str | Path | None = None,
    out: str | Path | None = None,
    progress: Progress | None = None,
    command: Sequence[str] = (),
) -> TrainedHead:
    """Train a head for one task on the features of an encoder that stays as it is.

    Args:
        encoder: the encoder.
        data: a DenseDataset, or a Dataset for classification.
        task: the task, or its name: what else it needs is then taken from the data.
        settings: how; default: ``HeadSettings()``, the task's own defaults.
        seed: root of the first weights and of the order of images.
        validation: data of the same kind for the metrics.
        cache: folder for features, see :func:`cache_features`; None: they stay in memory.
        out: folder for the head and its record; the same call finds it there again.
        progress: where to show how far it is.
        command: what to type to repeat it, for the record.

    Cost: one forward pass of the encoder an image, and then those of the head.
    """
    options: dict[str, Any] = {"task": task, "validation": validation, "settings": settings}
    if out is None:
        return train_heads(encoder, data, **options, seeds=[seed], cache=cache, progress=progress)[0]
    from .store import finish, load_head, open_run

    options["task"], chosen = resolved(encoder, data, task, settings)
    run = {**options, "given": settings, "settings": chosen, "seed": seed, "command": command}
    with open_run(out, encoder, data, **run) as writer:
        if not writer.finished:
            [trained] = train_heads(encoder, data, **options, seeds=[seed], cache=cache, progress=progress)
            trained.run = finish(writer, trained, validation)
            return trained
    return load_head(out, encoder)


def train_heads(
    encoder: Encoder,
    data: DenseDataset | Dataset,
    *,
    task: HeadTask | str,
    seeds: Sequence[int],
    settings: HeadSettings | None = None,
    validation: DenseDataset | Dataset | None = None,
    cache: str | Path | None = None,
    progress: Progress | None = None,
) -> list[TrainedHead]:
    """One head for each seed, on features that are computed once; otherwise as :func:`train_head`."""
    if not seeds:
        raise SettingError("seeds is empty; at least one seed is needed, such as [0].")
    shown = progress or Progress(enabled=False)
    purpose, chosen = resolved(encoder, data, task, settings)
    references = References(dense(data), purpose)
    space = space_of(purpose, chosen)
    features = cache_features(encoder, data, space=space, folder=cache, progress=shown)
    heads = []
    for number in seeds:
        head = new_head(features, references, purpose, chosen, seed=number)
        course = Course(head.to(encoder.device), features, references, purpose, chosen, number)
        losses_by_epoch = course.run(shown)
        findings = [*encoder.findings, *references.findings()]
        cost = Cost(forward=features.computed)
        heads.append(TrainedHead(encoder, head, purpose, chosen, number, losses_by_epoch, findings=findings, cost=cost))
        features = features.reused()
    if validation is not None:
        from .quality import validate

        validate(heads, dense(validation), cache=cache, progress=shown)
    else:
        for trained in heads:
            trained.findings.append(_UNTESTED)
    return heads


def resolved(
    encoder: Encoder, data: DenseDataset | Dataset, task: HeadTask | str, settings: HeadSettings | None
) -> tuple[HeadTask, HeadSettings]:
    """The task and the settings as they will be used; ModelError where the encoder does not fit."""
    asked = settings or HeadSettings()
    purpose = task_for(task, data, max_depth=asked.farthest) if isinstance(task, str) else task
    if space_of(purpose, asked) != "global":
        encoder.grid(*data.shape[1:])
    if len(data):
        encoder.check_images(torch.from_numpy(data.images(np.arange(1))))
    return purpose, asked.resolved(purpose.name, encoder.patch)


def space_of(task: HeadTask, settings: HeadSettings) -> str:
    """The features that a head reads, see :class:`Head`."""
    if not isinstance(task, Segmentation | Depth):
        return "global"
    return "both" if settings.with_embedding else "patch"
