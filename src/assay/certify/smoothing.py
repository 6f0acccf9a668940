"""Certification by randomized smoothing, with a fixed number of noisy copies or as many as the question needs.

The smoothed classifier answers g(x) = argmax_c P(f(x + ε) = c), ε ~ N(0, σ² I). If c is
given with probability p_A > 1/2, then g answers c everywhere within
R = σ Φ⁻¹(p_A) in L2 (Cohen, Rosenfeld and Kolter, arXiv 1902.02918). Stopping early by
confidence sequences: Voráček, arXiv 2406.17830.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np
from torch import Tensor

from ..core.errors import SettingError
from ..core.probes import Cost, Finding
from ..core.progress import Progress
from ..core.settings import option, settings
from ..core.shards import Shards
from ..subjects.target import Target
from .bounds import check_reach
from .certificates import Certificates
from .stopping import Fixed, Grid, Rule, Within, looks
from .store import COLUMNS, Store, fingerprint
from .votes import DTYPES, NoisyModel

MODES = ("fixed", "radius", "grid", "estimate")
WITNESSES = 16
TOLERANCE = 0.1


@settings
class Smoothing:
    """How inputs are smoothed and certified; what a certificate depends on besides model, sample and seed."""

    sigma: float = option(help="standard deviation of the noise, in units of the raw input", above=0, below=1e6)
    n0: int = option(default=100, help="noisy copies that choose the class", at_least=1)
    n: int = option(default=100_000, help="noisy copies to count at most", at_least=1, at_most=1_000_000_000)
    alpha: float = option(default=0.001, help="probability of a wrong certificate, per sample", above=0, below=1)
    mode: str = option(default="fixed", help="when to stop counting", choices=MODES)
    radii: tuple[float, ...] = option(default=(), help="radii to decide, modes radius and grid", at_least=0)
    tolerance: float = option(
        default=TOLERANCE, help="relative width of the radius' interval, mode estimate", above=0, below=1
    )
    dtype: str = option(default="float32", help="precision of the model", choices=tuple(DTYPES))

    def __post_init__(self) -> None:
        if self.n < self.n0:
            raise SettingError(
                f"n is {self.n} and n0 is {self.n0}; n, the copies that prove the radius, must be at least n0, those "
                "that only choose the class."
            )
        if self.mode in ("radius", "grid") and not self.radii:
            raise SettingError(f"mode is {self.mode!r}, but no radius is given; say which: radii=(0.25, 0.5).")
        if self.mode == "radius" and len(self.radii) > 1:
            raise SettingError(f"mode is 'radius' and {len(self.radii)} radii are given; use mode='grid' for several.")
        if self.mode not in ("radius", "grid") and self.radii:
            raise SettingError(f"radii are given, but mode is {self.mode!r}; use mode='grid' or leave them out.")
        object.__setattr__(self, "radii", tuple(sorted(set(self.radii))))
        for radius in self.radii:
            check_reach(radius, self.n, self.alpha, self.sigma, sequential=True)

    def rule(self) -> Rule:
        """A fresh rule for one sample."""
        if self.mode == "fixed":
            return Fixed(self.alpha, self.sigma)
        if self.mode == "estimate":
            return Within(self.alpha, self.sigma, self.tolerance, self.n)
        return Grid(self.alpha, self.sigma, self.radii)


def certify(
    target: Target,
    images: Tensor,
    labels: Tensor,
    *,
    sigma: float,
    n0: int = 100,
    n: int = 100_000,
    alpha: float = 0.001,
    mode: str = "fixed",
    radius: float | None = None,
    radii: Sequence[float] | None = None,
    tolerance: float | None = None,
    batch_size: int = 256,
    dtype: str = "float32",
    seed: int = 0,
    sample_ids: Sequence[int] | None = None,
    shards: Shards | None = None,
    progress: Progress | None = None,
) -> Certificates:
    """Certify the smoothed classifier on every sample.

    ``n0`` noisy copies choose the class (a tie goes to the lower one), then fresh copies are
    counted. ``mode`` says how many:

    - ``"fixed"``: ``n``, and the Clopper-Pearson bound: CERTIFY of Cohen et al.
    - ``"radius"``: until it is decided whether the radius is at least ``radius``.
    - ``"grid"``: until that is decided for all ``radii``, from one stream and one ``alpha``.
    - ``"estimate"``: until the radius is known within ``tolerance``.

    The sequential modes use a bound that holds at all times (:func:`confidence_sequence`), look after
    32, 64, ... copies, and stop at ``n`` in any case. A radius that is given up carries no guarantee.

    Args:
        target: the model f.
        images: [N, ...], raw, within the target's bounds. Noisy copies are not clamped to them.
        labels: [N] true classes.
        sigma: standard deviation σ of the noise, above 0, in units of the raw input.
        n0, n: noisy copies, 1 <= n0 <= n.
        alpha: probability of a wrong certificate for each sample, in (0, 1).
        radius: for ``mode="radius"``.
        radii: for ``mode="grid"``.
        tolerance: for ``mode="estimate"``, in (0, 1); default 0.1.
        batch_size: noisy copies in one call at most; the result does not depend on it.
        dtype: ``"float32"``, or ``"bfloat16"``: the certificates are then those of the bfloat16 model.
        seed: root of the noise.
        sample_ids: names of the samples, which their noise belongs to; default 0, 1, ...
        shards: where finished samples are kept, so that a killed certification goes on.
        progress: where progress is shown.

    Returns:
        The certificates, with the noisy passes they took.

    Raises:
        SettingError: a setting is not allowed, or no n votes can prove a radius that was asked for.
        DataError, ModelError: images, labels or model cannot be used.

    Cost: n0 + n forward passes a sample at most.

    >>> import torch
    >>> from assay.subjects import load_target
    >>> target = load_target("network:linear", image_shape=(1, 8, 8))
    >>> found = certify(target, torch.zeros(2, 1, 8, 8), torch.zeros(2, dtype=torch.int64), sigma=0.5, n=1000)
    >>> found.samples_used.tolist(), len(found.radius)
    ([1100, 1100], 2)
    """
    plan = _plan(sigma, n0, n, alpha, mode, radius, radii, tolerance, dtype)
    images = target.check_images(images)
    labels = target.check_labels(labels, len(images))
    ids = list(range(len(images))) if sample_ids is None else [int(sample) for sample in sample_ids]
    if len(ids) != len(images) or len(set(ids)) != len(ids):
        raise SettingError(f"sample_ids names {len(set(ids))} samples for {len(images)} images; one name each.")
    if batch_size < 1:
        raise SettingError(f"batch_size is {batch_size}; allowed: at least 1.")
    started = time.perf_counter()
    store = Store(shards, f"{plan!r}|{seed}|{target.device.type}|{target.digest if shards is not None else ''}")
    marks = [fingerprint(image) for image in images] if shards is not None else [0] * len(images)
    todo = [row for row in range(len(images)) if not store.has(ids[row], marks[row])]
    with (progress or Progress(enabled=False)).task(f"certify at sigma {sigma:g}", total=len(images)) as task:
        task.advance(len(images) - len(todo))
        if todo:
            model = NoisyModel(target, plan.sigma, plan.dtype, tuple(images.shape[1:]), batch_size)
            with target.undisturbed(), store:
                for row in todo:
                    store.add(ids[row], marks[row], _one(model, plan, images[row], seed, ids[row]))
                    task.advance()
    columns = store.columns(ids)
    return Certificates(
        sigma=plan.sigma,
        alpha=plan.alpha,
        n0=plan.n0,
        n=plan.n,
        mode=plan.mode,
        radii=plan.radii,
        dtype=plan.dtype,
        sample_ids=np.asarray(ids),
        labels=labels.numpy(),
        predicted=np.where(columns["abstained"], -1, columns["candidates"]).astype(np.int64),
        **{name: columns[name] for name in COLUMNS if name != "abstained"},
        findings=_findings(plan, columns),
        cost=Cost(seconds=time.perf_counter() - started, forward=int(columns["samples_used"].sum())),
    )


def _plan(
    sigma: float,
    n0: int,
    n: int,
    alpha: float,
    mode: str,
    radius: float | None,
    radii: Sequence[float] | None,
    tolerance: float | None,
    dtype: str,
) -> Smoothing:
    if radius is not None and mode != "radius":
        raise SettingError(f"radius is {radius!r}, but mode is {mode!r}; use mode='radius', or radii with mode='grid'.")
    if tolerance is not None and mode != "estimate":
        raise SettingError(f"tolerance is {tolerance!r}, but mode is {mode!r}; it belongs to mode='estimate'.")
    if radius is not None and radii is not None:
        raise SettingError("Both radius and radii are given; give one of them.")
    asked = (radius,) if radius is not None else tuple(radii or ())
    within = TOLERANCE if tolerance is None else tolerance
    return Smoothing(sigma=sigma, n0=n0, n=n, alpha=alpha, mode=mode, radii=asked, tolerance=within, dtype=dtype)


def _one(model: NoisyModel, plan: Smoothing, image: Tensor, seed: int, sample_id: int) -> dict[str, float]:
    """Certify one sample."""
    started = time.perf_counter()
    stream = model.stream(image, seed, sample_id)
    votes, differing = stream.votes(plan.n0, witness=WITNESSES)
    candidate = int(votes.numpy().argmax())
    rule = plan.rule()
    count = n = 0
    for look in [plan.n] if plan.mode == "fixed" else looks(plan.n):
        count += int(stream.votes(look - n)[0][candidate])
        n = look
        if rule.decided(count, n):
            break
    found = rule.result(count, n)
    return {
        "candidates": candidate,
        "counts": count,
        "samples_used": plan.n0 + n,
        "radius": found.radius,
        "abstained": found.abstained,
        "seconds": time.perf_counter() - started,
        "disagreements": differing,
    }


def _findings(plan: Smoothing, columns: dict[str, np.ndarray]) -> list[Finding]:
    shown, differing = len(columns["radius"]) * min(WITNESSES, plan.n0), int(columns["disagreements"].sum())
    if plan.dtype != "float32":
        return [
            Finding(
                code="lower-precision",
                severity="warning",
                message=f"The certificates are for the model evaluated in {plan.dtype}, not for the float32 model: of "
                f"{shown} noisy copies, the two gave {differing} a different answer.",
                remedy="Deploy the model in that precision, or certify with dtype float32.",
                value=differing / shown,
            )
        ]
    if not differing:
        return []
    return [
        Finding(
            code="rounding",
            severity="warning" if differing > 0.001 * shown else "info",
            message=f"Of {shown} noisy copies, {differing} got another answer from the copy of the model that counted "
            "votes than from the model itself: both compute in float32, but round in a different order.",
            remedy="Expect that of randomised models, and of inputs where two classes tie.",
            value=differing / shown,
        )
    ]
