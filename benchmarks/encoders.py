"""Attacks on encoders and on segmentation, and the training of heads, each beside the plain way to do it.

    python benchmarks/encoders.py [embedding] [segmentation] [heads] [--rounds 3]

All ways take turns in one process with one thread. The figure is processor time: the median over the rounds, and
the ratios within a round. Images are rendered scenes, so nothing is downloaded.

- ``embedding``: ``attack(encoder, ..., "embedding-l2")``, PGD with 20 steps on a ViT-Ti/16 with random weights, beside
  the plain loop: ``backward()`` through a model whose weights ask for gradients, the clean reference computed once.
  Whatever Assay does besides (the best point kept, checked again by the caller's own model) is counted.
- ``segmentation``: ``attack(target, ..., "masked-ce")`` and "seg-pgd", 20 steps through 16 sliding windows an image,
  beside the cost model of the published procedure (averages softmax outputs and applies cross-entropy to them,
  batches of windows that repeat all that follow, ``backward()``), and beside a loop without these two defects. Pixel
  accuracy is counted afterwards in the same way for all.
- ``heads``: ``train_head`` for segmentation on a ViT-Ti/16, features computed once and included, beside encoding
  every image again in every epoch; as published (labels at every pixel) and with Assay's defaults.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from models import CACHE
from torch import Tensor, nn

from assay import Segmentation, Target
from assay.data import load_dense
from assay.evasion import attack
from assay.search.threat import ThreatModel
from assay.subjects import Encoder, build_backbone, encoder
from assay.subjects.sliding import SlidingWindow, windows
from assay.subjects.weights import load_weights, read_weights
from assay.tensors.losses import ce
from assay.training.heads import HeadSettings, train_head

EPS, STEP, STEPS = 8 / 255, 2 / 255, 20
CROP, STRIDE, SIDE, TOGETHER = 64, 43, 160, 4
Ways = dict[str, Callable[[], Any]]


def scenes(count: int, side: int, split: str = "test") -> tuple[Tensor, Tensor]:
    """Images [N, 3, side, side] and masks [N, side, side]."""
    data = load_dense("scenes", split=split, limit=count, image_size=side)
    return torch.from_numpy(data.images()), torch.from_numpy(data.masks())


def take_turns(ways: Ways, rounds: int) -> tuple[dict[str, Any], dict[str, list[float]]]:
    """What every way returned in its first turn, which is not counted, and its processor seconds in the others."""
    returned: dict[str, Any] = {name: work() for name, work in ways.items()}
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, work in ways.items():
            before = time.process_time()
            work()
            seconds[name].append(time.process_time() - before)
    return returned, seconds


def compared(seconds: dict[str, list[float]], plain: str, ours: str) -> str:
    """The median ratio within a round, and its range."""
    ratios = sorted(a / b for a, b in zip(seconds[plain], seconds[ours], strict=True))
    return f"{statistics.median(ratios):.2f} ({ratios[0]:.2f} .. {ratios[-1]:.2f})"


def started(x: Tensor) -> Tensor:
    """A random start in the ball, within the box."""
    generator = torch.Generator().manual_seed(0)
    return (x + EPS * (2 * torch.rand(x.shape, generator=generator) - 1)).clamp(0, 1)


def moved(x: Tensor, at: Tensor, gradient: Tensor) -> Tensor:
    """One step of projected gradient ascent."""
    return (x + (at + STEP * gradient.sign() - x).clamp(-EPS, EPS)).clamp(0, 1)


def plain_embedding(subject: Encoder, x: Tensor) -> Tensor:
    """The loop as it is usually written: the squared distance of embeddings, backward()."""
    network = nn.Sequential(subject.preprocess or nn.Identity(), subject.backbone).eval().requires_grad_(True)
    with torch.no_grad():
        reference = network(x).embedding
    at = started(x)
    for _ in range(STEPS):
        leaf = at.detach().requires_grad_(True)
        F.mse_loss(network(leaf).embedding, reference).backward()
        assert leaf.grad is not None
        at = moved(x, at, leaf.grad)
        network.zero_grad()
    return at


def rows_embedding(rounds: int, cases: Sequence[tuple[int, int]] = ((32, 64), (4, 224))) -> Iterator[str]:
    """| images | plain s | Assay s | times faster | distance |."""
    for count, side in cases:
        subject = encoder("network:vit-tiny", image_size=side)
        x, _ = scenes(count, side)
        threat = ThreatModel("linf", EPS)
        ways: Ways = {
            "plain": lambda s=subject, x=x: plain_embedding(s, x),
            "assay": lambda s=subject, x=x, t=threat: (
                attack(s, x, None, t, "embedding-l2", steps=STEPS, step_size=STEP).adversarial
            ),
        }
        points, seconds = take_turns(ways, rounds)
        clean = subject.embed(x)
        reached = [(subject.embed(points[name]) - clean).norm(dim=1).mean() for name in ways]
        cells = (
            f"{count} of {side}x{side}", *(f"{statistics.median(seconds[name]):.2f}" for name in ways),
            compared(seconds, "plain", "assay"), f"{reached[0]:.4f}, {reached[1]:.4f}",
        )  # fmt: skip
        yield f"| {' | '.join(cells)} |"


class Segmenter(nn.Module):
    """A small ResNet with a class for every patch."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.backbone = build_backbone("resnet-micro", image_size=(CROP, CROP))
        self.classify = nn.Conv2d(self.backbone.patch_dim, classes, 1)

    def forward(self, images: Tensor) -> Tensor:
        """Logits at the size of the images."""
        coarse = self.classify(self.backbone(images - 0.5).patches)
        return F.interpolate(coarse, size=images.shape[-2:], mode="bilinear", align_corners=False)


def segmenter(steps: int = 400) -> tuple[nn.Module, int]:
    """A segmenter trained on scenes of a window's size, once, and its number of classes."""
    classes = load_dense("scenes", split="train", limit=1).num_classes("segmentation")
    torch.manual_seed(0)
    network, weights = Segmenter(classes), CACHE / f"encoders-segmenter-{steps}.safetensors"
    if weights.is_file():
        load_weights(network, read_weights(weights), where=str(weights))
        return network.eval(), classes
    images, masks = scenes(min(1000, 16 * steps), CROP, "train")
    optimizer = torch.optim.AdamW(network.parameters(), lr=3e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=steps)
    for _ in range(steps):
        rows = torch.randint(0, len(images), (16,))
        loss = ce(network(images[rows]), masks[rows]).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    from safetensors.torch import save_file

    weights.parent.mkdir(parents=True, exist_ok=True)
    save_file(network.state_dict(), weights)
    return network.eval(), classes


def whole_answer(network: nn.Module, x: Tensor, published: bool) -> Tensor:
    """Answers of all windows of one image, averaged: softmax outputs with repeated windows as published, or logits."""
    places = windows(x.shape[-2:], (CROP, CROP), (STRIDE, STRIDE))
    crops = [x[..., top : top + CROP, left : left + CROP] for top, left in places]
    answers: list[Tensor] = []
    for start in range(0, len(crops), TOGETHER):
        batch = crops[start:] if published else crops[start : start + TOGETHER]
        found = network(torch.cat(batch))
        answers += (found.softmax(1) if published else found)[: TOGETHER * len(x)].split(len(x))
    total, count = 0, torch.zeros(x.shape[-2:])
    for (top, left), answer in zip(places, answers, strict=True):
        around = (left, x.shape[-1] - CROP - left, top, x.shape[-2] - CROP - top)
        total = total + F.pad(answer, around)
        count[top : top + CROP, left : left + CROP] += 1
    assert isinstance(total, Tensor)
    return total / count


def plain_segmentation(network: nn.Module, x: Tensor, y: Tensor, published: bool) -> Tensor:
    """SegPGD image by image, (1 - λ) CE of the pixels that are right + λ CE of those that are wrong, backward()."""
    network = network.requires_grad_(True)
    found = []
    for image, mask in zip(x.split(1), y.split(1), strict=True):
        at = started(image)
        for step in range(STEPS):
            leaf = at.detach().requires_grad_(True)
            output = whole_answer(network, leaf, published)
            each = F.cross_entropy(output, mask, ignore_index=255, reduction="none")
            right, share = output.argmax(1) == mask, step / (2 * STEPS)
            # As published but for empty sets of pixels, whose mean would be NaN.
            loss = sum(
                weight * (each * chosen).sum() / chosen.sum().clamp_min(1)
                for weight, chosen in ((1 - share, right), (share, ~right))
            )
            loss.backward()
            assert leaf.grad is not None
            at = moved(image, at, leaf.grad)
            network.zero_grad()
        found.append(at)
    return torch.cat(found)


def rows_segmentation(rounds: int, count: int = 4, training: int = 400) -> Iterator[str]:
    """| procedure | processor s | times faster | pixel accuracy |."""
    network, classes = segmenter(training)
    x, y = scenes(count, SIDE)
    target = Target(SlidingWindow(network, CROP, STRIDE, at_once=TOGETHER), task=Segmentation(classes))

    def ours(objective: str) -> Tensor:
        return attack(target, x, y, ThreatModel("linf", EPS), objective, steps=STEPS, step_size=STEP).adversarial

    ways: Ways = {
        "published": lambda: plain_segmentation(network, x, y, published=True),
        "without the defects": lambda: plain_segmentation(network, x, y, published=False),
        "Assay, seg-pgd": lambda: ours("seg-pgd"),
        "Assay, masked-ce": lambda: ours("masked-ce"),
    }

    def accuracy(points: Tensor) -> float:
        right, counted = target.predict(points).argmax(1) == y, y != 255
        return float((right & counted).sum() / counted.sum())

    points, seconds = take_turns(ways, rounds)
    reached = {name: accuracy(points[name]) for name in ways}
    yield f"| no attack | | | {accuracy(x):.3f} |"
    for name in ways:
        cells = (
            name,
            f"{statistics.median(seconds[name]):.2f}",
            compared(seconds, name, "Assay, masked-ce"),
            f"{reached[name]:.3f}",
        )
        yield f"| {' | '.join(cells)} |"


def plain_head(subject: Encoder, x: Tensor, y: Tensor, classes: int, epochs: int, seed: int = 0) -> nn.Module:
    """A linear segmentation head, every image encoded again in every epoch."""
    torch.manual_seed(seed)
    head = nn.Sequential(nn.BatchNorm2d(subject.patch_dim), nn.Conv2d(subject.patch_dim, classes, 1))
    optimizer = torch.optim.AdamW(head.parameters(), lr=1e-3, weight_decay=1e-4)
    for _ in range(epochs):
        for rows in torch.randperm(len(x)).split(16):
            with torch.no_grad():
                patches = subject.backbone(x[rows]).patches
            coarse = head(patches)
            logits = F.interpolate(coarse, size=y.shape[-2:], mode="bilinear", align_corners=False)
            loss = F.cross_entropy(logits, y[rows], ignore_index=255)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return head


def rows_heads(rounds: int, count: int = 64, side: int = 96, epochs: int = 50) -> Iterator[str]:
    """| images | epochs | re-encoding s | cached s | times faster | cached, defaults s | times faster |."""
    data = load_dense("scenes", split="train", limit=count, image_size=side)
    x, y = torch.from_numpy(data.images()), torch.from_numpy(data.masks())
    subject = encoder("network:vit-tiny", image_size=side)
    published = HeadSettings(
        epochs=epochs, batch_size=16, learning_rate=1e-3, weight_decay=1e-4, schedule="constant", label_stride=1
    )
    own = HeadSettings(epochs=epochs)
    ways: Ways = {
        "plain": lambda: plain_head(subject, x, y, data.num_classes("segmentation"), epochs),
        "published": lambda: train_head(subject, data, task="segmentation", settings=published),
        "own": lambda: train_head(subject, data, task="segmentation", settings=own),
    }
    _, seconds = take_turns(ways, rounds)
    cells = (
        f"{count} of {side}x{side}", str(epochs), *(f"{statistics.median(seconds[name]):.2f}" for name in ways),
        compared(seconds, "plain", "published"), compared(seconds, "plain", "own"),
    )  # fmt: skip
    yield f"| {' | '.join(cells)} |"


HEADS = {
    "embedding": "| images | plain s | Assay s | times faster (range) | mean L2 distance reached (plain, Assay) |",
    "segmentation": "| procedure | processor s | time over masked-ce (range) | pixel accuracy |",
    "heads": "| images | epochs | re-encoding s | cached, published settings s | cached, Assay's defaults s "
    "| times faster, published settings | times faster, defaults |",
}
PARTS: dict[str, Callable[..., Iterator[str]]] = {
    "embedding": rows_embedding,
    "segmentation": rows_segmentation,
    "heads": rows_heads,
}


def main() -> None:
    """Run what was named, or everything."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="PART", help="embedding, segmentation, heads (default: all)")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    torch.set_num_threads(1)
    for part in options.parts or PARTS:
        print(f"\n{HEADS[part]}\n{'|---' * (HEADS[part].count('|') - 1)}|")
        for row in PARTS[part](options.rounds):
            print(row, flush=True)


if __name__ == "__main__":
    main()
