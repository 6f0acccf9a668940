"""Which modules have gradients of single samples at all."""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm, _NormBase

from ...core.errors import ModelError, Unsupported


def check_module(model: nn.Module) -> None:
    """Refuse a module in which samples are not apart, or in which nothing is trained.

    A gradient of one sample exists only if no other sample enters its output.
    BatchNorm mixes the samples of a batch, in training by design; layers that keep
    running statistics carry what they saw, unclipped, in their buffers.

    Args:
        model: any module.

    Raises:
        Unsupported: a layer mixes samples; the message names it and its replacement.
        ModelError: no parameter has ``requires_grad``.

    >>> check_module(nn.Sequential(nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8)))
    Traceback (most recent call last):
    ...
    assay.core.errors.Unsupported: Layer '1' (BatchNorm2d) computes with statistics of the whole batch, so a sample \
has no gradient of its own. Replace it by torch.nn.GroupNorm(8, 8).
    """
    for name, module in model.named_modules():
        where = f"Layer {name!r} ({type(module).__name__})"
        if isinstance(module, _BatchNorm):
            channels = module.num_features
            groups = next(count for count in (32, 16, 8, 4, 2, 1) if channels % count == 0)
            replacement = f"GroupNorm({groups}, {channels})" if channels else "GroupNorm(num_groups, channels)"
            raise Unsupported(
                f"{where} computes with statistics of the whole batch, so a sample has no gradient of its own. "
                f"Replace it by torch.nn.{replacement}."
            )
        if isinstance(module, _NormBase) and module.track_running_stats:
            raise Unsupported(
                f"{where} keeps running statistics of all samples. Build it with track_running_stats=False, "
                f"or replace it by torch.nn.GroupNorm({module.num_features}, {module.num_features})."
            )
        if isinstance(module, nn.Embedding | nn.EmbeddingBag) and module.scale_grad_by_freq:
            raise Unsupported(
                f"{where} divides gradients by how often a word occurs in the batch, which mixes samples. "
                "Build it with scale_grad_by_freq=False."
            )
        if isinstance(module, nn.Embedding | nn.EmbeddingBag) and module.max_norm is not None:
            raise Unsupported(
                f"{where} rescales its weights in place for every batch (max_norm), outside the gradient. "
                "Build it with max_norm=None."
            )
    if not trained_parameters(model):
        raise ModelError("No parameter of the model has requires_grad=True, so there is nothing to differentiate.")


def trained_parameters(model: nn.Module) -> dict[str, Tensor]:
    """Parameters that take part: those with ``requires_grad``, each once."""
    return {name: value for name, value in model.named_parameters() if value.requires_grad}


def layers_of(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Every module with trained parameters of its own."""
    for name, module in model.named_modules():
        if any(value.requires_grad for value in module.parameters(recurse=False)):
            yield name, module
