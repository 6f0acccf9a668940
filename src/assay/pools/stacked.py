"""Networks of one architecture side by side: every weight is stacked, and one pass serves all of them.

Networks that are a row of common layers run as batched matrix products and
grouped convolutions, any others as ``torch.func.vmap`` of their own forward pass.
Gradients of the matrices, which are nearly all of the weights, are written into memory that is
reserved once: on small networks the time goes into moving memory, not into arithmetic.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call, vmap

Forward = Callable[[Tensor], Tensor]
Named = dict[str, Tensor]

POINTWISE = (nn.ReLU, nn.Tanh)


class Stack:
    """G networks, their weights and gradients.

    Args:
        networks: G networks of one architecture, without buffers.
        device: where the weights are put; the networks themselves are left as they are.

    Attributes:
        weights: each parameter by name: [G, ...].
        gradients: of the last :meth:`backward`, by the same names.

    >>> stack = Stack([nn.Sequential(nn.Flatten(), nn.Linear(4, 2)) for _ in range(3)])
    >>> stack.forward(torch.zeros(5, 3, 1, 2, 2)).shape
    torch.Size([3, 5, 2])
    """

    def __init__(self, networks: Sequence[nn.Module], device: torch.device | str = "cpu") -> None:
        self.count = len(networks)
        named = [dict(network.named_parameters()) for network in networks]
        self.weights = {
            name: torch.stack([own[name].detach() for own in named]).to(device).requires_grad_() for name in named[0]
        }
        self.gradients = {name: torch.zeros_like(value, requires_grad=False) for name, value in self.weights.items()}
        build = _layers if in_a_row(networks[0]) else _mapped
        self._forward = build(networks[0], self.count, self.weights, self.gradients)

    def forward(self, images: Tensor) -> Tensor:
        """Logits of every network on samples of its own: [B, G, C, H, W] -> [G, B, K]."""
        return self._forward(images)

    def backward(self, images: Tensor, labels: Tensor, shares: Tensor, smoothing: float = 0.0) -> Tensor:
        """Loss Σ_b shares_bg CE(z_g(x_bg), y_bg) of each network, and its gradient in ``gradients``.

        Args:
            images: [B, G, C, H, W], normalised.
            labels: [B, G].
            shares: what each sample counts for, 1 / batch size or 0: [B, G].
            smoothing: of the labels.

        Returns:
            The losses [G].
        """
        logits = self.forward(images)
        target = labels.t().reshape(-1)
        each = F.cross_entropy(logits.flatten(0, 1), target, reduction="none", label_smoothing=smoothing)
        losses = (each.view(self.count, -1) * shares.t()).sum(1)
        torch.autograd.backward(losses.sum())
        for name, value in self.weights.items():
            if value.grad is not None:  # by autograd; the others stand where they belong already
                self.gradients[name].copy_(value.grad)
                value.grad = None
        return losses.detach()


class _Product(torch.autograd.Function):
    """x_g W_g^T + b_g, [G, B, I] -> [G, B, O], with the gradients of W and b written into given memory."""

    @staticmethod
    def forward(ctx: Any, inputs: Tensor, weight: Tensor, bias: Tensor | None, *memory: Tensor) -> Tensor:
        ctx.save_for_backward(inputs, weight)
        ctx.memory = memory
        outputs = torch.bmm(inputs, weight.mT)
        return outputs if bias is None else outputs.add_(bias[:, None])  # faster than baddbmm, which copies the bias

    @staticmethod
    def backward(ctx: Any, *arriving: Tensor) -> tuple[Tensor | None, ...]:
        inputs, weight = ctx.saved_tensors
        (upper,) = arriving
        torch.bmm(upper.mT, inputs, out=ctx.memory[0])
        if len(ctx.memory) > 1:
            torch.sum(upper, 1, out=ctx.memory[1])
        lower = torch.bmm(upper, weight) if ctx.needs_input_grad[0] else None
        return lower, None, None, *(None for _ in ctx.memory)


def in_a_row(network: nn.Module) -> bool:
    """Whether a network is a row of layers that can be stacked one by one, maps first and vectors after a Flatten."""
    if not isinstance(network, nn.Sequential):
        return False
    flat = False
    for layer in network:
        if type(layer) is nn.Flatten:
            fits = not flat and (layer.start_dim, layer.end_dim) == (1, -1)
            flat = True
        elif type(layer) is nn.Conv2d:
            fits = not flat and layer.groups == 1 and layer.padding_mode == "zeros"
        elif type(layer) is nn.MaxPool2d:
            fits = not flat and not layer.return_indices
        else:
            fits = type(layer) in POINTWISE or (flat and type(layer) is nn.Linear)
        if not fits:
            return False
    return flat


def _layers(network: nn.Module, count: int, weights: Named, gradients: Named) -> Forward:
    """Layer by layer: maps as [B, G·C, H, W], vectors as [G, B, F]."""

    def own(source: Named, name: str) -> list[Tensor]:
        return [source[f"{name}.{part}"] for part in ("weight", "bias") if f"{name}.{part}" in source]

    steps = [_layer(layer, count, own(weights, name), own(gradients, name)) for name, layer in network.named_children()]

    def forward(images: Tensor) -> Tensor:
        hidden = images.flatten(1, 2)
        for step in steps:
            hidden = step(hidden)
        return hidden

    return forward


def _layer(layer: nn.Module, count: int, weights: list[Tensor], memory: list[Tensor]) -> Forward:
    if isinstance(layer, nn.Flatten):
        return lambda maps: maps.reshape(len(maps), count, -1).transpose(0, 1)
    if isinstance(layer, nn.Conv2d):
        return partial(_convolved, layer, count, *weights)
    if isinstance(layer, nn.Linear):
        weight, bias = weights if len(weights) == 2 else (*weights, None)
        return lambda rows: _Product.apply(rows, weight, bias, *memory)
    return layer


def _convolved(layer: nn.Conv2d, count: int, *given: Tensor) -> Tensor:
    """Convolutions of all networks as one in G parts: kernels [G, O, I, h, w], perhaps biases [G, O], and the maps."""
    *weights, maps = given
    kernels, bias = weights[0].flatten(0, 1), weights[1].flatten() if len(weights) == 2 else None
    return F.conv2d(maps, kernels, bias, layer.stride, layer.padding, layer.dilation, count)


def _mapped(network: nn.Module, count: int, weights: Named, gradients: Named) -> Forward:
    """The network's own forward pass, mapped over the stack."""

    def alone(own: Named, images: Tensor) -> Tensor:
        logits: Tensor = functional_call(network, own, (images,))
        return logits

    every = vmap(alone, in_dims=(0, 1), randomness="error")
    return lambda images: every(weights, images)


class Descent:
    """The updates of a stack: SGD with momentum or AdamW, as torch computes them, for some networks at a time.

    Args:
        stack: the networks.
        settings: with optimizer, momentum, nesterov, weight_decay and gradient_clip.

    Attributes:
        moments: running averages of the gradients, by the names of the weights; two of them for AdamW.
    """

    def __init__(self, stack: Stack, settings: Any) -> None:
        self.stack, self.settings = stack, settings
        wanted = 2 if settings.optimizer == "adamw" else int(settings.momentum > 0)
        self.moments = [
            {name: torch.zeros_like(value) for name, value in stack.gradients.items()} for _ in range(wanted)
        ]

    def clip(self) -> None:
        """Scale each network's gradient to the largest norm allowed."""
        limit = self.settings.gradient_clip
        if limit is None:
            return
        gradients = self.stack.gradients.values()
        norms = torch.stack([torch.linalg.vector_norm(value.flatten(1), dim=1) for value in gradients])
        factors = (limit / (torch.linalg.vector_norm(norms, dim=0) + 1e-6)).clamp(max=1.0)
        for value in gradients:
            value.mul_(factors.view(-1, *[1] * (value.ndim - 1)))

    def of(self, members: Sequence[int], step: int = 0) -> Callable[[float], None]:
        """What makes the next update of these networks when it is called with a learning rate.

        Args:
            members: networks whose updates come at the same times.
            step: updates that they have had.
        """
        settings = self.settings
        sources = [self.stack.weights, self.stack.gradients, *self.moments]
        weights, gradients, *moments = (self._views(source, members) for source in sources)
        if settings.optimizer == "adamw":
            steps = [torch.tensor(float(step), device=weights[0].device) for _ in weights]
            return _adamw(weights, gradients, moments, steps, settings)
        return _sgd(weights, gradients, moments, settings)

    def _views(self, source: dict[str, Tensor], members: Sequence[int]) -> list[Tensor]:
        tensors = [value.detach() for value in source.values()]
        if len(members) == self.stack.count:
            return tensors
        return [value[member] for member in members for value in tensors]


def _sgd(
    weights: list[Tensor], gradients: list[Tensor], moments: list[list[Tensor]], settings: Any
) -> Callable[[float], None]:
    from torch.optim.sgd import sgd

    running: list[Tensor | None] = [*moments[0]] if moments else [None] * len(weights)

    def update(rate: float) -> None:
        sgd(
            weights,
            gradients,
            running,
            fused=True,
            weight_decay=settings.weight_decay,
            momentum=settings.momentum,
            lr=rate,
            dampening=0.0,
            nesterov=settings.nesterov and settings.momentum > 0,
            maximize=False,
        )

    return update


def _adamw(
    weights: list[Tensor], gradients: list[Tensor], moments: list[list[Tensor]], steps: list[Tensor], settings: Any
) -> Callable[[float], None]:
    from torch.optim.adamw import adamw

    first, second = moments

    def update(rate: float) -> None:
        adamw(
            weights,
            gradients,
            first,
            second,
            [],
            steps,
            fused=True,
            amsgrad=False,
            beta1=0.9,
            beta2=0.999,
            lr=rate,
            weight_decay=settings.weight_decay,
            eps=1e-8,
            maximize=False,
        )

    return update
