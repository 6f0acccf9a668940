"""Losses: against definitions written out pixel by pixel, identities, and what must never become NaN."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from torch import Tensor

from assay.core.errors import DataError, SettingError
from assay.tensors import losses

IGNORE = 255
SEGMENTATION: dict[str, Callable[..., Tensor]] = {
    "ce": losses.ce,
    "masked_ce": losses.masked_ce,
    "seg_pgd": lambda z, y, **options: losses.seg_pgd(z, y, 3, 10, **options),
    "cos_pgd": losses.cos_pgd,
    "cos_pgd-sea": lambda z, y, **options: losses.cos_pgd(z, y, variant="sea", **options),
    "js": losses.js,
    "mask_norm_corrlog": losses.mask_norm_corrlog,
    "mask_margin": losses.mask_margin,
}
DEPTH: dict[str, Callable[..., Tensor]] = {
    "silog": losses.silog,
    "silog-squared": lambda p, t, **options: losses.silog(p, t, root=False, **options),
    "silog_mean": losses.silog_mean,
    "log_rmse": losses.log_rmse,
    "depth_l1": losses.depth_l1,
    "depth_gradient": losses.depth_gradient,
}


def pixel_loss(name: str, z: np.ndarray, y: int) -> float:
    """One pixel's loss, from its definition."""
    p = np.exp(z - z.max()) / np.exp(z - z.max()).sum()
    cross = -math.log(p[y])
    right = float(z.argmax() == y)
    other = np.delete(z, y).max()
    sigmoid = 1 / (1 + np.exp(-z))
    m = p / 2
    m[y] += 0.5
    divergence = 0.5 * (p * np.log(p / m)).sum() - 0.5 * math.log(m[y])
    return {
        "ce": cross,
        "masked_ce": right * cross,
        "seg_pgd": ((1 - 0.15) * right + 0.15 * (1 - right)) * cross,
        "cos_pgd": p[y] / np.linalg.norm(p) * cross,
        "cos_pgd-sea": sigmoid[y] / np.linalg.norm(sigmoid) * cross,
        "js": divergence,
        "mask_norm_corrlog": -right * z[y] / np.linalg.norm(z),
        "mask_margin": right * (other - z[y]) / np.linalg.norm(z),
    }[name]


def scene(
    seed: int, shape: tuple[int, ...] = (3, 4, 5), classes: int = 4, ignored: float = 0.3
) -> tuple[Tensor, Tensor]:
    """Logits [B, K, H, W] and targets [B, H, W], the last image without a pixel that counts."""
    random = torch.Generator().manual_seed(seed)
    logits = torch.randn(shape[0], classes, *shape[1:], generator=random, dtype=torch.float64) * 4
    target = torch.randint(0, classes, shape, generator=random)
    target[torch.rand(shape, generator=random) < ignored] = IGNORE
    if len(shape) > 1:
        target[-1] = IGNORE
    return logits, target


def depths(seed: int, shape: tuple[int, ...] = (3, 9, 11), invalid: float = 0.3) -> tuple[Tensor, Tensor]:
    """Predicted and true depths, the last image without a pixel that counts."""
    random = torch.Generator().manual_seed(seed)
    prediction = torch.rand(shape, generator=random, dtype=torch.float64) * 9 + 0.1
    target = torch.rand(shape, generator=random, dtype=torch.float64) * 9 + 0.1
    target[torch.rand(shape, generator=random) < invalid] = 0.0
    target[-1] = 0.0
    return prediction, target


@pytest.mark.parametrize("name", SEGMENTATION)
@given(seed=st.integers(0, 99), classes=st.integers(2, 5))
@hypothesis_settings(max_examples=8)
def test_segmentation_losses_are_their_definition(name: str, seed: int, classes: int) -> None:
    logits, target = scene(seed, classes=classes)
    found = SEGMENTATION[name](logits, target)
    everything = SEGMENTATION[name](logits, target, denominator="all")
    for image in range(len(logits)):
        places = (target[image] != IGNORE).nonzero().tolist()
        values = [pixel_loss(name, logits[image, :, i, j].numpy(), int(target[image, i, j])) for i, j in places]
        assert float(found[image]) == pytest.approx(sum(values) / max(1, len(values)), abs=1e-9)
        assert float(everything[image]) == pytest.approx(sum(values) / target[image].numel(), abs=1e-9)


@pytest.mark.parametrize("name", SEGMENTATION)
def test_one_class_an_image_works_too(name: str) -> None:
    logits, target = scene(1, shape=(6,), ignored=0.0)
    found = SEGMENTATION[name](logits, target, ignore_index=None)
    wanted = [pixel_loss(name, z.numpy(), int(y)) for z, y in zip(logits, target, strict=True)]
    np.testing.assert_allclose(found, wanted, atol=1e-9)


@pytest.mark.parametrize("name", SEGMENTATION)
@pytest.mark.parametrize("scale", [0.0, 1.0, 300.0, 1e5])
def test_segmentation_losses_and_gradients_stay_finite(name: str, scale: float) -> None:
    logits, target = scene(2)
    logits = (logits * scale).float().requires_grad_()
    found = SEGMENTATION[name](logits, target)
    (gradient,) = torch.autograd.grad(found.sum(), logits)
    assert torch.isfinite(found).all()
    assert torch.isfinite(gradient).all()
    assert found[-1] == 0
    assert not gradient[-1].any()
    assert not gradient.permute(0, 2, 3, 1)[target == IGNORE].any()


@pytest.mark.parametrize("name", SEGMENTATION)
def test_nothing_depends_on_the_rest_of_the_batch(name: str) -> None:
    logits, target = scene(3, shape=(5, 17, 13))
    logits = logits.float()
    whole = SEGMENTATION[name](logits, target)
    alone = torch.cat([SEGMENTATION[name](logits[i : i + 1], target[i : i + 1]) for i in range(len(logits))])
    assert torch.equal(whole, alone)


@pytest.mark.parametrize("name", ["masked_ce", "mask_norm_corrlog", "mask_margin"])
def test_masks_are_constants_and_wrong_pixels_are_left_alone(name: str) -> None:
    logits, target = scene(4, ignored=0.0)
    logits.requires_grad_()
    (gradient,) = torch.autograd.grad(SEGMENTATION[name](logits, target).sum(), logits)
    moved = gradient.abs().sum(1) > 0
    assert torch.equal(moved, (logits.argmax(1) == target) & (target != IGNORE))


def test_weights_of_seg_pgd_go_from_right_pixels_to_all() -> None:
    logits, target = scene(5)
    assert torch.equal(losses.seg_pgd(logits, target, 0, 20), losses.masked_ce(logits, target))
    torch.testing.assert_close(losses.seg_pgd(logits, target, 20, 20), losses.ce(logits, target) / 2)


@given(seed=st.integers(0, 99))
@hypothesis_settings(max_examples=10)
def test_divergence_has_its_range_and_gradient(seed: int) -> None:
    logits, target = scene(seed, shape=(8,), ignored=0.0)
    for precise in (logits, logits.float() * 8):
        precise.requires_grad_()
        found = losses.js(precise, target, ignore_index=None)
        assert ((found >= 0) & (found <= math.log(2) * (1 + 1e-6))).all()
        (gradient,) = torch.autograd.grad(found.sum(), precise)
        p = precise.detach().double().softmax(1)
        own = p.gather(1, target[:, None])
        wanted = 0.5 * own * (own / (1 + own)).log() * (F.one_hot(target, 4) - p)
        torch.testing.assert_close(gradient, wanted.to(gradient.dtype), atol=2e-6, rtol=1e-3)


def test_weights_of_cos_pgd_are_constants() -> None:
    logits, target = scene(6, shape=(4,), ignored=0.0)
    logits.requires_grad_()
    (gradient,) = torch.autograd.grad(losses.cos_pgd(logits, target).sum(), logits)
    p = logits.detach().softmax(1)
    weight = p.gather(1, target[:, None]) / p.norm(dim=1, keepdim=True)
    torch.testing.assert_close(gradient, weight * (p - F.one_hot(target, 4)))


@pytest.mark.parametrize("classes", [2, 3, 4, 6])
def test_ratios_fall_back_to_margins_for_few_classes(classes: int) -> None:
    logits, target = scene(7, shape=(9,), classes=classes, ignored=0.0)
    aims = (target + 1) % classes
    margins, goals = losses.margin(logits, target), losses.targeted_margin(logits, target, aims)
    assert torch.equal(losses.dlr(logits, target), margins) == (classes < 3)
    assert torch.equal(losses.dlr_targeted(logits, target, aims), goals) == (classes < 4)
    ranked = logits.sort(1, descending=True).values
    if classes >= 4:
        torch.testing.assert_close(losses.dlr(logits, target), margins / (ranked[:, 0] - ranked[:, 2]))
        below = ranked[:, 0] - (ranked[:, 2] + ranked[:, 3]) / 2
        torch.testing.assert_close(losses.dlr_targeted(logits, target, aims), goals / below)


def naive_g(prediction: np.ndarray, target: np.ndarray) -> np.ndarray:
    return np.log(prediction + 1e-3) - np.log(target + 1e-3)


@given(seed=st.integers(0, 99), beta=st.sampled_from([0.15, 0.5, 1.0]))
@hypothesis_settings(max_examples=10)
def test_depth_losses_are_their_definition(seed: int, beta: float) -> None:
    prediction, target = depths(seed)
    for image in range(2):
        p, t = prediction[image].numpy(), target[image].numpy()
        g = naive_g(p[t > 0], t[t > 0])
        one, goal = prediction[image : image + 1], target[image : image + 1]
        full = math.sqrt(g.var() + beta * g.mean() ** 2)
        assert float(losses.silog(one, goal, beta=beta)) == pytest.approx(full, abs=1e-9)
        assert float(losses.silog(one, goal, beta=beta, root=False)) == pytest.approx(full**2, abs=1e-9)
        assert float(losses.silog_mean(one, goal, beta=beta)) == pytest.approx(
            math.sqrt(beta) * abs(g.mean()), abs=1e-9
        )
        assert float(losses.log_rmse(one, goal)) == pytest.approx(math.sqrt((g**2).mean()), abs=1e-9)
        assert float(losses.depth_l1(one, goal)) == pytest.approx(np.abs(p - t)[t > 0].mean(), abs=1e-9)
        assert float(losses.silog(one, goal, beta=beta)) >= float(losses.silog_mean(one, goal, beta=beta))


def naive_gradient(p: np.ndarray, t: np.ndarray, scales: tuple[int, ...]) -> float:
    total = 0.0
    for scale in scales:
        small, true = p[::scale, ::scale], t[::scale, ::scale]
        known = true > 0
        if not known.any():
            continue
        g = np.where(known, naive_g(small, np.where(known, true, 1)), 0)
        for i in range(g.shape[0]):
            for j in range(g.shape[1]):
                for a, b in ((i, j + 2), (i + 2, j)):
                    if a < g.shape[0] and b < g.shape[1] and known[i, j] and known[a, b]:
                        total += abs(g[i, j] - g[a, b]) / known.sum()
    return total


@given(seed=st.integers(0, 99), scales=st.sampled_from([(1,), (1, 2, 4, 8), (1, 2, 4, 6), (20,)]))
@hypothesis_settings(max_examples=8)
def test_depth_gradient_runs_along_height_and_width(seed: int, scales: tuple[int, ...]) -> None:
    prediction, target = depths(seed)
    found = losses.depth_gradient(prediction, target, scales=scales)
    wanted = [naive_gradient(p.numpy(), t.numpy(), scales) for p, t in zip(prediction, target, strict=True)]
    np.testing.assert_allclose(found, wanted, atol=1e-9)
    assert torch.equal(found, losses.depth_gradient(prediction[:, None], target[:, None], scales=scales))


@pytest.mark.parametrize("name", DEPTH)
def test_depth_losses_at_the_truth_and_beyond(name: str) -> None:
    prediction, target = depths(8)
    strange = target.clone()
    strange[0, 0, :3] = torch.tensor([math.nan, math.inf, -1.0])
    for given_, wanted in ((target.clone(), target), (prediction.float(), strange.float()), (prediction * 0, strange)):
        variable = given_.clone().requires_grad_()
        found = DEPTH[name](variable, wanted)
        (gradient,) = torch.autograd.grad(found.sum(), variable)
        assert torch.isfinite(found).all()
        assert torch.isfinite(gradient).all()
        assert found[-1] == 0
        assert not gradient[-1].any()
        assert not gradient[~(torch.isfinite(wanted) & (wanted > 0))].any()
    assert not DEPTH[name](target.clamp_min(0.5), target.clamp_min(0.5)).any()


@pytest.mark.parametrize("name", DEPTH)
def test_what_counts_can_be_given(name: str) -> None:
    prediction, target = depths(9, invalid=0.0)
    valid = torch.rand(target.shape, generator=torch.Generator().manual_seed(0)) < 0.5
    hidden = torch.where(valid, target, 0.0)
    assert torch.equal(DEPTH[name](prediction, target, valid=valid & (target > 0)), DEPTH[name](prediction, hidden))


def test_distances_of_representations() -> None:
    random = torch.Generator().manual_seed(0)
    flat, other = (torch.randn(3, 8, generator=random, dtype=torch.float64) for _ in range(2))
    np.testing.assert_allclose(losses.embedding_l2(flat, other), ((flat - other).numpy() ** 2).mean(1))
    cosines = [float(F.cosine_similarity(a, b, dim=0)) for a, b in zip(flat, other, strict=True)]
    np.testing.assert_allclose(losses.embedding_cosine(flat, other), 1 - np.array(cosines))
    maps, known = (torch.randn(2, 8, 2, 3, generator=random, dtype=torch.float64) for _ in range(2))
    for loss in (losses.embedding_l2, losses.embedding_cosine, losses.softmax_ce):
        by_token = [loss(maps[:, :, i, j], known[:, :, i, j]) for i in range(2) for j in range(3)]
        torch.testing.assert_close(loss(maps, known), torch.stack(by_token).mean(0))
    soft = -(other.softmax(1) * flat.log_softmax(1)).sum(1)
    torch.testing.assert_close(losses.softmax_ce(flat, other), soft)


@pytest.mark.parametrize("loss", [losses.embedding_l2, losses.embedding_cosine, losses.softmax_ce])
def test_representations_of_length_zero_are_harmless(loss: Callable[[Tensor, Tensor], Tensor]) -> None:
    output = torch.zeros(2, 4, requires_grad=True)
    found = loss(output, torch.tensor([[0.0] * 4, [1.0, 0.0, 0.0, 0.0]]))
    (gradient,) = torch.autograd.grad(found.sum(), output)
    assert torch.isfinite(found).all()
    assert torch.isfinite(gradient).all()


@pytest.mark.parametrize(
    ("call", "error", "says"),
    [
        (lambda z, y: losses.seg_pgd(z, y, 5, 4), SettingError, "t=5 of T=4"),
        (lambda z, y: losses.cos_pgd(z, y, variant="relu"), SettingError, "'softmax', 'sea'"),
        (lambda z, y: losses.ce(z, y, denominator="some"), SettingError, "'valid', 'all'"),
        (lambda z, y: losses.ce(z[:, :, 1:], y), DataError, r"\(3, 4, 3, 5\) do not fit targets \(3, 4, 5\)"),
        (lambda z, y: losses.silog(z[:, 0], z[:, 0, 1:]), DataError, r"do not fit targets \(3, 3, 5\)"),
        (lambda z, y: losses.depth_gradient(z[:, 0, 0], z[:, 0, 0]), DataError, r"maps \[B, H, W\]"),
        (lambda z, y: losses.depth_gradient(z[:, 0], z[:, 0], scales=(0,)), SettingError, "whole numbers from 1 up"),
        (lambda z, y: losses.embedding_l2(z, z[1:]), DataError, r"\[B, D\] or \[B, D, h, w\]"),
    ],
)
def test_what_cannot_be_used_is_named(call: Callable[..., Tensor], error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says):
        call(*scene(0))
