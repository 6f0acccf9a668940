"""The private gradient: what a batch tells about its samples passes through here, clipped and noisy."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import Tensor

from ..core.errors import SettingError

if TYPE_CHECKING:
    from ..tensors.gradients import PerSample, SampleNorms
    from .clipping import ClipRule
    from .noise import NoiseSource


@dataclass(frozen=True)
class Release:
    """What one private step lets out, and what it saw.

    Args:
        gradients: noisy mean gradient by parameter name; may be used in any way.
        counts: the noisy counts of the clip rule [m], or None; may be used in any way.
        active: the clip rule that was applied, with bounds that follow from released counts alone.
        rule: the clip rule for the next step; a function of released values alone.
        norms: exact norms and losses of the samples. **Not private**: for diagnosis only.
    """

    gradients: dict[str, Tensor]
    counts: Tensor | None
    active: ClipRule
    rule: ClipRule
    norms: SampleNorms


class PrivateGradient:
    """The subsampled Gaussian mechanism of DP-SGD, for any training loop.

    One step releases

        ( Σ_i f(n_i) g_i + N(0, σ² S² I) ) / B

    with per-sample gradients g_i of norm n_i, the clip rule f, its sensitivity
    S = sup_n f(n) n, the noise multiplier σ and the public expected batch size
    B. Where the rule needs counts of the batch, they are released first, once,
    each with noise of its own; clipping and noise then follow from the
    released counts. An empty batch gives noise alone.

    The privacy of a step is that of one subsampled Gaussian mechanism with noise
    multiplier ``effective_noise(σ, count_noise)``, **if** every sample came into the
    batch by an independent draw of one known probability. That is the caller's to keep,
    and so is the accounting: charge a ``Ledger`` before each step.

    Args:
        per_sample: model and loss.
        rule: how gradients are clipped.
        noise_multiplier: σ, at least 0; at 0 nothing is private.
        expected_batch_size: B, public: sampling probability times number of samples, never the actual size.
        noise: step number -> source of its noise, such as ``lambda step: SecureNoise()``.
        total: sum of a tensor over the processes of a distributed training; each then
            gets its own share of the gradients, and the shares add up to the release.
        adds_noise: whether this process adds the noise; exactly one does.

    Attributes:
        rule: the clip rule of the next step.
        steps: number of the next step, for the noise.

    Cost: that of ``per_sample.clipped_sum``, and one normal draw a parameter.

    Reference:
        Abadi et al., Deep Learning with Differential Privacy, 2016, arXiv:1607.00133.

    >>> import torch
    >>> from assay.privacy import Flat, SeededNoise
    >>> from assay.tensors.gradients import PerSample
    >>> model = torch.nn.Linear(3, 2)
    >>> engine = PerSample(model, torch.nn.functional.cross_entropy)
    >>> private = PrivateGradient(
    ...     engine, Flat(1.0), noise_multiplier=1.1, expected_batch_size=8, noise=lambda step: SeededNoise(0, step)
    ... )
    >>> released = private.step(torch.rand(5, 3), torch.tensor([0, 1, 1, 0, 1]))
    >>> for name, parameter in model.named_parameters():
    ...     parameter.grad = released.gradients[name]
    """

    def __init__(
        self,
        per_sample: PerSample,
        rule: ClipRule,
        *,
        noise_multiplier: float,
        expected_batch_size: float,
        noise: Callable[[int], NoiseSource],
        total: Callable[[Tensor], Tensor] = lambda value: value,
        adds_noise: bool = True,
    ) -> None:
        if not noise_multiplier >= 0:
            raise SettingError(f"noise_multiplier is {noise_multiplier!r}; allowed: at least 0.")
        if not expected_batch_size > 0:
            raise SettingError(f"expected_batch_size is {expected_batch_size!r}; allowed: above 0.")
        self.per_sample, self.rule = per_sample, rule
        self.noise_multiplier, self.expected_batch_size = noise_multiplier, expected_batch_size
        self.noise, self.total, self.adds_noise = noise, total, adds_noise
        self.steps = 0

    def step(self, inputs: Tensor, labels: Tensor, groups: Tensor | None = None) -> Release:
        """Release the gradient of one batch, and go on to the rule of the next step.

        Args:
            inputs: [b, ...]; b may be 0.
            labels: [b].
            groups: index of each sample's group [b], for rules that tell groups apart.
        """
        source = self.noise(self.steps)
        counts: Tensor | None = None
        active = self.rule

        def weigh(norms: SampleNorms) -> Tensor:
            nonlocal counts, active
            counts = self._counts(norms, groups, source)
            active = self.rule.active(counts)
            return active.weigh(norms, groups)

        clipped = self.per_sample.clipped_sum(inputs, labels, weigh)
        gradients = self._noisy(clipped.gradients, self.noise_multiplier * active.sensitivity, source)
        self.rule = active.following(counts, self.expected_batch_size)
        self.steps += 1
        return Release(gradients, counts, active, self.rule, clipped.norms)

    def _counts(self, norms: SampleNorms, groups: Tensor | None, source: NoiseSource) -> Tensor | None:
        """The rule's counts over all processes, with noise added once."""
        counts = self.rule.counts(norms.total, groups)
        if counts is None or self.rule.count_noise is None:
            return None
        if self.adds_noise:
            counts = counts + source.normal(counts.shape, self.rule.count_noise).to(counts.device)
        return self.total(counts)

    def _noisy(self, gradients: dict[str, Tensor], scale: float, source: NoiseSource) -> dict[str, Tensor]:
        """This process's share of the noisy mean."""
        if self.adds_noise and scale > 0:
            sizes = [value.numel() for value in gradients.values()]
            draws = source.normal((sum(sizes),), scale).split(sizes)
            gradients = {
                name: value + draw.to(value.device).reshape(value.shape)
                for (name, value), draw in zip(gradients.items(), draws, strict=True)
            }
        return {name: value / self.expected_batch_size for name, value in gradients.items()}
