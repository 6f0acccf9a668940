"""The making of queries: everything checked once, then one search a block of records."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...core.settings import as_dict
from ...core.shards import Shards
from ...search.adam import Adam
from ...search.engine import Space, Work, search
from ...search.threat import ThreatModel
from ...tensors.random import sample_seeds
from . import starts
from .checks import as_targets, check_ids, check_kinds, check_mask, check_shape
from .ensemble import Copies, Ensemble
from .settings import CanarySettings

_BLOCK_VALUES = 2**24  # pixels of all queries in work at a time; the search keeps about six times as many numbers

Arrays = dict[str, np.ndarray]


class Making:
    """The work on many records, in blocks; arguments as in ``canary_queries``."""

    def __init__(
        self,
        how: CanarySettings,
        models: Sequence[Any],
        in_mask: Any,
        images: Any,
        labels: Any,
        seed: int,
        sample_ids: Sequence[int] | None,
    ) -> None:
        raw = check_shape(images)
        self.how, self.seed = how, seed
        self.ids = check_ids(sample_ids, len(raw))
        self.in_mask = check_mask(in_mask, len(models), len(raw))
        check_kinds(self.in_mask, how.drawn, self.ids)
        used = (~self.in_mask).any(1) if how.mode == "offline" else torch.ones(len(models), dtype=torch.bool)
        self.targets = as_targets(models, used, raw.shape[1:])
        self.subject = next(iter(self.targets.values()))
        self.device = self.subject.device
        self.images = self.subject.check_images(raw)
        self.labels = self.subject.check_labels(labels, len(raw))
        self.others = starts.other_classes(seed, self.ids, self.labels, self.subject.task.num_classes)
        self.seeds = starts.row_seeds(seed, self.ids, how.queries)
        self.draws = sample_seeds(seed, range(how.queries if how.draws == "query" else 1), "canary-draws")
        self.copies = Copies(self.targets, raw.shape[2] * raw.shape[3])

    def block(self, wanted: int | None) -> int:
        """Records in work at a time."""
        fitting = _BLOCK_VALUES // (self.how.queries * self.images[0].numel())
        return max(1, min(512, fitting)) if wanted is None else max(1, int(wanted))

    def kept(self, rows: Tensor, shards: Shards | None, advance: Callable[[int], None]) -> Arrays:
        """A block of records, from the store where it is there already; ``advance`` is told of every record's steps."""
        if shards is None:
            return self.made(rows, advance)
        key = f"canaries/{self._digest(rows)}"
        if key in shards:
            advance(len(rows) * self.looks)
        else:
            shards.put(key, **self.made(rows, advance))
        return shards.get(key)

    @property
    def looks(self) -> int:
        """How often a record's queries are looked at: at every step and at the end."""
        return self._rule().evaluations

    def made(self, rows: Tensor, advance: Callable[[int], None]) -> Arrays:
        """One search for a block of records [b]."""
        how, subject = self.how, self.subject
        seeds = self.seeds[rows]
        middles = starts.centres(self.images[rows], seeds, how.augment, subject.bounds)
        flat = middles.flatten(0, 1).to(self.device)
        space = Space(ThreatModel("linf", how.epsilon), subject.bounds)
        records = torch.arange(len(rows), device=self.device).repeat_interleave(how.queries)
        queries = torch.arange(how.queries, device=self.device).repeat(len(rows)) % len(self.draws)
        streams = seeds.flatten().to(self.device)
        work = Work(
            centres=flat,
            reference=torch.stack([records, queries], 1),
            seeds=streams,
            owner=torch.arange(len(flat), device=self.device),
            points=starts.first_points(flat, streams, how, subject.bounds),
        )
        ensemble = self._ensemble(rows)
        ledger = Ledger(work, how.stop_loss, lambda: advance(len(rows)))
        found = search(
            ensemble, self._rule(), ensemble.objective, work, space, samples=len(flat), decision=ledger.decide
        )
        advance(len(rows) * (self.looks - ledger.looks))
        shape = (len(rows), how.queries)
        return {
            "images": found.points.cpu().reshape(middles.shape).numpy(),
            "starts": middles.numpy(),
            "loss": ledger.loss.cpu().reshape(shape).numpy(),
            "first_loss": ledger.first.cpu().reshape(shape).numpy(),
            "stopped": ledger.done.cpu().reshape(shape).numpy(),
        }

    def _rule(self) -> Adam:
        how = self.how
        return Adam(
            steps=how.steps if how.epsilon else 0,
            learning_rate=how.learning_rate,
            weight_decay=how.weight_decay,
            decoupled=how.decoupled,
            origin=sum(self.subject.bounds) / 2,
        )

    def _ensemble(self, rows: Tensor) -> Ensemble:
        how = self.how
        return Ensemble(
            self.copies,
            self.in_mask[:, rows].to(self.device),
            self.labels[rows].to(self.device),
            self.others[rows].to(self.device),
            loss=how.objective,
            aims=how.aims,
            drawn=how.drawn,
            mean=how.reduction == "mean",
            seeds=self.draws.to(self.device),
        )

    def _digest(self, rows: Tensor) -> str:
        """Of everything a block's queries depend on: 32 hex digits."""
        if not hasattr(self, "_models"):
            self._models = [(number, target.digest) for number, target in self.targets.items()]
        total = hashlib.blake2b(digest_size=16)
        total.update(repr((sorted(as_dict(self.how).items()), self.seed, self._models)).encode())
        total.update(repr([self.ids[row] for row in rows.tolist()]).encode())
        for tensor in (self.images[rows], self.labels[rows], self.in_mask[:, rows]):
            total.update(repr(tuple(tensor.shape)).encode() + tensor.contiguous().numpy().tobytes())
        return total.hexdigest()


class Ledger:
    """The loss of every query where it is finished, and which were finished early; decides for the search.

    Args:
        work: the rows of the search, one an owner.
        stop: a query is finished once its loss is not above this; None: never.
        looked: called after every look at the queries.
    """

    def __init__(self, work: Work, stop: float | None, looked: Callable[[], None]) -> None:
        self.work, self.stop, self.looked, self.looks = work, -torch.inf if stop is None else stop, looked, 0
        self.loss = work.centres.new_zeros(len(work))
        self.done = torch.zeros(len(work), dtype=torch.bool, device=work.centres.device)
        self.first = self.loss.clone()

    def decide(self, output: Tensor, reference: Tensor) -> Tensor:
        """How far each row's loss is above the stop: [B, 1] -> [B]."""
        loss, owner = output[:, 0], self.work.owner
        if not self.looks:
            self.first = loss.clone()
        going = ~self.done[owner]
        self.loss[owner[going]] = loss[going]
        self.done[owner] |= loss <= self.stop
        self.looks += 1
        self.looked()
        return torch.where(loss <= self.stop, -1.0, 1.0)
