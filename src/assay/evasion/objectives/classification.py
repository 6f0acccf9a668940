"""Losses of classifiers as objectives, and plain cross-entropy for classifiers and segmentation models.

Notation: logits z [B, K], label y, π1, π2, ... the classes in order of falling logits.
For segmentation the value is the mean over the pixels that count.
"""

from __future__ import annotations

from ...core.methods import Citation, MethodCard
from ...core.settings import settings
from ...subjects.dense_tasks import Segmentation
from ...subjects.tasks import Task
from ...tensors import losses
from ..apgd import AUTOATTACK
from .registry import Aim, Sizes

CARD_CE = MethodCard(
    name="ce",
    kind="objective",
    title="Cross-entropy",
    summary="What the model was trained to make small; its gradient vanishes where the model is confident and right.",
    settings="CrossEntropy",
    tasks=("classification", "segmentation"),
)
CARD_MARGIN = MethodCard(
    name="margin",
    kind="objective",
    title="Margin of logits",
    summary="The largest wrong logit minus the right one, which is positive exactly where the model is wrong.",
    settings="Margin",
    citation=Citation(
        key="carlini2017",
        title="Towards Evaluating the Robustness of Neural Networks",
        authors="Carlini, Nicholas and Wagner, David",
        year=2017,
        venue="IEEE Symposium on Security and Privacy",
        arxiv="1608.04644",
    ),
    tasks=("classification",),
)
CARD_DLR = MethodCard(
    name="dlr",
    kind="objective",
    title="Difference-of-logits ratio",
    summary="The margin divided by a gap between logits, so that the scale of the logits does not matter.",
    settings="LogitsRatio",
    citation=AUTOATTACK,
    tasks=("classification",),
)


@settings
class CrossEntropy:
    """logsumexp(z) - z_y."""

    def aims(self, task: Task, sizes: Sizes) -> list[Aim]:
        """One search."""
        ignored = task.ignore_index if isinstance(task, Segmentation) else None
        return [Aim("ce", lambda output, reference, t, T: losses.ce(output, reference, ignore_index=ignored))]


@settings
class Margin:
    """max_{j≠y} z_j - z_y."""

    def aims(self, task: Task, sizes: Sizes) -> list[Aim]:
        """One search."""
        return [Aim("margin", lambda output, reference, t, T: losses.margin(output, reference))]


@settings
class LogitsRatio:
    """(max_{j≠y} z_j - z_y) / (z_π1 - z_π3); the margin where there are two classes."""

    def aims(self, task: Task, sizes: Sizes) -> list[Aim]:
        """One search."""
        return [Aim("dlr", lambda output, reference, t, T: losses.dlr(output, reference))]
