"""Random small networks, batches and the reference they are measured against."""

from __future__ import annotations

import copy
import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from hypothesis import strategies as st
from torch import Tensor, nn

from assay.tensors.gradients import SampleNorms


@dataclass
class Case:
    """A network, its batch, and how to run it."""

    model: nn.Module
    inputs: Tensor
    labels: Tensor
    views: bool
    microbatch: int | None


class Positions(nn.Module):
    """[N, T, D] -> [N, D, T], so that convolutions can follow embeddings."""

    def forward(self, x: Tensor) -> Tensor:
        """Swap the last two dimensions."""
        return x.transpose(1, 2)


ACTIVATIONS: tuple[Callable[[], nn.Module], ...] = (
    nn.Tanh,
    nn.ReLU,
    lambda: nn.ReLU(inplace=True),
    nn.GELU,
    nn.Identity,
)


@st.composite
def convolutions(draw: Callable, dimensions: int, channels: int) -> tuple[nn.Module, int]:
    """A convolution of ``channels`` channels with any stride, dilation, groups and padding."""
    groups = draw(st.sampled_from([g for g in (1, 2, 4) if channels % g == 0]))
    outputs = groups * draw(st.integers(1, 3))
    kernel = [draw(st.integers(1, 3)) for _ in range(dimensions)]
    dilation = [draw(st.integers(1, 2)) for _ in range(dimensions)]
    mode = draw(st.sampled_from(["zeros", "reflect", "replicate", "circular"]))
    if draw(st.booleans()):
        padding: str | list[int] = draw(st.sampled_from(["same", "valid"]))
        stride = [1] * dimensions if padding == "same" else [draw(st.integers(1, 2)) for _ in range(dimensions)]
    else:
        padding = [draw(st.integers(0, 2)) for _ in range(dimensions)]
        stride = [draw(st.integers(1, 3)) for _ in range(dimensions)]
    kind = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[dimensions - 1]
    layer = kind(
        channels,
        outputs,
        tuple(kernel),
        stride=tuple(stride),
        padding=padding if isinstance(padding, str) else tuple(padding),
        dilation=tuple(dilation),
        groups=groups,
        bias=draw(st.booleans()),
        padding_mode=mode,
    )
    return layer, outputs


@st.composite
def cases(draw: Callable, dtype: torch.dtype = torch.float64) -> Case:
    """A network of the layers that have rules, and a batch for it."""
    torch.manual_seed(draw(st.integers(0, 2**20)))
    batch = draw(st.sampled_from([0, 1, 2, 3, 5]))
    views = draw(st.sampled_from([0, 0, 1, 3]))
    dimensions = draw(st.sampled_from([0, 1, 2, 2, 3]))
    layers: list[nn.Module] = []
    shape: list[int]
    if draw(st.booleans()) and dimensions < 2:
        words, width, length = 5, draw(st.integers(2, 4)), draw(st.integers(2, 5))
        sample = torch.randint(words, (batch, max(views, 1), length))
        layers.append(nn.Embedding(words, width, padding_idx=draw(st.sampled_from([None, 0]))))
        shape = [length, width]
        if dimensions == 1:
            layers.append(Positions())
            shape = [width, length]
    else:
        shape = [draw(st.sampled_from([1, 2, 4])), *[draw(st.integers(5, 8)) for _ in range(dimensions)]]
        if dimensions == 0 and draw(st.booleans()):
            shape = [draw(st.integers(2, 4)), *shape]  # a linear map at several positions
        sample = torch.randn(batch, max(views, 1), *shape, dtype=dtype)
    for _ in range(draw(st.integers(1, 3))):
        if dimensions and len(shape) == dimensions + 1 and min(shape[1:]) >= 3:
            layer, channels = draw(convolutions(dimensions, shape[0]))
            grown = _try(layer, shape)
            if grown is None:
                continue
            layers.append(layer)
            shape = grown
            if math.prod(shape[1:]) > 1 and draw(st.booleans()):
                layers.append(nn.GroupNorm(draw(st.sampled_from([1, channels])), channels))
        else:
            layers.append(nn.Linear(shape[-1], draw(st.integers(1, 4)), bias=draw(st.booleans())))
            shape = [*shape[:-1], layers[-1].out_features]
            if draw(st.booleans()):
                layers.append(nn.LayerNorm(shape[-draw(st.integers(1, len(shape))) :]))
        layers.append(draw(st.sampled_from(ACTIVATIONS))())
    layers += [nn.Flatten(), nn.Linear(math.prod(shape), 3)]
    model = nn.Sequential(*layers).to(dtype)
    for parameter in model.parameters():
        if draw(st.integers(0, 5)) == 0:
            parameter.requires_grad_(False)
    model[-1].weight.requires_grad_(True)
    inputs = sample if views else sample[:, 0]
    return Case(model, inputs, torch.randint(3, (batch,)), bool(views), draw(st.sampled_from([None, None, 1, 2])))


def _try(layer: nn.Module, shape: list[int]) -> list[int] | None:
    try:
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the cost of padding="same" with even kernels
            return list(layer(torch.zeros(1, *shape)).shape[1:])
    except RuntimeError:  # the window does not fit
        return None


def sample_loss(views: bool) -> Callable[[Tensor, Tensor], Tensor]:
    """Cross-entropy; over views, that of the mean output and a term that couples the views of a sample."""
    if not views:
        return F.cross_entropy
    return lambda outputs, labels: F.cross_entropy(outputs.mean(1), labels) + outputs.var(1, correction=0).sum()


def reference(case: Case) -> tuple[dict[str, Tensor], Tensor]:
    """Gradients by the plainest loop: ``backward()`` on a copy, sample by sample. And the losses."""
    found: dict[str, list[Tensor]] = {n: [] for n, p in case.model.named_parameters() if p.requires_grad}
    losses = []
    loss = sample_loss(case.views)
    for x, y in zip(case.inputs, case.labels, strict=True):
        model = copy.deepcopy(case.model)
        output = model(x if case.views else x[None])
        value = loss(output[None] if case.views else output, y[None])
        value.backward()
        losses.append(value.detach())
        for name, parameter in model.named_parameters():
            if name in found:
                found[name].append(torch.zeros_like(parameter) if parameter.grad is None else parameter.grad)
    shapes = {name: value.shape for name, value in case.model.named_parameters()}
    gradients = {n: torch.stack(v) if v else torch.zeros(0, *shapes[n], dtype=_dtype(case)) for n, v in found.items()}
    return gradients, torch.stack(losses) if losses else torch.zeros(0, dtype=_dtype(case))


def _dtype(case: Case) -> torch.dtype:
    return next(case.model.parameters()).dtype


def clip(norms: SampleNorms) -> Tensor:
    """Flat clipping to 0.3."""
    return (0.3 / norms.total.clamp_min(1e-12)).clamp(max=1)


def clip_by_parameter(norms: SampleNorms) -> Tensor:
    """Each parameter's gradient clipped to 0.1 by itself."""
    return (0.1 / norms.squares.sqrt().clamp_min(1e-12)).clamp(max=1)
