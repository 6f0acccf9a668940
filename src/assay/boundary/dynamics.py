"""Probe: how the decision boundary moves during a training, and for whom it comes closer.

At moments of the training (weights kept by ``assay train --watch N``) the closest boundary
point x̂ of each sample is found, and there the relative speed

    s = dR/dt = (∇_θ φ(x̂) · θ') / ||∇_x φ(x̂)||_q

for several directions θ' of the same weights: the recipe of the run, other recipes, the gradient flow
of the cross-entropy, and the step that the optimiser really took. Samples with s < 0 lose margin; a
share of them among the vulnerable ones is what Xu et al. (arXiv 2302.03015) call conflicting dynamics.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..core.errors import SettingError, did_you_mean
from ..core.methods import MethodCard
from ..core.probes import Cost, Measurement
from ..core.settings import option, settings
from .paper import CITATION

if TYPE_CHECKING:
    from ..subjects.examination import Examination

CARD = MethodCard(
    name="boundary-dynamics",
    kind="probe",
    title="Dynamics of the decision boundary",
    summary="For which share of vulnerable samples a training brings the decision boundary closer.",
    settings="Dynamics",
    citation=CITATION,
    norms=("linf", "l2"),
)

BELOW = {"linf": 8 / 255, "l2": 0.5}
DIRECTIONS = ("own", "standard", "adversarial", "trades", "dyart", "step", "gradient-flow")
USUAL = DIRECTIONS[:-1]  # the last is that of "standard" where no layer changes in training mode
FINISH_FORWARD, FINISH_BACKWARD = 40, 10


@settings
class Dynamics:
    """Settings of the boundary-dynamics probe."""

    norm: str = option(default="linf", help="norm of the margins", choices=("linf", "l2"))
    temperature: float = option(default=5.0, help="sharpness of the soft margin, 5 in the paper", above=0)
    samples: int = option(default=256, help="training samples to look at, at most", at_least=1)
    moments: int = option(default=8, help="moments of the training to look at, at most", at_least=1, at_most=1000)
    below: float | None = option(
        default=None, help="margin below which a sample is vulnerable; default: 8/255 for linf, 0.5 for l2", above=0
    )
    budget: float | None = option(default=None, help="eps of the recipes compared; default: below", above=0)
    directions: tuple[str, ...] = option(
        default=USUAL,
        help="where the weights are imagined to move: own, standard, adversarial, trades, dyart, step, gradient-flow "
        "(of the cross-entropy in evaluation mode); the first one is drawn in detail",
    )
    steps: int = option(default=20, help="iterations of the search for boundary points", at_least=1)
    inner_steps: int = option(default=10, help="steps of the attack in the recipes compared", at_least=1)

    def __post_init__(self) -> None:
        if self.below is None:
            object.__setattr__(self, "below", BELOW[self.norm])
        if self.budget is None:
            object.__setattr__(self, "budget", self.below)
        for name in self.directions:
            if name not in DIRECTIONS:
                raise SettingError(f"Dynamics.directions names {name!r}.{did_you_mean(name, DIRECTIONS)}")
        if not self.directions or len(set(self.directions)) < len(self.directions):
            raise SettingError(
                f"Dynamics.directions is {self.directions}; allowed: at least one of {', '.join(DIRECTIONS)}, each "
                "once."
            )

    @property
    def radius(self) -> float:
        """``below``, as it was resolved."""
        return BELOW[self.norm] if self.below is None else self.below

    @property
    def eps(self) -> float:
        """``budget``, as it was resolved."""
        return self.radius if self.budget is None else self.budget

    def expected_cost(self, *, samples: int, classes: int) -> Cost:
        """Search, inner problems and forward-mode passes of all moments, as if each recipe had an inner problem."""
        count = self.moments * min(self.samples, samples)
        plain = sum(name in ("standard", "gradient-flow") for name in self.directions)
        inner = sum(name in ("own", "adversarial", "trades", "dyart") for name in self.directions)
        passes = plain + inner * (self.inner_steps + 3)
        return Cost(
            forward=count * (self.steps + FINISH_FORWARD + passes + 3 * len(self.directions)),
            backward=count * (self.steps + FINISH_BACKWARD + passes),
        )

    def measure(self, examination: Examination) -> Measurement:
        """Margins and speeds of the samples at every moment."""
        from ..subjects.tasks import Classification
        from .dynamics_findings import findings
        from .dynamics_view import View
        from .moments import Observer, is_training, moments_of, read_training

        target = examination.target
        if target.folder is None or not is_training(target.folder):
            return Measurement(
                not_applicable="the model is no folder of 'assay train', so nothing is known of how it was trained."
            )
        if not isinstance(target.task, Classification):
            return Measurement(not_applicable=f"a decision boundary is that of a classifier; this is {target.task}.")
        training = read_training(target.folder)
        observer = Observer(self, examination, training)
        kept = moments_of(target.folder, self.moments)
        moments = kept if kept else [None]  # None: the finished weights
        looks = []
        with examination.progress.task("boundary dynamics", total=len(moments) * (1 + len(self.directions))) as task:
            for moment in moments:
                looks.append(observer.look(moment, last=moment is moments[-1], advance=task.advance))
        view = View(self, looks, observer.unavailable, kept_moments=bool(kept))
        return Measurement(
            metrics=view.metrics(),
            samples=view.columns(observer.rows.numpy(), len(examination.labels)),
            findings=findings(view, training, examination),
            figures=view.figures(),
            cost=observer.cost,
        )
