"""Pools of models: many at once beside one after another, and two processes beside one.

    python benchmarks/pools.py [mlps] [processes] [--rounds 3] [--models 64]

``mlps``: 64 perceptrons, batch 16, SGD with Nesterov's momentum and weight decay, one thread, trained by a
plain PyTorch loop without any record, by the same loop with PyTorch's fused optimiser, by this library one by one,
and by this library in groups, of the size that its own probe chooses. What this library takes includes records,
checkpoints and models on the disk. The four take turns, every round anew, and make the same number of steps on
batches of the same sizes.

``processes``: a pool of small-cnn trained one by one by one process and by two, of one thread each; the start of the
processes is included.

Figures are medians over the rounds, with the least and the largest; processor time counts
all processes together.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from assay.data.dataset import Dataset
from assay.data.load import load_data
from assay.pools import Pool
from assay.pools.timing import choose
from assay.subjects.networks import NETWORKS, Reference, Size, build_network
from assay.training import TrainSettings


def perceptron(in_channels: int, num_classes: int, image_size: Size) -> nn.Module:
    """One hidden layer of 128 units."""
    inputs = in_channels * image_size[0] * image_size[1]
    return nn.Sequential(nn.Flatten(), nn.Linear(inputs, 128), nn.ReLU(), nn.Linear(128, num_classes))


NETWORKS["mlp-128"] = Reference(perceptron)


class Problem(NamedTuple):
    """What is trained, and how long: images [N, 1, H, W] with K classes, of which each model sees half."""

    network: str
    records: int
    size: Size
    classes: int
    epochs: int

    def data(self) -> Dataset:
        """Random prototypes with noise, or the digits that come with the library."""
        if not self.records:
            return load_data("digits")
        draws = np.random.default_rng(0)
        labels = draws.permutation(np.arange(self.records) % self.classes)
        prototypes = draws.integers(0, 256, (self.classes, *self.size))
        images = prototypes[labels] // 2 + draws.integers(0, 128, (self.records, *self.size))
        return Dataset.from_arrays(images.astype(np.uint8), labels)


PROBLEMS = {
    "784-128-10": Problem("mlp-128", 2000, (28, 28), 10, 8),
    "600-128-100": Problem("mlp-128", 2000, (20, 30), 100, 8),
    "784-256-256-10": Problem("mlp", 2000, (28, 28), 10, 8),
    "digits, 64-256-256-10": Problem("mlp", 0, (8, 8), 10, 30),
}


class Spent(NamedTuple):
    """Seconds of one round."""

    wall: float
    processor: float


def spent(work: Callable[[], object]) -> Spent:
    """Wall time, and processor time of this process and of those it started and outlived."""
    began, wall = _processor(), time.perf_counter()
    work()
    return Spent(time.perf_counter() - wall, _processor() - began)


def _processor() -> float:
    return sum(sum(resource.getrusage(who)[:2]) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))


def plain(pool: Pool, fused: bool = False) -> list[nn.Module]:
    """What one would write without a library: one model after another, on tensors in memory."""
    images = torch.from_numpy(pool.data.images())
    labels = torch.tensor(pool.data.labels)
    models = []
    for m in range(len(pool)):
        job, how = pool.job(m), pool.job(m).settings
        torch.manual_seed(m)
        own = torch.tensor(pool.in_mask[m])
        x, y = images[own], labels[own]
        x = (x - x.mean()) / x.std()
        _, height, width = job.data.shape
        model = build_network(job.network, in_channels=1, num_classes=job.data.num_classes, image_size=(height, width))
        optimizer = torch.optim.SGD(
            model.parameters(),
            lr=how.learning_rate,
            momentum=how.momentum,
            nesterov=how.nesterov,
            weight_decay=how.weight_decay,
            fused=fused or None,
        )
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, how.epochs)
        for _ in range(how.epochs):
            for rows in torch.randperm(len(x)).split(how.batch_size):
                optimizer.zero_grad()
                F.cross_entropy(model(x[rows]), y[rows]).backward()
                optimizer.step()
            schedule.step()
        models.append(model)
    return models


def planned(problem: Problem, folder: Path, method: str, models: int, batch_size: int = 16) -> Pool:
    """A pool in a folder, not trained yet."""
    how = TrainSettings(epochs=problem.epochs, batch_size=batch_size, learning_rate=0.02)
    return Pool.plan(folder, data=problem.data(), network=problem.network, settings=how, models=models, method=method)


def mlps(problem: Problem, *, models: int, rounds: int) -> tuple[dict[str, list[Spent]], str]:
    """Seconds of every variant in every round, and what the library's probe says of groups."""
    times: dict[str, list[Spent]] = {}
    with tempfile.TemporaryDirectory() as folder:
        said = planned(problem, Path(folder, "probe"), "auto", models)
        words = choose(said).words
        for turn in range(rounds):
            for name, method in VARIANTS.items():
                pool = planned(problem, Path(folder, f"{turn}-{name}".replace(" ", "-")), method or "auto", models)
                if method:
                    pool.units()
                work = partial(pool.train, "in-process") if method else partial(plain, pool, "fused" in name)
                times.setdefault(name, []).append(spent(work))
    return times, words


VARIANTS = {
    "plain loop": "",
    "plain loop, fused optimiser": "",
    "assay, one by one": "sequential",
    "assay, in groups": "auto",
}

CNNS = Problem("small-cnn", 2000, (28, 28), 10, 10)


def processes(problem: Problem, *, models: int, rounds: int) -> dict[str, list[Spent]]:
    """Seconds of a pool of small convolutional networks, trained by one process and by two."""
    times: dict[str, list[Spent]] = {"one process": [], "two processes": []}
    with tempfile.TemporaryDirectory() as folder:
        for turn in range(rounds):
            for workers, values in enumerate(times.values(), start=1):
                pool = planned(problem, Path(folder, f"{turn}-{workers}"), "sequential", models, 64)
                pool.units()
                values.append(spent(partial(pool.train, "local", workers=workers)))
    return times


def table(times: dict[str, list[Spent]]) -> str:
    """A Markdown table; ratios are to the first row, of the medians: more than 1 is faster."""
    first = [statistics.median(column) for column in zip(*next(iter(times.values())), strict=True)]
    lines = ["| trained by | wall s (median, min .. max) | processor s (median, min .. max) | wall | processor |"]
    lines.append("|---|---|---|---|---|")
    for name, values in times.items():
        columns = list(zip(*values, strict=True))
        middle = [statistics.median(column) for column in columns]
        cells = [f"{statistics.median(column):.1f} ({min(column):.1f} .. {max(column):.1f})" for column in columns]
        ratios = [f"{before / now:.2f}x" for before, now in zip(first, middle, strict=True)]
        lines.append(f"| {' | '.join([name, *cells, *ratios])} |")
    return "\n".join(lines)


def main() -> None:
    """Measure what was named, or both parts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", default=["mlps", "processes"])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--models", type=int, default=64)
    options = parser.parse_args()
    torch.set_num_threads(1)
    print(f"torch {torch.__version__}, {os.cpu_count()} processors, one thread a process, {options.rounds} rounds")
    if "mlps" in options.parts:
        for name, problem in PROBLEMS.items():
            times, words = mlps(problem, models=options.models, rounds=options.rounds)
            print(
                f"\n### {options.models} MLPs, {name}, {problem.epochs} epochs\n\n{words}\n\n{table(times)}", flush=True
            )
    if "processes" in options.parts:
        times = processes(CNNS, models=32, rounds=options.rounds)
        print(f"\n### 32 small-cnn\n\n{table(times)}", flush=True)


if __name__ == "__main__":
    main()
