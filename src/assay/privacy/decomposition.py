"""Gradient misalignment: what clipping and noise cost each group in one step, and why.

With g_k the mean gradient of group k, g the mean gradient of the batch, ḡ = 1/B Σ_i f_i g_i
its mean clipped gradient, H_k the Hessian of the group's mean loss, learning rate η and
r = ‖ḡ‖/‖g‖, the excess loss of group k after one step is, to second order,

    R_clip = η ⟨g_k, g - ḡ⟩ + η²/2 (ḡᵀ H_k ḡ - gᵀ H_k g) = R_dir + R_mag
    R_dir  = η ⟨g_k, r g - ḡ⟩ + η²/2 (ḡᵀ H_k ḡ - r² gᵀ H_k g)      clipping turned the gradient
    R_mag  = η ⟨g_k, (1 - r) g⟩ + η²/2 (r² - 1) gᵀ H_k g           clipping shortened it
    R_noise = η²/2 Tr(H_k) s²                                        noise of deviation s a coordinate

(Esipova et al., Disparate Impact in Differential Privacy from Gradient Misalignment,
arXiv 2206.07737). The noise on the mean gradient has s = σ S / B, S the sensitivity of the
clip rule; the published code leaves out the 1/B². Both are given.

These numbers come from the private data themselves. No guarantee covers them: do not
publish them, and do not tune a private training by them.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..core.errors import DataError, SettingError, did_you_mean
from ..core.seeds import seed as named_seed
from ..tensors.curvature import Curvature, Trace, flatten
from ..tensors.gradients import PerSample, SampleLoss, SampleNorms
from .adaptive import PerGroup
from .clipping import ClipRule, Flat

AUTO_EXACT = 1024
"""Parameters up to which ``trace="auto"`` is exact."""
TRACES = ("auto", "exact", "hutchinson")
COSINES = ("group_batch", "group_clipped", "batch_clipped")


@dataclass(frozen=True, kw_only=True)
class GroupMisalignment(Mapping[str, Any]):
    """What one step costs one group; ``result.r_dir`` and ``result["r_dir"]`` are the same.

    Args:
        r_clip: excess loss due to clipping; the sum of the next two.
        r_dir: its part due to a changed direction.
        r_mag: its part due to a changed length.
        r_noise: excess loss due to the noise as it is applied to the mean gradient, with 1/B².
        r_noise_published: the same by the published code's formula, without 1/B².
        cosines: ``group_batch`` cos(g_k, g), ``group_clipped`` cos(g_k, ḡ), ``batch_clipped`` cos(g, ḡ);
            NaN where a vector is 0.
        trace: Tr(H_k) with its standard error and how it was found; ``None`` if it was not wanted.
        r_noise_error: standard error of ``r_noise`` from that of the trace.
        clip_rate: share of the group's samples in the batch that the rule shortens beyond what it does to
            every gradient; NaN without one.
        n: samples behind g_k and H_k; 0 for an absent group, whose numbers are NaN.
        n_batch: samples of the group in the batch.
        norm_group, norm_batch, norm_clipped: ‖g_k‖, ‖g‖, ‖ḡ‖.
        sample_norms: gradient norms of the group's samples in the batch [n_batch], float64.
    """

    r_clip: float = math.nan
    r_dir: float = math.nan
    r_mag: float = math.nan
    r_noise: float = math.nan
    r_noise_published: float = math.nan
    cosines: dict[str, float] = field(default_factory=lambda: dict.fromkeys(COSINES, math.nan))
    trace: Trace | None = None
    r_noise_error: float = math.nan
    clip_rate: float = math.nan
    n: int = 0
    n_batch: int = 0
    norm_group: float = math.nan
    norm_batch: float = math.nan
    norm_clipped: float = math.nan
    sample_norms: np.ndarray = field(default_factory=lambda: np.empty(0), repr=False)

    def __getitem__(self, name: str) -> Any:
        if name not in set(self):
            raise KeyError(f"{name!r}.{did_you_mean(name, self)}")
        return getattr(self, name)

    def __iter__(self) -> Iterator[str]:
        return iter(item.name for item in fields(self))

    def __len__(self) -> int:
        return len(fields(self))

    __hash__ = None  # type: ignore[assignment]


@dataclass(frozen=True)
class GroupLoss:
    """The mean loss of one group near the present parameters: samples, gradient [P], Hessian, its trace."""

    n: int
    gradient: Tensor
    curvature: Curvature
    trace: Trace | None

    @classmethod
    def of(
        cls,
        model: nn.Module,
        loss: SampleLoss,
        inputs: Tensor,
        labels: Tensor,
        *,
        trace: str | None = "auto",
        probes: int = 100,
        seed: int = 0,
    ) -> GroupLoss:
        """From the group's samples. Cost: 1 pass a sample, and one Hessian-vector product a probe or parameter."""
        curvature = Curvature(model, loss, inputs, labels)
        return cls(len(inputs), curvature.gradient(), curvature, _trace(curvature, trace, probes, seed))


@dataclass(frozen=True)
class BatchGradients:
    """One batch as a step sees it: g [P], ḡ [P], norms [B], which samples were clipped [B], S, B."""

    mean: Tensor
    clipped_mean: Tensor
    norms: Tensor
    clipped: Tensor
    sensitivity: float
    size: int

    @classmethod
    def of(
        cls, engine: PerSample, inputs: Tensor, labels: Tensor, rule: ClipRule, groups: Tensor | None = None
    ) -> BatchGradients:
        """From the batch [B, ...], B may be 0; both means divide by B itself. Cost: two private steps.

        Args:
            engine: model and loss.
            rule: the clip rule. DPSGD-F without bounds takes them from the exact counts of this batch.
            groups: the group's number of each sample [B], for rules that tell groups apart.
        """
        applied = rule
        clipped = torch.empty(0, dtype=torch.bool)

        def weigh(norms: SampleNorms) -> Tensor:
            nonlocal applied, clipped
            applied = _for_analysis(rule, norms.total, groups)
            factors = applied.weigh(norms, groups)
            clipped = _shortened(applied, factors)
            return factors

        plain = engine.clipped_sum(inputs, labels, lambda norms: torch.ones_like(norms.losses))
        scaled = engine.clipped_sum(inputs, labels, weigh)
        size = max(len(inputs), 1)
        means = [flatten(list(found.gradients.values())).double() / size for found in (plain, scaled)]
        norms = scaled.norms.total.detach().double().cpu()
        return cls(means[0], means[1], norms, clipped.cpu(), applied.sensitivity, len(inputs))


def misalignment(
    model: nn.Module,
    loss: SampleLoss,
    batch: tuple[Tensor, Tensor],
    groups: Any,
    clip: ClipRule | float,
    lr: float,
    noise_multiplier: float,
    *,
    population: tuple[Tensor, Tensor, Any] | None = None,
    expected_batch_size: float | None = None,
    all_groups: Sequence[Hashable] | None = None,
    trace: str | None = "auto",
    probes: int = 100,
    seed: int = 0,
    backend: str = "vmap",
) -> dict[Any, GroupMisalignment]:
    """What clipping and noise cost each group in one step on one batch: R_clip = R_dir + R_mag, and R_noise.

    g and ḡ divide by the batch's own size, so that they compare clipping alone; the public
    denominator of a Poisson step, ``expected_batch_size``, enters through the noise. With an empty batch the
    three terms of clipping are 0.

    Args:
        model: any module; it is left as it was. Give it in the mode in which it is trained.
        loss: ``(outputs [1, ...], labels [1, ...]) -> [1]``, evaluated sample by sample.
        batch: inputs [B, ...] and labels [B, ...]; B may be 0.
        groups: [B], the group of each sample: integers, text, anything hashable.
        clip: a clip rule of ``assay.privacy``; a number means ``Flat(number)``.
        lr: learning rate η, at least 0.
        noise_multiplier: σ, at least 0.
        population: (inputs, labels, groups) whose mean gradient and Hessian stand for each group;
            default: the batch itself.
        expected_batch_size: public B of the noise, above 0; default: the batch's size.
        all_groups: the groups to report, absent ones as NaN with ``n = 0``; default: those of the population.
        trace: ``"exact"`` (P Hessian-vector products a group), ``"hutchinson"``, ``None`` for no R_noise,
            or ``"auto"``: exact up to 1,024 parameters.
        probes: vectors of random signs for Hutchinson's estimate.
        seed: of these vectors.
        backend: how per-sample gradients are computed, see ``PerSample``; a fixed one gives the same bits again.

    Returns:
        group -> :class:`GroupMisalignment`, in the order of ``all_groups`` or sorted.

    Raises:
        SettingError, DataError: a value out of range, or inputs, labels and groups of different number.

    Cost: two private steps on the batch; for each group 1 gradient over its population and two
    Hessian-vector products, and those of the trace.

    Reference:
        Esipova et al., Disparate Impact in Differential Privacy from Gradient Misalignment, ICLR 2023,
        arXiv 2206.07737.

    >>> torch.manual_seed(0).initial_seed()
    0
    >>> inputs, labels = torch.randn(6, 3), torch.tensor([0, 1, 0, 1, 0, 1])
    >>> found = misalignment(
    ...     nn.Linear(3, 2), nn.functional.cross_entropy, (inputs, labels), ["a", "a", "a", "b", "b", "b"],
    ...     clip=0.5, lr=0.1, noise_multiplier=1.0,
    ... )
    >>> sorted(found), abs(found["a"].r_dir + found["a"].r_mag - found["a"].r_clip) < 1e-12
    (['a', 'b'], True)
    """
    inputs, labels = batch
    keys = _keys(groups, len(inputs), labels, "batch")
    _check("lr", lr)
    _check("noise_multiplier", noise_multiplier)
    if expected_batch_size is None and not len(inputs):
        raise SettingError("The batch is empty, so expected_batch_size must be given; it scales the noise.")
    expected = len(inputs) if expected_batch_size is None else expected_batch_size
    if not expected > 0:
        raise SettingError(f"expected_batch_size is {expected_batch_size!r}; allowed: above 0.")
    rule: ClipRule = Flat(clip) if isinstance(clip, int | float) else clip
    many_inputs, many_labels, many_groups = population if population is not None else (inputs, labels, keys)
    many = _keys(many_groups, len(many_inputs), many_labels, "population")
    wanted = list(all_groups) if all_groups is not None else _ordered({*many, *keys})
    step = BatchGradients.of(PerSample(model, loss, backend=backend), inputs, labels, rule, _numbers(keys, wanted))
    found = {}
    for key in wanted:
        members = torch.tensor([i for i, other in enumerate(many) if other == key], dtype=torch.int64)
        present = torch.tensor([other == key for other in keys], dtype=torch.bool)
        if not len(members):
            found[key] = GroupMisalignment(**_of_batch(step, present))
            continue
        about = GroupLoss.of(
            model,
            loss,
            many_inputs[members.to(many_inputs.device)],
            many_labels[members.to(many_labels.device)],
            trace=trace,
            probes=probes,
            seed=named_seed(seed, "misalignment", repr(key)),
        )
        found[key] = decompose(about, [step], [present], lr, noise_multiplier, expected)[0]
    return found


def decompose(
    group: GroupLoss,
    steps: Sequence[BatchGradients],
    present: Sequence[Tensor],
    lr: float,
    noise_multiplier: float,
    expected_batch_size: float,
) -> list[GroupMisalignment]:
    """The decomposition of one group for several batches at the same parameters.

    Args:
        group: its gradient and curvature.
        steps: batches.
        present: for each batch, which of its samples are of the group, [B] bool.
        lr, noise_multiplier, expected_batch_size: η, σ and the public B.

    Cost: two Hessian-vector products a batch, over the group's samples.
    """
    dtype = group.gradient.dtype
    vectors = torch.stack([vector for step in steps for vector in (step.mean, step.clipped_mean)]).to(dtype)
    forms = group.curvature.quadratics(vectors).reshape(len(steps), 2).tolist()
    own = group.gradient.double()
    found = []
    for step, mask, (bent, clipped_bent) in zip(steps, present, forms, strict=True):
        batch_size, clipped_size = float(step.mean.norm()), float(step.clipped_mean.norm())
        r = clipped_size / batch_size if batch_size > 0 else 0.0
        along, clipped_along = float(own @ step.mean), float(own @ step.clipped_mean)
        half = lr * lr / 2
        spread = noise_multiplier * step.sensitivity
        trace = group.trace
        noise = half * spread * spread * (trace.value if trace else math.nan)
        error = half * spread * spread * (trace.standard_error if trace else math.nan)
        found.append(
            GroupMisalignment(
                r_clip=lr * (along - clipped_along) + half * (clipped_bent - bent),
                r_dir=lr * (r * along - clipped_along) + half * (clipped_bent - r * r * bent),
                r_mag=lr * (1 - r) * along + half * (r * r - 1) * bent,
                r_noise=noise / expected_batch_size**2,
                r_noise_published=noise,
                r_noise_error=error / expected_batch_size**2,
                cosines={
                    "group_batch": _cosine(along, float(own.norm()), batch_size),
                    "group_clipped": _cosine(clipped_along, float(own.norm()), clipped_size),
                    "batch_clipped": _cosine(float(step.mean @ step.clipped_mean), batch_size, clipped_size),
                },
                trace=trace,
                n=group.n,
                norm_group=float(own.norm()),
                **_of_batch(step, mask),
            )
        )
    return found


def _of_batch(step: BatchGradients, present: Tensor) -> dict[str, Any]:
    """What the batch alone tells of a group."""
    count = int(present.sum())
    return {
        "clip_rate": float(step.clipped[present].double().mean()) if count else math.nan,
        "n_batch": count,
        "norm_batch": float(step.mean.norm()),
        "norm_clipped": float(step.clipped_mean.norm()),
        "sample_norms": step.norms[present].numpy(),
    }


def _trace(curvature: Curvature, how: str | None, probes: int, seed: int) -> Trace | None:
    if how is None:
        return None
    if how not in TRACES:
        raise SettingError(f"trace is {how!r}; allowed: {', '.join(TRACES)}, or None.{did_you_mean(how, TRACES)}")
    if how == "exact" or (how == "auto" and curvature.size <= AUTO_EXACT):
        return curvature.trace()
    return curvature.hutchinson(probes, seed=seed)


def _for_analysis(rule: ClipRule, norms: Tensor, groups: Tensor | None) -> ClipRule:
    """The rule as it would act on this batch, if its counts were released without noise."""
    if isinstance(rule, PerGroup):
        if rule.bounds is not None:
            return rule
        if rule.num_groups is None and groups is not None:
            rule = replace(rule, num_groups=int(groups.max()) + 1 if len(groups) else 1)
    return rule.active(rule.counts(norms, groups))


def _shortened(rule: ClipRule, factors: Tensor) -> Tensor:
    """Samples [B] shortened beyond what the rule does to small gradients: below 1, or below C/Z under scaling."""
    usual = rule.c / rule.z if hasattr(rule, "c") and hasattr(rule, "z") else 1.0
    lowest = factors if factors.ndim == 1 else factors.amin(1)
    return lowest < usual * (1 - 1e-5)


def _cosine(product: float, first: float, second: float) -> float:
    size = first * second
    return max(-1.0, min(1.0, product / size)) if size > 0 else math.nan


def _keys(groups: Any, count: int, labels: Tensor, what: str) -> list[Any]:
    values = groups.tolist() if isinstance(groups, Tensor | np.ndarray) else list(groups)
    if len(values) != count or len(labels) != count:
        raise DataError(
            f"The {what} has {count} inputs, {len(labels)} labels and {len(values)} groups; as many of each are needed."
        )
    return values


def _ordered(keys: set[Any]) -> list[Any]:
    try:
        return sorted(keys)
    except TypeError:  # names of several types
        return sorted(keys, key=repr)


def _numbers(keys: list[Any], wanted: list[Any]) -> Tensor:
    """Groups as a clip rule counts them: whole numbers as they are, names by their place in the list."""
    everyone = [*wanted, *_ordered(set(keys) - set(wanted))]
    if all(isinstance(key, int) and key >= 0 for key in everyone):
        return torch.tensor(keys, dtype=torch.int64)
    places = {key: place for place, key in enumerate(everyone)}
    return torch.tensor([places[key] for key in keys], dtype=torch.int64)


def _check(name: str, value: float) -> None:
    if not (math.isfinite(value) and value >= 0):
        raise SettingError(f"{name} is {value!r}; allowed: a finite number from 0 up.")
