"""Each regulariser against its equation, one sample and one view at a time, in plain numbers."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from statistics import NormalDist

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.func import grad, vmap

from assay.core.errors import DataError
from assay.privacy.regularisers import (
    FORMS,
    PUBLISHED,
    consistency,
    macer,
    macer_active,
    stability,
    views_cross_entropy,
)

Loss = Callable[[Tensor, Tensor], Tensor]
SIGMA = 0.5


def losses() -> dict[str, Loss]:
    """Every form with its published settings; also a MACER whose hinge most samples are inside of."""
    found: dict[str, Loss] = {"plain": views_cross_entropy}
    for (name, form), parameters in PUBLISHED.items():
        if name == "macer":
            loss: Loss = partial(macer, sigma=SIGMA, form=form, **parameters)
            found["macer-wide"] = partial(macer, sigma=SIGMA, weight=2.0, beta=1.0, gamma=4.0)
        else:
            loss = partial({"stability": stability, "consistency": consistency}[name], form=form, **parameters)
        found[f"{name}-{form}"] = loss
    return found


LOSSES = losses()


def softmax(row: list[float]) -> list[float]:
    top = max(row)
    total = sum(math.exp(value - top) for value in row)
    return [math.exp(value - top) / total for value in row]


def ce(row: list[float], label: int) -> float:
    return -math.log(softmax(row)[label])


def kl(p: list[float], q: list[float]) -> float:
    return sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))


def average(rows: list[list[float]]) -> list[float]:
    return [sum(column) / len(rows) for column in zip(*rows, strict=True)]


def mean(values: list[float]) -> float:
    return sum(values) / len(values)


def slow(name: str, views: list[list[float]], label: int) -> float:
    """The loss of one sample, written out."""
    clean, noisy = views[0], views[1:]
    everything, noisy_only = mean([ce(row, label) for row in views]), mean([ce(row, label) for row in noisy])
    p = [softmax(row) for row in noisy]
    centre = average(p)
    divergence = mean([kl(centre, row) for row in p])
    entropy = -sum(value * math.log(value) for value in centre)
    if name == "plain":
        return everything
    if name == "stability-dp-cert":
        return everything + 0.1 * mean([kl(softmax(clean), row) for row in p])
    if name == "stability-original":
        sharp = [sum(-a * math.log(b) for a, b in zip(softmax(clean), row, strict=True)) for row in p]
        return ce(clean, label) + 2 * mean(sharp)
    if name == "consistency-dp-cert":
        return everything + 0.5 * divergence + 0.5 * entropy
    if name == "consistency-original":
        return noisy_only + 10 * divergence + 0.5 * entropy
    if name == "consistency-xent":
        return noisy_only + 3 * (divergence + entropy)
    if name == "consistency-kl":
        return noisy_only + 10 * divergence
    if name == "consistency-mse":
        pairs = [(p[i], p[j]) for i in range(len(p)) for j in range(i)]
        return noisy_only + 10 * mean([sum((a - b) ** 2 for a, b in zip(*pair, strict=True)) for pair in pairs])
    weight, beta, gamma = {"macer-dp-cert": (16, 16, 0.1), "macer-original": (12, 16, 8), "macer-wide": (2, 1, 4)}[name]
    used = noisy if name == "macer-original" else views
    tempered = average([softmax([beta * value for value in row]) for row in used])
    own, rival = tempered[label], max(value for c, value in enumerate(tempered) if c != label)
    robust = 0.0
    if own >= rival and own < 1 and rival > 1e-300:
        gap = NormalDist().inv_cdf(own) - NormalDist().inv_cdf(rival)
        robust = weight * SIGMA / 2 * (gamma - gap) if gap <= gamma else 0.0
    if name == "macer-original":
        return -math.log(mean([softmax(row)[label] for row in noisy]) + 1e-10) + robust
    return everything + robust


@st.composite
def batches(draw: st.DrawFn, spread: float = 3.0) -> tuple[Tensor, Tensor]:
    """Logits [B, V, C] of 2 to 3 noisy views, in double precision, and labels [B]."""
    count, views, classes = draw(st.integers(1, 3)), draw(st.integers(3, 4)), draw(st.integers(2, 4))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    scale = draw(st.sampled_from([0.01, 0.3, spread]))
    outputs = scale * torch.randn(count, views, classes, generator=generator, dtype=torch.float64)
    return outputs, torch.randint(classes, (count,), generator=generator)


@pytest.mark.parametrize("name", LOSSES)
@given(batch=batches())
@settings(max_examples=40, deadline=None)
def test_the_loss_is_that_of_the_equation(name: str, batch: tuple[Tensor, Tensor]) -> None:
    outputs, labels = batch
    expected = [slow(name, views, label) for views, label in zip(outputs.tolist(), labels.tolist(), strict=True)]
    assert LOSSES[name](outputs, labels).tolist() == pytest.approx(expected, rel=1e-7, abs=1e-9)


@pytest.mark.parametrize("name", LOSSES)
@given(batch=batches())
@settings(max_examples=10, deadline=None)
def test_samples_do_not_meet(name: str, batch: tuple[Tensor, Tensor]) -> None:
    """Permuting samples permutes losses; another sample's views, also as not-a-number, change nothing."""
    outputs, labels = batch
    loss = LOSSES[name](outputs, labels)
    assert torch.equal(LOSSES[name](outputs.flip(0), labels.flip(0)), loss.flip(0))
    for other in range(len(outputs)):
        changed = outputs.clone()
        changed[other] = math.nan
        rest = torch.arange(len(outputs)) != other
        assert torch.equal(LOSSES[name](changed, labels)[rest], loss[rest])


@pytest.mark.parametrize("name", LOSSES)
@given(batch=batches())
@settings(max_examples=10, deadline=None)
def test_vmap_over_samples_is_the_batch(name: str, batch: tuple[Tensor, Tensor]) -> None:
    outputs, labels = batch
    outputs.requires_grad_()

    def one(views: Tensor, label: Tensor) -> Tensor:
        return LOSSES[name](views[None], label[None])[0]

    (expected,) = torch.autograd.grad(LOSSES[name](outputs, labels).sum(), outputs)
    assert torch.allclose(vmap(grad(one))(outputs.detach(), labels), expected, atol=1e-12)


@pytest.mark.parametrize("name", LOSSES)
def test_gradients_are_those_of_differences(name: str) -> None:
    generator = torch.Generator().manual_seed(3)
    outputs = 0.05 * torch.randn(4, 4, 3, generator=generator, dtype=torch.float64)
    labels = torch.tensor([0, 1, 2, 0])
    assert torch.autograd.gradcheck(lambda z: LOSSES[name](z, labels), outputs.requires_grad_())


@pytest.mark.parametrize("scale", [0.0, 30.0, 88.0, 1e4])
@pytest.mark.parametrize("name", LOSSES)
def test_saturated_logits_give_finite_losses_and_gradients(name: str, scale: float) -> None:
    """All classes tied, each class alone on top, and views that contradict each other, in single precision."""
    one_hot = torch.eye(3).repeat(1, 1, 1) * scale
    agreeing = one_hot[0][:, None].expand(3, 4, 3)
    contradicting = one_hot.expand(3, 3, 3)[:, [0, 1, 2, 0]]
    outputs = torch.cat([agreeing, -agreeing, contradicting]).clone().requires_grad_()
    labels = torch.arange(3).repeat(3)
    loss = LOSSES[name](outputs, labels)
    loss.sum().backward()
    assert outputs.grad is not None
    assert torch.isfinite(loss).all()
    assert torch.isfinite(outputs.grad).all()


def test_a_very_wide_hinge_stays_finite() -> None:
    """Probabilities down to the smallest numbers: the infinite quantile drops out, the largest finite one counts."""
    gaps = torch.linspace(0, 130, 400)
    outputs = torch.stack([gaps, torch.zeros(400)], 1)[:, None].expand(400, 3, 2).clone().requires_grad_()
    labels = torch.zeros(400, dtype=torch.int64)
    loss = macer(outputs, labels, sigma=1, weight=1, beta=1, gamma=1000)
    loss.sum().backward()
    assert outputs.grad is not None
    assert torch.isfinite(outputs.grad).all()
    active = macer_active(outputs, labels, beta=1, gamma=1000)
    assert active[0]
    assert not active[-1]
    assert torch.equal(active, loss > 400)


def test_macer_leaves_wrong_and_safe_samples_to_the_cross_entropy() -> None:
    outputs = torch.tensor([[[0.0, 2.0]], [[4.0, 0.0]], [[0.1, 0.0]]]).expand(3, 3, 2).clone().requires_grad_()
    labels = torch.zeros(3, dtype=torch.int64)
    assert macer_active(outputs, labels, beta=1, gamma=0.5).tolist() == [False, False, True]
    robust = macer(outputs, labels, sigma=1, weight=5, beta=1, gamma=0.5) - views_cross_entropy(outputs, labels)
    (gradient,) = torch.autograd.grad(robust.sum(), outputs)
    assert robust[:2].tolist() == [0, 0]
    assert not gradient[:2].any()
    assert (gradient[2, :, 0] < 0).all()


def test_divergences_vanish_when_all_views_agree() -> None:
    outputs = torch.randn(3, 1, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64).expand(3, 4, 5)
    labels = torch.tensor([0, 2, 4])
    plain = views_cross_entropy(outputs, labels)
    assert torch.allclose(stability(outputs, labels, weight=7), plain)
    for form in ("kl", "mse"):
        assert torch.allclose(consistency(outputs, labels, weight=7, form=form), plain)
    entropy = torch.distributions.Categorical(logits=outputs[:, 0]).entropy()
    assert torch.allclose(consistency(outputs, labels, weight=7, entropy_weight=2), plain + 2 * entropy)


def test_the_layout_of_the_batch_is_that_of_samples() -> None:
    """Chunks of a flattened sample-major batch pair views of different samples, and give other losses."""
    generator = torch.Generator().manual_seed(1)
    outputs, labels = torch.randn(4, 3, 5, generator=generator), torch.arange(4)
    mixed = torch.stack(outputs.flatten(0, 1).chunk(3), 1)
    assert not torch.allclose(stability(mixed, labels, weight=1), stability(outputs, labels, weight=1))


@pytest.mark.parametrize(
    ("loss", "views"),
    [
        (partial(stability, weight=1), 1),
        (partial(consistency, weight=1, entropy_weight=1), 1),
        (partial(consistency, weight=1, form="kl"), 2),
        (partial(consistency, weight=1, form="mse"), 2),
        (partial(macer, sigma=1, weight=1, form="original"), 1),
    ],
)
def test_too_few_views(loss: Loss, views: int) -> None:
    with pytest.raises(DataError, match=f"have {views - 1} noisy views"):
        loss(torch.zeros(2, views, 3), torch.tensor([0, 1]))


def test_every_form_is_published() -> None:
    assert [(name, form) for name, forms in FORMS.items() for form in forms] == list(PUBLISHED)
