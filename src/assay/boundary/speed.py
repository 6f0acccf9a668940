"""How fast the decision boundary moves when the weights do: relative speed, by sample and by layer.

For the margin R(x) = min ||x̂ - x|| over φ(x̂) = 0 and weights that move along θ'(t),

    s = dR/dt = (∇_θ φ(x̂) · θ') / ||∇_x φ(x̂)||_q,    1/p + 1/q = 1

(Xu et al., arXiv 2302.03015). Where s > 0 the boundary moves away from x and its margin grows; where
s < 0 it comes closer. The numerator is a Jacobian-vector product: one forward-mode pass gives it for all
points at once, where reverse mode would need a backward pass for every point.
"""

from __future__ import annotations

import copy
import math
import warnings
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.func import jvp
from torch.nn.attention import SDPBackend, sdpa_kernel

from ..core.errors import AssayError, DataError, ModelError, SettingError, did_you_mean
from ..subjects.lanes import ROWS, in_lanes
from ..subjects.target import Target
from ..tensors.norms import NORMS, dual_norm
from .directions import Direction, Parametric, gradient_flow_direction
from .margin import check_temperature
from .taps import CannotTap, Taps

__all__ = ["check_speed", "gradient_flow_direction", "relative_speed", "relative_speed_by_layer"]

_CPU_ROWS, _ACCELERATOR_ROWS = 64, 256
_SMALL_STEP = 1e-8
_AGREES = 1e-3


def relative_speed(
    model_or_target: nn.Module | Target,
    points: Tensor,
    labels: Tensor,
    direction: Direction,
    norm: str = "linf",
    temperature: float = 5.0,
    *,
    slope: Tensor | None = None,
) -> Tensor:
    r"""Relative speed of the decision boundary at its points: s = (∇_θ φ(x̂) · θ') / ||∇_x φ(x̂)||_q.

    Above 0 the margin of the sample grows as the weights move along θ', below 0 it shrinks. The unit is raw
    input units for a step of length 1 along ``direction``. The formula is dR/dt where φ(x̂) = 0, x̂ is the
    closest such point and no wall of the input box holds it.

    Args:
        model_or_target: a module that maps inputs to logits [B, K], or a Target, whose preprocessing is then a
            part of φ. It is looked at in evaluation mode and left as it was.
        points: x̂, closest boundary points [B, ...]; raw inputs.
        labels: class indices [B].
        direction: θ', a tensor for each trainable parameter, by its name in ``named_parameters()`` of the module
            (of ``target.model``); floating-point buffers, such as running statistics, may move too (those of
            BatchNorm count to its weight and bias).
        norm: ``"linf"``, ``"l2"`` or ``"l1"``, in which margins are measured; q is 1, 2 or infinity.
        temperature: β of the soft margin φ; ``math.inf`` for the exact margin.
        slope: ||∇_x φ(x̂)||_q where it is known already [B], which saves the input gradient.

    Returns:
        s, [B], float32 (float64 for a model in float64). NaN where the slope is 0 or not finite: there φ is flat and
        the boundary has no speed.

    Raises:
        SettingError: a direction whose names, shapes or values do not fit the model; an unknown norm.
        DataError: points, labels or slopes that cannot be used.
        ModelError: a model without parameters, or one that cannot be differentiated.

    Cost: with ``slope`` 1 forward-mode pass, about the time of 3 forward passes. Without it, 1 forward and 1
    backward pass and the layers' own work once more, about as much (see :mod:`assay.boundary.taps`); for a model
    with layers that are not linear in their parameters, the forward-mode pass and 1 forward and 1 backward pass.

    Xu et al., Exploring and Exploiting Decision Boundary Dynamics for Adversarial Robustness (arXiv 2302.03015).

    >>> model = nn.Linear(2, 2)
    >>> with torch.no_grad():
    ...     _ = model.weight.copy_(torch.tensor([[1.0, 0.0], [0.0, 1.0]])), model.bias.zero_()
    >>> move = {"weight": torch.zeros(2, 2), "bias": torch.tensor([1.0, 0.0])}
    >>> relative_speed(model, torch.tensor([[0.5, 0.5]]), torch.tensor([0]), move)
    tensor([0.5000])
    """
    speeds = _Speeds(model_or_target, points, labels, norm, temperature, fold=True)
    moved = speeds.moved(direction)
    if slope is not None:
        return speeds.divided(speeds.numerator(moved), slope)
    parts, slope = speeds.parts_and_slope(moved, split=False)
    total = torch.stack(list(parts.values())).sum(0, dtype=torch.float64).to(slope.dtype)
    return speeds.divided(total, slope)


def relative_speed_by_layer(
    model_or_target: nn.Module | Target,
    points: Tensor,
    labels: Tensor,
    direction: Direction,
    norm: str = "linf",
    temperature: float = 5.0,
    *,
    slope: Tensor | None = None,
) -> dict[str, Tensor]:
    """What each layer adds to the relative speed: the speed if its parameters alone moved, by name of the layer.

    The numerator of the speed is linear in θ', so that the parts add up to :func:`relative_speed`, up to rounding.

    Args:
        model_or_target, points, labels, direction, norm, temperature, slope: as for :func:`relative_speed`.

    Returns:
        [B] for each module that holds parameters of the direction, in the order of the model; a parameter of the
        model itself stands under its own name.

    Raises:
        As :func:`relative_speed`.

    Cost: 1 forward and 1 backward pass, and the layers' own work once more; 1 forward-mode pass a layer for
    a model with layers that are not linear in their parameters (see :mod:`assay.boundary.taps`).
    """
    speeds = _Speeds(model_or_target, points, labels, norm, temperature)
    parts, found = speeds.parts_and_slope(speeds.moved(direction), split=True)
    return {layer: speeds.divided(part, found if slope is None else slope) for layer, part in parts.items()}


def check_speed(
    model_or_target: nn.Module | Target,
    points: Tensor,
    labels: Tensor,
    direction: Direction,
    temperature: float = 5.0,
) -> float:
    r"""How far the forward-mode derivative is from a central difference: the largest relative deviation.

    (φ(x̂; θ + hθ') - φ(x̂; θ - hθ')) / 2h against ∇_θ φ(x̂) · θ', the difference divided by the largest of
    the latter over the points. The differences are taken on a private copy in float64, with h ||θ'|| = 1e-8 ||θ||,
    so that what is seen is the rounding of the model's own precision: below 1e-4 in float32 unless a point sits on
    a kink of the network.

    Args:
        model_or_target, points, labels, direction, temperature: as for :func:`relative_speed`.

    Returns:
        The deviation, at least 0; 0 without points or for a direction that moves nothing.

    Raises:
        As :func:`relative_speed`.

    Cost: 1 forward-mode pass and 2 forward passes in float64.
    """
    speeds = _Speeds(model_or_target, points, labels, "linf", temperature)
    moved = speeds.model.check_direction(direction)
    found = speeds.numerator(speeds.model.without_statistics(moved)).double()
    if not len(found):
        return 0.0
    length = math.sqrt(sum(float(value.double().square().sum()) for value in moved.values()))
    size = math.sqrt(sum(float(value.double().square().sum()) for value in speeds.model.parameters.values()))
    if length == 0:
        return float(found.abs().max())
    h = _SMALL_STEP * (size or 1.0) / length
    twin = _Speeds(_in_float64(model_or_target), points, labels, "linf", temperature)
    known = {**twin.model.parameters, **twin.model.buffers}
    ahead, behind = (
        twin.margins({name: known[name] + sign * h * value.double() for name, value in moved.items()})
        for sign in (1, -1)
    )
    expected = (ahead - behind) / (2 * h)
    scale = float(expected.abs().max())
    return float((found - expected).abs().max()) / scale if scale > 0 else float(found.abs().max())


class _Speeds:
    """φ at some points, and its derivatives by weights and inputs, lane by lane."""

    def __init__(
        self,
        model: nn.Module | Target,
        points: Tensor,
        labels: Tensor,
        norm: str,
        temperature: float,
        *,
        fold: bool = False,
    ) -> None:
        if norm not in NORMS:
            raise SettingError(f"norm is {norm!r}.{did_you_mean(norm, NORMS)}")
        self.norm, self.temperature = norm, check_temperature(temperature)
        self.model = Parametric(model)
        self.points, self.labels = self.model.check_points(points, labels)
        if fold:
            self.model.fold()
        self.own = {name: self.model.laid_out(value) for name, value in self.model.parameters.items()}

    def moved(self, direction: Direction) -> dict[str, Tensor]:
        """The direction, checked, in what can be differentiated by."""
        return self.model.without_statistics(self.model.check_direction(direction))

    def divided(self, numerator: Tensor, slope: Tensor | None) -> Tensor:
        """The numerator over the slope, NaN where the slope is 0 or not finite."""
        if slope is None:
            slope = self.slope()
        slope = torch.as_tensor(slope)
        if slope.shape != numerator.shape or bool((slope < 0).any()):
            raise DataError(
                f"slope has shape {tuple(slope.shape)} for {len(numerator)} points; give one number of at least 0 "
                "a point."
            )
        slope = slope.to(numerator.device, numerator.dtype)
        usable = torch.isfinite(slope) & (slope > 0)
        return torch.where(usable, numerator / torch.where(usable, slope, 1.0), torch.nan)

    def parts_and_slope(self, direction: dict[str, Tensor], *, split: bool) -> tuple[dict[str, Tensor], Tensor]:
        """∇_θ φ · θ' by layer, which may be one entry unless ``split``, and ||∇_x φ||_q: [B] each."""
        found = self._tapped(direction)
        if found is not None:
            return found
        if not split:
            return {"": self.numerator(direction)}, self.slope()
        layers: dict[str, dict[str, Tensor]] = {}
        for name, value in direction.items():
            layers.setdefault(name.rpartition(".")[0] or name, {})[name] = value
        return {layer: self.numerator(part) for layer, part in layers.items()}, self.slope()

    def _tapped(self, direction: dict[str, Tensor]) -> tuple[dict[str, Tensor], Tensor] | None:
        """The same from one backward pass; None where the model's layers do not allow it."""
        if not len(self.points):
            return None
        try:
            module, moved = self.model.module, {name: self.model.laid_out(value) for name, value in direction.items()}
            if self.model.folded is not None:
                module = self.model.folded
                moved = {self.model.places[name]: value for name, value in moved.items() if name in self.model.places}
            taps = Taps(module, moved)
        except CannotTap:
            return None

        def both(points: Tensor, labels: Tensor) -> Tensor:
            parts, gradient = taps.derivatives(
                lambda leaf: self.model.margin(self.own, leaf, labels, self.temperature), points
            )
            return torch.cat([parts, self._dual(gradient)[:, None]], 1)

        few = _Speeds.__new__(_Speeds)
        few.__dict__.update({**self.__dict__, "points": self.points[:ROWS], "labels": self.labels[:ROWS]})
        try:
            # A parameter that is also read outside its layer shows here.
            seen, expected = few._each(both)[:, :-1].sum(1), few.numerator(direction)
            if not bool(((seen - expected).abs() <= _AGREES * expected.abs().max()).all()):
                return None
            columns = self._each(both).unbind(1)
        except (CannotTap, RuntimeError):
            return None
        return dict(zip(taps.layers, columns[:-1], strict=True)), columns[-1]

    def numerator(self, direction: dict[str, Tensor]) -> Tensor:
        """∇_θ φ · θ' of each point: [B]."""
        tangent = {name: self.model.laid_out(value) for name, value in direction.items()}
        buffers = self.model.buffers
        primal = {name: self.own[name] if name in self.own else buffers[name] for name in tangent}

        def forward_mode(points: Tensor, labels: Tensor) -> Tensor:
            def value(weights: dict[str, Tensor]) -> Tensor:
                return self.model.margin({**self.own, **weights}, points, labels, self.temperature)

            with warnings.catch_warnings():  # torch compiles some derivatives when it is first asked for one
                warnings.filterwarnings("ignore", r"`torch\.jit\.script", DeprecationWarning)
                found: Tensor = jvp(value, (primal,), (tangent,), strict=True)[1]
            return found

        def twice_backward(points: Tensor, labels: Tensor) -> Tensor:
            with torch.enable_grad():
                leaves = {name: value.detach().clone().requires_grad_() for name, value in primal.items()}
                values = self.model.margin({**self.own, **leaves}, points, labels, self.temperature)
                if not values.requires_grad:
                    raise ModelError("The model's logits do not depend on its parameters in a differentiable way.")
                weights = torch.zeros_like(values, requires_grad=True)
                # Linear in the weights of the points, so its derivative by them is the product looked for.
                pulled = torch.autograd.grad(
                    values, list(leaves.values()), weights, create_graph=True, allow_unused=True, materialize_grads=True
                )
                total = torch.stack([(part * tangent[name]).sum() for name, part in zip(leaves, pulled, strict=True)])
                return torch.autograd.grad(total.sum(), weights, materialize_grads=True)[0]

        try:
            return self._each(forward_mode)
        except AssayError:
            raise
        except (RuntimeError, NotImplementedError, AttributeError) as first:
            # A layer without a forward-mode derivative: two backward passes give the same number.
            try:
                return self._each(twice_backward)
            except AssayError:
                raise
            except (RuntimeError, NotImplementedError, AttributeError) as second:
                raise ModelError(
                    f"The model cannot be differentiated by its parameters: forward mode failed with {_line(first)}, "
                    f"and two backward passes with {_line(second)}. Replace the layer that has no derivative."
                ) from second

    def slope(self) -> Tensor:
        """||∇_x φ||_q of each point: [B]."""

        def gradient(points: Tensor, labels: Tensor) -> Tensor:
            with torch.enable_grad():
                leaf = points.detach().requires_grad_()
                values = self.model.margin(self.own, leaf, labels, self.temperature)
                if not values.requires_grad:
                    raise ModelError("The model's logits do not depend on its input in a differentiable way.")
                found = torch.autograd.grad(values.sum(), leaf, allow_unused=True, materialize_grads=True)[0]
            return self._dual(found)

        return self._each(gradient)

    def margins(self, weights: dict[str, Tensor]) -> Tensor:
        """φ with some weights replaced: [B]."""
        with torch.no_grad():
            return self._each(
                lambda points, labels: self.model.margin({**self.own, **weights}, points, labels, self.temperature)
            )

    def _dual(self, gradient: Tensor) -> Tensor:
        return dual_norm(gradient if gradient.dtype == torch.float64 else gradient.float(), self.norm)

    def _each(self, call: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
        if not len(self.points):
            return self.points.new_zeros(0)
        rows = _CPU_ROWS if self.points.device.type == "cpu" else _ACCELERATOR_ROWS
        parts = zip(self.points.split(rows), self.labels.split(rows), strict=True)
        # Fused attention kernels have no forward-mode derivative; the plain one has.
        with self.model.undisturbed(), sdpa_kernel(SDPBackend.MATH):
            return torch.cat([in_lanes(call, *part).detach() for part in parts])


def _in_float64(model: nn.Module | Target) -> nn.Module | Target:
    """A private copy in float64."""
    if not isinstance(model, Target):
        return copy.deepcopy(model).double()
    preprocess = None if model.preprocess is None else copy.deepcopy(model.preprocess).double()
    module = copy.deepcopy(model.model)
    if isinstance(module, nn.Module):
        module = module.double()
    return Target(module, task=model.task, bounds=model.bounds, preprocess=preprocess)


def _line(error: Exception) -> str:
    text = str(error).strip().splitlines()
    return f"{type(error).__name__}: {text[0][:200] if text else ''}"
