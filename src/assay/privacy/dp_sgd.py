"""DP-SGD: every sample's gradient is clipped, noise is added to the sum, and the budget is charged beforehand."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor

from ..core.errors import InputError, SettingError
from ..core.files import read_json
from ..core.methods import Citation, MethodCard
from ..core.settings import option, settings
from ..tensors.gradients.backends import BACKENDS
from ..training.losses import cross_entropy
from ..training.poisson import PoissonBatches
from ..training.recipe import Recipe
from .plan import Plan, plan_of
from .record import PRIVACY, forecast_sentences

if TYPE_CHECKING:
    from ..data.dataset import Dataset
    from ..training.batches import Batch, Batches
    from ..training.job import Job
    from ..training.state import TrainState
    from .clipping import ClipRule
    from .companion import PrivateCompanion

CITATION = Citation(
    key="abadi2016deep",
    title="Deep Learning with Differential Privacy",
    authors=(
        "Martín Abadi and Andy Chu and Ian Goodfellow and H. Brendan McMahan and Ilya Mironov and "
        "Kunal Talwar and Li Zhang"
    ),
    year=2016,
    venue="ACM Conference on Computer and Communications Security",
    arxiv="1607.00133",
)

CARD = MethodCard(
    name="dp-sgd",
    kind="recipe",
    title="Differentially private SGD",
    summary="Clipped per-sample gradients of Poisson batches with Gaussian noise, and a ledger of the privacy spent.",
    settings="DPSGD",
    citation=CITATION,
)

CLIPS = ("flat", "per-layer", "global", "global-adapt", "per-group", "auto-s", "psac", "psac-dpcert")


@settings
class DPSGD(Recipe):
    """θ <- optimiser( ( Σ_i f(n_i) ∇ CE(z(x_i), y_i) + N(0, σ² S² I) ) / B ), over a Poisson batch.

    Every sample takes part in a step with probability q = batch_size / N, independently
    of all others; B = batch_size is the expected number, a public constant, and
    an empty batch is a step of noise alone. f is the clip rule, S its sensitivity.
    What the optimiser makes of the noisy gradient (momentum, schedule, weight
    average, gradient_clip) costs no privacy.

    **What the guarantee covers**: all weights, at every step, and the threshold of the
    clip rule. So that nothing else gets out, the history of a private training holds
    no training loss, and the pixels are normalised by the constants ``pixel_mean`` and
    ``pixel_std``, not by moments of the data. Taken as public: the number of samples,
    the classes, the list of groups, all settings. Validation is done on other data,
    which this guarantee does not protect.

    **Charged before spent**: each step is written to a ledger in the run folder before
    it is computed. A training that is taken up repeats the steps since its last
    checkpoint with the same samples and the same noise, which is the same release
    and is charged once; with ``secure`` it is another one, and charged again.

    Groups of ``per-group`` are those of the data, or the classes where the data name none.

    Cost: 1 forward and 1 backward pass a sample and step, by per-sample gradients.
    """

    clip: str = option(default="flat", help="clip rule", choices=CLIPS)
    clip_norm: float = option(default=1.0, help="clipping norm C", above=0)
    upper_norm: float = option(default=50.0, help="upper threshold Z of global, first Z of global-adapt", above=0)
    tau: float = option(default=0.7, help="global-adapt counts gradients above tau * Z", above=0)
    z_rate: float = option(default=0.1, help="eta of global-adapt: share of samples above tau * Z", at_least=0)
    count_noise: float = option(
        default=10.0, help="standard deviation of the noise on the counts of global-adapt and per-group", above=0
    )
    centred: bool = option(default=True, help="global-adapt: count 1/2 or -1/2 a sample, which costs less privacy")
    noise_multiplier: float | None = option(
        default=None, help="noise multiplier sigma; none: 1, or what epsilon asks for", at_least=0
    )
    epsilon: float | None = option(
        default=None, help="target epsilon, by RDP, in place of noise_multiplier", above=0, below=float("inf")
    )
    delta: float = option(default=1e-5, help="delta of (epsilon, delta)", above=0, below=1)
    sampling: str = option(
        default="poisson",
        help="poisson: each sample by a draw of its own; shuffled: ordinary batches, without a valid epsilon",
        choices=("poisson", "shuffled"),
    )
    secure: bool = option(default=False, help="sampling and noise from the operating system's entropy")
    backend: str = option(
        default="auto",
        help="how per-sample gradients are computed; auto: the fastest, by a trial",
        choices=("auto", *BACKENDS),
    )
    microbatch: int | None = option(default=None, help="samples held in memory at a time; none: all", at_least=1)
    pixel_mean: tuple[float, ...] = option(default=(0.0,), help="public mean a channel, or one for all")
    pixel_std: tuple[float, ...] = option(default=(1.0,), help="public scale a channel, or one for all", above=0)
    snapshots: int = option(default=0, help="how many weight snapshots are kept for diagnosis", at_least=0)

    uses_views: ClassVar[bool] = False
    """Whether ``inputs`` has several views of a sample, [b, V, ...], whose gradients are averaged before clipping."""

    def __post_init__(self) -> None:
        if self.epsilon is not None and self.noise_multiplier is not None:
            raise SettingError(
                f"{type(self).__name__} has both epsilon {self.epsilon:g} and noise_multiplier "
                f"{self.noise_multiplier:g}; give one of them: the other follows from it."
            )
        if self.epsilon is not None and self.sampling != "poisson":
            raise SettingError(
                f"{type(self).__name__}.epsilon is {self.epsilon:g} with sampling {self.sampling!r}, for which no "
                "epsilon is valid; use sampling 'poisson', or give noise_multiplier."
            )
        self.rule()

    def inputs(self, state: TrainState, batch: Batch) -> Tensor:
        """What the model sees of a batch: [b, ...], or [b, V, ...] where the recipe uses views."""
        return batch.images

    def sample_loss(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """The loss of one sample: outputs [1, K] (with views [1, V, K]), labels [1] -> [1]."""
        return cross_entropy(outputs, labels)

    def step(self, state: TrainState, batch: Batch) -> dict[str, Tensor]:
        """Charge the ledger, then release the noisy gradient."""
        private = self._companion(state)
        private.begin_step()
        inputs = self.inputs(state, batch)
        # Counted is the expected number: sums of the true batch sizes would tell who took part, outside the ledger.
        expected = batch.size // state.accelerator.num_processes * (inputs.shape[1] if self.uses_views else 1)
        state.cost.forward += expected
        state.cost.backward += expected
        groups = private.groups[batch.rows].to(batch.labels.device)
        try:
            released = private.mechanism.step(inputs, batch.labels, groups)
        except InputError as error:
            raise InputError(f"Training diverged: at {state.place} {error}") from error
        for name, parameter in private.parameters.items():
            parameter.grad = released.gradients.get(name)
        return {}

    def rule(self, num_groups: int | None = None) -> ClipRule:
        """The clip rule at the first step."""
        from .rules import clip_rule

        return clip_rule(
            self.clip,
            clip_norm=self.clip_norm,
            upper_norm=self.upper_norm,
            tau=self.tau,
            z_rate=self.z_rate,
            count_noise=self.count_noise,
            centred=self.centred,
            num_groups=num_groups,
        )

    def check(self, job: Job) -> None:
        """Refuse what cannot be private: other precision, layers that mix samples, too large a batch."""
        from ..subjects.networks import build_network
        from ..tensors.gradients import check_module

        if job.settings.precision != "fp32":
            raise SettingError(
                f"TrainSettings.precision is {job.settings.precision!r}; private training needs 'fp32': rounding a "
                "clipped gradient can take it beyond the bound that the noise is made for."
            )
        if self.sampling == "poisson" and job.settings.batch_size > len(job.data):
            raise SettingError(
                f"TrainSettings.batch_size is {job.settings.batch_size}, but there are {len(job.data)} samples; "
                f"it is the expected size of a Poisson batch. Allowed: at most {len(job.data)}."
            )
        self.normalization(job.data)
        channels, height, width = job.data.shape
        with torch.device("meta"):
            network = build_network(
                job.network, in_channels=channels, num_classes=job.data.num_classes, image_size=(height, width)
            )
        check_module(network)
        self.plan(job)

    def plan(self, job: Job) -> Plan:
        """Noise multiplier, sampling rate and number of steps of a job.

        Raises:
            SettingError: the target epsilon cannot be reached.
        """
        return plan_of(self, population=len(job.data), batch_size=job.settings.batch_size, steps=job.total_steps)

    def normalization(self, data: Dataset) -> tuple[list[float], list[float]]:
        """The public constants, one a channel."""
        channels = data.shape[0]
        for name, values in (("pixel_mean", self.pixel_mean), ("pixel_std", self.pixel_std)):
            if len(values) not in (1, channels):
                raise SettingError(
                    f"{type(self).__name__}.{name} has {len(values)} values, the images have {channels} channels; "
                    "give one a channel, or one for all."
                )
        mean, std = (list(values) * (channels // len(values)) for values in (self.pixel_mean, self.pixel_std))
        return mean, std

    def batches(self, data: Dataset, **place: Any) -> Batches:
        """Poisson batches, unless shuffled ones were asked for."""
        if self.sampling == "poisson":
            return PoissonBatches(data, secure=self.secure, **place)
        return super().batches(data, **place)

    def companion(self, job: Job, state: TrainState, out: Path | None) -> PrivateCompanion:
        """Engine, clip rule, ledger and groups."""
        from .companion import PrivateCompanion

        return PrivateCompanion(self, job, state, out)

    def privacy_extras(self) -> dict[str, Any]:
        """What ``privacy.json`` holds besides, for recipes built on this one."""
        return {}

    def outlook(self, job: Job) -> list[str]:
        """Noise and epsilon that the training will come to."""
        return forecast_sentences(self.plan(job))

    def closing(self, out: Path) -> list[str]:
        """The statement of the finished training."""
        statement: list[str] = read_json(out / PRIVACY)["statement"]
        return statement

    def _companion(self, state: TrainState) -> PrivateCompanion:
        from .companion import PrivateCompanion

        assert isinstance(state.companion, PrivateCompanion)
        return state.companion
