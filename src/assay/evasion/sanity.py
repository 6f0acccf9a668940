"""Reasons to doubt a robust accuracy, looked for during the evaluation and kept with its result.

Gradients that vanish, outputs that are probabilities or saturated, answers that
change, a black-box attack that beats white-box ones, random noise that breaks what
attacks did not, and accuracy that survives an unlimited budget: each is a known
way in which a published robustness turned out to be none.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from ..core.probes import Finding
from ..search.ascent import ProjectedGradient, steepest
from ..search.objectives import cross_entropy, margin
from ..search.threat import ThreatModel
from ..subjects.target import Target
from ..tensors.norms import expand, norm
from ..tensors.random import normal, sample_seeds, signs
from .runner import Runner, Samples
from .stages import Stage

SUBSET = 64
NOISE_DRAWS = 4
GRADIENT_ATTACKS = ("pgd", "apgd-ce", "apgd-dlr", "apgd-t")


class Noise(NamedTuple):
    """Samples that random noise alone breaks: their rows, the points, and the finding if there is one."""

    rows: Tensor
    points: Tensor
    findings: list[Finding]


def of_outputs(target: Target, samples: Samples) -> list[Finding]:
    """What the clean answers give away: probabilities, saturation, randomness, vanishing gradients."""
    logits = samples.logits
    return [
        *target.findings,
        *_probabilities(logits),
        *_randomised(target, samples),
        *_saturated(target, samples),
        *_zero_gradients(target, samples),
    ]


def by_noise(runner: Runner, threat: ThreatModel, samples: Samples, robust: Tensor) -> Noise:
    """Random points on the surface of the ball, for every sample that withstood the attacks."""
    rows = robust.nonzero()[:, 0]
    points = samples.images[rows].clone()
    broken = torch.zeros(len(rows), dtype=torch.bool)
    bounds, place = runner.target.bounds, runner.target.device
    for draw in range(NOISE_DRAWS if threat.eps > 0 and len(rows) else 0):
        for part in torch.arange(len(rows)).split(runner.batch_size):
            chunk = samples.pick(rows[part])
            seeds = sample_seeds(runner.seed, chunk.ids, "noise", draw)
            tried = threat.project(chunk.images + _surface(seeds, chunk.images, threat), chunk.images, bounds)
            wrong = runner.judge.wrong(tried.to(place), chunk.labels.to(place)).cpu()
            new = wrong & ~broken[part] & threat.holds(tried, chunk.images, bounds)
            points[part[new]] = tried[new]
            broken[part[new]] = True
    findings = []
    if bool(broken.any()):
        findings.append(
            Finding(
                code="noise-beats-attack",
                severity="serious",
                message=f"Random noise within the budget broke {int(broken.sum())} samples that the attacks had "
                "left standing.",
                remedy="The attacks are not doing their work on this model: use attack='standard', and suspect "
                "masked gradients.",
                value=float(broken.float().mean()),
            )
        )
    return Noise(rows[broken], points[broken], findings)


def of_attacks(
    runner: Runner, threat: ThreatModel, samples: Samples, correct: Tensor, robust: Tensor, counts: Mapping[str, int]
) -> list[Finding]:
    """What the course of the attacks gives away."""
    findings = []
    total = len(samples.ids)
    ran_gradients = any(name in counts for name in GRADIENT_ATTACKS)
    by_square = counts.get("square", 0)
    if ran_gradients and by_square > max(1, 0.002 * total):
        findings.append(
            Finding(
                code="black-box-beats-gradients",
                severity="serious",
                message=f"Square, which asks no gradient, broke {by_square} of {total} samples that gradient "
                "attacks had left.",
                remedy="Gradients are probably masked: true robustness may be far lower. Attack with more queries, "
                "or attack a smoothed copy.",
                value=by_square / total,
            )
        )
    if bool(robust.any()):
        findings += _unlimited_budget(runner, samples, correct)
    return findings


def large_budget(threat: ThreatModel, values: int, bounds: tuple[float, float]) -> ThreatModel:
    """A budget within which every image can become uniform grey, so that no classifier can be right."""
    half = (bounds[1] - bounds[0]) / 2
    factor = {"linf": 1.0, "l2": values**0.5, "l1": float(values)}[threat.norm]
    return ThreatModel(threat.norm, half * factor)


def _unlimited_budget(runner: Runner, samples: Samples, correct: Tensor) -> list[Finding]:
    rows = correct.nonzero()[:SUBSET, 0]
    chunk = samples.pick(rows)
    low, high = runner.target.bounds
    limit = ThreatModel("linf", high - low)  # whatever the norm: steps of other norms may not reach far in few steps
    rule = ProjectedGradient(steps=20, step_size=limit.eps / 8)
    stage = Stage(name="unlimited-budget", rule=rule, objective=margin)
    left = int((~runner.search(stage, limit, chunk, 0).found).sum())
    if not left:
        return []
    return [
        Finding(
            code="unlimited-budget",
            severity="serious" if left > 0.1 * len(rows) else "warning",
            message=f"Allowed to change any image into any other, gradient steps still left {left} of {len(rows)} "
            "samples standing.",
            remedy="Robustness cannot survive that: gradients are masked or the outputs saturated, and the figures "
            "are too high.",
            value=left / len(rows),
        )
    ]


def _probabilities(logits: Tensor) -> list[Finding]:
    sums_to_one = bool(((logits.sum(1) - 1).abs() < 1e-5).all())
    if not (sums_to_one and float(logits.min()) >= -1e-5 and float(logits.max()) <= 1 + 1e-5):
        return []
    return [
        Finding(
            code="probabilities",
            severity="serious",
            message="The model returns probabilities (in [0, 1], each row sums to 1), where logits are expected.",
            remedy="Return the values before the softmax: probabilities saturate, and attacks on them look weaker "
            "than they are.",
        )
    ]


def _randomised(target: Target, samples: Samples) -> list[Finding]:
    part = samples.images[:SUBSET].to(target.device)
    again = target.logits(part).cpu()
    first = samples.logits[:SUBSET]
    scale = first.abs().amax(1, keepdim=True).clamp_min(1e-12)
    difference = float(((again - first).abs() / scale).max())
    if difference <= 1e-4:
        return []
    return [
        Finding(
            code="randomised",
            severity="serious",
            message=f"The model answers the same inputs differently when asked again (by up to {difference:.2g} of "
            "the largest logit).",
            remedy="Use attack='rand', which averages over answers (EOT); single answers overstate robustness.",
            value=difference,
        )
    ]


def _saturated(target: Target, samples: Samples) -> list[Finding]:
    right = ~target.task.success(samples.logits, samples.labels)
    if not bool(right.any()):
        return []
    flat = target.task.losses(samples.logits[right], samples.labels[right]) == 0
    share = float(flat.float().mean())
    if share <= 0.05:
        return []
    return [
        Finding(
            code="saturated",
            severity="warning",
            message=f"For {share:.0%} of the correct samples the cross-entropy is exactly 0 in float32, and so is "
            "its gradient.",
            remedy="Cross-entropy attacks are blind there; trust attacks on logit differences (apgd-dlr, apgd-t, "
            "fab-t, standard).",
            value=share,
        )
    ]


def _zero_gradients(target: Target, samples: Samples) -> list[Finding]:
    right = (~target.task.success(samples.logits, samples.labels)).nonzero()[:SUBSET, 0]
    if not len(right):
        return []
    copy, place = target.search_copy(), target.device
    images, labels = samples.images[right].to(place), samples.labels[right].to(place)
    zero = torch.ones(len(right), dtype=torch.bool)
    for objective in (cross_entropy, margin):
        _, _, gradient = copy.value_and_gradient(images, partial(objective, step=0), labels)
        zero &= (gradient.flatten(1) == 0).all(1).cpu()
    share = float(zero.float().mean())
    if copy.broken_gradients:
        return [
            Finding(
                code="non-finite-gradient",
                severity="serious",
                message=f"The gradient by the input holds NaN or infinity in {copy.broken_gradients} of "
                f"{2 * len(right)} probes of correct samples.",
                remedy="Gradient attacks take such entries as 0 and may be blind there; repair the operation (a "
                "root or a logarithm at 0).",
                value=copy.broken_gradients / (2 * len(right)),
            )
        ]
    if not bool(zero.any()):
        return []
    return [
        Finding(
            code="zero-gradient",
            severity="serious" if share > 0.1 else "warning",
            message=f"The gradient by the input is exactly zero for {share:.0%} of {len(right)} correct samples.",
            remedy="Something in the model stops gradients (rounding, argmax, saturation): only Square's figure "
            "means anything there.",
            value=share,
        )
    ]


def _surface(seeds: Tensor, like: Tensor, threat: ThreatModel) -> Tensor:
    """A random perturbation of norm exactly eps: a corner of the cube, or a random direction."""
    shape = like.shape[1:]
    if threat.norm == "linf":
        return signs(seeds, shape) * threat.eps
    direction = normal(seeds, shape)
    if threat.norm == "l1":
        direction = steepest(direction, "l1")
    return direction * expand(threat.eps / norm(direction, threat.norm).clamp_min(1e-30), direction)
