"""Closest boundary points: for every sample the nearest input at which the soft margin is zero."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, fields

import torch
from torch import Tensor

from ..core.errors import SettingError, did_you_mean
from ..core.probes import Cost, Finding
from ..core.progress import Progress
from ..core.seeds import seed as named_seed
from ..search.closest import ClosestPoints, closest_points
from ..search.objectives import targeted_margin
from ..subjects.target import SearchModel, Target
from ..tensors.norms import NORMS, step_onto_hyperplane
from ..tensors.norms import norm as norm_of
from ..tensors.random import sample_seeds, uniform
from .margin import check_temperature, soft_margin

NEARER = 1e-4
CPU_BATCH = 64  # more rows at once leave the cache, and a pass of each gets up to half as slow again


@dataclass
class BoundaryPoints:
    """Closest boundary points; every tensor in the order of the samples given, on the CPU.

    Args:
        points: x̂ [N, ...]; the clean image where nothing was found.
        distance: ||x̂ - x||, an upper bound of the true distance [N]; inf where nothing was found.
        signed_margin: R, the distance, negative where φ(x) < 0 [N]; +inf or -inf where nothing was found.
        found: [N] bool.
        residual: |φ(x̂)| by the caller's model in float32 [N]; inf where nothing was found.
        correct: the model's class is the label [N] bool. Where φ is soft, a correct sample may have φ(x) < 0.
        clean_value: φ(x) [N].
        slope: dual norm of ∇φ at x̂ [N]; nan where nothing was found.
        alignment: how well the optimality (KKT) condition holds at x̂ [N] in [0, 1]; see
            :class:`assay.search.closest.ClosestPoints`.
        cost: passes of one sample, and seconds.
        findings: signs that the numbers cannot be trusted.
    """

    points: Tensor
    distance: Tensor
    signed_margin: Tensor
    found: Tensor
    residual: Tensor
    correct: Tensor
    clean_value: Tensor
    slope: Tensor
    alignment: Tensor
    cost: Cost
    findings: list[Finding] = field(default_factory=list)


def closest_boundary_points(
    target: Target,
    images: Tensor,
    labels: Tensor,
    norm: str = "linf",
    temperature: float = 5.0,
    steps: int = 20,
    seed: int = 0,
    *,
    batch_size: int = 256,
    sample_ids: Sequence[int] | None = None,
    progress: Progress | None = None,
) -> BoundaryPoints:
    r"""The nearest point of each sample at which the soft margin is zero, from either side.

    x̂ = argmin ||x̂ - x|| subject to φ(x̂) = 0 and x̂ in the box: a scalar search in the manner of FAB on a private copy, a
    root search along the segment by the caller's own model, and a step along the linearised boundary
    (see ``assay.search.closest``). Where nothing is found, the search begins once more at a random point.

    Args:
        target: the model under examination; left as it is.
        images: raw inputs within the target's bounds [N, C, H, W].
        labels: class indices [N].
        norm: ``"linf"``, ``"l2"`` or ``"l1"``.
        temperature: sharpness β of the soft margin, above 0; ``math.inf`` gives the exact logit margin.
        steps: iterations of the search at most, from 1 up.
        seed: root of the random starts, which only samples need for which nothing was found.
        batch_size: samples in work at a time, at most 64 of them on a CPU; does not change results.
        sample_ids: names of the samples, N distinct integers; 0..N-1 if not given.
        progress: where progress is shown.

    Returns:
        A :class:`BoundaryPoints`.

    Raises:
        DataError, ModelError, SettingError: what was given cannot be used.

    Cost: at most ``steps + 3`` forward and backward passes and some 8 forward passes a sample; often half of the
    steps. The exact margin of more than two classes takes a forward and backward pass a wrong class more.

    Xu et al., Exploring and Exploiting Decision Boundary Dynamics for Adversarial Robustness (arXiv 2302.03015);
    Croce and Hein, Minimally distorted Adversarial Examples with a Fast Adaptive Boundary Attack (arXiv 1907.02044).

    >>> from assay.subjects.tasks import Classification
    >>> target = Target(lambda x: x.flatten(1), task=Classification(2))
    >>> there = closest_boundary_points(target, torch.tensor([0.8, 0.2]).reshape(1, 1, 1, 2), torch.tensor([0]))
    >>> round(float(there.signed_margin), 4)
    0.3
    """
    if norm not in NORMS:
        raise SettingError(f"norm is {norm!r}, which is not a norm Assay knows.{did_you_mean(norm, NORMS)}")
    check_temperature(temperature)
    for name, count in (("steps", steps), ("batch_size", batch_size)):
        if isinstance(count, bool) or not isinstance(count, int) or count < 1:
            raise SettingError(f"{name} is {count!r}; allowed: a whole number from 1 up.")
    started = time.perf_counter()
    images = target.check_images(images)
    labels = target.check_labels(labels, len(images))
    ids = list(range(len(images))) if sample_ids is None else [int(item) for item in sample_ids]
    if len(ids) != len(images) or len(set(ids)) != len(ids):
        raise SettingError(
            f"sample_ids has {len(ids)} names, {len(set(ids))} distinct, for {len(images)} samples; one distinct "
            "name each is needed."
        )
    shown = progress or Progress(enabled=False)
    size = min(batch_size, CPU_BATCH) if target.device.type == "cpu" else batch_size
    with target.undisturbed(), shown.task(f"closest boundary points {norm}", total=len(images)) as task:
        torch.manual_seed(named_seed(seed, "model"))
        seeker = _Seeker(target, norm, temperature, steps, seed)
        parts = []
        for rows in torch.arange(len(images)).split(size):
            parts.append(seeker(images[rows], labels[rows], [ids[row] for row in rows.tolist()]))
            task.advance(len(rows))
    found = _joined([there for there, _ in parts])
    logits = torch.cat([clean for _, clean in parts])
    value = soft_margin(logits, labels, temperature)
    return BoundaryPoints(
        points=found.points,
        distance=found.distance,
        signed_margin=torch.where(value < 0, -found.distance, found.distance),
        found=found.found,
        residual=torch.where(found.found, found.value.abs(), torch.inf),
        correct=logits.argmax(1) == labels,
        clean_value=value,
        slope=found.slope,
        alignment=found.alignment,
        cost=Cost(
            seconds=time.perf_counter() - started,
            forward=seeker.copy.forward_passes + seeker.judged,
            backward=seeker.copy.backward_passes,
        ),
        findings=[*target.findings, *_doubts(seeker.copy)],
    )


class _Seeker:
    """Searches batches of one target, and counts what the caller's own model was asked."""

    def __init__(self, target: Target, norm: str, temperature: float, steps: int, seed: int) -> None:
        self.target, self.norm, self.temperature, self.steps, self.seed = target, norm, temperature, steps, seed
        self.copy = target.search_copy()
        self.judged = 0

    def __call__(self, images: Tensor, labels: Tensor, ids: Sequence[int]) -> tuple[ClosestPoints, Tensor]:
        """Closest points, and the clean logits, on the CPU."""
        place = self.target.device
        centres, labels = images.to(place), labels.to(place)
        clean = self._logits(centres)
        margin = self._margin(clean, labels)
        found = self._search(centres, labels, margin, None)
        if math.isinf(self.temperature) and self.target.task.num_classes > 2:
            self._other_classes(found, centres, labels, margin)
        lost = (~found.found).nonzero()[:, 0]
        if len(lost):
            low, high = self.target.bounds
            seeds = sample_seeds(self.seed, [ids[row] for row in lost.tolist()], "closest-boundary-point")
            start = low + (high - low) * uniform(seeds, centres.shape[1:]).to(place)
            self._again(found, centres, labels, margin, lost, start)
        return ClosestPoints(**{item.name: getattr(found, item.name).cpu() for item in fields(found)}), clean.cpu()

    def _other_classes(self, found: ClosestPoints, centres: Tensor, labels: Tensor, clean: Tensor) -> None:
        """Search from the class whose boundary, linearised at the clean input, is nearer than what was found.

        The exact margin only sees the class of the largest logit, which need not be the one of the nearest boundary.
        """
        rows = (clean > 0).nonzero()[:, 0]
        if not len(rows):
            return
        wrong = self.target.task.num_classes - 1
        ranks = torch.arange(1, wrong + 1, device=labels.device)
        targets = (labels[rows, None] + ranks) % (wrong + 1)
        pairs = torch.stack([labels[rows, None].expand_as(targets), targets], -1).reshape(-1, 2)
        repeated = centres[rows].repeat_interleave(wrong, 0)
        _, value, gradient = self.copy.value_and_gradient(repeated, lambda z, pair: targeted_margin(z, pair, 0), pairs)
        moves = step_onto_hyperplane(repeated, gradient, value, self.norm, self.target.bounds)
        reached = value + (gradient * moves).flatten(1).sum(1)
        length = torch.where(reached.abs() <= NEARER * value.abs(), norm_of(moves, self.norm), torch.inf)
        shortest = length.reshape(-1, wrong).argmin(1) + torch.arange(len(rows), device=rows.device) * wrong
        move = moves[shortest]
        nearer = (length[shortest] < (1 - NEARER) * found.distance[rows]).nonzero()[:, 0]
        if len(nearer):
            start = (centres[rows] + move)[nearer].clamp(*self.target.bounds)
            self._again(found, centres, labels, clean, rows[nearer], start)

    def _again(
        self, found: ClosestPoints, centres: Tensor, labels: Tensor, clean: Tensor, rows: Tensor, start: Tensor
    ) -> None:
        """Search these rows from other starts, and keep what is nearer."""
        again = self._search(centres[rows], labels[rows], clean[rows], start)
        better = (again.distance < found.distance[rows]).nonzero()[:, 0]
        for item in fields(found):
            getattr(found, item.name)[rows[better]] = getattr(again, item.name)[better]

    def _search(self, centres: Tensor, labels: Tensor, clean: Tensor, start: Tensor | None) -> ClosestPoints:
        return closest_points(
            self.copy,
            self._margin,
            centres,
            labels,
            norm=self.norm,
            bounds=self.target.bounds,
            steps=self.steps,
            value=lambda points, rows: self._margin(self._logits(points), labels[rows]),
            start=start,
            clean=clean,
        )

    def _margin(self, logits: Tensor, labels: Tensor) -> Tensor:
        return soft_margin(logits, labels, self.temperature)

    def _logits(self, points: Tensor) -> Tensor:
        self.judged += len(points)
        return self.target.logits(points)


def _joined(parts: Sequence[ClosestPoints]) -> ClosestPoints:
    return ClosestPoints(
        **{item.name: torch.cat([getattr(part, item.name) for part in parts]) for item in fields(ClosestPoints)}
    )


def _doubts(copy: SearchModel) -> list[Finding]:
    if not copy.broken_gradients:
        return []
    return [
        Finding(
            code="broken-gradients",
            severity="warning",
            message=f"{copy.broken_gradients} of {copy.backward_passes} input gradients held NaN or infinity; these "
            "entries counted as 0 in the search for closest boundary points.",
            remedy="Look for a division by zero or a square root of zero in the model's backward pass.",
            value=copy.broken_gradients / copy.backward_passes,
        )
    ]
