"""Runs one stage of an attack on the samples still standing, in chunks that can be kept and resumed."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..core.progress import Task
from ..core.shards import Shards
from ..search.bisection import to_boundary
from ..search.boundary import BoundaryWalk, NearestClass
from ..search.engine import Model, Outcome, Space, Work, search
from ..search.threat import ThreatModel
from ..subjects.target import SearchModel, Target
from ..tensors.random import sample_seeds
from .finish import on_boundary
from .judge import Judge
from .stages import Stage

REFINE_WITHIN = 1.25


@dataclass
class Averaged:
    """A searching model whose answers and gradients are means over several passes (expectation over transformation)."""

    model: SearchModel
    passes: int

    def logits(self, points: Tensor) -> Tensor:
        """Mean logits."""
        return torch.stack([self.model.logits(points) for _ in range(self.passes)]).mean(0)

    def value_and_gradient(
        self, points: Tensor, objective: Callable[[Tensor, Tensor], Tensor], reference: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Mean logits, objective and gradient."""
        answers = [self.model.value_and_gradient(points, objective, reference) for _ in range(self.passes)]
        output, value, gradient = (torch.stack(column).mean(0) for column in zip(*answers, strict=True))
        return output, value, gradient


@dataclass
class Samples:
    """Clean inputs with what the caller's model says of them; all tensors on the CPU.

    Args:
        images: [N, ...].
        labels: [N].
        ids: the samples' names, N integers.
        logits: clean logits [N, K].
    """

    images: Tensor
    labels: Tensor
    ids: Sequence[int]
    logits: Tensor

    def pick(self, rows: Tensor) -> Samples:
        """Some of the samples."""
        return Samples(
            self.images[rows], self.labels[rows], [self.ids[row] for row in rows.tolist()], self.logits[rows]
        )


class Runner:
    """Runs stages for one target.

    Args:
        target: the model under examination.
        seed: root of every random stream.
        batch_size: rows in work at a time.
        eot: answers averaged at every step.
        dtype: precision of the searching copy; with bfloat16, samples it does not break
            are searched again in float32, so that no verdict rests on it.
        shards: where finished chunks are kept; None keeps nothing.
    """

    def __init__(
        self,
        target: Target,
        *,
        seed: int,
        batch_size: int,
        eot: int = 1,
        dtype: torch.dtype = torch.float32,
        shards: Shards | None = None,
    ) -> None:
        self.target, self.seed, self.batch_size, self.eot, self.shards = target, seed, batch_size, eot, shards
        self.judge = Judge(target, eot)
        self.copies = [target.search_copy(dtype)]
        if dtype != torch.float32:
            self.copies.append(target.search_copy())
        self.kept_forward = self.kept_backward = 0

    @property
    def forward_passes(self) -> int:
        """Forward passes of one sample so far, those of resumed chunks included."""
        return self.kept_forward + self.judge.forward_passes + sum(copy.forward_passes for copy in self.copies)

    @property
    def backward_passes(self) -> int:
        """Backward passes of one sample so far, those of resumed chunks included."""
        return self.kept_backward + sum(copy.backward_passes for copy in self.copies)

    def attack(self, stage: Stage, threat: ThreatModel, samples: Samples, restart: int, task: Task) -> Outcome:
        """One restart of a stage under a budget: which samples it breaks, and how."""

        name = f"{threat.norm}-{threat.eps!r}/{stage.name}/{restart}"
        return self._in_chunks(name, stage, samples, lambda chunk: self.search(stage, threat, chunk, restart), task)

    def search(self, stage: Stage, threat: ThreatModel, chunk: Samples, restart: int) -> Outcome:
        """Search one chunk under a budget, by every copy in turn; nothing is kept."""
        outcome = self._search(self.copies[0], stage, threat, chunk, restart)
        for copy in self.copies[1:]:
            rows = (~outcome.found).nonzero()[:, 0]
            again = self._search(copy, stage, threat, chunk.pick(rows), restart)
            outcome.found[rows], outcome.points[rows] = again.found, again.points
            outcome.decision[rows] = again.decision
        return outcome

    def to_boundary(self, samples: Samples, points: Tensor) -> Tensor:
        """Adversarial points moved along their segments to the decision boundary, on the CPU."""
        place = self.target.device
        labels = samples.labels.to(place)
        centres, moved = samples.images.to(place), points.to(place)
        return to_boundary(lambda at, rows: self.judge.wrong(at, labels[rows]), centres, moved, self.target.bounds)[
            0
        ].cpu()

    def nearest(
        self, stage: Stage, kind: str, samples: Samples, restart: int, task: Task, *, scouting: int = 0
    ) -> Outcome:
        """One restart of a minimum-norm stage: the nearest adversarial point found; ``decision`` is its distance.

        Args:
            scouting: if above 0, all targets are tried for this many steps, and only the
                three nearest of each sample to the end.
        """
        name = f"{kind}-minimum-{scouting}/{stage.name}/{restart}"

        def one(chunk: Samples) -> Outcome:
            return self._minimum(stage, kind, chunk, restart, scouting)

        return self._in_chunks(name, stage, samples, one, task)

    def _in_chunks(
        self, name: str, stage: Stage, samples: Samples, one: Callable[[Samples], Outcome], task: Task
    ) -> Outcome:
        total = Outcome(
            torch.zeros(len(samples.ids), dtype=torch.bool),
            torch.zeros_like(samples.images),
            torch.full((len(samples.ids),), torch.inf),
        )
        for rows in torch.arange(len(samples.ids)).split(max(1, self.batch_size // max(1, stage.targets))):
            chunk = samples.pick(rows)
            outcome = self._kept(f"{name}/{_digest(stage, chunk.ids)}", chunk, one)
            total.found[rows], total.decision[rows] = outcome.found, outcome.decision
            total.points[rows] = outcome.points
            task.advance(len(rows))
        return total

    def _kept(self, key: str, chunk: Samples, one: Callable[[Samples], Outcome]) -> Outcome:
        """A chunk's outcome from the store, or computed and stored."""
        if self.shards is not None and key in self.shards:
            kept = {name: torch.from_numpy(value) for name, value in self.shards.get(key).items()}
            self.kept_forward += int(kept["cost"][0])
            self.kept_backward += int(kept["cost"][1])
            points = torch.zeros_like(chunk.images)
            points[kept["found"]] = kept["points"]
            return Outcome(kept["found"], points, kept["decision"])
        forward, backward = self.forward_passes, self.backward_passes
        outcome = one(chunk)
        outcome.points = outcome.points.cpu()
        if self.shards is not None:
            cost = torch.tensor([self.forward_passes - forward, self.backward_passes - backward])
            self.shards.put(
                key,
                found=outcome.found.numpy(),
                points=outcome.points[outcome.found].numpy(),
                decision=outcome.decision.numpy(),
                cost=cost.numpy(),
            )
        return outcome

    def _search(self, copy: SearchModel, stage: Stage, threat: ThreatModel, chunk: Samples, restart: int) -> Outcome:
        """Search under a budget; only points that the judge confirms inside ball and box count."""
        space = Space(threat, self.target.bounds)
        place = self.target.device
        centres, labels = chunk.images.to(place), chunk.labels.to(place)

        def decision(output: Tensor, reference: Tensor) -> Tensor:
            return self.target.task.margin(output, reference if reference.ndim == 1 else reference[:, 0])

        def confirm(points: Tensor, owner: Tensor) -> Tensor:
            good = threat.holds(points, centres[owner], space.bounds)
            held = good.nonzero()[:, 0]
            if len(held):
                good[held] = self.judge.wrong(points[held], labels[owner[held]])
            return good

        work = self._work(stage, chunk, restart)
        outcome = search(
            self._model(copy, stage, threat.norm),
            stage.rule,
            stage.objective,
            work,
            space,
            samples=len(chunk.ids),
            decision=decision,
            confirm=confirm,
        )
        if stage.refine and len(work):
            self._refine(outcome, work, labels, threat)
        return outcome

    def _refine(self, outcome: Outcome, work: Work, labels: Tensor, threat: ThreatModel) -> None:
        """Bisect the points that lie a little outside the ball; those that come inside count."""
        near = work.state["distance"] <= REFINE_WITHIN * threat.eps
        rows = (near & ~outcome.found.to(near.device)[work.owner]).nonzero()[:, 0]
        if not len(rows):
            return
        centres, owner, copy = work.centres[rows], work.owner[rows], self.copies[-1]
        points, distance = on_boundary(
            copy, self.judge.wrong, centres, work.state["nearest"][rows], labels[owner], threat.norm, self.target.bounds
        )
        inside = torch.isfinite(distance) & threat.holds(points, centres, self.target.bounds)
        for row in inside.nonzero()[:, 0].flip(0).tolist():
            outcome.found[int(owner[row])] = True
            outcome.points[int(owner[row])] = points[row]

    def _minimum(self, stage: Stage, kind: str, chunk: Samples, restart: int, scouting: int) -> Outcome:
        """Search for the nearest adversarial point without a budget, and finish on the boundary."""
        bounds, place = self.target.bounds, self.target.device
        copy = self.copies[-1]
        threat = ThreatModel(kind, 0.0)
        work = self._work(stage, chunk, restart)
        model = self._model(copy, stage, kind)
        space = Space(threat, bounds)
        if scouting:
            assert isinstance(stage.rule, BoundaryWalk)
            scout = replace(stage.rule, steps=min(scouting, stage.rule.steps))
            search(model, scout, stage.objective, work, space, samples=len(chunk.ids))
            work.take(torch.cat(list(_best_rows(work, keep=3, lost=True))))
        search(model, stage.rule, stage.objective, work, space, samples=len(chunk.ids))
        outcome = Outcome(
            torch.zeros(len(chunk.ids), dtype=torch.bool),
            chunk.images.clone(),
            torch.full((len(chunk.ids),), torch.inf),
        )
        labels = chunk.labels.to(place)
        for rows in _best_rows(work, keep=3):
            centres, owner = work.centres[rows], work.owner[rows]
            points, distance = on_boundary(
                copy, self.judge.wrong, centres, work.state["nearest"][rows], labels[owner], kind, bounds
            )
            sample = owner.cpu()
            nearer = distance.cpu() < outcome.decision[sample]
            sample = sample[nearer]
            outcome.found[sample] = True
            outcome.decision[sample] = distance.cpu()[nearer]
            outcome.points[sample] = points.cpu()[nearer]
        return outcome

    def _model(self, copy: SearchModel, stage: Stage, kind: str) -> Model:
        model: Model = copy if self.eot == 1 else Averaged(copy, self.eot)
        return NearestClass(model, self.target.task.num_classes, kind) if stage.nearest_class else model

    def _work(self, stage: Stage, chunk: Samples, restart: int) -> Work:
        """One row a sample, or one a sample and target, targets in the order of the clean logits."""
        place = self.target.device
        owner = torch.arange(len(chunk.ids))
        reference = chunk.labels
        if not stage.targets:
            seeds = sample_seeds(self.seed, chunk.ids, stage.name, restart)
        else:
            wrong = chunk.logits.scatter(1, chunk.labels[:, None], -torch.inf)
            ranked = wrong.argsort(dim=1, descending=True, stable=True)[:, : stage.targets]
            reference = torch.stack([chunk.labels[:, None].expand_as(ranked), ranked], -1).reshape(-1, 2)
            owner = owner.repeat_interleave(ranked.shape[1])
            seeds = torch.stack(
                [sample_seeds(self.seed, chunk.ids, stage.name, restart, rank) for rank in range(ranked.shape[1])], 1
            ).flatten()
        return Work(
            centres=chunk.images[owner].to(place),
            reference=reference.to(place),
            seeds=seeds.to(place),
            owner=owner.to(place),
        )


def _best_rows(work: Work, keep: int, lost: bool = False) -> Iterator[Tensor]:
    """Row sets with at most one row an owner: the nearest of each, then the second nearest, ...

    Rows that found nothing are left out unless ``lost``.
    """
    order = torch.argsort(work.state["distance"], stable=True)
    order = order[torch.argsort(work.owner[order], stable=True)]
    _, counts = torch.unique_consecutive(work.owner[order], return_counts=True)
    starts = counts.cumsum(0) - counts
    for place in range(keep):
        rows = order[(starts + place)[counts > place]]
        if not lost:
            rows = rows[torch.isfinite(work.state["distance"][rows])]
        if len(rows):
            yield rows


def _digest(stage: Stage, ids: Sequence[int]) -> str:
    """What a chunk's outcome hangs on besides the stage's name: its rule and objective, and the samples."""
    text = f"{stage.rule!r}|{getattr(stage.objective, '__name__', '')}|{stage.targets}|{','.join(map(str, ids))}"
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def has_budget_free_start(stage: Stage) -> bool:
    """Whether a stage finds the same nearest points whatever the budget."""
    return stage.refine and isinstance(stage.rule, BoundaryWalk) and stage.rule.start_radius == 0
