"""Quicker kernels for forward passes of convolutional networks, on private copies on a CPU.

Certification is nothing but forward passes. In the channels-last layout two things are
worth doing: an activation goes into the kernel of the convolution before it (tanh on its
own costs more than a small convolution), and max-pooling over 2x2 becomes two maxima of
shifted views (two to nine times faster, the same bits). Activations may differ in the
last bit; the caller compares the logits with those of the unchanged copy.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

_BY_MODULE: dict[type, str] = {nn.Tanh: "tanh", nn.ReLU: "relu"}
_BY_FUNCTION: dict[Any, str] = {torch.tanh: "tanh", F.tanh: "tanh", torch.relu: "relu", F.relu: "relu"}
_BY_METHOD = {"tanh": "tanh", "relu": "relu"}


class ConvolutionWithActivation(nn.Module):
    """``activation(convolution(inputs))`` by oneDNN's fused kernel."""

    def __init__(self, convolution: nn.Conv2d, activation: str) -> None:
        super().__init__()
        self.convolution, self.activation = convolution, activation

    def forward(self, inputs: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, channels, H', W']."""
        layer = self.convolution
        geometry = (layer.padding, layer.stride, layer.dilation, layer.groups)
        answer = torch.ops.mkldnn._convolution_pointwise(
            inputs, layer.weight, layer.bias, *geometry, self.activation, [], ""
        )
        assert isinstance(answer, Tensor)
        return answer


class PairwiseMaxPool(nn.Module):
    """Max-pooling over 2x2 with stride 1 or 2: the larger of two rows, then of two columns.

    >>> images = torch.arange(25.0).reshape(1, 1, 5, 5)
    >>> [bool((PairwiseMaxPool(s)(images) == F.max_pool2d(images, 2, s)).all()) for s in (1, 2)]
    [True, True]
    """

    def __init__(self, stride: int) -> None:
        super().__init__()
        self.stride = stride

    def forward(self, inputs: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, C, (H - 2) // stride + 1, (W - 2) // stride + 1]."""
        step = self.stride
        height, width = inputs.shape[2] - 1, inputs.shape[3] - 1
        rows = torch.maximum(inputs[:, :, 0:height:step], inputs[:, :, 1 : height + 1 : step])
        return torch.maximum(rows[..., 0:width:step], rows[..., 1 : width + 1 : step])


def quickened(model: nn.Module) -> nn.Module:
    """The model with quicker kernels where they fit; the model itself where it cannot be traced or nothing fits.

    Args:
        model: a private copy in evaluation mode on a CPU; its layers are shared with the result.
    """
    if not any(isinstance(module, nn.Conv2d | nn.MaxPool2d) for module in model.modules()):
        return model
    try:
        traced = fx.symbolic_trace(model)
    except Exception:  # tracing runs the model's own code, which may raise anything; unchanged is slower, not wrong
        return model
    modules = dict(traced.named_modules())
    changed = 0
    for node in list(traced.graph.nodes):
        name = f"quick_{changed}"
        changed += _pooling(traced, node, modules, name) or _convolution(traced, node, modules, name)
    if not changed:
        return model
    traced.recompile()
    return traced


def _pooling(traced: fx.GraphModule, node: fx.Node, modules: dict[str, nn.Module], name: str) -> bool:
    layer = modules.get(str(node.target)) if node.op == "call_module" else None
    if not isinstance(layer, nn.MaxPool2d) or layer.return_indices or layer.ceil_mode:
        return False
    kernel, stride, padding, dilation = (
        (value, value) if isinstance(value, int) else tuple(value)
        for value in (layer.kernel_size, layer.stride, layer.padding, layer.dilation)
    )
    if (kernel, padding, dilation) != ((2, 2), (0, 0), (1, 1)) or stride not in ((1, 1), (2, 2)):
        return False
    traced.add_submodule(name, PairwiseMaxPool(int(stride[0])))
    node.target = name
    return True


def _convolution(traced: fx.GraphModule, node: fx.Node, modules: dict[str, nn.Module], name: str) -> bool:
    """Put an activation into the convolution before it, if nothing else reads that."""
    activation = _activation(node, modules)
    before = node.args[0] if activation and node.args else None
    if not isinstance(before, fx.Node) or before.op != "call_module" or len(before.users) != 1:
        return False
    layer = modules.get(str(before.target))
    if not isinstance(layer, nn.Conv2d) or layer.padding_mode != "zeros" or isinstance(layer.padding, str):
        return False
    if not torch.backends.mkldnn.is_available() or not hasattr(torch.ops.mkldnn, "_convolution_pointwise"):
        return False
    assert activation is not None
    traced.add_submodule(name, ConvolutionWithActivation(layer, activation))
    before.target = name
    node.replace_all_uses_with(before)
    traced.graph.erase_node(node)
    return True


def _activation(node: fx.Node, modules: dict[str, nn.Module]) -> str | None:
    if node.op == "call_module":
        return _BY_MODULE.get(type(modules.get(str(node.target))))
    if node.op == "call_function":
        return _BY_FUNCTION.get(node.target)
    return _BY_METHOD.get(str(node.target)) if node.op == "call_method" else None
