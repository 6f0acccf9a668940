"""SEA: the worst of four segmentation attacks, each through shrinking radii.

Masked cross-entropy, SegPGD, Jensen-Shannon and the masked normalised right logit are each
pushed up by Auto-PGD at 2ε, 1.5ε and ε for 30, 30 and 40 % of the steps, whatever the method
asked for; an image counts with the point of lowest pixel accuracy over the pixels that count.
As published: 300 steps. Cost: four times the steps.
"""

from __future__ import annotations

from ...core.methods import MethodCard
from ...core.settings import settings
from ...subjects.dense_tasks import Segmentation
from .registry import Aim, Sizes
from .segmentation import SEA, JensenShannon, MaskedCrossEntropy, MaskNormCorrLog, SegPGD

CARD = MethodCard(
    name="sea",
    kind="objective",
    title="Segmentation ensemble attack",
    summary="Four losses one after another, each from larger radii inwards, and the worst point of all.",
    settings="EnsembleSEA",
    citation=SEA,
    tasks=("segmentation",),
    members=("masked-ce", "seg-pgd", "js", "mask-norm-corrlog"),
)


@settings
class EnsembleSEA:
    """Settings of the segmentation ensemble attack."""

    @property
    def method(self) -> str:
        """How each of the four searches."""
        return "radii"

    def aims(self, task: Segmentation, sizes: Sizes) -> list[Aim]:
        """Four searches."""
        members = (MaskedCrossEntropy(), SegPGD(), JensenShannon(), MaskNormCorrLog())
        return [aim for member in members for aim in member.aims(task, sizes)]
