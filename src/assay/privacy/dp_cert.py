"""DP-CERT: private training whose models can be certified by randomised smoothing."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

from torch import Tensor

from ..core.errors import SettingError
from ..core.methods import Citation, MethodCard
from ..core.settings import option, settings
from .dp_sgd import DPSGD
from .regularisers import FORMS, PUBLISHED, consistency, macer, stability, views_cross_entropy
from .views import adversarial_points, held, ramped, view_noise, with_clean

if TYPE_CHECKING:
    from ..tensors.gradients import SampleLoss
    from ..training.batches import Batch
    from ..training.state import TrainState

CITATION = Citation(
    key="wu2024augment",
    title="Augment then Smooth: Reconciling Differential Privacy with Certified Robustness",
    authors=(
        "Jiapeng Wu and Atiyeh Ashari Ghomi and David Glukhov and Jesse C. Cresswell and Franziska Boenisch and "
        "Nicolas Papernot"
    ),
    year=2024,
    venue="Transactions on Machine Learning Research",
    arxiv="2306.08656",
)

CARD = MethodCard(
    name="dp-cert",
    kind="recipe",
    title="DP-CERT",
    summary="DP-SGD on noisy views of each image, averaged before clipping, so that smoothing can certify the model.",
    settings="DPCert",
    citation=CITATION,
)

VARIANTS = ("gaussian", "stability", "consistency", "macer", "smoothadv")

SMOOTHADV: dict[str, float] = {"attack_eps": 64 / 256, "attack_steps": 2, "ramp_epochs": 10}
"""Inner problem of the variant ``smoothadv`` as published for private training."""

OPTIONS = ("form", "weight", "entropy_weight", "beta", "gamma", "attack_eps", "attack_steps", "ramp_epochs")


@settings
class DPCert(DPSGD):
    r"""DP-SGD on K + 1 views of each sample: g_i = ∇ L(z(x_i), z(x_i + n_1), ..., z(x_i + n_K); y_i), n_k ~ N(0, σ² I).

    A sample's loss is a function of its own views alone; its gradient, averaged over
    them, is clipped **once**. The views of a sample therefore cost no privacy: a
    sample still contributes one vector of bounded length, and epsilon is that
    of DP-SGD with the same noise multiplier, batch size and number of steps. The
    published implementation lays the views of a batch out in an order in which the
    losses of all variants but gaussian and macer pair views of *different* images; clipping
    then bounds nothing and its epsilon is not justified. Here the loss is given one
    sample's views at a time, and cannot be written in that way.

    Variants, with their terms beside the cross-entropy of the views
    (:mod:`assay.privacy.regularisers`):

    - ``gaussian``: none;
    - ``stability``: the divergence of the clean answer from those of the noisy views;
    - ``consistency``: the divergences of the noisy views from their mean, and its entropy;
    - ``macer``: the radius that smoothing would certify, by a hinge;
    - ``smoothadv``: none, but the noisy views lie around x + δ, where the sample's own
      average over them is worst; the clean view stays x.

    ``form`` takes a regulariser as in private training (``dp-cert``) or as it was first
    published; ``weight`` and the other parameters default to what that form was published
    with. A parameter that the variant does not read is an error. Views are never clamped
    to the range of images. ``sigma`` is the noise to certify with afterwards: it is written to
    the record of the training. With ``views=0`` the recipe is DP-SGD.

    Published for MNIST: K = 2, sigma 0.25, 0.5 or 1, clip_norm 0.1, noise_multiplier 1.23,
    delta 1e-6, batches of 512, 40 epochs, SGD with learning rate 0.5 and plain momentum 0.9.

    Cost: K + 1 forward and backward passes a sample and step; ``smoothadv``
    attack_steps · K more of each.

    >>> DPCert(variant="macer", gamma=1).parameters
    {'weight': 16.0, 'beta': 16.0, 'gamma': 1.0}
    """

    clip_norm: float = option(default=0.1, help="clipping norm C", above=0)
    variant: str = option(default="gaussian", help="what is added to the noisy views", choices=VARIANTS)
    views: int = option(default=2, help="noisy views K of each sample, beside the clean one", at_least=0)
    sigma: float = option(
        default=0.5, help="standard deviation of the views' noise, for images in [0, 1]", above=0, below=float("inf")
    )
    form: str | None = option(
        default=None,
        help="form of the regulariser; none: dp-cert",
        choices=("dp-cert", "original", "xent", "kl", "mse"),
    )
    weight: float | None = option(
        default=None, help="weight of the regulariser; none: as published", at_least=0, below=float("inf")
    )
    entropy_weight: float | None = option(
        default=None, help="consistency: weight of the entropy; none: 0.5", at_least=0, below=float("inf")
    )
    beta: float | None = option(default=None, help="macer: inverse temperature; none: 16", above=0, below=float("inf"))
    gamma: float | None = option(
        default=None, help="macer: hinge; none: 0.1, or 8 in its original form", at_least=0, below=float("inf")
    )
    attack_eps: float | None = option(
        default=None, help="smoothadv: L2 budget, for images in [0, 1]; none: 64/256", at_least=0, below=float("inf")
    )
    attack_steps: int | None = option(default=None, help="smoothadv: gradient steps; none: 2", at_least=1)
    ramp_epochs: int | None = option(
        default=None, help="smoothadv: epochs over which the budget grows; none: 10", at_least=0
    )

    uses_views: ClassVar[bool] = True

    def __post_init__(self) -> None:
        DPSGD.__post_init__(self)
        forms = FORMS.get(self.variant, ())
        if self.form is not None and forms and self.form not in forms:
            raise SettingError(
                f"DPCert.form is {self.form!r} with variant {self.variant!r}; allowed: {', '.join(forms)}."
            )
        readable = {*self._published, *(("form",) if forms else ())}
        for name in OPTIONS:
            if getattr(self, name) is not None and name not in readable:
                what = f"variant {self.variant!r}" + (f" in the form {self._form!r}" if forms else "")
                others = f"it reads {', '.join(sorted(readable))}" if readable else "it has no parameters"
                raise SettingError(
                    f"DPCert.{name} is {getattr(self, name)!r}, which {what} does not read ({others}). "
                    f"Leave {name} out, or choose another variant."
                )
        least = 2 if self._form in ("kl", "mse") else int(self.variant != "gaussian")
        if self.views < least:
            what = f"variant {self.variant!r}" + (f" in the form {self._form!r}" if least == 2 else "")
            raise SettingError(f"DPCert.views is {self.views}; {what} needs at least {least}, such as views=2.")

    @property
    def parameters(self) -> dict[str, Any]:
        """The variant's own parameters as used: those given, and for the others what was published."""
        given = {name: getattr(self, name) for name in self._published}
        return {name: self._published[name] if value is None else value for name, value in given.items()}

    @property
    def regulariser(self) -> SampleLoss:
        """The loss of one sample, (outputs [1, K + 1, C], labels [1]) -> [1]."""
        if self.variant == "stability":
            return partial(stability, form=self._form, **self.parameters)
        if self.variant == "consistency":
            return partial(consistency, form=self._form, **self.parameters)
        if self.variant == "macer":
            return partial(macer, form=self._form, sigma=self.sigma, **self.parameters)
        return views_cross_entropy

    def inputs(self, state: TrainState, batch: Batch) -> Tensor:
        """The clean image and its K noisy views: [b, K + 1, C, H, W]."""
        noise = view_noise(batch.seeds, self.views, batch.images.shape[1:], self.sigma)
        centres = self._adversarial(state, batch, noise) if self.variant == "smoothadv" else batch.images
        return with_clean(batch.images, centres[:, None] + noise)

    def sample_loss(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """The loss of one sample over its views: outputs [1, K + 1, C], labels [1] -> [1]."""
        return self.regulariser(outputs, labels)

    def privacy_extras(self) -> dict[str, Any]:
        """What the record of the privacy holds besides: the views the model was trained on."""
        form = {"form": self._form} if self._form else {}
        about = {"sigma": self.sigma, "views": self.views, "variant": self.variant, **form, **self.parameters}
        return {"smoothing": about}

    def _adversarial(self, state: TrainState, batch: Batch, noise: Tensor) -> Tensor:
        """Where each sample's average over its own noise is worst, the model in evaluation mode: [b, C, H, W]."""
        effort = self.parameters
        eps = ramped(effort["attack_eps"], state.step // state.steps_per_epoch, effort["ramp_epochs"])
        share = batch.size // state.accelerator.num_processes  # expected, as in DPSGD.step: true sizes are private
        passes = effort["attack_steps"] * self.views * share if eps else 0
        state.cost.forward += passes
        state.cost.backward += passes
        with state.evaluating():
            return adversarial_points(
                held(state.model), batch.images, batch.labels, noise, eps=eps, steps=effort["attack_steps"]
            )

    @property
    def _form(self) -> str:
        """The form in use; empty for variants that have none."""
        return (self.form or FORMS[self.variant][0]) if self.variant in FORMS else ""

    @property
    def _published(self) -> dict[str, float]:
        """Names and published values of the parameters that the variant reads."""
        if self.variant == "smoothadv":
            return SMOOTHADV
        return PUBLISHED[self.variant, self._form] if self._form else {}
