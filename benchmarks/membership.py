"""Membership: the attack on stored answers, and canary queries of many records beside a loop over the records.

    python benchmarks/membership.py [attack] [canaries] [--rounds 3] [--threads 1]

- ``attack``: ``lira_scores`` and ``rmia_scores`` on the logits of 64 reference models for 5,000 records of 10 classes,
  seconds from the arrays to the scores; for RMIA with 2,000 population records.
- ``canaries``: ``canary_queries`` for all records beside a loop over the records as it is usually written: 10 queries
  of a record, 30 steps, one model that saw the record and one that did not a step, ``torch.optim.AdamW``, the
  gradient by the queries alone, then the projection. Same steps, queries and models a step; what a user of Assay pays
  besides (checks, copies of the models, one last look) is counted. The published code asks one of the models
  twice more in every step for the shape of its answer; the third column is the loop with these two forward passes. The
  last column is the loop beside its passes alone in calls of 64 rows: what larger calls can gain at most, as long as
  the kernels stay the same.

The ways take turns in one process; the figure is processor time (with two threads: wall time), the median over the
rounds, and the ratios within a round. Data and weights are random, so nothing is downloaded.
"""

from __future__ import annotations

import argparse
import random
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from assay.membership import canary_queries, lira_scores, rmia_scores
from assay.subjects.networks import build_network

QUERIES, STEPS, EPSILON, CLASSES = 10, 30, 8 / 255, 10
SHAPES = ((64, 5000, 2000),)
CASES = (
    ("linear", 8, 1, 64, 128),
    ("tiny-cnn", 8, 1, 64, 128),
    ("mlp", 28, 1, 64, 64),
    ("tiny-cnn", 28, 1, 64, 64),
    ("small-cnn", 32, 3, 64, 64),
)
Ways = dict[str, Callable[[], Any]]


def take_turns(ways: Ways, rounds: int) -> dict[str, list[float]]:
    """Seconds of every way in every round; the first turn is not counted."""
    clock = time.process_time if torch.get_num_threads() == 1 else time.perf_counter
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for round_ in range(rounds + 1):
        for name, work in ways.items():
            before = clock()
            work()
            if round_:
                seconds[name].append(clock() - before)
    return seconds


def compared(slow: list[float], fast: list[float]) -> str:
    """The median ratio within a round, and its range."""
    ratios = sorted(a / b for a, b in zip(slow, fast, strict=True))
    return f"{statistics.median(ratios):.2f} ({ratios[0]:.2f} .. {ratios[-1]:.2f})"


def rows_attack(rounds: int, shapes: Sequence[tuple[int, int, int]] = SHAPES) -> Iterator[str]:
    """| attack | models x records x classes | seconds (range) |."""
    for models, count, population in shapes:
        rng = np.random.default_rng(0)
        labels = rng.integers(0, CLASSES, count)
        known = rng.integers(0, CLASSES, population)
        mask = rng.random((models, count)).argsort(0) < models // 2
        reference = rng.normal(size=(models, count, 1, CLASSES)).astype(np.float32)
        target = rng.normal(size=(count, 1, CLASSES)).astype(np.float32)
        others = rng.normal(size=(models, population, 1, CLASSES)).astype(np.float32)
        seen = rng.normal(size=(population, 1, CLASSES)).astype(np.float32)
        given = (reference, mask, target, labels)
        ways: Ways = {
            "lira, online": lambda given=given: lira_scores(*given),
            "lira, offline": lambda given=given: lira_scores(*given, mode="offline"),
            "rmia, online": lambda given=given, p=(others, seen, known): rmia_scores(*given, *p),
            "rmia, offline": lambda given=given, p=(others, seen, known): rmia_scores(*given, *p, mode="offline"),
        }
        for name, taken in take_turns(ways, rounds).items():
            cells = (
                name,
                f"{models} x {count:,} x {CLASSES}",
                f"{statistics.median(taken):.3f} ({min(taken):.3f} .. {max(taken):.3f})",
            )
            yield f"| {' | '.join(cells)} |"


def plain_canaries(
    models: list[nn.Module], mask: Tensor, images: Tensor, labels: Tensor, more_passes: int = 0, seed: int = 0
) -> Tensor:
    """Record by record, as the algorithm is published: 1 model IN and 1 OUT a step, AdamW, projection."""
    draw, made = random.Random(seed), []
    ten, zero = torch.full((QUERIES,), 10.0), torch.zeros(QUERIES)
    for record, label in enumerate(labels.tolist()):
        seen = mask[:, record].nonzero()[:, 0].tolist()
        unseen = (~mask[:, record]).nonzero()[:, 0].tolist()
        start = images[record].repeat(QUERIES, 1, 1, 1)
        x = start.clone().requires_grad_(True)
        optimizer = torch.optim.AdamW([x], lr=0.05, weight_decay=1e-3)
        for _ in range(STEPS):
            inside, outside = models[draw.choice(seen)], models[draw.choice(unseen)]
            with torch.no_grad():
                for _ in range(more_passes):
                    outside(x)
            loss = F.mse_loss(inside(x)[:, label], ten) + F.mse_loss(outside(x)[:, label], zero)
            optimizer.zero_grad()
            (x.grad,) = torch.autograd.grad(loss, [x])
            optimizer.step()
            with torch.no_grad():
                x.copy_(torch.max(torch.min(x, start + EPSILON), start - EPSILON).clamp(0, 1))
        made.append(x.detach())
    return torch.stack(made)


def large_calls(models: list[nn.Module], images: Tensor, labels: Tensor, rows: int = 64) -> None:
    """The passes of the loop alone, in calls of ``rows`` rows."""
    x = images[torch.arange(rows) % len(images)]
    known = labels[torch.arange(rows) % len(images), None]
    for call in range(2 * QUERIES * STEPS * len(images) // rows):
        leaf = x.detach().requires_grad_(True)
        torch.autograd.grad(models[call % len(models)](leaf).gather(1, known).sum(), [leaf])


def pool(case: tuple[str, int, int, int, int]) -> tuple[list[nn.Module], Tensor, Tensor, Tensor]:
    """Models with random weights, a balanced membership matrix, images and labels."""
    name, side, channels, count, records = case
    generator = torch.Generator().manual_seed(0)
    models = []
    for seed in range(count):
        torch.manual_seed(seed)
        network = build_network(name, in_channels=channels, num_classes=CLASSES, image_size=side)
        models.append(network.eval())
    mask = torch.rand(count, records, generator=generator).argsort(0) < count // 2
    images = torch.rand(records, channels, side, side, generator=generator)
    return models, mask, images, torch.randint(0, CLASSES, (records,), generator=generator)


def rows_canaries(rounds: int, cases: Sequence[tuple[str, int, int, int, int]] = CASES) -> Iterator[str]:
    """| network | models, records | loop s | published code s | Assay s | times faster | over published | bound |."""
    for case in cases:
        models, mask, images, labels = pool(case)
        given = (models, mask, images, labels)
        ways: Ways = {
            "loop": lambda given=given: plain_canaries(*given),
            "published": lambda given=given: plain_canaries(*given, more_passes=2),
            "assay": lambda given=given: canary_queries(*given, queries=QUERIES, steps=STEPS, epsilon=EPSILON),
            "calls": lambda given=(models, images, labels): large_calls(*given),
        }
        seconds = take_turns(ways, rounds)
        cells = (
            f"{case[0]}, {case[2]}x{case[1]}x{case[1]}", f"{case[3]}, {case[4]}",
            *(f"{statistics.median(seconds[name]):.2f}" for name in ("loop", "published", "assay")),
            compared(seconds["loop"], seconds["assay"]), compared(seconds["published"], seconds["assay"]),
            compared(seconds["loop"], seconds["calls"]),
        )  # fmt: skip
        yield f"| {' | '.join(cells)} |"


HEADS = {
    "attack": "| attack | models x records x classes | seconds (range) |",
    "canaries": "| network | models, records | loop s | loop as published s | Assay s | times faster (range) "
    "| times faster than published (range) | times faster if calls were free (range) |",
}
PARTS: dict[str, Callable[..., Iterator[str]]] = {"attack": rows_attack, "canaries": rows_canaries}


def main() -> None:
    """Run what was named, or everything."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="PART", help="attack, canaries (default: all)")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    for part in options.parts or PARTS:
        print(f"\n{HEADS[part]}\n{'|---' * (HEADS[part].count('|') - 1)}|")
        for row in PARTS[part](options.rounds):
            print(row, flush=True)


if __name__ == "__main__":
    main()
