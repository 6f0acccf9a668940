"""Directions in which weights move: checked against a model, and the gradient flow of a loss."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from ..core.errors import DataError, ModelError, SettingError, did_you_mean
from ..subjects.target import Target
from ..subjects.tasks import Classification
from .folding import fold
from .margin import soft_margin

Direction = Mapping[str, Tensor]
SampleLoss = Callable[[Tensor, Tensor], Tensor]

_CHANNELS_LAST_PIXELS = 16 * 16
_CHUNK = 256


class Parametric:
    """A model as a function of its parameters and its raw inputs; the caller's module is only read.

    Args:
        model: a module that maps inputs [B, ...] to logits [B, K], or a Target, whose preprocessing is then a
            part of the function.

    Raises:
        ModelError: it is a plain function, or has no parameters that could move.
    """

    def __init__(self, model: nn.Module | Target) -> None:
        target = model if isinstance(model, Target) else None
        module = target.model if target is not None else model
        if not isinstance(module, nn.Module):
            raise ModelError(
                f"The model is a {type(module).__name__} without parameters; a boundary moves because weights do, so a "
                "torch.nn.Module is needed."
            )
        # A Target keeps modes and random state; the number of classes plays no part in that.
        self._keeper = target if target is not None else Target(module, task=Classification(2))
        self.module, self.preprocess = module, self._keeper.preprocess
        parameters = dict(module.named_parameters())
        self.parameters = {name: value.detach() for name, value in parameters.items() if value.is_floating_point()}
        if not self.parameters:
            raise ModelError(f"The model {type(module).__name__} has no parameters, so its boundary cannot move.")
        trainable = tuple(name for name in self.parameters if parameters[name].requires_grad)
        self.movable = trainable or tuple(self.parameters)  # a model frozen as a whole still has a gradient flow
        self.buffers = {name: value for name, value in module.named_buffers() if value.is_floating_point()}
        first = next(iter(self.parameters.values()))
        self.device, self.dtype = first.device, first.dtype
        self.folded: nn.Module | None = None
        self.places: dict[str, str] = {}

    def fold(self) -> None:
        """Evaluate BatchNorm as a part of the convolution before it from now on, where the model has such pairs."""
        with self.undisturbed():
            self.folded = fold(self.module)
        if self.folded is not None:
            places = {id(value): name for name, value in self.folded.named_parameters()}
            own = dict(self.module.named_parameters())
            self.places = {name: places[id(own[name])] for name in self.parameters if id(own[name]) in places}

    @contextmanager
    def undisturbed(self) -> Iterator[None]:
        """Evaluation mode and a private random state inside; everything as it was afterwards."""
        with self._keeper.undisturbed():
            yield

    def logits(self, weights: Direction, points: Tensor) -> Tensor:
        """[B, K], at least float32, with ``weights`` (by name) in the place of the module's own."""
        inputs = points if self.preprocess is None else self.preprocess(points)
        module: nn.Module = self.module
        if self.folded is not None and not weights.keys() & self.buffers.keys():
            module = self.folded
            weights = {self.places[name]: value for name, value in weights.items() if name in self.places}
        output = functional_call(module, dict(weights), (self.laid_out(inputs),))
        output = getattr(output, "logits", output)
        if not isinstance(output, Tensor) or output.ndim != 2 or len(output) != len(points):
            shape = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
            raise ModelError(f"The model returned {shape} for {len(points)} inputs; logits [B, K] are needed.")
        return output if output.dtype == torch.float64 else output.float()

    def margin(self, weights: Direction, points: Tensor, labels: Tensor, temperature: float) -> Tensor:
        """φ of each point, [B]."""
        return soft_margin(self.logits(weights, points), labels, temperature)

    def laid_out(self, values: Tensor) -> Tensor:
        """Images and kernels in the memory layout that is fastest for them."""
        if values.ndim == 4 and (values.shape[2] * values.shape[3] >= _CHANNELS_LAST_PIXELS):
            return values.contiguous(memory_format=torch.channels_last)
        return values

    def check_points(self, points: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Points in the model's dtype and int64 labels, on its device.

        Raises:
            DataError: no tensor of floating-point samples, NaN or infinity in it, or not one whole label a point.
        """
        points, labels = torch.as_tensor(points), torch.as_tensor(labels)
        if points.ndim < 2 or not points.is_floating_point():
            raise DataError(
                f"The points are {points.dtype} of shape {tuple(points.shape)}; floating-point [B, ...] is needed."
            )
        if not bool(torch.isfinite(points).all()):
            bad = int((~torch.isfinite(points)).flatten(1).any(1).sum())
            raise DataError(f"{bad} of {len(points)} points hold NaN or infinity; leave them out.")
        if labels.shape != points.shape[:1] or labels.is_floating_point() or labels.dtype == torch.bool:
            raise DataError(
                f"The labels are {labels.dtype} of shape {tuple(labels.shape)} for {len(points)} points; one class "
                "index a point is needed."
            )
        return points.detach().to(self.device, self.dtype), labels.to(self.device, torch.int64)

    def check_direction(self, direction: Direction) -> dict[str, Tensor]:
        """The direction in the dtype and on the device of what it moves, in the order of the parameters.

        Raises:
            SettingError: a name that the model does not have, a trainable parameter without a name, a shape that
                differs, or a value that is not finite.
        """
        if not isinstance(direction, Mapping):
            raise SettingError(
                f"direction is a {type(direction).__name__}; a mapping from parameter names to tensors is needed, such "
                "as gradient_flow_direction(...) returns."
            )
        known = {**self.parameters, **self.buffers}
        unknown = [name for name in direction if name not in known]
        if unknown:
            raise SettingError(
                f"direction names {unknown[0]!r}, which is no floating-point parameter or buffer of the model"
                f"{_and_more(unknown)}.{did_you_mean(unknown[0], known)}"
            )
        missing = [name for name in self.movable if name not in direction]
        if missing:
            raise SettingError(
                f"direction says nothing of the trainable parameter {missing[0]!r}{_and_more(missing)}. Give zeros for "
                "what does not move."
            )
        return {name: _checked(name, direction[name], value) for name, value in known.items() if name in direction}

    def without_statistics(self, direction: dict[str, Tensor]) -> dict[str, Tensor]:
        r"""The same movement of the function with that of running statistics put upon weights and biases.

        For BatchNorm γ (x - μ) / σ + β, σ² = v + ε, a movement (μ', v') is that of γ by -γ v' / (2 σ²) and of β by
        -γ μ' / σ; torch has no derivative by μ and v themselves.
        """
        moved = dict(direction)
        for prefix, layer in self.module.named_modules():
            weight, bias, mean, variance = (
                f"{prefix}.{short}" if prefix else short for short in ("weight", "bias", "running_mean", "running_var")
            )
            statistics = {mean, variance} & moved.keys()
            if not statistics or not isinstance(layer, nn.modules.batchnorm._BatchNorm):
                continue
            if weight not in self.parameters or bias not in self.parameters:
                raise ModelError(
                    f"The running statistics of {prefix!r} move, a BatchNorm without weight and bias of its own, and "
                    "there is no derivative by them. Leave them out of the direction."
                )
            own, spread = self.parameters[weight], self.buffers[variance] + layer.eps
            if variance in statistics:
                moved[weight] = moved.get(weight, 0) - own * moved.pop(variance) / (2 * spread)
            if mean in statistics:
                moved[bias] = moved.get(bias, 0) - own * moved.pop(mean) / spread.sqrt()
        return moved


def gradient_flow_direction(
    model_or_target: nn.Module | Target, loss: SampleLoss | str, images: Tensor, labels: Tensor
) -> dict[str, Tensor]:
    r"""Where gradient descent of a mean loss moves the weights: θ' = -∇_θ (1/N) Σ_i ℓ(f_θ(x_i), y_i).

    The model is in evaluation mode, so that the gradient is that of the function whose boundary is looked at.

    Args:
        model_or_target: a module, or a Target, whose preprocessing is then applied.
        loss: ``(logits [B, K], labels [B]) -> [B]``, one number a sample; or ``"cross-entropy"``.
        images: [N, ...], raw, N at least 1.
        labels: class indices [N].

    Returns:
        One tensor for each trainable parameter, by name (for every parameter where the whole model is frozen).

    Raises:
        ModelError: the model has no parameters, or its loss does not depend on them differentiably.
        SettingError: the loss does not return one number a sample.
        DataError: images or labels that cannot be used.

    Cost: 1 forward and 1 backward pass a sample; memory for 256 samples at a time.

    >>> model = nn.Linear(2, 2)
    >>> images, labels = torch.rand(4, 2), torch.tensor([0, 1, 1, 0])
    >>> direction = gradient_flow_direction(model, "cross-entropy", images, labels)
    >>> {name: tuple(value.shape) for name, value in direction.items()}
    {'weight': (2, 2), 'bias': (2,)}
    """
    model = Parametric(model_or_target)
    points, classes = model.check_points(images, labels)
    if not len(points):
        raise DataError("There are no images; the gradient of a mean loss needs at least one.")
    if isinstance(loss, str) and loss != "cross-entropy":
        raise SettingError(f"loss is {loss!r}.{did_you_mean(loss, ['cross-entropy'])} Or give a function.")
    losses = _cross_entropy if isinstance(loss, str) else loss
    total = {name: torch.zeros_like(model.parameters[name]) for name in model.movable}
    with model.undisturbed(), torch.enable_grad():
        for part, part_classes in zip(points.split(_CHUNK), classes.split(_CHUNK), strict=True):
            leaves = {name: model.parameters[name].clone().requires_grad_() for name in total}
            values = _one_each(losses(model.logits(leaves, part), part_classes), len(part))
            if not values.requires_grad:
                raise ModelError("The loss does not depend on the parameters in a way that can be differentiated.")
            found = torch.autograd.grad(
                values.sum() / len(points), list(leaves.values()), allow_unused=True, materialize_grads=True
            )
            for name, gradient in zip(total, found, strict=True):
                total[name] -= gradient
    return total


def _cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    return F.cross_entropy(logits, labels, reduction="none")


def _one_each(values: Any, count: int) -> Tensor:
    if isinstance(values, Tensor) and tuple(values.shape) == (count,):
        return values
    what = f"shape {tuple(values.shape)}" if isinstance(values, Tensor) else type(values).__name__
    raise SettingError(
        f"loss returned {what} for {count} samples; one number a sample, [B], is needed. Leave out the mean or the "
        "sum, with reduction='none' in torch's losses."
    )


def _checked(name: str, given: Any, value: Tensor) -> Tensor:
    if not isinstance(given, Tensor) or given.shape != value.shape:
        what = tuple(given.shape) if isinstance(given, Tensor) else type(given).__name__
        raise SettingError(f"direction[{name!r}] is {what}; the parameter has shape {tuple(value.shape)}.")
    moved = given.detach().to(value.device, value.dtype)
    if not bool(torch.isfinite(moved).all()):
        bad = int((~torch.isfinite(moved)).sum())
        raise SettingError(f"direction[{name!r}] holds {bad} values that are NaN or infinite; all must be finite.")
    return moved


def _and_more(names: list[str]) -> str:
    return f" (and {len(names) - 1} more)" if len(names) > 1 else ""
