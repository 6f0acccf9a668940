"""A second model that the examined one is compared with, on the same samples."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ..core.errors import ModelError, SettingError
from ..core.files import checksum, read_bytes

if TYPE_CHECKING:
    from .examination import Examination
    from .target import Target

WITHOUT_FILE = ("hf:", "python:", "network:")


def pinned(spec: str | None, digest: str | None, *, name: str) -> str | None:
    """Checksum of the weights of a training that is named as a baseline; ``digest`` for any other model.

    It becomes part of a run's identity, so that a baseline that was trained again is never mistaken for the old one.

    Args:
        spec: the model, as ``--model`` takes it; None where there is no baseline.
        digest: what the settings say already.
        name: how the settings call the baseline, for messages: ``"Margins.baseline"``.

    Raises:
        SettingError: there is no finished training, or its weights are not those of ``digest``.
    """
    if spec is None or spec.startswith(WITHOUT_FILE):
        return digest
    weights = Path(spec.removeprefix("run:")) / "model.safetensors"
    if not weights.is_file():
        raise SettingError(
            f"{name} is {spec!r}, where there is no finished training (no {weights.name}). "
            "Give the folder of an 'assay train' run, or hf:FOLDER."
        )
    seen = checksum(read_bytes(weights))
    if digest not in (None, seen):
        raise SettingError(
            f"{name}_digest is {digest!r}, but the weights in {spec!r} have {seen!r}: this is another baseline. "
            "Leave the digest out to take it as it is."
        )
    return seen


def load_baseline(spec: str, examination: Examination) -> Target:
    """The baseline on the device of the examined model.

    Args:
        spec: the model, as ``--model`` takes it.
        examination: of the model it is compared with.

    Raises:
        ModelError, SettingError: it cannot be loaded, or answers another question.
    """
    from torch import nn

    from .loaders import load_target

    target = examination.target
    baseline = load_target(
        spec,
        image_shape=examination.data.shape,
        num_classes=target.task.num_classes if spec.startswith("python:") else None,  # a function cannot tell
        bounds=target.bounds,
    )
    if baseline.task.num_classes != target.task.num_classes:
        raise ModelError(
            f"The baseline {spec!r} tells {baseline.task.num_classes} classes apart, the examined model "
            f"{target.task.num_classes}; they must answer the same question."
        )
    if baseline.bounds != target.bounds:
        raise ModelError(
            f"The baseline {spec!r} takes raw values within {baseline.bounds}, the examined model within "
            f"{target.bounds}; distances can only be compared in the same units."
        )
    for module in (baseline.model, baseline.preprocess):
        if isinstance(module, nn.Module):
            module.to(target.device)
    return baseline
