"""Certification against the plain procedure: noisy passes needed, and time for each of them.

    python benchmarks/certification.py [passes] [pace] [--images 100]       # some ten minutes on one core

Network: ``dp-cert-cnn`` (26,010 parameters), trained on MNIST for one epoch with Gaussian noise of
the sigma it is certified with, kept in benchmarks/.cache. Needs MNIST in the shared data folder (ASSAY_DATA).

- ``passes``: for each radius, how many noisy passes mode ``radius`` needs where the fixed procedure
  needs n0 + n = 100,100, and on which samples the two decide differently.
- ``pace``: processor time a noisy pass, Assay against the plain loop of the published code (the
  default memory format, ``repeat`` and ``randn`` for each batch, ``argmax``, ``numpy.bincount``),
  with batches of 1000 and of 4000, taking turns in one process; the ratio is to the better of the two.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from assay import Classification, Target, load_data
from assay.certify import Certificates, certify
from assay.certify.votes import NoisyModel
from assay.core.shards import Shards
from assay.subjects.networks import build_network
from assay.subjects.weights import load_weights, read_weights

CACHE = Path(__file__).resolve().parent / ".cache"
DATA = Path(os.environ.get("ASSAY_DATA", Path(__file__).resolve().parents[2] / "shared" / "data"))
SIGMA = 0.5
RADII = (0.125, 0.25, 0.5, 0.75, 1.0)
N = 100_000


@dataclass(frozen=True)
class Comparison:
    """One radius: certified samples by both procedures, passes of both, and where they differ."""

    radius: float
    fixed: np.ndarray
    sequential: np.ndarray
    passes: int
    passes_fixed: int

    @property
    def times_fewer(self) -> float:
        """How many times fewer noisy passes the sequential procedure took."""
        return self.passes_fixed / self.passes

    @property
    def differing(self) -> int:
        """Samples that only one of the two certified."""
        return int((self.fixed != self.sequential).sum())


def compare(target: Target, images: Tensor, labels: Tensor, fixed: Certificates, radius: float) -> Comparison:
    """Decide one radius sequentially, with the limits of the fixed certification."""
    found = certify(
        target, images, labels, sigma=fixed.sigma, n0=fixed.n0, n=fixed.n, alpha=fixed.alpha, mode="radius",
        radius=radius, seed=1,
    )  # fmt: skip
    return Comparison(
        radius,
        fixed.certified(radius),
        found.certified(radius),
        int(found.samples_used.sum()),
        int(fixed.samples_used.sum()),
    )


def plain_votes(module: nn.Module, image: Tensor, sigma: float, n: int, batch: int) -> np.ndarray:
    """Votes for ten classes, as the published code counts them."""
    counts = np.zeros(10, dtype=np.int64)
    with torch.no_grad():
        for start in range(0, n, batch):
            copies = image.repeat((min(batch, n - start), 1, 1, 1))
            noise = torch.randn_like(copies) * sigma
            answers = module(copies + noise).argmax(1)
            counts += np.bincount(answers.cpu().numpy(), minlength=10)
    return counts


def pace(target: Target, image: Tensor, *, n: int = 8000, rounds: int = 9) -> dict[str, list[float]]:
    """Microseconds of processor time a noisy pass, of every way, round by round."""
    module = target.model
    assert isinstance(module, nn.Module)
    models = {dtype: NoisyModel(target, SIGMA, dtype, tuple(image.shape), 256) for dtype in ("float32", "bfloat16")}
    ways: dict[str, Callable[[], object]] = {
        "plain, batch 1000": lambda: plain_votes(module, image, SIGMA, n, 1000),
        "plain, batch 4000": lambda: plain_votes(module, image, SIGMA, n, 4000),
        "Assay, float32": lambda: models["float32"].stream(image, 0, 0).votes(n),
        "Assay, bfloat16": lambda: models["bfloat16"].stream(image, 0, 0).votes(n),
    }
    found: dict[str, list[float]] = {name: [] for name in ways}
    for work in ways.values():
        work()
    for _ in range(rounds):
        for name, work in ways.items():
            before = time.process_time()
            work()
            found[name].append(1e6 * (time.process_time() - before) / n)
    return found


def mnist(split: str, limit: int | None = None) -> tuple[Tensor, Tensor]:
    """Images [N, 1, 28, 28] in [0, 1] and labels."""
    data = load_data(str(DATA / "mnist" / "mnist.npz"), split=split, limit=limit)
    return torch.from_numpy(data.images()), torch.from_numpy(data.labels)


def noisy_network(weights: Path, sigma: float = SIGMA) -> Target:
    """The network trained for one epoch on images with noise; trained once."""
    from safetensors.torch import save_file

    torch.manual_seed(0)
    net = build_network("dp-cert-cnn", in_channels=1, num_classes=10, image_size=28)
    if weights.is_file():
        load_weights(net, read_weights(weights), where=str(weights))
        return Target(net.eval(), task=Classification(10), name="dp-cert-cnn")
    images, labels = mnist("train")
    optimiser = torch.optim.Adam(net.parameters(), lr=2e-3)
    batches = torch.randperm(len(images)).split(128)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 4e-3, total_steps=len(batches))
    for rows in batches:
        optimiser.zero_grad()
        noisy = images[rows] + sigma * torch.randn_like(images[rows])
        F.cross_entropy(net(noisy), labels[rows]).backward()
        optimiser.step()
        schedule.step()
    weights.parent.mkdir(parents=True, exist_ok=True)
    save_file(net.state_dict(), weights)
    return Target(net.eval(), task=Classification(10), name="dp-cert-cnn")


def show_passes(target: Target, count: int) -> None:
    """Print a line for every radius."""
    images, labels = mnist("test", count)
    shards = Shards(CACHE / "noisy-mnist-shards")
    fixed = certify(target, images, labels, sigma=SIGMA, n=N, shards=shards)
    print(f"\n### {count} MNIST images, sigma {SIGMA:g}, n0 100, n {N:,}, alpha {fixed.alpha:g}\n")
    print(
        "| radius | radius / sigma | certified, fixed n | certified, sequential | differing | passes an image | fewer |"
    )
    print("|---|---|---|---|---|---|---|")
    for radius in RADII:
        found = compare(target, images, labels, fixed, radius)
        cells = (
            f"{radius:g}", f"{radius / SIGMA:g}", str(found.fixed.sum()), str(found.sequential.sum()),
            str(found.differing), f"{found.passes / count:,.0f}", f"{found.times_fewer:.1f}x",
        )  # fmt: skip
        print(f"| {' | '.join(cells)} |", flush=True)


def show_pace(target: Target) -> None:
    """Print medians and ratios."""
    found = pace(target, mnist("test", 1)[0][0])
    medians = {name: statistics.median(values) for name, values in found.items()}
    better = min(value for name, value in medians.items() if name.startswith("plain"))
    print("\n| way | microseconds a pass (median, min .. max) | times faster than the better plain loop |")
    print("|---|---|---|")
    for name, values in found.items():
        spread = f"{medians[name]:.1f} ({min(values):.1f} .. {max(values):.1f})"
        print(f"| {name} | {spread} | {better / medians[name]:.2f} |")


def main() -> None:
    """Run what was named, or both."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="PART", help="passes, pace (default: both)")
    parser.add_argument("--images", type=int, default=100, metavar="N", help="MNIST test images (default: 100)")
    options = parser.parse_args()
    torch.set_num_threads(1)
    target = noisy_network(CACHE / "noisy-mnist.safetensors")
    if not options.parts or "pace" in options.parts:
        show_pace(target)
    if not options.parts or "passes" in options.parts:
        show_passes(target, options.images)


if __name__ == "__main__":
    main()
