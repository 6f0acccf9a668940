from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.autograd.functional import hessian
from torch.func import functional_call

from assay.core.errors import SettingError, Unsupported
from assay.tensors.curvature import Curvature


def cross_entropy(outputs: Tensor, labels: Tensor) -> Tensor:
    return F.cross_entropy(outputs, labels, reduction="none")


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.project, self.head = nn.Linear(4, 6), nn.Linear(2, 3)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.project(x.reshape(len(x), 1, 4, 4)).chunk(3, dim=-1)
        return self.head(F.scaled_dot_product_attention(q, k, v)[:, 0].mean(1))


NETWORKS = {
    "linear": lambda: nn.Sequential(nn.Flatten(), nn.Linear(16, 3)),
    "mlp": lambda: nn.Sequential(nn.Flatten(), nn.Linear(16, 2), nn.Tanh(), nn.LayerNorm(2), nn.Linear(2, 3)),
    "cnn": lambda: nn.Sequential(
        nn.Conv2d(1, 2, 2),
        nn.GroupNorm(1, 2),
        nn.GELU(),
        nn.MaxPool2d(2, 1),
        nn.Conv2d(2, 2, 2, stride=1),
        nn.Flatten(),
        nn.Linear(2, 3),
    ),
    "attention": Attention,
}


def case(name: str, count: int, seed: int) -> tuple[nn.Module, Tensor, Tensor]:
    torch.manual_seed(seed)
    inputs = torch.randn(count, 1, 4, 4, dtype=torch.float64)
    return NETWORKS[name]().double(), inputs, torch.randint(0, 3, (count,))


def explicit(model: nn.Module, inputs: Tensor, labels: Tensor) -> Tensor:
    """The whole Hessian, written out: [P, P]."""
    shapes = {name: value.shape for name, value in model.named_parameters()}
    flat = torch.cat([value.detach().reshape(-1) for value in model.parameters()])

    def mean(vector: Tensor) -> Tensor:
        pieces = vector.split([shape.numel() for shape in shapes.values()])
        parameters = {name: piece.reshape(shape) for (name, shape), piece in zip(shapes.items(), pieces, strict=True)}
        return F.cross_entropy(functional_call(model, parameters, (inputs,)), labels)

    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        return hessian(mean, flat)  # torch.func.jacrev twice is wrong for LayerNorm in PyTorch 2.x: not even symmetric


@pytest.mark.parametrize("name", NETWORKS)
@given(count=st.integers(1, 5), chunk=st.integers(1, 6), seed=st.integers(0, 9))
@hypothesis_settings(max_examples=6)
def test_against_the_whole_hessian(name: str, count: int, chunk: int, seed: int) -> None:
    model, inputs, labels = case(name, count, seed)
    whole = explicit(model, inputs, labels)
    curvature = Curvature(model, cross_entropy, inputs, labels, chunk=chunk)
    vectors = torch.randn(3, curvature.size, dtype=torch.float64)
    torch.testing.assert_close(curvature.products(vectors), vectors @ whole, rtol=1e-9, atol=1e-11)
    torch.testing.assert_close(curvature.quadratics(vectors), (vectors @ whole * vectors).sum(1), rtol=1e-9, atol=1e-11)
    exact = curvature.trace()
    assert exact.value == pytest.approx(float(whole.trace()), rel=1e-9, abs=1e-11)
    assert (exact.standard_error, exact.n, exact.method) == (0, curvature.size, "exact")
    F.cross_entropy(model(inputs), labels).backward()
    own = torch.cat([p.grad.reshape(-1) for p in model.parameters() if p.grad is not None])
    torch.testing.assert_close(curvature.gradient(), own, rtol=1e-9, atol=1e-12)


def test_hutchinson_covers_the_trace_as_often_as_it_says() -> None:
    model, inputs, labels = case("mlp", 5, 3)
    curvature = Curvature(model, cross_entropy, inputs, labels)
    whole = explicit(model, inputs, labels)
    away = whole - torch.diag(whole.diagonal())
    variance = 2 * float(away.square().sum())  # of vᵀHv over random signs
    found = [curvature.hutchinson(30, seed=seed) for seed in range(40)]
    values = np.array([trace.value for trace in found])
    assert abs(values.mean() - float(whole.trace())) < 4 * math.sqrt(variance / 30 / 40)
    errors = np.array([trace.standard_error for trace in found])
    assert errors.mean() == pytest.approx(math.sqrt(variance / 30), rel=0.15)
    assert (found[0].n, found[0].method) == (30, "hutchinson")


def test_hutchinson_is_exact_for_a_diagonal_hessian_and_its_probes_are_named() -> None:
    model, square = nn.Linear(2, 1, bias=False), lambda output, label: 0.5 * (output[:, 0] - label).square()
    curvature = Curvature(model, square, torch.diag(torch.tensor([1.0, 2.0])), torch.zeros(2))
    assert curvature.hutchinson(5) == curvature.hutchinson(5)
    assert curvature.hutchinson(5).value == pytest.approx(2.5)
    assert curvature.hutchinson(5).standard_error == pytest.approx(0)
    assert math.isnan(curvature.hutchinson(1).standard_error)


def test_a_loss_linear_in_the_parameters_has_no_curvature() -> None:
    curvature = Curvature(nn.Linear(3, 1), lambda output, label: output[:, 0], torch.randn(4, 3), torch.zeros(4))
    assert curvature.trace().value == 0
    assert curvature.products(torch.ones(2, 4)).abs().max() == 0


def test_unused_and_frozen_parameters() -> None:
    model = nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 2))
    model[0].requires_grad_(False)
    model.register_parameter("unused", nn.Parameter(torch.ones(5)))
    curvature = Curvature(model, cross_entropy, torch.randn(4, 3), torch.tensor([0, 1, 1, 0]))
    assert curvature.size == 4 + 2 + 5
    assert curvature.gradient()[:5].abs().max() == 0
    assert curvature.products(torch.ones(1, 11))[0, :5].abs().max() == 0


def test_the_model_is_left_as_it_was() -> None:
    model, inputs, labels = case("cnn", 4, 0)
    model.train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    Curvature(model, cross_entropy, inputs, labels).hutchinson(2)
    assert model.training
    assert all(parameter.grad is None for parameter in model.parameters())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_mistakes() -> None:
    model, inputs, labels = case("linear", 2, 0)
    with pytest.raises(SettingError, match="2 inputs and 1 labels"):
        Curvature(model, cross_entropy, inputs, labels[:1])
    with pytest.raises(SettingError, match="0 inputs"):
        Curvature(model, cross_entropy, inputs[:0], labels[:0])
    curvature = Curvature(model, cross_entropy, inputs, labels)
    with pytest.raises(SettingError, match=r"allowed: up to 50\. Use hutchinson"):
        curvature.trace(limit=50)
    with pytest.raises(SettingError, match="probes is 0"):
        curvature.hutchinson(0)
    with pytest.raises(SettingError, match=r"\[k, 51\]"):
        curvature.products(torch.ones(51))
    with pytest.raises(Unsupported, match="no trainable parameter"):
        Curvature(model.requires_grad_(False), cross_entropy, inputs, labels)
