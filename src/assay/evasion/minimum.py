"""Minimum norm: how far the nearest adversarial example of each sample lies."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from ..core.errors import SettingError, did_you_mean
from ..core.estimates import Estimate, quantile
from ..core.probes import Cost, Finding
from ..core.progress import Progress, Task
from ..core.seeds import seed as named_seed
from ..core.shards import Shards
from ..search.engine import Outcome
from ..search.objectives import margin
from ..search.threat import ThreatModel
from ..subjects.target import Target
from ..tensors.norms import NORMS
from ..tensors.norms import norm as norm_of
from . import sanity
from .evaluation import check_count, check_ids
from .fab import SCOUTING, FabTargeted
from .pgd import PGD
from .runner import Runner, Samples
from .stages import Stage

_LADDER = 8


@dataclass
class MinimumNorm:
    """Nearest adversarial examples; every tensor in the order of the samples given.

    Args:
        norm: ``"linf"``, ``"l2"`` or ``"l1"``.
        distance: norm of the smallest perturbation found [N]; 0 where misclassified already,
            inf where nothing was found. An upper bound of the true distance.
        adversarial: the points [N, ...]; the clean input where there is none.
        correct: classified correctly without an adversary [N] bool.
        found: whether ``distance`` is finite [N] bool.
        cost: passes of one sample, and seconds.
        findings: signs that the numbers cannot be trusted.
    """

    norm: str
    distance: Tensor
    adversarial: Tensor
    correct: Tensor
    found: Tensor
    cost: Cost
    findings: list[Finding] = field(default_factory=list)

    @property
    def median(self) -> Estimate:
        """Median distance over all samples, misclassified ones at 0, with a distribution-free interval."""
        return quantile(self.distance.numpy(), 0.5)

    def accuracy_within(self, eps: float) -> float:
        """Upper bound of the robust accuracy at a budget: the share of samples with distance above it."""
        return float((self.distance > eps).float().mean())


def minimum_norm(
    target: Target,
    images: Tensor,
    labels: Tensor,
    norm: str = "l2",
    *,
    steps: int = 100,
    targets: int = 9,
    seed: int = 0,
    batch_size: int = 256,
    sample_ids: Sequence[int] | None = None,
    checks: bool = True,
    shards: Shards | None = None,
    progress: Progress | None = None,
) -> MinimumNorm:
    """The distance from each sample to the nearest adversarial example found.

    min ||δ|| subject to the model being wrong at x + δ in the box. Targeted FAB
    (arXiv 1907.02044) against all targets for ten steps, then against the three nearest; the
    nearest points are moved to the boundary by bisection with the caller's own model, and twice
    projected onto its linearisation there. Where that finds nothing, gradient steps
    through growing budgets are tried.

    Args:
        target: the model under examination.
        images: raw inputs within the target's bounds [N, C, H, W].
        labels: class indices [N].
        norm: ``"linf"``, ``"l2"`` or ``"l1"``.
        steps: iterations of the search.
        targets: wrong classes tried, best-ranked first.
        seed: root of every random stream.
        batch_size: rows in work at a time; does not change results.
        sample_ids: names of the samples, N integers; 0..N-1 if not given.
        checks: look for reasons for doubt.
        shards: a store that makes the search resumable.
        progress: where progress is shown.

    Returns:
        A :class:`MinimumNorm`.

    Raises:
        DataError, ModelError, SettingError: what was given cannot be used.

    Cost: about ``3 * steps + 10 * targets`` forward and backward passes and some 50 forward passes a sample.

    >>> from assay.subjects.tasks import Classification
    >>> target = Target(lambda x: x.flatten(1), task=Classification(2))
    >>> found = minimum_norm(target, torch.tensor([0.8, 0.2]).reshape(1, 1, 1, 2), torch.tensor([0]), norm="linf")
    >>> round(float(found.distance), 3)
    0.3
    """
    if norm not in NORMS:
        raise SettingError(f"norm is {norm!r}, which is not a norm Assay knows.{did_you_mean(norm, NORMS)}")
    check_count("batch_size", batch_size)
    started = time.perf_counter()
    images = target.check_images(images)
    labels = target.check_labels(labels, len(images))
    ids = check_ids(sample_ids, len(images))
    shown = progress or Progress(enabled=False)
    with target.undisturbed():
        torch.manual_seed(named_seed(seed, "model"))
        runner = Runner(target, seed=seed, batch_size=batch_size, shards=shards)
        logits = torch.cat([runner.judge.logits(part.to(target.device)).cpu() for part in images.split(batch_size)])
        samples = Samples(images, labels, ids, logits)
        correct = ~target.task.success(logits, labels)
        rows = correct.nonzero()[:, 0]
        distance, adversarial = torch.zeros(len(images)), images.clone()
        if len(rows):
            stage = FabTargeted(steps=steps, targets=targets).stages(ThreatModel(norm, 0.0), target.task.num_classes)[0]
            with shown.task(f"nearest adversarial examples {norm}", total=len(rows)) as task:
                outcome = _nearest(runner, stage, norm, samples.pick(rows), task)
            distance[rows], adversarial[rows] = outcome.decision, outcome.points
        findings = sanity.of_outputs(target, samples) if checks else list(target.findings)
    return MinimumNorm(
        norm=norm,
        distance=distance,
        adversarial=adversarial,
        correct=correct,
        found=torch.isfinite(distance),
        cost=Cost(
            seconds=time.perf_counter() - started, forward=runner.forward_passes, backward=runner.backward_passes
        ),
        findings=findings,
    )


def _nearest(runner: Runner, stage: Stage, kind: str, samples: Samples, task: Task) -> Outcome:
    outcome = runner.nearest(stage, kind, samples, 0, task, scouting=SCOUTING)
    lost = (~outcome.found).nonzero()[:, 0]
    widest = sanity.large_budget(ThreatModel(kind, 0.0), samples.images[0].numel(), runner.target.bounds)
    for rung in range(_LADDER):
        if not len(lost):
            break
        threat = ThreatModel(kind, widest.eps * 2.0 ** (rung - _LADDER + 1))
        attack = replace(PGD(steps=40).stages(threat, runner.target.task.num_classes)[0], objective=margin)
        part = samples.pick(lost)
        broken = runner.attack(attack, threat, part, 0, task)
        if bool(broken.found.any()):
            hit = lost[broken.found]
            points = runner.to_boundary(samples.pick(hit), broken.points[broken.found])
            outcome.points[hit], outcome.found[hit] = points, True
            outcome.decision[hit] = norm_of(points - samples.images[hit], kind)
        lost = (~outcome.found).nonzero()[:, 0]
    return outcome
