"""Per-sample gradients of single layers, from what went in and the gradient of what came out.

Every rule takes the layer, its input and the gradient of its output, both with
V rows for each of B samples, and answers three questions: the gradients
[B, *shape], their squared norms [B], and Σ_i f_i g_i.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .products import OuterProducts


class Rule(Protocol):
    """The gradient of one parameter of a layer, for every sample."""

    def gradients(self) -> Tensor:
        """[B, *shape]."""
        ...

    def squares(self) -> Tensor:
        """[B]."""
        ...

    def weighted(self, factors: Tensor) -> Tensor:
        """[*shape]; factors [B]."""
        ...


Rules = Callable[[nn.Module, Tensor, Tensor, int], dict[str, Rule]]
"""(layer, input [B V, ...], output gradient [B V, ...], B) -> name of the layer's parameter -> its rule."""


class Direct:
    """Gradients that are small enough to be formed at once: biases, scales and shifts."""

    def __init__(self, gradients: Tensor) -> None:
        self._gradients = gradients

    def gradients(self) -> Tensor:
        return self._gradients

    def squares(self) -> Tensor:
        return self._gradients.flatten(1).square().sum(1)

    def weighted(self, factors: Tensor) -> Tensor:
        return (factors @ self._gradients.flatten(1)).view(self._gradients.shape[1:])


class LinearWeight(OuterProducts):
    """y_t = W a_t + b."""

    def __init__(self, inputs: Tensor, grads: Tensor, samples: int) -> None:
        self._a = inputs.reshape(samples, -1, inputs.shape[-1])
        self._e = grads.reshape(samples, -1, grads.shape[-1])
        super().__init__(samples, 1, self._a.shape[1], inputs.shape[-1], grads.shape[-1], inputs)

    def factors(self, first: int, last: int) -> tuple[Tensor, Tensor]:
        return self._a[first:last], self._e[first:last]

    def weighted_product(self, factors: Tensor) -> Tensor:
        weighted = self._e * factors[:, None, None]
        return weighted.reshape(-1, self.outputs).T @ self._a.reshape(-1, self.inputs)

    def shaped(self, product: Tensor) -> Tensor:
        return product[:, 0]


def linear(layer: nn.Module, inputs: Tensor, grads: Tensor, samples: int) -> dict[str, Rule]:
    """Weight and bias of ``torch.nn.Linear``."""
    weight = LinearWeight(inputs, grads, samples)
    return {"weight": weight, "bias": Direct(grads.reshape(samples, -1, grads.shape[-1]).sum(1))}


class EmbeddingWeight:
    """Rows of a table: the gradient of row r is the sum of e_t over the positions t that read r; no one-hot."""

    def __init__(self, layer: nn.Embedding, inputs: Tensor, grads: Tensor, samples: int) -> None:
        self._table = layer.weight.shape
        width = layer.embedding_dim
        self._rows = inputs.reshape(samples, -1).long()
        self._grads = grads.reshape(samples, -1, width)
        if layer.padding_idx is not None:
            self._grads = self._grads * (self._rows != layer.padding_idx)[..., None]
        self._samples = samples

    def _places(self) -> Tensor:
        sample = torch.arange(self._samples, device=self._rows.device)[:, None]
        return (sample * self._table[0] + self._rows).flatten()

    def gradients(self) -> Tensor:
        tables = self._grads.new_zeros(self._samples * self._table[0], self._table[1])
        tables.index_add_(0, self._places(), self._grads.flatten(0, 1))
        return tables.view(self._samples, *self._table)

    def squares(self) -> Tensor:
        places, belongs = self._places().unique(return_inverse=True)
        sums = self._grads.new_zeros(len(places), self._table[1])
        sums.index_add_(0, belongs, self._grads.flatten(0, 1))
        owner = places.div(self._table[0], rounding_mode="floor")
        return self._grads.new_zeros(self._samples).index_add_(0, owner, sums.square().sum(1))

    def weighted(self, factors: Tensor) -> Tensor:
        table = self._grads.new_zeros(self._table)
        return table.index_add_(0, self._rows.flatten(), (self._grads * factors[:, None, None]).flatten(0, 1))


def embedding(layer: nn.Module, inputs: Tensor, grads: Tensor, samples: int) -> dict[str, Rule]:
    """The table of ``torch.nn.Embedding``."""
    assert isinstance(layer, nn.Embedding)
    return {"weight": EmbeddingWeight(layer, inputs, grads, samples)}


def layer_norm(layer: nn.Module, inputs: Tensor, grads: Tensor, samples: int) -> dict[str, Rule]:
    """Scale and shift of ``torch.nn.LayerNorm``."""
    assert isinstance(layer, nn.LayerNorm)
    normalised = F.layer_norm(inputs, layer.normalized_shape, eps=layer.eps)
    shape = (samples, -1, *layer.normalized_shape)
    return {
        "weight": Direct((grads * normalised).reshape(shape).sum(1)),
        "bias": Direct(grads.reshape(shape).sum(1)),
    }


def group_norm(layer: nn.Module, inputs: Tensor, grads: Tensor, samples: int) -> dict[str, Rule]:
    """Scale and shift of ``torch.nn.GroupNorm``."""
    assert isinstance(layer, nn.GroupNorm)
    normalised = F.group_norm(inputs, layer.num_groups, eps=layer.eps)
    return {
        "weight": Direct(_over_channels(grads * normalised, samples)),
        "bias": Direct(_over_channels(grads, samples)),
    }


def _over_channels(values: Tensor, samples: int) -> Tensor:
    """[B V, C, ...] -> [B, C], summed over views and positions."""
    return values.flatten(1).view(samples, -1, values.shape[1], values[0, 0].numel()).sum((1, 3))
