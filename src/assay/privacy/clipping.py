"""Clip rules: by how much each sample's gradient is scaled before the sum is taken and noise added.

A step of private training is ( Σ_i f(n_i) g_i + N(0, σ² S² I) ) / B, with n_i the norm of
sample i's gradient g_i over all trained parameters, S = sup_n f(n) n the rule's
``sensitivity``, and B a public number. A rule is the factor f; everything else is the engine's.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, TypeVar

import torch
from torch import Tensor

from ..core.errors import InputError, SettingError, did_you_mean
from ..core.settings import number

if TYPE_CHECKING:
    from ..tensors.gradients import SampleNorms

RuleT = TypeVar("RuleT", bound="Rule")

_TINY = 1e-6  # keeps C / n finite at n = 0; the value that Opacus and the published code use


class ClipRule(Protocol):
    """What the private step asks of a clip rule."""

    @property
    def name(self) -> str:
        """Short name, as on the command line."""

    @property
    def sensitivity(self) -> float:
        """S = sup_n f(n) n; the noise has the standard deviation noise_multiplier * S."""

    @property
    def count_noise(self) -> float | None:
        """Standard deviation of the noise on each released count; None: nothing but the gradient is released."""

    def factors(self, norms: Any, groups: Any = None) -> Tensor:
        """f(n): norms [B] -> [B]; ``PerLayer`` takes and returns [B, L]."""

    def weigh(self, norms: SampleNorms, groups: Tensor | None = None) -> Tensor:
        """The factors of a batch, [B] or one a parameter [B, P]."""

    def counts(self, norms: Tensor, groups: Tensor | None = None) -> Tensor | None:
        """Exact counts [m] of this batch that the rule needs, to be released with noise; each record changes one."""

    def active(self, noisy: Tensor | None) -> ClipRule:
        """The rule for this step, given the released counts."""

    def following(self, noisy: Tensor | None, batch_size: float) -> ClipRule:
        """The rule for the next step, given the released counts and the public expected batch size."""

    def state(self) -> dict[str, Any]:
        """What changes while training, as plain numbers."""

    def with_state(self, state: Mapping[str, Any]) -> ClipRule:
        """The rule as it was when ``state`` was taken."""


class Rule:
    """What a rule need not write that has one bound C, releases no counts and does not change."""

    c: float
    _changing: ClassVar[tuple[str, ...]] = ()

    @property
    def name(self) -> str:
        raise NotImplementedError

    def __post_init__(self) -> None:
        checked(self, "c", "clipping norm", above=0)

    @property
    def sensitivity(self) -> float:
        return self.c

    @property
    def count_noise(self) -> float | None:
        return None

    def _factor(self, n: Tensor) -> Tensor:
        """f(n), in float64."""
        raise NotImplementedError

    def factors(self, norms: Any, groups: Any = None) -> Tensor:
        """f(n) for norms [B], in their precision, rounded so that f(n) n <= C holds exactly."""
        values = as_norms(norms)
        return rounded_down(self._factor(values.double()), values, self.c)

    def weigh(self, norms: SampleNorms, groups: Tensor | None = None) -> Tensor:
        return self.factors(norms.total, groups)

    def counts(self, norms: Tensor, groups: Tensor | None = None) -> Tensor | None:
        return None

    def active(self: RuleT, noisy: Tensor | None) -> RuleT:
        return self

    def following(self: RuleT, noisy: Tensor | None, batch_size: float) -> RuleT:
        return self

    def state(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self._changing}

    def with_state(self: RuleT, state: Mapping[str, Any]) -> RuleT:
        for key in state:
            if key not in self._changing:
                hint = did_you_mean(key, self._changing)
                raise SettingError(f"The clip rule {self.name!r} keeps no state {key!r}.{hint}")
        return replace(self, **state)  # type: ignore[type-var]


@dataclass(frozen=True)
class Flat(Rule):
    """Flat clipping, the rule of DP-SGD: f(n) = min(1, C / (n + 1e-6)).

    Args:
        c: clipping norm C, above 0, in units of the gradient norm.

    Reference:
        Abadi et al., Deep Learning with Differential Privacy, 2016, arXiv:1607.00133.

    >>> Flat(1.0).factors([0.5, 2.0])
    tensor([1.0000, 0.5000])
    """

    c: float

    @property
    def name(self) -> str:
        return "flat"

    def _factor(self, n: Tensor) -> Tensor:
        return (self.c / (n + _TINY)).clamp(max=1.0)


@dataclass(frozen=True)
class PerLayer(Rule):
    """Flat clipping of every layer by itself: f(n_l) = min(1, (C/√L) / (n_l + 1e-6)) for each of L layers.

    The clipped gradient has norm <= C over all layers together, so the noise is that of flat
    clipping at C. In a network, a layer is one module: its weight and its bias go together.

    Args:
        c: bound C on the norm over all layers together, above 0.

    Reference:
        McMahan et al., Learning Differentially Private Recurrent Language Models, 2018, arXiv:1710.06963.

    >>> PerLayer(1.0).factors([[0.1, 2.0, 0.0, 0.0]])
    tensor([[1.0000, 0.2500, 1.0000, 1.0000]])
    """

    c: float

    @property
    def name(self) -> str:
        return "per-layer"

    def factors(self, norms: Any, groups: Any = None) -> Tensor:
        """f for layer norms [B, L] -> [B, L]."""
        values = as_norms(norms, dimensions=2)
        bound = self.c / math.sqrt(max(values.shape[1], 1))
        return rounded_down((bound / (values.double() + _TINY)).clamp(max=1.0), values, bound)

    def weigh(self, norms: SampleNorms, groups: Tensor | None = None) -> Tensor:
        """One factor a parameter, [B, P]; parameters of one module share theirs."""
        layers = [name.rpartition(".")[0] for name in norms.names]
        order = list(dict.fromkeys(layers))
        column = torch.tensor([order.index(layer) for layer in layers], dtype=torch.int64, device=norms.squares.device)
        squares = norms.squares.new_zeros((len(norms.squares), len(order))).index_add_(1, column, norms.squares)
        return self.factors(squares.sqrt())[:, column]


@dataclass(frozen=True)
class Global(Rule):
    """Global scaling: f(n) = C/Z if n <= Z, otherwise 0. All samples it keeps are scaled alike.

    Args:
        c: clipping norm C, above 0.
        z: upper threshold Z >= C; samples with a larger gradient are left out.

    Raises:
        SettingError: Z < C, where the factor would be above 1 and enlarge gradients.

    Reference:
        Bu et al., On the Convergence and Calibration of Deep Learning with Differential Privacy, 2021,
        arXiv:2106.07830; as in Esipova et al., 2023, arXiv:2206.07737.

    >>> Global(1.0, 4.0).factors([0.0, 4.0, 4.5])
    tensor([0.2500, 0.2500, 0.0000])
    """

    c: float
    z: float

    def __post_init__(self) -> None:
        super().__post_init__()
        checked(self, "z", "upper threshold", above=0)
        refuse_low_threshold(self.name, self.c, self.z)

    @property
    def name(self) -> str:
        return "global"

    def _factor(self, n: Tensor) -> Tensor:
        return torch.where(n > self.z, 0.0, self.c / self.z).to(n)


@dataclass(frozen=True)
class AutoS(Rule):
    """Automatic clipping, AUTO-S: f(n) = C / (n + γ). Every gradient gets nearly the same length.

    f n < C for every n, so the noise is σC. C multiplies gradient and noise alike: with SGD it only
    rescales the learning rate, with Adam it cancels. Tune the learning rate, not C.

    Args:
        c: C, above 0; leave it at 1.
        gamma: γ, above 0; f(0) = C/γ is the largest weight a sample can get.

    Reference:
        Bu et al., Automatic Clipping, 2023, arXiv:2206.07136.

    >>> AutoS(1.0).factors([0.0, 0.99])
    tensor([100.,   1.])
    """

    c: float
    gamma: float = 0.01

    def __post_init__(self) -> None:
        super().__post_init__()
        checked(self, "gamma", "stability constant", above=0)

    @property
    def name(self) -> str:
        return "auto-s"

    def _factor(self, n: Tensor) -> Tensor:
        return self.c / (n + self.gamma)


@dataclass(frozen=True)
class PSAC(Rule):
    """Per-sample adaptive clipping: as AUTO-S, but samples with a tiny gradient are not blown up.

    ``form="published"``: f(n) = C / (n + r/(n + r)); f(0) = C, largest about 5.26 C at n = √r - r.
    ``form="dpcert"``: f(n) = C n / (n² + r n + r), as coded in the official DP-CERT repository;
    f(0) = 0, largest about 4.76 C at n = √r. The values hold at r = 0.01.
    f n < C for every n in both. As with AUTO-S, C only rescales the learning rate (SGD) or cancels (Adam).

    Args:
        c: C, above 0; leave it at 1.
        r: above 0.
        form: ``published`` or ``dpcert``.

    Reference:
        Xia et al., Differentially Private Learning with Per-Sample Adaptive Clipping, 2023, arXiv:2212.00328;
        Wu et al., Augment then Smooth, 2023, arXiv:2306.08656.

    >>> PSAC(1.0).factors([0.0, 1.0]), PSAC(1.0, form="dpcert").factors([0.0])
    (tensor([1.0000, 0.9902]), tensor([0.]))
    """

    c: float
    r: float = 0.01
    form: str = "published"

    def __post_init__(self) -> None:
        super().__post_init__()
        checked(self, "r", "stability constant", above=0)
        if self.form not in ("published", "dpcert"):
            hint = did_you_mean(self.form, ("published", "dpcert"))
            raise SettingError(f"PSAC.form is {self.form!r}; allowed: published, dpcert.{hint}")

    @property
    def name(self) -> str:
        return "psac" if self.form == "published" else "psac-dpcert"

    def _factor(self, n: Tensor) -> Tensor:
        if self.form == "published":
            return self.c / (n + self.r / (n + self.r))
        # C n / (n² + r n + r), divided by n: at n = 0 the quotient r/n is infinite and f is 0; n² would overflow.
        return self.c / (n + self.r / n + self.r)


def as_norms(norms: Any, dimensions: int = 1) -> Tensor:
    """Norms as a floating-point tensor of the right number of dimensions, or say what is wrong."""
    values = norms if isinstance(norms, Tensor) else torch.as_tensor(norms)
    values = values.detach() if values.is_floating_point() else values.to(torch.float32)
    if values.ndim != dimensions:
        shape, needed = tuple(values.shape), "[B]" if dimensions == 1 else "[B, L], one column a layer"
        raise InputError(f"The norms have the shape {shape}; this clip rule needs {needed}.")
    return values


def rounded_down(factors: Tensor, norms: Tensor, bound: Tensor | float) -> Tensor:
    """Float64 factors in the precision of the norms, the last bit lowered where f n would exceed the bound."""
    rounded = factors.to(norms.dtype)
    above = rounded.double() * norms.double() > bound  # exact for float32: a product of two has 48 bits
    return torch.where(above, torch.nextafter(rounded, torch.zeros_like(rounded)), rounded)


def checked(rule: Any, field: str, what: str, *, above: float | None = None, at_least: float | None = None) -> None:
    """Coerce one field of a frozen rule to a finite float and check its range."""
    label = f"{type(rule).__name__}.{field}"
    value = number(getattr(rule, field), name=label)
    low = (above is not None and value <= above) or (at_least is not None and value < at_least)
    if low or math.isinf(value):
        allowed = f"above {above:g}" if above is not None else f"at least {at_least:g}"
        raise SettingError(f"{label} is {value:g}; allowed: a finite number {allowed} ({what}).")
    object.__setattr__(rule, field, value)


def refuse_low_threshold(name: str, c: float, z: float) -> None:
    """Z < C would turn the rule into another one."""
    if z < c:
        raise SettingError(
            f"The clip rule {name!r} has the upper threshold Z = {z:g} below the clipping norm C = {c:g}. "
            "Its factor C/Z would be above 1, which enlarges small gradients instead of clipping them; published code "
            "then silently becomes another method (plain clipping, or no gradient at all). "
            f"Choose Z >= C, such as upper_norm={50 * c:g}, or a smaller clip_norm."
        )
