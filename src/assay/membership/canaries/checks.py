"""What queries are made from, checked once: models that agree, a mask that fits, and enough models of each kind."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ...core.errors import DataError, ModelError
from ...subjects.dense_tasks import Embedding
from ...subjects.target import Target
from ...subjects.tasks import Classification


def as_tensor(values: Any) -> Tensor:
    """A tensor as it is; anything else is copied, for arrays may be read-only, as those of a pool are."""
    return values if isinstance(values, Tensor) else torch.as_tensor(np.array(values))


def check_shape(images: Any) -> Tensor:
    """Images as a tensor [T, C, H, W]."""
    tensor = as_tensor(images)
    if tensor.ndim != 4 or not tensor.numel():
        raise DataError(f"images have shape {tuple(tensor.shape)}; at least one image [T, C, H, W] is needed.")
    return tensor


def check_ids(sample_ids: Sequence[int] | None, count: int) -> list[int]:
    """Names of the records as distinct integers."""
    ids = list(range(count)) if sample_ids is None else [int(item) for item in sample_ids]
    if len(ids) != count or len(set(ids)) != count:
        raise DataError(
            f"sample_ids has {len(ids)} names, {len(set(ids))} distinct, for {count} records; one distinct name each "
            "is needed."
        )
    return ids


def check_mask(in_mask: Any, models: int, records: int) -> Tensor:
    """Which models saw which record as [M, T] bool."""
    mask = as_tensor(in_mask)
    if mask.dtype != torch.bool:
        raise DataError(f"in_mask is {mask.dtype}; True where a model saw a record and False elsewhere is needed.")
    if mask.shape != (models, records):
        raise DataError(
            f"in_mask has shape {tuple(mask.shape)} for {models} models and {records} records; ({models}, {records}) "
            "is needed: which model saw which record."
        )
    return mask.cpu()


def check_kinds(in_mask: Tensor, drawn: tuple[int, int], ids: Sequence[int]) -> None:
    """Raise DataError for a record with fewer models than a step draws."""
    for wanted, counts, kind in ((drawn[0], in_mask.sum(0), "saw it"), (drawn[1], (~in_mask).sum(0), "did not see it")):
        short = (counts < wanted).nonzero()[:, 0].tolist()
        if short:
            advice = "Use mode='offline', which needs none, or" if kind == "saw it" else "Leave the record out, or"
            raise DataError(
                f"Record {ids[short[0]]} has {int(counts[short[0]])} models that {kind}, and a step draws {wanted} "
                f"({len(short)} of {len(ids)} records have too few). {advice} train more models."
            )


def as_targets(models: Sequence[Any], used: Tensor, shape: Sequence[int]) -> dict[int, Target]:
    """The models that are used as Targets on one device, by number; ModelError says which does not fit the others.

    Args:
        models: Targets, or modules that map raw images in [0, 1] to logits.
        used: which models are used [M] bool; the others are not touched.
        shape: of one image [C, H, W].
    """
    found: dict[int, Target] = {}
    for number in used.nonzero()[:, 0].tolist():
        try:
            found[number] = _as_target(models[number], shape)
        except ModelError as error:
            raise ModelError(f"Model {number}: {error}") from error
    first, reference = next(iter(found.items()))
    for number, subject in found.items():
        for what, mine, other in (
            ("num_classes", subject.task.num_classes, reference.task.num_classes),
            ("bounds", subject.bounds, reference.bounds),
            ("device", subject.device, reference.device),
        ):
            if mine != other:
                raise ModelError(
                    f"Model {number} has {what} {mine} and model {first} has {what} {other}; all must have the same."
                )
    return found


def _as_target(model: Any, shape: Sequence[int]) -> Target:
    """A Target that has answered a blank image."""
    if isinstance(model, Target):
        if not isinstance(model.task, Classification):
            raise ModelError(f"{model.name!r} is for {model.task.name}; a classifier is needed.")
        _ask(model, shape)
        return model
    if not isinstance(model, nn.Module):
        raise ModelError(f"it is a {type(model).__name__}; a Target or a torch.nn.Module is needed.")
    answer = _ask(Target(model, task=Embedding()), shape)
    if answer.ndim != 2 or answer.shape[1] < 2:
        raise ModelError(f"it returned shape {tuple(answer.shape)} for one image; logits [1, K] are needed.")
    return Target(model, task=Classification(answer.shape[1]))


def _ask(subject: Target[Any], shape: Sequence[int]) -> Tensor:
    """The answer to a uniform grey image, which tells nothing of any record."""
    grey = torch.full((1, *shape), sum(subject.bounds) / 2)
    return subject.predict(grey)
