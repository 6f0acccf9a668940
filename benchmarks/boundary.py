"""Closest boundary points, relative speed and a DyART step, each beside the plain way to compute it.

    python benchmarks/boundary.py [search] [speed] [step] [minimum] [--model mnist] [--rounds 3] [--samples 256]

Networks: ``mnist``, a small-cnn trained for one epoch on MNIST (kept in benchmarks/.cache); ``hardened``, the same
trained adversarially; ``resnet20``, the published CIFAR-10 weights. Needs the shared data folder (ASSAY_DATA).
All ways take turns in one process with one thread, in evaluation mode and with frozen weights; the figure is
processor time, medians over the rounds. Distances are compared on correctly classified samples.

- ``search``: ``closest_boundary_points`` beside the plain loop of the publication: scalar FAB, 20 iterations of a
  forward pass, an input gradient and one more forward pass over all points, alpha_max 0.1, overshoot 1.05,
  backward step 0.9, no finish.
- ``speed``: ``relative_speed`` of all points beside one forward pass of the batch, and one backward pass a point.
- ``step``: a DyART step beside what the published algorithm implies: the plain loop, the loss at
  the boundary points with the input gradient, and the clean loss.
- ``minimum``: distances at temperature inf beside ``minimum_norm`` (targeted FAB, 100 steps).
"""

from __future__ import annotations

import argparse
import math
import statistics
import time
from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from certification import mnist
from models import CACHE, DATA, images
from torch import Tensor, nn

from assay import Classification, Target
from assay.boundary import DyART, closest_boundary_points, relative_speed, soft_margin
from assay.evasion import minimum_norm
from assay.subjects import load_target
from assay.subjects.networks import build_network
from assay.subjects.weights import load_weights, read_weights
from assay.tensors.norms import expand, norm, step_onto_hyperplane
from assay.training.flow import flow

NORMS = ("linf", "l2")
MODELS = ("mnist", "hardened", "resnet20")
Ways = dict[str, Callable[[], object]]


def small_cnn(name: str) -> Target:
    """A small-cnn after one epoch of MNIST, trained once; ``hardened`` on images moved by PGD (Linf, 0.15, 3 steps)."""
    from safetensors.torch import save_file

    weights = CACHE / f"boundary-{name}.safetensors"
    torch.manual_seed(0)
    network = build_network("small-cnn", in_channels=1, num_classes=10, image_size=28)
    if weights.is_file():
        load_weights(network, read_weights(weights), where=str(weights))
        return Target(network.eval(), task=Classification(10), name=name)
    points, labels = mnist("train")
    batches = torch.randperm(len(points)).split(128)
    optimizer = torch.optim.Adam(network.parameters(), lr=2e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, total_steps=len(batches))
    for rows in batches:
        x, y = points[rows], labels[rows]
        move = torch.zeros_like(x) if name == "mnist" else 0.15 * (2 * torch.rand_like(x) - 1)
        for _ in range(0 if name == "mnist" else 3):
            leaf = (x + move).clamp(0, 1).requires_grad_(True)
            (gradient,) = torch.autograd.grad(F.cross_entropy(network(leaf), y), leaf)
            move = (move + 0.075 * gradient.sign()).clamp(-0.15, 0.15)
        optimizer.zero_grad()
        F.cross_entropy(network((x + move).clamp(0, 1)), y).backward()
        optimizer.step()
        schedule.step()
    weights.parent.mkdir(parents=True, exist_ok=True)
    save_file(network.state_dict(), weights)
    return Target(network.eval(), task=Classification(10), name=name)


def subject(name: str, samples: int) -> tuple[Target, Tensor, Tensor]:
    """A target and correctly classified test images with their labels."""
    if name == "resnet20":
        weights = str(DATA / "weights" / "cifar10_resnet" / "resnet20.safetensors")
        target = load_target("network:resnet20", weights=weights, image_shape=(3, 32, 32))
        x, y = images(2 * samples)
    else:
        target, (x, y) = small_cnn(name), mnist("test", 2 * samples)
    right = (soft_margin(target.predict(x), y) > 0).nonzero()[:samples, 0]
    return target, x[right], y[right]


def whole(target: Target, frozen: bool = True) -> nn.Module:
    """One module from raw images to logits, in evaluation mode."""
    assert isinstance(target.model, nn.Module)
    return nn.Sequential(target.preprocess or nn.Identity(), target.model).eval().requires_grad_(not frozen)


def plain_loop(network: nn.Module, x: Tensor, y: Tensor, kind: str, steps: int = 20) -> tuple[Tensor, Tensor]:
    """Scalar FAB as published, without a finish: the nearest points with φ < 0 seen, and their distances."""
    at, nearest, best = x.clone(), x.clone(), torch.full((len(x),), torch.inf)
    for _ in range(steps):
        leaf = at.detach().requires_grad_(True)
        value = soft_margin(network(leaf), y)
        (gradient,) = torch.autograd.grad(value.sum(), leaf)
        value = value.detach()
        move = step_onto_hyperplane(at, gradient, value, kind, (0.0, 1.0))
        offset = value + ((x - at) * gradient).flatten(1).sum(1)
        clean = step_onto_hyperplane(x, gradient, offset, kind, (0.0, 1.0))
        length, length_clean = norm(move, kind).clamp_min(1e-8), norm(clean, kind).clamp_min(1e-8)
        share = expand((length / (length + length_clean)).clamp_max(0.1), x)
        at = ((1 - share) * (at + 1.05 * move) + share * (x + 1.05 * clean)).clamp(0, 1)
        with torch.no_grad():
            crossed = soft_margin(network(at), y) < 0
        distance = norm(at - x, kind)
        nearer = crossed & (distance < best)
        best = torch.where(nearer, distance, best)
        nearest = torch.where(expand(nearer, x), at, nearest)
        at = torch.where(expand(crossed, x), 0.1 * x + 0.9 * at, at)
    return nearest, best


def published_step(target: Target, x: Tensor, y: Tensor, kind: str) -> None:
    """What the published algorithm does in a step: the plain loop, the boundary loss, the clean loss."""
    points, distance = plain_loop(whole(target), x, y, kind)
    network = whole(target, frozen=False)
    leaf = points[torch.isfinite(distance)].requires_grad_(True)
    value = soft_margin(network(leaf), y[torch.isfinite(distance)])
    (slope,) = torch.autograd.grad(value.sum(), leaf, retain_graph=True)
    weight = 1 / norm(slope, "l1" if kind == "linf" else "l2")
    (F.cross_entropy(network(x), y) - 1000 * (weight * value).sum() / len(x)).backward()
    network.zero_grad(set_to_none=True)


def take_turns(ways: Ways, rounds: int) -> dict[str, float]:
    """Median processor seconds of every way; the first turn is not counted."""
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(rounds + 1):
        for name, work in ways.items():
            before = time.process_time()
            work()
            if turn:
                seconds[name].append(time.process_time() - before)
    return {name: statistics.median(values) for name, values in seconds.items()}


def rows_search(name: str, samples: int, rounds: int, steps: int = 20) -> Iterator[str]:
    """| model | norm | plain s | Assay s | times faster | equal or smaller | mean ratio | passes |."""
    target, x, y = subject(name, samples)
    network = whole(target)
    for kind in NORMS:
        _, plain = plain_loop(network, x, y, kind)
        found = closest_boundary_points(target, x, y, norm=kind, steps=steps)
        seconds = take_turns(
            {
                "plain": lambda kind=kind: plain_loop(network, x, y, kind),
                "assay": lambda kind=kind: closest_boundary_points(target, x, y, norm=kind, steps=steps),
            },
            rounds,
        )
        known = torch.isfinite(plain)
        ratio = (found.distance / plain)[known]
        passes = f"{found.cost.forward / len(x):.1f} + {found.cost.backward / len(x):.1f}"
        cells = (
            name, kind, f"{seconds['plain']:.2f}", f"{seconds['assay']:.2f}",
            f"{seconds['plain'] / seconds['assay']:.2f}", f"{float((ratio <= 1 + 1e-6).float().mean()):.3f}",
            f"{float(ratio.mean()):.3f}", f"{float(ratio.max()):.3f}",
            f"{int(known.sum())}, {int(found.found.sum())}", passes,
        )  # fmt: skip
        yield f"| {' | '.join(cells)} |"


def rows_speed(name: str, samples: int, rounds: int) -> Iterator[str]:
    """| model | norm | forward ms | all speeds ms | over forward | a backward a point ms |."""
    target, x, y = subject(name, samples)
    network = whole(target, frozen=False)
    assert isinstance(target.model, nn.Module)
    direction = {key: torch.randn_like(value) for key, value in target.model.named_parameters()}
    some = min(16, len(x))

    def forward() -> None:
        with torch.no_grad():
            network(x)

    def one_by_one() -> None:
        for row in range(some):
            soft_margin(network(x[row : row + 1]), y[row : row + 1]).sum().backward()

    for kind in NORMS:
        there = closest_boundary_points(target, x, y, norm=kind)
        seconds = take_turns(
            {
                "forward": forward,
                "speed": lambda kind=kind, at=there: relative_speed(
                    target, at.points, y, direction, kind, slope=at.slope
                ),
                "speed and slope": lambda kind=kind, at=there: relative_speed(target, at.points, y, direction, kind),
                "backward": one_by_one,
            },
            rounds,
        )
        each = seconds["backward"] * len(x) / some
        values = (seconds["forward"], seconds["speed"], seconds["speed and slope"], each)
        ratios = (seconds["speed"] / seconds["forward"], each / seconds["speed"])
        yield f"| {name} | {kind} | {' | '.join(f'{1e3 * value:.0f}' for value in values)} | {ratios[0]:.2f} | {ratios[1]:.1f} |"  # noqa: E501


def rows_step(name: str, samples: int, rounds: int) -> Iterator[str]:
    """| model | norm | published s | Assay s | ratio |."""
    target, x, y = subject(name, samples)
    for kind in NORMS:
        recipe = DyART(norm=kind, burn_in=0.0, r0=1.0)
        seconds = take_turns(
            {
                "published": lambda kind=kind: published_step(target, x, y, kind),
                "assay": lambda recipe=recipe: flow(recipe, target, x, y),
            },
            rounds,
        )
        ratio = seconds["assay"] / seconds["published"]
        yield f"| {name} | {kind} | {seconds['published']:.2f} | {seconds['assay']:.2f} | {ratio:.2f} |"


def rows_minimum(name: str, samples: int, rounds: int) -> Iterator[str]:
    """| model | norm | mean ratio of distances | equal or smaller | passes |."""
    target, x, y = subject(name, min(samples, 64))
    for kind in NORMS:
        found = closest_boundary_points(target, x, y, norm=kind, temperature=math.inf)
        other = minimum_norm(target, x, y, norm=kind, checks=False)
        ratio = found.distance / other.distance
        backward = (found.cost.backward / len(x), other.cost.backward / len(x))
        yield (
            f"| {name} | {kind} | {float(ratio.mean()):.3f} | {float((ratio <= 1.001).float().mean()):.3f} | "
            f"{backward[0]:.0f} | {backward[1]:.0f} |"
        )


HEADS = {
    "search": "| model | norm | plain s | Assay s | times faster | equal or smaller | mean ratio | largest ratio "
    "| found (plain, Assay) | forward + backward passes |",
    "speed": "| model | norm | forward ms | speed ms | speed with slope ms | a backward a point ms | speed / forward "
    "| backward / speed |",
    "step": "| model | norm | published s | Assay s | ratio |",
    "minimum": "| model | norm | mean ratio | at most 1.001 | backward passes | of minimum_norm |",
}
PARTS: dict[str, Callable[..., Iterator[str]]] = {
    "search": rows_search,
    "speed": rows_speed,
    "step": rows_step,
    "minimum": rows_minimum,
}


def main() -> None:
    """Run what was named, or everything."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="PART", help="search, speed, step, minimum (default: all)")
    parser.add_argument("--model", action="append", choices=MODELS, help="default: all")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--samples", type=int, default=256)
    parser.add_argument("--steps", type=int, default=20, help="iterations of the search in part search")
    options = parser.parse_args()
    torch.set_num_threads(1)
    for part in options.parts or PARTS:
        print(f"\n{HEADS[part]}\n{'|---' * (HEADS[part].count('|') - 1)}|")
        for name in options.model or MODELS:
            more = {"steps": options.steps} if part == "search" else {}
            for row in PARTS[part](name, options.samples, options.rounds, **more):
                print(row, flush=True)


if __name__ == "__main__":
    main()
