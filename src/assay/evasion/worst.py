"""The worst points of a batch: every loss and restart, judged by the caller's own model."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..core.probes import Finding
from ..core.shards import Shards
from ..search.ascent import ProjectedGradient
from ..search.engine import Space, StepRule, Work
from ..search.radii import through_radii
from ..search.strongest import Strongest, larger, strongest
from ..search.threat import ThreatModel
from ..subjects.lanes import ROWS, in_lanes
from ..subjects.patching import quicken
from ..subjects.target import Target
from ..tensors.norms import expand
from ..tensors.random import sample_seeds
from . import doubts
from .apgd import step_rule
from .objectives import Aim

METHODS = ("pgd", "apgd", "radii")
RHO = 0.75
BATCH_BYTES = 2**30
"""How much memory the points and answers of a batch may take."""
STATE = 8
"""Tensors like the points that a search holds at once."""


@dataclass(frozen=True)
class Plan:
    """What is searched.

    Args:
        aims: what each search pushes up.
        settings: text of the objective's settings, for keys of what is kept.
        method: one of ``METHODS``.
        steps: of each search.
        step_size: of ``"pgd"``.
        restarts: of each search.
        seed: root of the random streams.
        needs_map: whether answers must be patch maps [B, D, h, w].
    """

    aims: list[Aim]
    settings: str
    method: str
    steps: int
    step_size: float
    restarts: int
    seed: int
    needs_map: bool = False

    def rule(self, threat: ThreatModel, steps: int) -> StepRule:
        """How points move."""
        if self.method == "pgd":
            return ProjectedGradient(steps=steps, step_size=self.step_size)
        return step_rule(threat, steps, RHO)


@dataclass
class Found:
    """The worst points of one batch, on the CPU: ``points`` [B, ...], ``loss``, ``clean_loss`` [B], ``success`` [B] or
    None, ``winner`` B names."""

    points: Tensor
    loss: Tensor
    clean_loss: Tensor
    success: Tensor | None
    winner: list[str]


class Worst:
    """Searches the batches of one attack and counts what that costs.

    Args:
        target: the model under attack.
        plan: what is searched.
        threat: norm and budget.
        batch_size: the most rows in work at a time.
        shards: where finished batches are kept; None keeps nothing.
    """

    def __init__(
        self, target: Target[Any], plan: Plan, threat: ThreatModel, *, batch_size: int, shards: Shards | None
    ) -> None:
        self.target, self.plan, self.threat, self.shards = target, plan, threat, shards
        self.batch_size = batch_size
        self.copy = target.search_copy()
        self._checked = not isinstance(self.copy.module, nn.Module) or not quicken(self.copy.module)
        self.judged = self.kept_forward = self.kept_backward = 0
        self.signs = doubts.Signs()

    @property
    def forward_passes(self) -> int:
        """Forward passes of one sample so far, those of resumed batches included."""
        return self.kept_forward + self.judged + self.copy.forward_passes

    @property
    def backward_passes(self) -> int:
        """Backward passes of one sample so far, those of resumed batches included."""
        return self.kept_backward + self.copy.backward_passes

    def batches(self, rows: Tensor, images: Tensor) -> Iterator[Tensor]:
        """The rows in batches that fit in memory with their answers and what a step rule remembers of them."""
        height, width = images.shape[-2:] if images.ndim == 4 else (1, images[0].numel())
        values = STATE * images[0].numel() + {
            "segmentation": height * width * getattr(self.target.task, "num_classes", 1),
            "depth": height * width,
        }.get(self.target.task.name, 0)
        limit = max(ROWS, BATCH_BYTES // (4 * values) // ROWS * ROWS)
        yield from rows.split(min(self.batch_size, limit))

    def of(self, images: Tensor, references: Tensor | None, ids: Sequence[int]) -> Found:
        """The worst points of one batch, from the store if they are there."""
        key = self._key(ids)
        if self.shards is not None and key in self.shards:
            return self._kept(key)
        forward, backward = self.forward_passes, self.backward_passes
        found, signs = self._search(images, references, ids)
        self.signs = self.signs.plus(signs)
        if self.shards is not None:
            self._keep(key, found, signs, (self.forward_passes - forward, self.backward_passes - backward))
        return found

    def findings(self, count: int) -> list[Finding]:
        """What the course of the attack gives away."""
        return doubts.of_signs(self.signs, count, self.threat) + doubts.of_gradients(self.copy.broken_gradients)

    def _search(self, images: Tensor, references: Tensor | None, ids: Sequence[int]) -> tuple[Found, doubts.Signs]:
        place, task, bounds = self.target.device, self.target.task, self.target.bounds
        centres = images.to(place)
        self.judged += len(centres)
        clean = self.target.logits(centres)
        self._check_copy(centres, clean)
        if self.plan.needs_map and clean.ndim != 4:
            doubts.refuse_vectors(clean, self.plan.aims[0].name)
        reference = clean.clone() if references is None else references.to(place)
        if task.name == "embedding" and reference.shape != clean.shape:
            doubts.refuse_shapes(reference, clean)
        score, clean_loss, success = self._judge(clean, reference)
        best, points, loss = score.clone(), centres.clone(), clean_loss.clone()
        winner = ["clean"] * len(ids)
        still = torch.zeros(len(ids), dtype=torch.bool, device=place)
        for restart in range(self.plan.restarts if self.threat.eps > 0 else 0):
            for aim in self.plan.aims:
                open_rows = torch.arange(len(ids), device=place) if success is None else (~success).nonzero()[:, 0]
                if not len(open_rows):
                    break
                names = [ids[row] for row in open_rows.tolist()]
                tried = self._once(aim, centres[open_rows], reference[open_rows], names, restart)
                good = tried.seen & self.threat.holds(tried.points, centres[open_rows], bounds)
                still[open_rows] |= tried.still
                moved = torch.where(expand(good, tried.points), tried.points, centres[open_rows])
                self.judged += len(moved)
                score, value, won = self._judge(self.target.logits(moved), reference[open_rows])
                better = good & larger(score, best[open_rows])
                rows = open_rows[better]
                best[rows], loss[rows], points[rows] = score[better], value[better], moved[better]
                if success is not None and won is not None:
                    success[rows] = won[better]
                for row in rows.tolist():
                    winner[row] = aim.name if restart == 0 else f"{aim.name}/{restart}"
        held = self.threat.holds(points, centres, bounds)
        if not bool(held.all()):
            raise AssertionError(f"{int((~held).sum())} points lie outside {self.threat}; please report this.")
        signs = doubts.Signs(
            probabilities=int(doubts.are_probabilities(clean, task.name).sum()),
            still=int(still.sum()),
            unmoved=sum(name == "clean" for name in winner) - (0 if success is None else int(success.sum())),
        )
        cpu = None if success is None else success.cpu()
        return Found(points.cpu(), loss.cpu(), clean_loss.cpu(), cpu, winner), signs

    def _check_copy(self, centres: Tensor, clean: Tensor) -> None:
        """Once: the copy must say what the caller's model says, or another is made, as the model was given."""
        if self._checked:
            return
        self._checked = True
        told = self.copy.logits(centres[:ROWS])
        if not torch.allclose(told, clean[:ROWS], rtol=1e-2, atol=1e-3 * float(clean[:ROWS].abs().max())):
            counted = self.copy.forward_passes
            self.copy = self.target.search_copy()
            self.copy.forward_passes = counted

    def _once(self, aim: Aim, centres: Tensor, reference: Tensor, ids: Sequence[int], restart: int) -> Strongest:
        """One search from one random start."""
        plan, space = self.plan, Space(self.threat, self.target.bounds)
        work = Work(
            centres=centres,
            reference=reference,
            seeds=sample_seeds(plan.seed, ids, "attack", aim.name, restart).to(centres.device),
            owner=torch.arange(len(ids), device=centres.device),
        )

        def score(output: Tensor, known: Tensor, value: Tensor) -> Tensor:
            return self._score(output, known, value)

        def over(output: Tensor, known: Tensor) -> Tensor:
            won = self.target.task.success(output, known)
            assert won is not None
            return won

        def confirm(points: Tensor, owner: Tensor) -> Tensor:
            good = self.threat.holds(points, centres[owner], space.bounds)
            self.judged += len(points)
            return good & over(self.target.logits(points), reference[owner])

        done = None if self.target.task.name in ("depth", "embedding") else over
        if plan.method == "radii" and self.threat.norm != "l1":  # the rule for L1 has its own
            return through_radii(
                self.copy,
                lambda steps: plan.rule(self.threat, steps),
                aim.objective,
                work,
                space,
                score,
                steps=plan.steps,
                done=done,
                confirm=confirm,
            )
        rule = plan.rule(self.threat, plan.steps)
        return strongest(self.copy, rule, aim.objective(plan.steps), work, space, score, done=done, confirm=confirm)

    def _judge(self, output: Tensor, reference: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """Score [B, k], loss [B] and success of answers of the caller's own model."""
        task = self.target.task
        value = task.losses if task.name == "segmentation" else self.plan.aims[0].value
        loss = in_lanes(value, output, reference)
        return self._score(output, reference, loss), loss, task.success(output, reference)

    def _score(self, output: Tensor, reference: Tensor, value: Tensor) -> Tensor:
        """What makes a point the worst, by task: [B, k]."""
        task = self.target.task
        if task.name == "segmentation":
            valid = task.valid(reference)
            right = ((output.argmax(1) == reference) & valid).flatten(1).sum(1)
            return torch.stack([-right.to(value.dtype), value], 1)
        if task.name == "classification":
            return torch.stack([task.success(output, reference).to(value.dtype), value], 1)
        return value[:, None]

    def _key(self, ids: Sequence[int]) -> str:
        plan = self.plan
        text = (
            f"{self.target.task!r}|{plan.settings}|{plan.method}|{plan.steps}|{plan.step_size!r}|{plan.restarts}|"
            f"{plan.seed}|{','.join(map(str, ids))}"
        )
        digest = hashlib.blake2b(text.encode(), digest_size=12).hexdigest()
        return f"attack/{plan.aims[0].name}/{self.threat.norm}-{self.threat.eps!r}/{digest}"

    def _keep(self, key: str, found: Found, signs: doubts.Signs, cost: tuple[int, int]) -> None:
        assert self.shards is not None
        arrays = {
            "points": found.points.numpy(),
            "loss": found.loss.numpy(),
            "clean_loss": found.clean_loss.numpy(),
            "winner": np.array(found.winner),
            "signs": np.array(signs),
            "cost": np.array(cost),
        }
        if found.success is not None:
            arrays["success"] = found.success.numpy()
        self.shards.put(key, **arrays)

    def _kept(self, key: str) -> Found:
        assert self.shards is not None
        kept = self.shards.get(key)
        self.kept_forward += int(kept["cost"][0])
        self.kept_backward += int(kept["cost"][1])
        self.signs = self.signs.plus(doubts.Signs(*(int(value) for value in kept["signs"])))
        success = torch.from_numpy(kept["success"]) if "success" in kept else None
        loss, clean_loss = torch.from_numpy(kept["loss"]), torch.from_numpy(kept["clean_loss"])
        return Found(
            torch.from_numpy(kept["points"]), loss, clean_loss, success, [str(name) for name in kept["winner"]]
        )
