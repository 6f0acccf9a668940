"""Tasks beyond classification: a class for every pixel, a distance for every pixel, a representation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ..core.errors import DataError, ModelError, SettingError
from ..tensors import losses

IGNORE = 255


@dataclass(frozen=True)
class Segmentation:
    """A class for every pixel: the model returns logits [B, num_classes, h, w].

    Logits of another size than the images are resized bilinearly, as segmentation models are used.

    Args:
        num_classes: classes K, at least 2.
        ignore_index: value of pixels in a mask that count neither for nor against the model;
            outside 0..K-1. None: every pixel counts.

    >>> Segmentation(num_classes=11).ignore_index
    255
    """

    num_classes: int
    ignore_index: int | None = IGNORE

    def __post_init__(self) -> None:
        if isinstance(self.num_classes, bool) or not isinstance(self.num_classes, int) or self.num_classes < 2:
            raise SettingError(f"Segmentation.num_classes is {self.num_classes!r}; allowed: a whole number from 2 up.")
        if self.ignore_index is not None and (
            isinstance(self.ignore_index, bool)
            or not isinstance(self.ignore_index, int)
            or 0 <= self.ignore_index < self.num_classes
        ):
            raise SettingError(
                f"Segmentation.ignore_index is {self.ignore_index!r}; allowed: a whole number outside "
                f"0..{self.num_classes - 1}, or None where every pixel counts."
            )

    @property
    def name(self) -> str:
        """The task's name in records."""
        return "segmentation"

    def describe(self) -> dict[str, Any]:
        """What a record says besides the name."""
        return {"num_classes": self.num_classes, "ignore_index": self.ignore_index}

    def answer(self, raw: Any, images: Tensor) -> Tensor:
        """Logits [B, K, H, W] at the size of the images."""
        logits = _picked(raw, "logits", "a tensor of logits [B, K, h, w]")
        if logits.ndim == 4 and logits.is_floating_point() and logits.shape[-2:] != images.shape[-2:]:
            logits = F.interpolate(logits, size=images.shape[-2:], mode="bilinear", align_corners=False)
        return logits

    def check_output(self, output: Tensor, batch: int) -> None:
        """Raise ModelError unless ``output`` is a finite floating [batch, num_classes, H, W]."""
        _check_floating(output, "a segmentation model must return a floating-point tensor of logits")
        if output.ndim != 4 or tuple(output.shape[:2]) != (batch, self.num_classes):
            raise ModelError(
                f"The model returned shape {tuple(output.shape)} for a batch of {batch}; ({batch}, {self.num_classes}, "
                "height, width) is needed. Set num_classes to the model's number of outputs."
            )
        _check_finite(output, batch)

    def check_references(self, references: Any, images: Tensor) -> Tensor:
        """Masks as int64 [N, H, W]; DataError says what is wrong."""
        masks = torch.as_tensor(references).detach().cpu()
        wanted = (len(images), *images.shape[-2:])
        if masks.ndim == 4 and masks.shape[1] == 1:
            masks = masks[:, 0]
        if tuple(masks.shape) != wanted:
            raise DataError(
                f"The masks have shape {tuple(masks.shape)} for images {tuple(images.shape)}; {wanted} is needed, "
                "one class index a pixel. Resize masks with nearest neighbours."
            )
        if masks.is_floating_point() or masks.is_complex() or masks.dtype == torch.bool:
            raise DataError(f"The masks are {masks.dtype}; whole class indices are needed.")
        masks = masks.to(torch.int64)
        known = (masks >= 0) & (masks < self.num_classes)
        if self.ignore_index is not None:
            known |= masks == self.ignore_index
        if not bool(known.all()):
            strange = sorted(set(masks[~known].tolist()))
            ignored = "no ignore_index" if self.ignore_index is None else f"ignore_index {self.ignore_index}"
            raise DataError(
                f"The masks hold the unknown class ids {', '.join(map(str, strange[:5]))}; allowed: "
                f"0..{self.num_classes - 1} and {ignored}. Set num_classes, or name the id of unlabelled pixels "
                "as ignore_index."
            )
        return masks

    def valid(self, reference: Tensor) -> Tensor:
        """Which pixels count: [B, H, W] bool."""
        return (
            torch.ones_like(reference, dtype=torch.bool)
            if self.ignore_index is None
            else reference != self.ignore_index
        )

    def right(self, output: Tensor, reference: Tensor) -> Tensor:
        """Which pixels count and are classified correctly: [B, H, W] bool."""
        predicted = output.max(1).indices  # as argmax(1), in a fifth of the time on a CPU
        return (predicted == reference) & self.valid(reference)

    def losses(self, output: Tensor, reference: Tensor) -> Tensor:
        """Mean cross-entropy over the pixels that count: [B]; 0 for an image without any."""
        return losses.ce(output, reference, ignore_index=self.ignore_index)

    def success(self, output: Tensor, reference: Tensor) -> Tensor:
        """Whether no pixel that counts is classified correctly any more: [B] bool; False for an image without any."""
        return ~self.right(output, reference).flatten(1).any(1) & self.valid(reference).flatten(1).any(1)


@dataclass(frozen=True)
class Depth:
    """A distance for every pixel: the model returns positive depths [B, H, W] or [B, 1, H, W].

    Args:
        max_depth: pixels of a depth map beyond it do not count; None: no limit. In the unit of the depth maps.
        min_depth: pixels at or below it do not count; 0: those without a measurement.

    >>> Depth(max_depth=10.0).min_depth
    0.0
    """

    max_depth: float | None = None
    min_depth: float = 0.0

    def __post_init__(self) -> None:
        low, high = self.min_depth, self.max_depth
        if not low >= 0 or (high is not None and not high > low):
            raise SettingError(
                f"Depth has min_depth {low!r} and max_depth {high!r}; allowed: 0 <= min_depth < max_depth (or None)."
            )

    @property
    def name(self) -> str:
        """The task's name in records."""
        return "depth"

    def describe(self) -> dict[str, Any]:
        """What a record says besides the name."""
        return {"min_depth": self.min_depth, "max_depth": self.max_depth}

    def answer(self, raw: Any, images: Tensor) -> Tensor:
        """Depths [B, H, W] at the size of the images."""
        depths = _picked(raw, "predicted_depth", "a tensor of depths [B, H, W]")
        if depths.ndim == 4 and depths.shape[1] == 1:
            depths = depths[:, 0]
        if depths.ndim == 3 and depths.is_floating_point() and depths.shape[-2:] != images.shape[-2:]:
            resized = F.interpolate(depths[:, None], size=images.shape[-2:], mode="bilinear", align_corners=False)
            depths = resized[:, 0]
        return depths

    def check_output(self, output: Tensor, batch: int) -> None:
        """Raise ModelError unless ``output`` is a finite floating [batch, H, W] of values from 0 up."""
        _check_floating(output, "a depth model must return a floating-point tensor of depths")
        if output.ndim != 3 or len(output) != batch:
            raise ModelError(
                f"The model returned shape {tuple(output.shape)} for a batch of {batch}; ({batch}, height, width) is "
                "needed, one depth a pixel."
            )
        _check_finite(output, batch)
        if bool((output < 0).any()):
            raise ModelError(
                f"The model returned depths down to {float(output.min()):g}; depths are not negative. "
                "If it returns inverse or relative depth, wrap it so that it returns depth."
            )

    def check_references(self, references: Any, images: Tensor) -> Tensor:
        """Depth maps as float32 [N, H, W], 0 where they do not count; DataError says what is wrong."""
        depths = torch.as_tensor(references).detach().cpu()
        wanted = (len(images), *images.shape[-2:])
        if depths.ndim == 4 and depths.shape[1] == 1:
            depths = depths[:, 0]
        if tuple(depths.shape) != wanted:
            raise DataError(
                f"The depth maps have shape {tuple(depths.shape)} for images {tuple(images.shape)}; {wanted} is "
                "needed, one depth a pixel."
            )
        if depths.is_complex() or depths.dtype == torch.bool:
            raise DataError(f"The depth maps are {depths.dtype}; numbers are needed.")
        depths = depths.to(torch.float32)
        return torch.where(self.valid(depths), depths, torch.zeros_like(depths))

    def valid(self, reference: Tensor) -> Tensor:
        """Which pixels count: [B, H, W] bool."""
        valid = torch.isfinite(reference) & (reference > self.min_depth)
        return valid if self.max_depth is None else valid & (reference <= self.max_depth)

    def losses(self, output: Tensor, reference: Tensor) -> Tensor:
        """Scale-invariant logarithmic error over the pixels that count: [B]; 0 for an image without any."""
        return losses.silog(output, reference, valid=self.valid(reference))

    def success(self, output: Tensor, reference: Tensor) -> None:
        """None: a depth is more or less wrong, and no error is the one that counts as success."""
        return None


@dataclass(frozen=True)
class Embedding:
    """A representation: the model returns [B, D], or a patch map [B, D, h, w]; the reference is a clean one.

    Args:
        dim: size D of the representation, checked if given.
    """

    dim: int | None = None

    def __post_init__(self) -> None:
        if self.dim is not None and (isinstance(self.dim, bool) or not isinstance(self.dim, int) or self.dim < 1):
            raise SettingError(f"Embedding.dim is {self.dim!r}; allowed: a whole number from 1 up, or None.")

    @property
    def name(self) -> str:
        """The task's name in records."""
        return "embedding"

    def describe(self) -> dict[str, Any]:
        """What a record says besides the name."""
        return {"dim": self.dim}

    def answer(self, raw: Any, images: Tensor) -> Tensor:
        """The representation [B, D] or [B, D, h, w]."""
        return _picked(raw, "pooler_output", "a representation [B, D] or [B, D, h, w]")

    def check_output(self, output: Tensor, batch: int) -> None:
        """Raise ModelError unless ``output`` is a finite floating [batch, D] or [batch, D, h, w]."""
        _check_floating(output, "an encoder must return a floating-point representation")
        if output.ndim not in (2, 4) or len(output) != batch or self.dim not in (None, output.shape[1]):
            wanted = "D" if self.dim is None else self.dim
            raise ModelError(
                f"The encoder returned shape {tuple(output.shape)} for a batch of {batch}; ({batch}, {wanted}) or "
                f"({batch}, {wanted}, h, w) is needed."
            )
        _check_finite(output, batch)

    def check_references(self, references: Any, images: Tensor) -> Tensor:
        """Representations as float32, one an image; DataError says what is wrong."""
        known = torch.as_tensor(references).detach().cpu().to(torch.float32)
        if known.ndim not in (2, 4) or len(known) != len(images) or not bool(torch.isfinite(known).all()):
            raise DataError(
                f"The reference representations have shape {tuple(known.shape)} for {len(images)} images; finite "
                "[N, D] or [N, D, h, w] is needed. Leave them out to use those of the clean images."
            )
        return known

    def losses(self, output: Tensor, reference: Tensor) -> Tensor:
        """Mean squared difference to the reference: [B]."""
        return (output - reference).square().flatten(1).mean(1)

    def success(self, output: Tensor, reference: Tensor) -> None:
        """None: a representation is more or less far away, and no distance is the one that counts as success."""
        return None


def _picked(raw: Any, field: str, needed: str) -> Tensor:
    found = raw if isinstance(raw, Tensor) else getattr(raw, field, raw)
    if not isinstance(found, Tensor):
        raise ModelError(f"The model returned {type(raw).__name__}; {needed} is needed.")
    return found


def _check_floating(output: Any, needed: str) -> None:
    if not isinstance(output, Tensor) or not output.is_floating_point():
        kind = output.dtype if isinstance(output, Tensor) else type(output).__name__
        raise ModelError(f"The model returned {kind}; {needed}.")


def _check_finite(output: Tensor, batch: int) -> None:
    if not bool(torch.isfinite(output).all()):
        bad = int((~torch.isfinite(output)).flatten(1).any(1).sum())
        raise ModelError(
            f"The model returned NaN or infinity for {bad} of {batch} inputs; finite values are needed. "
            "Check the weights and the preprocessing (a division by a zero std, inputs in the wrong range)."
        )
