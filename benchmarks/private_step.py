"""One step of private training beside plain SGD and beside Opacus' modes: the same work, taking turns.

    python benchmarks/private_step.py [fair-cnn] [dp-cert-cnn] [tanh-cnn] [--rounds 11]

A private step clips every sample's gradient to length 1, adds noise of standard deviation 1 to
the sum, and moves the parameters. All variants hold the same network, take the same batch, and
take turns in one process with one thread (A B C A B C ...), so that a machine that slows down
slows all of them. The figure is processor time; ratios are of the least time of each, which other
programs on the machine disturb least, and the medians are printed beside them.
"""

from __future__ import annotations

import argparse
import statistics
import time
import warnings
from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from assay.subjects.networks import build_network
from assay.tensors.gradients import PerSample, SampleNorms

NETWORKS = {"fair-cnn": (1, 28, 256), "dp-cert-cnn": (1, 28, 256), "tanh-cnn": (3, 32, 64)}  # channels, side, batch
CLIP = NOISE = 1.0
RATE = 0.1

Step = Callable[[Tensor, Tensor], object]


def plain(network: nn.Module, x: Tensor, y: Tensor, channels_last: bool = False) -> Step:
    """SGD without privacy."""
    if channels_last:
        network = network.to(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(network.parameters(), lr=RATE)

    def step(x: Tensor, y: Tensor) -> None:
        optimizer.zero_grad()
        F.cross_entropy(network(x), y).backward()
        optimizer.step()

    return step


def assay(network: nn.Module, x: Tensor, y: Tensor, backend: str = "auto") -> Step:
    """This library: flat clipping, noise, and the update."""
    engine = PerSample(network, F.cross_entropy, backend=backend)
    parameters = dict(network.named_parameters())

    def weigh(norms: SampleNorms) -> Tensor:
        return (CLIP / (norms.total + 1e-6)).clamp(max=1)

    def step(x: Tensor, y: Tensor) -> None:
        clipped = engine.clipped_sum(x, y, weigh)
        with torch.no_grad():
            for name, parameter in parameters.items():
                noisy = clipped.gradients[name] + NOISE * CLIP * torch.randn_like(parameter)
                parameter.sub_(noisy, alpha=RATE / len(x))

    return step


def opacus(network: nn.Module, x: Tensor, y: Tensor, mode: str = "hooks", channels_last: bool = False) -> Step:
    """Opacus, through its privacy engine; mode: hooks, functorch, ew or ghost."""
    from opacus import PrivacyEngine

    if channels_last:
        network = network.to(memory_format=torch.channels_last)
    loader = DataLoader(TensorDataset(x, y), batch_size=len(x))
    module, optimizer, *rest = PrivacyEngine().make_private(
        module=network.train(),
        optimizer=torch.optim.SGD(network.parameters(), lr=RATE),
        data_loader=loader,
        noise_multiplier=NOISE,
        max_grad_norm=CLIP,
        poisson_sampling=False,
        grad_sample_mode=mode,
        criterion=nn.CrossEntropyLoss(),
    )
    criterion = rest[0] if mode == "ghost" else nn.CrossEntropyLoss()

    def step(x: Tensor, y: Tensor) -> None:
        optimizer.zero_grad()
        criterion(module(x), y).backward()
        optimizer.step()

    return step


VARIANTS: dict[str, Callable[[nn.Module, Tensor, Tensor], Step]] = {
    "plain SGD": plain,
    "plain SGD, channels last": partial(plain, channels_last=True),
    "assay auto": assay,
    "assay layers": partial(assay, backend="layers"),
    "assay layers-channels-last": partial(assay, backend="layers-channels-last"),
    "assay vmap": partial(assay, backend="vmap"),
    "opacus hooks": opacus,
    "opacus hooks, channels last": partial(opacus, channels_last=True),
    "opacus functorch": partial(opacus, mode="functorch"),
    "opacus expanded weights": partial(opacus, mode="ew"),
    "opacus ghost": partial(opacus, mode="ghost"),
}


def measure(network: str, *, batch: int, rounds: int) -> dict[str, list[float]]:
    """Processor seconds of single steps: variant -> one for each round, after two that are not counted."""
    channels, side, _ = NETWORKS[network]
    torch.manual_seed(0)
    x, y = torch.randn(batch, channels, side, side), torch.randint(10, (batch,))
    steps = {}
    for name, build in VARIANTS.items():
        torch.manual_seed(0)
        subject = build_network(network, in_channels=channels, num_classes=10, image_size=side)
        inputs = x.contiguous(memory_format=torch.channels_last) if name.endswith(", channels last") else x
        steps[name] = (build(subject, inputs, y), inputs)
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for turn in range(rounds + 2):
        for name, (step, inputs) in steps.items():
            start = time.process_time()
            step(inputs, y)
            if turn > 1:
                seconds[name].append(time.process_time() - start)
    return seconds


def table(network: str, seconds: dict[str, list[float]], batch: int) -> str:
    """A Markdown table of least and median times and their ratios to plain SGD."""
    rounds = len(next(iter(seconds.values())))
    least = {name: min(values) for name, values in seconds.items()}
    middle = {name: statistics.median(values) for name, values in seconds.items()}
    lines = [f"### {network}, batch {batch}, {rounds} rounds, one thread", ""]
    lines += ["| step | ms (least, median) | least / plain SGD | median / plain SGD |", "|---|---|---|---|"]
    for name in seconds:
        ratios = (least[name] / least["plain SGD"], middle[name] / middle["plain SGD"])
        times = f"{1e3 * least[name]:.1f}, {1e3 * middle[name]:.1f}"
        lines.append(f"| {name} | {times} | {ratios[0]:.2f} | {ratios[1]:.2f} |")
    return "\n".join(lines)


def main() -> None:
    """Measure what was named, or all networks."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("networks", nargs="*", default=list(NETWORKS))
    parser.add_argument("--rounds", type=int, default=11)
    options = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    for network in options.networks:
        batch = NETWORKS[network][2]
        print(f"\n{table(network, measure(network, batch=batch, rounds=options.rounds), batch)}", flush=True)


if __name__ == "__main__":
    main()
