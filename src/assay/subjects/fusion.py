"""Fold BatchNorm into the convolution before it, on a private copy in evaluation mode.

BN(Wx + b) = (γ/√(σ²+ε)) W x + ((b - μ) γ/√(σ²+ε) + β): one kernel instead of two,
in forward and in backward.
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable

from torch import fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

Convolution = nn.Conv1d | nn.Conv2d | nn.Conv3d
Pair = tuple[fx.Node, Convolution, nn.modules.batchnorm._BatchNorm]
_FOLDS: dict[type, type] = {nn.Conv1d: nn.BatchNorm1d, nn.Conv2d: nn.BatchNorm2d, nn.Conv3d: nn.BatchNorm3d}


def fuse_conv_bn(model: nn.Module) -> nn.Module:
    """The model with every Conv-BatchNorm pair folded; the model itself where it cannot be traced.

    Args:
        model: a private copy in evaluation mode.
    """

    def fuse(traced: fx.GraphModule, pair: Pair) -> None:
        before, convolution, normalisation = pair
        parent, _, leaf = str(before.target).rpartition(".")
        setattr(traced.get_submodule(parent), leaf, fuse_conv_bn_eval(convolution, normalisation))

    traced = without_batch_norm(model, fuse)
    return model if traced is None else traced.requires_grad_(False)


def without_batch_norm(model: nn.Module, fold: Callable[[fx.GraphModule, Pair], None]) -> fx.GraphModule | None:
    """The model, traced, without the BatchNorm behind convolutions; None where there is no pair, or no trace.

    Args:
        model: in evaluation mode.
        fold: ``fold(traced, pair)`` makes the pair's convolution do the work of both.
    """
    if not any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in model.modules()):
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            traced = fx.symbolic_trace(model)
    except Exception:  # tracing runs the model's own code, which may raise anything; unfolded is slower, not wrong
        return None
    uses = Counter(str(node.target) for node in traced.graph.nodes if node.op == "call_module")
    # What the forward pass also reads by itself must stay as it is.
    read = {str(node.target).rpartition(".")[0] for node in traced.graph.nodes if node.op == "get_attr"}
    count = 0
    for node in list(traced.graph.nodes):
        pair = _pair(node, traced, uses)
        if pair is None or {str(pair[0].target), str(node.target)} & read:
            continue
        fold(traced, pair)
        node.replace_all_uses_with(pair[0])
        traced.graph.erase_node(node)
        count += 1
    traced.delete_all_unused_submodules()
    traced.recompile()
    return traced if count else None


def _pair(node: fx.Node, traced: fx.GraphModule, uses: Counter[str]) -> Pair | None:
    """The convolution whose only reader is this BatchNorm node, if it is one."""
    normalisation = traced.get_submodule(str(node.target)) if node.op == "call_module" else None
    if not isinstance(normalisation, nn.modules.batchnorm._BatchNorm):
        return None
    before = node.args[0]
    if not isinstance(before, fx.Node) or before.op != "call_module" or len(before.users) != 1:
        return None
    convolution = traced.get_submodule(str(before.target))
    if not isinstance(convolution, (nn.Conv1d, nn.Conv2d, nn.Conv3d)):
        return None
    if _FOLDS.get(type(convolution)) is not type(normalisation) or normalisation.running_mean is None:
        return None
    if uses[str(before.target)] != 1 or uses[str(node.target)] != 1:
        return None
    return before, convolution, normalisation
