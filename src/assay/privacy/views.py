"""Noisy views of training images: Gaussian, and Gaussian around an adversarial point (SmoothAdv).

The noise of a sample follows from its own seed, which a batch gives it anew whenever it
comes, so it depends neither on which other samples Poisson sampling brought along nor
on the number of processes, and a training that is taken up again meets the same views.
A view is never clamped to the box of images: the certificate of randomised smoothing
is about a classifier of unclamped noise.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.func import functional_call

from ..search.ascent import ascend
from ..search.threat import ThreatModel
from ..tensors.random import bits

STREAM = 4
"""Stream of a sample's seed that the views draw from; lower ones are used by order, augmentation and starts."""

_WORDS = 1 << 16
"""Random words drawn at a time on the CPU, so that they stay in the cache."""


def gaussian(seeds: Tensor, shape: Sequence[int], stream: int = 0) -> Tensor:
    r"""Standard normal draws in float32, one stream a sample: [B, *shape].

    Box and Muller's transform of counter-based words, two draws from each: with
    integers i, j of 31 and 32 bits, u = (i + 1/2) 2⁻³¹ and θ = 2π j 2⁻³², the draws are
    √(-2 log u) cos θ and √(-2 log u) sin θ, at most 6.7 in magnitude. Single precision
    is enough for noise that is added to images, and ten times faster than
    :func:`assay.tensors.random.normal`, which rounds a result of double precision.

    Args:
        seeds: [B] int64.
        shape: of one sample's draws.
        stream: which of the sample's streams.

    >>> seeds = torch.tensor([5, 11])
    >>> bool((gaussian(seeds, (3,))[1] == gaussian(seeds[1:], (3,))[0]).all())
    True
    """
    count = math.prod(shape)
    half = -(-count // 2)
    rows = max(1, _WORDS // max(1, half)) if seeds.device.type == "cpu" else max(1, len(seeds))
    draws = torch.empty(len(seeds), 2 * half, device=seeds.device)
    for start in range(0, len(seeds), rows):
        part = slice(start, start + rows)
        integers = bits(seeds[part], half, stream).view(torch.int32).to(torch.float32)
        radius = integers[:, :half].abs().add_(0.5).mul_(2.0**-31).log_().mul_(-2).sqrt_()
        angle = integers[:, half:].mul_(2.0**-31 * math.pi)
        torch.mul(radius, angle.cos(), out=draws[part, :half])
        torch.mul(radius, angle.sin(), out=draws[part, half:])
    return draws[:, :count].reshape(len(seeds), *shape)


def view_noise(seeds: Tensor, views: int, shape: Sequence[int], sigma: float) -> Tensor:
    """The noise of K views, σ N(0, I): [B, K, *shape].

    Args:
        seeds: one random stream a sample and step [B], as a batch holds them.
        views: K.
        shape: of an image.
        sigma: σ, in units of the raw input.
    """
    return gaussian(seeds, (views, *shape), STREAM).mul_(sigma)


def with_clean(images: Tensor, noisy: Tensor) -> Tensor:
    """The clean image in front of its noisy views: [B, ...], [B, K, ...] -> [B, K + 1, ...]."""
    return torch.cat([images[:, None], noisy], 1)


def adversarial_points(
    logits: Callable[[Tensor], Tensor], images: Tensor, labels: Tensor, noise: Tensor, *, eps: float, steps: int
) -> Tensor:
    r"""SmoothAdv: where the smoothed classifier is worst, near each image (Salman et al., arXiv 1906.04584).

    max_{||δ||_2 <= ε} -log( (1/K) Σ_k softmax(z(x + δ + n_k))_y ) by projected gradient
    ascent from δ = 0 with steps of length 2 ε / T along g / ||g||_2, over the sample's own
    noise n_k, the same at every step. The probabilities are averaged before the
    logarithm. x + δ stays in [0, 1]; x + δ + n_k need not.

    A sample's point depends on its own image, label and noise alone, as long as the
    model treats the rows of a batch apart. Where the gradient is exactly zero the
    point stays, while the official code steps in a random direction; the logarithm is
    computed without that code's floor of 1e-20.

    Args:
        logits: the model, [n, ...] -> [n, C].
        images: x, in [0, 1] [B, ...].
        labels: y [B].
        noise: n_k, σ included [B, K, ...], K at least 1.
        eps: ε, in units of the raw input; at least 0.
        steps: T, at least 1.

    Returns:
        x + δ, [B, ...].

    Cost: T K forward and backward passes a sample.
    """
    count = noise.shape[1]

    def objective(points: Tensor) -> Tensor:
        rows = (points[:, None] + noise).flatten(0, 1)
        log_p = logits(rows).log_softmax(-1).reshape(len(points), count, -1)
        own = log_p.gather(-1, labels[:, None, None].expand(-1, count, 1))[..., 0]
        return math.log(count) - own.logsumexp(1)

    if not len(images) or eps == 0:
        return images
    return ascend(objective, images, ThreatModel("l2", eps), steps=steps, step_size=2 * eps / steps)


def held(model: nn.Module) -> Callable[[Tensor], Tensor]:
    """The model as a function of its input alone, its weights constant.

    Convolutions are laid out channels last, which takes a third off the passes of an attack on CPUs.
    """
    weights = {
        name: value.detach().contiguous(memory_format=torch.channels_last) if value.ndim == 4 else value.detach()
        for name, value in model.named_parameters()
    }
    return lambda images: functional_call(model, weights, (images,))


def ramped(eps: float, epoch: int, ramp_epochs: int) -> float:
    """The budget of an epoch, min(ε, (epoch + 1) ε / ramp): epochs count from 0; a ramp of 0 is none.

    >>> [round(ramped(0.25, epoch, 10), 3) for epoch in (0, 4, 9, 30)]
    [0.025, 0.125, 0.25, 0.25]
    """
    return eps * min(1.0, (epoch + 1) / ramp_epochs) if ramp_epochs else eps
