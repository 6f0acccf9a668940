"""Segmentation and depth models of transformers, with their processor's normalisation inside the Target."""

from __future__ import annotations

from typing import Any

from ..core.errors import ModelError
from ..core.probes import Finding
from .dense_tasks import Depth, Segmentation
from .huggingface import own_preprocess, pretrained, short_name
from .target import Target
from .tasks import Normalize

DENSE = {
    "segmentation": ("AutoModelForSemanticSegmentation", "a semantic segmentation model"),
    "depth": ("AutoModelForDepthEstimation", "a depth estimation model"),
}


def load_dense_model(
    name: str,
    task: Segmentation | Depth | str,
    *,
    num_classes: int | None = None,
    bounds: tuple[float, float] = (0.0, 1.0),
    preprocess: Normalize | None = None,
    image_shape: tuple[int, int, int] | None = None,
) -> Target[Any]:
    """A transformers model for segmentation or depth from a folder or, by its id, from the hub or its cache.

    Code that comes with a model is never run.

    Args:
        name: a folder made by ``save_pretrained``, or an id.
        task: ``"segmentation"`` with the model's own number of classes, ``"depth"``, or a task with its options.
        num_classes: checked against the model if given.
        bounds: box of raw inputs; (0, 1) unless ``preprocess`` is given.
        preprocess: used in the place of the processor's normalisation.
        image_shape: (channels, height, width) of the images; the channels are checked.

    Raises:
        MissingExtra: transformers is not installed.
        ModelError: not found, damaged, incomplete, for another task, or with another number of classes.
    """
    kind = task if isinstance(task, str) else task.name
    auto, what = DENSE[kind]
    model = pretrained(auto, name, what=what)
    wanted = getattr(model.config, "num_channels", None)
    if image_shape is not None and wanted not in (None, image_shape[0]):
        raise ModelError(f"'hf:{name}' takes images with {wanted} channels, the data have {image_shape[0]}.")
    if isinstance(task, str):
        task = Segmentation(num_classes or int(model.config.num_labels)) if kind == "segmentation" else Depth()
    if isinstance(task, Segmentation) and task.num_classes != int(model.config.num_labels):
        raise ModelError(
            f"num_classes is {task.num_classes}, but the model {name!r} has {model.config.num_labels} outputs a pixel; "
            f"use {model.config.num_labels}, and masks with its class ids."
        )
    normalize, findings = own_preprocess(name, bounds=bounds, given=preprocess)
    short = short_name(name)
    target = Target(model, task=task, bounds=bounds, preprocess=normalize, name=short, source=f"hf:{short}")
    target.findings.extend(findings)
    if kind == "depth" and getattr(model.config, "depth_estimation_type", "metric") == "relative":
        target.findings.append(
            Finding(
                code="relative-depth",
                severity="warning",
                message=f"The model {name!r} predicts relative depth without a unit; errors in metres mean nothing.",
                remedy="Use a model that predicts metric depth.",
            )
        )
    return target
