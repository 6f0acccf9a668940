"""Canary queries: images close to a record that models which saw it answer differently from models which did not."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ...core.errors import DataError
from ...core.probes import Cost, Finding
from ...core.progress import Progress
from ...core.settings import build
from ...core.shards import Shards
from ...subjects.target import Target
from .checks import as_tensor
from .making import Making
from .settings import EPSILON, CanarySettings

FEW_MODELS = 8
FEW_RECORDS = 20


@dataclass(frozen=True, eq=False, kw_only=True)
class Canaries:
    """The queries of T records.

    Args:
        settings: how they were made.
        images: the queries [T, Q, C, H, W], float32, within ``settings.epsilon`` of the starts and within the bounds.
        starts: what they were made from, the record itself first [T, Q, C, H, W].
        first_loss: of each query over the models drawn first, where it starts [T, Q].
        loss: of each query over the models drawn last, where it is finished [T, Q].
        stopped: whether a query was finished early, at ``settings.stop_loss`` [T, Q] bool.
        findings: signs that the queries may be of little use.
        cost: passes of single images, and seconds.
    """

    settings: CanarySettings
    images: Tensor
    starts: Tensor
    first_loss: Tensor
    loss: Tensor
    stopped: Tensor
    findings: list[Finding] = field(default_factory=list)
    cost: Cost = field(default_factory=Cost)

    def __len__(self) -> int:
        return len(self.images)

    @property
    def distance(self) -> Tensor:
        """How far the queries of a record lie apart, see :func:`diversity`: [T]."""
        return diversity(self.images)

    @property
    def start_distance(self) -> Tensor:
        """The same of the starts [T]."""
        return diversity(self.starts)


def diversity(queries: Tensor) -> Tensor:
    """Mean root mean squared difference of the pixels of two queries of a record: [T, Q, ...] -> [T].

    0 where there is one query, or where all are equal.

    >>> diversity(torch.tensor([[[0.0, 0.0], [0.5, 0.5]]]))
    tensor([0.5000])
    """
    flat = queries.flatten(2).to(torch.float64)
    count = flat.shape[1]
    if count < 2:
        return torch.zeros(len(flat))
    total = torch.zeros(len(flat), dtype=torch.float64)
    for first in range(count - 1):
        apart = flat[:, first + 1 :] - flat[:, first : first + 1]
        total += apart.square().mean(2).sqrt().sum(1)
    return (total / (count * (count - 1) / 2)).to(torch.float32)


def optimise_canaries(
    models: Sequence[Target | nn.Module],
    in_mask: Tensor | np.ndarray,
    image: Tensor | np.ndarray,
    label: int,
    queries: int = 10,
    steps: int = 30,
    epsilon: float | str = EPSILON,
    mode: str = "online",
    objective: str = "target-logit",
    seed: int = 0,
    *,
    sample_id: int = 0,
    **options: Any,
) -> Tensor:
    """Queries for one record: the same as :func:`canary_queries` makes for it among others.

    Args:
        models: M reference models, Targets or modules that map raw images [B, C, H, W] to logits [B, K].
        in_mask: which models saw the record [M] bool.
        image: the record [C, H, W] in [0, 1].
        label: its class.
        queries: number of queries Q.
        steps: steps of the optimisation.
        epsilon: largest change of a pixel, such as ``"1/255"``.
        mode: ``"online"``, or ``"offline"`` without the models that saw the record.
        objective: see ``assay.membership.canaries.objectives``.
        seed: root of every random stream.
        sample_id: name of the record; its random streams depend on it.
        options: more of :class:`CanarySettings`.

    Returns:
        The queries [Q, C, H, W] in [0, 1].

    Raises:
        DataError, ModelError, SettingError: what was given cannot be used.

    >>> models = [nn.Sequential(nn.Flatten(), nn.Linear(4, 2)) for _ in range(4)]
    >>> mask = torch.tensor([True, True, False, False])
    >>> optimise_canaries(models, mask, torch.full((1, 2, 2), 0.5), 1, queries=3, steps=2).shape
    torch.Size([3, 1, 2, 2])
    """
    alone = as_tensor(image)
    mask = as_tensor(in_mask)
    if alone.ndim != 3:
        raise DataError(f"image has shape {tuple(alone.shape)}; one image [C, H, W] is needed. See canary_queries.")
    if mask.ndim != 1:
        raise DataError(f"in_mask has shape {tuple(mask.shape)}; for one record [M] is needed. See canary_queries.")
    return canary_queries(
        models,
        mask[:, None],
        alone[None],
        torch.as_tensor(label).reshape(1),
        queries=queries,
        steps=steps,
        epsilon=epsilon,
        mode=mode,
        objective=objective,
        seed=seed,
        sample_ids=[sample_id],
        **options,
    ).images[0]


def canary_queries(
    models: Sequence[Target | nn.Module],
    in_mask: Tensor | np.ndarray,
    images: Tensor | np.ndarray,
    labels: Tensor | np.ndarray | Sequence[int],
    *,
    seed: int = 0,
    sample_ids: Sequence[int] | None = None,
    block: int | None = None,
    shards: Shards | None = None,
    progress: Progress | None = None,
    **options: Any,
) -> Canaries:
    r"""Queries for T records at once: argmin over ||x - x_0||_inf <= ε of the mean loss over IN and OUT models.

    x_0 is an augmentation of the record (the record itself for the first query). Each step draws a few models
    for each record, from one random permutation of all of them, and moves x by Adam on the gradient through
    these; ``target-logit``, the default loss, is (z_y - 10)² for models that saw the record and z_y² for those that
    did not (Wen et al., Canary in a Coalmine, arXiv 2210.10750).

    Args:
        models: M reference models, Targets or modules that map raw images [B, C, H, W] to logits [B, K].
            They are copied when they are first drawn, and stay as they are.
        in_mask: which models saw which record [M, T] bool.
        images: the records [T, C, H, W], within the bounds of the models.
        labels: their classes [T].
        seed: root of every random stream.
        sample_ids: names of the records, T distinct integers; 0..T-1 if not given. A record's random streams
            depend on its name and not on its neighbours.
        block: records in work at a time; chosen by the size of the images if not given. Does not change results.
        shards: a store that makes the work resumable, a block at a time.
        progress: where progress is shown.
        options: those of :class:`CanarySettings`: queries, steps, epsilon, mode, objective, shadows, ...

    Returns:
        A :class:`Canaries`.

    Raises:
        DataError, ModelError, SettingError: what was given cannot be used.

    Cost: ``steps`` + 1 forward and backward passes for each query and each of the ``shadows`` drawn, and M
    forward passes of one image.
    """
    started = time.perf_counter()
    making = Making(build(CanarySettings, options), models, in_mask, images, labels, seed, sample_ids)
    how, parts = making.how, []
    shown = progress or Progress(enabled=False)
    with shown.task(f"canaries, {how.mode}, {how.objective}", total=len(making.images) * making.looks) as bar:
        for rows in torch.arange(len(making.images)).split(making.block(block)):
            parts.append(making.kept(rows, shards, bar.advance))
    found = {name: torch.from_numpy(np.concatenate([part[name] for part in parts])) for name in parts[0]}
    forward, backward = making.copies.passes()
    return Canaries(
        settings=how,
        **found,
        findings=_findings(making, found),
        cost=Cost(seconds=time.perf_counter() - started, forward=forward + len(making.targets), backward=backward),
    )


def _findings(making: Making, found: dict[str, Tensor]) -> list[Finding]:
    """Signs that the queries may be of little use."""
    findings, how = [], making.how
    broken = making.copies.broken_gradients()
    if broken:
        findings.append(
            Finding(
                code="broken-gradients",
                severity="warning",
                message=f"{broken} gradients held NaN or infinity and were taken as 0.",
                remedy="Look for operations without a finite gradient in the models.",
                value=float(broken),
            )
        )
    kinds = [making.in_mask.sum(0), (~making.in_mask).sum(0)]
    fewest = min(int(counts.min()) for counts, wanted in zip(kinds, how.drawn, strict=True) if wanted)
    if fewest < FEW_MODELS:
        findings.append(
            Finding(
                code="few-models",
                severity="warning",
                message=f"A record has only {fewest} models of a kind to make its queries with; they fit these models "
                "and may not carry over to the one under attack.",
                remedy=f"Train more models; {FEW_MODELS} of each kind and more are better.",
                value=float(fewest),
            )
        )
    first, last = (float(found[name].mean()) for name in ("first_loss", "loss"))
    surely = len(found["loss"]) >= FEW_RECORDS or torch.equal(found["first_loss"], found["loss"])
    if how.epsilon and last >= first and surely:  # the models drawn differ, and with few records the means do by chance
        findings.append(
            Finding(
                code="no-progress",
                severity="warning",
                message=f"The mean loss went from {first:.4g} to {last:.4g}: the queries tell members from others no "
                "better than what they were made from.",
                remedy="Take more steps, a larger epsilon or another objective.",
                value=last - first,
            )
        )
    return findings
