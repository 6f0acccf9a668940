r"""Losses of depth models as objectives.

Notation: predicted depth P, measured depth T, g = log(P + 0.001) - log(T + 0.001) on the
pixels that count, whose statistics are those of one image.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ...core.methods import Citation, MethodCard
from ...core.settings import option, settings
from ...subjects.dense_tasks import Depth
from ...tensors import losses
from .registry import Aim, Sizes

EIGEN = Citation(
    key="eigen2014depth",
    title="Depth Map Prediction from a Single Image using a Multi-Scale Deep Network",
    authors="Eigen, David and Puhrsch, Christian and Fergus, Rob",
    year=2014,
    venue="Advances in Neural Information Processing Systems",
    arxiv="1406.2283",
)
BENCHMARK = Citation(
    key="kowalczuk2024benchmarking",
    title="Benchmarking Robust Self-Supervised Learning Across Diverse Downstream Tasks",
    authors="Antoni Kowalczuk and Jan Dubi{\\'n}ski and Atiyeh Ashari Ghomi and Yi Sui and George Stein and "
    "Jiapeng Wu and Jesse C. Cresswell and Franziska Boenisch and Adam Dziedzic",
    year=2024,
    venue="ICML Workshop on Foundation Models in the Wild",
    arxiv="2407.12588",
)

CARD_SILOG = MethodCard(
    name="silog",
    kind="objective",
    title="Scale-invariant logarithmic error",
    summary="Spread and mean of the logarithmic error, the mean counting less.",
    settings="SILog",
    citation=EIGEN,
    tasks=("depth",),
)
CARD_MEAN = MethodCard(
    name="silog-mean",
    kind="objective",
    title="Scale-invariant logarithmic error without its variance",
    summary="The mean of the logarithmic error alone, as used while training warms up, and a weak attack.",
    settings="SILogMean",
    citation=EIGEN,
    tasks=("depth",),
)
CARD_GRADIENT = MethodCard(
    name="depth-gradient",
    kind="objective",
    title="Multi-scale gradient error of depth",
    summary="Differences of the logarithmic error between neighbouring pixels at several scales.",
    settings="DepthGradient",
    citation=Citation(
        key="li2018megadepth",
        title="MegaDepth: Learning Single-View Depth Prediction from Internet Photos",
        authors="Li, Zhengqi and Snavely, Noah",
        year=2018,
        venue="Conference on Computer Vision and Pattern Recognition",
        arxiv="1804.00607",
    ),
    tasks=("depth",),
)
CARD_BOTH = MethodCard(
    name="silog-gradient",
    kind="objective",
    title="Scale-invariant and gradient error of depth",
    summary="The scale-invariant logarithmic error and half the gradient error together.",
    settings="SILogGradient",
    citation=BENCHMARK,
    tasks=("depth",),
)
CARD_L1 = MethodCard(
    name="l1",
    kind="objective",
    title="Mean absolute depth error",
    summary="How far predicted depths are off, in the unit of the depth maps.",
    settings="DepthL1",
    tasks=("depth",),
)
CARD_NEAR = MethodCard(
    name="too-near",
    kind="objective",
    title="Everything too near",
    summary="Predictions are drawn towards a fraction of the true depth.",
    settings="TooNear",
    tasks=("depth",),
)
CARD_FAR = MethodCard(
    name="too-far",
    kind="objective",
    title="Everything too far",
    summary="Predictions are drawn towards a multiple of the true depth.",
    settings="TooFar",
    tasks=("depth",),
)


def _aim(name: str, task: Depth, loss: Callable[..., Tensor]) -> Aim:
    return Aim(name, lambda output, reference, t, T: loss(output, reference, valid=task.valid(reference)))


def scaled(output: Tensor, reference: Tensor, *, valid: Tensor, factor: float) -> Tensor:
    """-(mean over the pixels that count of |log(P + 0.001) - log(factor T + 0.001)|), at most 0: [B]."""
    goal = torch.where(valid, reference, 1.0) * factor
    distance = ((output.clamp_min(0) + losses.OFFSET).log() - (goal + losses.OFFSET).log()).abs()
    total = torch.where(valid, distance, 0.0).flatten(1).sum(1, dtype=torch.float64)
    return (-total / valid.flatten(1).sum(1).clamp_min(1)).to(output.dtype)


@settings
class SILog:
    """sqrt(var(g) + β mean(g)²)."""

    beta: float = option(default=0.15, help="weight of the mean", at_least=0)

    def aims(self, task: Depth, sizes: Sizes) -> list[Aim]:
        """One search."""
        return [_aim("silog", task, lambda output, known, valid: losses.silog(output, known, valid, beta=self.beta))]


@settings
class SILogMean:
    """sqrt(0.15) |mean(g)|."""

    def aims(self, task: Depth, sizes: Sizes) -> list[Aim]:
        """One search."""
        return [_aim("silog-mean", task, losses.silog_mean)]


@settings
class DepthGradient:
    """Σ_s (1/N_s) Σ |g(i,j) - g(i,j+2)| + |g(i,j) - g(i+2,j)| on maps of stride s."""

    scales: tuple[int, ...] = option(default=(1, 2, 4, 8), help="strides of the maps", at_least=1)

    def aims(self, task: Depth, sizes: Sizes) -> list[Aim]:
        """One search."""
        return [
            _aim(
                "depth-gradient",
                task,
                lambda output, known, valid: losses.depth_gradient(output, known, valid, scales=self.scales),
            )
        ]


@settings
class SILogGradient:
    """The loss ``silog`` plus ``weight`` times the loss ``depth-gradient``."""

    weight: float = option(default=0.5, help="weight of the gradient error", at_least=0)
    beta: float = option(default=0.15, help="weight of the mean in the scale-invariant error", at_least=0)
    scales: tuple[int, ...] = option(default=(1, 2, 4, 8), help="strides of the maps", at_least=1)

    def aims(self, task: Depth, sizes: Sizes) -> list[Aim]:
        """One search."""

        def loss(output: Tensor, reference: Tensor, *, valid: Tensor) -> Tensor:
            level = losses.silog(output, reference, valid=valid, beta=self.beta)
            return level + self.weight * losses.depth_gradient(output, reference, valid=valid, scales=self.scales)

        return [_aim("silog-gradient", task, loss)]


@settings
class DepthL1:
    """mean |P - T|."""

    def aims(self, task: Depth, sizes: Sizes) -> list[Aim]:
        """One search."""
        return [_aim("l1", task, losses.depth_l1)]


@settings
class TooNear:
    """-mean |log P - log(factor T)|, at most 0, which is reached where every depth is ``factor`` times the true one."""

    factor: float = option(default=0.5, help="what share of the true depth to show", above=0, below=1)

    def aims(self, task: Depth, sizes: Sizes) -> list[Aim]:
        """One search."""
        return [_aim("too-near", task, lambda *given, valid: scaled(*given, valid=valid, factor=self.factor))]


@settings
class TooFar:
    """-mean |log P - log(factor T)|, at most 0, which is reached where every depth is ``factor`` times the true one."""

    factor: float = option(default=2.0, help="what multiple of the true depth to show", above=1)

    def aims(self, task: Depth, sizes: Sizes) -> list[Aim]:
        """One search."""
        return [_aim("too-far", task, lambda *given, valid: scaled(*given, valid=valid, factor=self.factor))]
