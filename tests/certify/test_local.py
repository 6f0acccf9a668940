"""Local measures against closed forms and exact Hessians."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from assay import Classification, Normalize, Target
from assay.certify import hessian_top_eigenvalue, input_gradient_norm, local_lipschitz
from assay.core.errors import ModelError, SettingError

from .models import convolutional, pictures

LABELS = torch.tensor([0, 1, 2, 3, 4, 0])


class Curved(nn.Module):
    """Logits that are quadratic in four inputs, so that the loss bends upwards and downwards."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.forms = nn.Parameter(2 * torch.randn(3, 4, 4, generator=generator))

    def forward(self, inputs: Tensor) -> Tensor:
        flat = inputs.flatten(1)
        return torch.einsum("bi,kij,bj->bk", flat, self.forms, flat)


def exact(target: Target, image: Tensor, label: Tensor) -> Tensor:
    """All eigenvalues of the input Hessian, by automatic differentiation."""

    def loss(point: Tensor) -> Tensor:
        inputs = point if target.preprocess is None else target.preprocess(point)
        return F.cross_entropy(target.model(inputs), label[None])

    with torch.enable_grad():
        matrix = torch.autograd.functional.hessian(loss, image[None])
    return torch.linalg.eigvalsh(matrix.reshape(image.numel(), -1))


@pytest.mark.parametrize("seed", range(4))
def test_the_top_eigenvalue_is_exact_in_few_dimensions(seed: int) -> None:
    target = Target(Curved(seed), task=Classification(3))
    images = torch.rand(6, 1, 2, 2, generator=torch.Generator().manual_seed(seed))
    labels = torch.arange(6) % 3
    found = hessian_top_eigenvalue(target, images, labels, steps=10)
    expected = torch.stack([exact(target, x, y)[-1] for x, y in zip(images, labels, strict=True)])
    assert torch.allclose(found.value, expected, rtol=1e-4, atol=1e-3)  # float32 loses 1 - p where the model is sure
    assert (found.error == 0).all()


def test_the_top_eigenvalue_may_be_negative() -> None:
    class Hill(nn.Module):
        def forward(self, inputs: Tensor) -> Tensor:
            bend = inputs.flatten(1).square().sum(1)
            return torch.stack([5 * bend, 0 * bend], 1)

    target, images = Target(Hill(), task=Classification(2)), torch.full((1, 1, 2, 2), 0.05)
    found = hessian_top_eigenvalue(target, images, torch.tensor([0]), steps=4)
    assert found.value.item() == pytest.approx(exact(target, images[0], torch.tensor(0))[-1].item(), rel=1e-4)
    assert found.value.item() < 0


def test_the_top_eigenvalue_of_a_network_and_its_error() -> None:
    target = convolutional("tiny-cnn", 10)
    target = Target(target.model, task=target.task, preprocess=Normalize([0.5], [0.2]))
    images = pictures(6, 10)
    many, few = (hessian_top_eigenvalue(target, images, LABELS, steps=steps) for steps in (24, 3))
    for row, (image, label) in enumerate(zip(images, LABELS, strict=True)):
        values = exact(target, image, label)
        scale = float(values.abs().max())
        assert many.value[row] == pytest.approx(float(values[-1]), abs=1e-3 * scale)
        assert float((values - few.value[row]).abs().min()) <= float(few.error[row]) + 1e-4 * scale
    assert (few.error >= many.error).all()


def test_piecewise_linear_and_linear_models() -> None:
    """p (1 - p) |w|² in the direction of w for two classes; 0 for a loss without curvature."""
    layer = nn.Linear(4, 2, bias=False)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[1.0, 2.0, 0.0, -1.0], [0.0, 0.0, 0.0, 0.0]]))
    target = Target(nn.Sequential(nn.Flatten(), layer), task=Classification(2))
    images = torch.rand(3, 1, 2, 2, generator=torch.Generator().manual_seed(0))
    p = target.logits(images).softmax(1)[:, 0]
    found = hessian_top_eigenvalue(target, images, torch.zeros(3, dtype=torch.int64), steps=3)
    assert torch.allclose(found.value, 6 * p * (1 - p), rtol=1e-4)
    assert (found.error < 1e-4).all()


def test_gradient_norms_of_a_linear_model() -> None:
    torch.manual_seed(0)
    layer = nn.Linear(4, 3)
    target = Target(nn.Sequential(nn.Flatten(), layer), task=Classification(3))
    images = torch.rand(5, 1, 2, 2, generator=torch.Generator().manual_seed(0))
    labels = torch.tensor([0, 1, 2, 0, 1])
    residual = target.logits(images).softmax(1) - F.one_hot(labels, 3)
    expected = (residual @ layer.weight.detach()).norm(dim=1)
    found = input_gradient_norm(target, images, labels)
    assert torch.allclose(found.norm, expected, rtol=1e-4)
    assert torch.allclose(found.relative, expected / residual.norm(dim=1), rtol=1e-4)
    with torch.no_grad():
        layer.weight.zero_()
        layer.bias.copy_(torch.tensor([1000.0, 0.0, 0.0]))
    sure = input_gradient_norm(target, images[:1], labels[:1])
    assert sure.norm.item() == 0
    assert sure.relative.isnan().item()


def test_the_local_lipschitz_constant_of_a_linear_model() -> None:
    """Never above the largest slope in the cube, and close to it: Σ_k |J_k|·sign for two classes is 2 p (1-p) |w|_1."""
    layer = nn.Linear(4, 2, bias=False)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[3.0, -1.0, 2.0, 0.5], [0.0, 0.0, 0.0, 0.0]]))
    target = Target(nn.Sequential(nn.Flatten(), layer), task=Classification(2))
    images = torch.rand(5, 1, 2, 2, generator=torch.Generator().manual_seed(0))
    reach = 0.01 * 6.5
    margin = target.logits(images)[:, 0]
    nearest = (margin.abs() - reach).clamp_min(0).sigmoid()
    most = 2 * nearest * (1 - nearest) * 6.5
    p = margin.sigmoid()
    found = local_lipschitz(target, images)
    assert (found <= most * 1.001).all()
    assert (found >= 0.98 * 2 * p * (1 - p) * 6.5).all()


@pytest.mark.parametrize("batch_size", [1, 3, 64])
def test_measures_do_not_depend_on_the_batch(batch_size: int) -> None:
    target, images = convolutional("dp-cert-cnn", 16), pictures(6)
    order = torch.tensor([5, 2, 0, 1, 4, 3])
    ids = order.tolist()
    whole = (
        local_lipschitz(target, images),
        *input_gradient_norm(target, images, LABELS),
        *hessian_top_eigenvalue(target, images, LABELS, steps=5),
    )
    other = (
        local_lipschitz(target, images[order], sample_ids=ids, batch_size=batch_size),
        *input_gradient_norm(target, images[order], LABELS[order], batch_size=batch_size),
        *hessian_top_eigenvalue(target, images[order], LABELS[order], steps=5, sample_ids=ids, batch_size=batch_size),
    )
    for one, two in zip(whole, other, strict=True):
        assert one[order].tolist() == two.tolist()


def test_mistakes() -> None:
    class Once(torch.autograd.Function):
        @staticmethod
        def forward(context: object, inputs: Tensor) -> Tensor:
            return inputs.clone()

        @staticmethod
        @torch.autograd.function.once_differentiable
        def backward(context: object, slope: Tensor) -> Tensor:
            return slope * 2

    class Rough(nn.Module):
        def forward(self, inputs: Tensor) -> Tensor:
            return Once.apply(inputs.flatten(1).square())

    images, labels = torch.rand(2, 1, 2, 2), torch.tensor([0, 1])
    with pytest.raises(ModelError, match="differentiated twice"):
        hessian_top_eigenvalue(Target(Rough(), task=Classification(4)), images, labels)
    with pytest.raises(SettingError, match="steps"):
        hessian_top_eigenvalue(convolutional(), images, labels, steps=0)
    with pytest.raises(SettingError, match="eps is 0"):
        local_lipschitz(convolutional(), images, eps=0)
