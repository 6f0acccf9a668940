"""Which backend is fastest for a module: found by timing them on a real batch."""

from __future__ import annotations

import time

import torch
from torch import Tensor, nn

from ...core.errors import InputError, NotYetSupported
from .backends import Backend, Run, backend_for
from .checks import trained_parameters
from .draws import draws_of, redraw
from .losses import SampleLosses

REPEATS = 2
MANY = 2**28  # numbers in all per-sample gradients of a batch


def choose(model: nn.Module, losses: SampleLosses, inputs: Tensor, labels: Tensor, views: bool) -> str:
    """The name of the fastest backend that can run this module; random draws are as if nothing had happened.

    Args:
        model: the module.
        losses: the loss by sample.
        inputs: a batch, [B, ...].
        labels: [B, ...].
        views: whether inputs are [B, V, ...].
    """
    before = draws_of(inputs.device)
    candidates: dict[str, Backend] = {}
    images = inputs.ndim - views in (4, 5) and inputs.is_floating_point()
    elements = len(inputs) * sum(value.numel() for value in trained_parameters(model).values())
    for name in ("layers", "layers-channels-last", "vmap") if images else ("layers", "vmap"):
        if name == "vmap" and candidates and elements > MANY:
            continue  # it would form all per-sample gradients at once, which need not fit in memory
        try:
            backend = backend_for(name, model, losses, views)
            _step(backend(inputs, labels))  # the first pass allocates and warms up; it is not timed
            candidates[name] = backend
        except NotYetSupported:
            continue
        except InputError:
            if name != "vmap":  # the caller's mistake, not the backend's
                raise
        except Exception:
            if name != "vmap":
                raise  # an error of the module itself
    seconds = dict.fromkeys(candidates, float("inf"))
    for _ in range(REPEATS if len(candidates) > 1 else 0):
        for name, backend in candidates.items():
            start = time.perf_counter()
            _step(backend(inputs, labels))
            seconds[name] = min(seconds[name], time.perf_counter() - start)
    redraw(before, inputs.device)
    return min(seconds, key=seconds.__getitem__, default="loop")


def _step(run: Run) -> None:
    squares = run.squares()
    run.weighted((1 / (1 + squares.sum(1).sqrt()))[:, None].expand_as(squares))
    if squares.is_cuda:
        torch.cuda.synchronize(squares.device)
