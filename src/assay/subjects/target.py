"""Target: a model under examination, with its preprocessing inside and its caller's module untouched."""

from __future__ import annotations

import copy
import hashlib
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic

import torch
from torch import Tensor, nn
from typing_extensions import TypeVar

from ..core.errors import AssayError, DataError, ModelError, SettingError
from ..core.probes import Finding
from .fusion import fuse_conv_bn
from .lanes import in_lanes
from .tasks import Classification, Task

if TYPE_CHECKING:
    TaskT = TypeVar("TaskT", bound=Task, default=Classification)
else:
    TaskT = TypeVar("TaskT", default=Classification)

TOLERANCE = 1e-6
_CHANNELS_LAST_PIXELS = 16 * 16


class Target(Generic[TaskT]):
    """A model under examination: module, preprocessing, raw-input bounds and task.

    ``Target`` alone means a classifier; ``Target[Segmentation]`` and the like say otherwise.

    The caller's module is never changed: its mode, parameters, ``.grad`` fields
    and the global random state are as they were after every call.

    Args:
        model: maps preprocessed inputs [B, C, H, W] to what the task asks for: logits [B, K],
            logits [B, K, h, w], depths [B, h, w], a representation. An object that holds the
            tensor, as transformers return, is accepted, and so is a plain function.
        task: what the model is for: ``Classification(num_classes=10)``, ``Segmentation(...)``,
            ``Depth()`` or ``Embedding()``.
        bounds: the box of raw inputs, ``(low, high)``.
        preprocess: a module applied to raw inputs before the model, such as
            ``Normalize(mean, std)``; attacks see through it.
        name: how records and reports call the model.
        source: where it was loaded from, for the record.

    Raises:
        SettingError, ModelError: what was given cannot be examined.

    >>> target = Target(nn.Flatten(), task=Classification(num_classes=4))
    >>> target.logits(torch.zeros(1, 1, 2, 2)).shape
    torch.Size([1, 4])
    """

    def __init__(
        self,
        model: nn.Module | Callable[[Tensor], Any],
        *,
        task: TaskT,
        bounds: tuple[float, float] = (0.0, 1.0),
        preprocess: nn.Module | None = None,
        name: str = "model",
        source: str = "python object",
    ) -> None:
        if not callable(model):
            raise ModelError(f"Target.model is a {type(model).__name__}; a torch.nn.Module or a function is needed.")
        low, high = (float(bound) for bound in bounds)
        if not low < high:
            raise SettingError(f"Target.bounds is {tuple(bounds)!r}; allowed: (low, high) with low below high.")
        if preprocess is not None and not isinstance(preprocess, nn.Module):
            raise SettingError(
                f"Target.preprocess is a {type(preprocess).__name__}; a torch.nn.Module is needed, such as "
                "Normalize(mean, std)."
            )
        self.model = model
        self.task = task
        self.bounds = (low, high)
        self.preprocess = preprocess
        self.name = name
        self.source = source
        self.folder: Path | None = None  # of the training run it was loaded from
        self.findings: list[Finding] = []
        self._undisturbed = False
        if isinstance(model, nn.Module) and model.training:
            self.findings.append(
                Finding(
                    code="train-mode",
                    severity="info",
                    message="The model was given in training mode; it was examined in evaluation mode and its mode "
                    "restored.",
                    remedy="Call model.eval() before handing the model over if that is how it is deployed.",
                )
            )

    @property
    def device(self) -> torch.device:
        """Where the model's parameters are; the CPU for a model without any."""
        return next((p.device for p in self._tensors().values()), torch.device("cpu"))

    @property
    def digest(self) -> str:
        """BLAKE2b over architecture, weights, buffers, preprocessing and bounds: 32 hex digits."""
        total = hashlib.blake2b(digest_size=16)
        text = f"{self.model!r}|{self.preprocess!r}|{self.bounds!r}|{self.task!r}"
        total.update(re.sub(r" at 0x[0-9a-fA-F]+", "", text).encode())  # a function's address differs in every process
        for name, value in sorted(self._tensors().items()):
            total.update(f"{name}|{value.dtype}|{tuple(value.shape)}|".encode())
            total.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
        return total.hexdigest()

    def describe(self) -> dict[str, Any]:
        """What a record says of the target."""
        parameters = self.model.parameters() if isinstance(self.model, nn.Module) else ()
        return {
            "name": self.name,
            "source": self.source,
            "digest": self.digest,
            "task": self.task.name,
            **self.task.describe(),
            "bounds": list(self.bounds),
            "preprocess": repr(self.preprocess) if self.preprocess is not None else None,
            "parameters": sum(p.numel() for p in parameters),
        }

    def check_images(self, images: Tensor) -> Tensor:
        """Raw images as float32, clipped by at most 1e-6 to the bounds; DataError says what is wrong.

        Args:
            images: [N, C, H, W] (or any [N, ...] that the model takes).
        """
        if not isinstance(images, Tensor):
            images = torch.as_tensor(images)
        if not images.is_floating_point():
            raise DataError(
                f"Images are {images.dtype}; floating-point values within {self.bounds} are needed. "
                "For uint8 pixels use images.float() / 255."
            )
        if images.ndim < 2 or not len(images) or not images[0].numel():
            raise DataError(f"Images have shape {tuple(images.shape)}; at least one sample [N, C, H, W] is needed.")
        images = images.detach().to("cpu", torch.float32)
        if not bool(torch.isfinite(images).all()):
            bad = int((~torch.isfinite(images)).flatten(1).any(1).sum())
            raise DataError(f"{bad} of {len(images)} images hold NaN or infinity; remove or repair them.")
        low, high = self.bounds
        smallest, largest = float(images.min()), float(images.max())
        if smallest < low - TOLERANCE or largest > high + TOLERANCE:
            raise DataError(
                f"Images range from {smallest:g} to {largest:g}, outside the bounds ({low:g}, {high:g}). "
                "Give raw images within the bounds and put any normalisation into Target(preprocess=...)."
            )
        return images.clamp(low, high)

    def check_labels(self, labels: Tensor, count: int) -> Tensor:
        """Class indices as int64 [N]; DataError says what is wrong, ModelError that this is no classifier."""
        if not isinstance(self.task, Classification):
            raise ModelError(
                f"{self.name!r} is for {self.task.name}, and this examination needs a classifier. "
                "Use assay.evasion.attack for other tasks."
            )
        return self.task.check_references(labels, torch.empty(count, 0))

    @torch.no_grad()
    def logits(self, images: Tensor) -> Tensor:
        """What the caller's own model answers in float32 and evaluation mode to raw images: [B, ...] -> [B, K].

        The truth that every verdict rests on: 1 forward pass a sample.
        """
        with self.undisturbed():
            return in_lanes(self._answer, images)

    def predict(self, images: Tensor, *, batch_size: int = 256) -> Tensor:
        """Logits of many images, ``batch_size`` at a time: [N, ...] -> [N, K], on the CPU."""
        with self.undisturbed(), torch.no_grad():
            parts = images.split(max(1, batch_size))
            return torch.cat([in_lanes(self._answer, part.to(self.device)).cpu() for part in parts])

    @contextmanager
    def undisturbed(self) -> Iterator[None]:
        """Evaluation mode and a private random state inside; everything as it was afterwards.

        May be nested: only the outermost keeps and restores, so that a randomised model's
        answers go on varying inside.
        """
        if self._undisturbed:
            yield
            return
        parts = [part for part in (self.model, self.preprocess) if isinstance(part, nn.Module)]
        modules = [module for part in parts for module in part.modules()]
        modes = [module.training for module in modules]
        devices = range(torch.cuda.device_count() if torch.cuda.is_initialized() else 0)
        with torch.random.fork_rng(devices=devices):
            try:
                self._undisturbed = True
                for module in modules:
                    module.training = False
                yield
            finally:
                self._undisturbed = False
                for module, mode in zip(modules, modes, strict=True):
                    module.training = mode

    def search_copy(self, dtype: torch.dtype = torch.float32) -> SearchModel:
        """A private, frozen, fused copy that searches; verdicts are confirmed by :meth:`logits`.

        Args:
            dtype: float32, or bfloat16 for a faster and coarser search.
        """
        return SearchModel(self, dtype)

    def _answer(self, images: Tensor) -> Tensor:
        output = _asked(self.task, self.preprocess, self.model, images)
        self.task.check_output(output, len(images))
        return output.to(torch.float32)

    def _tensors(self) -> dict[str, Tensor]:
        found: dict[str, Tensor] = {}
        for prefix, module in (("model", self.model), ("preprocess", self.preprocess)):
            if isinstance(module, nn.Module):
                found.update({f"{prefix}.{name}": value for name, value in module.named_parameters()})
                found.update({f"{prefix}.{name}": value for name, value in module.named_buffers()})
        return found


class SearchModel:
    """The copy an attack differentiates through: frozen weights, Conv-BatchNorm fused, fixed lanes.

    Calls are cut into lanes of a multiple of four rows, padded where needed:
    the same kernels then run for every batch size, so that a sample's result
    does not depend on its neighbours, and a lane's activations stay in cache.

    Args:
        target: what to copy.
        dtype: float32 or bfloat16.
    """

    def __init__(self, target: Target[Any], dtype: torch.dtype = torch.float32) -> None:
        self.dtype = dtype
        self.task = target.task
        self.preprocess = _private(target.preprocess) if target.preprocess is not None else None
        self.module: Callable[[Tensor], Any] = target.model
        if isinstance(target.model, nn.Module):
            self.module = fuse_conv_bn(_private(target.model)).to(dtype)
        self.forward_passes = 0
        self.backward_passes = 0
        self.broken_gradients = 0

    @torch.no_grad()
    def logits(self, points: Tensor) -> Tensor:
        """Logits [B, K] in float32: 1 forward pass a sample."""
        self.forward_passes += len(points)
        return in_lanes(self._answer, points)

    def value_and_gradient(
        self, points: Tensor, objective: Callable[[Tensor, Tensor], Tensor], reference: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Logits [B, K], objective [B] and its gradient by the inputs [B, ...]; the loss is summed, never averaged.

        Entries of the gradient that are NaN or infinite count as 0, so that a search goes on.

        Args:
            points: raw inputs [B, ...].
            objective: ``objective(logits [b, K], reference [b, ...]) -> [b]``.
            reference: [B, ...], what the objective compares with, such as labels.

        Cost: 1 forward and 1 backward pass a sample.
        """
        self.forward_passes += len(points)
        self.backward_passes += len(points)

        def both(part: Tensor, part_reference: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            with torch.enable_grad():
                leaf = part.detach().requires_grad_(True)
                output = self._answer(leaf)
                value = objective(output, part_reference)
                gradient = torch.autograd.grad(value.sum(), leaf, allow_unused=True)[0] if value.requires_grad else None
            gradient = torch.zeros_like(part) if gradient is None else gradient.to(torch.float32).contiguous()
            self.broken_gradients += int((~torch.isfinite(gradient)).flatten(1).any(1).sum())
            gradient = gradient.nan_to_num(nan=0.0, posinf=0.0, neginf=0.0)
            return output.detach(), value.detach(), gradient

        return in_lanes(both, points, reference)

    def _answer(self, points: Tensor) -> Tensor:
        output = _asked(self.task, self.preprocess, self._laid_out, points)
        self.task.check_output(output, len(points))
        return output.to(torch.float32)

    def _laid_out(self, inputs: Tensor) -> Any:
        """The module's answer, with images in the memory layout that is fastest for their size.

        A rule and not a timing: the layout changes the last bits, and a resumed run must not choose another.
        """
        inputs = inputs.to(self.dtype)
        if inputs.ndim == 4 and inputs.shape[2] * inputs.shape[3] >= _CHANNELS_LAST_PIXELS:
            inputs = inputs.contiguous(memory_format=torch.channels_last)
        return self.module(inputs)


def _private(module: nn.Module) -> nn.Module:
    try:
        twin = copy.deepcopy(module)
    except Exception as error:
        raise ModelError(
            f"The model {type(module).__name__} cannot be copied ({type(error).__name__}: {error}), and Assay "
            "works on a "
            "private copy so that yours stays untouched. Remove hooks or members that cannot be deep-copied."
        ) from error
    return twin.eval().requires_grad_(False)


def _asked(
    task: Task,
    preprocess: nn.Module | None,
    model: nn.Module | Callable[[Tensor], Any],
    images: Tensor,
) -> Tensor:
    """The model's answer; whatever its code raises becomes a ModelError that names input and cause."""
    try:
        inputs = images if preprocess is None else preprocess(images)
        return task.answer(model(inputs), images)
    except AssayError:
        raise
    except Exception as error:
        raise ModelError(
            f"The model failed on inputs of shape {tuple(images.shape)} ({images.dtype}): {type(error).__name__}: "
            f"{error}. "
            "Check that the images have the channels and the size that it was made for."
        ) from error
