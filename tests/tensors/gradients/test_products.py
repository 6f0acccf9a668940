"""The three ways to norms and sums of a layer's gradients are one; the cost model picks by size."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from assay.tensors.gradients import products
from assay.tensors.gradients.activations import Tanh
from assay.tensors.gradients.convolution import ConvolutionWeight
from assay.tensors.gradients.products import OuterProducts, cheapest
from assay.tensors.gradients.rules import EmbeddingWeight, LinearWeight


def check(make, expected: Tensor) -> None:
    """``expected`` [B, *shape] against all plans."""
    factors = torch.linspace(0.1, 1, len(expected), dtype=expected.dtype)
    for plan in ("store", "again", "ghost"):
        subject: OuterProducts = make()
        subject.plan = plan
        torch.testing.assert_close(subject.squares(), expected.flatten(1).square().sum(1))
        torch.testing.assert_close(subject.weighted(factors), torch.einsum("b,b...->...", factors, expected))
        torch.testing.assert_close(subject.gradients(), expected)


@settings(max_examples=25, deadline=None)
@given(
    st.sampled_from([1, 2, 3]),
    st.sampled_from([(1, 1), (2, 3), (9, 2)]),
    st.sampled_from([1, 2]),
    st.sampled_from([1, 3]),
    st.sampled_from([1, 2]),
    st.sampled_from([1, 100, 2**20]),
)
def test_convolutions(groups: int, widths: tuple[int, int], stride: int, samples: int, views: int, cache: int) -> None:
    """Against autograd, one sample at a time, with blocks of one sample, of some, and of all."""
    torch.manual_seed(0)
    layer = nn.Conv2d(groups * widths[0], groups * widths[1], (2, 3), stride=stride, padding=1, groups=groups).double()
    x = torch.randn(samples * views, groups * widths[0], 6, 7, dtype=torch.float64)
    e = torch.randn_like(layer(x))
    expected = torch.stack(
        [
            torch.autograd.grad(layer(rows), layer.weight, grads)[0]
            for rows, grads in zip(x.split(views), e.split(views), strict=True)
        ]
    )
    before = products.CACHE
    products.CACHE = cache
    try:
        check(lambda: ConvolutionWeight(layer, x, e, samples), expected)
    finally:
        products.CACHE = before


@pytest.mark.parametrize("positions", [1, 5])
def test_linear_maps(positions: int) -> None:
    a, e = torch.randn(4, positions, 3, dtype=torch.float64), torch.randn(4, positions, 2, dtype=torch.float64)
    check(lambda: LinearWeight(a, e, 4), torch.einsum("bto,bti->boi", e, a))


def test_gram_matrices_are_not_trusted_where_positions_cancel() -> None:
    """Two positions with opposite gradients leave a norm far below float32's resolution of the Gram sum."""
    a = torch.ones(2, 2, 3)
    a[:, 1, 0] += 2**-13
    e = torch.tensor([[[1024.0], [-1024.0]], [[1.0], [1.0]]])
    exact = torch.einsum("bto,bti->boi", e.double(), a.double()).flatten(1).square().sum(1)
    subject = LinearWeight(a, e, 2)
    subject.plan = "ghost"
    torch.testing.assert_close(subject.squares().double(), exact, rtol=1e-6, atol=0)
    gram = ((a @ a.mT) * (e @ e.mT)).sum((1, 2)).double()
    assert abs(gram[0] - exact[0]) > 0.01 * exact[0]


def test_the_cost_model() -> None:
    assert cheapest(256, 1, 1, 9216, 10) == "ghost"  # one position: norms are products of lengths
    assert cheapest(256, 1, 576, 288, 16) == "store"  # many positions, small weight
    assert cheapest(64, 1, 64, 1152, 128) == "ghost"  # few positions, large weight
    assert cheapest(64, 1, 2**14, 4096, 4096) == "again"  # many positions, and a weight too large to keep


def test_embedding_rows_are_added_up_before_they_are_squared() -> None:
    layer = nn.Embedding(4, 2, padding_idx=3)
    rows = torch.tensor([[1, 1, 3], [0, 2, 0]])
    e = torch.randn(2, 3, 2)
    expected = torch.zeros(2, 4, 2)
    expected[0, 1] = e[0, 0] + e[0, 1]
    expected[1, 0], expected[1, 2] = e[1, 0] + e[1, 2], e[1, 1]
    subject = EmbeddingWeight(layer, rows, e, 2)
    torch.testing.assert_close(subject.gradients(), expected)
    torch.testing.assert_close(subject.squares(), expected.square().sum((1, 2)))
    factors = torch.tensor([0.5, 2.0])
    torch.testing.assert_close(subject.weighted(factors), torch.einsum("b,bvd->vd", factors, expected))


def test_tanh_is_that_of_torch_to_the_last_bits() -> None:
    sizes = torch.logspace(-30, 2, 20_001)
    values = torch.cat([-sizes, torch.tensor([0.0, float("inf"), -float("inf")]), sizes]).requires_grad_()
    found = Tanh.apply(values)
    torch.testing.assert_close(found.double(), values.detach().double().tanh(), rtol=3e-7, atol=0)
    (slope,) = torch.autograd.grad(found.sum(), values)
    torch.testing.assert_close(slope, 1 - found.detach().square())
    assert torch.isnan(Tanh.apply(torch.tensor([float("nan")])))
