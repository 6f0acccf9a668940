"""One forward and one backward pass for the whole batch: per-sample gradients from the layers' inputs and outputs.

A forward hook keeps what entered each layer with trained parameters and marks
what left it. The backward pass is asked for the gradients of those outputs and
of nothing else, so autograd computes neither the ordinary weight gradients nor
the first layer's input gradient.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import GradientEdge, Node, get_gradient_edge

from ...core.errors import ModelError, NotYetSupported
from .activations import FastActivations
from .checks import layers_of, trained_parameters
from .convolution import convolution, stored_channels_last
from .draws import draws_of, redraw
from .losses import SampleLosses
from .rules import Rule, Rules, embedding, group_norm, layer_norm, linear

RULES: dict[type[nn.Module], Rules] = {
    nn.Linear: linear,
    nn.Conv1d: convolution,
    nn.Conv2d: convolution,
    nn.Conv3d: convolution,
    nn.Embedding: embedding,
    nn.LayerNorm: layer_norm,
    nn.GroupNorm: group_norm,
}


@dataclass
class Call:
    """One pass through one layer."""

    inputs: Tensor
    version: int
    output: GradientEdge | None
    shape: torch.Size


class Captured:
    """Per-sample gradients held as the factors they are made of."""

    def __init__(self, parameters: dict[str, Tensor], rules: dict[str, Rule], losses: Tensor) -> None:
        self.losses = losses
        self._parameters, self._rules = parameters, rules

    def gradients(self) -> dict[str, Tensor]:
        """name -> [B, *shape]."""
        count = len(self.losses)
        return {
            name: self._rules[name].gradients() if name in self._rules else value.new_zeros((count, *value.shape))
            for name, value in self._parameters.items()
        }

    def squares(self) -> Tensor:
        """[B, P]."""
        none = torch.zeros_like(self.losses)
        columns = [self._rules[name].squares() if name in self._rules else none for name in self._parameters]
        return torch.stack(columns, 1)

    def weighted(self, factors: Tensor) -> dict[str, Tensor]:
        """Σ_i f_ip g_ip for every parameter p; factors [B, P]."""
        return {
            name: self._rules[name].weighted(factors[:, column]) if name in self._rules else torch.zeros_like(value)
            for column, (name, value) in enumerate(self._parameters.items())
        }


class Layers:
    """The layers of one module that have a rule; refuses a module with others."""

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self.parameters = trained_parameters(model)
        self.layers = dict(layers_of(model))
        self._apart = False
        owners: Counter[int] = Counter()
        for name, layer in self.layers.items():
            own = {key: value for key, value in layer.named_parameters(recurse=False) if value.requires_grad}
            if type(layer) not in RULES or not own.keys() <= {"weight", "bias"}:
                kinds = ", ".join(kind.__name__ for kind in RULES)
                raise NotYetSupported(
                    f"Layer {name!r} ({type(layer).__name__}) has parameters {', '.join(own)} for which there is no "
                    f"per-layer rule (there are rules for {kinds}). Use backend='vmap'."
                )
            owners.update(map(id, own.values()))
        for name, value in self.parameters.items():
            if owners[id(value)] > 1:
                raise NotYetSupported(f"Parameter {name!r} is shared between layers. Use backend='vmap'.")

    def run(
        self, loss: SampleLosses, inputs: Tensor, labels: Tensor, views: bool, channels_last: bool = False
    ) -> Captured:
        """Forward and backward for the batch.

        Args:
            loss: of one sample.
            inputs: [B, ...], or [B, V, ...] with views.
            labels: [B, ...].
            views: whether inputs have views.
            channels_last: store images channels last.
        """
        found = self._pass(loss, inputs, labels, views, channels_last)
        if not self._apart and len(inputs) > 1:
            before = draws_of(inputs.device)
            alone, again = (self._pass(loss, inputs[:1], labels[:1], views, channels_last) for _ in range(2))
            redraw(before, inputs.device)
            _check_apart(found, alone, again)
            self._apart = True
        return found

    def _pass(self, loss: SampleLosses, inputs: Tensor, labels: Tensor, views: bool, channels_last: bool) -> Captured:
        samples = len(inputs)
        rows = inputs if not views else inputs.flatten(0, 1)
        if channels_last:
            rows = stored_channels_last(rows)
        calls: dict[str, list[Call]] = {name: [] for name in self.layers}
        handles = [layer.register_forward_hook(_keep(calls[name]), prepend=True) for name, layer in self.layers.items()]
        try:
            with FastActivations():
                outputs = self.model(rows)
        finally:
            for handle in handles:
                handle.remove()
        if not isinstance(outputs, Tensor) or not outputs.ndim or len(outputs) != len(rows):
            found = list(outputs.shape) if isinstance(outputs, Tensor) else type(outputs).__name__
            raise ModelError(f"The model must return one tensor with a row for each of {len(rows)} rows, not {found}.")
        self._check_calls(calls, len(rows))
        losses = loss(outputs if not views else outputs.unflatten(0, (samples, -1)), labels)
        self._check_uses(losses, calls)
        return Captured(self.parameters, self._rules(calls, losses, samples), losses.detach())

    def _rules(self, calls: dict[str, list[Call]], losses: Tensor, samples: int) -> dict[str, Rule]:
        names = [name for name, found in calls.items() if found and found[0].output is not None]
        if not losses.requires_grad or not names:
            return {}
        edges: list[Any] = [calls[name][0].output for name in names]
        gradients = torch.autograd.grad(losses.sum(), edges, allow_unused=True)
        rules: dict[str, Rule] = {}
        for name, gradient in zip(names, gradients, strict=True):
            if gradient is None:
                continue
            layer, call = self.layers[name], calls[name][0]
            if call.inputs._version != call.version:
                raise NotYetSupported(
                    f"The input of layer {name!r} was changed in place after the layer read it. Use backend='vmap'."
                )
            gradient = gradient.reshape(call.shape)
            read = call.inputs.to(gradient.dtype) if call.inputs.is_floating_point() else call.inputs
            for key, rule in RULES[type(layer)](layer, read, gradient, samples).items():
                path = f"{name}.{key}" if name else key
                if path in self.parameters:
                    rules[path] = rule
        return rules

    def _check_calls(self, calls: dict[str, list[Call]], rows: int) -> None:
        for name, found in calls.items():
            if len(found) > 1:
                raise NotYetSupported(f"Layer {name!r} is used {len(found)} times in a pass. Use backend='vmap'.")
            if found and (not found[0].inputs.ndim or len(found[0].inputs) != rows):
                raise NotYetSupported(
                    f"Layer {name!r} reads an input of shape {list(found[0].inputs.shape)}, not one row for each of "
                    f"{rows} rows of the batch. Use backend='vmap'."
                )

    def _check_uses(self, losses: Tensor, calls: dict[str, list[Call]]) -> None:
        """Each parameter must enter the graph as often as its layer was called: else something else reads it."""
        uses = _uses(losses)
        for name, layer in self.layers.items():
            expected = sum(call.output is not None for call in calls[name])
            for key, value in layer.named_parameters(recurse=False):
                if uses[id(value)] > expected:
                    raise NotYetSupported(
                        f"Parameter {key!r} of layer {name!r} is also read outside the layer. Use backend='vmap'."
                    )


def _check_apart(batch: Captured, alone: Captured, again: Captured) -> None:
    """The first sample must have the same loss and gradient in the batch and by itself.

    They differ if the model mixes samples or keeps them in another dimension than
    the first, and if it draws random numbers; then two passes of the sample by
    itself differ too, and nothing can be said.
    """

    def values(run: Captured) -> Tensor:
        return torch.cat([run.losses[:1, None], run.squares()[:1].sqrt()], 1).nan_to_num()

    here, there = values(batch), values(alone)
    if torch.equal(there, values(again)) and bool((here - there).abs().max() > 0.01 * there.abs().max() + 1e-6):
        raise NotYetSupported(
            "The first sample has another loss or gradient in the batch than by itself: the model mixes samples, or "
            "some layer does not keep them in the first dimension. Use backend='vmap', which runs each by itself."
        )


def _keep(calls: list[Call]) -> Any:
    def hook(layer: nn.Module, arguments: tuple[Any, ...], output: Tensor) -> Tensor | None:
        inputs, kept = arguments[0].detach(), None
        if output._is_view():
            # What changes a view in place goes past the view's own node, but never past that of its base.
            base = output._base
            if base is not None and base.shape.numel() == output.shape.numel() and base.is_contiguous():
                edge = get_gradient_edge(base) if base.requires_grad else None
                calls.append(Call(inputs, inputs._version, edge, output.shape))
                return None
            kept = output = output.clone()
        edge = get_gradient_edge(output) if output.requires_grad else None
        calls.append(Call(inputs, inputs._version, edge, output.shape))
        return kept

    return hook


def _uses(losses: Tensor) -> Counter[int]:
    """How often each leaf enters the graph of the losses."""
    uses: Counter[int] = Counter()
    seen: set[Node] = set()
    waiting: list[Node | None] = [losses.grad_fn]
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        for following, _ in node.next_functions:
            leaf = getattr(following, "variable", None)
            if leaf is not None:
                uses[id(leaf)] += 1
            else:
                waiting.append(following)
    return uses
