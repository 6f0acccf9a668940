"""Two ways to per-sample gradients that work for any module: a loop over samples, and ``torch.func.vmap``."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad_and_value, vmap

from ...core.errors import Unsupported
from .checks import trained_parameters
from .losses import SampleLosses


class Instantiated:
    """Gradients that lie there sample by sample: name -> [B, *shape]."""

    def __init__(self, gradients: dict[str, Tensor], losses: Tensor) -> None:
        self.losses = losses
        self._gradients = gradients

    def gradients(self) -> dict[str, Tensor]:
        """name -> [B, *shape]."""
        return self._gradients

    def squares(self) -> Tensor:
        """[B, P]."""
        return torch.stack([_squares(value) for value in self._gradients.values()], 1)

    def weighted(self, factors: Tensor) -> dict[str, Tensor]:
        """Σ_i f_ip g_ip for every parameter p; factors [B, P]."""
        return {
            name: (factors[:, column] @ value.flatten(1)).view(value.shape[1:])
            for column, (name, value) in enumerate(self._gradients.items())
        }


def loop(model: nn.Module, loss: SampleLosses, inputs: Tensor, labels: Tensor, views: bool) -> Instantiated:
    """One forward and one backward pass for each sample, by plain autograd: the reference, and the last resort."""
    parameters = trained_parameters(model)
    samples, losses = [], []
    for x, y in zip(inputs, labels, strict=True):
        output = model(x[None] if not views else x)
        value = loss.one(output[0] if not views else output, y)
        found: list[Tensor | None] = [None] * len(parameters)
        if value.requires_grad:
            found = list(torch.autograd.grad(value, list(parameters.values()), allow_unused=True))
        samples.append(
            [
                torch.zeros_like(parameter) if gradient is None else _plain(gradient)
                for gradient, parameter in zip(found, parameters.values(), strict=True)
            ]
        )
        losses.append(value.detach())
    columns = [torch.stack(column) for column in zip(*samples, strict=True)]
    return Instantiated(dict(zip(parameters, columns, strict=True)), torch.stack(losses))


def batched(model: nn.Module, loss: SampleLosses, inputs: Tensor, labels: Tensor, views: bool) -> Instantiated:
    """All samples at once by ``vmap(grad)``: any module that torch.func can run, and no registry of layers."""
    trained = {name: value.detach() for name, value in trained_parameters(model).items()}
    rest = {name: value.detach() for name, value in model.named_parameters() if not value.requires_grad}
    rest.update(model.named_buffers())

    def one(parameters: dict[str, Tensor], x: Tensor, y: Tensor) -> Tensor:
        output: Tensor = functional_call(model, {**parameters, **rest}, (x[None] if not views else x,))
        return loss.one(output[0] if not views else output, y)

    gradients, losses = vmap(grad_and_value(one), (None, 0, 0), randomness="different")(trained, inputs, labels)
    if losses.requires_grad:
        raise Unsupported(
            "The model or the loss reads trained parameters past the module's own (through a closure or another "
            "reference), and torch.func cannot follow them. Use backend='loop', or pass them through the model."
        )
    return Instantiated(gradients, losses)


def _plain(gradient: Tensor) -> Tensor:
    return gradient.to_dense() if gradient.is_sparse else gradient


def _squares(gradients: Tensor) -> Tensor:
    flat = gradients.flatten(1)
    return torch.linalg.vector_norm(flat, dim=1).square()
