"""Curvature: the Hessian of a mean loss by the parameters, met only through products with vectors.

For L(θ) = 1/N Σ_i ℓ(f_θ(x_i), y_i) and its Hessian H = ∇²L, a product H v is the gradient
of ⟨∇L, v⟩ (Pearlmutter, Neural Computation, 1994): a second backward pass through the
graph of the first. The graph is built once and kept while any number of vectors is
pushed through it, which was 2 to 40 times faster than forward-over-reverse under
``vmap`` on small convolutional networks, and works wherever two backward passes do.

    Tr H = Σ_p e_pᵀ H e_p                    exactly, one product a parameter
    Tr H = E[vᵀ H v], v of random signs      Hutchinson (Commun. Stat., 1990)
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap
from torch.nn.attention import SDPBackend, sdpa_kernel

from ..core.errors import SettingError, Unsupported
from .random import sample_seeds, signs

EXACT_TRACE_LIMIT = 4096
"""Parameters up to which an exact trace is allowed: it takes one Hessian-vector product each."""

SampleLoss = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Trace:
    """Tr H, and how it was found.

    Args:
        value: the trace, or its estimate.
        standard_error: of the estimate; 0 where it is exact, NaN for a single probe.
        n: products with vectors behind it: probes, or parameters.
        method: ``"exact"`` or ``"hutchinson"``.
    """

    value: float
    standard_error: float
    n: int
    method: str


class Curvature:
    """Gradient and Hessian of the mean loss of some samples, at the parameters a model has now.

    Only parameters with ``requires_grad`` take part, in the order of ``named_parameters``,
    flattened into one vector [P]. The model's mode, parameters and ``.grad`` are left alone.

    Args:
        model: maps inputs [N, ...] to outputs [N, ...], each row from its own input alone.
        loss: ``(outputs [1, ...], labels [1, ...]) -> [1]``, evaluated sample by sample.
        inputs: [N, ...], N at least 1.
        labels: [N, ...].
        chunk: samples whose graph is held in memory at a time; results differ by rounding only.

    Raises:
        SettingError: no sample, or inputs and labels of different number.
        Unsupported: the model has no trainable parameter.

    >>> model = nn.Linear(2, 1, bias=False)
    >>> square = lambda output, label: 0.5 * (output[:, 0] - label).square()
    >>> inputs = torch.tensor([[1.0, 0.0], [0.0, 2.0]])
    >>> Curvature(model, square, inputs, torch.zeros(2)).trace().value
    2.5
    """

    def __init__(self, model: nn.Module, loss: SampleLoss, inputs: Tensor, labels: Tensor, *, chunk: int = 256) -> None:
        if not len(inputs) or len(inputs) != len(labels):
            raise SettingError(
                f"There are {len(inputs)} inputs and {len(labels)} labels; as many of each are needed, at least 1."
            )
        self._model, self._loss = model, loss
        self._inputs, self._labels, self._chunk = inputs, labels, max(1, chunk)
        self._parameters = {name: value.detach() for name, value in model.named_parameters() if value.requires_grad}
        if not self._parameters:
            raise Unsupported("The model has no trainable parameter, so its loss has no curvature by them.")

    @property
    def size(self) -> int:
        """Number of parameters P."""
        return sum(value.numel() for value in self._parameters.values())

    def gradient(self) -> Tensor:
        """∇L: [P]. Cost: 1 forward and 1 backward pass a sample."""
        return torch.stack([flatten(gradient).detach() for _, gradient in self._graphs(create=False)]).sum(0)

    def products(self, vectors: Tensor) -> Tensor:
        """H v of each row: [k, P] -> [k, P].

        Cost: 1 forward and 1 backward pass a sample, and for each vector one backward pass
        through both, about the time of two passes of each kind.
        """
        self._check(vectors)
        total = torch.zeros_like(vectors)
        for leaves, gradient in self._graphs(create=True):
            for row, vector in enumerate(vectors):
                total[row] += self._product(leaves, gradient, vector)
        return total

    def quadratics(self, vectors: Tensor) -> Tensor:
        """vᵀ H v of each row, summed in float64: [k, P] -> [k]. Cost: that of :meth:`products`, without its memory."""
        self._check(vectors)
        return self._forms(len(vectors), lambda row: vectors[row])

    def trace(self, limit: int = EXACT_TRACE_LIMIT) -> Trace:
        """Tr H exactly, by P products.

        Raises:
            SettingError: the model has more than ``limit`` parameters.
        """
        if self.size > limit:
            raise SettingError(
                f"An exact trace of {self.size:,} parameters would take as many Hessian-vector products; "
                f"allowed: up to {limit:,}. Use hutchinson(), which gives an estimate with its standard error."
            )
        eye = torch.zeros(self.size, dtype=self._dtype(), device=self._inputs.device)

        def unit(row: int) -> Tensor:
            eye.zero_()[row] = 1
            return eye

        return Trace(float(self._forms(self.size, unit).sum()), 0.0, self.size, "exact")

    def hutchinson(self, probes: int = 100, *, seed: int = 0) -> Trace:
        """Tr H estimated by the mean of vᵀ H v over vectors of random signs.

        Args:
            probes: number of vectors, at least 1; the standard error falls with its root.
            seed: of the signs; probe ``i`` is the same whatever the number of probes.
        """
        if probes < 1:
            raise SettingError(f"probes is {probes}; allowed: at least 1 (100 is usual).")
        seeds = sample_seeds(seed, range(probes), "hutchinson")

        def probe(row: int) -> Tensor:
            drawn = signs(seeds[row : row + 1], (self.size,))[0]
            return drawn.to(self._inputs.device, self._dtype())

        forms = self._forms(probes, probe)
        error = float(forms.std() / math.sqrt(probes)) if probes > 1 else math.nan
        return Trace(float(forms.mean()), error, probes, "hutchinson")

    def _dtype(self) -> torch.dtype:
        return next(iter(self._parameters.values())).dtype

    def _check(self, vectors: Tensor) -> None:
        if vectors.ndim != 2 or vectors.shape[1] != self.size:
            raise SettingError(f"vectors are {tuple(vectors.shape)}; [k, {self.size}] is needed, one row a vector.")

    def _forms(self, count: int, vector: Callable[[int], Tensor]) -> Tensor:
        total = torch.zeros(count, dtype=torch.float64)
        for leaves, gradient in self._graphs(create=True):
            for row in range(count):
                v = vector(row)
                total[row] += float(v.double() @ self._product(leaves, gradient, v).double())
        return total

    def _graphs(self, *, create: bool) -> Iterator[tuple[list[Tensor], list[Tensor]]]:
        """The parameters and this chunk's share of ∇L, with the graph that leads from one to the other."""
        for start in range(0, len(self._inputs), self._chunk):
            rows = slice(start, start + self._chunk)
            leaves = {name: value.clone().requires_grad_(True) for name, value in self._parameters.items()}
            # Fused attention kernels have no second derivative; the plain one has.
            with torch.enable_grad(), sdpa_kernel(SDPBackend.MATH):
                outputs = functional_call(self._model, leaves, (self._inputs[rows],))
                losses = vmap(lambda output, label: self._loss(output[None], label[None]).sum())(
                    outputs, self._labels[rows]
                )
                share = losses.sum() / len(self._inputs)
                gradient = torch.autograd.grad(
                    share, list(leaves.values()), create_graph=create, allow_unused=True, materialize_grads=True
                )
            yield list(leaves.values()), list(gradient)

    @staticmethod
    def _product(leaves: list[Tensor], gradient: list[Tensor], vector: Tensor) -> Tensor:
        pieces = vector.split([leaf.numel() for leaf in leaves])
        pairs = [
            (part, piece.reshape(leaf.shape))
            for part, piece, leaf in zip(gradient, pieces, leaves, strict=True)
            if part.requires_grad
        ]
        if not pairs:  # a loss linear in all parameters
            return torch.zeros_like(vector)
        outputs, weights = zip(*pairs, strict=True)
        found = torch.autograd.grad(
            outputs, leaves, weights, retain_graph=True, allow_unused=True, materialize_grads=True
        )
        return flatten(list(found))


def flatten(parts: list[Tensor]) -> Tensor:
    """Tensors as one vector, in their order: [P]."""
    return torch.cat([part.reshape(-1) for part in parts])
