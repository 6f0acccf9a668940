"""Fold BatchNorm into the convolution before it, on a private copy in evaluation mode.

BN(Wx + b) = (γ/√(σ²+ε)) W x + ((b - μ) γ/√(σ²+ε) + β): one kernel instead of two,
in forward and in backward.
"""

from __future__ import annotations

import warnings

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
    if not any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in model.modules()):
        return model
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            traced = fx.symbolic_trace(model)
    except Exception:  # tracing runs the model's own code, which may raise anything; unfused is slower, not wrong
        return model
    modules = dict(traced.named_modules())
    uses: dict[str, int] = {}
    for node in traced.graph.nodes:
        if node.op == "call_module":
            uses[node.target] = uses.get(node.target, 0) + 1
    read = {str(node.target).rpartition(".")[0] for node in traced.graph.nodes if node.op == "get_attr"}
    for node in list(traced.graph.nodes):
        pair = foldable_pair(node, modules, uses)
        if pair is None:
            continue
        before, convolution, normalisation = pair
        if before.target in read:  # the forward pass also reads this convolution's weights by themselves
            continue
        parent, _, leaf = str(before.target).rpartition(".")
        setattr(modules[parent], leaf, fuse_conv_bn_eval(convolution, normalisation))
        node.replace_all_uses_with(before)
        traced.graph.erase_node(node)
    traced.recompile()
    return traced.requires_grad_(False)


def foldable_pair(node: fx.Node, modules: dict[str, nn.Module], uses: dict[str, int]) -> Pair | None:
    """The convolution whose only reader is this BatchNorm node, if it is one."""
    normalisation = modules[str(node.target)] if node.op == "call_module" else None
    if not isinstance(normalisation, nn.modules.batchnorm._BatchNorm):
        return None
    before = node.args[0]
    if not isinstance(before, fx.Node) or before.op != "call_module" or len(before.users) != 1:
        return None
    convolution = modules[str(before.target)]
    if not isinstance(convolution, (nn.Conv1d, nn.Conv2d, nn.Conv3d)):
        return None
    if _FOLDS.get(type(convolution)) is not type(normalisation) or normalisation.running_mean is None:
        return None
    if uses[str(before.target)] != 1 or uses[str(node.target)] != 1:
        return None
    return before, convolution, normalisation
