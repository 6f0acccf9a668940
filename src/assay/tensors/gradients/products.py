"""Sums over positions of outer products: the gradient of a linear map for each sample, its norm, its weighted sum.

The weight of a linear map that is applied at T positions of a sample has the gradient
G_i = Σ_t e_it a_itᵀ, with inputs a_it [K] and output gradients e_it [O].

Norms without gradients for T = 1: Goodfellow, Efficient Per-Example Gradient Computations
(arXiv 1510.01799); for T > 1 by Gram matrices: Li et al. (arXiv 2110.05679); the weighted sum
from the same factors without a second backward pass, chosen layer by layer: Bu et al., Differentially
Private Optimization on Large Model at Small Cost (arXiv 2210.00038).
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor

# Rates of one core of a server processor (AVX-512), measured on convolutions; only their ratios matter.
BLOCKS = 60e9  # operations/s of batched products of small matrices, windows copied
WHOLE = 90e9  # operations/s of one large product
REUSED = 10e9  # bytes/s to and from memory that the allocator hands out again
FRESH = 2.5e9  # bytes/s where the system must supply new pages: from REUSABLE bytes on
REUSABLE = 2**25
STORED_AT_MOST = 2**30  # bytes of per-sample gradients that one layer may keep
CACHE = 3 * 2**20  # bytes of a block that should stay in cache
CANCELLATION = 1e-3  # norm² below this part of its upper bound is not trusted to Gram matrices


class OuterProducts(ABC):
    """G_i = Σ_t e_it a_itᵀ for samples i, in G groups that do not mix.

    Args:
        samples: B.
        groups: G.
        positions: T.
        inputs: K, of one group.
        outputs: O, of one group.
        like: a tensor of the dtype and on the device of the factors.
    """

    def __init__(self, samples: int, groups: int, positions: int, inputs: int, outputs: int, like: Tensor) -> None:
        self.samples, self.groups, self.positions = samples, groups, positions
        self.inputs, self.outputs = inputs, outputs
        self.plan = cheapest(samples, groups, positions, inputs, outputs, like.element_size())
        self._like = like
        self._kept: Tensor | None = None

    @abstractmethod
    def factors(self, first: int, last: int) -> tuple[Tensor, Tensor]:
        """a [n * G, T, K] and e [n * G, T, O] of the samples first to last - 1; valid until the next call."""

    @abstractmethod
    def weighted_product(self, factors: Tensor) -> Tensor:
        """Σ_i f_i G_i in the weight's shape as one large product; factors [B]."""

    @abstractmethod
    def shaped(self, product: Tensor) -> Tensor:
        """[n, G, O, K] in the order of ``factors`` -> [n, *weight.shape]."""

    def gradients(self) -> Tensor:
        """[B, *weight.shape]."""
        if self._kept is None:
            self._form(keep=True)
        assert self._kept is not None
        return self._weights(self._kept)

    def squares(self) -> Tensor:
        """||G_i||² for every sample: [B]."""
        return self._ghost() if self.plan == "ghost" else self._form(keep=self.plan == "store")

    def weighted(self, factors: Tensor) -> Tensor:
        """Σ_i f_i G_i: [*weight.shape]; factors [B]."""
        if self._kept is None:
            return self.weighted_product(factors)
        return self._weights((factors @ self._kept.flatten(1)).view(1, *self._kept.shape[1:]))[0]

    def _form(self, keep: bool) -> Tensor:
        """Form the gradients block by block, and take norms while a block is in cache: [B]."""
        blocks = self._blocks()
        room = self._room(self.samples if keep else blocks[0][1])
        squares = []
        for first, last in blocks:
            product = self._product(first, last, room[first:last] if keep else room[: last - first])
            squares.append(torch.linalg.vector_norm(product.flatten(1), dim=1).square())
        if keep:
            self._kept = room
        return torch.cat(squares)

    def _ghost(self) -> Tensor:
        """||G_i||² = Σ_tu <a_t, a_u> <e_t, e_u>, from the Gram matrices of inputs and of output gradients: [B].

        The sum loses digits where positions cancel; such samples, told by
        ||G||² << (Σ_t |a_t| |e_t|)², are computed from their gradients instead.
        """
        found = []
        for first, last in self._blocks():
            a, e = self.factors(first, last)
            if self.positions == 1:
                lengths = torch.linalg.vector_norm(a, dim=(1, 2)) * torch.linalg.vector_norm(e, dim=(1, 2))
                found.append(lengths.square().view(-1, self.groups).sum(1))
                continue
            gram_a, gram_e = torch.bmm(a, a.transpose(1, 2)), torch.bmm(e, e.transpose(1, 2))
            lengths = (gram_a.diagonal(0, 1, 2) * gram_e.diagonal(0, 1, 2)).sqrt()
            bound = lengths.sum(1).square().view(-1, self.groups).sum(1)
            squares = (gram_a * gram_e).sum((1, 2)).view(-1, self.groups).sum(1)
            for row in (squares < CANCELLATION * bound).nonzero()[:, 0].tolist():
                squares[row] = self._product(first + row, first + row + 1, self._room(1)).square().sum()
            found.append(squares)
        return torch.cat(found)

    def _blocks(self) -> list[tuple[int, int]]:
        """Ranges of samples whose factors fit in cache."""
        size = self._like.element_size() * self.groups * self.positions * (self.inputs + self.outputs)
        step = max(1, CACHE // size)
        return [(first, min(first + step, self.samples)) for first in range(0, self.samples, step)]

    def _room(self, count: int) -> Tensor:
        """Memory for ``count`` gradients: [n, G, O, K], or [n, G, K, O] where K < O."""
        return self._like.new_empty(count, self.groups, *sorted((self.inputs, self.outputs)))

    def _product(self, first: int, last: int, into: Tensor) -> Tensor:
        a, e = self.factors(first, last)
        # Row-major products are fastest with the longer side last.
        left, right = (a, e) if self.inputs < self.outputs else (e, a)
        torch.bmm(left.transpose(1, 2), right, out=into.view(-1, *into.shape[2:]))
        return into

    def _weights(self, product: Tensor) -> Tensor:
        return self.shaped(product.transpose(2, 3) if self.inputs < self.outputs else product)


def cheapest(samples: int, groups: int, positions: int, inputs: int, outputs: int, itemsize: int = 4) -> str:
    """The cheapest way to the norms and the weighted sum of per-sample gradients of a linear map.

    "store" forms the gradients, keeps them, and sums them; "again" forms them block
    by block for their norms only, and gets the sum by one large product; "ghost" gets
    the norms from Gram matrices and the sum by the same product. Cost = operations / rate
    + bytes / bandwidth.

    Args:
        samples: B.
        groups: G.
        positions: T, at which the map is applied to a sample.
        inputs: K of one group.
        outputs: O of one group.
        itemsize: bytes of a number.

    >>> cheapest(256, 1, 1, 512, 32), cheapest(256, 1, 784, 25, 16), cheapest(64, 1, 64, 1152, 256)
    ('ghost', 'store', 'ghost')
    """
    product = 2 * groups * positions * inputs * outputs
    grams = 2 * groups * positions**2 * (inputs + outputs)
    weights = groups * inputs * outputs * itemsize
    whole = product / WHOLE
    costs = {
        "store": product / BLOCKS + weights / (REUSED if samples * weights < REUSABLE else FRESH),
        "again": product / BLOCKS + whole,
        "ghost": grams / BLOCKS + whole,
    }
    if samples * weights > STORED_AT_MOST:
        del costs["store"]
    if positions == 1:
        costs["ghost"] = whole
    return min(costs, key=costs.__getitem__)
