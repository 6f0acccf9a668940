"""Clip rules that release noisy counts of the batch: Global-Adapt moves its threshold, DPSGD-F sets a bound a group.

The counts and the gradient sum come from the same Poisson batch, so both releases together are one
subsampled Gaussian step with the multiplier of ``assay.privacy.effective_noise``. Draw the counts once
a step; use the same noisy values for clipping, noise and diagnostics; charge once.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor

from ..core.errors import InputError, SettingError, Unsupported
from .clipping import _TINY, Rule, as_norms, checked, refuse_low_threshold, rounded_down

if TYPE_CHECKING:
    from ..tensors.gradients import SampleNorms


@dataclass(frozen=True)
class GlobalAdapt(Rule):
    """Global scaling with a threshold that follows the norms: f(n) = C/Z if n <= Z, otherwise C/n.

    After each step Z <- Z exp(-η + b̃), where b̃ estimates the share of samples with n > τZ from a noisy
    count; Z settles where that share is η. With ``centred`` the count is Σ_i (1[n_i > τZ] - ½), which one
    record changes by ½ only, and b̃ = ½ + (count + N(0, σ_b²)) / B with the public expected batch size B.
    Without, the count is Σ_i 1[n_i > τZ], as published, also divided by the public B. Z never falls below C.

    Args:
        c: clipping norm C, above 0.
        z: first upper threshold Z >= C.
        tau: τ above 0, where to count, as a share of Z.
        eta: η >= 0, the share to settle at, and the rate at which Z shrinks when no sample is above.
        count_noise: σ_b above 0, standard deviation of the noise on the count.
        centred: half-centred count (dearer counts by a factor of two otherwise).

    Reference:
        Esipova et al., Disparate Impact in Differential Privacy from Gradient Misalignment, 2023,
        arXiv:2206.07737; centring: Andrew et al., 2021, arXiv:1905.03871.

    >>> rule = GlobalAdapt(1.0, 50.0)
    >>> rule.factors([0.0, 50.0, 100.0])
    tensor([0.0200, 0.0200, 0.0100])
    >>> round(rule.next_z(50.0, 26, 256, 0.0), 3)  # 10.2 % above, the target is 10 %
    50.078
    """

    c: float
    z: float
    tau: float = 0.7
    eta: float = 0.1
    count_noise: float = 10.0
    centred: bool = True

    _changing: ClassVar[tuple[str, ...]] = ("z",)

    def __post_init__(self) -> None:
        super().__post_init__()
        checked(self, "z", "first upper threshold", above=0)
        refuse_low_threshold(self.name, self.c, self.z)
        checked(self, "tau", "share of Z above which samples are counted", above=0)
        checked(self, "eta", "share of samples above τZ that Z settles at", at_least=0)
        checked(self, "count_noise", "noise on the count; without it nothing holds", above=0)

    @property
    def name(self) -> str:
        return "global-adapt"

    def _factor(self, n: Tensor) -> Tensor:
        return self.c / n.clamp(min=self.z)

    def counts(self, norms: Tensor, groups: Tensor | None = None) -> Tensor:
        """The exact count, half-centred if ``centred``: [1], float64."""
        values = as_norms(norms)
        above = (values > self.tau * self.z).double()
        return (above - 0.5 if self.centred else above).sum().reshape(1)

    def following(self, noisy: Tensor | None, batch_size: float) -> GlobalAdapt:
        """The rule with the new Z; C is its floor, because below it the rule would enlarge gradients.

        Args:
            noisy: [1], the released count.
            batch_size: the **public** expected batch size, above 0; never the size of this batch.
        """
        if noisy is None or noisy.numel() != 1:
            raise InputError(f"The clip rule 'global-adapt' needs its one released count, but got {noisy!r}.")
        count = float(noisy) + (0.5 * batch_size if self.centred else 0.0)
        return replace(self, z=max(self.next_z(self.z, count, batch_size, 0.0), self.c))

    def next_z(self, z: float, count_above: float, batch_size: float, normal_draw: float) -> float:
        """The published update, Z exp(-η + (count_above + σ_b · normal_draw) / batch_size).

        Args:
            z: Z before.
            count_above: how many samples have n > τZ.
            batch_size: what the count is divided by, above 0; public if privacy is to hold.
            normal_draw: a draw from N(0, 1).

        Raises:
            SettingError: the batch size is not above 0, or Z leaves the range of numbers.
        """
        if not batch_size > 0:
            raise SettingError(
                f"batch_size is {batch_size!r}; the update of Z divides by it. Give the public expected batch size, "
                "above 0: the size of one Poisson batch is private and may be 0."
            )
        exponent = -self.eta + (count_above + self.count_noise * normal_draw) / batch_size
        try:
            following = z * math.exp(exponent)
        except OverflowError:
            following = math.inf
        if not math.isfinite(following):
            raise SettingError(
                f"The threshold Z = {z:g} of 'global-adapt' grew out of range in one step (exponent {exponent:.3g}): "
                f"count_noise = {self.count_noise:g} is too much for an expected batch size of {batch_size:g}. "
                "Choose count_noise well below the batch size, such as a twentieth of it, or larger batches."
            )
        return following


@dataclass(frozen=True)
class PerGroup(Rule):
    """DPSGD-F: one bound a group from noisy counts, f(n_i) = min(1, C_k / (n_i + 1e-6)) for i in group k.

    m_k and o_k count the samples of group k with norm above C0 and at most C0. From their noisy values,
    truncated to whole numbers and at least 0: r_k = m̃_k / (m̃_k + õ_k), 1 for an empty group, and
    C_k = C0 (1 + r_k / (mean_j r_j + 1e-8)), so C0 <= C_k <= C0 (1 + G).

    The sensitivity is max C_k over **all** G public groups, present in the batch or not. The published code
    takes the maximum over the samples present; which groups these are is private, and the noise scale would
    tell. The list of groups must be public; a record's own group may be secret.

    Args:
        c0: base bound C0, above 0.
        num_groups: G, the number of public groups, 0 to G - 1; ``factors`` alone can do without.
        count_noise: σ1 above 0, standard deviation of the noise on each of the 2G counts. One record changes
            one count by 1.
        bounds: C_k of this step; set by ``active``.

    Reference:
        Xu et al., Removing Disparate Impact on Model Accuracy in Differentially Private SGD, 2021,
        arXiv:2003.03699; as in Esipova et al., 2023, arXiv:2206.07737.

    >>> rule = PerGroup(1.0, 2)
    >>> bounds = rule.active(torch.tensor([5.0, 0.0, 5.0, 10.0])).bounds  # group 0: half above C0; group 1: none
    >>> [round(bound, 6) for bound in bounds]
    [3.0, 1.0]
    """

    c0: float
    num_groups: int | None = None
    count_noise: float = 10.0
    bounds: tuple[float, ...] | None = None

    _changing: ClassVar[tuple[str, ...]] = ("bounds",)

    def __post_init__(self) -> None:
        checked(self, "c0", "base clipping norm", above=0)
        checked(self, "count_noise", "noise on the counts; without it nothing holds", above=0)
        groups = self.num_groups
        if groups is not None and (not isinstance(groups, int) or isinstance(groups, bool) or groups < 1):
            raise SettingError(f"PerGroup.num_groups is {groups!r}; allowed: a whole number, at least 1.")
        if self.bounds is not None:
            object.__setattr__(self, "bounds", tuple(float(bound) for bound in self.bounds))
            if groups is not None and len(self.bounds) != groups:
                raise SettingError(f"PerGroup.bounds has {len(self.bounds)} values for {groups} groups; give one each.")

    @property
    def name(self) -> str:
        return "per-group"

    @property
    def sensitivity(self) -> float:
        """max C_k over all groups; before the counts are released, what it can become at most, C0 (1 + G)."""
        return max(self.bounds) if self.bounds is not None else self.c0 * (1 + self._groups())

    def factors(self, norms: Any, groups: Any = None) -> Tensor:
        """f(n) for norms [B] with groups [B].

        Without ``bounds`` they follow from the **exact** counts of these norms: for analysis, not private.
        """
        values = as_norms(norms)
        index = self._index(values, groups, needs_count=False)
        if self.bounds is None:
            count = self.num_groups or (int(index.max()) + 1 if len(index) else 1)
            known = replace(self, num_groups=count)
            return known.active(known.counts(values, index)).factors(values, index)
        bound = torch.tensor(self.bounds, dtype=torch.float64, device=values.device)[index]
        return rounded_down((bound / (values.double() + _TINY)).clamp(max=1.0), values, bound)

    def weigh(self, norms: SampleNorms, groups: Tensor | None = None) -> Tensor:
        """The factors of a batch, [B]; only with released counts.

        Raises:
            Unsupported: the rule has no bounds yet; exact counts would break the guarantee unseen.
        """
        if self.bounds is None:
            raise Unsupported(
                "The clip rule 'per-group' has no bounds for this step: they come from released counts. Add noise of "
                "standard deviation count_noise to counts(norms, groups) and use active(noisy).weigh(norms, groups); "
                "for an analysis that need not be private, active(counts(norms, groups)) takes the exact counts."
            )
        return self.factors(norms.total, groups)

    def counts(self, norms: Tensor, groups: Tensor | None = None) -> Tensor:
        """The exact counts m_0 .. m_{G-1}, o_0 .. o_{G-1}: [2G], float64."""
        values = as_norms(norms)
        index = self._index(values, groups)
        place = torch.where(values > self.c0, index, index + self._groups())
        return torch.bincount(place, minlength=2 * self._groups()).double()

    def active(self, noisy: Tensor | None) -> PerGroup:
        """The rule with the bounds C_k that follow from the released counts [2G]."""
        groups = self._groups()
        if noisy is None or noisy.shape != (2 * groups,):
            got = None if noisy is None else tuple(noisy.shape)
            raise InputError(f"The clip rule 'per-group' needs its {2 * groups} released counts, but got {got}.")
        above, below = noisy.detach().double().cpu().trunc().clamp(min=0).reshape(2, groups)
        total = above + below
        share = torch.where(total > 0, above / total.clamp(min=1), 1.0)
        bounds = self.c0 * (1 + share / (share.mean() + 1e-8))
        return replace(self, bounds=tuple(bounds.tolist()))

    def with_state(self, state: Mapping[str, Any]) -> PerGroup:
        bounds = state.get("bounds")
        return super().with_state({**state, "bounds": None if bounds is None else tuple(bounds)})

    def _groups(self) -> int:
        if self.num_groups is None:
            raise SettingError(
                "PerGroup.num_groups is not set; the number of groups must be public and fixed before training, "
                "because a group seen only in the data would tell who took part."
            )
        return self.num_groups

    def _index(self, norms: Tensor, groups: Any, *, needs_count: bool = True) -> Tensor:
        if groups is None:
            raise InputError("The clip rule 'per-group' needs groups: [B] whole numbers, one a sample.")
        index = torch.as_tensor(groups, device=norms.device)
        if not len(index):
            index = index.to(torch.int64)
        if index.shape != norms.shape or index.is_floating_point() or index.dtype == torch.bool:
            raise InputError(
                f"The groups have the shape {tuple(index.shape)} and type {index.dtype}; needed: whole numbers of the "
                f"shape of the norms, {tuple(norms.shape)}."
            )
        count = self._groups() if needs_count else self.num_groups
        if len(index) and (int(index.min()) < 0 or (count is not None and int(index.max()) >= count)):
            allowed = f"0 to {count - 1}" if count is not None else "at least 0"
            raise InputError(
                f"The groups run from {int(index.min())} to {int(index.max())}; allowed: {allowed}. "
                "Number the groups from 0, and set num_groups to how many there are."
            )
        return index.to(torch.int64)
