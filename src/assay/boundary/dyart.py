"""DyART: dynamics-aware robust training, which moves the decision boundary away from the nearest samples."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor

from ..core.methods import MethodCard
from ..core.settings import option, settings
from ..search.closest import closest_points
from ..training.adversarial import Adversarial
from ..training.burn_in import BurnIn
from ..training.losses import cross_entropy
from ..training.presets import Preset
from .loss import BoundaryTerm, Priority, boundary_term
from .margin import soft_margin
from .paper import CITATION
from .presets import PRESETS
from .weights import WeightLog

if TYPE_CHECKING:
    from pathlib import Path

    from ..training.batches import Batch
    from ..training.inner import InnerProblem
    from ..training.job import Job
    from ..training.recipe import Companion
    from ..training.state import TrainState

CARD = MethodCard(
    name="dyart",
    kind="recipe",
    title="Dynamics-aware robust training (DyART)",
    summary="Cross-entropy on clean images, and a push of the decision boundary away from the samples nearest to it.",
    settings="DyART",
    citation=CITATION,
    norms=("linf", "l2"),
)

BOUNDS = (0.0, 1.0)


@settings
class DyART(BurnIn):
    r"""min_θ mean_b CE(z(x_b), y_b) + λ mean_b w_b (-φ(x̂_b)), w_b = exp(-α R_b) 1[R_b < r0] / ||∇_x φ(x̂_b)||_q.

    x̂ is the nearest point of the decision boundary {φ = 0} found from a correctly classified x, R its distance,
    φ the soft logit margin; the second term has the gradient of λ mean_b h(R_b), h(R) = exp(-α R) / α
    (Xu et al., arXiv 2302.03015). Misclassified samples and those without a boundary point have no boundary
    term; the mean is over the whole batch. The first epochs train on the cross-entropy alone.

    Cost: about steps + 4 forward and backward passes a sample and step, and the forward passes of the search's
    finish; 1 of each during the burn-in.
    """

    presets: ClassVar[Mapping[str, Preset]] = PRESETS

    norm: str = option(default="linf", help="norm of the distance", choices=("linf", "l2"))
    r0: float = option(default="16/255", help="samples further from the boundary do not count", above=0)
    alpha: float = option(default=3.0, help="how fast the weight falls with the distance", at_least=0)
    alpha_unit: str = option(
        default="raw",
        help="alpha per unit of the raw input, as published, or per r0, which makes the priority felt",
        choices=("raw", "r0"),
    )
    weight: float = option(default=1000.0, help="weight lambda of the boundary term", at_least=0)
    temperature: float = option(default=5.0, help="sharpness of the soft margin", above=0)
    steps: int = option(default=20, help="iterations of the search for boundary points", at_least=1)
    burn_in: float = option(
        default=0.1, help="share of the epochs, at the start, that train on clean images alone", at_least=0, below=1
    )
    batch_statistics: str = option(
        default="frozen",
        help="BatchNorm in the boundary term: frozen, as in the search, or joint with the clean images",
        choices=("frozen", "joint"),
    )
    validation_eps: float = option(default="8/255", help="budget of the attack in validation", at_least=0)

    def adversary(self) -> InnerProblem:
        """Validation attacks by PGD at ``validation_eps``."""
        return Adversarial(norm=self.norm, eps=self.validation_eps, steps=10)

    def companion(self, job: Job, state: TrainState, out: Path | None) -> Companion:
        """What the weights of the last epoch were."""
        return WeightLog(self.priority)

    def outlook(self, job: Job) -> list[str]:
        """What a dry run cannot see."""
        return [
            "DyART searches boundary points of correctly classified samples alone, and an untrained model has few: "
            f"expect up to {self.steps + 10} forward and {self.steps + 5} backward passes a sample and step later on."
        ]

    @property
    def priority(self) -> Priority:
        """How much a sample counts by its distance."""
        return Priority(self.alpha, self.r0, self.alpha_unit)

    def step(self, state: TrainState, batch: Batch) -> dict[str, Tensor]:
        """Search, then one pass over the clean images and one over the boundary points."""
        if self.burning_in(state):
            return self.plain_step(state, batch)
        found = self.search(state, batch)
        logits, term = self._passes(state, batch, found)
        clean = batch.mean(cross_entropy(logits, batch.labels))
        boundary = (term.losses * batch.weights[found.rows]).sum() / batch.size
        loss = clean + self.weight * boundary
        state.cost.backward += len(found.rows)  # to the boundary points, for the slope
        state.backward(loss, len(batch.images) + len(found.rows))
        if isinstance(state.companion, WeightLog):
            state.companion.note(found.distance, term.weights)
        within = batch.weights[found.rows].sum() / batch.size
        return {
            "loss": loss,
            "clean_loss": clean,
            "boundary_loss": boundary,
            "found": (batch.weights * found.found).sum() / batch.size,
            "within": within,
        }

    def search(self, state: TrainState, batch: Batch) -> Boundary:
        """The nearest boundary points of the correctly classified samples, the model in evaluation mode.

        Cost: 1 forward pass a sample, and the search's passes a correctly classified sample.
        """
        with state.evaluating():
            with torch.no_grad():
                margin = soft_margin(state.logits(batch.images), batch.labels, self.temperature)
            inside = margin > 0
            correct = inside.nonzero()[:, 0]
            if not len(correct):
                nothing = batch.images.new_zeros(0)
                return Boundary(correct, batch.images[correct], nothing, torch.zeros_like(inside))
            found = closest_points(
                InTraining(state),
                lambda logits, labels: soft_margin(logits, labels, self.temperature),
                batch.images[correct],
                batch.labels[correct],
                norm=self.norm,
                bounds=BOUNDS,
                steps=self.steps,
                clean=margin[correct],
            )
        near = (found.found & (found.distance < self.r0)).nonzero()[:, 0]
        everywhere = torch.zeros_like(inside).index_copy(0, correct, found.found)
        return Boundary(correct[near], found.points[near], found.distance[near], everywhere)

    def _passes(self, state: TrainState, batch: Batch, found: Boundary) -> tuple[Tensor, BoundaryTerm]:
        """Clean logits, and the boundary term of the samples that count."""

        def term(answer: Callable[[Tensor], Tensor]) -> BoundaryTerm:
            return boundary_term(
                answer,
                found.points,
                batch.labels[found.rows],
                found.distance,
                self.priority,
                norm=self.norm,
                temperature=self.temperature,
            )

        if self.batch_statistics == "frozen" or not len(found.rows):
            clean = state.logits(batch.images)
            with state.evaluating():
                return clean, term(state.logits)
        both: list[Tensor] = []

        def joint(points: Tensor) -> Tensor:
            both.append(state.logits(torch.cat([batch.images, points])))
            return both[0][len(batch.images) :]

        made = term(joint)
        return both[0][: len(batch.images)], made


@dataclass(frozen=True)
class Boundary:
    """The samples of a batch that the boundary term counts.

    Args:
        rows: their places in the batch [b].
        points: x̂ [b, C, H, W].
        distance: R [b], below r0.
        found: which samples of the batch have a boundary point at all [B] bool.
    """

    rows: Tensor
    points: Tensor
    distance: Tensor
    found: Tensor


@dataclass(frozen=True)
class InTraining:
    """The model in training as a search sees it; its passes are counted with the others'."""

    state: TrainState

    @torch.no_grad()
    def logits(self, points: Tensor) -> Tensor:
        """Logits [b, K]."""
        return self.state.logits(points)

    def value_and_gradient(
        self, points: Tensor, objective: Callable[[Tensor, Tensor], Tensor], reference: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Logits, objective [b] and its gradient by the points."""
        self.state.cost.backward += len(points)
        leaf = points.detach().requires_grad_(True)
        with torch.enable_grad():
            output = self.state.logits(leaf)
            value = objective(output, reference)
            (gradient,) = torch.autograd.grad(value.sum(), leaf)
        return output.detach(), value.detach(), gradient
