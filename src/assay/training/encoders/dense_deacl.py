"""Dense DeACL: DeACL that holds the map of patch features in place too, and attacks it."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor

from ...core.errors import ModelError
from ...core.methods import MethodCard
from ...core.settings import option, settings
from ...tensors.random import bits
from .deacl import CITATION, DeACL, cosine

if TYPE_CHECKING:
    from ...subjects.backbones import Features
    from ..batches import Batch
    from ..job import Job

CARD = MethodCard(
    name="dense-deacl",
    kind="recipe",
    title="Dense DeACL",
    summary="DeACL with the same terms for patch features, for encoders that serve segmentation and depth too.",
    settings="DenseDeACL",
    citation=CITATION,
    norms=("linf", "l2"),
)

SPACE = 6
"""Stream of a sample's seed that draws which space its attack is aimed at."""


@settings
class DenseDeACL(DeACL):
    """DeACL's loss plus min_θ mean_b [-a' cos(F(x_b), T(x_b)) - k' cos(F(x'_b), F(x_b))] for patch maps F and T.

    The cosine of two maps is the mean over their patches. With the patch weights
    0 and ``attack_space`` ``"global"`` it is DeACL. The attack maximises the
    negative cosine to the teacher in one of the spaces, or in both with equal
    weight; ``"mixed"`` draws one of the two for each sample and step.

    Cost: that of DeACL.
    """

    measured: ClassVar[Mapping[str, tuple[str, str]]] = MappingProxyType(
        {
            **DeACL.measured,
            "patch_cosine_to_teacher": ("cosine of the patch features of a clean image before and after", "higher"),
            "patch_cosine_under_attack": ("cosine of the patch features of a perturbed and the clean image", "higher"),
        }
    )

    patch_weight: float = option(default=1.0, help="weight of the patches' distance to the teacher", at_least=0)
    patch_robust_weight: float = option(default=2.0, help="weight of the patches' distance under attack", at_least=0)
    attack_space: str = option(
        default="mixed",
        help="what the attack moves: the embedding, the patches, both, or one of them for each sample and step",
        choices=("mixed", "global", "patch", "both"),
    )

    def check(self, job: Job) -> None:
        """The encoder needs a map of patches."""
        super().check(job)
        if not job.foundation.patch_dim:
            raise ModelError(
                f"The encoder {self.encoder!r} returns one vector an image and no patch features; use 'deacl'."
            )

    def terms(self, clean: Features, attacked: Features, teacher: Features) -> dict[str, Tensor]:
        """The loss and the cosines it is made of: [b] each, by name."""
        found = super().terms(clean, attacked, teacher)
        near = cosine(clean.patches, teacher.patches).mean((1, 2))
        held = cosine(attacked.patches, clean.patches).mean((1, 2))
        loss = found["loss"] - self.patch_weight * near - self.patch_robust_weight * held
        return {**found, "loss": loss, "patch_cosine_to_teacher": near, "patch_cosine_under_attack": held}

    def harm(self, found: Features, teacher: Features, batch: Batch) -> Tensor:
        """What the inner problem maximises: [b]."""
        embedding = super().harm(found, teacher, batch)
        if self.attack_space == "global":
            return embedding
        patches = -cosine(found.patches, teacher.patches).mean((1, 2))
        if self.attack_space == "patch":
            return patches
        if self.attack_space == "both":
            return 0.5 * (embedding + patches)
        return torch.where(bits(batch.seeds, 1, SPACE)[:, 0] < 0, embedding, patches)
