"""What models answer to queries, and the answers of reference models and of a target put together for an attack."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from ...core.errors import DataError
from ...core.progress import Progress
from ...subjects.target import Target
from .checks import as_targets

if TYPE_CHECKING:
    from ..signals import Answers


def canary_answers(
    models: Sequence[Target | nn.Module], queries: Tensor, *, batch_size: int = 256, progress: Progress | None = None
) -> np.ndarray:
    """Logits of every model for every query, by the callers' own models in float32: [M, T, Q, K].

    Args:
        models: Targets, or modules that map raw images to logits.
        queries: [T, Q, C, H, W], such as ``Canaries.images``.
        batch_size: images at a time; does not change results.
        progress: where progress is shown.

    Raises:
        DataError, ModelError: what was given cannot be used.

    Cost: 1 forward pass a model and query.
    """
    if queries.ndim != 5 or not queries.numel():
        raise DataError(f"queries have shape {tuple(queries.shape)}; at least one query [T, Q, C, H, W] is needed.")
    subjects = as_targets(models, torch.ones(len(models), dtype=torch.bool), queries.shape[2:])
    images = subjects[0].check_images(queries.flatten(0, 1))
    shown, parts = progress or Progress(enabled=False), []
    with shown.task("answers to queries", total=len(subjects)) as bar:
        for subject in subjects.values():
            logits = subject.predict(images, batch_size=batch_size)
            parts.append(logits.reshape(*queries.shape[:2], -1).numpy())
            bar.advance()
    return np.stack(parts)


def answers_to(
    queries: Tensor, labels: Any, models: Sequence[Target | nn.Module], in_mask: Any, target: Target | nn.Module
) -> Answers:
    """The answers of reference models and of a target, ready to be scored (``lira``, ``offset``, ...).

    Args:
        queries: [T, Q, C, H, W].
        labels: the records' classes [T].
        models: the M reference models.
        in_mask: which of them saw which record [M, T] bool.
        target: the model under attack; none of the reference models.

    Raises:
        DataError, ModelError: what was given cannot be used; the target is one of the reference models.
    """
    from ..signals import answers_from

    for number, model in enumerate(models):
        if model is target or getattr(model, "model", model) is getattr(target, "model", target):
            raise DataError(
                f"The target is reference model {number} too: an attack that has the target among its references "
                "knows the answer. Leave it out of models and in_mask."
            )
    reference = canary_answers(models, queries)
    answered = canary_answers([target], queries)[0]
    return answers_from(reference, np.asarray(in_mask), answered, np.asarray(labels))
