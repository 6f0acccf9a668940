"""The worst points of a batch: every loss and restart, judged by the caller's own model."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..core.probes import Finding
from ..core.shards import Shards
from ..search.strongest import larger
from ..search.threat import ThreatModel
from ..subjects.lanes import ROWS
from ..subjects.target import Target
from ..tensors.random import sample_seeds
from . import doubts
from .judge import TaskJudge
from .searching import Plan, Searching

BATCH_BYTES = 2**30
"""How much memory the points and answers of a batch may take."""
STATE = 8
"""Tensors like the points that a search holds at once."""


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
        value = target.task.losses if target.task.name == "segmentation" else plan.aims[0].value
        self.judge = TaskJudge(target, value)
        self.searching = Searching(self.judge, plan, threat)
        self.kept_forward = self.kept_backward = 0
        self.signs = doubts.Signs()

    @property
    def forward_passes(self) -> int:
        """Forward passes of one sample so far, those of resumed batches included."""
        return self.kept_forward + self.judge.forward_passes + self.searching.copy.forward_passes

    @property
    def backward_passes(self) -> int:
        """Backward passes of one sample so far, those of resumed batches included."""
        return self.kept_backward + self.searching.copy.backward_passes

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
        return [
            *doubts.of_model(bool(self.searching.randomised)),
            *doubts.of_signs(self.signs, count, self.threat),
            *doubts.of_gradients(self.searching.copy.broken_gradients),
        ]

    def _search(self, images: Tensor, references: Tensor | None, ids: Sequence[int]) -> tuple[Found, doubts.Signs]:
        place = self.target.device
        centres = images.to(place)
        clean = self.judge.answer(centres)
        self.searching.check(centres, clean)
        reference = self._reference(clean, references)
        best = self.judge.of(clean, reference)
        clean_loss, points = best.loss.clone(), centres.clone()
        winner = ["clean"] * len(ids)
        everyone = torch.arange(len(ids), device=place)
        still = torch.zeros(len(ids), dtype=torch.bool, device=place)
        for restart in range(self.plan.restarts if self.threat.eps > 0 else 0):
            for aim in self.plan.aims:
                rows = everyone if best.success is None else (~best.success).nonzero()[:, 0]
                if not len(rows):
                    break
                names = [ids[row] for row in rows.tolist()]
                seeds = sample_seeds(self.plan.seed, names, "attack", aim.name, restart).to(place)
                tried = self.searching.once(aim, centres[rows], reference[rows], seeds)
                still[rows] |= tried.still
                better = (tried.held & larger(tried.verdict.score, best.score[rows])).nonzero()[:, 0]
                rows = rows[better]
                best.take_over(rows, tried.verdict.pick(better))
                points[rows] = tried.points[better]
                for row in rows.tolist():
                    winner[row] = aim.name if restart == 0 else f"{aim.name}/{restart}"
        unmoved = torch.tensor([name == "clean" for name in winner])
        success = None if best.success is None else best.success.cpu()
        signs = doubts.Signs(
            probabilities=int(doubts.are_probabilities(clean, self.target.task.name).sum()),
            still=int(still.sum()),
            unmoved=int(unmoved.sum() if success is None else (unmoved & ~success).sum()),
        )
        return Found(points.cpu(), best.loss.cpu(), clean_loss.cpu(), success, winner), signs

    def _reference(self, clean: Tensor, references: Tensor | None) -> Tensor:
        """What answers are compared with; the clean representations where none is given."""
        if self.plan.needs_map and clean.ndim != 4:
            doubts.refuse_vectors(clean, self.plan.aims[0].name)
        reference = clean.clone() if references is None else references.to(clean.device)
        if self.target.task.name == "embedding" and reference.shape != clean.shape:
            doubts.refuse_shapes(reference, clean)
        return reference

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
